"""Multiply a pruned, shared layer by a vector straight from its compressed form.

    column[e] = (sum over the entries d of the row, d <= e, of (gaps[d] + 1)) - 1
    y[row] = sum over e from row_start[row] to row_start[row + 1] - 1 of codebook[indices[e]] * x[column[e]]

gaps: uint8 (entries,), the zeros between an entry and the one before it. indices: uint8 (entries,). row_start: int32 (rows + 1,).
codebook: float32 (k,), k at most 256. x: float32 (columns,). y: float32 (rows,). A gap of more than 31 zeros is cut by fillers:
entries whose weight is zero. One warp, one row; a block has 4 warps. (Deep Compression, Han, Mao, Dally 2016, sections 2 and 3,
with a byte for each 5-bit gap, and each row begun anew.)

Difficulty: 4 of 5
Minutes: 35

Plan:
1. Copy the codebook to shared memory with the whole block, and wait.
2. The warp goes through its row's entries, 32 at a time. Each lane reads one gap; its entry stands gap + 1 columns after the last.
3. A running sum over the lanes: in step s = 1, 2, 4, 8, 16 each lane adds what the lane s below it has.
4. Now each lane knows its column, counted from where the 32 before ended. Multiply, and add to the lane's own sum.
5. The highest lane's running sum says where these 32 entries end. All lanes need it.
6. At the end the 32 sums become one, by shuffles, and lane 0 writes.

Hints:
`study hint spmv_relative` shows 3, one at a time.

Budget: for 4 rows of 64 columns, half of them kept, and 256 shared weights at most 10 global reads and one global write a thread, at
most 8 sectors a request; at most 4 passes a request in shared memory.

Hardware: An entry takes two bytes here, and float32 with a column number would take eight: a layer that does not fit the cache may
fit now, and a product of one vector takes as long as its matrix needs to come in. The price is the running sum: five steps of
shuffles for 32 weights. Nothing can make `x` coalesced, for which of its numbers are wanted only the data knows.
"""

from math import ceil

from numba import cuda, float32

BLOCK = 128
WARP = 32


@cuda.jit
def spmv_relative(gaps, indices, row_start, codebook, x, y):
    raise NotImplementedError("week 5, spmv_relative: write the kernel here")


def launch(kernel, gaps, indices, row_start, codebook, x, y):
    kernel[ceil(y.size * WARP / BLOCK), BLOCK](gaps, indices, row_start, codebook, x, y)


# made from the solved exercise: 9be2c4a46184
