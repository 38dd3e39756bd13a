"""Order without a barrier: what a block wrote before a threadfence and an atomic is seen after a later atomic.

This is the last-block pattern: every block writes its part, calls `cuda.threadfence()` and takes a ticket with
an atomic whose old value it uses; the block with the last ticket reads all parts. A lock is the same from thread to
thread: one releases it with an atomic after a threadfence, another one takes it later. A write of block A and an
access of block B are in order if A's thread fenced the write and then did an atomic on an element, B did an
atomic on the same element later, and the access follows in B, in the same thread or after a barrier. Of each
block the last such atomic counts, so that the check may miss an order, but takes none for granted.
"""

from __future__ import annotations

import numpy as np

from studylib.gpu.emulator.machine import Grid

NEVER = -1


class Fences:
    """Fences and tickets of one launch. Events are numbers that rise with time."""

    def __init__(self, grid: Grid):
        self.grid = grid
        blocks, threads = grid.blocks, grid.blocks * grid.threads
        self.fenced = np.full(threads, NEVER)  # the event of each thread's last fence
        self.fence_barrier = np.full(threads, NEVER)  # and of its block's last barrier before that
        self.place = np.full(blocks, NEVER)  # of each block: the element of its last ticket
        self.number = np.full(blocks, NEVER)  # which ticket it was
        self.thread = np.full(blocks, NEVER)  # the thread that took it
        self.event = np.full(blocks, NEVER)
        self.covered = np.full(blocks, NEVER)  # that thread's last fence before it
        self.block_covered = np.full(blocks, NEVER)  # and the barrier before that fence
        self.barrier = np.full(blocks, NEVER)  # the block's last barrier before it
        # Of each thread its last atomic, with the fence before it, and the last whose old value it used.
        self.gave, self.gave_number, self.gave_covered = (np.full(threads, NEVER) for _ in range(3))
        self.took, self.took_number = (np.full(threads, NEVER) for _ in range(2))
        self._places: dict[tuple[int, int], int] = {}
        self._tickets = 0

    def fence(self, threads: np.ndarray, event: int, barriers: np.ndarray) -> None:
        self.fenced[threads] = event
        self.fence_barrier[threads] = barriers

    def atomic(
        self, memory: int, cells: np.ndarray, threads: np.ndarray, event: int, barriers: np.ndarray, used: bool
    ) -> None:
        """Atomics by the threads in this order; used: whether they look at the old values."""
        blocks = threads // self.grid.threads
        values, inverse = np.unique(cells, return_inverse=True)
        places = np.array([self._places.setdefault((memory, int(c)), len(self._places)) for c in values])
        numbers = self._tickets + np.arange(len(threads))
        self.gave[threads], self.gave_number[threads] = places[inverse], numbers
        self.gave_covered[threads] = self.fenced[threads]
        self._tickets += len(threads)
        if not used:
            return
        self.took[threads], self.took_number[threads] = places[inverse], numbers
        self.place[blocks], self.number[blocks] = places[inverse], numbers
        self.thread[blocks], self.event[blocks], self.barrier[blocks] = threads, event, barriers
        self.covered[blocks], self.block_covered[blocks] = self.fenced[threads], self.fence_barrier[threads]

    def published(self, others: np.ndarray, events: np.ndarray, threads: np.ndarray, barriers: np.ndarray):
        """Whether accesses by other blocks' threads, at these events, are in order before what `threads` do now."""
        theirs, ours = others // self.grid.threads, threads // self.grid.threads
        handed_on = (self.place[theirs] != NEVER) & (self.place[theirs] == self.place[ours])
        handed_on &= self.number[theirs] < self.number[ours]
        giver = self.thread[theirs]
        by_giver = (others == giver) & ((events < self.covered[theirs]) | (events == self.event[theirs]))
        # The giver's fence also covers what its block did before the barrier in front of the fence.
        through_barrier = events < self.block_covered[theirs]
        # Or every thread fenced its own writes, and a barrier came before the ticket.
        own_fence = (self.fenced[others] > events) & (self.fenced[others] < self.barrier[theirs])
        seen = (threads == self.thread[ours]) | (self.event[ours] < barriers)
        in_order = handed_on & (by_giver | through_barrier | own_fence) & seen
        return in_order | self._locked(others, events, threads)

    def _locked(self, others: np.ndarray, events: np.ndarray, threads: np.ndarray):
        # From thread to thread: the other one fenced what it did and released a lock, which this one took later.
        same = (self.gave[others] != NEVER) & (self.gave[others] == self.took[threads])
        return same & (self.gave_number[others] < self.took_number[threads]) & (events < self.gave_covered[others])
