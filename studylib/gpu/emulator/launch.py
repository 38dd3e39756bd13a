"""One launch of a kernel on the emulator: its arguments, its grid, and the run over all chunks of blocks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import numpy as np

from studylib.gpu.device import DeviceArray
from studylib.gpu.emulator.endless import waits
from studylib.gpu.emulator.frame import Frame
from studylib.gpu.emulator.inference import TypedArray, abstract
from studylib.gpu.emulator.lowering import lowered
from studylib.gpu.emulator.machine import Grid, Machine, chunks
from studylib.gpu.emulator.memory import Array, Memory
from studylib.gpu.emulator.observer import Observer
from studylib.gpu.emulator.program import Program, program
from studylib.gpu.findings import KernelError
from studylib.gpu.hardware import MAX_BLOCK, MAX_GRID, MAX_THREADS_PER_BLOCK
from studylib.gpu.language import typing_rules as types
from studylib.gpu.language.source import Source
from studylib.words import counted

LIMITS = {"block": MAX_BLOCK, "grid": MAX_GRID}
MAX_PRINTED = 1000  # lines of print() a launch; a GPU keeps one megabyte


def function_of(kernel) -> FunctionType:
    """The Python function of a kernel: of what @cuda.jit returned, or the function itself."""
    function = getattr(kernel, "py_func", getattr(kernel, "fn", kernel))
    if not isinstance(function, FunctionType):
        raise TypeError(f"a kernel is a function with @cuda.jit, got {type(kernel).__name__}")
    return function


def make_grid(grid, block, shared_bytes: int = 0) -> Grid:
    """The checked launch configuration; raises TypeError or ValueError for what no GPU takes."""
    extents = {}
    for name, given in (("grid", grid), ("block", block)):
        dims = given if isinstance(given, tuple | list) else (given,)
        if not 1 <= len(dims) <= 3 or not all(isinstance(n, int | np.integer) for n in dims):
            raise TypeError(f"the {name} must be an integer or a tuple of 1 to 3 integers, got {given!r}")
        for extent, limit in zip(dims, LIMITS[name], strict=False):
            if not 1 <= extent <= limit:
                what = "blocks" if name == "grid" else "threads"
                raise ValueError(f"a {name} of {given!r}: the number of {what} along an axis is 1 to {limit:,}")
        extents[name] = tuple(int(n) for n in dims)
    if math.prod(extents["block"]) > MAX_THREADS_PER_BLOCK:
        raise ValueError(f"{math.prod(extents['block']):,} threads per block; the limit is {MAX_THREADS_PER_BLOCK:,}")
    if not isinstance(shared_bytes, int | np.integer) or shared_bytes < 0:
        raise ValueError(f"dynamic shared memory is a number of bytes, got {shared_bytes!r}")
    return Grid(extents["grid"], extents["block"], int(shared_bytes))


@dataclass(eq=False)
class Argument:
    """An argument as the kernel sees it. host: the NumPy array to copy back to when the kernel has ended."""

    name: str
    value: Any  # a number, a tuple of numbers, or an Array
    writable: bool = True
    host: np.ndarray | None = None

    @property
    def typed(self):
        """The argument as the type inference sees it."""
        if isinstance(self.value, Array):
            return TypedArray(frozenset([self.value.memory.outline]), self.value.ndim, self.writable)
        return abstract(self.value)

    def result(self) -> np.ndarray:
        """What a host array's copy holds now."""
        assert self.host is not None
        order = "C" if self.host.flags.c_contiguous else "F"
        return self.value.memory.data.reshape(self.host.shape, order=order)


def bind(source: Source, args: tuple) -> list[Argument]:
    """The arguments of a launch; raises TypeError or ValueError for what Numba does not take.

    A NumPy array is copied, as to a GPU; a DeviceArray is worked on in place.
    """
    if len(args) != len(source.parameters):
        raise TypeError(
            f"{source.name} takes {counted(len(source.parameters), 'argument')} ({', '.join(source.parameters)}), "
            f"got {len(args)}"
        )
    memories: dict[int, Memory] = {}
    return [_argument(name, value, source, memories) for name, value in zip(source.parameters, args, strict=True)]


def _argument(name: str, value, source: Source, memories: dict[int, Memory]) -> Argument:
    if isinstance(value, DeviceArray):
        known = memories.get(id(value))
        if known is None:
            known = memories[id(value)] = Memory(name, "global", *value.cells(), value.owner)
        return Argument(name, known.array())
    if isinstance(value, np.ndarray):
        return _host_array(name, value, source)
    try:
        return Argument(name, _no_literals(types.constant(value)))
    except TypeError:
        hint = ": pass np.asarray(...) of it" if hasattr(value, "__len__") and not isinstance(value, str) else ""
        raise TypeError(
            f"{name} of {source.name} is a {type(value).__name__}; a kernel takes NumPy arrays, "
            f"device arrays, numbers and tuples of numbers{hint}"
        ) from None


def _no_literals(value):
    # The compiler does not know the value of an argument.
    if isinstance(value, tuple):
        return tuple(_no_literals(v) for v in value)
    return np.int64(value) if isinstance(value, types.Literal) else value


def _host_array(name: str, value: np.ndarray, source: Source) -> Argument:
    if value.dtype not in types.DTYPES:
        raise TypeError(f"{name} of {source.name} has the type {value.dtype}, which a kernel cannot use")
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{name} of {source.name} is a masked array, and a kernel sees no mask: pass np.ma.filled(...) of it"
        )
    if not 1 <= value.ndim <= 4:
        raise TypeError(f"{name} of {source.name} has {value.ndim} dimensions; 1 to 4 are supported")
    if not (value.flags.c_contiguous or value.flags.f_contiguous):
        raise ValueError(
            f"{name} of {source.name} is not contiguous (strides {value.strides} bytes): "
            "pass np.ascontiguousarray(...) of it"
        )
    memory = Memory(name, "global", *DeviceArray(value.copy(order="K")).cells())
    return Argument(name, memory.array(), value.flags.writeable, value)


def infer(source: Source, grid: Grid, arguments: list[Argument], plain_calls: bool) -> Program:
    """The kernel with its types; raises KernelError for what cannot be compiled."""
    return program(source, grid, {a.name: a.typed for a in arguments}, plain_calls)


def run(program: Program, grid: Grid, arguments: list[Argument], observer: Observer | None = None, parts=None) -> None:
    """Runs the chunks of blocks one after another, then copies the results back.

    observer: sees what happens; without one, what is wrong ends the run. parts: (first block, number of blocks) of the
    chunks to run instead of all.
    """
    values = {a.name: a.value for a in arguments}
    observer, printed, typed = observer or Observer(), 0, program.typed
    try:
        with np.errstate(all="ignore"):
            step = lowered(typed)
            for first, blocks in parts or chunks(grid, waits(typed)):
                machine = Machine(grid, first, blocks, observer)
                observer.begin(machine)
                try:
                    step(Frame(typed, machine, dict(values), is_kernel=True), machine.everyone)
                finally:
                    observer.end()
                    printed = _print(machine.printed, printed)
    except (KernelError, KeyboardInterrupt) as error:
        error.add_note(_left_behind(program, arguments))
        raise
    hosts = [a.host for a in arguments if a.host is not None]
    for argument in arguments:
        if argument.host is not None and _comes_back(program, argument, hosts):
            argument.host[...] = argument.result()


def _comes_back(program: Program, argument: Argument, hosts: list[np.ndarray]) -> bool:
    """Whether the kernel has changed the array, or the GPU would copy it back over one that overlaps it."""
    if argument.name in program.stored:
        return True
    overlaps = sum(np.may_share_memory(argument.host, host) for host in hosts) > 1  # itself is one
    return overlaps and argument.writable


def _print(lines: list[str], before: int) -> int:
    for line in lines[: max(0, MAX_PRINTED - before)]:
        print(line)
    if before <= MAX_PRINTED < before + len(lines):
        print(f"... more than {MAX_PRINTED:,} lines printed by this launch")
    return before + len(lines)


def _left_behind(program: Program, arguments: list[Argument]) -> str:
    device = [a.name for a in arguments if a.host is None and a.name in program.stored]
    note = "The kernel did not finish: NumPy arrays are as they were before the launch"
    return note + (f"; the device arrays {', '.join(device)} may be partly written." if device else ".")


def launch(kernel, grid, block, args: tuple, shared_bytes: int = 0) -> None:
    """Runs a kernel on the emulator without checks; raises what stops it."""
    function = function_of(kernel)
    source = Source(function)
    geometry = make_grid(grid, block, shared_bytes)
    arguments = bind(source, args)
    try:
        program = infer(source, geometry, arguments, plain_calls=function is kernel)
        run(program, geometry, arguments)
    except KernelError as error:
        raise error.with_traceback(None) from None  # what the emulator was doing helps nobody
