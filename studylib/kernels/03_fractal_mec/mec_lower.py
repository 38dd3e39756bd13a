"""Lower an image as MEC does: strips of the filter's width, instead of all windows.

    lowered[w, h, v, c] = x[h, w * stride + v, c]

x: float32 (height, width, channels). size: of the square filter. stride: in both directions. lowered: float32 (out_width,
height, size, channels), out_width = (width - size) // stride + 1. A block has 256 threads; the grid's y is w, and its x goes
along the height * size * channels numbers of that strip: one thread, one number. (Cho and Brand 2017, Algorithm 1, lines 4 to
6, for one image.)

Difficulty: 2 of 5
Minutes: 20

Plan:
1. The thread's number along x is a place in the strip. Which row h is that, and which place within that row?
2. The row of a strip is size * channels numbers that lie side by side in `x` as well. Where do they begin?
3. Copy one number, if the place exists.

Hints:
1. length = size * channels; h = place // length, and rest = place % length.
2. v = rest // channels and c = rest % channels say where it goes; x[h, w * stride + v, c] is where it comes from.

Budget: one global read and one global write a thread, at most 4 sectors a request.

Hardware: im2col copies each number for every window that it is in: size x size times at stride 1. MEC copies it for every strip:
size times. The rows of a strip stay together, so that the windows of one column of outputs overlap IN the lowered matrix, and
need no copies of their own (mec_conv uses that). With the channels innermost a warp reads and writes long runs.
"""

from math import ceil

from numba import cuda

BLOCK = 256


@cuda.jit
def mec_lower(x, size, stride, lowered):
    # BEGIN SOLUTION
    place = cuda.grid(1)
    w = cuda.blockIdx.y
    channels = x.shape[2]
    length = size * channels
    h, rest = place // length, place % length
    if h < x.shape[0]:
        v, c = rest // channels, rest % channels
        lowered[w, h, v, c] = x[h, w * stride + v, c]
    # END SOLUTION


def launch(kernel, x, size, stride, lowered):
    strips, height, _, channels = lowered.shape
    kernel[(ceil(height * size * channels / BLOCK), strips), BLOCK](x, size, stride, lowered)


# BEGIN GRADER
import numpy as np

from studylib.kernels.sizes import number, prime


def reference(x, size, stride):
    windows = np.lib.stride_tricks.sliding_window_view(x, size, axis=1)[:, ::stride]
    return np.ascontiguousarray(windows.transpose(1, 0, 3, 2))


def allowed(x, size, stride):
    return 0  # numbers are moved, not computed


DRAWN = 3  # the last cases: their sizes are drawn anew for each rng, those of the last one as the budget needs them


def drawn(rng):
    yield prime(rng, 11, 23), number(rng, 9, 12), prime(rng, 11, 17), number(rng, 2, 4), 2
    yield number(rng, 2, 9), number(rng, 5, 12), number(rng, 6, 10), number(rng, 2, 5), 1
    yield number(rng, 6, 9), number(rng, 8, 11), 32, 3, 1


def cases(rng):
    for height, width, channels, size, stride in (
        (1, 1, 1, 1, 1),
        (8, 10, 32, 3, 1),
        (7, 7, 1, 3, 1),
        (9, 12, 5, 4, 2),
        *drawn(rng),
    ):
        x = rng.standard_normal((height, width, channels), dtype=np.float32)
        yield f"{height} x {width} x {channels}, filter {size}, stride {stride}", x, size, stride


BUDGET = {"case": "8 x 10 x 32, filter 3, stride 1", "reads": 1, "writes": 1, "sectors": 4, "drawn": True}

MUTANTS = [
    {"title": "no guard", "old": "if h < x.shape[0]:", "new": "if True:", "stage": "safe", "finds": "out-of-bounds"},
    {"title": "stride forgotten", "old": "w * stride + v", "new": "w + v", "stage": "right"},
    {
        "title": "neighbours jump over the channels: right, not coalesced",
        "old": "rest // channels, rest % channels",
        "new": "rest % size, rest // size",
        "stage": "budget",
    },
    {
        "title": "strips along the height",
        "old": "x[h, w * stride + v, c]",
        "new": "x[w * stride + v, h, c]",
        "stage": "right",
    },
    {
        "title": "a row of the strip for each thread: right, not coalesced",
        "new": """
h = cuda.grid(1)
w = cuda.blockIdx.y
if h < x.shape[0]:
    for v in range(size):
        for c in range(x.shape[2]):
            lowered[w, h, v, c] = x[h, w * stride + v, c]
""",
        "stage": "budget",
    },
]


def bench(rng):
    return rng.standard_normal((226, 226, 64), dtype=np.float32), 3, 1


def torch_op(x, size, stride):
    return x.unfold(1, size, stride).permute(1, 0, 3, 2).contiguous()


def work(x, size, stride):
    strips = (x.shape[1] - size) // stride + 1
    return x.nbytes + 4 * strips * len(x) * size * x.shape[2], 0
