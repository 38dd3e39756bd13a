"""Write out every window of an image, so that a convolution becomes a matrix product.

    out[(c * size + u) * size + v, i * out_width + j] = x[c, i * stride + u, j * stride + v]

x: float32 (channels, height, width), no padding. size: of the square filter. stride: in both directions. out: float32
(channels * size * size, out_height * out_width), out_height = (height - size) // stride + 1. A block has 256 threads; the
grid's x goes along the columns of `out`, y along its rows: one thread, one element.

Difficulty: 2 of 5
Minutes: 20

Plan:
1. The block's y is the row of `out`. Which channel, and which place (u, v) of the filter, is that?
2. The thread's number along x is the column of `out`. Which output pixel (i, j) is that? Does it exist?
3. Copy one number.

Hints:
1. v = row % size, u = row // size % size, c = row // (size * size).
2. out_width is not an argument: (x.shape[2] - size) // stride + 1. Then i = column // out_width, j = column % out_width.
3. Only the column needs a guard; the grid has exactly as many blocks along y as `out` has rows.

Budget: one global read and one global write a thread; at most 5 sectors a request for stride 1.

Hardware: Each input number is read, and written, up to size x size times: for a 3x3 filter the matrix is nine times the image.
That is the price for handing the work to a matrix product, and what MEC (the next exercise) cuts to a third. With stride 2
every second number of a sector that is read is thrown away: 8 sectors a request.
"""

from math import ceil

from numba import cuda

BLOCK = 256


@cuda.jit
def im2col(x, size, stride, out):
    # BEGIN SOLUTION
    column = cuda.grid(1)
    row = cuda.blockIdx.y
    if column < out.shape[1]:
        out_width = (x.shape[2] - size) // stride + 1
        c, u, v = row // (size * size), row // size % size, row % size
        i, j = column // out_width, column % out_width
        out[row, column] = x[c, i * stride + u, j * stride + v]
    # END SOLUTION


def launch(kernel, x, size, stride, out):
    rows, columns = out.shape
    kernel[(ceil(columns / BLOCK), rows), BLOCK](x, size, stride, out)


# BEGIN GRADER
import numpy as np

from studylib.kernels.sizes import number, prime


def reference(x, size, stride):
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    return np.ascontiguousarray(windows.transpose(0, 3, 4, 1, 2).reshape(len(x) * size**2, -1))


def allowed(x, size, stride):
    return 0  # numbers are moved, not computed


DRAWN = 3  # the last cases: their sizes are drawn anew for each rng, those of the last one as the budget needs them


def drawn(rng):
    yield number(rng, 2, 3), prime(rng, 23, 31), prime(rng, 17, 41), number(rng, 2, 4), 1
    yield number(rng, 2, 3), prime(rng, 7, 23), prime(rng, 7, 23), number(rng, 2, 5), number(rng, 2, 3)
    yield number(rng, 2, 3), 2 + 8 * number(rng, 1, 3), 2 + 32 * number(rng, 1, 2), 3, 1


def cases(rng):
    for channels, height, width, size, stride in (
        (1, 1, 1, 1, 1),
        (2, 18, 34, 3, 1),
        (2, 9, 14, 3, 2),
        (1, 11, 8, 5, 3),
        (3, 30, 12, 2, 1),
        *drawn(rng),
    ):
        x = rng.standard_normal((channels, height, width), dtype=np.float32)
        yield f"{channels} x {height} x {width}, filter {size}, stride {stride}", x, size, stride


BUDGET = {"case": "2 x 18 x 34, filter 3, stride 1", "reads": 1, "writes": 1, "sectors": 5, "drawn": True}

MUTANTS = [
    {
        "title": "no guard",
        "old": "if column < out.shape[1]:",
        "new": "if True:",
        "stage": "safe",
        "finds": "out-of-bounds",
    },
    {
        "title": "the filter's axes swapped",
        "old": "row // size % size, row % size",
        "new": "row % size, row // size % size",
        "stage": "right",
    },
    {"title": "stride forgotten", "old": "i * stride + u", "new": "i + u", "stage": "right"},
    {
        "title": "the image's width for the output's",
        "old": "(x.shape[2] - size) // stride + 1",
        "new": "x.shape[2]",
        "stage": "right",
    },
    {
        "title": "a warp down the rows: right, not coalesced",
        "new": """
if cuda.blockIdx.y == 0 and cuda.blockIdx.x == 0:
    out_width = (x.shape[2] - size) // stride + 1
    for row in range(cuda.threadIdx.x, out.shape[0], 256):
        c, u, v = row // (size * size), row // size % size, row % size
        for column in range(out.shape[1]):
            out[row, column] = x[c, column // out_width * stride + u, column % out_width * stride + v]
""",
        "stage": "budget",
    },
]


def bench(rng):
    return rng.standard_normal((64, 226, 226), dtype=np.float32), 3, 1


def torch_op(x, size, stride):
    from torch.nn.functional import unfold

    return unfold(x[None], size, stride=stride)[0]


def work(x, size, stride):
    outputs = ((x.shape[1] - size) // stride + 1) * ((x.shape[2] - size) // stride + 1)
    return x.nbytes + 4 * len(x) * size**2 * outputs, 0
