"""Add up an array: a tree in shared memory, then shuffles in the last warp.

    out[b] = sum of x[i] over all i that block b goes through

x: float32 (n,). out: float32 (blocks,): one partial sum a block. A block has 256 threads; there are at most 8 blocks, so a
thread may have to take several elements, each a grid's size after the last. The same kernel, started with one block on
`out`, gives the total. (After lab 2 of Caltech's CS179.)

Difficulty: 3 of 5
Minutes: 30

Plan:
1. Each thread adds up its own elements, in steps of the grid's size, and puts its sum into shared memory.
2. Wait. Then halve: the first 128 threads add the upper 128 sums to theirs. Wait. The first 64 ... until 32 are left.
3. Those 32 are one warp, which runs in step: let it finish by `cuda.shfl_down_sync`, without shared memory and barriers.
4. Thread 0 writes the block's sum.

Hints:
`study hint reduce_sum` shows 3, one at a time.

Budget: for 4,096 elements 2 global reads and one global write a thread, 4 sectors a request; 1 pass in shared memory.

Hardware: Every step of the tree halves the work, so all of it is no more than the first reading. With neighbours active, whole
warps are done and leave; a warp in which one thread works costs as much as one in which all do. A shuffle passes a register
to another lane of the warp without memory.
"""

from math import ceil

from numba import cuda, float32

BLOCK = 256
MOST_BLOCKS = 8


@cuda.jit
def reduce_sum(x, out):
    raise NotImplementedError("week 2, reduce_sum: write the kernel here")


def launch(kernel, x, out):
    kernel[out.size, BLOCK](x, out)


# made from the solved exercise: f8286b24fd5c
