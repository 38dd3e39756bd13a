"""The plain way to run a kernel without a GPU, as a yardstick: one thread after another, in ordinary Python.

A kernel in which threads wait for each other becomes a generator: its source is rewritten so that
`cuda.syncthreads()` and `cuda.shfl_down_sync()` are a `yield`, answered once every thread of the block has come to
it. No checks, no masks; only what the benchmark's kernels need.
"""

import ast
import inspect
import itertools
import textwrap
from types import SimpleNamespace
from typing import Any

import numpy as np

WARP = 32


def launch(kernel: Any, grid: tuple[int, ...], block: tuple[int, ...], *args: Any) -> None:
    """Run `kernel[grid, block](*args)`."""
    cuda = _Cuda(block)
    function = _rewritten(kernel.py_func, cuda)
    places = [SimpleNamespace(x=x, y=y, z=z) for z, y, x in _indices(block)]
    for z, y, x in _indices(grid):
        cuda.begin_block(SimpleNamespace(x=x, y=y, z=z))
        if inspect.isgeneratorfunction(function):
            _together(cuda, [(place, function(*args)) for place in places])
        else:
            for place in places:
                cuda.threadIdx = place
                function(*args)


class _Cuda:
    """What the name `cuda` means in the kernel; `threadIdx` is set whenever a thread goes on."""

    threadIdx: SimpleNamespace

    def __init__(self, block: tuple[int, ...]):
        self.blockDim = SimpleNamespace(**dict(zip("xyz", (*block, 1, 1), strict=False)))
        self.shared = SimpleNamespace(array=self._shared_array)

    def begin_block(self, place: SimpleNamespace) -> None:
        self.blockIdx = place
        self.arrays: dict[int, np.ndarray] = {}

    def grid(self, dimensions: int) -> Any:
        axes = "xyz"[:dimensions]
        at = tuple(
            getattr(self.blockIdx, axis) * getattr(self.blockDim, axis) + getattr(self.threadIdx, axis) for axis in axes
        )
        return at[0] if dimensions == 1 else at

    def _shared_array(self, call: int, shape: Any, dtype: Any) -> np.ndarray:
        return self.arrays.setdefault(call, np.zeros(shape, str(dtype)))


class _Pauses(ast.NodeTransformer):
    """Barriers and shuffles become yields of (value, distance) or (); a shared array knows which call it comes from."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if name in ("syncthreads", "shfl_down_sync"):
            return ast.copy_location(ast.Yield(ast.Tuple(node.args[1:], ast.Load())), node)
        if name == "array":
            node.args.insert(0, ast.Constant(node.lineno))
        return node


def _rewritten(function: Any, cuda: _Cuda) -> Any:
    tree = _Pauses().visit(ast.parse(textwrap.dedent(inspect.getsource(function))))
    tree.body[0].decorator_list = []
    names = {**function.__globals__, "cuda": cuda}
    code = compile(ast.fix_missing_locations(tree), function.__code__.co_filename, "exec")
    exec(code, names)  # noqa: S102  the kernel's own source
    return names[function.__name__]


def _indices(shape: tuple[int, ...]) -> itertools.product:
    return itertools.product(*(range(n) for n in reversed((*shape, 1, 1)[:3])))


def _together(cuda: _Cuda, threads: list[tuple[SimpleNamespace, Any]]) -> None:
    """Run the generators of one block from pause to pause."""
    answers: list[Any] = [None] * len(threads)
    while True:
        asked: list[Any] = []
        for (place, generator), answer in zip(threads, answers, strict=True):
            cuda.threadIdx = place
            asked.append(_resume(generator, answer))
        if all(question is None for question in asked):
            return
        for i, question in enumerate(asked):
            if question:
                value, distance = question
                answers[i] = asked[i + distance][0] if i % WARP + distance < WARP else value


def _resume(generator: Any, answer: Any) -> Any:
    try:
        return generator.send(answer)
    except StopIteration:
        return None
