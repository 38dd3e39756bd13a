"""Takes the kernel out of a submitted file without running the file.

Nothing of a submission is executed to judge it: the emulator and the compiler read the kernel, and all that they need
besides are its constants, which are computed here node by node, and its device functions, which are compiled and not run.
So a file can't change the grader, see the inputs, or invent a verdict.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import importlib
import io
import linecache
import math
import os
import re
import stat
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from studylib.gpu.language.source import OPERATORS
from studylib.grading.identity import is_text
from studylib.grading.vetting import MODULES, Refused, check_depth
from studylib.words import counted

MAX_BYTES = 200_000
MOST_ELEMENTS = 1 << 20  # of a constant array or tuple
MOST_BITS = 4096  # of a constant integer
CALLS = {"abs", "float", "int", "len", "max", "min", "round", "tuple", "bool"}
ARRAYS = {"array", "asarray", "arange", "zeros", "ones", "full", "linspace"}
TYPES = {"bool_", "float16", "float32", "float64", "int8", "int16", "int32", "int64"} | {
    f"uint{bits}" for bits in (8, 16, 32, 64)
}
JIT_OPTIONS = {"device", "inline", "fastmath", "max_registers", "lineinfo", "opt", "debug"}
ENCODINGS = {"utf-8", "utf-8-sig", "ascii", "iso-8859-1", "cp1252"}  # what an editor may have saved
MOST_NOTES = 10


@dataclass(frozen=True)
class Submission:
    """The kernel of a file. digest: of the whole file. tree: of the file. notes: on what judging leaves out of it."""

    kernel: Any
    tree: ast.Module
    digest: str
    notes: tuple[str, ...] = ()


def read_file(path: Path, inside: Path | None = None) -> str:
    """The text of a submitted file; raises Refused for what is no plain text file within the folder `inside`."""
    try:
        if inside is not None and not path.resolve().is_relative_to(inside.resolve()):
            raise Refused(f"{path.name} is a link to a file outside of its folder: hand in the file itself")
        # Not waiting: a pipe that nobody writes to would keep the grader.
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise Refused(f"{path.name} is not a file")
            if found.st_size > MAX_BYTES:
                raise Refused(f"{path.name} has {found.st_size:,} bytes; a submission has at most {MAX_BYTES:,}")
            text = _decoded(file.read(MAX_BYTES), path.name)
    except (OSError, RuntimeError) as error:  # RuntimeError: a link to itself
        why = "it is not a file" if isinstance(error, IsADirectoryError) else getattr(error, "strerror", None) or error
        raise Refused(f"{path.name} cannot be read: {why}") from None
    return text.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff")


def _decoded(content: bytes, name: str) -> str:
    """A file's text in the encoding that it declares; only those in which what a reader sees is what Python reads."""
    encoding = "utf-8"
    try:
        encoding = tokenize.detect_encoding(io.BytesIO(content).readline)[0]
        if encoding in ENCODINGS:
            return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise Refused(_not_text(error, name)) from None
    except SyntaxError as error:
        try:
            content.decode()
        except UnicodeDecodeError as first:
            raise Refused(_not_text(first, name)) from None
        encoding = str(error.msg).partition(": ")[2] or encoding
    raise Refused(f"{name} declares the encoding {encoding[:40]}: save it as UTF-8, and take that line out")


def _not_text(error: UnicodeDecodeError, name: str) -> str:
    return f"{name} is not {error.encoding.upper()}: byte {error.start} is {error.object[error.start]:#04x}"


def take(text: str, name: str, path: Path) -> Submission:
    """The kernel `name` of a file's text; raises Refused if it has none, or none that can be judged."""
    # The name in messages, also in the compiler's, which reads the text by it: no folder of the grader's is in it.
    file = path.name if re.fullmatch(r"[\w .()-]+", path.name) else f"{name}.py"
    try:
        tree = ast.parse(text, file)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        place = f"line {error.lineno}: " if isinstance(error, SyntaxError) and error.lineno else ""
        raise Refused(f"{path.name} is not Python: {place}{getattr(error, 'msg', None) or _said(error)}") from None
    check_depth(tree)
    lines = [f"{line}\n" for line in text.split("\n")]  # splitlines() would count a form feed, which Python does not
    linecache.cache[file] = (len(text), None, lines, file)
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    taking = _Taking({"__name__": f"submission_{name}", "__builtins__": builtins}, {}, [], functions, file)
    for statement in tree.body:
        taking.take(statement)
    taking.leave_globals(tree)
    kernel = taking.namespace.get(name)
    if kernel is None and name in taking.dropped:
        line, why = taking.dropped[name]
        raise Refused(f"{name} in line {line} is no kernel: {why}")
    if kernel is None:
        raise Refused(f"{path.name} has no function {name} with @cuda.jit")
    if not hasattr(kernel, "py_func"):
        raise Refused(f"{name} is a {type(kernel).__name__}, expected a function with @cuda.jit")
    used = _names([functions[kernel.py_func.__name__]], functions)
    for missing, (line, why) in taking.dropped.items():
        if missing in used:
            raise Refused(f"the kernel uses {missing}, and line {line} is not run to judge it: {why}")
    return Submission(kernel, tree, hashlib.sha256(text.encode()).hexdigest(), _notes(taking.left, lines))


def _notes(left: list[tuple[int, str]], lines: list[str]) -> tuple[str, ...]:
    notes = [f"line {line} is left out, because {why}: {lines[line - 1].strip()[:80]}" for line, why in left]
    more = len(notes) - MOST_NOTES
    return (*notes[:MOST_NOTES], *([f"{more} more lines are left out"] if more > 0 else []))


def _said(error: BaseException) -> str:
    """An exception's text, or its name; Python's parser raises a MemoryError without a text for deep nesting."""
    return str(error)[:300] or ("it needs too much memory" if type(error) is MemoryError else type(error).__name__)


@dataclass
class _Taking:
    """Goes through a file's statements as Python would, and runs none.

    namespace: what they bind, as far as it can be had. dropped: for names that cannot be had, the line and why. left:
    line and reason of the statements that are left out, other than functions. functions: the file's, by name.
    """

    namespace: dict[str, Any]
    dropped: dict[str, tuple[int, str]]
    left: list[tuple[int, str]]
    functions: dict[str, ast.FunctionDef]
    file: str

    def take(self, statement: ast.stmt) -> None:
        """Takes over imports of numba, numpy and math, constants and kernels; notes what it leaves out."""
        if is_text(statement) or _is_main(statement):
            return
        try:
            found = self._found(statement)
            if private := next((name for name in found if name.startswith("__")), None):
                raise Refused(f"{private} is Python's own name")
            self.namespace.update(found)
            for bound in found:
                self.dropped.pop(bound, None)
        except Exception as error:  # noqa: BLE001  whatever it is, it is the author's
            self._leave(statement, _said(error))

    def _found(self, statement: ast.stmt) -> dict[str, Any]:
        """What a statement binds; raises Refused for one that is not judged."""
        if isinstance(statement, ast.Import | ast.ImportFrom):
            return _import(statement)
        if isinstance(statement, ast.FunctionDef):
            kernel, has_signature = _function(statement, self.namespace, self.file)
            if has_signature:
                self.left.append((statement.decorator_list[0].lineno, "the launch says the types"))
            return {statement.name: kernel}
        if not isinstance(statement, ast.Assign | ast.AnnAssign):
            raise Refused("it is not an import, a constant or a kernel")
        found: dict[str, Any] = {}
        if statement.value is not None:
            value = _value(statement.value, self.namespace)
            for target in statement.targets if isinstance(statement, ast.Assign) else [statement.target]:
                _bind(target, value, found)
        return found

    def _leave(self, statement: ast.stmt, why: str) -> None:
        for bound in _bound(statement):
            self.namespace.pop(bound, None)
            self.dropped[bound] = (statement.lineno, why)
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            return  # defined, it changes nothing; where it is called that is another statement
        needed = (
            "the kernel does not need it" if isinstance(statement, ast.Import | ast.ImportFrom) else "it is not run"
        )
        self.left.append((statement.lineno, needed))
        # An array or a list may be another after a statement that has to do with it.
        named = _names([statement], self.functions)
        touched = [value for name, value in self.namespace.items() if name in named and _can_change(value)]
        for name, value in list(self.namespace.items()):
            if any(_share(value, other) for other in touched):
                del self.namespace[name]
                self.dropped[name] = (statement.lineno, f"it may change {name}")

    def leave_globals(self, tree: ast.Module) -> None:
        """Drops what a function declares as global, for it may have set it when it was called."""
        for node in (node for node in ast.walk(tree) if isinstance(node, ast.Global)):
            for name in node.names:
                self.namespace.pop(name, None)
                self.dropped[name] = (node.lineno, f"global {name} lets a function change it")


def _is_main(statement: ast.stmt) -> bool:
    """`if __name__ == "__main__":`, which an import does not run."""
    return isinstance(statement, ast.If) and not statement.orelse and ast.unparse(statement.test) in MAIN


MAIN = ("__name__ == '__main__'", "'__main__' == __name__")


def _can_change(value: Any) -> bool:
    return isinstance(value, list | np.ndarray)


def _share(value: Any, other: Any) -> bool:
    """Whether a change of `other` may be one of `value`: lists may hold each other, arrays may be views."""
    if isinstance(value, np.ndarray) and isinstance(other, np.ndarray):
        return bool(np.may_share_memory(value, other))
    return isinstance(value, list) and isinstance(other, list)


def _bind(target: ast.expr, value: Any, found: dict) -> None:
    if isinstance(target, ast.Name):
        found[target.id] = value
        return
    if not isinstance(target, ast.Tuple | ast.List):
        raise Refused("it changes something that exists")
    if not isinstance(value, tuple | list) or len(value) != len(target.elts):
        raise Refused(f"its value does not have {counted(len(target.elts), 'part')}")
    for part, element in zip(target.elts, value, strict=True):
        _bind(part, element, found)


def _bound(statement: ast.stmt) -> set[str]:
    """The names that a statement may set or delete."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        return {statement.name}
    found: set[str | None] = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, ast.alias):
            found.add(node.asname or node.name.partition(".")[0])
        elif isinstance(node, ast.MatchMapping):
            found.add(node.rest)
        else:  # a function, a class, what `except ... as` or `case ... as` has a name for
            found.add(getattr(node, "name", None))
    return {name for name in found if name}


def _import(statement: ast.Import | ast.ImportFrom) -> dict[str, Any]:
    """What an import binds; only modules of MODULES are imported."""
    modules = [a.name for a in statement.names] if isinstance(statement, ast.Import) else [statement.module or ""]
    if isinstance(statement, ast.ImportFrom) and statement.level:
        raise Refused("a relative import has nothing to start from")
    if unknown := [name for name in modules if name not in MODULES]:
        raise Refused(f"only {', '.join(sorted(MODULES))} are imported, not {', '.join(unknown)}")
    found: dict[str, Any] = {}
    for alias in statement.names:
        if isinstance(statement, ast.Import):
            name = alias.name if alias.asname else alias.name.partition(".")[0]
            found[alias.asname or name] = _module(name)
            continue
        module = _module(modules[0])
        if alias.name == "*":
            public = getattr(module, "__all__", None) or [name for name in dir(module) if not name.startswith("_")]
            public = [name for name in public if not name.startswith("__")]  # numpy's __version__
            found |= {name: getattr(module, name) for name in public if hasattr(module, name)}
        elif alias.name.startswith("_"):
            raise Refused("it imports a private name")
        elif not hasattr(module, alias.name):
            raise Refused(f"{modules[0]} has no {alias.name} to import")
        else:
            found[alias.asname or alias.name] = getattr(module, alias.name)
    return found


def _function(statement: ast.FunctionDef, namespace: dict, path: str) -> tuple[Any, bool]:
    """The kernel: its code, compiled and not run, without what Python would evaluate when a function is defined.

    And whether its decorator has a signature, which is left out: Numba would evaluate its text as Python.
    """
    if len(statement.decorator_list) != 1:
        raise Refused("it is a function without @cuda.jit, or with more than that")
    decorator = statement.decorator_list[0]
    options: list[ast.keyword] = []
    has_signature = False
    if isinstance(decorator, ast.Call):
        options, has_signature = decorator.keywords, bool(decorator.args)
        decorator.args = []
        decorator = decorator.func
    if _dotted(decorator, namespace) not in ("numba.cuda.jit",):
        raise Refused("its decorator is not cuda.jit")
    if unknown := [str(option.arg) for option in options if option.arg not in JIT_OPTIONS]:
        raise Refused(f"cuda.jit with {', '.join(unknown)} is not judged; possible: {', '.join(sorted(JIT_OPTIONS))}")
    if not all(_is_option(option.value) for option in options):
        raise Refused("the options of cuda.jit are not constants")
    a = statement.args
    if a.defaults or a.kw_defaults:
        raise Refused("a kernel has no default values")
    if getattr(statement, "type_params", None):
        raise Refused("a kernel has no type parameters")
    for parameter in [*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg]:
        if parameter is not None:
            parameter.annotation = None
    statement.returns = None
    module = compile(ast.Module([statement], []), path, "exec", dont_inherit=True)
    (code,) = (c for c in module.co_consts if isinstance(c, CodeType) and c.co_name == statement.name)
    from numba import cuda

    function = FunctionType(code, namespace, statement.name)
    made = cuda.jit(**{str(option.arg): option.value.value for option in options})(function)  # type: ignore[attr-defined]
    return made, has_signature


def _is_option(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and (
        isinstance(value.value, bool | int | None) or value.value in ("always", "never")
    )


def _value(expression: ast.expr, namespace: dict) -> Any:
    """The value of an expression made of numbers, types, and names that are made so; raises Refused for any other."""
    value = _compute(expression, namespace)
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise Refused(f"{ast.unparse(expression)[:60]} is very large")
    if isinstance(value, tuple | list) and len(value) > MOST_ELEMENTS:
        raise Refused(f"{ast.unparse(expression)[:60]} has more than {MOST_ELEMENTS:,} elements")
    return value


def _compute(expression: ast.expr, namespace: dict) -> Any:
    if isinstance(expression, ast.Constant):
        return expression.value
    if isinstance(expression, ast.Name):
        if expression.id in namespace and not expression.id.startswith("__"):
            return namespace[expression.id]
    elif isinstance(expression, ast.Tuple | ast.List):
        parts = [_value(element, namespace) for element in expression.elts]
        return tuple(parts) if isinstance(expression, ast.Tuple) else parts
    elif isinstance(expression, ast.UnaryOp):
        return OPERATORS[type(expression.op)](_value(expression.operand, namespace))
    elif isinstance(expression, ast.BinOp) and type(expression.op) in OPERATORS:
        return _binary(expression, namespace)
    elif isinstance(expression, ast.Attribute):
        if path := _dotted(expression, namespace):
            module, _, name = path.rpartition(".")
            return _module(path) if path in MODULES else getattr(_module(module), name)
    elif isinstance(expression, ast.Subscript):
        value, index = _value(expression.value, namespace), _value(expression.slice, namespace)
        if isinstance(value, tuple | list | np.ndarray):
            return value[index]
    elif isinstance(expression, ast.Call) and _is_known(expression.func, namespace):
        return _call(expression, namespace)
    raise Refused(f"{ast.unparse(expression)[:60]} is not a constant expression: write the number")


def _binary(expression: ast.BinOp, namespace: dict) -> Any:
    if isinstance(expression.op, ast.Pow | ast.LShift) and not _is_small(expression.right):
        raise Refused(f"{ast.unparse(expression)} may be very large: write the number")
    left, right = _value(expression.left, namespace), _value(expression.right, namespace)
    for value in (left, right):
        if not isinstance(value, bool | int | float | np.generic | np.ndarray | tuple | list):
            raise Refused(f"{ast.unparse(expression)[:60]} is not made of numbers")
    for sequence, times in ((left, right), (right, left)):
        if isinstance(sequence, tuple | list) and isinstance(times, int) and len(sequence) * times > MOST_ELEMENTS:
            raise Refused(f"{ast.unparse(expression)[:60]} has more than {MOST_ELEMENTS:,} elements")
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray) and left.shape != right.shape:
        raise Refused(f"{ast.unparse(expression)[:60]}: the arrays have different shapes")
    return OPERATORS[type(expression.op)](left, right)


def _call(expression: ast.Call, namespace: dict) -> Any:
    function = _compute(expression.func, namespace) if _dotted(expression.func, namespace) else None
    if function is None:
        function = getattr(builtins, expression.func.id)  # type: ignore[attr-defined]
    arguments = [_value(argument, namespace) for argument in expression.args]
    if any(isinstance(argument, str) for argument in arguments):
        raise Refused(f"{ast.unparse(expression)[:60]} is made of text: write the number")
    options = {}
    for keyword in expression.keywords:
        if keyword.arg != "dtype":  # max(..., key=f) would call f
            raise Refused(f"{keyword.arg}= is not judged: write the number")
        options["dtype"] = _value(keyword.value, namespace)
        if isinstance(options["dtype"], str) and options["dtype"] not in TYPES:
            raise Refused(f"dtype={options['dtype'][:40]!r} is no type of a kernel")
        if not isinstance(options["dtype"], str | type | np.dtype):
            raise Refused("dtype= is no type of NumPy")
    name = getattr(function, "__name__", "")
    _check_size(name, arguments)
    if any(_is_large(argument) for argument in arguments):
        raise Refused(f"{ast.unparse(expression)[:60]} is made of very large numbers")
    return function(*arguments, **options)


def _check_size(name: str, arguments: list) -> None:
    """Raises Refused for an array that would be too large to make."""
    shape: Any = arguments[0] if arguments else 0
    if name in ("zeros", "ones", "full"):
        elements = math.prod(shape) if isinstance(shape, tuple | list) else shape
    elif name == "arange":
        start, stop, step = ([0, *arguments, 1] if len(arguments) == 1 else [*arguments, 1])[:3]
        elements = abs(stop - start) / abs(step)
    elif name == "linspace":
        elements = arguments[2] if len(arguments) > 2 else 50
    elif name in ("factorial", "comb", "perm"):
        elements = math.prod(1 + abs(number) for number in arguments) << 10
    else:
        return
    if not elements <= MOST_ELEMENTS:
        raise Refused(f"{name}() makes more than {MOST_ELEMENTS:,} elements")


def _is_large(value: Any) -> bool:
    return isinstance(value, int) and value.bit_length() > MOST_BITS


def _is_small(expression: ast.expr) -> bool:
    return isinstance(expression, ast.Constant) and isinstance(expression.value, int) and expression.value <= 64


def _is_known(function: ast.expr, namespace: dict) -> bool:
    if isinstance(function, ast.Name) and function.id in CALLS and function.id not in namespace:
        return True
    module, _, name = (_dotted(function, namespace) or "").rpartition(".")
    return module == "math" or (module == "numpy" and name in ARRAYS | TYPES) or (module == "numba" and name in TYPES)


def _dotted(expression: ast.expr, namespace: dict) -> str | None:
    """'numba.cuda.jit' for what stands for it, under whatever name it was imported; None for anything else."""
    if isinstance(expression, ast.Attribute) and not expression.attr.startswith("_"):
        owner = _dotted(expression.value, namespace)
        return f"{owner}.{expression.attr}" if owner in MODULES else None
    if not isinstance(expression, ast.Name):
        return None
    for module in sorted(MODULES):
        known = _module(module)
        if namespace.get(expression.id) is known:
            return module
    for module in sorted(MODULES):
        found = namespace.get(expression.id)
        for name in {getattr(found, "__name__", ""), str(found), expression.id}:
            if found is not None and name.isidentifier() and getattr(_module(module), name, None) is found:
                return f"{module}.{name}"
    return None


def _module(name: str) -> ModuleType:
    return importlib.import_module(name)


def _names(statements: Iterable[ast.stmt], functions: dict[str, ast.FunctionDef]) -> set[str]:
    """The names that statements use; of functions, also of those that they name, only those that are not their own."""
    found: set[str] = set()
    waiting = list(statements)
    while waiting:
        statement = waiting.pop()
        parts = statement.body if isinstance(statement, ast.FunctionDef) else [statement]
        names = [node for part in parts for node in ast.walk(part) if isinstance(node, ast.Name)]
        new = {node.id for node in names} - found
        if isinstance(statement, ast.FunctionDef):
            new -= {node.id for node in names if isinstance(node.ctx, ast.Store)}
            new -= {parameter.arg for parameter in statement.args.args}
        found |= new
        waiting += [functions[name] for name in sorted(new) if name in functions]
    return found
