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
import linecache
import math
import stat
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from studylib.gpu.language.source import OPERATORS
from studylib.grading.vetting import MODULES, Refused, check_depth

MAX_BYTES = 200_000
MOST_ELEMENTS = 1 << 20  # of a constant array or tuple
MOST_BITS = 4096  # of a constant integer
CALLS = {"abs", "float", "int", "len", "max", "min", "round", "tuple", "bool"}
ARRAYS = {"array", "asarray", "arange", "zeros", "ones", "full", "linspace"}
TYPES = {"bool_", "float16", "float32", "float64", "int8", "int16", "int32", "int64"} | {
    f"uint{bits}" for bits in (8, 16, 32, 64)
}
JIT_OPTIONS = {"device", "inline", "fastmath", "max_registers", "lineinfo", "opt", "debug"}


@dataclass(frozen=True)
class Submission:
    """The kernel of a file. digest: of the whole file. tree: of the file. dropped: a note on
    each import that the kernel does not need."""

    kernel: Any
    tree: ast.Module
    digest: str
    dropped: tuple[str, ...] = ()


def read_file(path: Path, inside: Path | None = None) -> str:
    """The text of a submitted file; raises Refused for what is no plain UTF-8 file within the folder `inside`."""
    try:
        if inside is not None and not path.resolve().is_relative_to(inside.resolve()):
            raise Refused(f"{path.name} is a link to a file outside of its folder: hand in the file itself")
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise Refused(f"{path.name} is not a file")
        if found.st_size > MAX_BYTES:
            raise Refused(f"{path.name} has {found.st_size:,} bytes; a submission has at most {MAX_BYTES:,}")
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused(f"{path.name} is not UTF-8: byte {error.start} is {error.object[error.start]:#04x}") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: a link to itself
        raise Refused(f"{path.name} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return text.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff")


def take(text: str, name: str, path: Path) -> Submission:
    """The kernel `name` of a file's text; raises Refused if it has none, or none that can be judged."""
    try:
        tree = ast.parse(text, str(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        place = f"line {error.lineno}: " if isinstance(error, SyntaxError) and error.lineno else ""
        raise Refused(f"{path.name} is not Python: {place}{getattr(error, 'msg', None) or error}") from None
    check_depth(tree)
    linecache.cache[str(path)] = (len(text), None, text.splitlines(keepends=True), str(path))
    namespace: dict[str, Any] = {"__name__": f"submission_{name}", "__builtins__": builtins}
    dropped: dict[str, tuple[int, str]] = {}
    for statement in tree.body:
        _take_statement(statement, namespace, dropped, str(path))
    kernel = namespace.get(name)
    if kernel is None and name in dropped:
        line, why = dropped[name]
        raise Refused(f"{name} in line {line} is no kernel: {why}")
    if kernel is None:
        raise Refused(f"{path.name} has no function {name} with @cuda.jit")
    if not hasattr(kernel, "py_func"):
        raise Refused(f"{name} is a {type(kernel).__name__}, expected a function with @cuda.jit")
    for missing, (line, why) in dropped.items():
        if missing in _names(tree, kernel.py_func.__name__, namespace):
            raise Refused(f"the kernel uses {missing}, and line {line} is not run to judge it: {why}")
    lines = {line for line, _ in dropped.values()}
    unneeded = tuple(
        f"line {statement.lineno} is left out, because the kernel does not need it: {ast.unparse(statement)[:80]}"
        for statement in tree.body
        if isinstance(statement, ast.Import | ast.ImportFrom) and statement.lineno in lines
    )
    return Submission(kernel, tree, hashlib.sha256(text.encode()).hexdigest(), unneeded)


def _take_statement(statement: ast.stmt, namespace: dict, dropped: dict, path: str) -> None:
    """Takes over imports of numba, numpy and math, constants, kernels; notes what it leaves out."""
    try:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            found = _import(statement)
        elif isinstance(statement, ast.FunctionDef):
            found = {statement.name: _function(statement, namespace, path)}
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            if statement.value is None:
                return
            value = _value(statement.value, namespace)
            found = {}
            for target in statement.targets if isinstance(statement, ast.Assign) else [statement.target]:
                _bind(target, value, found)
        else:
            raise Refused("it is not an import, a constant or a kernel")
        namespace.update(found)
        for bound in found:
            dropped.pop(bound, None)
    except Exception as error:  # noqa: BLE001  whatever it is, it is the author's
        for bound in _bound(statement):
            namespace.pop(bound, None)
            dropped[bound] = (statement.lineno, str(error)[:300])


def _bind(target: ast.expr, value: Any, found: dict) -> None:
    if isinstance(target, ast.Name):
        if target.id.startswith("__"):
            raise Refused(f"{target.id} is Python's own name")
        found[target.id] = value
        return
    if not isinstance(target, ast.Tuple | ast.List):
        raise Refused("it changes something that exists")
    if not isinstance(value, tuple | list) or len(value) != len(target.elts):
        raise Refused(f"its value does not have {len(target.elts)} parts")
    for part, element in zip(target.elts, value, strict=True):
        _bind(part, element, found)


def _bound(statement: ast.stmt) -> set[str]:
    """The names that a statement may set."""
    found = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.alias):
            found.add(node.asname or node.name.partition(".")[0])
    if isinstance(statement, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        return {statement.name}
    return found


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
            found |= {name: getattr(module, name) for name in public if hasattr(module, name)}
        elif alias.name.startswith("_"):
            raise Refused("it imports a private name")
        elif not hasattr(module, alias.name):
            raise Refused(f"{modules[0]} has no {alias.name} to import")
        else:
            found[alias.asname or alias.name] = getattr(module, alias.name)
    return found


def _function(statement: ast.FunctionDef, namespace: dict, path: str) -> Any:
    """The kernel: its code, compiled and not run, without what Python would evaluate when a function is defined."""
    if len(statement.decorator_list) != 1:
        raise Refused("it is a function without @cuda.jit, or with more than that")
    decorator = statement.decorator_list[0]
    options: list[ast.keyword] = []
    if isinstance(decorator, ast.Call):
        options = decorator.keywords
        decorator.args = []  # Numba evaluates a signature's text as Python; the launch says the types anyway
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
    return cuda.jit(**{str(option.arg): option.value.value for option in options})(function)  # type: ignore[attr-defined]


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


def _names(tree: ast.Module, kernel: str, namespace: dict) -> set[str]:
    """The names that a kernel uses, and those that its device functions do."""
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    found: set[str] = set()
    waiting = [kernel]
    while waiting:
        function = functions.get(waiting.pop())
        if function is None:
            continue
        used = {n.id for statement in function.body for n in ast.walk(statement) if isinstance(n, ast.Name)}
        stored = {
            n.id
            for statement in function.body
            for n in ast.walk(statement)
            if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
        }
        new = used - stored - {a.arg for a in function.args.args} - found
        found |= new
        waiting += sorted(new)
    return found
