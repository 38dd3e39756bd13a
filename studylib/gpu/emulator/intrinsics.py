"""The table of `cuda.*` names that a kernel can call: positions, arrays, atomics, bits and shuffles.

What computes one takes the run, the call, the mask of lanes that reach it, whether its result is used, and the values
of its arguments: in the type inference those are vectors without lanes.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from studylib.gpu.emulator import atomics, collectives
from studylib.gpu.emulator.mask import Mask
from studylib.gpu.emulator.memory import Array
from studylib.gpu.emulator.run import Run
from studylib.gpu.language import mathlib
from studylib.gpu.language import typing_rules as types
from studylib.words import counted


class Intrinsic(NamedTuple):
    """A function of `cuda`: what computes it, and how many arguments it takes.

    operands: 'numbers'; 'array', for one array; 'atomic', for an array, an index and numbers; or 'shape' for what
    declares an array and is evaluated while the kernel is typed.
    """

    compute: Callable
    least: int
    most: int
    operands: str = "numbers"


def _grid(run: Run, node: ast.Call, mask: Mask, used: bool, dimensions):
    return _positions(run, node, dimensions, run.machine.global_position)


def _gridsize(run: Run, node: ast.Call, mask: Mask, used: bool, dimensions):
    return _positions(run, node, dimensions, run.machine.global_extent)


def _positions(run: Run, node: ast.Call, dimensions, along: Callable[[int], Any]):
    if not isinstance(dimensions, types.Literal) or not 1 <= dimensions <= 3:
        run.reject(f"{ast.unparse(node.func)} takes the constant 1, 2 or 3", node)
    parts = tuple(along(axis) for axis in range(dimensions))
    return parts[0] if dimensions == 1 else parts


def _shared_array(run: Run, node: ast.Call, mask: Mask, used: bool):
    return run.declare("shared", node)


def _local_array(run: Run, node: ast.Call, mask: Mask, used: bool):
    return run.declare("local", node)


def _constant_array(run: Run, node: ast.Call, mask: Mask, used: bool, array: Array):
    if array.memory.space != "constant":
        run.reject("cuda.const.array_like takes an array of the module, not an argument of the kernel", node)
    return array


def _fence(run: Run, node: ast.Call, mask: Mask, used: bool):
    run.machine.observer.fence(run.machine, mask)


def _block_fence(run: Run, node: ast.Call, mask: Mask, used: bool):
    """Orders one thread's accesses; the barriers of the block do the rest."""


def _atomic(operation: str) -> Intrinsic:
    def compute(run: Run, node: ast.Call, mask: Mask, used: bool, array: Array, indices: tuple, *values):
        if array.memory.space not in ("global", "shared"):
            run.reject(f"atomics work in global and shared memory; {array.memory.name} is {array.memory.space}", node)
        if len(indices) != array.ndim:
            run.reject(
                f"{array.memory.name} has {counted(array.ndim, 'dimension')}, and is indexed with {len(indices)}", node
            )
        try:
            atomics.check_dtype(operation, array.dtype)
        except TypeError as error:
            run.reject(str(error), node)
        return array.atomic(run.machine, operation, indices, values, mask, run.site(node), used)

    takes = 4 if operation == "cas" else 3
    return Intrinsic(compute, takes, takes, "atomic")


def _bits(function: Callable) -> Intrinsic:
    def compute(run: Run, node: ast.Call, mask: Mask, used: bool, value):
        if value.dtype.kind not in "iu" or value.dtype.itemsize < 4:
            run.reject(f"{ast.unparse(node.func)} takes an integer of 32 or 64 bits, got {value.dtype.name}", node)
        return function(value)

    return Intrinsic(compute, 1, 1)


def _unsigned(value):
    return value.view(np.dtype(f"u{value.dtype.itemsize}"))


def _population(value):
    return np.bitwise_count(_unsigned(value)).astype(value.dtype)


def _leading_zeros(value):
    bits = _unsigned(value)
    for shift in (1, 2, 4, 8, 16, 32)[: 5 if value.dtype.itemsize == 4 else 6]:  # all ones below the highest one
        bits = bits | (bits >> bits.dtype.type(shift))
    return np.bitwise_count(~bits).astype(value.dtype)


def _first_set(value):
    bits = _unsigned(value)
    lowest = bits & (~bits + bits.dtype.type(1))
    return np.where(bits == 0, 0, np.bitwise_count(lowest - bits.dtype.type(1)) + 1).astype(np.uint32)[()]


def _reversed_bits(value):
    # Numba reverses 32 bits, except of a uint64.
    bits = value if value.dtype == types.UINT64 else types.cast(value, np.dtype("u4"))
    width = bits.dtype.itemsize * 8
    result = bits & bits.dtype.type(0)
    for place in range(width):
        bit = (bits >> bits.dtype.type(place)) & bits.dtype.type(1)
        result = result | (bit << bits.dtype.type(width - 1 - place))
    return result


def _fma(run: Run, node: ast.Call, mask: Mask, used: bool, *values):
    if any(v.dtype not in (types.FLOAT32, types.FLOAT64) for v in values):
        run.reject("cuda.fma takes three floats", node)
    return mathlib.fma(*values)


def _select(run: Run, node: ast.Call, mask: Mask, used: bool, condition, a, b):
    if condition.dtype != types.BOOL:
        run.reject(f"cuda.selp takes a bool first, got {condition.dtype.name}", node)
    if a.dtype != b.dtype or a.dtype.itemsize == 1 or a.dtype == types.FLOAT16:
        run.reject(f"cuda.selp takes two values of one type of 16 to 64 bits, got {a.dtype.name}, {b.dtype.name}", node)
    return np.where(condition, a, b)[()]


INTRINSICS: dict[str, Intrinsic] = {
    "grid": Intrinsic(_grid, 1, 1),
    "gridsize": Intrinsic(_gridsize, 1, 1),
    "shared.array": Intrinsic(_shared_array, 0, 2, "shape"),
    "local.array": Intrinsic(_local_array, 0, 2, "shape"),
    "const.array_like": Intrinsic(_constant_array, 1, 1, "array"),
    "threadfence": Intrinsic(_fence, 0, 0),
    "threadfence_block": Intrinsic(_block_fence, 0, 0),
    "threadfence_system": Intrinsic(_fence, 0, 0),
    "popc": _bits(_population),
    "clz": _bits(_leading_zeros),
    "ffs": _bits(_first_set),
    "brev": _bits(_reversed_bits),
    "fma": Intrinsic(_fma, 3, 3),
    "selp": Intrinsic(_select, 3, 3),
    **{f"atomic.{operation}": _atomic(operation) for operation in sorted(atomics.OPERATIONS)},
    **{name: Intrinsic(*entry) for name, entry in collectives.INTRINSICS.items()},
}
NAMES = ", ".join(sorted(INTRINSICS))
