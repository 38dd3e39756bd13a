"""Route by agreement: all iterations in one kernel, with the couplings in shared memory.

    b[i, j] = 0, then in each iteration
    c[i, j] = exp(b[i, j]) / (sum over j of exp(b[i, j]))
    s[j] = sum over i of c[i, j] * votes[i, j],   v[j] = |s[j]| / (1 + |s[j]|^2) * s[j]
    b[i, j] += votes[i, j] . v[j]                 (not after the last iteration: nobody reads it)

votes: float32 (batch, children, parents, dim). iterations: at least 1. out: float32 (batch, parents, dim), the v of the last
iteration. One block of 128 threads, one example. At most 1,024 pairs of child and parent, 256 numbers parents x dim, and dim a power
of two up to 32. (Sabour, Frosst, Hinton 2017, Procedure 1; Eq. 1 without the division by |s|.)

Difficulty: 5 of 5
Minutes: 45

Plan:
1. Three arrays in shared memory: b and c for the pairs, and one for the parents' vectors. Begin with b = 0.
2. Couplings: a thread takes a child, every 128th, and does the softmax over its PARENTS.
3. Sums: a thread takes a number (j, d) of a parent's vector and goes through all children. Neighbours read neighbours.
4. Squash: the same thread needs |s[j]|, so all of s must be there first.
5. Agreement: a dot product over d for each pair. Number all votes one after the other, a thread takes one, multiplies, and the dim
   neighbours of a pair add up by shuffles.
6. A barrier after each of these steps. At the end the vectors are written.

Hints:
1. In the numbering n = (i * parents + j) * dim + d of an example's votes, n // dim is the pair and n % (parents * dim) the number of
   the parent's vector.
2. The agreement's loop must run equally often for all threads, for the shuffles need all lanes:
   for first in range(0, total, 128): n = first + t, and a thread beyond `total` brings zero.
3. Between reading the old vectors (to find |s[j]|) and writing the squashed ones stands a barrier.

Budget: for 12 children, 5 parents, 8 dimensions and 3 iterations 44 global reads and one global write a thread, at most 4 sectors a
request; at most 1.6 passes a request in shared memory.

Hardware: As framework calls each iteration goes through memory with c, s, v and b, and starts half a dozen kernels. Here all that
stays on the chip, and only the votes are read, 2 x iterations - 1 times. (Once an iteration would do: a child's agreement, its
softmax and its part of the next sum need the same votes.) For CapsNet's 1,152 x 10 pairs b and c together would take 92,160
bytes: more than the 48 KB that a block gets without asking.
"""

import math

from numba import cuda, float32

BLOCK = 128
MOST_PAIRS = 1024
MOST_NUMBERS = 256


@cuda.jit
def routing(votes, iterations, out):
    # BEGIN SOLUTION
    b = cuda.shared.array(MOST_PAIRS, float32)
    c = cuda.shared.array(MOST_PAIRS, float32)
    v = cuda.shared.array(MOST_NUMBERS, float32)
    t = cuda.threadIdx.x
    example = cuda.blockIdx.x
    children, parents, dim = votes.shape[1], votes.shape[2], votes.shape[3]
    pairs, numbers = children * parents, parents * dim
    for pair in range(t, pairs, BLOCK):
        b[pair] = float32(0)
    cuda.syncthreads()
    for iteration in range(iterations):
        for i in range(t, children, BLOCK):
            greatest = b[i * parents]
            for j in range(1, parents):
                greatest = max(greatest, b[i * parents + j])
            total = float32(0)
            for j in range(parents):
                share = math.exp(b[i * parents + j] - greatest)
                c[i * parents + j] = share
                total += share
            for j in range(parents):
                c[i * parents + j] /= total
        cuda.syncthreads()
        for n in range(t, numbers, BLOCK):
            j, d = n // dim, n % dim
            total = float32(0)
            for i in range(children):
                total += c[i * parents + j] * votes[example, i, j, d]
            v[n] = total
        cuda.syncthreads()
        for first in range(0, numbers, BLOCK):
            n = first + t
            square = float32(0)
            if n < numbers:
                for d in range(dim):
                    square += v[n // dim * dim + d] * v[n // dim * dim + d]
            cuda.syncthreads()
            if n < numbers:
                v[n] *= math.sqrt(square) / (float32(1) + square)
        cuda.syncthreads()
        if iteration < iterations - 1:
            for first in range(0, pairs * dim, BLOCK):
                n = first + t
                product = float32(0)
                if n < pairs * dim:
                    product = votes[example, n // numbers, n // dim % parents, n % dim] * v[n % numbers]
                shift = dim // 2
                while shift > 0:
                    product += cuda.shfl_xor_sync(0xFFFFFFFF, product, shift)
                    shift //= 2
                if n < pairs * dim and n % dim == 0:
                    b[n // dim] += product
            cuda.syncthreads()
    for n in range(t, numbers, BLOCK):
        out[example, n // dim, n % dim] = v[n]
    # END SOLUTION


def launch(kernel, votes, iterations, out):
    kernel[len(votes), BLOCK](votes, iterations, out)


# BEGIN GRADER
import numpy as np

from studylib.kernels.rounding import EXP, gamma
from studylib.kernels.sizes import number, prime


def reference(votes, iterations):
    votes = votes.astype(float)
    b = np.zeros(votes.shape[:3])
    for _ in range(iterations):
        c = np.exp(b - b.max(2, keepdims=True))
        c /= c.sum(2, keepdims=True)
        s = np.einsum("nij,nijd->njd", c, votes)
        length = np.linalg.norm(s, axis=-1, keepdims=True)
        v = length / (1 + length**2) * s
        b += np.einsum("nijd,njd->nij", votes, v)
    return v.astype(np.float32)


def allowed(votes, iterations):
    # The bounds of the steps, each applied to what the step before may be wrong by (Higham 3.3, a running error analysis).
    votes = votes.astype(float)
    _, children, parents, dim = votes.shape
    b, off_b = np.zeros(votes.shape[:3]), np.zeros(votes.shape[:3])
    for _ in range(iterations):
        d = b.max(2, keepdims=True) - b
        c = np.exp(-d)
        c /= c.sum(2, keepdims=True)
        # A softmax: exp(b - greatest) over the sum, where b itself is off, and so is the greatest.
        off_exp = 2 * off_b.max(2, keepdims=True) + gamma(2 * d + EXP)
        off_c = c * (off_exp + (c * off_exp).sum(2, keepdims=True) + gamma(parents))
        s = np.einsum("nij,nijd->njd", c, votes)
        off_s = np.einsum("nij,nijd->njd", off_c + gamma(children) * c, np.abs(votes))
        # The squash: its factor length / (1 + length^2) changes by at most 1 / (1 + length^2) for 1 of the length.
        length = np.linalg.norm(s, axis=-1, keepdims=True)
        off_length = np.linalg.norm(off_s, axis=-1, keepdims=True) + gamma(dim + 8) * length
        factor = length / (1 + length**2)
        slope = 1 / (1 + np.maximum(0, length - off_length) ** 2)
        v = factor * s
        off_v = factor * off_s + slope * (np.abs(s) + off_s) * off_length + gamma(8) * np.abs(v)
        step, grown = np.einsum("nijd,njd->nij", votes, v), np.abs(votes)
        off_b += np.einsum("nijd,njd->nij", grown, off_v + gamma(dim) * np.abs(v)) + gamma(1) * np.abs(b + step)
        b += step
    return off_v + gamma(1) * np.abs(v)


DRAWN = 3  # the last cases: their sizes are drawn anew for each rng, those of the last one as the budget needs them


def drawn(rng):
    yield 2, prime(rng, 13, 40), number(rng, 9, 15), 16, 2, 1
    yield number(rng, 2, 3), prime(rng, 5, 40), number(rng, 2, 8), int(rng.choice((2, 4, 8))), 3, 1
    yield 2, number(rng, 9, 15, 12), number(rng, 4, 6), 8, number(rng, 2, 3), 1


def cases(rng):
    for batch, children, parents, dim, iterations, size in (
        (1, 1, 1, 1, 1, 1),
        (2, 12, 5, 8, 3, 1),
        (1, 20, 10, 16, 2, 1),
        (2, 8, 10, 16, 1, 1),  # fewer children than dimensions
        (1, 140, 2, 2, 3, 1),
        (1, 133, 2, 4, 2, 100),  # exp of these logits overflows: 88 is the most that it takes
        *drawn(rng),
    ):
        votes = np.float32(size) * rng.standard_normal((batch, children, parents, dim), dtype=np.float32)
        title = f"{batch} x {children} children, {parents} parents, {dim} dimensions, {iterations} iterations"
        yield title + (f", votes of size {size}" if size > 1 else ""), votes, iterations


BUDGET = {
    "case": "2 x 12 children, 5 parents, 8 dimensions, 3 iterations",
    "reads": 44,
    "writes": 1,
    "sectors": 4,
    "passes": 1.6,
    "drawn": True,
}

MUTANTS = [
    {
        "title": "softmax over the children",
        "old": "c[i * parents + j] /= total",
        "new": """total = float32(0)
                for k in range(children):
                    total += math.exp(b[k * parents + j])
                c[i * parents + j] = math.exp(b[i * parents + j]) / total""",
        "stage": "right",
    },
    {
        "title": "the logits are never updated",
        "old": "b[n // dim] += product",
        "new": "b[n // dim] += product * float32(0)",
        "stage": "right",
    },
    {
        "title": "no barrier between the sums and the squash",
        "old": "            v[n] = total\n        cuda.syncthreads()\n",
        "new": "            v[n] = total\n",
        "stage": "safe",
        "finds": "race",
    },
    {
        "title": "squashed while others still read the length",
        "old": "            cuda.syncthreads()\n            if n < numbers:\n                v[n] *=",
        "new": "            if n < numbers:\n                v[n] *=",
        "stage": "safe",
        "finds": "race",
    },
    {
        "title": "logits begin as garbage",
        "old": "        b[pair] = float32(0)\n",
        "new": "        pass\n",
        "stage": "safe",
        "finds": "uninitialised-read",
    },
    {
        "title": "the vector divided by its length only",
        "old": "math.sqrt(square) / (float32(1) + square)",
        "new": "float32(1) / math.sqrt(square + float32(1e-9))",
        "stage": "right",
    },
    {
        "title": "a thread for each pair reads its whole vote: right, not coalesced",
        "old": """            for first in range(0, pairs * dim, BLOCK):
                n = first + t
                product = float32(0)
                if n < pairs * dim:
                    product = votes[example, n // numbers, n // dim % parents, n % dim] * v[n % numbers]
                shift = dim // 2
                while shift > 0:
                    product += cuda.shfl_xor_sync(0xFFFFFFFF, product, shift)
                    shift //= 2
                if n < pairs * dim and n % dim == 0:
                    b[n // dim] += product
""",
        "new": """            for pair in range(t, pairs, BLOCK):
                for d in range(dim):
                    b[pair] += votes[example, pair // parents, pair % parents, d] * v[pair % parents * dim + d]
""",
        "stage": "budget",
    },
]


def bench(rng):
    return rng.standard_normal((1024, 100, 10, 16), dtype=np.float32), 3


def torch_op(votes, iterations):
    import torch

    b = torch.zeros(votes.shape[:3], device=votes.device, dtype=votes.dtype)
    for _ in range(iterations):
        s = (b.softmax(2)[..., None] * votes).sum(1)
        length = s.norm(dim=-1, keepdim=True)
        v = length / (1 + length**2) * s
        b = b + (votes * v[:, None]).sum(-1)
    return v


def work(votes, iterations):
    return votes.nbytes + votes.nbytes // votes.shape[1], (4 * iterations - 2) * votes.size
