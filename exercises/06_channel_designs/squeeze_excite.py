"""Squeeze, excite and scale in one kernel: the map is read twice, and nothing in between is written.

    z[c] = (sum over p of x[b, c, p]) / pixels                           squeeze
    hidden[k] = max(0, sum over c of w1[k, c] * z[c])                    excite
    gate[c] = 1 / (1 + exp(-(sum over k of w2[k, c] * hidden[k])))
    out[b, c, p] = gate[c] * x[b, c, p]                                  scale

x: float32 (batch, channels, pixels). w1: float32 (reduced, channels). w2: float32 (reduced, channels), so transposed. out: float32 as x.
At most 512 channels and 32 reduced ones. One block of 256 threads, one image. (SENet, Hu, Shen, Sun 2017, Eqs. 2 to 4, without
biases.)

Difficulty: 4 of 5
Minutes: 35

Plan:
1. Squeeze: a warp takes a channel, every eighth. Its lanes read the pixels side by side, add up, and finish by shuffles. Wait.
2. The hidden numbers: a warp takes one, every eighth, and goes through z in the same way. ReLU. Wait.
3. The gates: a thread takes a channel, every 256th, and goes through the hidden numbers. Wait.
4. Scale: all threads go through all numbers of the image side by side.

Hints:
`study hint squeeze_excite` shows 3, one at a time.

Budget: for 16 channels of 64 pixels and 4 reduced ones 13 global reads and 4 global writes a thread, 4 sectors a request; 1 pass in
shared memory.

Hardware: The work is small and the bytes are not: each of the four formulas as a call of its own reads or writes something, and the
whole map is read for the mean and again for the scale. It is so here too, for no gate is known before the last pixel; but the second
time an image of a late stage is still in the cache. One image a block leaves most of a card idle when the batch is one.
"""

import math

from numba import cuda, float32

BLOCK = 256
WARP = 32
WARPS = 8
MOST_CHANNELS = 512
MOST_REDUCED = 32


@cuda.jit
def squeeze_excite(x, w1, w2, out):
    raise NotImplementedError("week 6, squeeze_excite: write the kernel here")


def launch(kernel, x, w1, w2, out):
    kernel[len(x), BLOCK](x, w1, w2, out)


# made from the solved exercise: 780756461262
