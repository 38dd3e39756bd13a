"""Says where a result is wrong: index, got, expected, and which block and thread wrote it."""

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING

import numpy as np

from studylib.gpu import Report
from studylib.kernels import Exercise

if TYPE_CHECKING:
    from studylib.grading.verdict import Run

# float32 sums differ by their order; a wrong index differs by the size of the numbers.
RELATIVE, ABSOLUTE = 1e-4, 1e-5
SHOWN = 5
WARP = 32
MOST_WARPS = 4096  # that are replayed to find who wrote an element


def describe(exercise: Exercise, run: Run) -> str:
    """Why the outputs of a run are wrong, or an empty text if they are right."""
    names = list(inspect.signature(exercise.kernel.py_func).parameters)
    # The kernel's own parameters come last in launch(kernel, *inputs, *outputs) as well.
    for name, before, after in zip(names, run.case.inputs, run.inputs, strict=False):
        if isinstance(before, np.ndarray) and not np.array_equal(before, after, equal_nan=True):
            return f"the kernel changes its input {name}"
    own = list(inspect.signature(exercise.launch).parameters)[1:]
    for name, expected, got in zip(own[len(run.inputs) :], run.expected, run.outputs, strict=True):
        wrong = ~close(got, expected)
        if wrong.any():
            return _lines(name, expected, got, wrong, run.reports)
    return ""


def close(got: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Where float results agree within rounding, and integers exactly."""
    if expected.dtype.kind != "f":
        return got == expected
    allowed = ABSOLUTE * max(1.0, float(np.abs(expected).max(initial=0))) + RELATIVE * np.abs(expected)
    return np.abs(got.astype(float) - expected) <= allowed


def _lines(name: str, expected: np.ndarray, got: np.ndarray, wrong: np.ndarray, reports: list[Report]) -> str:
    indices = [tuple(map(int, index)) for index in np.argwhere(wrong)[:SHOWN]]
    flat = [int(np.ravel_multi_index(index, expected.shape)) if index else 0 for index in indices]
    writers = _writers(name, flat, reports)
    lines = [f"{name} is wrong in {int(wrong.sum()):,} of {wrong.size:,} element{'s' * (wrong.size != 1)}"]
    for index, element in zip(indices, flat, strict=True):
        values = f"got {_number(got[index])}, expected {_number(expected[index])}"
        lines.append(f"  {name}[{', '.join(map(str, index))}]: {values}; {writers.get(element, 'no thread wrote it')}")
    return "\n".join(lines)


def _number(value) -> str:
    return f"{value:.5g}" if isinstance(value, np.floating) else str(value)


def _writers(name: str, elements: list[int], reports: list[Report]) -> dict[int, str]:
    """By element of the array `name`: the thread that wrote it last."""
    found: dict[int, str] = {}
    for report in reports:
        warps = -(-math.prod(report.block) // WARP)
        total = warps * math.prod(report.grid)
        if total > MOST_WARPS:
            return dict.fromkeys(elements, "who wrote it is not looked for in so large a launch")
        lines = sorted({(a.line, a.file) for a in report.accesses if a.op != "load" and a.array == name})
        for warp in range(total):
            for line, file in lines:
                for request in report.trace(line, warp, file):
                    if request.array != name or request.op == "load":
                        continue
                    for k in np.flatnonzero(np.isin(request.elements, elements)):
                        block = _unravel(warp // warps, report.grid)
                        thread = _unravel(int(request.threads[k]), report.block)
                        found[int(request.elements[k])] = f"written by block {block}, thread {thread}, line {line}"
    return found


def _unravel(number: int, extents: tuple[int, ...]) -> str:
    """The coordinates of a block or thread, x first, as cuda.blockIdx has them."""
    coordinates = []
    for extent in extents:
        coordinates.append(number % extent)
        number //= extent
    return str(coordinates[0]) if len(coordinates) == 1 else str(tuple(coordinates))
