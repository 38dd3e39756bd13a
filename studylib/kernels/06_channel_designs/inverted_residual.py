"""Run MobileNetV2's block in pieces, so that the expanded map never leaves the chip.

    e[m] = relu6(bias[m] + sum over k of expand[m, k] * x[k])            t times as many channels as x
    d[m] = relu6(3x3 depthwise convolution of e[m] with depthwise[m])    e is zero outside of the image
    out[k] = x[k] + sum over m of project[k, m] * d[m]                   no ReLU: the bottleneck is linear

x: float32 (channels, height, width), at most 16 channels. expand: float32 (expanded, channels), expanded = t * channels. bias: float32
(expanded,), what batch norm leaves. depthwise: float32 (expanded, 3, 3). project: float32 (channels, expanded). out: float32 as x.
A block has 16 x 8 threads, one pixel of the output each. (MobileNetV2, Sandler et al. 2018, Table 1, stride 1, and section 5.1,
which splits the expanded channels.)

Difficulty: 5 of 5
Minutes: 45

Plan:
1. Bring the pixels of `x` that the block needs to shared memory: 18 x 10, one more at each side, all channels, where they exist.
2. Take the expanded channels in t pieces, as many at a time as x has channels: a piece of e on 18 x 10 pixels fits beside x.
3. Fill the piece: the threads share out its channels x 180 numbers. Wait.
4. Each thread convolves the piece at its own pixel, channel by channel, and adds what each of them gives to its sums, one a channel of
   the output, kept in `cuda.local.array`. Wait before the piece is filled again.
5. Add x, and write where the pixel exists.

Hints:
1. Place n of a piece is its channel n // 180, and the pixel (n % 180 // 18, n % 18) of the patch; the patch begins one pixel above and
   left of the block's first pixel.
2. Outside of the image e is ZERO, and not relu6(bias), which is what a zero in `x` would give. So what the patch of `x` holds there
   is read by nobody.
3. Two barriers in the loop over the pieces, and one before it. The thread of a pixel that does not exist comes to all of them.

Budget: for 4 channels, 16 x 8 pixels and t = 3 236 global reads and 4 global writes a thread, at most 4 sectors a request; 2 passes a
request in shared memory.

Hardware: With t = 6 the expanded map is six times the input and six times the output; stored, it would be written and read twice. Here
it exists for 180 pixels and a few channels at a time. Two prices: the pixels of a block's rim are expanded by two blocks, 180 for
128, and as many sums wait in registers as the output has channels. The paper splits for a small cache in the same way, and says
that t between 2 and 5 pieces help most.
"""

from math import ceil

from numba import cuda, float32

COLUMNS, ROWS = 16, 8
WIDE, HIGH = 18, 10  # with a pixel more at each side
PATCH = 180  # WIDE * HIGH
THREADS = 128
MOST_CHANNELS = 16
MOST_PIECE = 2880  # MOST_CHANNELS * PATCH


@cuda.jit
def inverted_residual(x, expand, bias, depthwise, project, out):
    # BEGIN SOLUTION
    patch = cuda.shared.array(MOST_PIECE, float32)
    piece = cuda.shared.array(MOST_PIECE, float32)
    sums = cuda.local.array(MOST_CHANNELS, float32)
    column, row = cuda.grid(2)
    left, top = cuda.blockIdx.x * COLUMNS - 1, cuda.blockIdx.y * ROWS - 1
    t = cuda.threadIdx.y * COLUMNS + cuda.threadIdx.x
    channels, height, width = x.shape
    for n in range(t, channels * PATCH, THREADS):
        i, j = top + n % PATCH // WIDE, left + n % WIDE
        if i >= 0 and i < height and j >= 0 and j < width:
            patch[n] = x[n // PATCH, i, j]
    for k in range(channels):
        sums[k] = float32(0)
    cuda.syncthreads()
    for first in range(0, expand.shape[0], channels):
        for n in range(t, channels * PATCH, THREADS):
            i, j = top + n % PATCH // WIDE, left + n % WIDE
            m = first + n // PATCH
            piece[n] = float32(0)
            if i >= 0 and i < height and j >= 0 and j < width:
                total = bias[m]
                for k in range(channels):
                    total += expand[m, k] * patch[k * PATCH + n % PATCH]
                piece[n] = min(max(total, float32(0)), float32(6))
        cuda.syncthreads()
        for c in range(channels):
            total = float32(0)
            for u in range(3):
                for v in range(3):
                    place = c * PATCH + (cuda.threadIdx.y + u) * WIDE + cuda.threadIdx.x + v
                    total += depthwise[first + c, u, v] * piece[place]
            total = min(max(total, float32(0)), float32(6))
            for k in range(channels):
                sums[k] += project[k, first + c] * total
        cuda.syncthreads()
    if row < height and column < width:
        for k in range(channels):
            out[k, row, column] = patch[k * PATCH + (cuda.threadIdx.y + 1) * WIDE + cuda.threadIdx.x + 1] + sums[k]
    # END SOLUTION


def launch(kernel, x, expand, bias, depthwise, project, out):
    grid = (ceil(out.shape[2] / COLUMNS), ceil(out.shape[1] / ROWS))
    kernel[grid, (COLUMNS, ROWS)](x, expand, bias, depthwise, project, out)


# BEGIN GRADER
import numpy as np

from studylib.kernels.rounding import gamma
from studylib.kernels.sizes import number, prime


def relu6(x):
    return np.clip(x, 0, 6)


def convolved(e, depthwise):
    """The 3x3 depthwise convolution with a zero border: both (channels, height, width)."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(e, ((0, 0), (1, 1), (1, 1))), (3, 3), (1, 2))
    return np.einsum("mijuv,muv->mij", windows, depthwise)


def steps(x, expand, bias, depthwise):
    """The expanded map and the convolved one, in float64: both (expanded, height, width)."""
    e = relu6(np.einsum("mk,kij->mij", expand, x.astype(float)) + bias[:, None, None])
    return e, relu6(convolved(e, depthwise))


def reference(x, expand, bias, depthwise, project):
    return (x + np.einsum("km,mij->kij", project, steps(x, expand, bias, depthwise)[1])).astype(np.float32)


def allowed(x, expand, bias, depthwise, project):
    # The bounds of the steps, each applied to what the step before may be wrong by (Higham 3.3, a running error analysis). ReLU6
    # makes no difference greater. The sums have channels + 1, 9, and expanded + 1 terms; and the expected value's own rounding.
    e, d = steps(x, expand, bias, depthwise)
    of_e = np.einsum("mk,kij->mij", np.abs(expand), np.abs(x.astype(float))) + np.abs(bias)[:, None, None]
    off_e = gamma(len(x) + 1) * of_e
    off_d = convolved(off_e + gamma(9) * (e + off_e), np.abs(depthwise))
    each = off_d + gamma(len(expand) + 1) * (d + off_d)
    total = np.abs(reference(x, expand, bias, depthwise, project))
    return np.einsum("km,mij->kij", np.abs(project), each) + gamma(len(expand) + 1) * np.abs(x) + gamma(1) * total


DRAWN = 3  # the last cases: their sizes are drawn anew for each rng, those of the last one as the budget needs them


def drawn(rng):
    yield number(rng, 2, 5), number(rng, 2, 4), prime(rng, 11, 13), prime(rng, 17, 23)
    yield number(rng, 1, 4), number(rng, 1, 3), number(rng, 2, 7), number(rng, 2, 15)
    yield number(rng, 2, 5), number(rng, 4, 6), 8 * number(rng, 1, 2), 16 * number(rng, 1, 2)


def cases(rng):
    for channels, t, height, width in (
        (1, 1, 1, 1),
        (4, 3, 8, 16),
        (3, 6, 9, 17),
        (16, 2, 9, 5),
        *drawn(rng),
    ):
        x = rng.standard_normal((channels, height, width), dtype=np.float32)
        expand = rng.standard_normal((t * channels, channels), dtype=np.float32)
        bias = 2 + rng.standard_normal(t * channels, dtype=np.float32)  # some numbers reach 6, some zero
        depthwise = rng.standard_normal((t * channels, 3, 3), dtype=np.float32)
        project = rng.standard_normal((channels, t * channels), dtype=np.float32)
        yield f"{channels} channels, t = {t}, {height} x {width}", x, expand, bias, depthwise, project


BUDGET = {"case": "4 channels, t = 3, 8 x 16", "reads": 236, "writes": 4, "sectors": 4, "passes": 2, "drawn": True}

MUTANTS = [
    {
        "title": "no barrier behind the patch",
        "old": "        sums[k] = float32(0)\n    cuda.syncthreads()\n",
        "new": "        sums[k] = float32(0)\n",
        "stage": "safe",
        "finds": "race",
    },
    {
        "title": "no barrier behind the piece",
        "old": "float32(6))\n        cuda.syncthreads()\n        for c",
        "new": "float32(6))\n        for c",
        "stage": "safe",
        "finds": "race",
    },
    {
        "title": "the next piece filled while others still read",
        "old": "* total\n        cuda.syncthreads()\n",
        "new": "* total\n",
        "stage": "safe",
        "finds": "race",
    },
    {
        "title": "outside of the image relu6(bias)",
        "old": """            if i >= 0 and i < height and j >= 0 and j < width:
                total = bias[m]
                for k in range(channels):
                    total += expand[m, k] * patch[k * PATCH + n % PATCH]
                piece[n]""",
        "new": """            total = bias[m]
            if i >= 0 and i < height and j >= 0 and j < width:
                for k in range(channels):
                    total += expand[m, k] * patch[k * PATCH + n % PATCH]
            piece[n]""",
        "stage": "right",
    },
    {
        "title": "ReLU on the bottleneck",
        "old": "* WIDE + cuda.threadIdx.x + 1] + sums[k]",
        "new": "* WIDE + cuda.threadIdx.x + 1] + max(sums[k], float32(0))",
        "stage": "right",
    },
    {
        "title": "ReLU in place of ReLU6",
        "old": "min(max(total, float32(0)), float32(6))",
        "new": "max(total, float32(0))",
        "stage": "right",
    },
    {
        "title": "every piece projected as the first",
        "old": "project[k, first + c]",
        "new": "project[k, c]",
        "stage": "right",
    },
    {
        "title": "sums begin as garbage",
        "old": "        sums[k] = float32(0)\n",
        "new": "        pass\n",
        "stage": "safe",
        "finds": "uninitialised-read",
    },
    {
        "title": "the patch without its rim",
        "old": "left, top = cuda.blockIdx.x * COLUMNS - 1, cuda.blockIdx.y * ROWS - 1",
        "new": "left, top = cuda.blockIdx.x * COLUMNS, cuda.blockIdx.y * ROWS",
        "stage": "right",
    },
    {
        "title": "no guard on the pixel",
        "old": "    if row < height and column < width:\n",
        "new": "    if True:\n",
        "stage": "safe",
        "finds": "out-of-bounds",
    },
    {
        "title": "x read from global memory for each expanded number",
        "old": "patch[k * PATCH + n % PATCH]",
        "new": "x[k, i, j]",
        "stage": "budget",
    },
]


def bench(rng):
    # MobileNetV2's block of 16 channels, on a map large enough to fill a card.
    channels, t, side = 16, 6, 448
    x = rng.standard_normal((channels, side, side), dtype=np.float32)
    expand = rng.standard_normal((t * channels, channels), dtype=np.float32)
    bias = rng.standard_normal(t * channels, dtype=np.float32)
    depthwise = rng.standard_normal((t * channels, 3, 3), dtype=np.float32)
    return x, expand, bias, depthwise, rng.standard_normal((channels, t * channels), dtype=np.float32)


def torch_op(x, expand, bias, depthwise, project):
    from torch.nn.functional import conv2d

    e = conv2d(x[None], expand[:, :, None, None], bias).clamp(0, 6)
    d = conv2d(e, depthwise[:, None], padding=1, groups=len(expand)).clamp(0, 6)
    return x + conv2d(d, project[:, :, None, None])[0]


def work(x, expand, bias, depthwise, project):
    numbers = 2 * x.nbytes + expand.nbytes + bias.nbytes + depthwise.nbytes + project.nbytes
    return numbers, 2 * x[0].size * (expand.size + depthwise.size + project.size)
