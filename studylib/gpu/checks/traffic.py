"""Counts what a warp's memory request costs: 32-byte sectors in global memory, bank passes in shared memory.

Shared memory has 32 banks of 4 bytes. A pass serves each bank one word; lanes that want the same word share it.
Elements of 8 bytes are served half a warp at a time, so that they need at least two passes.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from studylib.gpu.emulator.machine import Index, Machine
from studylib.gpu.emulator.mask import Mask
from studylib.gpu.emulator.memory import Cells, Memory
from studylib.gpu.hardware import BANKS, SECTOR, WARP, WORD

KEPT = 64  # costs


def sectors(rows: np.ndarray, itemsize: int, active: np.ndarray | None = None) -> int:
    """The sectors that requests touch, all together; rows: (requests, 32) element numbers from an aligned address."""
    lines = rows * itemsize // SECTOR
    if active is not None:
        lines = np.where(active, lines, -1)
    lines = np.sort(lines, axis=1)
    return int(np.count_nonzero(lines[:, 1:] != lines[:, :-1]) + np.count_nonzero(lines[:, 0] >= 0))


def passes(rows: np.ndarray, itemsize: int, active: np.ndarray | None = None) -> int:
    """The bank passes that requests need, all together; rows as for `sectors`."""
    unit = max(WORD, itemsize)
    banks = BANKS * WORD // unit  # of the size of an element, if that is larger than a word
    words = rows * itemsize // unit
    if active is not None:
        words = np.where(active, words, -1)
    words = np.sort(words.reshape(-1, min(WARP, banks)), axis=1)
    new = words >= 0
    new[:, 1:] &= words[:, 1:] != words[:, :-1]
    row, column = np.nonzero(new)
    load = np.bincount(row * banks + words[row, column] % banks, minlength=len(words) * banks)
    return int(load.reshape(-1, banks).max(axis=1).sum())


def _period(space: str, size: int) -> int:
    """How many elements lie in a sector or in a word, one at least."""
    return max(1, (SECTOR if space == "global" else WORD) // size)


@lru_cache(maxsize=1 << 12)
def _cost(request: bytes, lanes: bytes, space: str, size: int) -> int:
    """The cost of one request, from its 32 element numbers and, unless all take part, its active lanes."""
    active = np.frombuffer(lanes, bool)[None] if lanes else None
    return (sectors if space == "global" else passes)(np.frombuffer(request, np.int64)[None], size, active)


class Traffic:
    """What requests cost; a request that the same lanes make again is looked up."""

    def __init__(self) -> None:
        self._costs: dict[tuple, tuple[Index, Mask, tuple[int, int]]] = {}

    def cost(self, machine: Machine, memory: Memory, cells: int | Cells, mask: Mask) -> tuple[int, int]:
        """(warp requests, their sectors or passes) of one access by the lanes of a mask."""
        size = memory.dtype.itemsize
        if isinstance(cells, int):
            active, some, _ = machine.active_warps(mask)
            requests = int(np.count_nonzero(some))
            if memory.space == "shared" and size > WORD:
                return requests, int(np.count_nonzero(active.reshape(-1, WARP // 2).any(axis=1)))
            return requests, requests
        # Moving a request by whole sectors (words) does not change its cost.
        shift = (cells.constant + memory.first_byte // size) % _period(memory.space, size)
        key = id(cells.base), id(mask), memory.space, size, shift
        if key not in self._costs:
            if len(self._costs) == KEPT:
                self._costs.clear()
            cost = self._worked_out(machine, cells.base, shift, memory.space, size, mask)
            self._costs[key] = cells.base, mask, cost  # both are kept so that their ids stay their own
        return self._costs[key][2]

    def _worked_out(
        self, machine: Machine, base: Index, shift: int, space: str, size: int, mask: Mask
    ) -> tuple[int, int]:
        if mask.full and machine.grid.threads % WARP == 0 and (start := base.start()) is not None:
            warps = machine.lanes // WARP  # each is a number of whole sectors and words after the one before
            first = np.arange(start + shift, start + shift + WARP)
            return warps, warps * self._alike(first[None], None, space, size)
        active, some, every = machine.active_warps(mask)
        requests, full = int(np.count_nonzero(some)), int(np.count_nonzero(every))
        rows, total = machine.warps(base.vector + shift if shift else base.vector, 0), 0
        if full:
            total += self._alike(rows if full == len(rows) else rows[every], None, space, size)
        if full < requests:
            part = some & ~every
            total += self._alike(rows[part], active[part], space, size)
        return requests, total

    def _alike(self, rows: np.ndarray, active: np.ndarray | None, space: str, size: int) -> int:
        """The cost of requests; if they all have one pattern, it is worked out once for each place in a sector."""
        count = sectors if space == "global" else passes
        lane, lanes = 0, b""
        if active is not None:
            lane, lanes = int(active[0].argmax()), active[0].tobytes()
            if not (active == active[0]).all():
                return count(rows, size, active)
        first = rows[:, lane]
        relative = rows - first[:, None]
        if active is not None:
            relative[:, ~active[0]] = 0
        pattern = relative[0]
        if not (relative == pattern).all():
            return count(rows, size, active)
        period = _period(space, size)
        shifts = np.bincount(first % period)
        lowest = int(pattern.min()) // period * period
        return sum(
            int(shifts[shift]) * _cost((pattern + (shift - lowest)).tobytes(), lanes, space, size)
            for shift in np.flatnonzero(shifts)
        )
