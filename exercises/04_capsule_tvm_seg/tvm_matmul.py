"""Write the kernel that TVM's schedule for a matrix product writes: tiles in shared memory, a small tile in registers.

    out[i, j] = sum over k of a[i, k] * b[k, j]

a: float32 (m, depth). b: float32 (depth, n). out: float32 (m, n), any sizes. A block has 16 x 16 threads and computes a tile of
64 x 64 of `out`; each thread computes 4 x 4 of them. The grid's x goes along the columns, y along the rows. In TVM's words: split
both axes by 64 (blockIdx) and by 16 (threadIdx), split the reduction by 16, cache_read both inputs in shared memory, cache_write
the result in registers.

Difficulty: 5 of 5
Minutes: 45

Plan:
1. 16 sums in a local array, all zero.
2. Step along `depth` by 16. The block brings 64 x 16 numbers of `a` and 16 x 64 of `b`: four of each a thread, neighbours from
   neighbours. Zeros for what lies outside.
3. Wait. For each of the 16 places of the reduction a thread takes 4 numbers of the left tile and 4 of the right one, and adds 16
   products.
4. Wait before the tiles are overwritten.
5. Write the 16 sums that exist.

Hints:
`study hint tvm_matmul` shows 3, one at a time.

Budget: for a depth of 32 16 global reads and 16 global writes a thread, at most 4 sectors a request; 1 pass in shared memory.

Hardware: matmul_tiled reads two words of shared memory for each multiply-add, and shared memory is what it waits for. Here 8 words
serve 16 multiply-adds: four times fewer. The price is registers, and so fewer threads at a time. A schedule names these choices
and changes none of the arithmetic; TVM searches over them.
"""

from math import ceil

from numba import cuda, float32

TILE = 64  # of the result, for a block
THREADS = 16
STEP = 16  # along the depth
EACH = 4  # rows, and columns, of the result for a thread
SUMS = 16


@cuda.jit
def tvm_matmul(a, b, out):
    raise NotImplementedError("week 4, tvm_matmul: write the kernel here")


def launch(kernel, a, b, out):
    rows, columns = out.shape
    kernel[(ceil(columns / TILE), ceil(rows / TILE)), (THREADS, THREADS)](a, b, out)


# made from the solved exercise: c1c8589ff949
