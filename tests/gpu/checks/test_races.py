"""The race check against one that forgets nothing, and the cases that it must tell apart."""

import os
import random
from itertools import count

import numpy as np
import pytest
from numba import cuda, float32, int32

from studylib import gpu
from studylib.gpu.checks.races import Races
from studylib.gpu.emulator.machine import Grid, Index, Machine
from studylib.gpu.emulator.mask import Mask
from studylib.gpu.emulator.memory import Cells, Memory, SharedMemory
from studylib.gpu.findings import Site

FULL = "STUDYLIB_EXAMPLES" in os.environ
THREADS, CELLS = 64, 2
GRID = Grid((4,), (THREADS,))
CHUNKS = ((0, 3), (3, 1))  # (first block, blocks)


def events(rng: random.Random, first: int, blocks: int):
    """Draws ('load' | 'store' | 'atomic', [(thread, cell)]), ('barrier', blocks) and ('syncwarp', warps)."""
    # Few threads and mostly one cell, so that they meet: the first and the last thread of each warp.
    threads = [(first + b) * THREADS + t for b in rng.sample(range(blocks), blocks) for t in (0, 31, 32, 63)]
    for _ in range(rng.randrange(12)):
        kind = rng.choice(["load", "load", "load", "store", "atomic", "barrier", "barrier", "syncwarp"])
        if kind == "barrier":
            yield kind, set(rng.choices(range(first, first + blocks), k=2))
        elif kind == "syncwarp":
            yield kind, set(rng.choices(range(first * 2, (first + blocks) * 2), k=2))
        else:
            near = threads if rng.random() < 0.5 else threads[:4]  # in all blocks, or in one
            several = kind != "store" or rng.random() < 0.2
            chosen = rng.sample(near, rng.randint(1, len(near)) if several else 1)
            yield kind, sorted((thread, 0 if rng.random() < 0.9 else 1) for thread in chosen)


class Everything:
    """All accesses so far, each with the number of barriers that its block and its warp had passed."""

    def __init__(self):
        self.past: dict[tuple, list] = {}
        self.barriers: dict[tuple, int] = {}

    def barrier(self, kind: str, places: set[int]) -> None:
        for place in places:
            self.barriers[kind, place] = self.barriers.get((kind, place), 0) + 1

    def _passed(self, thread: int) -> tuple[int, int]:
        block, warp = thread // THREADS, thread // 32
        return self.barriers.get(("barrier", block), 0), self.barriers.get(("syncwarp", warp), 0)

    def _ordered(self, before: tuple, thread: int) -> bool:
        other, _, passed = before
        now = self._passed(thread)
        same_block, same_warp = other // THREADS == thread // THREADS, other // 32 == thread // 32
        return other == thread or (same_block and passed[0] < now[0]) or (same_warp and passed[1] < now[1])

    def races(self, kind: str, access: list[tuple[int, int]], is_shared: bool) -> bool:
        found = False
        keys = [(cell, thread // THREADS if is_shared else 0) for thread, cell in access]
        for key, (thread, _) in zip(keys, access, strict=True):
            for before in self.past.get(key, []):
                harmless = {kind, before[1]} in ({"load"}, {"atomic"})
                found |= not harmless and not self._ordered(before, thread)
        found |= kind == "store" and len(set(keys)) < len(keys)
        for key, (thread, _) in zip(keys, access, strict=True):
            self.past.setdefault(key, []).append((thread, kind, self._passed(thread)))
        return found


class Driver:
    """Feeds the events of a run to the race check, as the interpreter does."""

    def __init__(self, is_shared: bool):
        self.found: list = []
        self.is_shared, self.values = is_shared, count()
        self.memory = Memory("a", "global", np.zeros(CELLS), (CELLS,), (1,))
        self.races = Races(GRID, [self.memory], {self.memory}, lambda error, what: self.found.append(error.finding))

    def begin(self, first: int, blocks: int) -> None:
        self.machine = Machine(GRID, first, blocks)
        self.races.begin(self.machine)
        if self.is_shared:
            self.memory = SharedMemory("a", np.dtype(float), (CELLS,), self.machine)

    def events(self, rng: random.Random):
        """The events of a run over all chunks."""
        for first, blocks in CHUNKS:
            self.begin(first, blocks)
            yield from events(rng, first, blocks)

    def lanes(self, threads) -> Mask:
        lanes = np.zeros(self.machine.lanes, bool)
        lanes[[t - self.machine.first * THREADS for t in threads]] = True
        return Mask(lanes)

    def barrier(self, kind: str, places: set[int]) -> None:
        size = THREADS if kind == "barrier" else 32
        mask = self.lanes([t for place in places for t in range(place * size, (place + 1) * size)])
        (self.races.block_barrier if kind == "barrier" else self.races.warps_barrier)(mask)

    def access(self, kind: str, access: list[tuple[int, int]]) -> bool:
        before = len(self.found)
        mask = self.lanes([thread for thread, _ in access])
        cells = np.zeros(self.machine.lanes, np.int64)
        cells[mask.indices] = [cell for _, cell in access]
        cells = Cells(Index(cells + self.memory.offset))
        site = Site("kernel.py", 1, 1)
        if kind == "load":
            self.races.load(self.memory, cells, mask, site)
        elif kind == "atomic":
            self.races.atomic(self.memory, cells, mask, site, False)
        else:
            value = np.array([float(next(self.values) + 1) for _ in range(self.machine.lanes)])
            self.races.store(self.memory, cells, value, mask, site)
            self.memory.write(cells, value, mask)
        return len(self.found) > before


def test_finds_the_first_race_and_none_before():
    found = 0
    for seed in range(60_000 if FULL else 2_000):
        rng = random.Random(seed)
        is_shared = rng.random() < 0.3
        driver, everything = Driver(is_shared), Everything()
        for kind, what in driver.events(rng):
            if kind in ("barrier", "syncwarp"):
                driver.barrier(kind, what)
                everything.barrier(kind, what)
                continue
            expected = everything.races(kind, what, is_shared)
            assert driver.access(kind, what) == expected, (seed, kind, what)
            if expected:
                found += 1
                break
    assert found > seed / 3


def races(kernel, grid, block, *args) -> list:
    findings = gpu.check(kernel, grid, block, *args).findings
    assert all(f.kind == "race" for f in findings)
    return findings


def test_writing_the_same_value_is_harmless():
    @cuda.jit
    def kernel(a, out):
        out[0] = 7
        if a[cuda.grid(1)] > 2:
            out[1] = a[1]
        elif cuda.grid(1) % 2:
            out[1] = a[0]
        else:
            out[1] = a[2]

    assert not races(kernel, 3, 32, np.full(96, np.nan), np.zeros(2))
    assert not races(kernel, 3, 32, np.full(96, 3.0), np.zeros(2))


def test_writing_different_values_is_not():
    @cuda.jit
    def kernel(a, out):
        out[0] = a[cuda.grid(1)]

    a = np.zeros(96)
    a[40] = np.nan
    (finding,) = races(kernel, 1, 96, a, np.zeros(2))
    assert "writes it" in finding.message and "writes another value at the same time" in finding.message


def test_the_message_names_both_threads_and_lines():
    @cuda.jit
    def kernel(a, out):
        s = cuda.shared.array((8, 4), float32)
        x, y = cuda.threadIdx.x, cuda.threadIdx.y
        s[y, x] = a[y, x]
        out[y, x] = s[7 - y, x]

    (finding,) = races(kernel, (1, 1), (4, 8), np.zeros((8, 4)), np.zeros((8, 4)))
    line = kernel.py_func.__code__.co_firstlineno + 4
    assert finding.message == (
        "shared s[7, 0]: thread (0, 0) of block (0, 0) reads it, "
        f"thread (0, 7) wrote it in line {line}, and no barrier lies between; 31 more threads race in this line"
    )
    assert finding.line == line + 1


def test_who_races_for_another_cell_is_not_said_to_race_for_this_one():
    @cuda.jit
    def kernel(out):
        out[cuda.threadIdx.x // 2] = cuda.threadIdx.x

    (finding,) = races(kernel, 1, 4, np.zeros(2))
    assert finding.message == (
        "global out[0]: thread 0 of block 0 writes it, thread 1 writes another value at the same time; "
        "1 more thread races in this line"
    )


def test_a_barrier_orders_its_block_and_no_other():
    @cuda.jit
    def kernel(a, out):
        t = cuda.threadIdx.x
        a[cuda.grid(1)] = t
        cuda.syncthreads()
        out[cuda.grid(1)] = a[cuda.blockIdx.x * 64 + 63 - t]
        cuda.syncthreads()
        a[cuda.grid(1)] = -t

    assert not races(kernel, 3, 64, np.zeros(192), np.zeros(192))


@cuda.jit
def every_thread_fences(a, parts, counter, out):
    flag = cuda.shared.array(1, int32)
    i = cuda.grid(1)
    parts[i] = a[i]
    cuda.threadfence()
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        flag[0] = cuda.atomic.add(counter, 0, 1)
    cuda.syncthreads()
    if flag[0] == cuda.gridDim.x - 1:
        for k in range(cuda.threadIdx.x, a.size, cuda.blockDim.x):
            cuda.atomic.add(out, 0, parts[k])


@cuda.jit
def one_thread_fences_for_its_block(a, parts, counter, out):
    flag = cuda.shared.array(1, int32)
    i = cuda.grid(1)
    parts[i] = a[i]
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        cuda.threadfence()
        flag[0] = cuda.atomic.add(counter, 0, 1)
    cuda.syncthreads()
    if flag[0] == cuda.gridDim.x - 1:
        for k in range(cuda.threadIdx.x, a.size, cuda.blockDim.x):
            cuda.atomic.add(out, 0, parts[k])
            parts[k] = 0


@cuda.jit
def ticket_before_fence(a, parts, counter, out):
    i = cuda.grid(1)
    parts[i] = a[i]
    ticket = cuda.atomic.add(counter, 0, 1)
    cuda.threadfence()
    if ticket == cuda.gridDim.x - 1:
        for k in range(a.size):
            out[0] += parts[k]  # finds


@cuda.jit
def write_between_fence_and_ticket(a, parts, counter, out):
    i = cuda.grid(1)
    cuda.threadfence()
    parts[i] = a[i]
    if cuda.atomic.add(counter, 0, 1) == cuda.gridDim.x - 1:
        for k in range(a.size):
            out[0] += parts[k]  # finds


@cuda.jit
def fence_without_barrier(a, parts, counter, out):
    flag = cuda.shared.array(1, int32)
    i = cuda.grid(1)
    parts[i] = a[i]
    if cuda.threadIdx.x == 0:
        cuda.threadfence()
        flag[0] = cuda.atomic.add(counter, 0, 1)
    cuda.syncthreads()
    if flag[0] == cuda.gridDim.x - 1 and cuda.threadIdx.x == 0:
        for k in range(a.size):
            out[0] += parts[k]  # finds


@cuda.jit
def different_counters(a, parts, counter, out):
    i = cuda.grid(1)
    parts[i] = a[i]
    cuda.threadfence()
    ticket = cuda.atomic.add(counter, cuda.blockIdx.x, 1)
    if ticket == 0 and cuda.blockIdx.x == cuda.gridDim.x - 1:
        for k in range(a.size):
            out[0] += parts[k]  # finds


@cuda.jit
def first_ticket_reads(a, parts, counter, out):
    i = cuda.grid(1)
    parts[i] = a[i]
    cuda.threadfence()
    if cuda.atomic.add(counter, 0, 1) == 0:
        for k in range(a.size):
            out[0] += parts[k]  # finds


@cuda.jit
def others_read_without_barrier(a, parts, counter, out):
    i = cuda.grid(1)
    ticket = 0
    if cuda.threadIdx.x == 0:
        parts[cuda.blockIdx.x] = a[i]
        cuda.threadfence()
        ticket = cuda.atomic.add(counter, 0, 1)
    ticket = cuda.shfl_sync(0xFFFFFFFF, ticket, 0)
    k = cuda.threadIdx.x
    if ticket == cuda.gridDim.x - 1 and 0 < k < cuda.gridDim.x and k != cuda.blockIdx.x:
        cuda.atomic.add(out, 0, parts[k])  # finds


@pytest.mark.parametrize("kernel", (every_thread_fences, one_thread_fences_for_its_block))
@pytest.mark.parametrize("chunk", (1, 1 << 20))
def test_fences_that_order_blocks(kernel, chunk, monkeypatch):
    monkeypatch.setattr("studylib.gpu.emulator.machine.CHUNK", chunk)
    a, out = np.arange(160, dtype=np.float32), np.zeros(1, np.float32)
    assert not races(kernel, 5, 32, a, np.zeros(160), np.zeros(1, np.int32), out)
    assert out[0] == a.sum()


@cuda.jit
def lock_without_fence(a, parts, lock, out):
    while True:
        if cuda.atomic.cas(lock, 0, 0, 1) == 0:
            out[0] += a[cuda.grid(1)]  # finds
            cuda.atomic.exch(lock, 0, 0)
            break


@cuda.jit
def release_before_write(a, parts, lock, out):
    while True:
        if cuda.atomic.cas(lock, 0, 0, 1) == 0:
            cuda.threadfence()
            cuda.atomic.exch(lock, 0, 0)
            out[0] += a[cuda.grid(1)]  # finds
            break


@cuda.jit
def lock_not_looked_at(a, parts, lock, out):
    cuda.atomic.add(lock, 0, 1)
    out[0] += a[cuda.grid(1)]  # finds
    cuda.threadfence()
    cuda.atomic.add(lock, 0, 1)


BROKEN = {
    lock_without_fence: 32,
    release_before_write: 32,
    lock_not_looked_at: 1,
    ticket_before_fence: 1,
    write_between_fence_and_ticket: 1,
    fence_without_barrier: 32,
    different_counters: 1,
    first_ticket_reads: 1,
    others_read_without_barrier: 32,
}


@pytest.mark.parametrize("kernel", BROKEN, ids=lambda kernel: kernel.py_func.__name__)
@pytest.mark.parametrize("chunk", (1, 1 << 20))
def test_fences_that_do_not(kernel, chunk, monkeypatch):
    monkeypatch.setattr("studylib.gpu.emulator.machine.CHUNK", chunk)
    block = BROKEN[kernel]
    a = np.arange(1, 5 * block + 1, dtype=np.float32)
    found = races(kernel, 5, block, a, np.zeros(a.size), np.zeros(8, np.int32), np.zeros(1, np.float32))
    assert any("# finds" in finding.source or "parts[i] = a[i]" in finding.source for finding in found)


@cuda.jit
def move(a, b):
    i = cuda.grid(1)
    b[i] = a[i] + 1  # finds


def test_two_views_of_one_device_array():
    d = cuda.to_device(np.arange(65.0))
    (finding,) = races(move, 1, 64, d[:-1], d[1:])
    assert "# finds" in finding.source and "global b[0]: thread 0 of block 0 writes it, " in finding.message
    assert finding.message.endswith("; 62 more threads race in this line")
    assert not races(move, 1, 32, d[:32], d[32:])
    assert not races(move, 1, 64, d, d[:64])

    @cuda.jit
    def transpose(a, b):
        i, j = cuda.grid(2)
        b[i, j] = a[i, j]

    square = cuda.to_device(np.arange(64).reshape(8, 8))
    assert races(transpose, 1, (8, 8), square, square.T)
    assert races(transpose, 1, (8, 4), square, square.reshape(64)[4:36].reshape(8, 4))
