"""Transpose a matrix through shared memory, without bank conflicts.

    out[j, i] = a[i, j]

a: float32 (rows, columns). out: float32 (columns, rows). A block has 32 x 32 threads and carries one tile of 32 x 32
elements over; the sizes need not be multiples of 32. The grid has a block for each tile: x along the columns of `a`.

Difficulty: 2 of 5
Minutes: 25

Plan:
1. Make a tile in shared memory.
2. Each thread reads one element of `a` into it, neighbours in a warp from neighbours in a row. Does the element exist?
3. Wait until the whole tile is there.
4. The block's tile of `out` begins where rows and columns have changed places. Each thread writes one element of it,
   neighbours in a warp to neighbours in a row of `out`.
5. Look at the tile's banks: a warp reads a column of it. What is the distance of two elements, and how can it be odd?

Hints:
1. The writing thread is not the one that read: thread (x, y) reads a[y0 + y, x0 + x] and writes out[x0 + y, y0 + x]. The
   barrier stands between the two.
2. Each half has its own question whether the element exists, and no thread may leave before the barrier.
3. A tile of (32, 32) has its columns in one bank: 32 passes. A tile of (32, 33) has each row shifted by one bank.

Budget: one global read and one global write a thread, 4 sectors a request on both sides, 1 pass in shared memory.

Hardware: A warp's 32 neighbouring floats are 128 bytes, 4 sectors. Written straight to its place each of them would lie in a
row of its own: 32 sectors, 8 times the traffic. The tile lets both sides go along rows; the turn happens in shared
memory, where only banks matter.
"""

from math import ceil

from numba import cuda, float32

TILE = 32


@cuda.jit
def transpose(a, out):
    # BEGIN SOLUTION
    tile = cuda.shared.array((32, 33), float32)  # one column more than needed, so that a column lies in 32 banks
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    left, top = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    if top + y < a.shape[0] and left + x < a.shape[1]:
        tile[y, x] = a[top + y, left + x]
    cuda.syncthreads()
    if left + y < out.shape[0] and top + x < out.shape[1]:
        out[left + y, top + x] = tile[x, y]
    # END SOLUTION


def launch(kernel, a, out):
    rows, columns = a.shape
    kernel[(ceil(columns / TILE), ceil(rows / TILE)), (TILE, TILE)](a, out)


# BEGIN GRADER
import numpy as np

from studylib.kernels.sizes import number, prime


def reference(a):
    return np.ascontiguousarray(a.T)


def allowed(a):
    return 0  # numbers are moved, not computed


DRAWN = 3  # the last cases: their sizes are drawn anew for each rng, those of the last one as the budget needs them


def drawn(rng):
    rows = prime(rng, 33, 100)
    yield rows, prime(rng, 33, 100, rows)
    yield number(rng, 2, 16), number(rng, 17, 90)
    yield 32 * number(rng, 2, 3), 32 * number(rng, 2, 4, 3)


def cases(rng):
    for rows, columns in ((1, 1), (64, 96), (33, 70), (5, 100), *drawn(rng)):
        yield f"{rows} x {columns}", rng.standard_normal((rows, columns), dtype=np.float32)


BUDGET = {"case": "64 x 96", "reads": 1, "writes": 1, "sectors": 4, "passes": 1, "drawn": True}

MUTANTS = [
    {"title": "no barrier", "old": "cuda.syncthreads()\n", "new": "pass\n", "stage": "safe", "finds": "race"},
    {
        "title": "no guard on the write",
        "old": "if left + y < out.shape[0] and top + x < out.shape[1]:",
        "new": "if True:",
        "stage": "safe",
        "finds": "out-of-bounds",
    },
    {"title": "axes not swapped in the tile", "old": "tile[x, y]\n", "new": "tile[y, x]\n", "stage": "right"},
    {"title": "bank conflicts", "old": "(32, 33)", "new": "(32, 32)", "stage": "budget"},
    {
        "title": "right but not coalesced",
        "new": """
x, y = cuda.grid(2)
if y < a.shape[0] and x < a.shape[1]:
    out[x, y] = a[y, x]
""",
        "stage": "budget",
    },
]


def bench(rng):
    return (rng.standard_normal((8192, 8192), dtype=np.float32),)


def torch_op(a):
    return a.t().contiguous()


def work(a):
    return 2 * a.nbytes, 0
