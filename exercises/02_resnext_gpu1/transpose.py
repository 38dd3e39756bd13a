"""Transpose a matrix through shared memory, without bank conflicts.

    out[j, i] = a[i, j]

a: float32 (rows, columns). out: float32 (columns, rows). A block has 32 x 32 threads and carries one tile of 32 x 32
elements over; the sizes need not be multiples of 32. The grid has a block for each tile: x along the columns of `a`.

Difficulty: 2 of 5
Minutes: 25

Plan:
1. Make a tile in shared memory.
2. Each thread reads one element of `a` into it, neighbours in a warp from neighbours in a row. Does the element exist?
3. Wait until the whole tile is there.
4. The block's tile of `out` begins where rows and columns have changed places. Each thread writes one element of it,
   neighbours in a warp to neighbours in a row of `out`.
5. Look at the tile's banks: a warp reads a column of it. What is the distance of two elements, and how can it be odd?

Hints:
`study hint transpose` shows 3, one at a time.

Budget: one global read and one global write a thread, 4 sectors a request on both sides, 1 pass in shared memory.

Hardware: A warp's 32 neighbouring floats are 128 bytes, 4 sectors. Written straight to its place each of them would lie in a
row of its own: 32 sectors, 8 times the traffic. The tile lets both sides go along rows; the turn happens in shared
memory, where only banks matter.
"""

from math import ceil

from numba import cuda, float32

TILE = 32


@cuda.jit
def transpose(a, out):
    raise NotImplementedError("week 2, transpose: write the kernel here")


def launch(kernel, a, out):
    rows, columns = a.shape
    kernel[(ceil(columns / TILE), ceil(rows / TILE)), (TILE, TILE)](a, out)


# made from the solved exercise: b5b80b0d1b26
