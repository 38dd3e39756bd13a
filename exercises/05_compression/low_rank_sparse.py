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
`study hint low_rank_sparse` shows 3, one at a time.

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
    raise NotImplementedError("week 5, low_rank_sparse: write the kernel here")


def launch(kernel, u, v, value, column, x, out):
    kernel[len(x), BLOCK](u, v, value, column, x, out)


# made from the solved exercise: f931d3618652
