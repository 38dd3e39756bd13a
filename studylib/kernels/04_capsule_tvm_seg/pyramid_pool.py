"""Average a feature map over a coarse grid of cells, as the pyramid pooling module does.

    out[c, i, j] = mean of x[c, top:bottom, left:right]
    top = floor(i * height / bins), bottom = ceil((i + 1) * height / bins), and so along the width

x: float32 (channels, height, width). bins: cells along each side. out: float32 (channels, bins, bins). One block of 64 threads, one
cell of one channel: the grid's x is j, y is i, z is c. Cells may overlap by a row or a column where `bins` does not divide the side.
(PSPNet, Zhao et al. 2017, section 3.2, uses 1, 2, 3 and 6 bins; the borders are those of torch's adaptive pooling.)

Difficulty: 3 of 5
Minutes: 25

Plan:
1. Compute the cell's four borders in integers.
2. The block's threads go through the cell's pixels together: number the pixels row by row, and take every 64th.
3. Put each thread's sum into shared memory, wait, and halve as in reduce_sum.
4. Thread 0 divides by the number of pixels and writes.

Hints:
1. ceil((i + 1) * height / bins) in integers is ((i + 1) * height + bins - 1) // bins.
2. Pixel k of the cell lies in row top + k // (right - left) and column left + k % (right - left).
3. The barrier stands in the loop that halves, outside of the `if`; the loop runs equally often for all threads.

Budget: for cells of 6 x 32 pixels 3 global reads and one global write a thread, at most 4 sectors a request; 1 pass in shared
memory.

Hardware: With one thread a cell a map of 60 x 60 and one bin would be one thread's 3,600 reads, one after the other, while the rest of
the card sleeps. A block a cell shares them, and neighbours read neighbours as long as a row of the cell is long.
"""

from numba import cuda, float32

BLOCK = 64


@cuda.jit
def pyramid_pool(x, bins, out):
    # BEGIN SOLUTION
    sums = cuda.shared.array(BLOCK, float32)
    t = cuda.threadIdx.x
    c, i, j = cuda.blockIdx.z, cuda.blockIdx.y, cuda.blockIdx.x
    height, width = x.shape[1], x.shape[2]
    top, bottom = i * height // bins, ((i + 1) * height + bins - 1) // bins
    left, right = j * width // bins, ((j + 1) * width + bins - 1) // bins
    pixels = (bottom - top) * (right - left)
    total = float32(0)
    for k in range(t, pixels, BLOCK):
        total += x[c, top + k // (right - left), left + k % (right - left)]
    sums[t] = total
    cuda.syncthreads()
    half = BLOCK // 2
    while half > 0:
        if t < half:
            sums[t] += sums[t + half]
        cuda.syncthreads()
        half //= 2
    if t == 0:
        out[c, i, j] = sums[0] / float32(pixels)
    # END SOLUTION


def launch(kernel, x, bins, out):
    kernel[(bins, bins, len(x)), BLOCK](x, bins, out)


# BEGIN GRADER
from math import ceil

import numpy as np

from studylib.kernels.rounding import gamma
from studylib.kernels.sizes import number, prime


def reference(x, bins):
    _, height, width = x.shape
    out = np.empty((len(x), bins, bins), np.float32)
    for i in range(bins):
        rows = slice(i * height // bins, ceil((i + 1) * height / bins))
        for j in range(bins):
            columns = slice(j * width // bins, ceil((j + 1) * width / bins))
            out[:, i, j] = x[:, rows, columns].mean((1, 2), dtype=float)
    return out


def allowed(x, bins):
    # A sum over the cell, at most so large, a division, perhaps by way of 1 / pixels, and the expected value's own rounding.
    return gamma((x.shape[1] // bins + 2) * (x.shape[2] // bins + 2) + 2) * reference(np.abs(x), bins)


DRAWN = 3  # the last cases: their sizes are drawn anew for each rng, those of the last one as the budget needs them


def drawn(rng):
    yield number(rng, 2, 3), prime(rng, 7, 23), prime(rng, 29, 61), number(rng, 2, 5)
    yield number(rng, 2, 3), number(rng, 3, 12), number(rng, 3, 12), number(rng, 2, 6)
    yield number(rng, 2, 4), 4 * number(rng, 2, 4), 64, 2


def cases(rng):
    for channels, height, width, bins in (
        (1, 1, 1, 1),
        (2, 12, 64, 2),
        (3, 10, 13, 3),
        (2, 7, 6, 6),
        (1, 20, 33, 1),
        *drawn(rng),
    ):
        x = rng.standard_normal((channels, height, width), dtype=np.float32) + 1
        yield f"{channels} x {height} x {width}, {bins} bins", x, bins


BUDGET = {"case": "2 x 12 x 64, 2 bins", "reads": 3, "writes": 1, "sectors": 4, "passes": 1, "drawn": True}

MUTANTS = [
    {
        "title": "no barrier in the tree",
        "old": "        cuda.syncthreads()\n        half",
        "new": "        half",
        "stage": "safe",
        "finds": "race",
    },
    {
        "title": "cells of equal size, as fixed pooling has",
        "old": "((j + 1) * width + bins - 1) // bins",
        "new": "j * width // bins + width // bins",
        "stage": "right",
    },
    {"title": "bins swapped", "old": "out[c, i, j]", "new": "out[c, j, i]", "stage": "right"},
    {
        "title": "the mean of the whole map",
        "old": "float32(pixels)",
        "new": "float32(height * width // (bins * bins))",
        "stage": "right",
    },
    {
        "title": "the last row forgotten",
        "old": "((i + 1) * height + bins - 1) // bins",
        "new": "(i + 1) * height // bins",
        "stage": "right",
    },
    {
        "title": "one thread a cell",
        "old": "range(t, pixels, BLOCK)",
        "new": "range(pixels if t > 0 else 0, pixels)",
        "stage": "budget",
    },
]


def bench(rng):
    return rng.standard_normal((2048, 90, 90), dtype=np.float32), 6


def torch_op(x, bins):
    from torch.nn.functional import adaptive_avg_pool2d

    return adaptive_avg_pool2d(x[None], bins)[0]


def work(x, bins):
    return x.nbytes + 4 * len(x) * bins**2, x.size
