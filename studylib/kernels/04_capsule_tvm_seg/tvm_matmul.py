"""Write the kernel that TVM's schedule for a matrix product writes: tiles in shared memory, a small tile in registers.

    out[i, j] = sum over k of a[i, k] * b[k, j]

a: float32 (m, depth). b: float32 (depth, n). out: float32 (m, n), any sizes. A block has 16 x 16 threads and computes a tile of
64 x 64 of `out`; each thread computes 4 x 4 of them. The grid's x goes along the columns, y along the rows. In TVM's words: split
both axes by 64 (blockIdx) and by 16 (threadIdx), split the reduction by 16, cache_read both inputs in shared memory, cache_write
the result in registers.

Difficulty: 5 of 5
Minutes: 45

Plan:
1. 16 sums in a local array, all zero.
2. Step along `depth` by 16. The block brings 64 x 16 numbers of `a` and 16 x 64 of `b`: four of each a thread, neighbours from
   neighbours. Zeros for what lies outside.
3. Wait. For each of the 16 places of the reduction a thread takes 4 numbers of the left tile and 4 of the right one, and adds 16
   products.
4. Wait before the tiles are overwritten.
5. Write the 16 sums that exist.

Hints:
1. Let a thread's rows be y, y + 16, y + 32, y + 48 and its columns x, x + 16, x + 32, x + 48: then a warp reads 16 neighbouring words
   of the right tile, and its writes are runs as well. Rows 4 y .. 4 y + 3 would conflict.
2. With t = y * 16 + x the left tile (64, 16) is filled by left[t // 16 + 16 * r, t % 16], the right one (16, 64) by
   right[t // 64 + 4 * r, t % 64], r = 0..3.
3. sums = cuda.local.array(16, float32); sums[r * 4 + s] += left[y + 16 * r, k] * right[k, x + 16 * s].

Budget: for a depth of 32 16 global reads and 16 global writes a thread, at most 4 sectors a request; 1 pass in shared memory.

Hardware: matmul_tiled reads two words of shared memory for each multiply-add, and shared memory is what it waits for. Here 8 words
serve 16 multiply-adds: four times fewer. The price is registers, and so fewer threads at a time. A schedule names these choices
and changes none of the arithmetic; TVM searches over them.
"""

from math import ceil

from numba import cuda, float32

TILE = 64  # of the result, for a block
THREADS = 16
STEP = 16  # along the depth
EACH = 4  # rows, and columns, of the result for a thread
SUMS = 16


@cuda.jit
def tvm_matmul(a, b, out):
    # BEGIN SOLUTION
    left = cuda.shared.array((TILE, STEP), float32)
    right = cuda.shared.array((STEP, TILE), float32)
    sums = cuda.local.array(SUMS, float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    t = y * THREADS + x
    top, first = cuda.blockIdx.y * TILE, cuda.blockIdx.x * TILE
    for r in range(SUMS):
        sums[r] = float32(0)
    for k in range(0, a.shape[1], STEP):
        for r in range(EACH):
            i, j = t // STEP + THREADS * r, t % STEP
            if top + i < a.shape[0] and k + j < a.shape[1]:
                left[i, j] = a[top + i, k + j]
            else:
                left[i, j] = float32(0)
            i, j = t // TILE + EACH * r, t % TILE
            if k + i < b.shape[0] and first + j < b.shape[1]:
                right[i, j] = b[k + i, first + j]
            else:
                right[i, j] = float32(0)
        cuda.syncthreads()
        for q in range(STEP):
            for r in range(EACH):
                for s in range(EACH):
                    sums[r * EACH + s] += left[y + THREADS * r, q] * right[q, x + THREADS * s]
        cuda.syncthreads()
    for r in range(EACH):
        for s in range(EACH):
            i, j = top + y + THREADS * r, first + x + THREADS * s
            if i < out.shape[0] and j < out.shape[1]:
                out[i, j] = sums[r * EACH + s]
    # END SOLUTION


def launch(kernel, a, b, out):
    rows, columns = out.shape
    kernel[(ceil(columns / TILE), ceil(rows / TILE)), (THREADS, THREADS)](a, b, out)


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
    yield prime(rng, 65, 100), prime(rng, 17, 40), prime(rng, 65, 140)
    yield tuple(number(rng, 2, 40) for _ in range(3))
    yield 64 * number(rng, 1, 2), 16 * number(rng, 1, 3), 64


def cases(rng):
    for m, depth, n in ((1, 1, 1), (64, 32, 128), (70, 21, 50), (192, 20, 3), (3, 50, 2), *drawn(rng)):
        a = rng.standard_normal((m, depth), dtype=np.float32)
        yield f"{m} x {depth} times {depth} x {n}", a, rng.standard_normal((depth, n), dtype=np.float32)


BUDGET = {"case": "64 x 32 times 32 x 128", "reads": 16, "writes": 16, "sectors": 4, "passes": 1, "drawn": True}

MUTANTS = [
    {
        "title": "no barrier after the sums",
        "old": "x + THREADS * s]\n        cuda.syncthreads()\n",
        "new": "x + THREADS * s]\n",
        "stage": "safe",
        "finds": "race",
    },
    {
        "title": "the sums begin as garbage",
        "old": "        sums[r] = float32(0)\n",
        "new": "        pass\n",
        "stage": "safe",
        "finds": "uninitialised-read",
    },
    {
        "title": "no guard on the write",
        "old": "if i < out.shape[0] and j < out.shape[1]:",
        "new": "if i < out.shape[0]:",
        "stage": "safe",
        "finds": "out-of-bounds",
    },
    {
        "title": "rows and columns swapped",
        "old": "sums[r * EACH + s] +=",
        "new": "sums[s * EACH + r] +=",
        "stage": "right",
    },
    {
        "title": "the depth's last step forgotten",
        "old": "range(0, a.shape[1], STEP)",
        "new": "range(0, a.shape[1] - STEP + 1, STEP)",
        "stage": "right",
    },
    {
        "title": "each thread a square of neighbours, and written elsewhere",
        "old": "left[y + THREADS * r, q] * right[q, x + THREADS * s]",
        "new": "left[y * EACH + r, q] * right[q, x * EACH + s]",
        "stage": "right",
    },
]


def bench(rng):
    return tuple(rng.standard_normal((2, 2048, 2048), dtype=np.float32))


def torch_op(a, b):
    return a @ b


def work(a, b):
    m, n = len(a), b.shape[1]
    return a.nbytes + b.nbytes + 4 * m * n, 2 * m * n * len(b)
