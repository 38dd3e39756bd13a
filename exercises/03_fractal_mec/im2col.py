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
`study hint im2col` shows 3, one at a time.

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
    raise NotImplementedError("week 3, im2col: write the kernel here")


def launch(kernel, x, size, stride, out):
    rows, columns = out.shape
    kernel[(ceil(columns / BLOCK), rows), BLOCK](x, size, stride, out)


# made from the solved exercise: 72dc35528879
