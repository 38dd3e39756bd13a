"""The machine: the grid of blocks, and the chunk of them whose threads run in lock step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from studylib.gpu.emulator.mask import Mask
from studylib.gpu.emulator.observer import Observer
from studylib.gpu.findings import KernelError
from studylib.gpu.hardware import WARP, warps_in

INDICES = 24  # vectors whose bounds and sums are kept: what a loop body uses, and few enough to stay in the cache
CHUNK = 1 << 14  # lanes that run together: as many as keep a few vectors of 8 bytes in the second-level cache


@dataclass(frozen=True)
class Grid:
    """The launch: extents of the grid in blocks and of the block in threads, 1 to 3 numbers each."""

    grid: tuple[int, ...]
    block: tuple[int, ...]
    shared_bytes: int = 0  # dynamic shared memory per block

    @cached_property
    def blocks(self) -> int:
        return math.prod(self.grid)

    @cached_property
    def threads(self) -> int:
        """Threads per block."""
        return math.prod(self.block)

    @cached_property
    def is_line(self) -> bool:
        """Whether blocks and threads lie along x alone."""
        return self.blocks == self.grid[0] and self.threads == self.block[0]

    def extent(self, name: str, axis: int) -> int:
        dims = self.grid if name in ("blockIdx", "gridDim") else self.block
        return dims[axis] if axis < len(dims) else 1

    def name(self, thread: int) -> str:
        """How a message names a thread, counted over the whole grid."""
        block, within = divmod(int(thread), self.threads)
        return f"thread {_position(within, self.block)} of block {_position(block, self.grid)}"

    def thread_name(self, thread: int) -> str:
        """How a message names a thread within its block."""
        return f"thread {_position(int(thread) % self.threads, self.block)}"


def _position(number: int, extents: tuple[int, ...]) -> str:
    parts = []
    for extent in extents:
        number, part = divmod(number, extent)
        parts.append(str(part))
    return parts[0] if len(parts) == 1 else f"({', '.join(parts)})"


class Index:
    """A vector of integers as int64, with what is known of it: indices recur, above all in loops."""

    def __init__(self, vector: np.ndarray, start: int | None = None):
        self.source = vector
        self.vector = vector.astype(np.int64, copy=False)
        self._sums: dict = {}
        self._asked = 0
        if start is not None:  # known to be consecutive
            self.low, self.high, self._start, self._asked = start, start + len(vector) - 1, start, 1

    @cached_property
    def low(self) -> int:
        return int(self.source.min())

    @cached_property
    def high(self) -> int:
        return int(self.source.max())

    def any_below(self, bound: int, mask: Mask) -> bool:
        """Whether any lane of the mask holds less than the bound, which is no more than 0."""
        return self.low < bound and bool(((self.source < bound) & mask.lanes).any())

    def any_from(self, bound: int, mask: Mask) -> bool:
        """Whether any lane of the mask holds the bound or more."""
        return self.high >= bound and bool(((self.source >= bound) & mask.lanes).any())

    def start(self) -> int | None:
        """The first number, if they are consecutive; None if not, or if nobody has asked before.

        To find out takes longer than it saves once.
        """
        self._asked += 1
        return self._start if self._asked > 1 else None

    @cached_property
    def _start(self) -> int | None:
        vector = self.vector
        if self.high - self.low != len(vector) - 1 or vector[0] != self.low or vector[-1] != self.high:
            return None
        step = len(vector) // 61 + 1  # a sample first, which most others fail
        is_run = (np.diff(vector[::step]) == step).all() and (np.diff(vector) == 1).all()
        return self.low if is_run else None

    def times_plus(self, factor: int, other: Index | None) -> Index:
        """`self * factor + other`; None is nothing."""
        if factor == 1 and other is None:
            return self
        key = factor, id(other)
        found = self._sums.get(key)
        if found is None:
            if len(self._sums) == 8:
                self._sums.clear()
            result = self.vector if factor == 1 else self.vector * factor
            # The other is kept so that its id stays its own.
            found = self._sums[key] = (other, Index(result if other is None else result + other.vector))
        return found[1]


class Machine:
    """A chunk of blocks, `first` to `first + blocks - 1`, with their lanes, barriers and block-wide memory."""

    def __init__(self, grid: Grid, first: int, blocks: int, observer: Observer | None = None):
        self.grid, self.first, self.blocks = grid, first, blocks
        self.observer = observer or Observer()
        self.lanes = blocks * grid.threads
        self.lane = np.arange(self.lanes)
        self.everyone = Mask(np.ones(self.lanes, bool))
        self.returned = np.zeros(self.lanes, bool)
        self.memories: dict = {}  # shared arrays by the call that declares them, and arrays of the module
        self.changes = 0  # how often memory was written
        self.printed: list[str] = []
        self._registers: dict[tuple[str, int], np.ndarray] = {}
        self._indices: dict[int, Index] = {}

    @cached_property
    def thread(self) -> np.ndarray:
        """The lane's thread, counted over the whole grid."""
        first = self.first * self.grid.threads
        thread = np.arange(first, first + self.lanes)
        self._indices[id(thread)] = Index(thread, first)
        return thread

    @cached_property
    def within(self) -> np.ndarray:
        """The lane's thread, counted within its block."""
        return np.tile(np.arange(self.grid.threads), self.blocks)

    @cached_property
    def block(self) -> np.ndarray:
        """The lane's block, counted within the chunk."""
        return np.repeat(np.arange(self.blocks), self.grid.threads)

    @cached_property
    def lane_id(self) -> np.ndarray:
        """The lane's place in its warp."""
        return self.within % WARP

    def register(self, name: str, axis: int):
        """`threadIdx`, `blockIdx` (vectors), `blockDim` or `gridDim` (scalars) along an axis, int32."""
        extent = self.grid.extent(name, axis)
        if name in ("blockDim", "gridDim"):
            return np.int32(extent)
        if extent == 1:
            return np.int32(0)
        if (name, axis) not in self._registers:
            part = self._part(name, axis).astype(np.int32)
            times = self.grid.threads if name == "blockIdx" else self.blocks
            self._registers[name, axis] = np.repeat(part, times) if name == "blockIdx" else np.tile(part, times)
        return self._registers[name, axis]

    def _part(self, name: str, axis: int) -> np.ndarray:
        """`blockIdx` of each block of the chunk, or `threadIdx` of each thread of a block."""
        inner = math.prod(self.grid.extent(name, a) for a in range(axis))
        first, count = (self.first, self.blocks) if name == "blockIdx" else (0, self.grid.threads)
        return np.arange(first, first + count) // inner % self.grid.extent(name, axis)

    def global_position(self, axis: int):
        """`cuda.grid` along an axis, int64."""
        key, extent = ("grid", axis), self.grid.extent("blockDim", axis)
        if extent * self.grid.extent("gridDim", axis) == 1:
            return np.int64(0)
        if self.grid.is_line and axis == 0:
            return self.thread
        if key not in self._registers:
            blocks = self._part("blockIdx", axis) * extent
            self._registers[key] = np.add.outer(blocks, self._part("threadIdx", axis)).reshape(-1)
        return self._registers[key]

    def global_extent(self, axis: int):
        """`cuda.gridsize` along an axis, int64."""
        return np.int64(self.grid.extent("gridDim", axis) * self.grid.extent("blockDim", axis))

    def report(self, error: KernelError) -> None:
        """Something is wrong that a check collects; without a check the run ends."""
        self.observer.report(error)

    def index(self, vector: np.ndarray) -> Index:
        """The index vector with what is known of it, kept for the last vectors."""
        found = self._indices.get(id(vector))
        if found is None:
            if len(self._indices) == INDICES:
                self._indices.clear()
            found = self._indices[id(vector)] = Index(vector)
        return found

    def warps(self, values: np.ndarray, fill) -> np.ndarray:
        """A vector as rows of one warp each, (warps, 32); lanes that a block's last warp lacks hold `fill`."""
        missing = -self.grid.threads % WARP
        if missing:
            padding = np.full((self.blocks, missing), fill, values.dtype)
            values = np.concatenate([values.reshape(self.blocks, self.grid.threads), padding], axis=1)
        return values.reshape(-1, WARP)

    def active_warps(self, mask: Mask) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(the mask as rows of warps; whether any lane of each warp is in it; whether all 32 are)."""
        if mask.warps is None:
            rows = self.warps(mask.lanes, False)
            mask.warps = rows, np.logical_or.reduce(rows, axis=1), np.logical_and.reduce(rows, axis=1)
        return mask.warps

    def unwarp(self, rows: np.ndarray) -> np.ndarray:
        """The inverse of `warps`."""
        if self.grid.threads % WARP == 0:
            return rows.reshape(-1)
        width = warps_in(self.grid.threads) * WARP
        return rows.reshape(self.blocks, width)[:, : self.grid.threads].reshape(-1)

    def by_block(self, values: np.ndarray) -> np.ndarray:
        """A vector as rows of one block each, (blocks, threads)."""
        return values.reshape(self.blocks, self.grid.threads)

    def name(self, lane: int) -> str:
        return self.grid.name(self.first * self.grid.threads + int(lane))


def chunks(grid: Grid, one_by_one: bool = False) -> list[tuple[int, int]]:
    """(first block, number of blocks) of each chunk."""
    step = 1 if one_by_one else max(1, CHUNK // grid.threads)
    return [(first, min(step, grid.blocks - first)) for first in range(0, grid.blocks, step)]
