"""Watches a run: every warp request is counted and checked, every barrier noted, every finding kept."""

from __future__ import annotations

import math
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from studylib.gpu.checks.races import Races
from studylib.gpu.checks.traffic import Traffic
from studylib.gpu.emulator.machine import Grid, Machine
from studylib.gpu.emulator.mask import Mask
from studylib.gpu.emulator.memory import Memory
from studylib.gpu.emulator.observer import Observer
from studylib.gpu.findings import Finding, KernelError, Site, stop


@dataclass(eq=False)
class Count:
    """Requests of one source position and what they cost."""

    site: Site
    array: str
    space: str
    op: str
    requests: int = 0
    cost: int = 0  # sectors in global memory, passes in shared memory


class Checks(Observer):
    """The observer of a checked launch. arrays: in global memory; written: those that the kernel may write."""

    def __init__(self, grid: Grid, arrays: list[Memory], written: set[Memory]):
        self.findings: dict[tuple, Finding] = {}
        self.counts: dict[tuple, Count] = {}
        self.reads = self.writes = 0  # of global memory, the most that any thread did
        self._traffic = Traffic()
        self._races = Races(grid, arrays, written, self._report_race)
        self._written = Written()

    def begin(self, machine: Machine) -> None:
        self._races.begin(machine)
        self._per_thread = PerThread(machine), PerThread(machine)

    def end(self) -> None:
        """The chunk has ended, or was ended."""
        reads, writes = self._per_thread
        self.reads, self.writes = max(self.reads, reads.most()), max(self.writes, writes.most())

    # -- what happens

    def load(self, machine: Machine, memory: Memory, cells, mask: Mask, site: Site) -> None:
        if memory.space in ("shared", "local"):
            self._check_written(machine, memory, cells, mask, site)
        if memory.space in ("global", "shared"):
            self._count(machine, memory, cells, mask, site, "load")
            self._races.load(memory, cells, mask, site)

    def store(self, machine: Machine, memory: Memory, cells, value, mask: Mask, site: Site) -> None:
        if memory.space in ("shared", "local"):
            self._written.mark(memory, cells, mask)
        if memory.space in ("global", "shared"):
            self._count(machine, memory, cells, mask, site, "store")
            self._races.store(memory, cells, value, mask, site)

    def atomic(self, machine: Machine, memory: Memory, cells, mask: Mask, site: Site, needs_old: bool) -> None:
        if memory.space == "shared":
            self._check_written(machine, memory, cells, mask, site)
        self._count(machine, memory, cells, mask, site, "atomic")
        self._races.atomic(memory, cells, mask, site, needs_old)

    def barrier(self, machine: Machine, mask: Mask) -> None:
        self._races.block_barrier(mask)

    def warp_barrier(self, machine: Machine, mask: Mask) -> None:
        self._races.warps_barrier(mask)

    def fence(self, machine: Machine, mask: Mask) -> None:
        self._races.fence(mask)

    def report(self, error: KernelError) -> None:
        finding = error.finding
        self.findings.setdefault((finding.kind, finding.line, finding.column), finding)

    # -- what it means

    def _report_race(self, error: KernelError, what: str) -> None:
        finding = error.finding
        self.findings.setdefault(("race", finding.line, finding.column, what), finding)

    def _count(self, machine: Machine, memory: Memory, cells, mask: Mask, site: Site, op: str) -> None:
        key = id(site), memory.name, op
        count = self.counts.get(key)
        if count is None:
            count = self.counts[key] = Count(site, memory.name, memory.space, op)
        requests, cost = self._traffic.cost(machine, memory, cells, mask)
        count.requests += requests
        count.cost += cost
        if memory.space == "global":
            reads, writes = self._per_thread
            if op != "store":
                reads.add(mask)
            if op != "load":
                writes.add(mask)

    def _check_written(self, machine: Machine, memory: Memory, cells, mask: Mask, site: Site) -> None:
        written = self._written.cells(memory)
        if written is None:
            return
        if isinstance(cells, int) and memory.space == "local":
            unset = mask.lanes & ~written[cells]
        else:
            all_cells = cells if isinstance(cells, int) else cells.all
            unset = ~written.reshape(-1).take(all_cells, mode="clip") & mask.lanes
        if not unset.any():
            return
        lane = int(unset.argmax())
        cell = cells if isinstance(cells, int) else int(cells.all[lane])
        if memory.space == "local" and not isinstance(cells, int):
            cell //= machine.lanes
        count = int(unset.sum()) - 1
        more = f" and {count:,} more" if count else ""
        message = f"{memory.space} {memory.describe(cell)} is read before it is written, in {machine.name(lane)}{more}"
        self.report(stop("uninitialised-read", message, site))


class PerThread:
    """How often each thread of a chunk did something."""

    def __init__(self, machine: Machine):
        self._times: dict[Mask, int] = {}
        self._counts = np.zeros(machine.lanes, np.int64)

    def add(self, mask: Mask) -> None:
        """The lanes of the mask do it once more."""
        self._times[mask] = self._times.get(mask, 0) + 1
        if len(self._times) > 16:
            self._add_up()

    def most(self) -> int:
        """The most that any thread did."""
        self._add_up()
        return int(self._counts.max(initial=0))

    def _add_up(self) -> None:
        for mask, times in self._times.items():
            self._counts += times if mask.full else mask.lanes * times
        self._times.clear()


class Written:
    """Which cells of shared and local arrays were ever written; an array that is gone is forgotten."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Memory, np.ndarray | None] = WeakKeyDictionary()

    def cells(self, memory: Memory) -> np.ndarray | None:
        """A bool for each cell, shaped as the memory's data; None once all were written."""
        if memory not in self._known:
            cells = np.zeros(memory.data.shape, bool)
            if memory.spacing:  # the cells between the blocks' copies do not count
                cells.reshape(-1, memory.spacing)[:, math.prod(memory.shape) :] = True
            self._known[memory] = cells
        known = self._known[memory]
        if known is not None and known.all():
            known = self._known[memory] = None
        return known

    def mark(self, memory: Memory, cells, mask: Mask) -> None:
        """These cells are written by the lanes of the mask."""
        written = self.cells(memory)
        if written is None:
            return
        if isinstance(cells, int) and memory.space == "local":
            written[cells] |= mask.lanes
        elif isinstance(cells, int):
            written[cells] = True
        else:
            cells.write(written.reshape(-1), True, mask)
