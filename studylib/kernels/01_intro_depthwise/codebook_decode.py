"""Turn shared weights back into numbers: look each index up in a small codebook.

    out[i] = codebook[indices[i]]

indices: uint8 (n,). codebook: float32 (k,), k at most 256. out: float32 (n,). Deep Compression (Han, Mao, Dally, section 3)
stores a layer so: one byte a weight, and the k weights that they share. The grid has 4 blocks of 256 threads, whatever
n is: each thread takes every 1,024th element.

Difficulty: 2 of 5
Minutes: 20

Plan:
1. Copy the codebook to shared memory, once a block: thread t brings entry t, if there is one.
2. Wait until all of it is there.
3. Go through the elements in steps of the grid's size, beginning with the thread's own number.
4. For each: read the index, look it up, write the weight.

Hints:
1. `table = cuda.shared.array(256, float32)`, and one `cuda.syncthreads()` between filling and reading it.
2. `for i in range(cuda.grid(1), out.size, cuda.gridsize(1)):` is a grid-stride loop: neighbours in a warp stay neighbours.
3. The barrier stands outside of any `if`: all 256 threads must come to it, also where the codebook has only 16 entries.

Budget: for 4,096 elements 5 global reads and 4 global writes a thread, at most 4 sectors a request; at most 6 passes a request
in shared memory.

Hardware: The table is read once for every weight, at places that only the data knows. In shared memory that costs a bank
conflict where two threads want different words of one bank; several threads that want the same word share one pass. Read from
global memory each request would touch up to 32 sectors. What is left is the traffic that cannot be avoided: one byte in and
four out, where float32 weights would need four in.
"""

from numba import cuda, float32

BLOCK = 256
BLOCKS = 4


@cuda.jit
def codebook_decode(indices, codebook, out):
    # BEGIN SOLUTION
    table = cuda.shared.array(256, float32)
    t = cuda.threadIdx.x
    if t < codebook.size:
        table[t] = codebook[t]
    cuda.syncthreads()
    for i in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        out[i] = table[indices[i]]
    # END SOLUTION


def launch(kernel, indices, codebook, out):
    kernel[BLOCKS, BLOCK](indices, codebook, out)


# BEGIN GRADER
import numpy as np

from studylib.kernels.sizes import number, prime


def reference(indices, codebook):
    return codebook[indices]


def allowed(indices, codebook):
    return 0  # numbers are moved, not computed


DRAWN = 3  # the last cases: their sizes are drawn anew for each rng, those of the last one as the budget needs them


def drawn(rng):
    yield prime(rng, 1025, 3000), number(rng, 17, 255)
    yield prime(rng, 2, 1000), number(rng, 2, 255)
    yield 32 * number(rng, 97, 127), 256


def cases(rng):
    for n, k in ((1, 16), (4096, 256), (1500, 16), (3000, 200), *drawn(rng)):
        indices = rng.integers(0, k, n, dtype=np.uint8)
        yield f"{n} weight{'s' * (n > 1)}, {k} shared", indices, rng.standard_normal(k, dtype=np.float32)


BUDGET = {"case": "4096 weights, 256 shared", "reads": 5, "writes": 4, "sectors": 4, "passes": 6, "drawn": True}

MUTANTS = [
    {"title": "no barrier", "old": "cuda.syncthreads()\n", "new": "pass\n", "stage": "safe", "finds": "race"},
    {
        "title": "barrier inside the if",
        "old": "table[t] = codebook[t]\n    cuda.syncthreads()",
        "new": "table[t] = codebook[t]\n        cuda.syncthreads()",
        "stage": "safe",
        "finds": "barrier-divergence",
    },
    {
        "title": "only the first 16 entries",
        "old": "if t < codebook.size:",
        "new": "if t < 16:",
        "stage": "safe",
        "finds": "uninitialised-read",
    },
    {
        "title": "one element a thread: the grid is too small",
        "old": "for i in range(cuda.grid(1), out.size, cuda.gridsize(1)):",
        "new": "for i in range(cuda.grid(1), min(out.size, cuda.grid(1) + 1)):",
        "stage": "right",
    },
    {
        "title": "the codebook read from global memory",
        "old": "out[i] = table[indices[i]]",
        "new": "out[i] = codebook[indices[i]]",
        "stage": "budget",
    },
    {
        "title": "a run of neighbours for each thread: right, not coalesced",
        "old": "for i in range(cuda.grid(1), out.size, cuda.gridsize(1)):",
        "new": "run = (out.size + 1023) // 1024\n    for i in range(cuda.grid(1) * run, min(cuda.grid(1) * run + run, out.size)):",
        "stage": "budget",
    },
]


def bench(rng):
    return rng.integers(0, 256, 1 << 24, dtype=np.uint8), rng.standard_normal(256, dtype=np.float32)


def torch_op(indices, codebook):
    return codebook[indices.long()]


def work(indices, codebook):
    return 5 * indices.size + codebook.nbytes, 0
