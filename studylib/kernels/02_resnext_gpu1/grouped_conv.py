"""Convolve in groups, as AlexNet's towers and ResNeXt's cardinality do.

    out[o, i, j] = sum over c, u, v of weight[o, c, u, v] * x[g * group_in + c, i + u - 1, j + v - 1]
    g = o // group_out

x: float32 (in_channels, height, width), zero outside. weight: float32 (out_channels, group_in, 3, 3), where group_in =
in_channels / groups. out: float32 (out_channels, height, width), group_out = out_channels / groups. A block has 32 x 8
threads and one output channel: the grid's x goes along the columns, y along the rows, z along the output channels.

Difficulty: 3 of 5
Minutes: 25

Plan:
1. The output channel is the block's z. Which group is it in, and with which input channel does that group begin?
2. Every thread of the block needs the same weights: bring them to shared memory together, at most 32 x 9 of them.
3. Wait; then each thread sums over the group's channels and the nine places of the filter.
4. Does the pixel exist? Ask where you write, not before the barrier.

Hints:
1. group_in = weight.shape[1], group_out = out.shape[0] // groups, first = o // group_out * group_in.
2. Thread t = threadIdx.y * 32 + threadIdx.x brings the weights t, t + 256, ... of the filter's group_in * 9.
3. Guard the read of `x` with its height and width, as in depthwise_conv3x3.

Budget: for 28 channels a group 253 global reads (252 of x, 1 of a weight) and one global write a thread, at most 5 sectors a
request; 1 pass in shared memory.

Hardware: All threads of the block read the same word of shared memory at a time: one pass, a broadcast. With groups = 1 this is
the dense convolution, with groups = in_channels the depthwise one: the work for each byte of `x` falls by the number of
groups (ResNeXt keeps the cost by making the layer wider instead, Eq. 4).
"""

from math import ceil

from numba import cuda, float32

COLUMNS, ROWS = 32, 8
MOST_WEIGHTS = 288  # 32 channels of 3 x 3


@cuda.jit
def grouped_conv(x, weight, groups, out):
    # BEGIN SOLUTION
    filters = cuda.shared.array(MOST_WEIGHTS, float32)
    column, row = cuda.grid(2)
    o = cuda.blockIdx.z
    group_in = weight.shape[1]
    group_out = out.shape[0] // groups
    first = o // group_out * group_in
    for k in range(cuda.threadIdx.y * COLUMNS + cuda.threadIdx.x, group_in * 9, COLUMNS * ROWS):
        filters[k] = weight[o, k // 9, k // 3 % 3, k % 3]
    cuda.syncthreads()
    if row < out.shape[1] and column < out.shape[2]:
        total = float32(0)
        for c in range(group_in):
            for u in range(3):
                for v in range(3):
                    i, j = row + u - 1, column + v - 1
                    if i >= 0 and i < x.shape[1] and j >= 0 and j < x.shape[2]:
                        total += filters[c * 9 + u * 3 + v] * x[first + c, i, j]
        out[o, row, column] = total
    # END SOLUTION


def launch(kernel, x, weight, groups, out):
    channels, height, width = out.shape
    grid = (ceil(width / COLUMNS), ceil(height / ROWS), channels)
    kernel[grid, (COLUMNS, ROWS)](x, weight, groups, out)


# BEGIN GRADER
import numpy as np

from studylib.kernels.rounding import gamma
from studylib.kernels.sizes import number, prime


def reference(x, weight, groups):
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(x.astype(float), ((0, 0), (1, 1), (1, 1))), (3, 3), (1, 2)
    )
    filters = weight.reshape(groups, -1, *weight.shape[1:])
    out = np.einsum("gcijuv,gocuv->goij", windows.reshape(groups, -1, *windows.shape[1:]), filters)
    return out.reshape(-1, *x.shape[1:]).astype(np.float32)


def allowed(x, weight, groups):
    # A sum of so many products as an output has weights, and the expected value's own rounding.
    return gamma(weight[0].size + 1) * reference(np.abs(x), np.abs(weight), groups)


DRAWN = 3  # the last cases: their sizes are drawn anew for each rng, those of the last one as the budget needs them


def drawn(rng):
    for height, width in ((prime(rng, 9, 17), prime(rng, 33, 71)), (number(rng, 2, 8), number(rng, 2, 32))):
        groups = number(rng, 2, 3)
        yield groups * number(rng, 2, 4, groups), groups * number(rng, 1, 3), groups, height, width
    yield 2 * number(rng, 9, 14), 2, 2, 8 * number(rng, 1, 2), 32 * number(rng, 1, 2)


def cases(rng):
    # Groups and group width always differ, so that one taken for the other is seen.
    for inputs, outputs, groups, height, width in (
        (1, 1, 1, 1, 1),
        (8, 4, 2, 8, 32),
        (6, 9, 3, 5, 7),
        (6, 6, 6, 9, 33),
        (5, 2, 1, 3, 40),
        (62, 2, 2, 3, 5),
        (56, 2, 2, 16, 32),
        *drawn(rng),
    ):
        x = rng.standard_normal((inputs, height, width), dtype=np.float32)
        weight = rng.standard_normal((outputs, inputs // groups, 3, 3), dtype=np.float32)
        yield f"{inputs} to {outputs} channels, {groups} groups, {height} x {width}", x, weight, groups


BUDGET = {
    "case": "56 to 2 channels, 2 groups, 16 x 32",
    "reads": 253,
    "writes": 1,
    "sectors": 5,
    "passes": 1,
    "drawn": True,
}

MUTANTS = [
    {"title": "no barrier", "old": "cuda.syncthreads()\n", "new": "pass\n", "stage": "safe", "finds": "race"},
    {
        "title": "groups taken for group width",
        "old": "group_out = out.shape[0] // groups",
        "new": "group_out = groups",
        "stage": "right",
    },
    {"title": "every group reads the first", "old": "x[first + c, i, j]", "new": "x[c, i, j]", "stage": "right"},
    {
        "title": "no guard at the lower edge",
        "old": "i >= 0 and i < x.shape[1] and",
        "new": "i >= 0 and",
        "stage": "safe",
        "finds": "out-of-bounds",
    },
    {"title": "filter transposed", "old": "u * 3 + v", "new": "v * 3 + u", "stage": "right"},
    {
        "title": "the weights from global memory",
        "old": "filters[c * 9 + u * 3 + v]",
        "new": "weight[o, c, u, v]",
        "stage": "budget",
    },
]


def bench(rng):
    x = rng.standard_normal((128, 224, 224), dtype=np.float32)
    return x, rng.standard_normal((128, 4, 3, 3), dtype=np.float32), 32


def torch_op(x, weight, groups):
    from torch.nn.functional import conv2d

    return conv2d(x[None], weight, padding=1, groups=groups)[0]


def work(x, weight, groups):
    out = len(weight) * x[0].size
    return x.nbytes + weight.nbytes + 4 * out, 18 * weight.shape[1] * out
