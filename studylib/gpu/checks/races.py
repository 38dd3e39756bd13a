"""Finds data races: two accesses to one element, one of them a write, that no barrier puts in order.

Every access is an event with a number. An element remembers its last writer, two readers and two threads that used
atomics on it, with their events. Two accesses by threads of one block are in order if the block passed a barrier between
them (or the warp, for threads of one warp); accesses by different blocks are in order only through `fences`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from studylib.gpu.checks.tickets import Fences
from studylib.gpu.emulator.machine import Grid, Machine
from studylib.gpu.emulator.mask import Mask
from studylib.gpu.emulator.memory import Cells, Memory, taken
from studylib.gpu.findings import KernelError, Site, stop
from studylib.gpu.hardware import WARP, warps_in
from studylib.words import counted

NOBODY = -1
AT_ONCE = "at once"
LOG = 1 << 22  # lanes of reads kept before they are worked into the history


class Order:
    """What the barriers of a chunk of blocks have put in order."""

    def __init__(self, machine: Machine):
        self.threads, self.first = machine.grid.threads, machine.first
        self.warps = warps_in(self.threads)
        # The events at which each block, and each warp, passed its last barrier.
        self.barrier = np.zeros(machine.blocks, np.int64)
        self.warp_barrier = np.zeros(machine.blocks * self.warps, np.int64)
        self.has_warp_barriers = False

    def last_barrier(self, threads: np.ndarray) -> np.ndarray:
        return self.barrier[threads // self.threads - self.first]

    def past(self, others: np.ndarray, events: np.ndarray, threads: np.ndarray) -> np.ndarray:
        """Whether the others' accesses lie before the last barrier that they share with the threads."""
        same_block = others // self.threads == threads // self.threads
        # The barriers of blocks that ran before this chunk are forgotten: nobody here shares one with them.
        start = self.first * self.threads
        same_block &= others >= start
        threads = np.maximum(threads, start)
        past = same_block & (events < self.last_barrier(threads))
        if self.has_warp_barriers:
            within = threads % self.threads // WARP
            same_warp = same_block & (others % self.threads // WARP == within)
            number = (threads // self.threads - self.first) * self.warps + within
            past |= same_warp & (events < self.warp_barrier[number])
        return past

    def apart(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """1 for threads of one warp, 2 of one block, 3 of different blocks."""
        same_block = a // self.threads == b // self.threads
        same_warp = same_block & (a % self.threads // WARP == b % self.threads // WARP)
        return np.where(same_warp, 1, np.where(same_block, 2, 3))


class Pair:
    """Of each element up to two threads that accessed it, which stand for all that did.

    They are as far apart as any two: in different blocks, else in different warps, else in one warp. Then whoever
    comes later is unordered with one of them if it is unordered with any. Times are events.
    """

    def __init__(self, size: int):
        self._size = size
        self.in_use = 0  # how many of the two hold anything that a barrier has not put behind all threads

    @cached_property
    def threads(self) -> tuple[np.ndarray, np.ndarray]:
        return np.full(self._size, NOBODY), np.full(self._size, NOBODY)

    @cached_property
    def times(self) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(self._size, np.int64), np.zeros(self._size, np.int64)

    def note(self, order: Order, at: np.ndarray, threads: np.ndarray, time: int) -> None:
        """Accesses of the elements `at` by these threads, at one time."""
        (first, second), (first_time, second_time) = self.threads, self.times
        if not self.in_use:
            first[at], first_time[at], self.in_use = threads, time, 1
        else:
            free = (first[at] == NOBODY) | order.past(first[at], first_time[at], threads)
            first[at[free]], first_time[at[free]] = threads[free], time
        others = first[at] != threads
        if not others.any():
            return
        at, threads = at[others], threads[others]
        kept = order.apart(first[at], second[at])
        kept[(second[at] == NOBODY) | order.past(second[at], second_time[at], first[at])] = 0
        apart = order.apart(first[at], threads)
        for distance in (1, 2, 3):  # of lanes that meet in one element the farthest is to stay
            better = (apart == distance) & (distance > kept)
            if not better.any():
                continue
            self.in_use = 2
            second[at[better]], second_time[at[better]] = threads[better], time


@dataclass(eq=False)
class History:
    """What the elements of one memory remember: the last writer, and two readers and two users of atomics."""

    writer: np.ndarray
    write_time: np.ndarray
    log: list[tuple[Now, int]] = field(default_factory=list)  # reads, with their times
    has_writes: bool = False  # whether it holds a write that no barrier has put behind all threads

    @classmethod
    def of(cls, size: int) -> History:
        return cls(np.full(size, NOBODY), np.zeros(size, np.int64))

    @cached_property
    def readers(self) -> Pair:
        return Pair(len(self.writer))

    @cached_property
    def atomics(self) -> Pair:
        return Pair(len(self.writer))


class Now:
    """The access under test: for each live lane its thread and its cell in the history."""

    def __init__(self, machine: Machine, memory: Memory, cells: int | Cells, mask: Mask, site: Site):
        self.memory, self.site = memory, site
        self._machine, self._cells, self._mask = machine, cells, mask

    @cached_property
    def at(self) -> np.ndarray:
        at, (_, first) = taken(self._cells, self._mask), home(self.memory)
        return at + first if first else at

    @cached_property
    def threads(self) -> np.ndarray:
        return self._mask.take(self._machine.thread)

    @property
    def count(self) -> int:
        return self._mask.count

    @cached_property
    def place(self) -> slice | np.ndarray:
        """The same cells, as a slice where they are consecutive: that is faster."""
        if isinstance(self._cells, int) or not self._mask.full or (start := self._cells.base.start()) is None:
            return self.at
        first = start + self._cells.constant + home(self.memory)[1]
        return slice(first, first + self.count)


def home(memory: Memory) -> tuple[Hashable, int]:
    """(the key of a history, the cell of it at which the memory starts): views of an allocation share a history."""
    first, odd = divmod(memory.first_byte, memory.dtype.itemsize)
    return (memory, 0) if memory.owner is None or odd else ((memory.owner, memory.dtype.itemsize), first)


class Races:
    """The race check of one launch; `report` takes each finding.

    arrays: all in global memory. written: those of them that the kernel may write; nothing races on the others.
    """

    def __init__(
        self, grid: Grid, arrays: list[Memory], written: set[Memory], report: Callable[[KernelError, str], None]
    ):
        self.grid, self.report = grid, report
        self._written = {home(memory)[0] for memory in written}
        self._sizes: dict[Hashable, int] = {}
        for memory in arrays:
            key, first = home(memory)
            self._sizes[key] = max(self._sizes.get(key, 0), first + memory.data.size)
        self._global: dict[Hashable, History] = {}
        self.sites: list[Site | None] = [None]  # of each event
        self.fences: Fences | None = None
        self._shared: dict[Memory, History] = {}

    def begin(self, machine: Machine) -> None:
        """A new chunk of blocks."""
        self.machine, self.order = machine, Order(machine)
        self._shared = {}

    # -- events

    def _event(self, site: Site | None) -> int:
        self.sites.append(site)
        return len(self.sites) - 1

    def block_barrier(self, mask: Mask) -> None:
        self.order.barrier[self.machine.by_block(mask.lanes).any(axis=1)] = self._event(None)
        if (mask.lanes | self.machine.returned).all():
            for history in self._shared.values():  # everything so far is in order with everything to come
                history.log.clear()
                history.has_writes, history.readers.in_use, history.atomics.in_use = False, 0, 0

    def warps_barrier(self, mask: Mask) -> None:
        _, some, _ = self.machine.active_warps(mask)
        self.order.warp_barrier[some] = self._event(None)
        self.order.has_warp_barriers = True

    def fence(self, mask: Mask) -> None:
        if self.fences is None:
            self.fences = Fences(self.grid)
        threads = mask.take(self.machine.thread)
        self.fences.fence(threads, self._event(None), self.order.last_barrier(threads))

    def load(self, memory: Memory, cells, mask: Mask, site: Site) -> None:
        if memory.space == "global" and home(memory)[0] not in self._written:
            return
        history = self._history(memory)
        access = self._now(memory, cells, mask, site)
        if history.has_writes:
            self._against(access, history.writer, history.write_time, "reads", "wrote")
        if history.atomics.in_use:
            self._against_pair(access, history.atomics, "reads", "changed")
        history.log.append((access, self._event(site)))
        if len(history.log) * access.count > LOG:
            self._work_off(history)

    def store(self, memory: Memory, cells, value, mask: Mask, site: Site) -> None:
        history = self._history(memory)
        access = self._now(memory, cells, mask, site)
        value, place = mask.take(value), access.place
        if history.has_writes:
            # Writing what is there already is harmless.
            self._against(
                access,
                history.writer,
                history.write_time,
                "writes",
                "wrote",
                lambda: _differ(value, memory.data[taken(cells, mask)]),
            )
        if history.atomics.in_use:
            self._against_pair(access, history.atomics, "writes", "changed")
        self._against_readers(access, history, "writes")
        history.writer[place], history.write_time[place] = access.threads, self._event(site)
        history.has_writes = True
        if isinstance(place, slice):  # each lane has a cell of its own
            return
        winner, threads = history.writer[place], access.threads
        if (winner != threads).any():
            clash = _differ(value, value[np.searchsorted(threads, winner)])
            self._found(access, clash, history.writer, history.write_time, "writes", AT_ONCE)

    def atomic(self, memory: Memory, cells, mask: Mask, site: Site, needs_old: bool) -> None:
        history = self._history(memory)
        access = self._now(memory, cells, mask, site)
        if history.has_writes:
            self._against(access, history.writer, history.write_time, "changes", "wrote")
        self._against_readers(access, history, "changes")
        event = self._event(site)
        history.atomics.note(self.order, access.at, access.threads, event)
        if self.fences is not None and memory.space == "global":
            barriers = self.order.last_barrier(access.threads)
            self.fences.atomic(id(history), access.at, access.threads, event, barriers, needs_old)

    # -- against what the history holds

    def _now(self, memory: Memory, cells: int | Cells, mask: Mask, site: Site) -> Now:
        return Now(self.machine, memory, cells, mask, site)

    def _history(self, memory: Memory) -> History:
        if memory.space == "shared":
            if memory not in self._shared:
                self._shared[memory] = History.of(memory.data.size)
            return self._shared[memory]
        key, _ = home(memory)
        if key not in self._global:
            self._global[key] = History.of(self._sizes[key])
        return self._global[key]

    def _work_off(self, history: History) -> None:
        for access, time in history.log:
            history.readers.note(self.order, access.at, access.threads, time)
        history.log.clear()

    def _against_readers(self, access: Now, history: History, verb: str) -> None:
        self._work_off(history)
        if history.readers.in_use:
            self._against_pair(access, history.readers, verb, "read")

    def _against_pair(self, access: Now, pair: Pair, verb: str, theirs: str) -> None:
        for others, times in zip(pair.threads[: pair.in_use], pair.times, strict=False):
            if self._against(access, others, times, verb, theirs):
                return

    def _against(
        self,
        access: Now,
        others: np.ndarray,
        times: np.ndarray,
        verb: str,
        theirs: str,
        only: Callable[[], np.ndarray] | None = None,
    ) -> bool:
        """Reports the access where it is unordered with the others' and `only` holds; returns whether it did."""
        other, threads = others[access.place], access.threads
        if other.max(initial=NOBODY) == NOBODY:
            return False
        clash = (other != NOBODY) & (other != threads)
        if only is not None and clash.any():
            clash &= only()
        if clash.any():
            time = times[access.place]
            clash &= ~self.order.past(other, time, threads)
            if self.fences is not None and clash.any():
                clash &= ~self.fences.published(other, time, threads, self.order.last_barrier(threads))
        if clash.any():
            self._found(access, clash, others, times, verb, theirs)
            return True
        return False

    def _found(self, access: Now, clash: np.ndarray, others, times, verb: str, theirs: str) -> None:
        if not clash.any():
            return
        place = int(clash.argmax())
        me, cell = int(access.threads[place]), access.at[place]
        other, there = int(others[cell]), self.sites[int(times[cell])]
        same_block = me // self.grid.threads == other // self.grid.threads
        them = self.grid.thread_name(other) if same_block else self.grid.name(other)
        line = f" in line {there.line}" if there is not None and there is not access.site else ""
        if theirs == AT_ONCE:
            end = f"{them} writes another value at the same time"
        elif same_block:
            end = f"{them} {theirs} it{line}, and no barrier lies between"
        else:
            end = f"{them} {theirs} it{line}, and nothing orders different blocks"
        count = int(np.count_nonzero(clash)) - 1
        race = "races" if count == 1 else "race"
        more = f"; {counted(count, 'more thread')} {race} in this line" if count else ""
        memory = access.memory
        element = memory.describe(cell - home(memory)[1])
        message = f"{memory.space} {element}: {self.grid.name(me)} {verb} it, {end}{more}"
        self.report(stop("race", message, access.site), verb)


def _differ(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    different = a != b
    return different & ~(np.isnan(a) & np.isnan(b)) if a.dtype.kind == "f" else different
