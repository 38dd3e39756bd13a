"""Multiply two matrices through tiles in shared memory.

    out[i, j] = sum over k of a[i, k] * b[k, j]

a: float32 (m, depth). b: float32 (depth, n). out: float32 (m, n); no size need be a multiple of 16. A block has 16 x 16
threads and computes a tile of 16 x 16 of `out`: the grid's x goes along its columns, y along its rows.

Difficulty: 3 of 5
Minutes: 30

Plan:
1. The block walks along `depth` in steps of 16. In each step it brings one tile of `a` and one of `b` to shared memory.
2. Each thread brings one element of each: neighbours in x from neighbours in a row. What lies outside becomes zero.
3. Wait. Then each thread adds sixteen products to its sum: a row of the one tile times a column of the other.
4. Wait again before the next step writes over the tiles.
5. At the end each thread that has an element of `out` writes it.

Hints:
1. Column and row are `cuda.grid(2)`; in step k the thread brings a[row, k + x] and b[k + y, column].
2. A zero for what lies outside makes the ragged edges right without a special case in the sum.
3. There are two barriers in the loop. Without the second a fast warp overwrites what a slow one still reads.

Budget: for a depth of 32 four global reads and one global write a thread, at most 4 sectors a request; 1 pass in shared memory.

Hardware: Without tiles each thread reads 2 x depth numbers; with them 2 x depth / 16, for each number that comes in is used by 16
threads. A warp is two rows of the tile: it reads 2 words of the left tile (a broadcast) and 16 words of the right one, which
lie in different banks. Tensor cores multiply tiles in hardware; no kernel in Numba comes near them.
"""

from math import ceil

from numba import cuda, float32

TILE = 16


@cuda.jit
def matmul_tiled(a, b, out):
    # BEGIN SOLUTION
    left = cuda.shared.array((TILE, TILE), float32)
    right = cuda.shared.array((TILE, TILE), float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    column, row = cuda.grid(2)
    total = float32(0)
    for k in range(0, a.shape[1], TILE):
        if row < a.shape[0] and k + x < a.shape[1]:
            left[y, x] = a[row, k + x]
        else:
            left[y, x] = float32(0)
        if k + y < b.shape[0] and column < b.shape[1]:
            right[y, x] = b[k + y, column]
        else:
            right[y, x] = float32(0)
        cuda.syncthreads()
        for j in range(TILE):
            total += left[y, j] * right[j, x]
        cuda.syncthreads()
    if row < out.shape[0] and column < out.shape[1]:
        out[row, column] = total
    # END SOLUTION


def launch(kernel, a, b, out):
    rows, columns = out.shape
    kernel[(ceil(columns / TILE), ceil(rows / TILE)), (TILE, TILE)](a, b, out)


# BEGIN GRADER
import numpy as np

from studylib.kernels.rounding import gamma
from studylib.kernels.sizes import number, prime


def reference(a, b):
    return (a.astype(float) @ b).astype(np.float32)


def allowed(a, b):
    # A sum of so many products as the depth, and the expected value's own rounding.
    return gamma(len(b) + 1) * reference(np.abs(a), np.abs(b))


DRAWN = 3  # the last cases: their sizes are drawn anew for each rng, those of the last one as the budget needs them


def drawn(rng):
    yield tuple(prime(rng, 17, 60) for _ in range(3))
    yield tuple(number(rng, 2, 40) for _ in range(3))
    yield tuple(16 * number(rng, 1, 3) for _ in range(3))


def cases(rng):
    for m, depth, n in ((1, 1, 1), (32, 32, 48), (20, 37, 9), (3, 50, 33), *drawn(rng)):
        a = rng.standard_normal((m, depth), dtype=np.float32)
        yield f"{m} x {depth} times {depth} x {n}", a, rng.standard_normal((depth, n), dtype=np.float32)


BUDGET = {"case": "32 x 32 times 32 x 48", "reads": 4, "writes": 1, "sectors": 4, "passes": 1, "drawn": True}

MUTANTS = [
    {
        "title": "no barrier after the sum",
        "old": "* right[j, x]\n        cuda.syncthreads()\n",
        "new": "* right[j, x]\n",
        "stage": "safe",
        "finds": "race",
    },
    {
        "title": "no barrier before the sum",
        "old": "        cuda.syncthreads()\n        for j",
        "new": "        for j",
        "stage": "safe",
        "finds": "race",
    },
    {
        "title": "no guard along the depth",
        "old": "if row < a.shape[0] and k + x < a.shape[1]:",
        "new": "if row < a.shape[0]:",
        "stage": "safe",
        "finds": "out-of-bounds",
    },
    {"title": "axes swapped", "old": "right[j, x]", "new": "right[x, j]", "stage": "right"},
    {
        "title": "half a tile left over",
        "old": "range(0, a.shape[1], TILE)",
        "new": "range(0, a.shape[1] // TILE * TILE, TILE)",
        "stage": "right",
    },
    {
        "title": "without tiles",
        "new": """
column, row = cuda.grid(2)
if row < out.shape[0] and column < out.shape[1]:
    total = float32(0)
    for k in range(a.shape[1]):
        total += a[row, k] * b[k, column]
    out[row, column] = total
""",
        "stage": "budget",
    },
]


def bench(rng):
    return tuple(rng.standard_normal((2, 2048, 2048), dtype=np.float32))


def torch_op(a, b):
    return a @ b


def work(a, b):
    m, n = len(a), b.shape[1]
    return a.nbytes + b.nbytes + 4 * m * n, 2 * m * n * len(b)
