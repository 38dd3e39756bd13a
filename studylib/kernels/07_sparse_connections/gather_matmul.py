"""Multiply by a layer in which each output has the same few inputs: gather them.

    out[o, p] = sum over d of value[o, d] * x[index[o, d], p]

x: float32 (channels, pixels). index: int32 (outputs, degree), the inputs that output o is connected with, all different. value: float32
(outputs, degree), their weights; degree is at most 256. out: float32 (outputs, pixels). A block has 128 threads, one pixel each, and
one output: the grid's x goes along the pixels, y along the outputs. (The 1x1 convolution of Deep Expander Networks, Prabhu, Varma,
Namboodiri 2018, without the zeros of its mask.)

Difficulty: 2 of 5
Minutes: 20

Plan:
1. All threads of the block need the same row of `index` and of `value`: bring both rows to shared memory together.
2. Wait.
3. Each thread that has a pixel goes through the row: the weight times that input's number at the thread's own pixel.
4. Write the sum.

Hints:
1. Two arrays in shared memory, one of int32 and one of float32, and one loop `for d in range(t, index.shape[1], BLOCK)` for both.
2. In the sum, all threads read the same input at a time, each at its own pixel: neighbours read neighbours.
3. The thread of a pixel that does not exist still brings its share of the rows, and comes to the barrier.

Budget: for 32 channels, 40 outputs of degree 8, and 256 pixels 10 global reads (1 of an index, 1 of a weight, 8 of x) and one global
write a thread, 4 sectors a request; 1 pass in shared memory.

Hardware: The zeros cost nothing, and every request is coalesced, for only the row is random and the pixels of a row lie side by side. Yet
each number of `x` that comes in is used once. In a dense product by tiles of 16 x 16 it is used 16 times: this kernel reads less of
`x` only where the degree is less than a sixteenth of the channels. What many outputs share would have to be brought once.
"""

from math import ceil

from numba import cuda, float32, int32

BLOCK = 128
MOST_DEGREE = 256


@cuda.jit
def gather_matmul(x, index, value, out):
    # BEGIN SOLUTION
    inputs = cuda.shared.array(MOST_DEGREE, int32)
    weights = cuda.shared.array(MOST_DEGREE, float32)
    t = cuda.threadIdx.x
    pixel = cuda.grid(1)
    o = cuda.blockIdx.y
    for d in range(t, index.shape[1], BLOCK):
        inputs[d] = index[o, d]
        weights[d] = value[o, d]
    cuda.syncthreads()
    if pixel < x.shape[1]:
        total = float32(0)
        for d in range(index.shape[1]):
            total += weights[d] * x[inputs[d], pixel]
        out[o, pixel] = total
    # END SOLUTION


def launch(kernel, x, index, value, out):
    outputs, pixels = out.shape
    kernel[(ceil(pixels / BLOCK), outputs), BLOCK](x, index, value, out)


# BEGIN GRADER
import numpy as np

from studylib.kernels.rounding import gamma
from studylib.kernels.sizes import number, prime


def reference(x, index, value):
    return np.einsum("od,odp->op", value, x.astype(float)[index]).astype(np.float32)


def allowed(x, index, value):
    # A sum of so many products as an output has inputs, and the expected value's own rounding.
    return gamma(index.shape[1] + 1) * reference(np.abs(x), index, np.abs(value))


DRAWN = 3  # the last cases: their sizes are drawn anew for each rng, those of the last one as the budget needs them


def drawn(rng):
    channels = prime(rng, 11, 43)
    yield channels, prime(rng, 3, 17), number(rng, 2, channels), prime(rng, 129, 300)
    yield number(rng, 7, 40), number(rng, 2, 9), number(rng, 1, 7), number(rng, 2, 127)
    yield number(rng, 20, 60), number(rng, 2, 9), number(rng, 4, 20), 128 * number(rng, 1, 3)


def cases(rng):
    for channels, outputs, degree, pixels in (
        (1, 1, 1, 1),
        (32, 40, 8, 256),
        (64, 24, 4, 200),
        (210, 3, 200, 31),
        (6, 9, 6, 7),  # each output has all inputs, in an order of its own
        *drawn(rng),
    ):
        x = rng.standard_normal((channels, pixels), dtype=np.float32)
        index = rng.permuted(np.tile(np.arange(channels, dtype=np.int32), (outputs, 1)), axis=1)[:, :degree].copy()
        value = rng.standard_normal((outputs, degree), dtype=np.float32)
        yield f"{channels} to {outputs} channels of degree {degree}, {pixels} pixels", x, index, value


BUDGET = {
    "case": "32 to 40 channels of degree 8, 256 pixels",
    "reads": 10,
    "writes": 1,
    "sectors": 4,
    "passes": 1,
    "drawn": True,
}

MUTANTS = [
    {"title": "no barrier", "old": "    cuda.syncthreads()\n", "new": "    pass\n", "stage": "safe", "finds": "race"},
    {
        "title": "the first inputs for the connected ones",
        "old": "x[inputs[d], pixel]",
        "new": "x[d, pixel]",
        "stage": "right",
    },
    {
        "title": "every output has the weights of the first",
        "old": "value[o, d]",
        "new": "value[0, d]",
        "stage": "right",
    },
    {"title": "a sum of the inputs, without weights", "old": "weights[d] * x", "new": "x", "stage": "right"},
    {
        "title": "no guard on the pixel",
        "old": "if pixel < x.shape[1]:",
        "new": "if True:",
        "stage": "safe",
        "finds": "out-of-bounds",
    },
    {
        "title": "only the threads that have a pixel bring the rows",
        "old": "    for d in range(t, index.shape[1], BLOCK):\n",
        "new": "    for d in range(t if pixel < x.shape[1] else index.shape[1], index.shape[1], BLOCK):\n",
        "stage": "safe",
        "finds": "uninitialised-read",
    },
    {
        "title": "index and weight from global memory for each product",
        "old": "weights[d] * x[inputs[d], pixel]",
        "new": "value[o, d] * x[index[o, d], pixel]",
        "stage": "budget",
    },
    {
        "title": "with the zeros: right, and as much work as a dense layer",
        "old": """        for d in range(index.shape[1]):
            total += weights[d] * x[inputs[d], pixel]
""",
        "new": """        for c in range(x.shape[0]):
            weight = float32(0)
            for d in range(index.shape[1]):
                if inputs[d] == c:
                    weight = weights[d]
            total += weight * x[c, pixel]
""",
        "stage": "budget",
    },
]


def bench(rng):
    # A 1x1 convolution of X-MobileNet at 14 x 14 pixels, 64 images, an eighth of the connections.
    channels, degree = 512, 64
    index = rng.permuted(np.tile(np.arange(channels, dtype=np.int32), (channels, 1)), axis=1)[:, :degree].copy()
    x = rng.standard_normal((channels, 64 * 14 * 14), dtype=np.float32)
    return x, index, rng.standard_normal((channels, degree), dtype=np.float32)


def torch_op(x, index, value):
    dense = x.new_zeros(len(index), len(x)).scatter(1, index.long(), value)
    return dense @ x


def work(x, index, value):
    out = len(index) * x.shape[1]
    return x.nbytes + index.nbytes + value.nbytes + 4 * out, 2 * index.size * x.shape[1]
