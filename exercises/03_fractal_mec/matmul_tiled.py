"""Multiply two matrices through tiles in shared memory.

    out[i, j] = sum over k of a[i, k] * b[k, j]

a: float32 (m, depth). b: float32 (depth, n). out: float32 (m, n); no size need be a multiple of 16. A block has 16 x 16
threads and computes a tile of 16 x 16 of `out`: the grid's x goes along its columns, y along its rows.

Difficulty: 3 of 5
Minutes: 30

Plan:
1. The block walks along `depth` in steps of 16. In each step it brings one tile of `a` and one of `b` to shared memory.
2. Each thread brings one element of each: neighbours in x from neighbours in a row. What lies outside becomes zero.
3. Wait. Then each thread adds sixteen products to its sum: a row of the one tile times a column of the other.
4. Wait again before the next step writes over the tiles.
5. At the end each thread that has an element of `out` writes it.

Hints:
`study hint matmul_tiled` shows 3, one at a time.

Budget: for a depth of 32 four global reads and one global write a thread, at most 4 sectors a request; 1 pass in shared memory.

Hardware: Without tiles each thread reads 2 x depth numbers; with them 2 x depth / 16, for each number that comes in is used by 16
threads. A warp is two rows of the tile: it reads 2 words of the left tile (a broadcast) and 16 words of the right one, which
lie in different banks. Tensor cores multiply tiles in hardware; no kernel in Numba comes near them.
"""

from math import ceil

from numba import cuda, float32

TILE = 16


@cuda.jit
def matmul_tiled(a, b, out):
    raise NotImplementedError("week 3, matmul_tiled: write the kernel here")


def launch(kernel, a, b, out):
    rows, columns = out.shape
    kernel[(ceil(columns / TILE), ceil(rows / TILE)), (TILE, TILE)](a, b, out)


# made from the solved exercise: ca4baa7274e4
