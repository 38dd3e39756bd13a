"""Says where a result is wrong: index, got, expected, and which block and thread wrote it."""

from __future__ import annotations

import inspect
import math

import numpy as np

from studylib.gpu import Finding, Report
from studylib.gpu.hardware import WARP
from studylib.grading.runs import Run
from studylib.kernels import Exercise
from studylib.words import counted

SMALLEST = float(np.finfo(np.float32).tiny)  # below it float32 has fewer digits, and a card may take it for 0
SHOWN = 5
MOST_WARPS = 4096  # that are replayed to find who wrote an element


def describe(exercise: Exercise, run: Run) -> str:
    """Why the outputs of a run are wrong, the cause first; an empty text if they are right."""
    if run.stopped:
        return f"{_cause(run.stopped)}\nThe launch stopped there, so there is no result"
    if not (wrong := _mismatches(exercise, run)) or not run.findings:
        return wrong
    # What is not safe may be why: who is told of the wrong numbers first looks for a wrong formula.
    return f"{_cause(run.findings[0])}\nand {wrong}"


def _cause(finding: Finding) -> str:
    """In the words that *safe* has for it, with its place on a line of its own."""
    return f"{finding.message}\n  {finding.file}:{finding.line}: {finding.source.strip()}".rstrip(" :")


def _mismatches(exercise: Exercise, run: Run) -> str:
    names = list(inspect.signature(exercise.kernel.py_func).parameters)
    # The kernel's own parameters come last in launch(kernel, *inputs, *outputs) as well.
    for name, before, after in zip(names, run.case.inputs, run.inputs, strict=False):
        if isinstance(before, np.ndarray) and not np.array_equal(before, after, equal_nan=True):
            return f"the kernel changes its input {name}"
    own = list(inspect.signature(exercise.launch).parameters)[1:]
    bounds = exercise.bounds(*run.case.inputs)
    for name, expected, got, bound in zip(own[len(run.inputs) :], run.expected, run.outputs, bounds, strict=True):
        wrong = ~close(got, expected, bound)
        if wrong.any():
            return _lines(name, expected, got, wrong, run.reports)
    return ""


def close(got: np.ndarray, expected: np.ndarray, bound) -> np.ndarray:
    """Where results agree: within `bound`, of Exercise.bounds; a bound of 0 asks for the same number."""
    if np.isscalar(bound) and bound == 0:
        return got == expected
    return np.abs(got.astype(float) - expected) <= bound + SMALLEST


def _lines(name: str, expected: np.ndarray, got: np.ndarray, wrong: np.ndarray, reports: list[Report]) -> str:
    indices = [tuple(map(int, index)) for index in np.argwhere(wrong)[:SHOWN]]
    flat = [int(np.ravel_multi_index(index, expected.shape)) if index else 0 for index in indices]
    writers = _writers(name, flat, reports)
    lines = [f"{name} is wrong in {int(wrong.sum()):,} of {counted(wrong.size, 'element')}"]
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
