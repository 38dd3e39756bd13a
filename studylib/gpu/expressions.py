"""Evaluates the expressions of a kernel: to a scalar while the value is the same in all threads, else to a vector."""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from studylib.gpu import mathlib, types
from studylib.gpu.intrinsics import INTRINSICS, NAMES
from studylib.gpu.lanes import Mask
from studylib.gpu.memory import Array, Memory, row_strides
from studylib.gpu.source import MISSING
from studylib.gpu.values import CONFLICT, Partial, convert, is_number

if TYPE_CHECKING:
    from studylib.gpu.interpreter import Frame
    from studylib.gpu.machine import Machine

BUILTINS: dict[Callable, Callable] = {
    builtins.abs: types.absolute,
    builtins.round: types.rounded,
    builtins.int: types.to_int,
    builtins.float: types.to_float,
    builtins.bool: types.truth,
    builtins.min: lambda first, second, *more: types.extreme((first, second, *more), smallest=True),
    builtins.max: lambda first, second, *more: types.extreme((first, second, *more), smallest=False),
}
POSITIONS = ("threadIdx", "blockIdx", "blockDim", "gridDim", "laneid", "warpsize")
ROOTS = sorted(
    {path.partition(".")[0] for path in INTRINSICS} | set(POSITIONS)
)  # what `from numba.cuda import` may name

_METHODS: dict[tuple[type, str], dict[type, Callable]] = {}


def methods(owner: type, prefix: str) -> dict[type, Callable]:
    """The functions that handle one kind of syntax node each: eval_BinOp for ast.BinOp. Their first argument is self."""
    if (owner, prefix) not in _METHODS:
        names = [name for name in dir(owner) if name.startswith(prefix)]
        _METHODS[owner, prefix] = {getattr(ast, name[len(prefix) :]): getattr(owner, name) for name in names}
    return _METHODS[owner, prefix]


class Expressions:
    """The expression half of the interpreter."""

    machine: Machine
    frame: Frame
    nobody: Mask
    printed: list[str]

    def __init__(self) -> None:
        self._eval = methods(type(self), "eval_")

    # Given by the other half.
    def fail(self, kind: str, message: str, node: ast.AST) -> NoReturn:
        raise NotImplementedError

    def reject(self, message: str, node: ast.AST) -> NoReturn:
        raise NotImplementedError

    def site(self, node: ast.AST):
        raise NotImplementedError

    def branch(self, condition, mask: Mask, test: ast.AST) -> tuple[Mask, Mask]:
        raise NotImplementedError

    def choose(self, mask_a: Mask, a, mask_b: Mask, b, node: ast.AST):
        raise NotImplementedError

    def call(self, node: ast.Call, function, arguments: list, mask: Mask):
        raise NotImplementedError

    # -- values

    def eval(self, node: ast.expr, mask: Mask) -> Any:
        evaluate = self._eval.get(type(node))
        if evaluate is None:
            self.reject(f"{_EXPRESSIONS.get(type(node).__name__, type(node).__name__)} is not supported", node)
        return evaluate(self, node, mask)

    def number(self, node: ast.expr, mask: Mask) -> Any:
        """The value of an expression that must be a number."""
        value = self.eval(node, mask)
        return value if is_number(value) else self.not_a(value, "a number", node)

    def numbers(self, node: ast.Call, mask: Mask, least: int, most: int) -> list:
        """The values of a call's arguments, numbers all, after a look at how many there are."""
        if node.keywords or not least <= len(node.args) <= most:
            wanted = f"{least}" if least == most else f"{least} to {most}"
            self.reject(f"{ast.unparse(node.func)} takes {wanted} arguments, without keywords", node)
        return [self.number(argument, mask) for argument in node.args]

    def array(self, node: ast.expr, mask: Mask) -> Any:
        """The value of an expression that must be an array."""
        value = self.eval(node, mask)
        return value if isinstance(value, Array) else self.not_a(value, "an array", node)

    def not_a(self, value, wanted: str, node: ast.expr) -> NoReturn:
        if isinstance(value, Array):
            got = f"an array with {value.ndim} dimension{'s' * (value.ndim > 1)}"
        elif is_number(value):
            got = "a number"
        else:
            got = {tuple: "a tuple", type(None): "None", str: "a string"}.get(type(value), type(value).__name__)
        self.reject(f"{wanted} is needed here, and {ast.unparse(node)} is {got}", node)

    def operate(self, operator: type[ast.operator], a, b, node: ast.AST):
        try:
            return types.binary(operator, a, b)
        except TypeError as error:
            self.reject(str(error), node)

    def settle(self, node: ast.AST, value):
        """The value in the type that the inference found: what the arms have in common, and the rounds of a loop."""
        return convert(value, self.frame.typed.values.get(id(node)))

    # -- expressions

    def eval_Constant(self, node: ast.Constant, mask: Mask):
        try:
            return types.constant(node.value)
        except TypeError:
            self.reject(f"the constant {node.value!r} is not supported in a kernel", node)

    def eval_Tuple(self, node: ast.Tuple, mask: Mask):
        return tuple(self.eval(element, mask) for element in node.elts)

    def eval_Name(self, node: ast.Name, mask: Mask):
        value = self.frame.variables.get(node.id, MISSING)
        if value is MISSING:
            if node.id in self.frame.source.locals:
                self.fail("uninitialised-read", f"{node.id} is used before anything is assigned to it", node)
            return self.global_value(node)
        if isinstance(value, Partial):
            unset = mask.lanes & ~value.lanes
            if unset.any():
                who = self.machine.name(int(unset.argmax()))
                self.fail("uninitialised-read", f"{node.id} has no value in {who}: its path sets none", node)
            return value.value
        if value is CONFLICT:
            self.reject(f"{node.id} is of a different kind depending on the path to this line", node)
        return value

    def global_value(self, node: ast.Name):
        if (path := self.cuda_path(node)) in ("laneid", "warpsize"):
            return self.special(path, node)
        known = self.frame.typed.globals
        if node.id not in known:
            value = self.frame.source.lookup(node.id)
            if value is MISSING:
                self.reject(f"the name {node.id} is not defined", node)
            known[node.id] = self.imported(value, node.id, node)
        return known[node.id]

    def imported(self, value, name: str, node: ast.AST):
        """A Python object as a value of the kernel: numbers, tuples and arrays; the rest is what can be called."""
        if isinstance(value, np.ndarray):
            if value.dtype not in types.DTYPES:
                self.reject(f"the constant array {name} has the type {value.dtype}", node)
            data = np.ascontiguousarray(value).reshape(-1)
            memory = Memory(name, "constant", data, value.shape, row_strides(value.shape))
            return Array(memory, memory.shape, memory.strides)
        if isinstance(value, bool | int | float | tuple | np.generic):
            try:
                return types.constant(value)
            except TypeError as error:
                self.reject(f"{name}: {error}", node)
        return value

    def eval_BinOp(self, node: ast.BinOp, mask: Mask):
        left, right = self.number(node.left, mask), self.number(node.right, mask)
        return self.settle(node, self.operate(type(node.op), left, right, node))

    def eval_UnaryOp(self, node: ast.UnaryOp, mask: Mask):
        value = self.number(node.operand, mask)
        try:
            return self.settle(node, types.unary(type(node.op), value))
        except TypeError as error:
            self.reject(str(error), node)

    def eval_Compare(self, node: ast.Compare, mask: Mask):
        left, result = self.number(node.left, mask), None
        for operator, comparator in zip(node.ops, node.comparators, strict=True):
            if type(operator) not in types.COMPARE:
                self.reject("in and is are not supported in a kernel", node)
            if result is not None:  # a < b < c reads c only where a < b
                mask, _ = self.branch(result, mask, node)
                if not mask.any:
                    break
            right = self.number(comparator, mask)
            try:
                holds = types.compare(type(operator), left, right)
            except TypeError as error:
                self.reject(str(error), node)
            result, left = holds if result is None else result & holds, right
        return result

    def eval_BoolOp(self, node: ast.BoolOp, mask: Mask):
        result, everyone = self.number(node.values[0], mask), mask
        for operand in node.values[1:]:
            going, done = self.branch(result, mask, node)
            if isinstance(node.op, ast.Or):
                going, done = done, going
            if not going.any:
                break
            value = self.number(operand, going)
            result = value if going.covers(everyone) else self.choose(going, value, done, result, node)
            mask = going
        return self.settle(node, result)

    def eval_IfExp(self, node: ast.IfExp, mask: Mask):
        yes, no = self.branch(self.number(node.test, mask), mask, node.test)
        if not no.any:
            return self.settle(node, self.eval(node.body, yes))
        if not yes.any:
            return self.settle(node, self.eval(node.orelse, no))
        return self.settle(node, self.choose(yes, self.eval(node.body, yes), no, self.eval(node.orelse, no), node))

    # -- arrays and tuples

    def indices(self, node: ast.Subscript, mask: Mask) -> tuple:
        """The index of a subscript as a tuple of numbers."""
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if any(isinstance(part, ast.Slice) for part in parts):
            self.reject("slices are not supported in a kernel: index one element, or a row as a[i]", node)
        return self.as_indices(self.eval(node.slice, mask), node.slice)

    def as_indices(self, index, node: ast.expr) -> tuple:
        parts = index if isinstance(index, tuple) else (index,)
        for part in parts:
            if not is_number(part):
                self.not_a(part, "an integer", node)
            if part.dtype.kind not in "iu":
                hint = "; divide with //, convert with int(x)" if part.dtype.kind == "f" else ""
                self.fail("index-type", f"an index must be an integer, and this is a {part.dtype.name}{hint}", node)
        return parts

    def load(self, array: Array, indices: tuple, mask: Mask, node: ast.AST):
        return array.load(self.machine, indices, mask, self.site(node))

    def store(self, array: Array, indices: tuple, value, mask: Mask, node: ast.AST) -> None:
        array.store(self.machine, indices, value, mask, self.site(node))

    def eval_Subscript(self, node: ast.Subscript, mask: Mask):
        value = self.eval(node.value, mask)
        if isinstance(value, tuple):
            return self.item(value, self.number(node.slice, mask), mask, node)
        if not isinstance(value, Array):
            self.not_a(value, "an array or a tuple", node.value)
        return self.load(value, self.indices(node, mask), mask, node)

    def item(self, values: tuple, index, mask: Mask, node: ast.Subscript):
        """An element of a tuple; one that differs between threads if its index does."""
        if index.dtype.kind not in "iu":
            self.fail("index-type", f"the index of a tuple must be an integer, and this is a {index.dtype.name}", node)
        for number in [int(index)] if index.ndim == 0 else np.unique(mask.take(index)):
            if not -len(values) <= number < len(values):
                self.fail("out-of-bounds", self._no_element(values, int(number), node.value), node)
        if index.ndim == 0:
            return values[int(index)]
        inside = np.where(mask.lanes, index, 0)
        result = values[0]
        for number in range(len(values)):
            result = np.where((inside == number) | (inside == number - len(values)), values[number], result)
        return result

    def _no_element(self, values: tuple, number: int, node: ast.expr) -> str:
        if isinstance(node, ast.Attribute) and node.attr == "shape":
            s, last = "s" * (len(values) > 1), len(values) - 1
            array = ast.unparse(node.value)
            return f"{array} has {len(values)} dimension{s}: {array}.shape[{number}] does not exist, the last is {last}"
        return f"a tuple of {len(values)} has no element {number}"

    def check_homogeneous(self, values: tuple, node: ast.expr) -> None:
        kinds = {v.dtype if is_number(v) else tuple(x.dtype for x in v if is_number(x)) for v in values}
        if len(kinds) > 1:
            self.reject("the elements of this tuple must have one type, so that the compiler knows it", node)

    def eval_Attribute(self, node: ast.Attribute, mask: Mask):
        path = self.cuda_path(node)
        if path is not None:
            return self.special(path, node)
        value = self.eval(node.value, mask)
        if isinstance(value, Array) and node.attr in ("shape", "size", "ndim"):
            shape = tuple(np.int64(n) for n in value.shape)
            if node.attr == "shape":
                return shape
            return np.int64(value.ndim) if node.attr == "ndim" else np.int64(np.prod(value.shape, dtype=np.int64))
        if isinstance(value, ModuleType) and hasattr(value, node.attr):
            return self.imported(getattr(value, node.attr), node.attr, node)
        self.reject(f"the attribute {ast.unparse(node)} is not supported in a kernel", node)

    def special(self, path: str, node: ast.expr):
        """`cuda.threadIdx.x` and its like."""
        name, _, axis = path.partition(".")
        if name in POSITIONS and axis in ("x", "y", "z"):
            return self.machine.register(name, "xyz".index(axis))
        if path == "laneid":
            return self.machine.lane_id.astype(np.int32)
        if path == "warpsize":
            return np.int32(32)
        self.reject(f"cuda.{path} is not supported by the emulator", node)

    # -- calls

    def cuda_path(self, node: ast.expr) -> str | None:
        """`shared.array` for `cuda.shared.array`, however the module is named here; None for anything else."""
        paths = self.frame.typed.paths
        if id(node) not in paths:
            paths[id(node)] = self._find_cuda_path(node)
        return paths[id(node)]

    def _find_cuda_path(self, node: ast.expr) -> str | None:
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id in self.frame.source.locals:
            return None
        value = self.frame.source.lookup(node.id)
        while parts and isinstance(value, ModuleType) and value.__name__ != "numba.cuda":
            value = getattr(value, parts.pop(), MISSING)
        if getattr(value, "__name__", "") == "numba.cuda" or (value is MISSING and node.id == "cuda"):
            return ".".join(reversed(parts))
        if value is MISSING or isinstance(value, ModuleType):
            return None
        cuda = sys.modules.get("numba.cuda")  # from numba.cuda import grid
        root = next((name for name in ROOTS if getattr(cuda, name, MISSING) is value), None)
        return ".".join([root, *reversed(parts)]) if root else None

    def is_builtin(self, node: ast.expr, name: str) -> bool:
        if not isinstance(node, ast.Name) or node.id in self.frame.source.locals:
            return False
        return self.frame.source.lookup(node.id) is getattr(builtins, name)

    def eval_Call(self, node: ast.Call, mask: Mask, used: bool = True):
        path = self.cuda_path(node.func)
        if path is not None:
            if path not in INTRINSICS:
                self.reject(f"cuda.{path} is not supported by the emulator; it has {NAMES}", node)
            return INTRINSICS[path](self, node, mask, used)
        function = self.eval(node.func, mask)
        if isinstance(function, FunctionType) or hasattr(function, "py_func"):
            return self.call(node, function, [self.eval(a, mask) for a in node.args], mask)
        if node.keywords:
            self.reject(f"keyword arguments of {ast.unparse(node.func)} are not supported", node)
        if function is builtins.print:
            return self.print([self._printable(a, mask) for a in node.args], mask)
        if function is builtins.len and len(node.args) == 1:
            value = self.eval(node.args[0], mask)
            if not isinstance(value, Array | tuple):
                self.not_a(value, "an array or a tuple", node.args[0])
            return np.int64(value.shape[0] if isinstance(value, Array) else len(value))
        return self.settle(node, self._compute(node, function, mask))

    def _compute(self, node: ast.Call, function, mask: Mask):
        dtype, known = types.as_dtype(function), callable(function) and function in BUILTINS
        if dtype is None and not known and not (callable(function) and function in mathlib.FUNCTIONS):
            name = ast.unparse(node.func)
            self.reject(f"a kernel cannot call {name} here; a function of your own needs @cuda.jit(device=True)", node)
        arguments = [self.number(a, mask) for a in node.args]
        try:
            if dtype is not None:
                (value,) = arguments
                return types.cast(value, dtype)
            return BUILTINS[function](*arguments) if known else mathlib.apply(function, arguments)
        except ValueError:
            self.reject(f"{ast.unparse(node.func)} takes one argument", node)
        except TypeError as error:
            message = "wrong number of arguments" if "positional" in str(error) else str(error)
            self.reject(f"{ast.unparse(node)}: {message}", node)

    def _printable(self, node: ast.expr, mask: Mask):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value
        return self.number(node, mask)

    def print(self, parts: list, mask: Mask) -> None:
        """One line for each thread, in the order of the lanes."""
        for lane in mask.indices:
            words = [p if isinstance(p, str) else str(p if p.ndim == 0 else p[lane]) for p in parts]
            self.printed.append(" ".join(words))


_EXPRESSIONS = {
    "Lambda": "lambda",
    "List": "a list",
    "Dict": "a dict",
    "Set": "a set",
    "ListComp": "a comprehension",
    "GeneratorExp": "a comprehension",
    "DictComp": "a comprehension",
    "SetComp": "a comprehension",
    "JoinedStr": "an f-string",
    "NamedExpr": "an assignment in an expression (:=)",
    "Starred": "*",
    "Await": "await",
    "Yield": "yield",
    "YieldFrom": "yield",
    "Slice": "a slice",
}
