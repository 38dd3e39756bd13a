"""The first wall: only the syntax that the emulator and Numba-CUDA share is judged, and every node of it has a name here.

Numba evaluates parts of what it compiles, such as a lambda's default values and the types of `objmode`, also in a branch
that no thread reaches. So this walk looks at the whole of a kernel and of every function that it can call, and refuses what
it does not know, before the emulator or the compiler sees any of it.
"""

from __future__ import annotations

import ast
import builtins
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from studylib.gpu.emulator.expressions import BUILTINS, POSITIONS
from studylib.gpu.emulator.intrinsics import INTRINSICS
from studylib.gpu.language import mathlib
from studylib.gpu.language import typing_rules as types
from studylib.gpu.language.source import MISSING, Source

DEEPEST = 100  # nodes within each other; what people write has about 20
LONGEST_TEXT = 200  # characters of a text that is printed
MODULES = {"math", "numba", "numba.cuda", "numba.types", "numpy"}
OF_CUDA = set(POSITIONS) | {part for path in INTRINSICS for part in path.split(".")}
FIELDS = {"x", "y", "z", "shape", "size", "ndim", "cuda", "types"}
OF_MATH = {function.__name__ for function in mathlib.FUNCTIONS} | {"pi", "e", "tau", "inf", "nan"}
OF_TYPES = {dtype.name for dtype in types.DTYPES} | {"bool_", "boolean", "pi", "e", "inf", "nan"}
ATTRIBUTES = OF_CUDA | FIELDS | OF_MATH | OF_TYPES
KEYWORDS = {"shape", "dtype"}
CALLABLE = {*BUILTINS, builtins.len, builtins.print, builtins.range}
STATEMENTS = (
    ast.Expr,
    ast.Assign,
    ast.AugAssign,
    ast.If,
    ast.While,
    ast.For,
    ast.Break,
    ast.Continue,
    ast.Pass,
    ast.Return,
)
EXPRESSIONS = (
    ast.Constant,
    ast.Name,
    ast.Tuple,
    ast.List,
    ast.BinOp,
    ast.UnaryOp,
    ast.Compare,
    ast.BoolOp,
    ast.IfExp,
    ast.Subscript,
    ast.Attribute,
    ast.Call,
    ast.keyword,
)
MARKS = (ast.expr_context, ast.operator, ast.unaryop, ast.cmpop, ast.boolop)
WORDS = {
    "Lambda": "a lambda",
    "FunctionDef": "a function inside a kernel",
    "AsyncFunctionDef": "async def",
    "ClassDef": "a class",
    "AnnAssign": "an annotated assignment",
    "Import": "import",
    "ImportFrom": "import",
    "Global": "global",
    "Nonlocal": "nonlocal",
    "With": "with",
    "Try": "try",
    "TryStar": "try",
    "Raise": "raise",
    "Assert": "assert",
    "Delete": "del",
    "Match": "match",
    "List": "a list",
    "Dict": "a dict",
    "Set": "a set",
    "ListComp": "a comprehension",
    "SetComp": "a comprehension",
    "DictComp": "a comprehension",
    "GeneratorExp": "a comprehension",
    "JoinedStr": "an f-string",
    "NamedExpr": "an assignment in an expression (:=)",
    "Starred": "*",
    "Slice": "a slice",
}


class Refused(ValueError):
    """What cannot be judged; the message is for its author."""


def check_depth(tree: ast.AST) -> None:
    """Raises Refused for syntax nested so deep that a walk over it would end Python; itself it needs no recursion."""
    waiting = [(tree, 0, 1)]
    while waiting:
        node, depth, line = waiting.pop()
        line = getattr(node, "lineno", line)
        if depth > DEEPEST:
            raise Refused(f"line {line}: more than {DEEPEST} levels within each other; write it in several statements")
        waiting += [(child, depth + 1, line) for child in ast.iter_child_nodes(node)]


def check(source: Source) -> None:
    """Raises Refused, with the line, for what a kernel may not hold, or a function that it can call."""
    seen, waiting = {source.function.__code__}, [source]
    while waiting:
        for called in _check(waiting.pop()):
            if called.__code__ not in seen:
                seen.add(called.__code__)
                try:
                    waiting.append(Source(called))
                except ValueError as error:
                    raise Refused(str(error)) from None


def _check(source: Source) -> list[FunctionType]:
    """Checks one function; what it can call."""
    tree = source.tree
    check_depth(tree)
    arguments = tree.args
    if arguments.defaults or any(arguments.kw_defaults):
        raise Refused(f"line {tree.lineno}: {source.name} has default values, which a kernel cannot have")
    if getattr(tree, "type_params", None):
        raise Refused(f"line {tree.lineno}: {source.name} has type parameters, which a kernel cannot have")
    texts = {id(s.value) for s in tree.body[:1] if isinstance(s, ast.Expr)}
    own = source.locals | {a.arg for a in arguments.posonlyargs + arguments.args}
    prints = "print" not in own and source.lookup("print") is builtins.print
    called: list[FunctionType] = []
    for statement in tree.body:
        for node in ast.walk(statement):
            _check_node(node, texts, prints)
            if isinstance(node, ast.Name) and node.id not in own:
                called += _check_value(source.lookup(node.id), node)
    return called


def _check_node(node: ast.AST, texts: set[int], prints: bool) -> None:
    """texts: ids of the constants that may be text; prints: whether `print` is Python's."""
    known = isinstance(node, (*STATEMENTS, *EXPRESSIONS, *MARKS))
    if isinstance(node, ast.List):
        known = isinstance(node.ctx, ast.Store)
    if not known:
        name = WORDS.get(type(node).__name__, type(node).__name__)
        note = ""
        if isinstance(node, ast.With | ast.AsyncWith):
            note = f" ({', '.join(ast.unparse(item.context_expr)[:40] for item in node.items)})"
        raise _refused(f"{name}{note} is not supported in a kernel", node)
    if isinstance(getattr(node, "op", None), ast.MatMult):
        raise _refused("@ is not supported in a kernel", node)
    if isinstance(node, ast.Attribute) and node.attr not in ATTRIBUTES:
        raise _refused(f"the attribute {ast.unparse(node)[:60]} is not supported in a kernel", node)
    if isinstance(node, ast.keyword) and node.arg not in KEYWORDS:
        raise _refused(f"{f'{node.arg}=' if node.arg else '**'} is not supported in a kernel", node)
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        texts.add(id(node.value))
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name | ast.Attribute):
            raise _refused("only a function with a name can be called in a kernel", node)
        if prints and isinstance(node.func, ast.Name) and node.func.id == "print":
            texts.update(
                id(argument) for argument in node.args if len(str(getattr(argument, "value", ""))) < LONGEST_TEXT
            )
    if (
        isinstance(node, ast.Constant)
        and id(node) not in texts
        and not isinstance(node.value, bool | int | float | None)
    ):
        raise _refused(f"the constant {repr(node.value)[:60]} is not supported in a kernel", node)


def _check_value(value: Any, node: ast.Name) -> list[FunctionType]:
    """Checks what a name of the module stands for; the function, if it is one that the kernel can call."""
    function = getattr(value, "py_func", value) if hasattr(value, "targetoptions") else value
    if isinstance(function, FunctionType) and not _is_of_numba(function):
        return [function]
    if isinstance(value, ModuleType):
        known = value.__name__ in MODULES
    elif value is MISSING:  # the emulator says it at its line, unless Numba has a meaning for it
        known = not node.id.startswith("__")
    else:
        known = _is_plain(value) or types.as_dtype(value) is not None or _is_known(value) or of_cuda(value) is not None
    if not known:
        raise _refused(f"{node.id} is not supported in a kernel", node)
    return []


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(_is_plain(part) for part in value)
    if isinstance(value, np.generic | np.ndarray):
        return value.dtype.kind in "biuf"
    return isinstance(value, bool | int | float)


def _is_known(value: Any) -> bool:
    try:
        return value in CALLABLE or value in mathlib.FUNCTIONS
    except TypeError:  # it has no hash
        return False


def _is_of_numba(function: FunctionType) -> bool:
    return (function.__module__ or "").partition(".")[0] == "numba"


def of_cuda(value: Any) -> str | None:
    """'grid' for numba.cuda.grid, which a file may have imported by its name; None for what is not of it."""
    from numba import cuda

    return next((name for name in sorted(OF_CUDA) if getattr(cuda, name, MISSING) is value), None)


def _refused(why: str, node: ast.AST) -> Refused:
    return Refused(f"line {getattr(node, 'lineno', 0) or 1}: {why}")
