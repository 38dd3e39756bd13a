"""Shuffle the channels of a grouped 1x1 convolution by writing each output where the shuffle would put it.

    y[o, p] = sum over c of weight[o, c] * x[g * group_in + c, p],   g = o // group_out
    out[j * groups + g, p] = y[g * group_out + j, p]

x: float32 (in_channels, pixels). weight: float32 (out_channels, group_in), where group_in = in_channels / groups is at most 32, and
a group has at most 1,024 weights. out: float32 (out_channels, pixels), group_out = out_channels / groups. A block has 128 threads,
one pixel each, and one group: the grid's x goes along the pixels, y along the groups. (ShuffleNet, Zhang et al. 2017, section
3.1: channels as (groups, group_out), transposed, flattened. The authors' PyTorch code has the inverse.)

Difficulty: 3 of 5
Minutes: 25

Plan:
1. All threads of the block need the same weights, group_out x group_in of them: bring them to shared memory together.
2. Each thread reads its pixel's group_in numbers once, and keeps them in a column of shared memory of its own.
3. Wait for the weights. Then, one output channel of the group after the other, add up the products.
4. Write it straight to its shuffled place.

Hints:
1. Weight k of the group is weight[group * group_out + k // group_in, k % group_in].
2. The column numbers[c, t] is read by nobody but thread t, so it alone would need no barrier.
3. Output j of group g goes to channel j * groups + g: with 2 groups of 3 the order is 0, 3, 1, 4, 2, 5.

Budget: for 6 to 12 channels in 2 groups 4 global reads (3 of x, 1 of a weight) and 6 global writes a thread, 4 sectors a request; 1
pass in shared memory.

Hardware: As an operation of its own the shuffle reads and writes the whole map once more and computes nothing. Here it is an index. The
writes stay coalesced, for only the channel moves and the pixels of a channel stay side by side.
"""

from math import ceil

from numba import cuda, float32

BLOCK = 128
MOST_IN = 32
MOST_WEIGHTS = 1024


@cuda.jit
def channel_shuffle(x, weight, groups, out):
    # BEGIN SOLUTION
    filters = cuda.shared.array(MOST_WEIGHTS, float32)
    numbers = cuda.shared.array((MOST_IN, BLOCK), float32)
    t = cuda.threadIdx.x
    pixel = cuda.grid(1)
    group = cuda.blockIdx.y
    group_in = weight.shape[1]
    group_out = weight.shape[0] // groups
    for k in range(t, group_out * group_in, BLOCK):
        filters[k] = weight[group * group_out + k // group_in, k % group_in]
    if pixel < x.shape[1]:
        for c in range(group_in):
            numbers[c, t] = x[group * group_in + c, pixel]
    cuda.syncthreads()
    if pixel < x.shape[1]:
        for j in range(group_out):
            total = float32(0)
            for c in range(group_in):
                total += filters[j * group_in + c] * numbers[c, t]
            out[j * groups + group, pixel] = total
    # END SOLUTION


def launch(kernel, x, weight, groups, out):
    kernel[(ceil(out.shape[1] / BLOCK), groups), BLOCK](x, weight, groups, out)


# BEGIN GRADER
import numpy as np

from studylib.kernels.rounding import gamma
from studylib.kernels.sizes import number, prime


def reference(x, weight, groups):
    parts = x.reshape(groups, -1, x.shape[1]).astype(float)
    y = np.einsum("goc,gcp->gop", weight.reshape(groups, -1, weight.shape[1]), parts)
    return y.transpose(1, 0, 2).reshape(len(weight), -1).astype(np.float32)


def allowed(x, weight, groups):
    # A sum of so many products as a group has inputs, and the expected value's own rounding.
    return gamma(weight.shape[1] + 1) * reference(np.abs(x), np.abs(weight), groups)


DRAWN = 3  # the last cases: their sizes are drawn anew for each rng, those of the last one as the budget needs them


def drawn(rng):
    for pixels in (prime(rng, 129, 300), number(rng, 2, 127)):
        groups = number(rng, 2, 5)
        yield groups * number(rng, 2, 5, groups), groups * number(rng, 2, 7, groups), groups, pixels
    groups = number(rng, 2, 4)
    yield groups * number(rng, 4, 8), groups * number(rng, 5, 9), groups, 128 * number(rng, 2, 4)


def cases(rng):
    # Groups and the outputs of a group always differ, so that the inverse of the shuffle is seen.
    for inputs, outputs, groups, pixels in (
        (1, 1, 1, 1),
        (6, 12, 2, 128),
        (12, 6, 3, 150),
        (16, 12, 4, 49),
        (60, 36, 2, 30),
        *drawn(rng),
    ):
        x = rng.standard_normal((inputs, pixels), dtype=np.float32)
        weight = rng.standard_normal((outputs, inputs // groups), dtype=np.float32)
        yield f"{inputs} to {outputs} channels, {groups} groups, {pixels} pixels", x, weight, groups


BUDGET = {
    "case": "6 to 12 channels, 2 groups, 128 pixels",
    "reads": 4,
    "writes": 6,
    "sectors": 4,
    "passes": 1,
    "drawn": True,
}

MUTANTS = [
    {"title": "no barrier", "old": "    cuda.syncthreads()\n", "new": "    pass\n", "stage": "safe", "finds": "race"},
    {
        "title": "the inverse of the shuffle",
        "old": "out[j * groups + group, pixel]",
        "new": "out[(group * group_out + j) % groups * group_out + (group * group_out + j) // groups, pixel]",
        "stage": "right",
    },
    {
        "title": "no shuffle",
        "old": "out[j * groups + group, pixel]",
        "new": "out[group * group_out + j, pixel]",
        "stage": "right",
    },
    {
        "title": "every group reads the first",
        "old": "x[group * group_in + c, pixel]",
        "new": "x[c, pixel]",
        "stage": "right",
    },
    {
        "title": "no guard on the pixel",
        "old": "    if pixel < x.shape[1]:\n        for j",
        "new": "    if True:\n        for j",
        "stage": "safe",
        "finds": "out-of-bounds",
    },
    {
        "title": "only as many weights as threads",
        "old": "for k in range(t, group_out * group_in, BLOCK):",
        "new": "for k in range(t, min(BLOCK, group_out * group_in), BLOCK):",
        "stage": "safe",
        "finds": "uninitialised-read",
    },
    {
        "title": "the input read again for each output",
        "old": "* numbers[c, t]",
        "new": "* x[group * group_in + c, pixel]",
        "stage": "budget",
    },
    {
        "title": "the weights from global memory",
        "old": "filters[j * group_in + c]",
        "new": "weight[group * group_out + j, c]",
        "stage": "budget",
    },
]


def bench(rng):
    # The narrow side of a unit of ShuffleNet 1x with 3 groups, 14 x 14 pixels, on 64 images.
    x = rng.standard_normal((96, 64 * 14 * 14), dtype=np.float32)
    return x, rng.standard_normal((96, 32), dtype=np.float32), 3


def torch_op(x, weight, groups):
    import torch

    y = torch.nn.functional.conv1d(x[None], weight[:, :, None], groups=groups)
    return torch.nn.functional.channel_shuffle(y[..., None], groups)[0, ..., 0]


def work(x, weight, groups):
    out = len(weight) * x.shape[1]
    return x.nbytes + weight.nbytes + 4 * out, 2 * weight.shape[1] * out
