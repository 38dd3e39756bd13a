"""Convolve each channel with a 3x3 filter of its own.

    out[c, i, j] = sum over u, v in 0..2 of weight[c, u, v] * x[c, i * stride + u - 1, j * stride + v - 1]

x: float32 (channels, height, width), zero outside. weight: float32 (channels, 3, 3). out: float32 (channels, out_height,
out_width). stride: 1 or 2. A block has 32 x 8 threads; the grid's x goes along the columns of `out`, y along its rows, z
along the channels: one thread, one output pixel of one channel.

Difficulty: 2 of 5
Minutes: 20

Plan:
1. Find the thread's column, row and channel with `cuda.grid(3)`. Does that pixel exist?
2. Begin a sum with `float32(0)`: a bare 0.0 would make the whole sum a double.
3. Two short loops over the filter. Where in `x` does each of the nine weights look?
4. Outside the image the value is zero: leave those terms out.

Hints:
1. `column, row, channel = cuda.grid(3)`; the place in `x` is row * stride + u - 1 and column * stride + v - 1.
2. Guard the read with 0 <= r < height and 0 <= c < width, and the write with the shape of `out`.
3. The channel needs no guard: the grid's z is exactly the number of channels.

Budget: 18 global reads and one global write a thread; at most 4.5 sectors a request on average.

Hardware: Nine reads of `x` for nine multiply-adds: the kernel is short of work for each byte. Of the nine, most are also
read by the neighbours, and the caches catch that; all threads of a block read the same nine weights, one sector a request.
A dense 3x3 layer with 64 channels in would do 64 times the work with each output (MobileNet, Table 2, is about this).
"""

from math import ceil

from numba import cuda, float32

COLUMNS, ROWS = 32, 8


@cuda.jit
def depthwise_conv3x3(x, weight, stride, out):
    # BEGIN SOLUTION
    column, row, channel = cuda.grid(3)
    if row < out.shape[1] and column < out.shape[2]:
        total = float32(0)
        for u in range(3):
            for v in range(3):
                r = row * stride + u - 1
                c = column * stride + v - 1
                if r >= 0 and r < x.shape[1] and c >= 0 and c < x.shape[2]:
                    total += weight[channel, u, v] * x[channel, r, c]
        out[channel, row, column] = total
    # END SOLUTION


def launch(kernel, x, weight, stride, out):
    channels, height, width = out.shape
    grid = (ceil(width / COLUMNS), ceil(height / ROWS), channels)
    kernel[grid, (COLUMNS, ROWS)](x, weight, stride, out)


# BEGIN GRADER
import numpy as np

from studylib.kernels.rounding import gamma
from studylib.kernels.sizes import number, prime


def reference(x, weight, stride):
    padded = np.pad(x.astype(float), ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::stride, ::stride]
    return np.einsum("cijuv,cuv->cij", windows, weight).astype(np.float32)


def allowed(x, weight, stride):
    # A sum of 9 products, and the expected value's own rounding.
    return gamma(9 + 1) * reference(np.abs(x), np.abs(weight), stride)


DRAWN = 3  # the last cases: their sizes are drawn anew for each rng, those of the last one as the budget needs them


def drawn(rng):
    for stride in (1, 2):
        yield number(rng, 2, 3), prime(rng, 8 * stride + 1, 23), prime(rng, 32 * stride + 1, 71), stride
    yield number(rng, 2, 3), 8 * number(rng, 1, 3), 32 * number(rng, 1, 3), 1


def cases(rng):
    for channels, height, width, stride in (
        (1, 1, 1, 1),
        (2, 16, 32, 1),
        (3, 7, 45, 1),
        (2, 16, 64, 2),
        (2, 9, 11, 2),
        *drawn(rng),
    ):
        x = rng.standard_normal((channels, height, width), dtype=np.float32)
        weight = rng.standard_normal((channels, 3, 3), dtype=np.float32)
        yield f"{channels} x {height} x {width}, stride {stride}", x, weight, stride


BUDGET = {"case": "2 x 16 x 32, stride 1", "reads": 18, "writes": 1, "sectors": 4.5, "drawn": True}

MUTANTS = [
    {
        "title": "no guard at the right edge",
        "old": " and c < x.shape[2]",
        "new": "",
        "stage": "safe",
        "finds": "out-of-bounds",
    },
    {
        "title": "no guard at the left edge: index -1 is the last column",
        "old": "and c >= 0 and",
        "new": "and",
        "stage": "right",
    },
    {"title": "window off by one", "old": "column * stride + v - 1", "new": "column * stride + v", "stage": "right"},
    {"title": "filter transposed", "old": "weight[channel, u, v]", "new": "weight[channel, v, u]", "stage": "right"},
    {
        "title": "filter of channel 0 for all",
        "old": "weight[channel, u, v]",
        "new": "weight[0, u, v]",
        "stage": "right",
    },
    {
        "title": "stride forgotten in the rows",
        "old": "row * stride + u - 1",
        "new": "row + u - 1",
        "stage": "right",
    },
    {
        "title": "a warp goes down a column: right, not coalesced",
        "new": """
bx, by, channel = cuda.blockIdx.x, cuda.blockIdx.y, cuda.blockIdx.z
t = cuda.threadIdx.y * 32 + cuda.threadIdx.x
row, column = by * 8 + t % 8, bx * 32 + t // 8
if row < out.shape[1] and column < out.shape[2]:
    total = float32(0)
    for u in range(3):
        for v in range(3):
            r = row * stride + u - 1
            c = column * stride + v - 1
            if r >= 0 and r < x.shape[1] and c >= 0 and c < x.shape[2]:
                total += weight[channel, u, v] * x[channel, r, c]
    out[channel, row, column] = total
""",
        "stage": "budget",
    },
]


def bench(rng):
    x = rng.standard_normal((256, 224, 224), dtype=np.float32)
    return x, rng.standard_normal((256, 3, 3), dtype=np.float32), 1


def torch_op(x, weight, stride):
    from torch.nn.functional import conv2d

    return conv2d(x[None], weight[:, None], stride=stride, padding=1, groups=len(x))[0]


def work(x, weight, stride):
    out = x.size // stride**2
    return x.nbytes + weight.nbytes + 4 * out, 18 * out
