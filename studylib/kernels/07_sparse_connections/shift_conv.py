"""Shift the channels and convolve them 1x1, with the shift in the load.

    dx, dy = c % 3 - 1, c // 3 % 3 - 1      for the first 9 * (channels // 9) channels; 0, 0 for those that are left over
    out[o, i, j] = sum over c of weight[o, c] * x[c, i + dy, j + dx]

x: float32 (channels, height, width), zero outside. weight: float32 (outputs, channels). out: float32 (outputs, height, width). A block
has 32 x 8 threads: 32 pixels, counted through the image row by row, times 8 outputs. The grid's x goes along the pixels, y along the
outputs; no size need be a multiple of anything. (Shift, Wu et al. 2018, with the authors' assignment of shifts to channels.)

Difficulty: 4 of 5
Minutes: 30

Plan:
1. The block walks along the channels in steps of 32. In each step it brings a tile of `weight`, 8 x 32, and one of the shifted `x`,
   32 channels x 32 pixels, to shared memory.
2. Of the weights each thread brings one. Of `x` it brings four, for its own pixel: channels y, y + 8, y + 16 and y + 24 of the step.
3. A channel's number comes from i + dy, j + dx. What lies outside of the image, or beyond the last channel, becomes zero.
4. Wait, add 32 products to the sum, and wait again before the tiles are filled anew.
5. Each thread that has an output and a pixel writes its sum.

Hints:
1. n = cuda.grid(2)[0] is the pixel; i = n // width and j = n % width. A thread brings the weight weight[o, first + x].
2. Whether a channel is shifted depends on the channels of the whole layer, and not on the 32 of the step.
3. A zero weight for a channel that does not exist makes the last step right; but 0 times what nobody wrote is not 0, so both tiles
   are filled to the end.

Budget: for 64 channels, 8 outputs and 4 x 64 pixels 10 global reads (8 of x, 2 weights) and one global write a thread, at most 5
sectors a request; 1 pass in shared memory.

Hardware: As an operation of its own the shift multiplies nothing, and reads and writes the whole map, which takes as long as any other
copy. Here it is an offset of the address: neighbouring threads still read neighbouring numbers, one place off, so that a warp's 128
bytes touch five sectors for four. A 3x3 convolution reads nine numbers where this reads one.
"""

from math import ceil

from numba import cuda, float32

LANES, ROWS = 32, 8


@cuda.jit
def shift_conv(x, weight, out):
    # BEGIN SOLUTION
    left = cuda.shared.array((ROWS, LANES), float32)
    right = cuda.shared.array((LANES, LANES), float32)
    lane, row = cuda.threadIdx.x, cuda.threadIdx.y
    n, o = cuda.grid(2)
    channels, height, width = x.shape
    i, j = n // width, n % width
    total = float32(0)
    for first in range(0, channels, LANES):
        left[row, lane] = float32(0)
        if o < weight.shape[0] and first + lane < channels:
            left[row, lane] = weight[o, first + lane]
        for k in range(row, LANES, ROWS):
            c = first + k
            down, across = i, j
            if c < channels // 9 * 9:
                down += c // 3 % 3 - 1
                across += c % 3 - 1
            right[k, lane] = float32(0)
            if c < channels and down >= 0 and down < height and across >= 0 and across < width:
                right[k, lane] = x[c, down, across]
        cuda.syncthreads()
        for k in range(LANES):
            total += left[row, k] * right[k, lane]
        cuda.syncthreads()
    if o < out.shape[0] and n < height * width:
        out[o, i, j] = total
    # END SOLUTION


def launch(kernel, x, weight, out):
    outputs, height, width = out.shape
    kernel[(ceil(height * width / LANES), ceil(outputs / ROWS)), (LANES, ROWS)](x, weight, out)


# BEGIN GRADER
import numpy as np

from studylib.kernels.rounding import gamma
from studylib.kernels.sizes import number, prime


def shifted(x):
    """Each channel moved by its own shift, zeros where nothing comes from: float64, (channels, height, width)."""
    channels, height, width = x.shape
    padded = np.pad(x.astype(float), ((0, 0), (1, 1), (1, 1)))
    out = x.astype(float)
    for c in range(channels // 9 * 9):
        down, across = c // 3 % 3, c % 3
        out[c] = padded[c, down : down + height, across : across + width]
    return out


def reference(x, weight):
    return np.einsum("oc,cij->oij", weight, shifted(x)).astype(np.float32)


def allowed(x, weight):
    # A sum of so many products as there are channels, and the expected value's own rounding.
    return gamma(len(x) + 1) * reference(np.abs(x), np.abs(weight))


DRAWN = 3  # the last cases: their sizes are drawn anew for each rng, those of the last one as the budget needs them


def drawn(rng):
    yield prime(rng, 37, 71), prime(rng, 11, 23), prime(rng, 5, 11), prime(rng, 5, 13)
    height = number(rng, 2, 9)
    yield number(rng, 10, 40), number(rng, 2, 7), height, number(rng, 2, 9, height)
    yield 32 * number(rng, 1, 3), 8 * number(rng, 1, 2), number(rng, 2, 4), 32 * number(rng, 1, 2)


def cases(rng):
    for channels, outputs, height, width in (
        (1, 1, 1, 1),
        (64, 8, 4, 64),
        (9, 5, 6, 7),
        (40, 9, 4, 5),  # four channels are left over
        (27, 3, 1, 40),  # a single row
        *drawn(rng),
    ):
        x = rng.standard_normal((channels, height, width), dtype=np.float32)
        weight = rng.standard_normal((outputs, channels), dtype=np.float32)
        yield f"{channels} to {outputs} channels, {height} x {width}", x, weight


BUDGET = {"case": "64 to 8 channels, 4 x 64", "reads": 10, "writes": 1, "sectors": 5, "passes": 1, "drawn": True}

MUTANTS = [
    {
        "title": "no barrier before the sum",
        "old": "        cuda.syncthreads()\n        for k in range(LANES):",
        "new": "        for k in range(LANES):",
        "stage": "safe",
        "finds": "race",
    },
    {
        "title": "no barrier after the sum",
        "old": "right[k, lane]\n        cuda.syncthreads()\n",
        "new": "right[k, lane]\n",
        "stage": "safe",
        "finds": "race",
    },
    {
        "title": "the shift the other way, as in the backward pass",
        "old": "down += c // 3 % 3 - 1\n                across += c % 3 - 1",
        "new": "down -= c // 3 % 3 - 1\n                across -= c % 3 - 1",
        "stage": "right",
    },
    {
        "title": "rows and columns exchanged",
        "old": "down += c // 3 % 3 - 1\n                across += c % 3 - 1",
        "new": "down += c % 3 - 1\n                across += c // 3 % 3 - 1",
        "stage": "right",
    },
    {
        "title": "the channels that are left over shifted as well",
        "old": "if c < channels // 9 * 9:",
        "new": "if c < channels:",
        "stage": "right",
    },
    {
        "title": "no shift: a plain 1x1 convolution",
        "old": "if c < channels // 9 * 9:",
        "new": "if c < 0:",
        "stage": "right",
    },
    {
        "title": "the image continued around its edge",
        "old": "if c < channels and down >= 0 and down < height and across >= 0 and across < width:\n                right[k, lane] = x[c, down, across]",
        "new": "if c < channels and n < height * width:\n                right[k, lane] = x[c, (down + height) % height, (across + width) % width]",
        "stage": "right",
    },
    {
        "title": "no guard at the right edge",
        "old": " and across >= 0 and across < width",
        "new": " and across >= 0",
        "stage": "safe",
        "finds": "out-of-bounds",
    },
    {
        "title": "the tile filled up to the last channel only",
        "old": "            right[k, lane] = float32(0)\n            if c < channels and down",
        "new": "            if c < channels:\n                right[k, lane] = float32(0)\n            if c < channels and down",
        "stage": "safe",
        "finds": "uninitialised-read",
    },
    {
        "title": "the weights from global memory: right, with more reads",
        "old": "            total += left[row, k] * right[k, lane]\n",
        "new": """            if o < weight.shape[0] and first + k < channels:
                total += weight[o, first + k] * right[k, lane]
""",
        "stage": "budget",
    },
    {
        "title": "without tiles: right, and each number read for each output",
        "new": """
n, o = cuda.grid(2)
channels, height, width = x.shape
i, j = n // width, n % width
if o < out.shape[0] and n < height * width:
    total = float32(0)
    for c in range(channels):
        down, across = i, j
        if c < channels // 9 * 9:
            down += c // 3 % 3 - 1
            across += c % 3 - 1
        if down >= 0 and down < height and across >= 0 and across < width:
            total += weight[o, c] * x[c, down, across]
    out[o, i, j] = total
""",
        "stage": "budget",
    },
]


def bench(rng):
    # The second 1x1 of a block in the first stage of ShiftResNet with expansion 9, as one large image.
    x = rng.standard_normal((144, 512, 512), dtype=np.float32)
    return x, rng.standard_normal((16, 144), dtype=np.float32)


def torch_op(x, weight):
    import torch

    taps = x.new_zeros(*weight.shape, 3, 3)
    c = torch.arange(len(x), device=x.device)
    is_shifted = c < len(x) // 9 * 9
    taps[:, c, torch.where(is_shifted, c // 3 % 3, 1), torch.where(is_shifted, c % 3, 1)] = weight
    return torch.nn.functional.conv2d(x[None], taps, padding=1)[0]


def work(x, weight):
    out = len(weight) * x[0].size
    return x.nbytes + weight.nbytes + 4 * out, 2 * len(x) * out
