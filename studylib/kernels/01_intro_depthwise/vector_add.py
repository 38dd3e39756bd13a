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
1. `i = cuda.grid(1)` is the thread's number in the whole grid, and `out.size` the number of elements.
2. if i < out.size: out[i] = a[i] + b[i]

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
    # BEGIN SOLUTION
    i = cuda.grid(1)
    if i < out.size:
        out[i] = a[i] + b[i]
    # END SOLUTION


def launch(kernel, a, b, out):
    kernel[ceil(out.size / BLOCK), BLOCK](a, b, out)


# BEGIN GRADER
import numpy as np

from studylib.kernels.sizes import number, prime


def reference(a, b):
    return a + b


def allowed(a, b):
    return 0  # rounded once, the sum of two is the float32 that lies nearest, and no other


DRAWN = 3  # the last cases: their sizes are drawn anew for each rng, those of the last one as the budget needs them


def drawn(rng):
    return prime(rng, 257, 2000), number(rng, 2, 255), 256 * number(rng, 2, 7, 4)


def cases(rng):
    for n in (1, 256, 1000, 1024, *drawn(rng)):
        yield f"{n} element{'s' * (n > 1)}", *rng.standard_normal((2, n), dtype=np.float32)


BUDGET = {"case": "1024 elements", "reads": 2, "writes": 1, "sectors": 4, "drawn": True}

MUTANTS = [
    {
        "title": "no guard",
        "old": "if i < out.size:",
        "new": "if True:",
        "stage": "safe",
        "finds": "out-of-bounds",
    },
    {"title": "each block begins at 0", "old": "cuda.grid(1)", "new": "cuda.threadIdx.x", "stage": "right"},
    {"title": "one element too few", "old": "i < out.size", "new": "i < out.size - 1", "stage": "right"},
    {
        "title": "each thread a run of neighbours: right, not coalesced",
        "new": """
run = (out.size + cuda.gridsize(1) - 1) // cuda.gridsize(1) * 32
first = cuda.grid(1) * run
for i in range(first, min(first + run, out.size)):
    out[i] = a[i] + b[i]
""",
        "stage": "budget",
    },
]


def bench(rng):
    return tuple(rng.standard_normal((2, 1 << 24), dtype=np.float32))


def torch_op(a, b):
    return a + b


def work(a, b):
    return 3 * a.nbytes, a.size
