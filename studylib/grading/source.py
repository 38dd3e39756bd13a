"""Takes the kernel out of a submitted file without running the file.

Nothing of a submission is executed to judge it: the emulator and the compiler read the kernel, and all that they need
besides are its constants and device functions. So a file can't change the grader, see the inputs, or invent a verdict.
"""

from __future__ import annotations

import ast
import hashlib
import linecache
import stat
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

MAX_BYTES = 200_000
MODULES = {"math", "numba", "numba.cuda", "numba.types", "numpy"}
CALLS = {"abs", "float", "int", "len", "max", "min", "round", "tuple", "bool"}
ARRAYS = {"array", "asarray", "arange", "zeros", "ones", "full", "linspace"}
TYPES = {"bool_", "float16", "float32", "float64", "int8", "int16", "int32", "int64"} | {
    f"uint{bits}" for bits in (8, 16, 32, 64)
}
JIT_OPTIONS = {"device", "inline", "fastmath", "max_registers", "lineinfo", "opt", "debug"}


class Refused(ValueError):
    """A file, or what it defines, that cannot be judged; the message is for its author."""


@dataclass(frozen=True)
class Submission:
    """The kernel of a file. digest: of the whole file. tree: of the file."""

    kernel: Any
    tree: ast.Module
    digest: str


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
    return text.replace("\r\n", "\n").removeprefix("\ufeff")


def take(text: str, name: str, path: Path) -> Submission:
    """The kernel `name` of a file's text; raises Refused if it has none, or none that can be judged."""
    try:
        tree = ast.parse(text, str(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        place = f"line {error.lineno}: " if isinstance(error, SyntaxError) and error.lineno else ""
        raise Refused(f"{path.name} is not Python: {place}{getattr(error, 'msg', None) or error}") from None
    linecache.cache[str(path)] = (len(text), None, text.splitlines(keepends=True), str(path))
    namespace: dict[str, Any] = {"__name__": f"submission_{name}"}
    dropped: dict[str, tuple[int, str]] = {}
    for statement in tree.body:
        _execute(statement, namespace, dropped, str(path))
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
    return Submission(kernel, tree, hashlib.sha256(text.encode()).hexdigest())


def _execute(statement: ast.stmt, namespace: dict, dropped: dict, path: str) -> None:
    """Runs what can do no harm: imports of numba, numpy and math, constants, kernels; notes what it leaves out."""
    try:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            _import(statement)
        elif isinstance(statement, ast.FunctionDef):
            statement = _function(statement, namespace)
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            if statement.value is None:
                return
            _constant(statement.value, namespace)
            if isinstance(statement, ast.AnnAssign):
                statement = ast.copy_location(ast.Assign([statement.target], statement.value), statement)
            for target in statement.targets:
                if not all(isinstance(node, ast.Name | ast.Tuple | ast.Store) for node in ast.walk(target)):
                    raise Refused("it changes something that exists")
        else:
            raise Refused("it is not an import, a constant or a kernel")
        exec(compile(ast.Module([statement], []), path, "exec", dont_inherit=True), namespace)  # noqa: S102  only what is harmless
        for bound in _bound(statement):
            dropped.pop(bound, None)
    except Exception as error:  # noqa: BLE001  whatever it is, it is the author's
        for bound in _bound(statement):
            namespace.pop(bound, None)
            dropped[bound] = (statement.lineno, str(error))


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


def _import(statement: ast.Import | ast.ImportFrom) -> None:
    modules = [a.name for a in statement.names] if isinstance(statement, ast.Import) else [statement.module or ""]
    if isinstance(statement, ast.ImportFrom) and (statement.level or any(a.name == "*" for a in statement.names)):
        raise Refused("import names one by one, from modules")
    if any(a.name.startswith("_") for a in statement.names):
        raise Refused("it imports a private name")
    if unknown := [name for name in modules if name not in MODULES]:
        raise Refused(f"only {', '.join(sorted(MODULES))} are imported, not {', '.join(unknown)}")


def _function(statement: ast.FunctionDef, namespace: dict) -> ast.FunctionDef:
    """The kernel without what Python would evaluate when it is defined, other than the decorator."""
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
    if not all(isinstance(option.value, ast.Constant) for option in options):
        raise Refused("the options of cuda.jit are not constants")
    a = statement.args
    if a.defaults or a.kw_defaults:
        raise Refused("a kernel has no default values")
    for parameter in [*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg]:
        if parameter is not None:
            parameter.annotation = None
    statement.returns = None
    return statement


def _constant(expression: ast.expr, namespace: dict) -> None:
    """Raises Refused unless an expression is made of numbers, types, and names that are made so."""
    check = partial(_constant, namespace=namespace)
    if isinstance(expression, ast.Constant):
        return
    if isinstance(expression, ast.Name):
        if expression.id in namespace and not expression.id.startswith("_"):
            return
    elif isinstance(expression, ast.Tuple | ast.List):
        for element in expression.elts:
            check(element)
        return
    elif isinstance(expression, ast.UnaryOp):
        return check(expression.operand)
    elif isinstance(expression, ast.BinOp):
        if isinstance(expression.op, ast.Pow | ast.LShift) and not _is_small(expression.right):
            raise Refused(f"{ast.unparse(expression)} may be very large: write the number")
        check(expression.left)
        return check(expression.right)
    elif isinstance(expression, ast.Attribute):
        if _dotted(expression, namespace):
            return
    elif isinstance(expression, ast.Subscript):
        check(expression.value)
        return check(expression.slice)
    elif isinstance(expression, ast.Call) and _is_known(expression.func, namespace):
        for argument in expression.args:
            check(argument)
        for keyword in expression.keywords:
            if keyword.arg != "dtype":  # max(..., key=f) would call f
                raise Refused(f"{keyword.arg}= is not judged: write the number")
            check(keyword.value)
        return
    raise Refused(f"{ast.unparse(expression)[:60]} is not a constant expression: write the number")


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


def _module(name: str) -> Any:
    import importlib

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
