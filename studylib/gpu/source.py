"""A kernel's source: its syntax tree, its lines, and what the names in it stand for."""

from __future__ import annotations

import ast
import builtins
import linecache
from functools import lru_cache
from pathlib import Path
from types import CodeType, FunctionType

from studylib.gpu.findings import Site

MISSING = object()


class Source:
    """The parsed source of one function of a kernel; raises ValueError where it cannot be had.

    parameters: names in order. locals: every name that the function assigns.
    """

    def __init__(self, function: FunctionType):
        code = function.__code__
        self.function = function
        self.name = function.__name__
        self.tree, self.lines = _parse(code, code.co_filename, function.__module__)
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
    """The file's name as a reader knows it; Jupyter compiles a cell from a file that means nothing to him."""
    return "notebook cell" if "ipykernel_" in path or path.startswith("<") else Path(path).name


@lru_cache(maxsize=256)
def _parse(code: CodeType, path: str, module: str) -> tuple[ast.FunctionDef, list[str]]:
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
        module_tree = ast.parse("".join(lines), path)
        module_code = compile(
            module_tree, path, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
        )
    except SyntaxError:
        raise changed from None
    # A file edited after its import would be emulated as it is now and run on a GPU as it was.
    if not any(found.co_code == code.co_code for found in _codes(module_code, code)):
        raise changed
    for node in ast.walk(module_tree):
        if isinstance(node, ast.FunctionDef) and node.name == code.co_name:
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            if first == code.co_firstlineno:
                _check_parameters(node, name)
                return node, lines
    raise changed


def _codes(module: CodeType, wanted: CodeType):
    for constant in module.co_consts:
        if isinstance(constant, CodeType):
            if (constant.co_name, constant.co_firstlineno) == (wanted.co_name, wanted.co_firstlineno):
                yield constant
            yield from _codes(constant, wanted)


def _check_parameters(node: ast.FunctionDef, name: str) -> None:
    if node.args.vararg or node.args.kwarg or node.args.kwonlyargs:
        raise ValueError(f"{name} takes *args, **kwargs or keyword-only arguments; a kernel takes plain ones")
