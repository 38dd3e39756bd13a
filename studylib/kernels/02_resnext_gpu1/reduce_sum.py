"""Add up an array: a tree in shared memory, then shuffles in the last warp.

    out[b] = sum of x[i] over all i that block b goes through

x: float32 (n,). out: float32 (blocks,): one partial sum a block. A block has 256 threads; there are at most 8 blocks, so a
thread may have to take several elements, each a grid's size after the last. The same kernel, started with one block on
`out`, gives the total. (After lab 2 of Caltech's CS179.)

Difficulty: 3 of 5
Minutes: 30

Plan:
1. Each thread adds up its own elements, in steps of the grid's size, and puts its sum into shared memory.
2. Wait. Then halve: the first 128 threads add the upper 128 sums to theirs. Wait. The first 64 ... until 32 are left.
3. Those 32 are one warp, which runs in step: let it finish by `cuda.shfl_down_sync`, without shared memory and barriers.
4. Thread 0 writes the block's sum.

Hints:
1. Active threads must stay neighbours: `if t < half: sums[t] += sums[t + half]`. With t % (2 * step) == 0 most of every warp
   would idle, and the banks would conflict.
2. `half` goes 128, 64, 32, and the barrier stands outside of the `if`.
3. In the first warp: total = sums[t]; for shift 16, 8, 4, 2, 1: total += cuda.shfl_down_sync(0xFFFFFFFF, total, shift).

Budget: for 4,096 elements 2 global reads and one global write a thread, 4 sectors a request; 1 pass in shared memory.

Hardware: Every step of the tree halves the work, so all of it is no more than the first reading. With neighbours active, whole
warps are done and leave; a warp in which one thread works costs as much as one in which all do. A shuffle passes a register
to another lane of the warp without memory.
"""

from math import ceil

from numba import cuda, float32

BLOCK = 256
MOST_BLOCKS = 8


@cuda.jit
def reduce_sum(x, out):
    # BEGIN SOLUTION
    sums = cuda.shared.array(BLOCK, float32)
    t = cuda.threadIdx.x
    total = float32(0)
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        total += x[i]
    sums[t] = total
    cuda.syncthreads()
    half = BLOCK // 2
    while half >= 32:
        if t < half:
            sums[t] += sums[t + half]
        cuda.syncthreads()
        half //= 2
    if t < 32:
        total = sums[t]
        shift = 16
        while shift > 0:
            total += cuda.shfl_down_sync(0xFFFFFFFF, total, shift)
            shift //= 2
        if t == 0:
            out[cuda.blockIdx.x] = total
    # END SOLUTION


def launch(kernel, x, out):
    kernel[out.size, BLOCK](x, out)


# BEGIN GRADER
import numpy as np

from studylib.kernels.rounding import gamma
from studylib.kernels.sizes import number, prime


def reference(x):
    blocks = min(MOST_BLOCKS, ceil(x.size / BLOCK))
    padded = np.zeros(ceil(x.size / (blocks * BLOCK)) * blocks * BLOCK)
    padded[: x.size] = x
    return padded.reshape(-1, blocks, BLOCK).sum((0, 2)).astype(np.float32)


def allowed(x):
    # A block's sum, one addition less than it has terms, and the expected value's own rounding.
    return gamma(ceil(x.size / len(reference(x)) / BLOCK) * BLOCK) * reference(np.abs(x))


DRAWN = 3  # the last cases: their sizes are drawn anew for each rng, those of the last one as the budget needs them


def drawn(rng):
    return prime(rng, 2049, 7000), number(rng, 257, 2047), 32 * number(rng, 65, 127)


def cases(rng):
    for n in (1, 4096, 5000, 300, 33, *drawn(rng)):
        yield f"{n} element{'s' * (n > 1)}", rng.standard_normal(n, dtype=np.float32) + 1


BUDGET = {"case": "4096 elements", "reads": 2, "writes": 1, "sectors": 4, "passes": 1, "drawn": True}

MUTANTS = [
    {
        "title": "no barrier in the tree",
        "old": "        cuda.syncthreads()\n        half",
        "new": "        half",
        "stage": "safe",
        "finds": "race",
    },
    {
        "title": "barrier inside the if",
        "old": "            sums[t] += sums[t + half]\n        cuda.syncthreads()\n",
        "new": "            sums[t] += sums[t + half]\n            cuda.syncthreads()\n",
        "stage": "safe",
        "finds": "barrier-divergence",
    },
    {
        "title": "one element a thread",
        "old": "for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):",
        "new": "for i in range(cuda.grid(1), min(x.size, cuda.grid(1) + 1)):",
        "stage": "right",
    },
    {"title": "the last step forgotten", "old": "while shift > 0", "new": "while shift > 1", "stage": "right"},
    {
        "title": "guard forgotten",
        "old": "for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):",
        "new": "for i in range(cuda.grid(1), x.size + 1, cuda.gridsize(1)):",
        "stage": "safe",
        "finds": "out-of-bounds",
    },
    {
        "title": "every thread writes",
        "old": "        if t == 0:\n            out",
        "new": "        if t < 2:\n            out",
        "stage": "safe",
        "finds": "race",
    },
    {
        "title": "interleaved: right, with bank conflicts",
        "old": "        if t < half:\n            sums[t] += sums[t + half]\n",
        "new": """        step = BLOCK // 2 // half
        if t < half:
            sums[2 * step * t] += sums[2 * step * t + step]
""",
        "stage": "right",
    },
    {
        "title": "a run of neighbours for each thread: right, not coalesced",
        "new": """
sums = cuda.shared.array(BLOCK, float32)
t = cuda.threadIdx.x
total = float32(0)
for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
    total += x[i]
sums[t] = total
cuda.syncthreads()
step = 1
while step < BLOCK:
    if t * 2 * step < BLOCK:
        sums[2 * step * t] += sums[2 * step * t + step]
    cuda.syncthreads()
    step *= 2
if t == 0:
    out[cuda.blockIdx.x] = sums[0]
""",
        "stage": "budget",
    },
]


def bench(rng):
    return (rng.standard_normal(1 << 24, dtype=np.float32),)


def torch_op(x):
    import torch

    blocks = min(MOST_BLOCKS, ceil(len(x) / BLOCK))
    rounds = ceil(len(x) / (blocks * BLOCK))
    padded = torch.nn.functional.pad(x, (0, rounds * blocks * BLOCK - len(x)))
    return padded.view(rounds, blocks, BLOCK).sum((0, 2))


def work(x):
    return x.nbytes, x.size
