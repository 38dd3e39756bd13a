"""Add two vectors: one thread, one element.

    out[i] = a[i] + b[i]

a, b, out: float32 (n,). The grid has just enough blocks of 256 threads for n elements.

Difficulty: 1 of 5
Minutes: 10

Plan:
1. You write what ONE thread does. Ask which element is its own: `cuda.grid(1)` is block number x block size + thread number.
2. The last block has more threads than there are elements left. What must such a thread do?
3. Read, add, write.

Hints:
`study hint vector_add` shows 2, one at a time.

Budget: two global reads and one global write a thread, 4 sectors a request.

Hardware: 32 threads form a warp, and their 32 reads become one request. Neighbours in a warp read neighbours in
memory: 32 floats of 4 bytes are 128 bytes, 4 sectors of 32 bytes. Every byte that is fetched is used. Twelve bytes move for
one addition, so this kernel runs as fast as the memory and no faster.
"""

from math import ceil

from numba import cuda

BLOCK = 256


@cuda.jit
def vector_add(a, b, out):
    raise NotImplementedError("week 1, vector_add: write the kernel here")


def launch(kernel, a, b, out):
    kernel[ceil(out.size / BLOCK), BLOCK](a, b, out)


# made from the solved exercise: 20fa95ed6b20
