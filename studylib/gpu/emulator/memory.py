"""Arrays in global, shared, local and constant memory, as the threads of a chunk of blocks see them."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np

from studylib.gpu.emulator import atomics
from studylib.gpu.emulator.machine import Index, Machine
from studylib.gpu.emulator.mask import Mask
from studylib.gpu.findings import Site, stop
from studylib.gpu.hardware import BANKS
from studylib.gpu.language.typing_rules import cast
from studylib.words import counted


class Cells:
    """The cells that the lanes access, one each: `base + constant`. In idle lanes they mean nothing."""

    def __init__(self, base: Index, constant: int = 0):
        self.base = base
        self.constant = constant

    @cached_property
    def all(self) -> np.ndarray:
        """The cell of each lane."""
        return self.base.vector + self.constant if self.constant else self.base.vector

    def take(self, mask: Mask) -> np.ndarray:
        """The cell of each lane of the mask."""
        if mask.full:
            return self.all
        cells = self.base.vector[mask.lanes]
        return cells + self.constant if self.constant else cells

    def read(self, data: np.ndarray) -> np.ndarray:
        """What the cells hold, a vector; in idle lanes it means nothing."""
        start, count = self.base.start(), len(self.base.vector)
        if start is not None and 0 <= start + self.constant <= len(data) - count:
            return data[start + self.constant : start + self.constant + count].copy()
        # The live lanes' cells lie at or behind the constant.
        return data[self.constant :].take(self.base.vector, mode="clip")

    def write(self, data: np.ndarray, value, mask: Mask) -> None:
        """The lanes of the mask write a scalar or a vector; of several in one cell the last one stays."""
        if not mask.full:
            data[self.take(mask)] = value if np.ndim(value) == 0 else value[mask.lanes]
        elif (start := self.base.start()) is not None:
            data[start + self.constant : start + self.constant + len(self.base.vector)] = value
        else:
            data[self.constant :][self.base.vector] = value


def taken(cells: int | Cells, mask: Mask) -> np.ndarray:
    """The cells of the lanes of a mask, a vector."""
    return np.full(mask.count, cells) if isinstance(cells, int) else cells.take(mask)


class Memory:
    """The cells of one array: `data` is 1-D, and an element's cell is the sum of index times stride.

    shape and strides (in elements) are those of the array; for shared memory they are those of one block's
    copy, and `data` holds `spacing` cells for each block of the chunk. owner: a number for the
    allocation, the same in all device arrays that are views of it. first_byte: of cell 0 in it.
    """

    spacing = 0
    offset: int | np.ndarray = 0  # of the copy that a lane sees

    def __init__(self, name: str, space: str, data: np.ndarray, shape, strides, first_byte=0, owner=None):
        self.name, self.space, self.data = name, space, data
        self.shape, self.strides = tuple(shape), tuple(strides)
        self.first_byte, self.owner = first_byte, owner

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype

    def array(self) -> Array:
        """The whole memory as an array."""
        offset = self.offset if isinstance(self.offset, int) else Index(self.offset)
        return Array(self, self.shape, self.strides, offset)

    @cached_property
    def outline(self) -> Memory:
        """The array without its cells: what the type inference knows of it."""
        return Memory(self.name, self.space, np.empty(0, self.dtype), (), ())

    def cells(self, machine: Machine, flat: int | Cells) -> int | Cells:
        """Where in `data` the elements lie."""
        return flat

    def read(self, cells: int | Cells):
        if isinstance(cells, int):
            return self.data[cells]
        return cells.read(self.data)

    def write(self, cells: int | Cells, value, mask: Mask) -> None:
        if isinstance(cells, int):
            self.data[cells] = value if np.ndim(value) == 0 else value[mask.indices[-1]]
        else:
            cells.write(self.data, value, mask)

    def index(self, cells: np.ndarray) -> list[np.ndarray]:
        """The indices, one vector for each axis, of the elements in these cells."""
        left = cells % self.spacing if self.spacing else cells
        index = [np.zeros_like(left)] * len(self.shape)
        for axis in sorted(range(len(self.shape)), key=lambda a: -self.strides[a]):
            if self.strides[axis] > 0 and self.shape[axis] > 1:
                index[axis], left = np.divmod(left, self.strides[axis])
        return index

    def elements(self, cells: np.ndarray) -> np.ndarray:
        """The numbers of the elements in these cells, counted in C order."""
        strides = row_strides(self.shape)
        return sum((i * s for i, s in zip(self.index(cells), strides, strict=True)), np.zeros_like(cells))

    def describe(self, cell: int) -> str:
        index = self.index(np.asarray([cell]))
        return f"{self.name}[{', '.join(str(int(i[0])) for i in index)}]"


class SharedMemory(Memory):
    """One copy for each block, filled with what no kernel should rely on."""

    def __init__(self, name: str, dtype: np.dtype, shape: tuple[int, ...], machine: Machine):
        # A whole number of bank rows apart, so that every block's copy starts at bank 0, as on the GPU.
        self.spacing = -(-max(1, math.prod(shape)) // BANKS) * BANKS
        super().__init__(name, "shared", _garbage(self.spacing * machine.blocks, dtype), shape, row_strides(shape))
        self.offset = 0 if machine.blocks == 1 else machine.block * self.spacing


class LocalMemory(Memory):
    """One copy for each thread; `data` is (elements, lanes), so that one element of all threads is one row."""

    def __init__(self, name: str, dtype: np.dtype, shape: tuple[int, ...], machine: Machine):
        cells = _garbage(math.prod(shape) * machine.lanes, dtype).reshape(-1, machine.lanes)
        super().__init__(name, "local", cells, shape, row_strides(shape))

    def cells(self, machine: Machine, flat: int | Cells) -> int | Cells:
        if isinstance(flat, int):
            return flat
        return Cells(flat.base.times_plus(machine.lanes, machine.index(machine.lane)), flat.constant * machine.lanes)

    def read(self, cells: int | Cells):
        return self.data[cells].copy() if isinstance(cells, int) else cells.read(self.data.reshape(-1))

    def write(self, cells: int | Cells, value, mask: Mask) -> None:
        if isinstance(cells, int):
            np.copyto(self.data[cells], value, where=mask.lanes, casting="unsafe")
        else:
            cells.write(self.data.reshape(-1), value, mask)


def _garbage(size: int, dtype: np.dtype) -> np.ndarray:
    return np.full(size, np.nan if dtype.kind == "f" else 77, dtype)


def row_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides, in elements, of an array in C order."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def constant_array(machine: Machine, name: str, value: np.ndarray) -> Array:
    """An array of the module as the threads of a chunk see it."""
    key = "constant", id(value)
    if key not in machine.memories:
        data = np.ascontiguousarray(value).reshape(-1)
        machine.memories[key] = Memory(name, "constant", data, value.shape, row_strides(value.shape)).array()
    return machine.memories[key]


class Array:
    """What a name in a kernel stands for: a memory, or part of it (`a[i]` of a 2-D array is a row).

    offset: cell of the first element, an int or one for each lane.
    """

    def __init__(self, memory: Memory, shape, strides, offset: int | Index = 0):
        self.memory, self.shape, self.strides, self.offset = memory, tuple(shape), tuple(strides), offset

    @property
    def dtype(self) -> np.dtype:
        return self.memory.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @cached_property
    def extents(self) -> tuple[np.int64, ...]:
        """The shape as a kernel sees it."""
        return tuple(np.int64(extent) for extent in self.shape)

    def load(self, machine: Machine, indices: tuple, mask: Mask, site: Site):
        """The elements at the indices, or a view if there are fewer indices than dimensions."""
        flat = self._locate(machine, indices, mask, site)
        if len(indices) < len(self.shape):
            offset = flat if isinstance(flat, int) else Index(flat.all)
            return Array(self.memory, self.shape[len(indices) :], self.strides[len(indices) :], offset)
        memory = self.memory
        cells = memory.cells(machine, flat)
        machine.observer.load(machine, memory, cells, mask, site)
        return memory.read(cells)

    def store(self, machine: Machine, indices: tuple, value, mask: Mask, site: Site) -> None:
        cells = self.memory.cells(machine, self._locate(machine, indices, mask, site))
        value = cast(value, self.dtype)
        machine.observer.store(machine, self.memory, cells, value, mask, site)
        self.memory.write(cells, value, mask)
        machine.changes += 1

    def atomic(self, machine: Machine, operation: str, indices: tuple, operands, mask: Mask, site: Site, needs_old):
        """The old values, a vector; None if they are not needed."""
        cells = self._locate(machine, indices, mask, site)
        machine.observer.atomic(machine, self.memory, cells, mask, site, needs_old)
        active = taken(cells, mask)
        values = [cast(mask.take(v), self.dtype) for v in operands]
        old = atomics.apply(operation, self.memory.data, active, values, needs_old)
        if operation == "cas":
            machine.changes += bool((old == values[0]).any())
        elif operation in ("add", "sub", "or_", "xor"):  # with 0 they only look
            machine.changes += bool(values[0].any())
        else:
            machine.changes += 1
        if old is None:
            return None
        result = np.zeros(machine.lanes, self.dtype)
        result[mask.indices] = old
        return result

    def _locate(self, machine: Machine, indices: tuple, mask: Mask, site: Site) -> int | Cells:
        """The cells, an int if they are the same for all lanes."""
        base, constant = (None, self.offset) if isinstance(self.offset, int) else (self.offset, 0)
        for axis, (index, extent, stride) in enumerate(zip(indices, self.shape, self.strides, strict=False)):
            if index.ndim == 0:
                number = int(index)
                if not -extent <= number < extent:
                    raise self._outside(machine, indices, axis, mask.lanes, site)
                constant += (number + extent if number < 0 else number) * stride
                continue
            known = machine.index(index)
            if known.low < 0 or known.high >= extent:
                known = self._inside(machine, indices, axis, mask, site)
            base = known if base is None and stride == 1 else known.times_plus(stride, base)
        return constant if base is None else Cells(base, constant)

    def _inside(self, machine: Machine, indices: tuple, axis: int, mask: Mask, site: Site) -> Index:
        """The index of an axis whose bounds only idle lanes break; negative ones count from the end."""
        known, extent = machine.index(indices[axis]), self.shape[axis]
        if known.any_from(extent, mask) or known.any_below(-extent, mask):
            index = known.source
            outside = (index < -extent) | (index >= extent) if known.low < 0 else index >= extent
            raise self._outside(machine, indices, axis, outside & mask.lanes, site)
        if not known.any_below(0, mask):
            return known
        return Index(np.where(known.vector < 0, known.vector + extent, known.vector))

    def _outside(self, machine: Machine, indices: tuple, axis: int, lanes: np.ndarray, site: Site):
        lane = int(lanes.argmax())
        at = ", ".join(str(int(i) if i.ndim == 0 else int(i[lane])) for i in indices)
        others = int(lanes.sum()) - 1
        more = f" and {others:,} more" if others else ""
        where = f"axis {axis} of its shape {self.shape}" if self.ndim > 1 else f"its shape {self.shape}"
        message = f"{self.memory.name}[{at}] is outside {where}, in {machine.name(lane)}{more}"
        threads, elements = machine.grid.blocks * machine.grid.threads, math.prod(self.shape)
        if self.memory.space == "global" and threads > elements:
            has = counted(elements, "element")
            message += f": the launch has {counted(threads, 'thread')}, {self.memory.name} has {has}"
        return stop("out-of-bounds", message, site)
