"""Squash a capsule's vector and share it out to its parents: two reductions by shuffles.

    coupling[i, j] = exp(logits[i, j]) / (sum over j of exp(logits[i, j]))
    u[i, d] = |s[i]| / (1 + |s[i]|^2) * s[i, d]

logits: float32 (n, parents), at most 32 parents. s: float32 (n, dim), dim at most 32. coupling: float32 (n, parents). u: float32
(n, dim). One warp, one capsule i; a block has 4 warps. (Sabour, Frosst, Hinton 2017, Eq. 1, whose |s|^2 / (1 + |s|^2) * s / |s|
is written here without the division by |s|, and Eq. 3.)

Difficulty: 3 of 5
Minutes: 25

Plan:
1. Which warp of the whole grid is this, and which lane of it am I? The warp's number is the capsule.
2. Each lane reads one logit. Lanes without a parent take part in the shuffles with a value that changes nothing.
3. The greatest logit of the row, by `cuda.shfl_xor_sync` with 16, 8, 4, 2, 1. Subtract it: exp of a large number overflows.
4. The sum of the exponentials in the same way; divide and write.
5. The squared length of s[i] in the same way; scale and write.

Hints:
1. i = cuda.grid(1) // 32 and lane = cuda.threadIdx.x % 32. A whole warp has a capsule or has none, so `if i < n` is safe.
2. value = max(value, cuda.shfl_xor_sync(0xFFFFFFFF, value, shift)): after five steps every lane has the greatest.
3. The shuffles must stand outside of `if lane < parents`: a lane that is asked for its value has to be there. Let such a lane
   hold -3e38 for the maximum, and zero for the sums.

Budget: two global reads and two global writes a thread, at most 2 sectors a request for 16 parents and 8 dimensions.

Hardware: The sum runs over the PARENTS: what one capsule has to give adds up to 1. With one row a warp the reduction needs no shared
memory and no barrier, only registers that the lanes show each other. With 8 dimensions 24 lanes idle in the second half; that is
the price of one simple rule, and small beside the reading.
"""

import math
from math import ceil

from numba import cuda, float32

BLOCK = 128
WARP = 32
LOWEST = -3e38


@cuda.jit
def softmax_squash(logits, s, coupling, u):
    # BEGIN SOLUTION
    i = cuda.grid(1) // WARP
    lane = cuda.threadIdx.x % WARP
    if i < logits.shape[0]:
        logit = float32(LOWEST)
        if lane < logits.shape[1]:
            logit = logits[i, lane]
        greatest = logit
        shift = 16
        while shift > 0:
            greatest = max(greatest, cuda.shfl_xor_sync(0xFFFFFFFF, greatest, shift))
            shift //= 2
        share = float32(0)
        if lane < logits.shape[1]:
            share = math.exp(logit - greatest)
        component = float32(0)
        if lane < s.shape[1]:
            component = s[i, lane]
        total = share
        square = component * component
        shift = 16
        while shift > 0:
            total += cuda.shfl_xor_sync(0xFFFFFFFF, total, shift)
            square += cuda.shfl_xor_sync(0xFFFFFFFF, square, shift)
            shift //= 2
        if lane < logits.shape[1]:
            coupling[i, lane] = share / total
        if lane < s.shape[1]:
            u[i, lane] = math.sqrt(square) / (float32(1) + square) * component
    # END SOLUTION


def launch(kernel, logits, s, coupling, u):
    kernel[ceil(len(logits) * WARP / BLOCK), BLOCK](logits, s, coupling, u)


# BEGIN GRADER
import numpy as np

from studylib.kernels.rounding import EXP, gamma
from studylib.kernels.sizes import number, prime


def reference(logits, s):
    shares = np.exp(logits.astype(float) - logits.max(1, keepdims=True))
    length = np.linalg.norm(s.astype(float), axis=1, keepdims=True)
    coupling = shares / shares.sum(1, keepdims=True)
    return coupling.astype(np.float32), (length / (1 + length**2) * s).astype(np.float32)


def allowed(logits, s):
    # A share is exp(d) / (sum of exp(d)): d = logit - greatest is rounded, and once more for who takes 2 to the power of
    # d / ln 2, each of which changes exp(d) by |d| roundings; then exp itself, the sum, the division, and the expected value.
    d = logits.max(1, keepdims=True) - logits.astype(float)
    coupling, u = reference(logits, s)
    of_sum = (coupling * 2 * d).sum(1, keepdims=True) + EXP + logits.shape[1] - 1
    # The square of the length is a sum of dim products; half of its error comes by the root, all of it at most by 1 + square.
    # Root, sum, quotient, product, expected value, and three more for who squares the length again.
    return gamma(2 * d + EXP + of_sum + 2) * coupling, gamma(2 * s.shape[1] + 8) * np.abs(u)


DRAWN = 3  # the last cases: their sizes are drawn anew for each rng, those of the last one as the budget needs them


def drawn(rng):
    for scale in (1, 20):
        yield prime(rng, 5, 23), number(rng, 2, 31), number(rng, 2, 31), scale
    yield 8 * number(rng, 1, 3), 8 * number(rng, 1, 4), 8 * number(rng, 2, 4), 1


def cases(rng):
    for n, parents, dim, scale in (
        (1, 1, 1, 1),
        (16, 16, 8, 1),
        (13, 10, 16, 3),
        (6, 32, 32, 1),
        (5, 7, 4, 5000),
        *drawn(rng),
    ):
        logits = scale * rng.standard_normal((n, parents), dtype=np.float32)
        s = rng.standard_normal((n, dim), dtype=np.float32)
        s[-1] = 0 if n > 1 else s[-1]  # the formula with / |s| would be 0 / 0
        yield f"{n} capsules, {parents} parents, {dim} dimensions, logits of size {scale}", logits, s


BUDGET = {
    "case": "16 capsules, 16 parents, 8 dimensions, logits of size 1",
    "reads": 2,
    "writes": 2,
    "sectors": 2,
    "drawn": True,
}

MUTANTS = [
    {
        "title": "softmax over the children",
        "old": "            coupling[i, lane] = share / total\n",
        "new": """            total = float32(0)
            for k in range(logits.shape[0]):
                total += math.exp(logits[k, lane])
            coupling[i, lane] = math.exp(logit) / total
""",
        "stage": "right",
    },
    {"title": "without the greatest", "old": "math.exp(logit - greatest)", "new": "math.exp(logit)", "stage": "right"},
    {
        "title": "a shuffle inside the if",
        "old": "        share = float32(0)\n        if lane < logits.shape[1]:\n            share = math.exp(logit - greatest)\n",
        "new": """        share = float32(0)
        if lane < logits.shape[1]:
            share = math.exp(logit - greatest)
            share += cuda.shfl_xor_sync(0xFFFFFFFF, share, 1) * float32(0)
""",
        "stage": "safe",
        "finds": "shuffle",
    },
    {
        "title": "the length divided out: 0 / 0",
        "old": "math.sqrt(square) / (float32(1) + square) * component",
        "new": "square / (float32(1) + square) * component / math.sqrt(square)",
        "stage": "right",
    },
    {
        "title": "one step of the sum too few",
        "old": "while shift > 0:\n            total",
        "new": "while shift > 1:\n            total",
        "stage": "right",
    },
    {
        "title": "no guard on the capsule",
        "old": "if i < logits.shape[0]:",
        "new": "if True:",
        "stage": "safe",
        "finds": "out-of-bounds",
    },
    {
        "title": "one thread, one capsule: right, not coalesced",
        "new": """
i = cuda.grid(1)
if i < logits.shape[0]:
    greatest = float32(LOWEST)
    for j in range(logits.shape[1]):
        greatest = max(greatest, logits[i, j])
    total = float32(0)
    for j in range(logits.shape[1]):
        total += math.exp(logits[i, j] - greatest)
    for j in range(logits.shape[1]):
        coupling[i, j] = math.exp(logits[i, j] - greatest) / total
    square = float32(0)
    for d in range(s.shape[1]):
        square += s[i, d] * s[i, d]
    for d in range(s.shape[1]):
        u[i, d] = math.sqrt(square) / (float32(1) + square) * s[i, d]
""",
        "stage": "budget",
    },
]


def bench(rng):
    n = 1 << 20
    return rng.standard_normal((n, 10), dtype=np.float32), rng.standard_normal((n, 8), dtype=np.float32)


def torch_op(logits, s):
    length = s.norm(dim=1, keepdim=True)
    return logits.softmax(1), length / (1 + length**2) * s


def work(logits, s):
    return 2 * (logits.nbytes + s.nbytes), 4 * logits.size + 5 * s.size
