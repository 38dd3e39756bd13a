"""Multiply signs: pack them by a vote of the warp, then 32 products are one exclusive or and one count of bits.

    out[i, j] = sum over k of sign(x[i, k]) * (sign that bit k % 32 of w[k // 32, j] stands for)
              = depth - 2 * (number of places k where the two signs differ)

x: float32 (m, depth), whose sign is +1 for x >= 0, else -1. w: uint32 (ceil(depth / 32), n): bit 1 stands for +1, 0 for -1, and
the bits beyond `depth` are 0. out: int32 (m, n). A block has 32 x 8 threads, so that a warp is one row of it: it computes 8 rows
and 32 columns of `out`, the grid's x along the columns, y along the rows. (XNOR-Net, Rastegari et al. 2016, section 3.2,
without the factors K and alpha, which multiply `out`.)

Difficulty: 4 of 5
Minutes: 35

Plan:
1. The block walks along the words of `w`, 8 at a time: thread (x, y) brings word y of its column to shared memory.
2. Wait. For each of the 8 words the warp reads 32 numbers of its row of `x`, side by side, and votes which are >= 0: one word.
3. Where the two words differ the product is -1. Count these bits.
4. Wait again before the next 8 words are brought.
5. At the end each thread that has an element writes depth - 2 * count.

Hints:
1. word = cuda.ballot_sync(0xFFFFFFFF, predicate): every lane gets the votes of all, lane 0's as bit 0. All lanes must come to it,
   also of a row that does not exist.
2. The predicate is false beyond `depth`, as the bits of `w` there are 0: equal bits do not count.
3. cuda.popc(a ^ b) counts the bits in which two words differ. `ballot_sync` gives an int32, and widened to 64 bits a negative one has
   32 more ones: `uint32(word)` first.

Budget: for 16 x 512 times 512 x 32 eighteen global reads (16 of x, 2 of w) and one global write a thread, at most 4 sectors a
request; 1 pass in shared memory.

Hardware: One instruction does 32 products, and packed signs take 1/32 of the bytes of float32. But a card counts bits in a quarter
of the lanes or fewer at a time, and the convolution around it still reads float32 activations: the paper's 62 times fewer
operations are a bound for the inner loop, not a time.
"""

from math import ceil

from numba import cuda, uint32

LANES, ROWS = 32, 8


@cuda.jit
def popcount_matmul(x, w, out):
    # BEGIN SOLUTION
    tile = cuda.shared.array((ROWS, LANES), uint32)
    lane, y = cuda.threadIdx.x, cuda.threadIdx.y
    column, row = cuda.grid(2)
    different = 0
    for first in range(0, w.shape[0], ROWS):
        if first + y < w.shape[0] and column < w.shape[1]:
            tile[y, lane] = w[first + y, column]
        cuda.syncthreads()
        for k in range(first, min(first + ROWS, w.shape[0])):
            place = k * LANES + lane
            is_plus = False
            if row < x.shape[0] and place < x.shape[1]:
                is_plus = x[row, place] >= 0
            word = cuda.ballot_sync(0xFFFFFFFF, is_plus)
            if column < w.shape[1]:
                different += cuda.popc(uint32(word) ^ tile[k - first, lane])
        cuda.syncthreads()
    if row < out.shape[0] and column < out.shape[1]:
        out[row, column] = x.shape[1] - 2 * different
    # END SOLUTION


def launch(kernel, x, w, out):
    rows, columns = out.shape
    kernel[(ceil(columns / LANES), ceil(rows / ROWS)), (LANES, ROWS)](x, w, out)


# BEGIN GRADER
import numpy as np

from studylib.kernels.sizes import number, prime


def pack(plus):
    """Booleans (depth, n) as words (ceil(depth / 32), n), place 0 as the lowest bit."""
    padded = np.zeros((ceil(len(plus) / 32) * 32, plus.shape[1]), np.uint64)
    padded[: len(plus)] = plus
    places = np.arange(32, dtype=np.uint64)[:, None]
    return (padded.reshape(-1, 32, plus.shape[1]) << places).sum(1).astype(np.uint32)


def signs_of(w, depth):
    """The way back, as -1 and +1: (depth, n)."""
    bits = w[:, None] >> np.arange(32, dtype=np.uint32)[:, None] & np.uint32(1)
    return 2 * bits.reshape(-1, w.shape[1])[:depth].astype(np.int32) - 1


def reference(x, w):
    return np.where(x >= 0, 1, -1).astype(np.int32) @ signs_of(w, x.shape[1])


def allowed(x, w):
    return 0  # integers are counted


DRAWN = 3  # the last cases: their sizes are drawn anew for each rng, those of the last one as the budget needs them


def drawn(rng):
    yield prime(rng, 9, 23), prime(rng, 257, 500), prime(rng, 33, 60)
    yield number(rng, 2, 20), number(rng, 257, 400), number(rng, 2, 8)
    yield 8 * number(rng, 1, 3), 256 * number(rng, 3, 5), 32 * number(rng, 2, 4)


def cases(rng):
    for m, depth, n in ((1, 1, 1), (16, 512, 32), (9, 300, 40), (3, 33, 5), (2, 600, 3), *drawn(rng)):
        x = rng.standard_normal((m, depth), dtype=np.float32)
        x[rng.random(x.shape) < 0.1] = 0  # whose sign is +1
        yield f"{m} x {depth} times {depth} x {n}", x, pack(rng.random((depth, n)) < 0.5)


BUDGET = {"case": "16 x 512 times 512 x 32", "reads": 18, "writes": 1, "sectors": 4, "passes": 1, "drawn": True}

MUTANTS = [
    {
        "title": "no barrier before the count",
        "old": "        cuda.syncthreads()\n        for k",
        "new": "        for k",
        "stage": "safe",
        "finds": "race",
    },
    {
        "title": "no barrier after the count",
        "old": "tile[k - first, lane])\n        cuda.syncthreads()\n",
        "new": "tile[k - first, lane])\n",
        "stage": "safe",
        "finds": "race",
    },
    {
        "title": "the vote taken as a signed number",
        "old": "uint32(word)",
        "new": "word",
        "stage": "right",
    },
    {"title": "zero taken for -1", "old": "x[row, place] >= 0", "new": "x[row, place] > 0", "stage": "right"},
    {
        "title": "bits beyond the depth taken for +1",
        "old": "is_plus = False",
        "new": "is_plus = True",
        "stage": "right",
    },
    {
        "title": "equal bits counted as well",
        "old": "x.shape[1] - 2 * different",
        "new": "w.shape[0] * LANES - 2 * different",
        "stage": "right",
    },
    {
        "title": "a vote that some lanes miss",
        "old": "            word = cuda.ballot_sync(0xFFFFFFFF, is_plus)\n            if column < w.shape[1]:\n",
        "new": "            if column < w.shape[1]:\n                word = cuda.ballot_sync(0xFFFFFFFF, is_plus)\n",
        "stage": "safe",
        "finds": "shuffle",
    },
    {
        "title": "the weights read from global memory",
        "old": "tile[k - first, lane]",
        "new": "w[k, column]",
        "stage": "budget",
    },
    {
        "title": "sign by sign: right, with 32 times the work",
        "new": """
column, row = cuda.grid(2)
if row < out.shape[0] and column < out.shape[1]:
    total = 0
    for k in range(x.shape[1]):
        is_plus = x[row, k] >= 0
        bit = (w[k // 32, column] >> (k % 32)) & 1
        if is_plus == (bit == 1):
            total += 1
        else:
            total -= 1
    out[row, column] = total
""",
        "stage": "budget",
    },
]


def bench(rng):
    # A convolution of XNOR-Net's speed-up example: 256 channels, 3 x 3, 14 x 14 places.
    return rng.standard_normal((196, 2304), dtype=np.float32), pack(rng.random((2304, 256)) < 0.5)


def torch_op(x, w):
    import torch

    bits = w.long()[:, None] >> torch.arange(32, device=x.device)[:, None] & 1
    signs = (2 * bits.reshape(-1, w.shape[1])[: x.shape[1]] - 1).to(x.dtype)
    return (torch.where(x >= 0, 1, -1).to(x.dtype) @ signs).round().int()


def work(x, w):
    return x.nbytes + w.nbytes + 4 * len(x) * w.shape[1], 2 * x.size * w.shape[1]
