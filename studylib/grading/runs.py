"""Runs a kernel on the cases of an exercise, on the emulator with every check on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from studylib import gpu
from studylib.kernels import Case, Exercise


@dataclass
class Run:
    """One case, run on the emulator with every check on."""

    case: Case
    expected: tuple[np.ndarray, ...]
    inputs: tuple
    outputs: tuple[np.ndarray, ...]
    reports: list[gpu.Report]

    @property
    def findings(self) -> list[gpu.Finding]:
        return [finding for report in self.reports for finding in report.findings]

    @property
    def stopped(self) -> gpu.Finding | None:
        """What the first launch that did not run to its end stopped for."""
        return next((report.stopped for report in self.reports if report.stopped), None)


class Launcher:
    """Stands where the kernel stands in `launch`; each launch goes to `start(grid, block, shared_bytes, args)`."""

    def __init__(self, start):
        self.start = start

    def __getitem__(self, configuration):
        grid, block, *rest = configuration
        return lambda *args: self.start(grid, block, rest[1] if len(rest) > 1 else 0, args)


def run(exercise: Exercise, kernel, case: Case) -> Run:
    """Launches the kernel on copies of a case's inputs; its outputs are NaN, or 77 if integers, before."""
    expected = exercise.outputs(*case.inputs)
    inputs = tuple(value.copy() if isinstance(value, np.ndarray) else value for value in case.inputs)
    outputs = tuple(np.full_like(array, np.nan if array.dtype.kind == "f" else 77) for array in expected)
    reports: list[gpu.Report] = []

    def start(grid, block, shared_bytes, args):
        reports.append(gpu.check(kernel, grid, block, *args, dynamic_shared_bytes=shared_bytes))

    exercise.launch(Launcher(start), *inputs, *outputs)
    return Run(case, expected, inputs, outputs, reports)
