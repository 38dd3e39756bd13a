"""Multiply by a matrix of which only some blocks of 16 x 16 exist.

    out = x W, where for each e from column_start[J] to column_start[J + 1] - 1
    W[16 * row[e] : 16 * row[e] + 16, 16 * J : 16 * J + 16] = block[e]        and W is zero elsewhere

x: float32 (batch, inputs). block: float32 (blocks, 16, 16). row: int32 (blocks,), in which row of blocks each one stands. column_start:
int32 (outputs / 16 + 1,), where the blocks of each column of blocks begin; one may have none. out: float32 (batch, outputs). inputs
and outputs are multiples of 16, the batch need not be. A thread block has 16 x 16 threads and computes 16 x 16 numbers of `out`: the
grid's x goes along the columns of blocks, y along the batch. (The forward pass of OpenAI's block-sparse kernels, Gray, Radford, Kingma
2017.)

Difficulty: 3 of 5
Minutes: 25

Plan:
1. Which blocks of W stand in this thread block's column? The thread block walks along them, one after the other.
2. For each of them it brings the block, and the 16 x 16 numbers of `x` that meet it, to shared memory. Where do those begin?
3. Wait. Then each thread adds sixteen products to its sum, a row of the one tile times a column of the other. Wait again.
4. Each thread whose row of the batch exists writes its sum, and writes zero where the column has no block.

Hints:
`study hint block_sparse_matmul` shows 3, one at a time.

Budget: for 32 x 96 times 96 x 80 with two blocks in each column 8 global reads (two limits, and for each block its row and two numbers)
and one global write a thread, 4 sectors a request; 1 pass in shared memory.

Hardware: A block that exists costs what it costs in a dense product by tiles, and one that does not exist costs nothing: work and
traffic go with the density, at any density. The index is one number for 256 weights, and each number of `x` that comes in is used 16
times. Single weights, scattered at the same density, would be read with an index each, and each number of `x` would be used once.
"""

from math import ceil

from numba import cuda, float32

TILE = 16


@cuda.jit
def block_sparse_matmul(x, block, row, column_start, out):
    raise NotImplementedError("week 7, block_sparse_matmul: write the kernel here")


def launch(kernel, x, block, row, column_start, out):
    batch, outputs = out.shape
    kernel[(outputs // TILE, ceil(batch / TILE)), (TILE, TILE)](x, block, row, column_start, out)


# made from the solved exercise: 5b2ab6d1f206
