"""Convolve with holes: an atrous 3x3 filter that sees farther at the same cost.

    out[o, i, j] = sum over c, u, v of weight[o, c, u, v] * x[c, i + (u - 1) * dilation, j + (v - 1) * dilation]

x: float32 (in_channels, height, width), zero outside. weight: float32 (out_channels, in_channels, 3, 3), at most 32 channels in.
out: float32 (out_channels, height, width), the size of `x`. A block has 32 x 8 threads and one output channel: the grid's x goes
along the columns, y along the rows, z along the output channels. (DeepLabV3, Eq. 1, with the filter's centre at 0.)

Difficulty: 3 of 5
Minutes: 20

Plan:
1. Bring the filters of this output channel to shared memory: all threads of the block need the same ones.
2. Wait; then sum over the channels and the nine places, which lie `dilation` apart.
3. Guard the reads against both edges, and the write.

Hints:
1. Thread t = threadIdx.y * 32 + threadIdx.x brings the weights t, t + 256, ... of in_channels * 9.
2. With a dilation near the image's size only the middle weight meets the image: the guard makes a 1x1 convolution of it
   (DeepLabV3, Figure 4, is about this).

Budget: for 28 channels 253 global reads (252 of x, 1 of a weight) and one global write a thread, at most 5 sectors a request; 1 pass
in shared memory.

Hardware: The holes are free: a warp's 32 threads still read 32 neighbours, only begun `dilation` farther left or right. What
changes is the cache: the three rows that a thread reads lie further apart, and are evicted sooner.
"""

from math import ceil

from numba import cuda, float32

COLUMNS, ROWS = 32, 8
MOST_WEIGHTS = 288  # 32 channels of 3 x 3


@cuda.jit
def dilated_conv(x, weight, dilation, out):
    # BEGIN SOLUTION
    filters = cuda.shared.array(MOST_WEIGHTS, float32)
    column, row = cuda.grid(2)
    o = cuda.blockIdx.z
    channels = x.shape[0]
    for k in range(cuda.threadIdx.y * COLUMNS + cuda.threadIdx.x, channels * 9, COLUMNS * ROWS):
        filters[k] = weight[o, k // 9, k // 3 % 3, k % 3]
    cuda.syncthreads()
    if row < out.shape[1] and column < out.shape[2]:
        total = float32(0)
        for c in range(channels):
            for u in range(3):
                for v in range(3):
                    i, j = row + (u - 1) * dilation, column + (v - 1) * dilation
                    if i >= 0 and i < x.shape[1] and j >= 0 and j < x.shape[2]:
                        total += filters[c * 9 + u * 3 + v] * x[c, i, j]
        out[o, row, column] = total
    # END SOLUTION


def launch(kernel, x, weight, dilation, out):
    channels, height, width = out.shape
    grid = (ceil(width / COLUMNS), ceil(height / ROWS), channels)
    kernel[grid, (COLUMNS, ROWS)](x, weight, dilation, out)


# BEGIN GRADER
import numpy as np

from studylib.kernels.rounding import gamma
from studylib.kernels.sizes import number, prime


def reference(x, weight, dilation):
    _, height, width = x.shape
    padded = np.pad(x.astype(float), ((0, 0), (dilation, dilation), (dilation, dilation)))
    out = np.zeros((len(weight), height, width))
    for u in range(3):
        for v in range(3):
            shifted = padded[:, u * dilation : u * dilation + height, v * dilation : v * dilation + width]
            out += np.einsum("oc,cij->oij", weight[:, :, u, v], shifted)
    return out.astype(np.float32)


def allowed(x, weight, dilation):
    # A sum of so many products as an output has weights, and the expected value's own rounding.
    return gamma(weight[0].size + 1) * reference(np.abs(x), np.abs(weight), dilation)


DRAWN = 3  # the last cases: their sizes are drawn anew for each rng, those of the last one as the budget needs them


def drawn(rng):
    yield number(rng, 2, 4), number(rng, 2, 3), prime(rng, 9, 17), prime(rng, 33, 71), number(rng, 1, 5)
    yield number(rng, 2, 4), number(rng, 2, 3), number(rng, 2, 8), number(rng, 2, 32), number(rng, 1, 3)
    yield number(rng, 9, 14), 2, 8 * number(rng, 1, 2), 32 * number(rng, 1, 2), number(rng, 1, 3)


def cases(rng):
    for inputs, outputs, height, width, dilation in (
        (1, 1, 1, 1, 1),
        (4, 2, 8, 64, 2),
        (3, 2, 11, 37, 4),
        (2, 3, 5, 6, 12),
        (31, 1, 3, 5, 1),
        (28, 2, 16, 64, 2),
        *drawn(rng),
    ):
        x = rng.standard_normal((inputs, height, width), dtype=np.float32)
        weight = rng.standard_normal((outputs, inputs, 3, 3), dtype=np.float32)
        yield f"{inputs} to {outputs} channels, {height} x {width}, dilation {dilation}", x, weight, dilation


BUDGET = {
    "case": "28 to 2 channels, 16 x 64, dilation 2",
    "reads": 253,
    "writes": 1,
    "sectors": 5,
    "passes": 1,
    "drawn": True,
}

MUTANTS = [
    {"title": "no barrier", "old": "cuda.syncthreads()\n", "new": "pass\n", "stage": "safe", "finds": "race"},
    {
        "title": "dilation forgotten in the rows",
        "old": "row + (u - 1) * dilation",
        "new": "row + u - 1",
        "stage": "right",
    },
    {"title": "a window off its centre", "old": "(v - 1) * dilation", "new": "v * dilation", "stage": "right"},
    {"title": "filter transposed", "old": "u * 3 + v", "new": "v * 3 + u", "stage": "right"},
    {
        "title": "no guard at the right edge",
        "old": " and j < x.shape[2]",
        "new": "",
        "stage": "safe",
        "finds": "out-of-bounds",
    },
    {
        "title": "the weights from global memory",
        "old": "filters[c * 9 + u * 3 + v]",
        "new": "weight[o, c, u, v]",
        "stage": "budget",
    },
]


def bench(rng):
    x = rng.standard_normal((32, 512, 512), dtype=np.float32)
    return x, rng.standard_normal((32, 32, 3, 3), dtype=np.float32), 4


def torch_op(x, weight, dilation):
    from torch.nn.functional import conv2d

    return conv2d(x[None], weight, padding=dilation, dilation=dilation)[0]


def work(x, weight, dilation):
    out = len(weight) * x[0].size
    return x.nbytes + weight.nbytes + 4 * out, 18 * len(x) * out
