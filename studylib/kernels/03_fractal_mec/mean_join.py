"""Join the paths of a fractal block: the mean of those that are alive, in one pass.

    out[i] = (sum over p of alive[p] * paths[p, i]) / (sum over p of alive[p])

paths: float32 (n_paths, n). alive: float32 (n_paths,), 0 or 1, at least one of them 1. out: float32 (n,). The grid has a thread
for each of the n elements, in blocks of 256. (FractalNet, Larsson et al., section 2.1: local drop-path drops each input of a
join with a probability, but never all of them.)

Difficulty: 2 of 5
Minutes: 15

Plan:
1. One thread, one element: go through the paths with a sum and a count.
2. A dropped path counts for nothing. Does the thread have to read it?
3. Divide once, at the end, and write.

Hints:
1. All threads of a warp see the same alive[p]: a branch on it does not make them diverge.
2. if alive[p] > float32(0): total += paths[p, i] and count += float32(1)

Budget: for 4 paths of which 3 are alive 7 global reads and one global write a thread, 4 sectors a request.

Hardware: A framework that stacks, multiplies, sums and divides goes through memory once for each step and holds every
intermediate. Fused, each path is read once, and a dropped one not at all. The branch is free here for it is uniform: a warp
loses time only where its own threads disagree.
"""

from math import ceil

from numba import cuda, float32

BLOCK = 256


@cuda.jit
def mean_join(paths, alive, out):
    # BEGIN SOLUTION
    i = cuda.grid(1)
    if i < out.size:
        total, count = float32(0), float32(0)
        for p in range(paths.shape[0]):
            if alive[p] > float32(0):
                total += paths[p, i]
                count += float32(1)
        out[i] = total / count
    # END SOLUTION


def launch(kernel, paths, alive, out):
    kernel[ceil(out.size / BLOCK), BLOCK](paths, alive, out)


# BEGIN GRADER
import numpy as np

from studylib.kernels.rounding import gamma
from studylib.kernels.sizes import number, prime


def reference(paths, alive):
    return (alive.astype(float) @ paths / alive.sum()).astype(np.float32)


def allowed(paths, alive):
    # A sum over the paths, a division, perhaps by way of 1 / count, and the expected value's own rounding.
    return gamma(len(paths) + 2) * reference(np.abs(paths), alive)


DRAWN = 3  # the last cases: their sizes are drawn anew for each rng, those of the last one as the budget needs them


def drawn(rng):
    for n in (prime(rng, 257, 900), number(rng, 2, 255)):
        yield rng.permutation([1, 0, *rng.integers(0, 2, number(rng, 1, 4))]).tolist(), n
    yield rng.permutation([1, 1, 0, *rng.integers(0, 2, number(rng, 1, 3))]).tolist(), 256 * number(rng, 2, 6, 4)


def cases(rng):
    for alive, n in (([1], 1), ([1, 0, 1, 1], 1024), ([0, 0, 1], 300), ([1, 1], 257), *drawn(rng)):
        paths = rng.standard_normal((len(alive), n), dtype=np.float32)
        yield f"{sum(alive)} of {len(alive)} paths, {n} element{'s' * (n > 1)}", paths, np.array(alive, np.float32)


BUDGET = {"case": "3 of 4 paths, 1024 elements", "reads": 7, "writes": 1, "sectors": 4, "drawn": True}

MUTANTS = [
    {"title": "no guard", "old": "if i < out.size:", "new": "if True:", "stage": "safe", "finds": "out-of-bounds"},
    {
        "title": "the mean of all paths",
        "old": "count += float32(1)",
        "new": "count = float32(paths.shape[0])",
        "stage": "right",
    },
    {"title": "the sum", "old": "total / count", "new": "total", "stage": "right"},
    {
        "title": "the last path forgotten",
        "old": "range(paths.shape[0])",
        "new": "range(max(1, paths.shape[0] - 1))",
        "stage": "right",
    },
    {
        "title": "dropped paths are read",
        "old": """            if alive[p] > float32(0):
                total += paths[p, i]
                count += float32(1)
""",
        "new": """            total += alive[p] * paths[p, i]
            count += alive[p]
""",
        "stage": "budget",
    },
]


def bench(rng):
    return rng.standard_normal((4, 1 << 23), dtype=np.float32), np.array([1, 0, 1, 1], np.float32)


def torch_op(paths, alive):
    return paths[alive > 0].mean(0)


def work(paths, alive):
    joined = int((np.asarray(alive) > 0).sum())
    return 4 * (joined + 1) * paths.shape[1], joined * paths.shape[1]
