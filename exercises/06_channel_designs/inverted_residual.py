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
`study hint inverted_residual` shows 3, one at a time.

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
    raise NotImplementedError("week 6, inverted_residual: write the kernel here")


def launch(kernel, x, expand, bias, depthwise, project, out):
    grid = (ceil(out.shape[2] / COLUMNS), ceil(out.shape[1] / ROWS))
    kernel[grid, (COLUMNS, ROWS)](x, expand, bias, depthwise, project, out)


# made from the solved exercise: a4beee104747
