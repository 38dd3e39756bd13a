"""Blur a signal: a 1-D convolution with a halo in shared memory.

    out[i] = sum over k in 0..2R of taps[k] * x[i + k - R]        with x = 0 outside, R = 8

x, out: float32 (n,). taps: float32 (17,). A block has 256 threads and computes 256 outputs, for which it needs 256 + 16
elements of `x`: its own and a halo of R on each side. (After lab 1 of Caltech's CS179.)

Difficulty: 2 of 5
Minutes: 25

Plan:
1. Make a tile of 272 floats in shared memory.
2. Each thread brings one element. Sixteen are left over: let the first sixteen threads bring a second one.
3. Outside the signal the tile holds zeros: write them, for shared memory begins as garbage.
4. Wait for the whole tile. Then each thread sums its seventeen products.
5. Only now ask whether the thread's output exists. Why not before?

Hints:
`study hint gaussian_blur` shows 3, one at a time.

Budget: 19 global reads and one global write a thread, at most 5 sectors a request; 1 pass in shared memory.

Hardware: Straight from global memory the block would make 17 x 256 reads of `x`; with the tile they are 272. The halo begins 8
floats, one sector, before a line of 128 bytes, so a shifted request stays at 4 sectors; a radius that is no multiple of 8 would
touch 5. All threads read the same tap at the same time: one sector, and on the card one read for the warp.
"""

from math import ceil

from numba import cuda, float32

BLOCK = 256
RADIUS = 8
TILE = 272  # BLOCK and a halo of RADIUS on both sides


@cuda.jit
def gaussian_blur(x, taps, out):
    raise NotImplementedError("week 2, gaussian_blur: write the kernel here")


def launch(kernel, x, taps, out):
    kernel[ceil(out.size / BLOCK), BLOCK](x, taps, out)


# made from the solved exercise: ac0f71194ec1
