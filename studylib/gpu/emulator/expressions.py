"""The expression half of the type inference: what each is, a vector without lanes or what is known while compiling."""

from __future__ import annotations

import ast
import builtins
import math
import sys
from abc import abstractmethod
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any, NamedTuple, NoReturn

import numpy as np

from studylib.gpu.emulator.frame import Frame
from studylib.gpu.emulator.intrinsics import INTRINSICS, NAMES, Intrinsic
from studylib.gpu.emulator.machine import Machine
from studylib.gpu.emulator.mask import Mask
from studylib.gpu.emulator.memory import Array
from studylib.gpu.emulator.run import Run
from studylib.gpu.findings import Site
from studylib.gpu.hardware import WARP
from studylib.gpu.language import mathlib
from studylib.gpu.language import typing_rules as types
from studylib.gpu.language.source import MISSING
from studylib.gpu.language.values import CONFLICT, is_number
from studylib.words import counted


class Builtin(NamedTuple):
    """A function of Python that a kernel can call, and how many arguments it takes."""

    compute: Callable
    least: int = 1
    most: float = 1


BUILTINS: dict[Callable, Builtin] = {
    builtins.abs: Builtin(types.absolute),
    builtins.round: Builtin(types.rounded, 1, 2),
    builtins.int: Builtin(types.to_int),
    builtins.float: Builtin(types.to_float),
    builtins.bool: Builtin(types.truth),
    builtins.min: Builtin(lambda *values: types.extreme(values, smallest=True), 2, math.inf),
    builtins.max: Builtin(lambda *values: types.extreme(values, smallest=False), 2, math.inf),
}
POSITIONS = ("threadIdx", "blockIdx", "blockDim", "gridDim", "laneid", "warpsize")
ROOTS = sorted({path.partition(".")[0] for path in INTRINSICS} | set(POSITIONS))  # what one may import from numba.cuda

_METHODS: dict[tuple[type, str], dict[type, Callable]] = {}


def methods(owner: type, prefix: str) -> dict[type, Callable]:
    """The methods that handle one kind of syntax node each, such as eval_BinOp for ast.BinOp; self comes first."""
    if (owner, prefix) not in _METHODS:
        names = [name for name in dir(owner) if name.startswith(prefix)]
        _METHODS[owner, prefix] = {getattr(ast, name[len(prefix) :]): getattr(owner, name) for name in names}
    return _METHODS[owner, prefix]


class Expressions(Run):
    """The expressions of a kernel; what the abstract methods do is given by the other parts of the inference."""

    def __init__(self, machine: Machine, frame: Frame):
        self.machine, self.frame = machine, frame
        self._eval = methods(type(self), "eval_")
        self._globals: dict[tuple[int, str], Any] = {}

    def site(self, node: ast.AST) -> Site:
        return self.frame.source.site(node)

    @abstractmethod
    def branch(self, mask: Mask, test: ast.AST) -> tuple[Mask, Mask]:
        """What is reached where the test holds, and where it does not."""

    @abstractmethod
    def choose(self, a, b):
        """A value that is `a` on one path and `b` on another."""

    @abstractmethod
    def settle(self, node: ast.AST, value):
        """The value in the type that the expression has in all rounds of a loop."""

    @abstractmethod
    def call(self, node: ast.Call, function, arguments: list):
        """The result of a device function."""

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
            wanted = counted(most, "argument") if least == most else f"{least} to {counted(most, 'argument')}"
            self.reject(f"{ast.unparse(node.func)} takes {wanted}, without keywords", node)
        return [self.number(argument, mask) for argument in node.args]

    def operands(self, intrinsic: Intrinsic, node: ast.Call, mask: Mask) -> list:
        """The values of the arguments of a function of `cuda`."""
        if intrinsic.operands == "numbers":
            return self.numbers(node, mask, intrinsic.least, intrinsic.most)
        if intrinsic.operands == "shape":
            return []
        if not intrinsic.least <= len(node.args) <= intrinsic.most or (
            intrinsic.operands == "atomic" and node.keywords
        ):
            wanted = "one argument" if intrinsic.most == 1 else f"{intrinsic.most} arguments"
            self.reject(f"{ast.unparse(node.func)} takes {wanted}", node)
        array = self.array(node.args[0], mask)
        if intrinsic.operands == "array":
            return [array]
        indices = self.as_indices(self.eval(node.args[1], mask), node.args[1])
        return [array, indices, *(self.number(argument, mask) for argument in node.args[2:])]

    def array(self, node: ast.expr, mask: Mask) -> Any:
        """The value of an expression that must be an array."""
        value = self.eval(node, mask)
        return value if isinstance(value, Array) else self.not_a(value, "an array", node)

    def not_a(self, value, wanted: str, node: ast.expr) -> NoReturn:
        if isinstance(value, Array):
            got = f"an array with {counted(value.ndim, 'dimension')}"
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
        if value is CONFLICT:
            self.reject(f"{node.id} is of a different kind depending on the path to this line", node)
        return value

    def global_value(self, node: ast.Name):
        key = id(self.frame.typed), node.id
        if key not in self._globals:
            if (path := self.cuda_path(node)) in ("laneid", "warpsize"):  # from numba.cuda import laneid
                return self.special(path, node)
            value = self.look_up(node.id)
            if value is MISSING:
                self.reject(f"the name {node.id} is not defined", node)
            self._globals[key] = self.imported(value, node.id, node)
        return self._globals[key]

    def look_up(self, name: str):
        """What a name that is not local stands for now, or MISSING."""
        return self.frame.source.lookup(name)

    def member(self, module: ModuleType, name: str):
        """What a name in a module stands for now, or MISSING."""
        return getattr(module, name, MISSING)

    def imported(self, value, name: str, node: ast.AST):
        """A Python object as a value of the kernel: numbers and tuples; the rest is what can be called."""
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
                mask, _ = self.branch(mask, node)
                if not mask.any:
                    break
            right = self.number(comparator, mask)
            try:
                holds = types.compare(type(operator), left, right)
            except TypeError as error:
                self.reject(str(error), node)
            result, left = holds if result is None else result & holds, right
        return result

    def eval_IfExp(self, node: ast.IfExp, mask: Mask):
        self.number(node.test, mask)
        yes, no = self.branch(mask, node.test)
        if not no.any:
            return self.settle(node, self.eval(node.body, yes))
        if not yes.any:
            return self.settle(node, self.eval(node.orelse, no))
        return self.settle(node, self.choose(self.eval(node.body, yes), self.eval(node.orelse, no)))

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
            return self.item(value, self.number(node.slice, mask), node)
        if not isinstance(value, Array):
            self.not_a(value, "an array or a tuple", node.value)
        return self.load(value, self.indices(node, mask), mask, node)

    def item(self, values: tuple, index, node: ast.Subscript):
        """An element of a tuple; one that differs between threads if its index does."""
        if index.dtype.kind not in "iu":
            self.fail("index-type", f"the index of a tuple must be an integer, and this is a {index.dtype.name}", node)
        if isinstance(index, types.Literal):
            if not -len(values) <= index < len(values):
                self.fail("out-of-bounds", no_element(len(values), int(index), node.value), node)
            return values[int(index)]
        self.check_homogeneous(values, node)
        if not values or not is_number(values[0]):
            self.reject("this tuple needs a constant index", node)
        return np.empty(0, values[0].dtype)

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
        if isinstance(value, ModuleType) and (member := self.member(value, node.attr)) is not MISSING:
            return self.imported(member, node.attr, node)
        self.reject(f"the attribute {ast.unparse(node)} is not supported in a kernel", node)

    def special(self, path: str, node: ast.expr):
        """`cuda.threadIdx.x` and its like."""
        name, _, axis = path.partition(".")
        if name in POSITIONS and axis in ("x", "y", "z"):
            return self.machine.register(name, "xyz".index(axis))
        if path == "laneid":
            return self.machine.lane_id.astype(np.int32)
        if path == "warpsize":
            return np.int32(WARP)
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
        value = self.look_up(node.id)
        while parts and isinstance(value, ModuleType) and value.__name__ != "numba.cuda":
            value = self.member(value, parts.pop())
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
        return self.look_up(node.id) is getattr(builtins, name)

    def eval_Call(self, node: ast.Call, mask: Mask, used: bool = True):
        path = self.cuda_path(node.func)
        if path is not None:
            if path not in INTRINSICS:
                self.reject(f"cuda.{path} is not supported by the emulator; it has {NAMES}", node)
            intrinsic = INTRINSICS[path]
            return intrinsic.compute(self, node, mask, used, *self.operands(intrinsic, node, mask))
        function = self.eval(node.func, mask)
        if isinstance(function, FunctionType) or hasattr(function, "py_func"):
            return self.call(node, function, [self.eval(a, mask) for a in node.args])
        if node.keywords:
            self.reject(f"keyword arguments of {ast.unparse(node.func)} are not supported", node)
        if function is builtins.print:
            for argument in node.args:
                if not is_text(argument):
                    self.number(argument, mask)
            return None
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
        if dtype is not None and len(arguments) != 1:
            self.reject(f"{ast.unparse(node.func)} takes one argument", node)
        if known and not BUILTINS[function].least <= len(arguments) <= BUILTINS[function].most:
            self.reject(f"{ast.unparse(node)}: wrong number of arguments", node)
        try:
            if dtype is not None:
                return types.cast(arguments[0], dtype)
            return BUILTINS[function].compute(*arguments) if known else mathlib.apply(function, arguments)
        except TypeError as error:
            self.reject(f"{ast.unparse(node)}: {error}", node)


def is_text(node: ast.expr) -> bool:
    """Whether print() takes the argument as it stands."""
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def no_element(length: int, number: int, node: ast.expr) -> str:
    """What is wrong with an index into the tuple of this expression."""
    if isinstance(node, ast.Attribute) and node.attr == "shape":
        array, has = ast.unparse(node.value), counted(length, "dimension")
        return f"{array} has {has}: {array}.shape[{number}] does not exist, the last is {length - 1}"
    return f"a tuple of {length} has no element {number}"


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
