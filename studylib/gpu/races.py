"""Finds data races: two accesses to one element, one of them a write, that no barrier puts in order.

Every access is an event with a number. An element remembers its last writer and up to two readers, with their
events. Two accesses by threads of one block are in order if the block passed a barrier between them (or the
warp, for threads of one warp); accesses by different blocks are in order only through `fences`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from studylib.gpu.fences import Fences
from studylib.gpu.findings import KernelError, Site, stop
from studylib.gpu.lanes import Mask
from studylib.gpu.machine import WARP, Grid, Machine
from studylib.gpu.memory import Memory

NOBODY = -1
LOG = 1 << 22  # lanes of reads kept before they are worked into the history


@dataclass(eq=False)
class History:
    """What the elements of one memory remember. Times are events; odd ones (2 * event + 1) are atomics."""

    writer: np.ndarray
    write_time: np.ndarray
    readers: tuple[np.ndarray, np.ndarray]
    read_times: tuple[np.ndarray, np.ndarray]
    log: list[tuple[np.ndarray, np.ndarray, int]] = field(default_factory=list)  # reads: (cells, threads, time)
    has_writes: bool = False  # some that a barrier has not put behind all threads
    has_reads: bool = False

    @classmethod
    def of(cls, memory: Memory) -> History:
        def column(value: int) -> np.ndarray:
            return np.full(memory.data.size, value, np.int64)

        return cls(column(NOBODY), column(0), (column(NOBODY), column(NOBODY)), (column(0), column(0)))


class Races:
    """The race check of one launch; `report` takes each finding."""

    def __init__(self, grid: Grid, report: Callable[[KernelError, str], None]):
        self.grid, self.report = grid, report
        self.sites: list[Site | None] = [None]  # of each event
        self.fences: Fences | None = None
        self._shared: list[History] = []

    def begin(self, machine: Machine) -> None:
        """A new chunk of blocks."""
        self.machine = machine
        self.first_thread = machine.first * self.grid.threads
        self.barrier = np.zeros(machine.blocks, np.int64)  # the event at which each block passed its last barrier
        warps = machine.blocks * -(-self.grid.threads // WARP)
        self.warp_barrier = np.zeros(warps, np.int64)
        self._has_warp_barriers = False
        self._shared = []

    # -- events

    def _event(self, site: Site | None) -> int:
        self.sites.append(site)
        return len(self.sites) - 1

    def block_barrier(self, mask: Mask) -> None:
        self.barrier[self.machine.by_block(mask.lanes).any(axis=1)] = self._event(None)
        if (mask.lanes | self.machine.returned).all():
            for history in self._shared:  # everything so far is in order with everything to come
                history.log.clear()
                history.has_writes = history.has_reads = False

    def warps_barrier(self, mask: Mask) -> None:
        _, some, _ = self.machine.active_warps(mask)
        self.warp_barrier[some] = self._event(None)
        self._has_warp_barriers = True

    def fence(self, mask: Mask) -> None:
        if self.fences is None:
            self.fences = Fences(self.grid)
        threads = mask.take(self.machine.thread)
        self.fences.fence(threads, self._event(None), self._last_barrier(threads))

    def load(self, memory: Memory, cells, mask: Mask, site: Site) -> None:
        if not memory.stored:
            return
        history = self._history(memory)
        at, threads = mask.take(cells), mask.take(self.machine.thread)
        if history.has_writes:
            clash = self._unordered(history.writer[at], history.write_time[at], threads)
            self._found(memory, clash, at, threads, history.writer, history.write_time, ("reads", "wrote"), site)
        if memory.space == "shared" or memory.loaded:
            history.log.append((at, threads, 2 * self._event(site)))
            if len(history.log) * len(at) > LOG:
                self._work_off(history)

    def store(self, memory: Memory, cells, value, mask: Mask, site: Site) -> None:
        history = self._history(memory)
        at, threads = mask.take(cells), mask.take(self.machine.thread)
        value = mask.take(value)
        if history.has_writes:
            clash = self._unordered(history.writer[at], history.write_time[at], threads)
            if clash.any():  # writing what is there already is harmless
                clash &= _differ(value, memory.data[at])
                self._found(memory, clash, at, threads, history.writer, history.write_time, ("writes", "wrote"), site)
        self._against_readers(memory, history, at, threads, site)
        self._record(history, at, threads, 2 * self._event(site))
        winner = history.writer[at]
        lost = winner != threads
        if lost.any():
            places = np.searchsorted(threads, winner)
            lost &= _differ(value, value[places])
            times = history.write_time
            self._found(memory, lost, at, threads, history.writer, times, ("writes", "writes at the same time"), site)

    def atomic(self, memory: Memory, cells, mask: Mask, site: Site, needs_old: bool) -> None:
        history = self._history(memory)
        at, threads = mask.take(cells), mask.take(self.machine.thread)
        if history.has_writes:
            times = history.write_time[at]
            clash = self._unordered(history.writer[at], times, threads) & (times & 1 == 0)
            self._found(memory, clash, at, threads, history.writer, history.write_time, ("changes", "wrote"), site)
        self._against_readers(memory, history, at, threads, site)
        event = self._event(site)
        self._record(history, at, threads, 2 * event + 1)
        if needs_old and self.fences is not None and memory.space == "global":
            self.fences.atomic(id(memory), at, threads, event, self._last_barrier(threads))

    # -- the history

    def _history(self, memory: Memory) -> History:
        if memory.history is None:
            memory.history = History.of(memory)
            if memory.space == "shared":
                self._shared.append(memory.history)
        return memory.history

    def _record(self, history: History, at: np.ndarray, threads: np.ndarray, time: int) -> None:
        history.writer[at] = threads
        history.write_time[at] = time
        history.has_writes = True

    def _against_readers(self, memory: Memory, history: History, at, threads, site: Site) -> None:
        self._work_off(history)
        if not history.has_reads:
            return
        for reader, times in zip(history.readers, history.read_times, strict=True):
            clash = self._unordered(reader[at], times[at], threads)
            if clash.any():
                self._found(memory, clash, at, threads, reader, times, ("writes", "read"), site)
                return

    def _work_off(self, history: History) -> None:
        for at, threads, time in history.log:
            self._note_readers(history, at, threads, time)
            history.has_reads = True
        history.log.clear()

    def _note_readers(self, history: History, at: np.ndarray, threads: np.ndarray, time: int) -> None:
        # Two readers stand for all if they are as far apart as any: whoever writes is unordered with one of them
        # if it is with any. Apart: in other blocks, else in other warps, else in one warp.
        (first, second), (first_time, second_time) = history.readers, history.read_times
        free = (first[at] == NOBODY) | self._past(first[at], first_time[at], threads)
        first[at[free]], first_time[at[free]] = threads[free], time
        others = first[at] != threads
        if not others.any():
            return
        at, threads = at[others], threads[others]
        kept = self._apart(first[at], second[at])
        kept[(second[at] == NOBODY) | self._past(second[at], second_time[at], first[at])] = 0
        apart = self._apart(first[at], threads)
        for distance in (1, 2, 3):  # of lanes that meet in one element the farthest is to stay
            better = (apart == distance) & (distance > kept)
            second[at[better]], second_time[at[better]] = threads[better], time

    def _apart(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        same_block = a // self.grid.threads == b // self.grid.threads
        same_warp = same_block & (a % self.grid.threads // WARP == b % self.grid.threads // WARP)
        return np.where(same_warp, 1, np.where(same_block, 2, 3))

    # -- order

    def _last_barrier(self, threads: np.ndarray) -> np.ndarray:
        return self.barrier[threads // self.grid.threads - self.machine.first]

    def _past(self, other: np.ndarray, times: np.ndarray, threads: np.ndarray) -> np.ndarray:
        """Whether the other's access lies before the last barrier that it shares with the thread."""
        events = times >> 1
        same_block = other // self.grid.threads == threads // self.grid.threads
        past = same_block & (events < self._last_barrier(threads))
        if self._has_warp_barriers:
            within = threads % self.grid.threads // WARP
            same_warp = same_block & (other % self.grid.threads // WARP == within)
            warps = -(-self.grid.threads // WARP)
            number = (threads // self.grid.threads - self.machine.first) * warps + within
            past |= same_warp & (events < self.warp_barrier[number])
        return past

    def _unordered(self, other: np.ndarray, times: np.ndarray, threads: np.ndarray) -> np.ndarray:
        clash = (other != NOBODY) & (other != threads)
        if clash.any():
            clash &= ~self._past(other, times, threads)
            if self.fences is not None and clash.any():
                clash &= ~self.fences.published(other, times >> 1, threads, self._last_barrier(threads))
        return clash

    # -- findings

    def _found(self, memory: Memory, clash, at, threads, others, times, verbs: tuple[str, str], site: Site) -> None:
        if not clash.any():
            return
        place = int(clash.argmax())
        me, cell = int(threads[place]), at[place]
        other, event = int(others[cell]), int(times[cell]) >> 1
        there = self.sites[event]
        line = f" in line {there.line}" if there is not None and there is not site else ""
        same_block = me // self.grid.threads == other // self.grid.threads
        them = self.grid.thread_name(other) if same_block else self.grid.name(other)
        why = "no barrier lies between" if same_block else "nothing orders different blocks"
        if verbs[1].endswith("time"):
            why = "which value stays is open"
        count = int(np.count_nonzero(clash)) - 1
        more = f" ({count:,} more threads do so)" if count else ""
        message = (
            f"{memory.space} {memory.describe(cell)}: {self.grid.name(me)} {verbs[0]} it{more}, "
            f"{them} {verbs[1]}{'' if verbs[1].endswith('time') else ' it'}{line}, and {why}"
        )
        self.report(stop("race", message, site), verbs[0])


def _differ(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    different = a != b
    return different & ~(np.isnan(a) & np.isnan(b)) if a.dtype.kind == "f" else different
