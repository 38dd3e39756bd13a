"""Blur a signal: a 1-D convolution with a halo in shared memory.

    out[i] = sum over k in 0..2R of taps[k] * x[i + k - R]        with x = 0 outside, R = 8

x, out: float32 (n,). taps: float32 (17,). A block has 256 threads and computes 256 outputs, for which it needs 256 + 16
elements of `x`: its own and a halo of R on each side. (After lab 1 of Caltech's CS179.)

Difficulty: 2 of 5
Minutes: 25

Plan:
1. Make a tile of 272 floats in shared memory.
2. Each thread brings one element. Sixteen are left over: let the first sixteen threads bring a second one.
3. Outside the signal the tile holds zeros: write them, for shared memory begins as garbage.
4. Wait for the whole tile. Then each thread sums its seventeen products.
5. Only now ask whether the thread's output exists. Why not before?

Hints:
1. tile[k] holds x[first + k - R], where `first` is the block's first output. Thread t fills tile[t] and, if t < 2 R,
   tile[256 + t].
2. A thread that returns before the barrier leaves its place in the tile empty, and the others wait for nobody.
3. total += taps[k] * tile[t + k]

Budget: 19 global reads and one global write a thread, at most 5 sectors a request; 1 pass in shared memory.

Hardware: Straight from global memory the block would make 17 x 256 reads of `x`; with the tile they are 272. The halo begins 8
floats, one sector, before a line of 128 bytes, so a shifted request stays at 4 sectors; a radius that is no multiple of 8 would
touch 5. All threads read the same tap at the same time: one sector, and on the card one read for the warp.
"""

from math import ceil

from numba import cuda, float32

BLOCK = 256
RADIUS = 8
TILE = 272  # BLOCK and a halo of RADIUS on both sides


@cuda.jit
def gaussian_blur(x, taps, out):
    # BEGIN SOLUTION
    tile = cuda.shared.array(TILE, float32)
    t = cuda.threadIdx.x
    first = cuda.blockIdx.x * BLOCK
    for k in range(t, TILE, BLOCK):
        j = first + k - RADIUS
        if j >= 0 and j < x.size:
            tile[k] = x[j]
        else:
            tile[k] = float32(0)
    cuda.syncthreads()
    if first + t < out.size:
        total = float32(0)
        for k in range(2 * RADIUS + 1):
            total += taps[k] * tile[t + k]
        out[first + t] = total
    # END SOLUTION


def launch(kernel, x, taps, out):
    kernel[ceil(out.size / BLOCK), BLOCK](x, taps, out)


# BEGIN GRADER
import numpy as np

from studylib.kernels.rounding import gamma
from studylib.kernels.sizes import number, prime


def reference(x, taps):
    padded = np.pad(x.astype(float), RADIUS)
    return (np.lib.stride_tricks.sliding_window_view(padded, taps.size) @ taps).astype(np.float32)


def allowed(x, taps):
    # A sum of 17 products, and the expected value's own rounding.
    return gamma(taps.size + 1) * reference(np.abs(x), np.abs(taps))


DRAWN = 3  # the last cases: their sizes are drawn anew for each rng, those of the last one as the budget needs them


def drawn(rng):
    return prime(rng, 513, 1500), number(rng, 9, 255), 256 * number(rng, 2, 6, 4)


def cases(rng):
    for n in (1, 5, 1024, 1000, 257, *drawn(rng)):
        # Not symmetric, so that a kernel which turns the taps around is seen.
        taps = rng.random(2 * RADIUS + 1, dtype=np.float32)
        yield f"{n} element{'s' * (n > 1)}", rng.standard_normal(n, dtype=np.float32), taps


BUDGET = {"case": "1024 elements", "reads": 19, "writes": 1, "sectors": 5, "passes": 1, "drawn": True}

MUTANTS = [
    {"title": "no barrier", "old": "cuda.syncthreads()\n", "new": "pass\n", "stage": "safe", "finds": "race"},
    {
        "title": "halo missing on the right",
        "old": "range(t, TILE, BLOCK)",
        "new": "range(t, BLOCK, BLOCK)",
        "stage": "safe",
        "finds": "uninitialised-read",
    },
    {
        "title": "zeros outside forgotten",
        "old": "        else:\n            tile[k] = float32(0)\n",
        "new": "",
        "stage": "safe",
        "finds": "uninitialised-read",
    },
    {"title": "halo off by one", "old": "first + k - RADIUS", "new": "first + k - RADIUS + 1", "stage": "right"},
    {"title": "taps turned around", "old": "taps[k]", "new": "taps[2 * RADIUS - k]", "stage": "right"},
    {
        "title": "threads leave before the barrier",
        "old": "    t = cuda.threadIdx.x\n",
        "new": "    t = cuda.threadIdx.x\n    if cuda.grid(1) >= out.size:\n        return\n",
        "stage": "safe",
        "finds": "barrier-divergence",
    },
    {
        "title": "everything from global memory",
        "new": """
i = cuda.grid(1)
if i < out.size:
    total = float32(0)
    for k in range(2 * RADIUS + 1):
        if i + k - RADIUS >= 0 and i + k - RADIUS < x.size:
            total += taps[k] * x[i + k - RADIUS]
    out[i] = total
""",
        "stage": "budget",
    },
]


def bench(rng):
    return rng.standard_normal(1 << 24, dtype=np.float32), rng.random(2 * RADIUS + 1, dtype=np.float32)


def torch_op(x, taps):
    from torch.nn.functional import conv1d

    return conv1d(x[None, None], taps[None, None], padding=RADIUS)[0, 0]


def work(x, taps):
    return 2 * x.nbytes, 2 * taps.size * x.size
