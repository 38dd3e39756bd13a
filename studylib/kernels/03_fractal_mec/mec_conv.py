"""Convolve on MEC's lowered matrix: the windows overlap in it, and none is copied.

    out[h, w, o] = sum over q of lowered[w, h * stride * row + q] * weight[q, o],   q in 0..size * row - 1

lowered: float32 (out_width, height * row), what `mec_lower` makes, where row = size * channels is the length of one row of a
strip. weight: float32 (size * row, out_channels). stride: of the convolution. out: float32 (out_height, out_width,
out_channels). The window of output row h begins h * stride * row numbers into each strip. A block has 16 x 16 threads and one
output row: the grid's x goes along the output channels, y along w, z along h. (Cho and Brand 2017, Algorithm 2.)

Difficulty: 4 of 5
Minutes: 30

Plan:
1. For one h this is a matrix product: the windows, out_width rows of size * row numbers, times `weight`.
2. Do it as matmul_tiled does: tiles of 16 x 16 of both in shared memory, zeros for what lies outside.
3. The window's tile is read where it lies in `lowered`: only its first column depends on h. Nothing is copied.
4. Two barriers a step, and the guard where you write.

Hints:
1. column, w = cuda.grid(2) and h = cuda.blockIdx.z; the window of this block begins at start = h * stride * row.
2. The sum runs over depth = weight.shape[0] numbers, in steps of 16.
3. left[y, x] = lowered[w, start + k + x] if w < out.shape[1] and k + x < weight.shape[0], else zero.

Budget: for a filter of 32 numbers four global reads and one global write a thread, at most 4 sectors a request; 1 pass in shared
memory.

Hardware: Two windows above each other share (size - stride) * row numbers of a strip, and here they share them in memory too.
On a library one would say it with the leading dimension: a matrix whose rows are height * row apart and whose first element is
the window's. A matrix product does not care whether its input overlaps another one's.
"""

from math import ceil

from numba import cuda, float32

TILE = 16


@cuda.jit
def mec_conv(lowered, weight, row, stride, out):
    # BEGIN SOLUTION
    left = cuda.shared.array((TILE, TILE), float32)
    right = cuda.shared.array((TILE, TILE), float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    column, w = cuda.grid(2)
    start = cuda.blockIdx.z * stride * row
    depth = weight.shape[0]
    total = float32(0)
    for k in range(0, depth, TILE):
        if w < out.shape[1] and k + x < depth:
            left[y, x] = lowered[w, start + k + x]
        else:
            left[y, x] = float32(0)
        if k + y < depth and column < out.shape[2]:
            right[y, x] = weight[k + y, column]
        else:
            right[y, x] = float32(0)
        cuda.syncthreads()
        for j in range(TILE):
            total += left[y, j] * right[j, x]
        cuda.syncthreads()
    if w < out.shape[1] and column < out.shape[2]:
        out[cuda.blockIdx.z, w, column] = total
    # END SOLUTION


def launch(kernel, lowered, weight, row, stride, out):
    height, width, channels = out.shape
    kernel[(ceil(channels / TILE), ceil(width / TILE), height), (TILE, TILE)](lowered, weight, row, stride, out)


# BEGIN GRADER
import numpy as np

from studylib.kernels.rounding import gamma
from studylib.kernels.sizes import number, prime


def reference(lowered, weight, row, stride):
    windows = np.lib.stride_tricks.sliding_window_view(lowered.astype(float), len(weight), axis=1)[:, :: stride * row]
    return (windows.transpose(1, 0, 2) @ weight).astype(np.float32)


def allowed(lowered, weight, row, stride):
    # A sum of so many products as the filter has numbers, and the expected value's own rounding.
    return gamma(len(weight) + 1) * reference(np.abs(lowered), np.abs(weight), row, stride)


DRAWN = 3  # the last cases: their sizes are drawn anew for each rng, those of the last one as the budget needs them


def drawn(rng):
    yield number(rng, 5, 8), prime(rng, 17, 37), number(rng, 4, 7), 3, 2, prime(rng, 17, 41)
    yield number(rng, 4, 6), number(rng, 2, 16), number(rng, 3, 7), 2, 1, number(rng, 2, 31)
    yield number(rng, 4, 8), 16 * number(rng, 1, 2), 8, 2, 1, 16 * number(rng, 1, 2)


def cases(rng):
    for height, width, channels, size, stride, outputs in (
        (1, 1, 1, 1, 1, 1),
        (6, 16, 8, 2, 1, 16),
        (7, 5, 3, 3, 1, 4),
        (9, 20, 2, 3, 2, 5),
        (3, 2, 3, 2, 1, 33),
        *drawn(rng),
    ):
        row = size * channels
        lowered = rng.standard_normal((width, height * row), dtype=np.float32)
        weight = rng.standard_normal((size * row, outputs), dtype=np.float32)
        title = f"{width} strips of {height} x {size} x {channels}, stride {stride}, to {outputs} channels"
        yield title, lowered, weight, row, stride


BUDGET = {
    "case": "16 strips of 6 x 2 x 8, stride 1, to 16 channels",
    "reads": 4,
    "writes": 1,
    "sectors": 4,
    "passes": 1,
    "drawn": True,
}

MUTANTS = [
    {
        "title": "no barrier after the sum",
        "old": "* right[j, x]\n        cuda.syncthreads()\n",
        "new": "* right[j, x]\n",
        "stage": "safe",
        "finds": "race",
    },
    {
        "title": "all outputs from the first window",
        "old": "start = cuda.blockIdx.z * stride * row",
        "new": "start = 0",
        "stage": "right",
    },
    {
        "title": "windows that do not overlap",
        "old": "start = cuda.blockIdx.z * stride * row",
        "new": "start = cuda.blockIdx.z * stride * weight.shape[0]",
        "stage": "safe",
        "finds": "out-of-bounds",
    },
    {
        "title": "stride forgotten",
        "old": "start = cuda.blockIdx.z * stride * row",
        "new": "start = cuda.blockIdx.z * row",
        "stage": "right",
    },
    {
        "title": "no guard along the filter",
        "old": "if k + y < depth and column",
        "new": "if column",
        "stage": "safe",
        "finds": "out-of-bounds",
    },
    {
        "title": "without tiles",
        "new": """
column, w = cuda.grid(2)
start = cuda.blockIdx.z * stride * row
if w < out.shape[1] and column < out.shape[2]:
    total = float32(0)
    for k in range(weight.shape[0]):
        total += lowered[w, start + k] * weight[k, column]
    out[cuda.blockIdx.z, w, column] = total
""",
        "stage": "budget",
    },
]


def bench(rng):
    size, channels = 3, 64
    row = size * channels
    lowered = rng.standard_normal((224, 226 * row), dtype=np.float32)
    return lowered, rng.standard_normal((size * row, 64), dtype=np.float32), row, 1


def torch_op(lowered, weight, row, stride):
    return lowered.unfold(1, len(weight), stride * row).transpose(0, 1) @ weight


def work(lowered, weight, row, stride):
    windows = (lowered.shape[1] - len(weight)) // (stride * row) + 1
    outputs = windows * len(lowered) * weight.shape[1]
    return lowered.nbytes + weight.nbytes + 4 * outputs, 2 * outputs * len(weight)
