"""Apply a layer that is a low-rank part plus a sparse part, both in one kernel.

    out[b, i] = sum over k of u[k, i] * (sum over j of v[k, j] * x[b, j])
              + sum over e of value[e, i] * x[b, column[e, i]]

u: float32 (rank, outputs) and v: float32 (rank, inputs), rank at most 32: W = L + S with L = u^T v. value: float32 and column:
int32 (width, outputs): row i of S has at most `width` numbers, filled up with value 0 and column 0 (the ELLPACK format, kept so that
neighbouring outputs lie side by side). x: float32 (batch, inputs), inputs at most 1,024. out: float32 (batch, outputs). One block
of 128 threads, one row of `x`. (The form of Yu, Liu, Wang, Tao 2017.)

Difficulty: 3 of 5
Minutes: 30

Plan:
1. Bring the block's row of `x` to shared memory: both parts read it. Wait.
2. The `rank` inner numbers v x: a warp takes one, every fourth. Its lanes read the row of `v` side by side and add up by shuffles.
3. Lane 0 of the warp puts the number into shared memory. Wait.
4. Each thread takes an output, every 128th: `rank` products with `u`, then `width` products with `value`, in one sum.

Hints:
1. warp = threadIdx.x // 32 and lane = threadIdx.x % 32; `for k in range(warp, v.shape[0], 4)` runs equally often for all lanes.
2. After total += cuda.shfl_down_sync(0xFFFFFFFF, total, shift) for 16, 8, 4, 2, 1 lane 0 has the sum.
3. In step 4 all threads read the same inner number at a time, a broadcast, and u[k, i] with neighbouring i.

Budget: for 128 inputs and outputs, rank 8 and 4 numbers a row 25 global reads (1 of x, 8 of v, 8 of u, 8 of S) and one global
write a thread, at most 4 sectors a request; at most 3 passes a request in shared memory.

Hardware: As two small products and a sparse one, each part would read `x` again, and the sum would be written and read twice more.
A sparse part reads at places that only the data knows; from shared memory that costs a few passes, from global memory up to 32
sectors. ELLPACK pays for its even rows with zeros: one long row makes all of them long.
"""

from numba import cuda, float32

BLOCK = 128
WARP = 32
WARPS = 4
MOST_INPUTS = 1024
MOST_RANK = 32


@cuda.jit
def low_rank_sparse(u, v, value, column, x, out):
    # BEGIN SOLUTION
    vector = cuda.shared.array(MOST_INPUTS, float32)
    inner = cuda.shared.array(MOST_RANK, float32)
    t = cuda.threadIdx.x
    b = cuda.blockIdx.x
    warp, lane = t // WARP, t % WARP
    for j in range(t, x.shape[1], BLOCK):
        vector[j] = x[b, j]
    cuda.syncthreads()
    for k in range(warp, v.shape[0], WARPS):
        total = float32(0)
        for j in range(lane, v.shape[1], WARP):
            total += v[k, j] * vector[j]
        shift = 16
        while shift > 0:
            total += cuda.shfl_down_sync(0xFFFFFFFF, total, shift)
            shift //= 2
        if lane == 0:
            inner[k] = total
    cuda.syncthreads()
    for i in range(t, out.shape[1], BLOCK):
        total = float32(0)
        for k in range(u.shape[0]):
            total += u[k, i] * inner[k]
        for e in range(value.shape[0]):
            total += value[e, i] * vector[column[e, i]]
        out[b, i] = total
    # END SOLUTION


def launch(kernel, u, v, value, column, x, out):
    kernel[len(x), BLOCK](u, v, value, column, x, out)


# BEGIN GRADER
import numpy as np

from studylib.kernels.rounding import gamma
from studylib.kernels.sizes import number, prime


def reference(u, v, value, column, x):
    x = x.astype(float)
    low = x @ v.T.astype(float) @ u
    return (low + (value * x[:, column]).sum(1)).astype(np.float32)


def allowed(u, v, value, column, x):
    # An inner number is a sum of `inputs` products, an output one of rank + width; and the expected value's own rounding.
    roundings = v.shape[1] + len(u) + len(value) + 1
    return gamma(roundings) * reference(np.abs(u), np.abs(v), np.abs(value), column, np.abs(x))


DRAWN = 3  # the last cases: their sizes are drawn anew for each rng, those of the last one as the budget needs them


def drawn(rng):
    yield 2, prime(rng, 129, 200), prime(rng, 131, 250), prime(rng, 5, 13), number(rng, 2, 6)
    yield number(rng, 2, 3), number(rng, 9, 120), number(rng, 8, 120), number(rng, 1, 7), number(rng, 1, 5)
    yield 2, 128 * number(rng, 2, 4), 128 * number(rng, 1, 3), 4 * number(rng, 3, 6), number(rng, 5, 9)


def cases(rng):
    for batch, inputs, outputs, rank, width in (
        (1, 1, 1, 1, 1),
        (2, 128, 128, 8, 4),
        (3, 50, 20, 3, 2),
        (1, 150, 140, 32, 1),
        *drawn(rng),
    ):
        u = rng.standard_normal((rank, outputs), dtype=np.float32)
        v = rng.standard_normal((rank, inputs), dtype=np.float32)
        value = rng.standard_normal((width, outputs), dtype=np.float32)
        column = np.stack([rng.permutation(max(inputs, width))[:width] % inputs for _ in range(outputs)], 1)
        filled_up = np.arange(width)[:, None] >= rng.integers(0, width + 1, outputs)  # rows of S differ in length
        value[filled_up] = 0
        column[filled_up] = 0
        x = rng.standard_normal((batch, inputs), dtype=np.float32)
        title = f"{batch} x {inputs} to {outputs}, rank {rank}, {width} numbers a row"
        yield title, u, v, value, column.astype(np.int32), x


BUDGET = {
    "case": "2 x 128 to 128, rank 8, 4 numbers a row",
    "reads": 25,
    "writes": 1,
    "sectors": 4,
    "passes": 3,
    "drawn": True,
}

MUTANTS = [
    {
        "title": "no barrier before the inner numbers",
        "old": "x[b, j]\n    cuda.syncthreads()\n",
        "new": "x[b, j]\n",
        "stage": "safe",
        "finds": "race",
    },
    {
        "title": "no barrier behind the inner numbers",
        "old": "inner[k] = total\n    cuda.syncthreads()\n",
        "new": "inner[k] = total\n",
        "stage": "safe",
        "finds": "race",
    },
    {"title": "the low-rank part alone", "old": "vector[column[e, i]]", "new": "float32(0)", "stage": "right"},
    {
        "title": "one step of the sum too few",
        "old": "while shift > 0",
        "new": "while shift > 1",
        "stage": "right",
    },
    {
        "title": "the shuffles within the loop over the inputs",
        "old": """            total += v[k, j] * vector[j]
        shift = 16
""",
        "new": """            total += v[k, j] * vector[j]
            total += float32(0) * cuda.shfl_down_sync(0xFFFFFFFF, total, 16)
        shift = 16
""",
        "stage": "safe",
        "finds": "shuffle",
    },
    {
        "title": "no guard on the outputs",
        "old": "range(t, out.shape[1], BLOCK)",
        "new": "range(t, (out.shape[1] + BLOCK - 1) // BLOCK * BLOCK, BLOCK)",
        "stage": "safe",
        "finds": "out-of-bounds",
    },
    {
        "title": "the sparse part reads x from global memory",
        "old": "vector[column[e, i]]",
        "new": "x[b, column[e, i]]",
        "stage": "budget",
    },
    {
        "title": "one thread, one inner number: right, not coalesced",
        "old": """    for k in range(warp, v.shape[0], WARPS):
        total = float32(0)
        for j in range(lane, v.shape[1], WARP):
            total += v[k, j] * vector[j]
        shift = 16
        while shift > 0:
            total += cuda.shfl_down_sync(0xFFFFFFFF, total, shift)
            shift //= 2
        if lane == 0:
            inner[k] = total
""",
        "new": """    if t < v.shape[0]:
        total = float32(0)
        for j in range(v.shape[1]):
            total += v[t, j] * vector[j]
        inner[t] = total
""",
        "stage": "budget",
    },
]


def bench(rng):
    n, rank, width = 1024, 32, 51  # 11 % of the parameters, half of them in each part
    u, v = rng.standard_normal((2, rank, n), dtype=np.float32)
    value = rng.standard_normal((width, n), dtype=np.float32)
    column = rng.integers(0, n, (width, n)).astype(np.int32)
    return u, v, value, column, rng.standard_normal((512, n), dtype=np.float32)


def torch_op(u, v, value, column, x):
    return x @ v.T @ u + (value * x[:, column.long()]).sum(1)


def work(u, v, value, column, x):
    numbers = u.nbytes + v.nbytes + value.nbytes + column.nbytes + x.nbytes + 4 * len(x) * u.shape[1]
    return numbers, 2 * len(x) * (u.size + v.size + value.size)
