"""The table of `cuda.*` names that a kernel can call: positions, arrays, atomics, bits and shuffles.

A handler takes the interpreter, the call, the mask of lanes that reach it, and whether its result is used.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import numpy as np

from studylib.gpu.emulator import atomics, collectives
from studylib.gpu.emulator.mask import Mask
from studylib.gpu.findings import counted
from studylib.gpu.language import mathlib
from studylib.gpu.language import typing_rules as types


def _grid(run, node: ast.Call, mask: Mask, used: bool):
    return _positions(run, node, mask, run.machine.global_position)


def _gridsize(run, node: ast.Call, mask: Mask, used: bool):
    return _positions(run, node, mask, run.machine.global_extent)


def _positions(run, node: ast.Call, mask: Mask, along: Callable[[int], Any]):
    (dimensions,) = run.numbers(node, mask, 1, 1)
    if not isinstance(dimensions, types.Literal) or not 1 <= dimensions <= 3:
        run.reject(f"{ast.unparse(node.func)} takes the constant 1, 2 or 3", node)
    parts = tuple(along(axis) for axis in range(dimensions))
    return parts[0] if dimensions == 1 else parts


def _shared_array(run, node: ast.Call, mask: Mask, used: bool):
    return run.declare("shared", node, mask)


def _local_array(run, node: ast.Call, mask: Mask, used: bool):
    return run.declare("local", node, mask)


def _constant_array(run, node: ast.Call, mask: Mask, used: bool):
    if len(node.args) != 1:
        run.reject("cuda.const.array_like takes one argument", node)
    array = run.array(node.args[0], mask)
    if array.memory.space != "constant":
        run.reject("cuda.const.array_like takes an array of the module, not an argument of the kernel", node)
    return array


def _fence(run, node: ast.Call, mask: Mask, used: bool):
    run.numbers(node, mask, 0, 0)
    run.machine.observer.fence(run.machine, mask)


def _block_fence(run, node: ast.Call, mask: Mask, used: bool):
    run.numbers(node, mask, 0, 0)  # orders one thread's accesses; the barriers of the block do the rest


def _atomic(operation: str):
    operands = 2 if operation == "cas" else 1

    def handler(run, node: ast.Call, mask: Mask, used: bool):
        if len(node.args) != operands + 2 or node.keywords:
            run.reject(f"{ast.unparse(node.func)} takes {operands + 2} arguments", node)
        array = run.array(node.args[0], mask)
        if array.memory.space not in ("global", "shared"):
            run.reject(f"atomics work in global and shared memory; {array.memory.name} is {array.memory.space}", node)
        indices = run.as_indices(run.eval(node.args[1], mask), node.args[1])
        if len(indices) != array.ndim:
            run.reject(
                f"{array.memory.name} has {counted(array.ndim, 'dimension')}, and is indexed with {len(indices)}", node
            )
        values = [run.number(argument, mask) for argument in node.args[2:]]
        try:
            atomics.check_dtype(operation, array.dtype)
        except TypeError as error:
            run.reject(str(error), node)
        return array.atomic(run.machine, operation, indices, values, mask, run.site(node), used)

    return handler


def _bits(compute: Callable):
    def handler(run, node: ast.Call, mask: Mask, used: bool):
        (value,) = run.numbers(node, mask, 1, 1)
        if value.dtype.kind not in "iu" or value.dtype.itemsize < 4:
            run.reject(f"{ast.unparse(node.func)} takes an integer of 32 or 64 bits, got {value.dtype.name}", node)
        return compute(value)

    return handler


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


def _fma(run, node: ast.Call, mask: Mask, used: bool):
    values = run.numbers(node, mask, 3, 3)
    if any(v.dtype not in (types.FLOAT32, types.FLOAT64) for v in values):
        run.reject("cuda.fma takes three floats", node)
    return mathlib.fma(*values)


def _select(run, node: ast.Call, mask: Mask, used: bool):
    condition, a, b = run.numbers(node, mask, 3, 3)
    if condition.dtype != types.BOOL:
        run.reject(f"cuda.selp takes a bool first, got {condition.dtype.name}", node)
    if a.dtype != b.dtype or a.dtype.itemsize == 1 or a.dtype == types.FLOAT16:
        run.reject(f"cuda.selp takes two values of one type of 16 to 64 bits, got {a.dtype.name}, {b.dtype.name}", node)
    return np.where(condition, a, b)[()]


INTRINSICS: dict[str, Callable] = {
    "grid": _grid,
    "gridsize": _gridsize,
    "shared.array": _shared_array,
    "local.array": _local_array,
    "const.array_like": _constant_array,
    "threadfence": _fence,
    "threadfence_block": _block_fence,
    "threadfence_system": _fence,
    "popc": _bits(_population),
    "clz": _bits(_leading_zeros),
    "ffs": _bits(_first_set),
    "brev": _bits(_reversed_bits),
    "fma": _fma,
    "selp": _select,
    **{f"atomic.{operation}": _atomic(operation) for operation in sorted(atomics.OPERATIONS)},
    **collectives.INTRINSICS,
}
NAMES = ", ".join(sorted(INTRINSICS))
