"""Which code a kernel is, comments and names of types aside, and whether it is more than the stub."""

from __future__ import annotations

import ast
import hashlib

from studylib.gpu.language.source import Source


def digest_of(kernel) -> str:
    """Of a kernel's code, without comments, docstring, decorator and annotations."""
    return hashlib.sha256(_code(Source(kernel.py_func).tree).encode()).hexdigest()[:12]


def _code(tree: ast.FunctionDef) -> str:
    """A function's code in one form: without docstring, decorator and annotations."""
    body = [s for s in tree.body if not is_text(s)]
    return "\n".join([", ".join(a.arg for a in tree.args.args), *map(ast.unparse, body)])


def is_attempted(tree: ast.FunctionDef) -> bool:
    """Whether there is any statement but the stub's `raise`, `pass` or text."""
    return any(not isinstance(s, ast.Raise | ast.Pass) and not is_text(s) for s in tree.body)


def is_text(statement: ast.stmt) -> bool:
    """Whether a statement is a docstring, or another constant that nothing is done with."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
