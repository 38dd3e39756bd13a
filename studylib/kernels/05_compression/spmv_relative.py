"""Multiply a pruned, shared layer by a vector straight from its compressed form.

    column[e] = (sum over the entries d of the row, d <= e, of (gaps[d] + 1)) - 1
    y[row] = sum over e from row_start[row] to row_start[row + 1] - 1 of codebook[indices[e]] * x[column[e]]

gaps: uint8 (entries,), the zeros between an entry and the one before it. indices: uint8 (entries,). row_start: int32 (rows + 1,).
codebook: float32 (k,), k at most 256. x: float32 (columns,). y: float32 (rows,). A gap of more than 31 zeros is cut by fillers:
entries whose weight is zero. One warp, one row; a block has 4 warps. (Deep Compression, Han, Mao, Dally 2016, sections 2 and 3,
with a byte for each 5-bit gap, and each row begun anew.)

Difficulty: 4 of 5
Minutes: 35

Plan:
1. Copy the codebook to shared memory with the whole block, and wait.
2. The warp goes through its row's entries, 32 at a time. Each lane reads one gap; its entry stands gap + 1 columns after the last.
3. A running sum over the lanes: in step s = 1, 2, 4, 8, 16 each lane adds what the lane s below it has.
4. Now each lane knows its column, counted from where the 32 before ended. Multiply, and add to the lane's own sum.
5. The highest lane's running sum says where these 32 entries end. All lanes need it.
6. At the end the 32 sums become one, by shuffles, and lane 0 writes.

Hints:
1. step = gaps[e] + 1 where the lane has an entry, else 0. Then `left = cuda.shfl_up_sync(0xFFFFFFFF, step, shift)`, and only a
   lane >= shift adds it: the lanes below are given their own value back.
2. With `before` = -1 at the row's beginning, the column is before + step, and `before += cuda.shfl_sync(0xFFFFFFFF, step, 31)`.
3. The loop over the row runs equally often for all lanes of a warp, so its shuffles may stand in it, outside of `if e < end`.

Budget: for 4 rows of 64 columns, half of them kept, and 256 shared weights at most 10 global reads and one global write a thread, at
most 8 sectors a request; at most 4 passes a request in shared memory.

Hardware: An entry takes two bytes here, and float32 with a column number would take eight: a layer that does not fit the cache may
fit now, and a product of one vector takes as long as its matrix needs to come in. The price is the running sum: five steps of
shuffles for 32 weights. Nothing can make `x` coalesced, for which of its numbers are wanted only the data knows.
"""

from math import ceil

from numba import cuda, float32

BLOCK = 128
WARP = 32


@cuda.jit
def spmv_relative(gaps, indices, row_start, codebook, x, y):
    # BEGIN SOLUTION
    table = cuda.shared.array(256, float32)
    for k in range(cuda.threadIdx.x, codebook.size, BLOCK):
        table[k] = codebook[k]
    cuda.syncthreads()
    row = cuda.grid(1) // WARP
    lane = cuda.threadIdx.x % WARP
    if row < y.size:
        end = row_start[row + 1]
        before = -1
        total = float32(0)
        for first in range(row_start[row], end, WARP):
            e = first + lane
            step = 0
            if e < end:
                step = gaps[e] + 1
            shift = 1
            while shift < WARP:
                left = cuda.shfl_up_sync(0xFFFFFFFF, step, shift)
                if lane >= shift:
                    step += left
                shift *= 2
            if e < end:
                total += table[indices[e]] * x[before + step]
            before += cuda.shfl_sync(0xFFFFFFFF, step, WARP - 1)
        shift = 16
        while shift > 0:
            total += cuda.shfl_down_sync(0xFFFFFFFF, total, shift)
            shift //= 2
        if lane == 0:
            y[row] = total
    # END SOLUTION


def launch(kernel, gaps, indices, row_start, codebook, x, y):
    kernel[ceil(y.size * WARP / BLOCK), BLOCK](gaps, indices, row_start, codebook, x, y)


# BEGIN GRADER
from itertools import pairwise

import numpy as np

from studylib.kernels.rounding import gamma
from studylib.kernels.sizes import number, prime

MOST_GAP = 31  # 5 bits


def encode(kept, values):
    """gaps, indices and row_start of a layer; `values` are the kept weights' indices, and 0 is the fillers'."""
    gaps, indices, row_start, weights = [], [], [0], iter(values)
    for row in kept:
        before = -1
        for column in np.flatnonzero(row):
            gap = int(column) - before - 1
            while gap > MOST_GAP:
                gaps.append(MOST_GAP)
                indices.append(0)
                gap -= MOST_GAP + 1
            gaps.append(gap)
            indices.append(next(weights))
            before = int(column)
        row_start.append(len(gaps))
    return np.array(gaps, np.uint8), np.array(indices, np.uint8), np.array(row_start, np.int32)


def decode(gaps, indices, row_start, codebook, columns):
    """The layer as a dense float64 matrix, (rows, columns)."""
    dense = np.zeros((len(row_start) - 1, columns))
    for row, (begin, end) in enumerate(pairwise(row_start)):
        dense[row, np.cumsum(gaps[begin:end].astype(int) + 1) - 1] = codebook[indices[begin:end]]
    return dense


def reference(gaps, indices, row_start, codebook, x):
    return (decode(gaps, indices, row_start, codebook, x.size) @ x).astype(np.float32)


def allowed(gaps, indices, row_start, codebook, x):
    # A sum of so many products as the row has entries, and the expected value's own rounding; the lanes beyond add zeros.
    return gamma(np.diff(row_start) + 1) * reference(gaps, indices, row_start, np.abs(codebook), np.abs(x))


DRAWN = 3  # the last cases: their sizes are drawn anew for each rng, those of the last one as the budget needs them


def drawn(rng):
    yield prime(rng, 5, 11), prime(rng, 211, 400), number(rng, 9, 20) / 100, number(rng, 17, 200)
    yield number(rng, 2, 7), number(rng, 65, 200), number(rng, 30, 60) / 100, number(rng, 5, 255)
    yield 4 * number(rng, 2, 4), 32 * number(rng, 5, 9), number(rng, 40, 60) / 100, 256


def cases(rng):
    for rows, columns, density, k in (
        (1, 1, 1, 2),
        (4, 64, 0.5, 256),
        (5, 300, 0.08, 64),  # as Deep Compression keeps of LeNet-300-100's first layer
        (6, 40, 0.03, 256),  # rows without an entry
        (2, 90, 1, 17),
        *drawn(rng),
    ):
        kept = np.zeros((rows, columns), bool)
        kept.flat[rng.permutation(rows * columns)[: round(density * rows * columns)]] = True
        codebook = rng.standard_normal(k, dtype=np.float32)
        codebook[0] = 0
        coded = encode(kept, rng.integers(1, k, np.count_nonzero(kept)))
        title = f"{rows} x {columns}, {density:.0%} kept, {k} shared weights"
        yield title, *coded, codebook, rng.standard_normal(columns, dtype=np.float32)


BUDGET = {
    "case": "4 x 64, 50% kept, 256 shared weights",
    "reads": 10,
    "writes": 1,
    "sectors": 8,
    "passes": 4,
    "drawn": True,
}

MUTANTS = [
    {"title": "no barrier", "old": "cuda.syncthreads()\n", "new": "pass\n", "stage": "safe", "finds": "race"},
    {
        "title": "the gap taken for the distance",
        "old": "step = gaps[e] + 1",
        "new": "step = gaps[e] + 0",
        "stage": "right",
    },
    {
        "title": "the low lanes add their own value once more",
        "old": "if lane >= shift:",
        "new": "if True:",
        "stage": "safe",
        "finds": "out-of-bounds",
    },
    {
        "title": "every 32 entries begin at the row's start",
        "old": "before += cuda.shfl_sync(0xFFFFFFFF, step, WARP - 1)",
        "new": "before += 0",
        "stage": "right",
    },
    {
        "title": "each lane goes on from its own column",
        "old": "before += cuda.shfl_sync(0xFFFFFFFF, step, WARP - 1)",
        "new": "before += step",
        "stage": "right",
    },
    {
        "title": "a shuffle that some lanes miss",
        "old": "            before += cuda.shfl_sync(0xFFFFFFFF, step, WARP - 1)\n",
        "new": "            if e < end:\n                before += cuda.shfl_sync(0xFFFFFFFF, step, WARP - 1)\n",
        "stage": "safe",
        "finds": "shuffle",
    },
    {
        "title": "the codebook read from global memory",
        "old": "table[indices[e]]",
        "new": "codebook[indices[e]]",
        "stage": "budget",
    },
    {
        "title": "one thread, one row: right, not coalesced",
        "new": """
row = cuda.grid(1) // WARP
if row < y.size and cuda.threadIdx.x % WARP == 0:
    column = -1
    total = float32(0)
    for e in range(row_start[row], row_start[row + 1]):
        column += gaps[e] + 1
        total += codebook[indices[e]] * x[column]
    y[row] = total
""",
        "stage": "budget",
    },
]


def bench(rng):
    kept = rng.random((4096, 4096)) < 0.09  # as Deep Compression keeps of AlexNet's fc7
    codebook = rng.standard_normal(32, dtype=np.float32)
    codebook[0] = 0
    coded = encode(kept, rng.integers(1, 32, np.count_nonzero(kept)))
    return *coded, codebook, rng.standard_normal(4096, dtype=np.float32)


def torch_op(gaps, indices, row_start, codebook, x):
    import torch

    steps = (gaps.long() + 1).cumsum(0)
    begun = torch.cat([steps.new_zeros(1), steps])[row_start.long()]
    counts = row_start.long().diff()
    columns = steps - begun[:-1].repeat_interleave(counts) - 1
    rows = torch.arange(len(counts), device=x.device).repeat_interleave(counts)
    return x.new_zeros(len(counts)).index_add(0, rows, codebook[indices.long()] * x[columns])


def work(gaps, indices, row_start, codebook, x):
    return gaps.nbytes + indices.nbytes + row_start.nbytes + codebook.nbytes + x.nbytes, 2 * gaps.size
