"""A kernel's source: its syntax tree, its lines, and what the names in it stand for."""

from __future__ import annotations

import ast
import builtins
import linecache
import operator
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, TypeGuard

from studylib.gpu.findings import Site

MISSING = object()
_parsing = threading.Lock()  # Python 3.11 cannot parse in two threads at once


class Source:
    """The parsed source of one function of a kernel; raises ValueError where it cannot be had.

    parameters: names in order. locals: every name that the function assigns.
    """

    def __init__(self, function: FunctionType):
        code = function.__code__
        self.function = function
        self.name = function.__name__
        self.tree, self.lines = _parse(code, code.co_filename)
        self.file = display_name(code.co_filename)
        self.parameters = tuple(a.arg for a in self.tree.args.posonlyargs + self.tree.args.args)
        self.locals = frozenset(code.co_varnames + code.co_cellvars)
        self._closure = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
        self._sites: dict[int, Site] = {}

    def site(self, node: ast.AST) -> Site:
        """Where a node stands."""
        found = self._sites.get(id(node))
        if found is None:
            line = getattr(node, "lineno", self.tree.lineno)
            text = self.lines[line - 1].rstrip("\n") if line <= len(self.lines) else ""
            found = self._sites[id(node)] = Site(self.file, line, getattr(node, "col_offset", 0) + 1, text)
        return found

    def lookup(self, name: str):
        """What a name that is not local stands for now, or MISSING."""
        if name in self._closure:
            try:
                return self._closure[name].cell_contents
            except ValueError:
                return MISSING
        return self.function.__globals__.get(name, getattr(builtins, name, MISSING))


def display_name(path: str) -> str:
    """The file's name as a reader knows it; Jupyter compiles a cell from a file that means nothing to them."""
    return "notebook cell" if "ipykernel_" in path or path.startswith("<") else Path(path).name


@lru_cache(maxsize=256)
def _parse(code: CodeType, path: str) -> tuple[ast.FunctionDef, list[str]]:
    if code.co_name == "<lambda>":
        raise ValueError("a lambda cannot be a kernel: write it as a function with def")
    name = f"{code.co_name} ({display_name(path)}, line {code.co_firstlineno})"
    linecache.checkcache(path)
    lines = linecache.getlines(path)
    if not lines:
        raise ValueError(
            f"the source of {name} cannot be found, and the emulator reads it: "
            "define the kernel in a file or in a notebook cell, not in the Python prompt or with exec()"
        )
    changed = ValueError(f"the source of {name} has changed since it was loaded: import it again or restart")
    try:
        with _parsing:
            tree = ast.parse("".join(lines), path)
        # A file edited after its import would be emulated as it is now and run on a GPU as it was.
        if not _compiles_to(tree, path, code):
            raise changed
    except SyntaxError:
        raise changed from None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == code.co_name:
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            if first == code.co_firstlineno:
                _check_parameters(node, name)
                return _Folded().visit(node), lines
    raise changed


def _compiles_to(module: ast.Module, path: str, code: CodeType) -> bool:
    # Jupyter compiles each statement of a cell by itself, and the compiler treats names imported beside it differently.
    for unit in [module, *(ast.Module([statement], []) for statement in module.body)]:
        compiled = compile(unit, path, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        if any(found.co_code == code.co_code for found in _codes(compiled, code)):
            return True
    return False


def _codes(module: CodeType, wanted: CodeType):
    for constant in module.co_consts:
        if isinstance(constant, CodeType):
            if (constant.co_name, constant.co_firstlineno) == (wanted.co_name, wanted.co_firstlineno):
                yield constant
            yield from _codes(constant, wanted)


class _Folded(ast.NodeTransformer):
    """Computes what is made of constants alone as Python's compiler does, before Numba sees it: 2**-1 is 0.5."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        function = OPERATORS.get(type(node.op))
        if function is None or not (_is_number(node.left) and _is_number(node.right)):
            return node
        left: Any = node.left.value
        right: Any = node.right.value
        if isinstance(node.op, ast.Pow | ast.LShift) and abs(right) > 128:
            return node
        try:
            return ast.copy_location(ast.Constant(function(left, right)), node)
        except (ArithmeticError, TypeError, ValueError):
            return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        self.generic_visit(node)
        function = OPERATORS.get(type(node.op))
        if function is None or not _is_number(node.operand):
            return node
        try:
            return ast.copy_location(ast.Constant(function(node.operand.value)), node)
        except TypeError:
            return node


def _is_number(node: ast.expr) -> TypeGuard[ast.Constant]:
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float)


OPERATORS: dict[type, Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: operator.invert,
    ast.Not: operator.not_,
}


def _check_parameters(node: ast.FunctionDef, name: str) -> None:
    if node.args.vararg or node.args.kwarg or node.args.kwonlyargs:
        raise ValueError(f"{name} takes *args, **kwargs or keyword-only arguments; a kernel takes plain ones")
