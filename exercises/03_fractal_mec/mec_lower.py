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
`study hint mec_lower` shows 2, one at a time.

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
    raise NotImplementedError("week 3, mec_lower: write the kernel here")


def launch(kernel, x, size, stride, lowered):
    strips, height, _, channels = lowered.shape
    kernel[(ceil(height * size * channels / BLOCK), strips), BLOCK](x, size, stride, lowered)


# made from the solved exercise: 6aabfba940a2
