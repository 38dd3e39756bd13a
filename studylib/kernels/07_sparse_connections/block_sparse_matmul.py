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
1. It is matmul_tiled with another walk: not k = 0, 16, 32, ... but k = 16 * row[e] for the e of this column.
2. The block brings itself in order: thread (x, y) reads block[e, y, x].
3. All threads of a thread block go through the same number of blocks, so that the barriers may stand in the loop.

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
    # BEGIN SOLUTION
    left = cuda.shared.array((TILE, TILE), float32)
    right = cuda.shared.array((TILE, TILE), float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    column, b = cuda.grid(2)
    total = float32(0)
    for e in range(column_start[cuda.blockIdx.x], column_start[cuda.blockIdx.x + 1]):
        left[ty, tx] = float32(0)
        if b < x.shape[0]:
            left[ty, tx] = x[b, row[e] * TILE + tx]
        right[ty, tx] = block[e, ty, tx]
        cuda.syncthreads()
        for k in range(TILE):
            total += left[ty, k] * right[k, tx]
        cuda.syncthreads()
    if b < out.shape[0]:
        out[b, column] = total
    # END SOLUTION


def launch(kernel, x, block, row, column_start, out):
    batch, outputs = out.shape
    kernel[(outputs // TILE, ceil(batch / TILE)), (TILE, TILE)](x, block, row, column_start, out)


# BEGIN GRADER
from itertools import pairwise

import numpy as np

from studylib.kernels.rounding import gamma
from studylib.kernels.sizes import number, prime


def dense(block, row, column_start, inputs):
    """W as a float64 matrix, (inputs, outputs)."""
    found = np.zeros((inputs // TILE, TILE, len(column_start) - 1, TILE))
    for column, (begin, end) in enumerate(pairwise(column_start)):
        found[row[begin:end], :, column] = block[begin:end]
    return found.reshape(inputs, -1)


def reference(x, block, row, column_start):
    return (x.astype(float) @ dense(block, row, column_start, x.shape[1])).astype(np.float32)


def allowed(x, block, row, column_start):
    # A sum of 16 products for each block of the column, and the expected value's own rounding.
    products = np.repeat(TILE * np.diff(column_start), TILE)
    return gamma(products + 1) * reference(np.abs(x), np.abs(block), row, column_start)


DRAWN = 3  # the last cases: their sizes are drawn anew for each rng, those of the last one as the budget needs them


def drawn(rng):
    rows, columns = prime(rng, 3, 7), prime(rng, 3, 7)
    yield prime(rng, 17, 47), rows, rng.integers(1, rows + 1, columns)
    rows = number(rng, 2, 6)
    yield number(rng, 2, 15), rows, rng.integers(1, rows + 1, number(rng, 2, 5, rows))
    rows = number(rng, 4, 7)
    yield 16 * number(rng, 1, 2), rows, rng.integers(2, rows, number(rng, 2, 4))


def cases(rng):
    for batch, rows, counts in (  # counts: of the blocks in each column
        (1, 1, [1]),
        (32, 6, [2, 2, 2, 2, 2]),
        (20, 3, [3, 3, 3, 3]),
        (3, 7, [1, 0, 4]),
        (17, 4, [0, 1]),
        *drawn(rng),
    ):
        column_start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        row = np.concatenate([rng.permutation(rows)[:count] for count in counts]).astype(np.int32)  # in any order
        block = rng.standard_normal((len(row), TILE, TILE), dtype=np.float32)
        x = rng.standard_normal((batch, TILE * rows), dtype=np.float32)
        sizes = f"{batch} x {TILE * rows} times {TILE * rows} x {TILE * len(counts)}"
        yield f"{sizes}, {len(row)} of {rows * len(counts)} blocks", x, block, row, column_start


BUDGET = {
    "case": "32 x 96 times 96 x 80, 10 of 30 blocks",
    "reads": 8,
    "writes": 1,
    "sectors": 4,
    "passes": 1,
    "drawn": True,
}

MUTANTS = [
    {
        "title": "no barrier before the sum",
        "old": "        cuda.syncthreads()\n        for k",
        "new": "        for k",
        "stage": "safe",
        "finds": "race",
    },
    {
        "title": "no barrier after the sum",
        "old": "right[k, tx]\n        cuda.syncthreads()\n",
        "new": "right[k, tx]\n",
        "stage": "safe",
        "finds": "race",
    },
    {
        "title": "the blocks of a column taken for its first ones",
        "old": "x[b, row[e] * TILE + tx]",
        "new": "x[b, (e - column_start[cuda.blockIdx.x]) * TILE + tx]",
        "stage": "right",
    },
    {
        "title": "the number of the block's row taken for its first input",
        "old": "row[e] * TILE + tx",
        "new": "row[e] + tx",
        "stage": "right",
    },
    {"title": "each block transposed", "old": "block[e, ty, tx]", "new": "block[e, tx, ty]", "stage": "right"},
    {
        "title": "nothing written where a column has no block",
        "old": "if b < out.shape[0]:",
        "new": "if b < out.shape[0] and column_start[cuda.blockIdx.x] < column_start[cuda.blockIdx.x + 1]:",
        "stage": "right",
    },
    {
        "title": "no guard on the batch",
        "old": "if b < x.shape[0]:",
        "new": "if True:",
        "stage": "safe",
        "finds": "out-of-bounds",
    },
    {
        "title": "the tile of x left as it was where the batch ends",
        "old": "        left[ty, tx] = float32(0)\n",
        "new": "",
        "stage": "safe",
        "finds": "uninitialised-read",
    },
    {
        "title": "without tiles: right, with 16 times the reads",
        "new": """
column, b = cuda.grid(2)
if b < out.shape[0]:
    total = float32(0)
    for e in range(column_start[cuda.blockIdx.x], column_start[cuda.blockIdx.x + 1]):
        for k in range(TILE):
            total += x[b, row[e] * TILE + k] * block[e, k, cuda.threadIdx.x]
    out[b, column] = total
""",
        "stage": "budget",
    },
    {
        "title": "every row of blocks visited, to look whether there is one: right, and as long as a dense product",
        "old": """    for e in range(column_start[cuda.blockIdx.x], column_start[cuda.blockIdx.x + 1]):
        left[ty, tx] = float32(0)
        if b < x.shape[0]:
            left[ty, tx] = x[b, row[e] * TILE + tx]
        right[ty, tx] = block[e, ty, tx]
""",
        "new": """    for r in range(x.shape[1] // TILE):
        left[ty, tx] = float32(0)
        if b < x.shape[0]:
            left[ty, tx] = x[b, r * TILE + tx]
        right[ty, tx] = float32(0)
        for e in range(column_start[cuda.blockIdx.x], column_start[cuda.blockIdx.x + 1]):
            if row[e] == r:
                right[ty, tx] = block[e, ty, tx]
""",
        "stage": "budget",
    },
]


def bench(rng):
    rows = 5120 // TILE  # twice the width of the authors' dense layer with as many parameters
    layout = rng.random((rows, rows)) < 0.25
    column_start = np.concatenate([[0], layout.sum(1).cumsum()]).astype(np.int32)
    block = rng.standard_normal((np.count_nonzero(layout), TILE, TILE), dtype=np.float32)
    return (
        rng.standard_normal((512, 5120), dtype=np.float32),
        block,
        np.nonzero(layout)[1].astype(np.int32),
        column_start,
    )


def torch_op(x, block, row, column_start):
    import torch

    rows, columns = x.shape[1] // TILE, len(column_start) - 1
    column = torch.arange(columns, device=x.device).repeat_interleave(column_start.long().diff())
    dense = x.new_zeros(rows, columns, TILE, TILE)
    dense[row.long(), column] = block
    return x @ dense.transpose(1, 2).reshape(x.shape[1], -1)


def work(x, block, row, column_start):
    out = len(x) * TILE * (len(column_start) - 1)
    return x.nbytes + block.nbytes + row.nbytes + column_start.nbytes + 4 * out, 2 * len(x) * block.size
