"""Squeeze, excite and scale in one kernel: the map is read twice, and nothing in between is written.

    z[c] = (sum over p of x[b, c, p]) / pixels                           squeeze
    hidden[k] = max(0, sum over c of w1[k, c] * z[c])                    excite
    gate[c] = 1 / (1 + exp(-(sum over k of w2[k, c] * hidden[k])))
    out[b, c, p] = gate[c] * x[b, c, p]                                  scale

x: float32 (batch, channels, pixels). w1: float32 (reduced, channels). w2: float32 (reduced, channels), so transposed. out: float32 as x.
At most 512 channels and 32 reduced ones. One block of 256 threads, one image. (SENet, Hu, Shen, Sun 2017, Eqs. 2 to 4, without
biases.)

Difficulty: 4 of 5
Minutes: 35

Plan:
1. Squeeze: a warp takes a channel, every eighth. Its lanes read the pixels side by side, add up, and finish by shuffles. Wait.
2. The hidden numbers: a warp takes one, every eighth, and goes through z in the same way. ReLU. Wait.
3. The gates: a thread takes a channel, every 256th, and goes through the hidden numbers. Wait.
4. Scale: all threads go through all numbers of the image side by side.

Hints:
1. warp = threadIdx.x // 32, lane = threadIdx.x % 32; after total += cuda.shfl_down_sync(0xFFFFFFFF, total, shift) for shift 16, 8,
   4, 2, 1 lane 0 has the sum and writes it to shared memory.
2. Three small arrays in shared memory: z and gate for 512 channels, hidden for 32. Three barriers.
3. In step 4 number n of the image is channel n // pixels and pixel n % pixels.

Budget: for 16 channels of 64 pixels and 4 reduced ones 13 global reads and 4 global writes a thread, 4 sectors a request; 1 pass in
shared memory.

Hardware: The work is small and the bytes are not: each of the four formulas as a call of its own reads or writes something, and the
whole map is read for the mean and again for the scale. It is so here too, for no gate is known before the last pixel; but the second
time an image of a late stage is still in the cache. One image a block leaves most of a card idle when the batch is one.
"""

import math

from numba import cuda, float32

BLOCK = 256
WARP = 32
WARPS = 8
MOST_CHANNELS = 512
MOST_REDUCED = 32


@cuda.jit
def squeeze_excite(x, w1, w2, out):
    # BEGIN SOLUTION
    z = cuda.shared.array(MOST_CHANNELS, float32)
    hidden = cuda.shared.array(MOST_REDUCED, float32)
    gate = cuda.shared.array(MOST_CHANNELS, float32)
    t = cuda.threadIdx.x
    b = cuda.blockIdx.x
    warp, lane = t // WARP, t % WARP
    channels, pixels = x.shape[1], x.shape[2]
    for c in range(warp, channels, WARPS):
        total = float32(0)
        for p in range(lane, pixels, WARP):
            total += x[b, c, p]
        shift = 16
        while shift > 0:
            total += cuda.shfl_down_sync(0xFFFFFFFF, total, shift)
            shift //= 2
        if lane == 0:
            z[c] = total / float32(pixels)
    cuda.syncthreads()
    for k in range(warp, w1.shape[0], WARPS):
        total = float32(0)
        for c in range(lane, channels, WARP):
            total += w1[k, c] * z[c]
        shift = 16
        while shift > 0:
            total += cuda.shfl_down_sync(0xFFFFFFFF, total, shift)
            shift //= 2
        if lane == 0:
            hidden[k] = max(total, float32(0))
    cuda.syncthreads()
    for c in range(t, channels, BLOCK):
        total = float32(0)
        for k in range(w2.shape[0]):
            total += w2[k, c] * hidden[k]
        gate[c] = float32(1) / (float32(1) + math.exp(-total))
    cuda.syncthreads()
    for n in range(t, channels * pixels, BLOCK):
        out[b, n // pixels, n % pixels] = gate[n // pixels] * x[b, n // pixels, n % pixels]
    # END SOLUTION


def launch(kernel, x, w1, w2, out):
    kernel[len(x), BLOCK](x, w1, w2, out)


# BEGIN GRADER
import numpy as np

from studylib.kernels.rounding import EXP, gamma
from studylib.kernels.sizes import number, prime


def steps(x, w1, w2):
    """z, hidden, what the sigmoid takes, and the gates, in float64; each (batch, ...)."""
    z = x.astype(float).mean(2)
    hidden = np.maximum(z @ w1.T, 0)
    before = hidden @ w2
    return z, hidden, before, 1 / (1 + np.exp(-before))


def reference(x, w1, w2):
    return (steps(x, w1, w2)[-1][..., None] * x).astype(np.float32)


def allowed(x, w1, w2):
    # The bounds of the steps, each applied to what the step before may be wrong by (Higham 3.3, a running error analysis).
    z, hidden, before, gate = steps(x, w1, w2)
    off_z = gamma(x.shape[2]) * np.abs(x.astype(float)).mean(2)
    off_hidden = off_z @ np.abs(w1).T + gamma(x.shape[1]) * (np.abs(z) + off_z) @ np.abs(w1).T
    off_before = off_hidden @ np.abs(w2) + gamma(len(w2)) * (hidden + off_hidden) @ np.abs(w2)
    # exp(-before), where -before is off, and rounded once more for who takes a power of two; in the gate e / (1 + e) of it counts.
    # Its sum with 1 and the quotient; then the product with x and the expected value.
    off_gate = gate * ((1 - gate) * (np.expm1(off_before) + gamma(np.abs(before) + EXP)) + gamma(2))
    return (off_gate + gamma(2) * gate)[..., None] * np.abs(x)


DRAWN = 3  # the last cases: their sizes are drawn anew for each rng, those of the last one as the budget needs them


def drawn(rng):
    yield 2, prime(rng, 17, 43), prime(rng, 29, 71), number(rng, 2, 15)
    yield number(rng, 2, 3), number(rng, 2, 30), number(rng, 2, 31), number(rng, 1, 9)
    yield 2, 32 * number(rng, 1, 2), 32 * number(rng, 3, 5), 8 * number(rng, 1, 3)


def cases(rng):
    for batch, channels, pixels, reduced in (
        (1, 1, 1, 1),
        (2, 16, 64, 4),
        (1, 40, 49, 3),
        (1, 300, 4, 19),
        *drawn(rng),
    ):
        x = rng.standard_normal((batch, channels, pixels), dtype=np.float32) + rng.standard_normal(
            (batch, channels, 1), dtype=np.float32
        )
        w1, w2 = rng.standard_normal((2, reduced, channels), dtype=np.float32)
        yield f"{batch} x {channels} channels, {pixels} pixels, {reduced} reduced", x, w1, w2


BUDGET = {
    "case": "2 x 16 channels, 64 pixels, 4 reduced",
    "reads": 13,
    "writes": 4,
    "sectors": 4,
    "passes": 1,
    "drawn": True,
}

MUTANTS = [
    {
        "title": "no barrier behind the squeeze",
        "old": "/ float32(pixels)\n    cuda.syncthreads()\n",
        "new": "/ float32(pixels)\n",
        "stage": "safe",
        "finds": "race",
    },
    {
        "title": "no barrier behind the hidden numbers",
        "old": "max(total, float32(0))\n    cuda.syncthreads()\n",
        "new": "max(total, float32(0))\n",
        "stage": "safe",
        "finds": "race",
    },
    {
        "title": "no barrier behind the gates",
        "old": "math.exp(-total))\n    cuda.syncthreads()\n",
        "new": "math.exp(-total))\n",
        "stage": "safe",
        "finds": "race",
    },
    {"title": "the sum for the mean", "old": "total / float32(pixels)", "new": "total", "stage": "right"},
    {"title": "no ReLU", "old": "max(total, float32(0))", "new": "total", "stage": "right"},
    {"title": "exp of the wrong sign", "old": "math.exp(-total)", "new": "math.exp(total)", "stage": "right"},
    {
        "title": "the gate added, as in a residual",
        "old": "gate[n // pixels] * x",
        "new": "gate[n // pixels] + x",
        "stage": "right",
    },
    {
        "title": "a shuffle that lanes without a pixel miss",
        "old": "            total += x[b, c, p]\n",
        "new": "            total += x[b, c, p] + float32(0) * cuda.shfl_xor_sync(0xFFFFFFFF, total, 1)\n",
        "stage": "safe",
        "finds": "shuffle",
    },
    {
        "title": "a thread scales a channel, pixel by pixel: right, not coalesced",
        "old": """    for n in range(t, channels * pixels, BLOCK):
        out[b, n // pixels, n % pixels] = gate[n // pixels] * x[b, n // pixels, n % pixels]
""",
        "new": """    for c in range(t, channels, BLOCK):
        for p in range(pixels):
            out[b, c, p] = gate[c] * x[b, c, p]
""",
        "stage": "budget",
    },
]


def bench(rng):
    x = rng.standard_normal((256, 512, 28 * 28), dtype=np.float32)  # ResNet-50's second stage
    w1, w2 = rng.standard_normal((2, 32, 512), dtype=np.float32)
    return x, w1, w2


def torch_op(x, w1, w2):
    hidden = (x.mean(2) @ w1.T).relu()
    return (hidden @ w2).sigmoid()[..., None] * x


def work(x, w1, w2):
    return 2 * x.nbytes + w1.nbytes + w2.nbytes, 2 * x.size + 4 * len(x) * w1.size
