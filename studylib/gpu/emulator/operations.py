"""Expressions lowered: each becomes a function of the frame and the mask, with the operation for its types chosen.

A value is a scalar while it is the same in all threads, else a vector. What the inference has checked is not checked
again; what depends on values is: whether a variable has a value in every thread that reads it, for example.
"""

from __future__ import annotations

import ast
import builtins
import operator
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from studylib.gpu.emulator.expressions import BUILTINS, is_text, methods, no_element
from studylib.gpu.emulator.frame import Frame, Typed
from studylib.gpu.emulator.intrinsics import INTRINSICS
from studylib.gpu.emulator.mask import Mask
from studylib.gpu.emulator.memory import Array, constant_array
from studylib.gpu.emulator.paths import branch, choose
from studylib.gpu.hardware import WARP
from studylib.gpu.language import mathlib
from studylib.gpu.language import typing_rules as types
from studylib.gpu.language.source import MISSING
from studylib.gpu.language.values import Partial, convert

Operation = Callable[[Frame, Mask], Any]

# NumPy's functions for operators are Python's operators, which are several times faster for scalars.
_OPERATORS: dict[Callable, Callable] = {
    np.add: operator.add,
    np.subtract: operator.sub,
    np.multiply: operator.mul,
    np.less: operator.lt,
    np.less_equal: operator.le,
    np.greater: operator.gt,
    np.greater_equal: operator.ge,
    np.equal: operator.eq,
    np.not_equal: operator.ne,
}


class Constant:
    """An operation that always gives the same value."""

    def __init__(self, value: Any):
        self.value = value

    def __call__(self, frame: Frame, mask: Mask) -> Any:
        return self.value


def as_type(value: Operation, given, wanted) -> Operation:
    """The operation, of the first type, followed by a conversion to the second; types as `convert` takes them."""
    if given == wanted or wanted is None:
        return value
    if isinstance(value, Constant):
        return Constant(convert(value.value, wanted))
    return lambda frame, mask: convert(value(frame, mask), wanted)


def applied(function: Callable, left: Operation, right: Operation) -> Operation:
    """A function of the values of two operations."""
    if isinstance(right, Constant):
        known = right.value
        if isinstance(left, Constant):
            return Constant(function(left.value, known))
        return lambda frame, mask: function(left(frame, mask), known)
    return lambda frame, mask: function(left(frame, mask), right(frame, mask))


def _with_narrow_scalar(function: Callable) -> Callable:
    """A comparison of integers in which a scalar takes the type of the vector if it fits, which is much faster."""

    def compare(a, b):
        if b.ndim == 0 and a.ndim:
            narrow = b.astype(a.dtype)
            b = narrow if narrow == b else b
        return function(a, b)

    return compare


class Operations:
    """Lowers the expressions of one function."""

    def __init__(self, typed: Typed):
        self.typed = typed
        self._lower = methods(Operations, "lower_")

    def type_of(self, node: ast.expr) -> Any:
        return self.typed.values[id(node)]

    def lower(self, node: ast.expr) -> Operation:
        """The expression as an operation; if it is never evaluated, one that nobody calls."""
        if id(node) not in self.typed.values:
            return Constant(None)
        return self._lower[type(node)](self, node)

    # -- values

    def lower_Constant(self, node: ast.Constant) -> Operation:
        return Constant(types.constant(node.value))

    def lower_Tuple(self, node: ast.Tuple) -> Operation:
        parts = [self.lower(element) for element in node.elts]
        if len(parts) == 2:
            first, second = parts
            return lambda frame, mask: (first(frame, mask), second(frame, mask))
        return lambda frame, mask: tuple([part(frame, mask) for part in parts])

    def lower_Name(self, node: ast.Name) -> Operation:
        name = node.id
        if name not in self.typed.source.locals:
            if (path := self.typed.paths.get(id(node))) is not None:
                return self._special(path)
            return self._constant(self.typed.source.lookup(name), name)

        def read(frame: Frame, mask: Mask):
            value = frame.variables.get(name, MISSING)
            if value is MISSING:
                frame.fail("uninitialised-read", f"{name} is used before anything is assigned to it", node)
            if value.__class__ is Partial:
                unset = mask.lanes & ~value.lanes
                if unset.any():
                    who = frame.machine.name(int(unset.argmax()))
                    frame.fail("uninitialised-read", f"{name} has no value in {who}: its path sets none", node)
                return value.value
            return value

        return read

    def _constant(self, value, name: str) -> Operation:
        """An object of the module: a number, a tuple, or an array, which is read anew in each launch."""
        if isinstance(value, np.ndarray):
            return lambda frame, mask: constant_array(frame.machine, name, value)
        is_number = isinstance(value, bool | int | float | tuple | np.generic)
        return Constant(types.constant(value) if is_number else value)

    # -- operators

    def lower_BinOp(self, node: ast.BinOp) -> Operation:
        return as_type(*self.binary(type(node.op), node.left, node.right), self.type_of(node))

    def binary(self, kind: type[ast.operator], left: ast.expr, right: ast.expr) -> tuple[Operation, np.dtype | None]:
        """`left kind right`, and the type of its value, None where only the values tell."""
        a, b = self.lower(left), self.lower(right)
        if kind is ast.Pow:
            return applied(types.power, a, b), None
        function, common = types.rule(kind.__name__, self.type_of(left), self.type_of(right))
        a, b = as_type(a, self.type_of(left), common), as_type(b, self.type_of(right), common)
        return applied(_OPERATORS.get(function, function), a, b), types.result(function, common)

    def lower_UnaryOp(self, node: ast.UnaryOp) -> Operation:
        kind, operand, wanted = type(node.op), self.lower(node.operand), self.type_of(node)
        return lambda frame, mask: convert(types.unary(kind, operand(frame, mask)), wanted)

    def lower_Compare(self, node: ast.Compare) -> Operation:
        sides = [node.left, *node.comparators]
        if len(sides) == 2:
            function = self._comparison(node.ops[0], *sides)
            return applied(function, self.lower(node.left), self.lower(node.comparators[0]))
        first, *others = (self.lower(side) for side in sides)
        functions = [types.COMPARE[type(kind)] for kind in node.ops]

        def compare(frame: Frame, mask: Mask):
            left, result = first(frame, mask), None
            for function, other in zip(functions, others, strict=True):
                if result is not None:  # a < b < c reads c only where a < b
                    mask, _ = branch(result, mask)
                    if not mask.any:
                        break
                right = other(frame, mask)
                holds = function(left, right)
                result, left = holds if result is None else result & holds, right
            return result

        return compare

    def _comparison(self, kind: ast.cmpop, left: ast.expr, right: ast.expr) -> Callable:
        function, a, b = types.COMPARE[type(kind)], self.type_of(left), self.type_of(right)
        if a == b:
            return _OPERATORS[function]
        # Python compares int64 with uint64 by another rule than Numba.
        return _with_narrow_scalar(function) if a.kind == b.kind == "i" else function

    def lower_BoolOp(self, node: ast.BoolOp) -> Operation:
        first, *others = (self.lower(operand) for operand in node.values)
        is_or, wanted = isinstance(node.op, ast.Or), self.type_of(node)
        if all(self.typed.values.get(id(operand), types.BOOL) == types.BOOL for operand in node.values):
            return as_type(_all_bools(is_or, first, others), types.BOOL, wanted)

        def evaluate(frame: Frame, mask: Mask):
            result, everyone = first(frame, mask), mask
            for operand in others:
                going, done = branch(result, mask)
                if is_or:
                    going, done = done, going
                if not going.any:
                    break
                value = operand(frame, going)
                result = value if going.covers(everyone) else choose(frame, going, value, done, result, node)
                mask = going
            return convert(result, wanted)

        return evaluate

    def lower_IfExp(self, node: ast.IfExp) -> Operation:
        test, body, orelse, wanted = *map(self.lower, (node.test, node.body, node.orelse)), self.type_of(node)

        def evaluate(frame: Frame, mask: Mask):
            yes, no = branch(test(frame, mask), mask)
            if not no.any:
                return convert(body(frame, yes), wanted)
            if not yes.any:
                return convert(orelse(frame, no), wanted)
            return convert(choose(frame, yes, body(frame, yes), no, orelse(frame, no), node), wanted)

        return evaluate

    # -- arrays and tuples

    def indices(self, node: ast.expr) -> Operation:
        """The index of a subscript as a tuple of numbers."""
        index = self.lower(node)
        return index if isinstance(self.type_of(node), tuple) else lambda frame, mask: (index(frame, mask),)

    def lower_Subscript(self, node: ast.Subscript) -> Operation:
        value = self.lower(node.value)
        if isinstance(self.type_of(node.value), tuple):
            return self._item(node, value, self.lower(node.slice))
        indices, site = self.indices(node.slice), self.typed.source.site(node)
        return lambda frame, mask: value(frame, mask).load(frame.machine, indices(frame, mask), mask, site)

    def _item(self, node: ast.Subscript, values: Operation, index: Operation) -> Operation:
        if isinstance(index, Constant):
            number = int(index.value)
            return lambda frame, mask: values(frame, mask)[number]
        return lambda frame, mask: _item(frame, values(frame, mask), index(frame, mask), mask, node)

    def lower_Attribute(self, node: ast.Attribute) -> Operation:
        path = self.typed.paths.get(id(node))
        if path is not None:
            return self._special(path)
        value = self.lower(node.value)
        if isinstance(value, Constant) and isinstance(value.value, ModuleType):
            return self._constant(getattr(value.value, node.attr, None), node.attr)
        read: Callable[[Array], Any] = {
            "shape": lambda array: array.extents,
            "size": lambda array: np.int64(np.prod(array.shape, dtype=np.int64)),
            "ndim": lambda array: np.int64(array.ndim),
        }[node.attr]
        return lambda frame, mask: read(value(frame, mask))

    def _special(self, path: str) -> Operation:
        """`cuda.threadIdx.x` and its like."""
        if path == "laneid":
            return lambda frame, mask: frame.machine.lane_id.astype(np.int32)
        if path == "warpsize":
            return Constant(np.int32(WARP))
        name, _, letter = path.partition(".")
        axis = "xyz".index(letter)
        return lambda frame, mask: frame.machine.register(name, axis)

    # -- calls

    def lower_Call(self, node: ast.Call) -> Operation:
        return self.call(node)

    def call(self, node: ast.Call, used: bool = True) -> Operation:
        """A call; used: whether its value is."""
        path = self.typed.paths.get(id(node.func))
        if path is not None:
            return self._intrinsic(path, node, used)
        function = self._called(node.func)
        if isinstance(function, FunctionType) or hasattr(function, "py_func"):
            return self._device_function(node)
        if function is builtins.print:
            return self._print(node)
        arguments = [self.lower(argument) for argument in node.args]
        if function is builtins.len:
            return lambda frame, mask: _length(arguments[0](frame, mask))
        wanted = self.type_of(node)
        dtype = types.as_dtype(function)
        if dtype is not None:
            return as_type(as_type(arguments[0], self.type_of(node.args[0]), dtype), dtype, wanted)
        if function in BUILTINS:
            compute = BUILTINS[function].compute
            return lambda frame, mask: convert(compute(*[value(frame, mask) for value in arguments]), wanted)
        apply = mathlib.apply
        return lambda frame, mask: convert(apply(function, [value(frame, mask) for value in arguments]), wanted)

    def _called(self, node: ast.expr) -> Any:
        function = self.lower(node)
        assert isinstance(function, Constant)
        return function.value

    def _intrinsic(self, path: str, node: ast.Call, used: bool) -> Operation:
        intrinsic = INTRINSICS[path]
        compute, operands = intrinsic.compute, []
        if intrinsic.operands != "shape":
            operands = [self.lower(argument) for argument in node.args]
        if intrinsic.operands == "atomic":
            operands[1] = self.indices(node.args[1])
        return lambda frame, mask: compute(frame, node, mask, used, *[value(frame, mask) for value in operands])

    def _device_function(self, node: ast.Call) -> Operation:
        typed, arguments = self.typed.calls[id(node)], [self.lower(argument) for argument in node.args]
        names, body, wanted = typed.source.parameters, typed.body, typed.result
        assert body is not None
        returns_value = typed.result_value is not None

        def call(frame: Frame, mask: Mask):
            values = [argument(frame, mask) for argument in arguments]
            inner = Frame(typed, frame.machine, dict(zip(names, values, strict=True)))
            body(inner, mask)
            if not returns_value:
                return None
            (done, value), *others = inner.returns
            for other_mask, other in others:
                value = value if value is other else choose(frame, done, value, other_mask, other, node)
                done = done.union(other_mask)
            return convert(value, wanted)

        return call

    def _print(self, node: ast.Call) -> Operation:
        parts = [Constant(ast.literal_eval(a)) if is_text(a) else self.lower(a) for a in node.args]

        def run(frame: Frame, mask: Mask) -> None:
            values = [part(frame, mask) for part in parts]
            for lane in mask.indices:  # one line for each thread, in the order of the lanes
                words = [v if isinstance(v, str) else str(v if v.ndim == 0 else v[lane]) for v in values]
                frame.machine.printed.append(" ".join(words))

        return run


def _all_bools(is_or: bool, first: Operation, others: list[Operation]) -> Operation:
    """`and` or `or` of bools: a lane that is not asked any more has the value that decides it already."""

    def evaluate(frame: Frame, mask: Mask):
        result = first(frame, mask)
        for operand in others:
            if result.ndim:
                mask = mask.where(~result if is_or else result)
                if not mask.any:
                    break
            elif result == is_or:
                break
            value = operand(frame, mask)
            result = result | value if is_or else result & value
        return result

    return evaluate


def _length(value):
    return np.int64(value.shape[0] if isinstance(value, Array) else len(value))


def _item(frame: Frame, values: tuple, index, mask: Mask, node: ast.Subscript):
    for number in [int(index)] if index.ndim == 0 else np.unique(mask.take(index)):
        if not -len(values) <= number < len(values):
            frame.fail("out-of-bounds", no_element(len(values), int(number), node.value), node)
    if index.ndim == 0:
        return values[int(index)]
    inside = np.where(mask.lanes, index, 0)
    result = values[0]
    for number in range(len(values)):
        result = np.where((inside == number) | (inside == number - len(values)), values[number], result)
    return result
