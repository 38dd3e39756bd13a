"""`gpu.check`: a launch on the emulator with every check on, also on a machine with a GPU."""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from studylib.gpu.checks.observer import Checks, Count
from studylib.gpu.checks.trace import Recorder, Request
from studylib.gpu.device import DeviceArray
from studylib.gpu.emulator.endless import waits
from studylib.gpu.emulator.launch import Argument, Program, bind, function_of, infer, make_grid, run
from studylib.gpu.emulator.machine import Grid, chunks
from studylib.gpu.emulator.memory import Array
from studylib.gpu.findings import Finding, KernelError
from studylib.gpu.hardware import warps_in
from studylib.gpu.language.source import Source, display_name
from studylib.gpu.report.report import Access, Report
from studylib.words import counted


def check(kernel, grid, block, *args, dynamic_shared_bytes: int = 0) -> Report:
    """Runs `kernel[grid, block](*args)` on the emulator and reports what is wrong and what it accessed.

    grid, block: an integer or a tuple of 1 to 3. dynamic_shared_bytes: the fourth launch parameter. Nothing that is
    wrong with the kernel or the launch is raised: it is in `report.findings`. Results are written to the
    arrays as a launch would, unless a finding ended the run. Raises TypeError if `kernel` is not a function.
    """
    function = function_of(kernel)
    title = function.__name__
    try:
        geometry = make_grid(grid, block, dynamic_shared_bytes)
        source = Source(function)
        arguments = bind(source, args)
    except (TypeError, ValueError) as error:
        code = function.__code__
        finding = Finding("launch", str(error), display_name(code.co_filename), code.co_firstlineno, 1)
        return _nothing_ran(title, _tuple(grid), _tuple(block), finding)
    try:
        program = infer(source, geometry, arguments, plain_calls=function is kernel)
    except KernelError as error:
        return _nothing_ran(title, geometry.grid, geometry.block, error.finding)
    before = _before(args, arguments, program)
    arrays = {a.name: a.value.memory for a in arguments if isinstance(a.value, Array)}
    checks = Checks(geometry, list(arrays.values()), {arrays[name] for name in program.stored})
    fatal: list[Finding] = []
    try:
        run(program, geometry, arguments, checks)
    except KernelError as error:
        fatal.append(error.finding)
    findings = [*checks.findings.values(), *fatal]
    counts = sorted(checks.counts.values(), key=lambda c: (c.site.file, c.site.line, c.site.column, c.op, c.array))
    return Report(
        title,
        geometry.grid,
        geometry.block,
        findings,
        [_access(count) for count in counts],
        checks.reads,
        checks.writes,
        _Replay(program, geometry, before),
        fatal[0] if fatal else None,
    )


def _nothing_ran(title: str, grid: tuple, block: tuple, finding: Finding) -> Report:
    return Report(title, grid, block, [finding], [], 0, 0, lambda line, warp, file: [], finding)


def _tuple(extents) -> tuple:
    return tuple(extents) if isinstance(extents, tuple | list) else (extents,)


def _copied(args: tuple) -> tuple:
    known: dict = {}

    def copied(value):
        if isinstance(value, DeviceArray):
            return value.clone(known)
        return value.copy(order="K") if isinstance(value, np.ndarray) else value

    return tuple(copied(value) for value in args)


def _before(args: tuple, arguments: list[Argument], program: Program) -> tuple:
    """The arguments for a second run: copies, where the launch does not hold one that the kernel never writes."""
    own = [a.host is not None and a.name not in program.stored for a in arguments]
    others = _copied(tuple(None if kept else given for kept, given in zip(own, args, strict=True)))
    return tuple(a.result() if kept else other for kept, a, other in zip(own, arguments, others, strict=True))


def _access(count: Count) -> Access:
    each = count.cost / count.requests
    site = count.site
    return Access(
        array=count.array,
        space=count.space,
        op=count.op,
        line=site.line,
        column=site.column,
        requests=count.requests,
        sectors_per_request=each if count.space == "global" else None,
        passes_per_request=each if count.space == "shared" else None,
        file=site.file,
        source=site.text,
    )


class _Replay:
    """Runs the kernel again to see one block's requests; keeps those of the last block."""

    def __init__(self, program: Program, grid: Grid, before: tuple):
        self.program, self.grid, self.before = program, grid, before
        self.recorder: Recorder | None = None

    def __call__(self, line: int, warp: int, file: str | None) -> list[Request]:
        warps = warps_in(self.grid.threads)
        if not 0 <= warp < warps * self.grid.blocks:
            raise ValueError(f"the launch has {counted(warps * self.grid.blocks, 'warp')}, counted from 0; got {warp}")
        block, within = divmod(warp, warps)
        if self.recorder is None or self.recorder.block != block:
            self.recorder = self._record(block)
        return self.recorder.requests.get((file or self.program.typed.source.file, line, within), [])

    def _record(self, block: int) -> Recorder:
        recorder, program, grid = Recorder(block), self.program, self.grid
        parts = [(block, 1)]
        if program.loaded & program.stored:  # what one block writes another one may read
            parts = [part for part in chunks(grid, waits(program.typed)) if part[0] <= block]
        with suppress(KernelError):  # the report has it already
            run(program, grid, bind(program.typed.source, _copied(self.before)), recorder, parts)
        return recorder
