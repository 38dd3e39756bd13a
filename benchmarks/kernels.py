"""The kernels whose emulation is timed, each with its launch, its input and the right answer.

Run as a program, `python -m benchmarks.kernels NAME BLOCKS`, it launches only the first BLOCKS blocks of one kernel
and prints the seconds it took; with NUMBA_ENABLE_CUDASIM=1 that times Numba's own simulator.
"""

import math
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import cuda, float32

TILE = 16
SQUARE = 32
PADDED = SQUARE + 1
THREADS = 256
WARP = 32


@cuda.jit
def vector_add(a, b, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = a[i] + b[i]


@cuda.jit
def depthwise(x, weight, out):
    """x, out: (channels, height, width); weight: (channels, 3, 3); zero padding of 1."""
    column, row, channel = cuda.grid(3)
    channels, height, width = x.shape
    if channel < channels and row < height and column < width:
        total = float32(0)
        for i in range(3):
            for j in range(3):
                r, c = row + i - 1, column + j - 1
                if r >= 0 and r < height and c >= 0 and c < width:
                    total += x[channel, r, c] * weight[channel, i, j]
        out[channel, row, column] = total


@cuda.jit
def matmul(a, b, out):
    """out = a @ b; sizes are multiples of TILE."""
    left = cuda.shared.array((TILE, TILE), float32)
    right = cuda.shared.array((TILE, TILE), float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    column, row = cuda.grid(2)
    total = float32(0)
    for k in range(0, a.shape[1], TILE):
        left[y, x] = a[row, k + x]
        right[y, x] = b[k + y, column]
        cuda.syncthreads()
        for j in range(TILE):
            total += left[y, j] * right[j, x]
        cuda.syncthreads()
    out[row, column] = total


@cuda.jit
def tree_reduction(a, out):
    """out[block] = sum of the block's THREADS elements."""
    shared = cuda.shared.array(THREADS, float32)
    t = cuda.threadIdx.x
    shared[t] = a[cuda.grid(1)]
    cuda.syncthreads()
    stride = THREADS // 2
    while stride > 0:
        if t < stride:
            shared[t] += shared[t + stride]
        cuda.syncthreads()
        stride //= 2
    if t == 0:
        out[cuda.blockIdx.x] = shared[0]


@cuda.jit
def transpose_naive(a, out):
    column, row = cuda.grid(2)
    out[column, row] = a[row, column]


@cuda.jit
def transpose_tiled(a, out):
    shared = cuda.shared.array((SQUARE, PADDED), float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    column, row = cuda.grid(2)
    shared[y, x] = a[row, column]
    cuda.syncthreads()
    out[cuda.blockIdx.x * SQUARE + y, cuda.blockIdx.y * SQUARE + x] = shared[x, y]


@cuda.jit
def warp_reduction(a, out):
    """out[warp] = sum of the warp's 32 elements."""
    i = cuda.grid(1)
    total = a[i]
    distance = WARP // 2
    while distance > 0:
        total += cuda.shfl_down_sync(0xFFFFFFFF, total, distance)
        distance //= 2
    if i % WARP == 0:
        out[i // WARP] = total


class Case(NamedTuple):
    """One launch. `arguments` makes fresh inputs, the last of which is the output; `answer` computes it from them."""

    title: str
    kernel: Any
    grid: tuple[int, ...]
    block: tuple[int, ...]
    arguments: Callable[[], tuple[np.ndarray, ...]]
    answer: Callable[..., np.ndarray]

    @property
    def blocks(self) -> int:
        return math.prod(self.grid)


def _random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def _zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def _depthwise_answer(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), (1, 1), (1, 1))), (3, 3), axis=(1, 2))
    return np.einsum("chwij,cij->chw", windows, weight)


def _vectors(n: int) -> Callable[[], tuple[np.ndarray, ...]]:
    return lambda: (_random(n), _random(n), _zeros(n))


CASES = {
    "vector_add_1000": Case("vector add, 1,000", vector_add, (4,), (256,), _vectors(1000), np.add),
    "vector_add": Case("vector add, 65,536", vector_add, (256,), (256,), _vectors(65536), np.add),
    "depthwise": Case(
        "depthwise 3x3, 32x32x16",
        depthwise,
        (2, 2, 16),
        (16, 16, 1),
        lambda: (_random(16, 32, 32), _random(16, 3, 3), _zeros(16, 32, 32)),
        _depthwise_answer,
    ),
    "matmul": Case(
        "tiled matmul, 256x256",
        matmul,
        (16, 16),
        (TILE, TILE),
        lambda: (_random(256, 256), _random(256, 256), _zeros(256, 256)),
        np.matmul,
    ),
    "tree_reduction": Case(
        "tree reduction, 65,536",
        tree_reduction,
        (256,),
        (THREADS,),
        lambda: (_random(65536), _zeros(256)),
        lambda a: a.reshape(256, -1).sum(1),
    ),
    "transpose_naive": Case(
        "naive transpose, 256x256",
        transpose_naive,
        (8, 8),
        (SQUARE, SQUARE),
        lambda: (_random(256, 256), _zeros(256, 256)),
        np.transpose,
    ),
    "transpose_tiled": Case(
        "tiled transpose, 256x256",
        transpose_tiled,
        (8, 8),
        (SQUARE, SQUARE),
        lambda: (_random(256, 256), _zeros(256, 256)),
        np.transpose,
    ),
    "warp_reduction": Case(
        "warp-shuffle reduction, 65,536",
        warp_reduction,
        (256,),
        (256,),
        lambda: (_random(65536), _zeros(2048)),
        lambda a: a.reshape(2048, -1).sum(1),
    ),
}


def first_blocks(grid: tuple[int, ...], blocks: int) -> tuple[int, ...]:
    """A grid of about `blocks` blocks, at most `grid`: x is filled first, then y, then z."""
    left, shape = blocks, []
    for size in grid:
        shape.append(max(1, min(size, left)))
        left //= shape[-1]
    return tuple(shape)


def main(name: str, blocks: int) -> None:
    case = CASES[name]
    grid, arguments = first_blocks(case.grid, blocks), case.arguments()
    start = time.perf_counter()
    case.kernel[grid, case.block](*arguments)
    print(math.prod(grid), time.perf_counter() - start)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
