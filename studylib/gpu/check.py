"""`gpu.check`: a launch on the emulator with every check on, also on a machine with a GPU."""

from __future__ import annotations

import numpy as np

from studylib.gpu.checks import Checks, Count
from studylib.gpu.device import DeviceArray
from studylib.gpu.endless import waits
from studylib.gpu.findings import Finding, KernelError
from studylib.gpu.frame import Typed
from studylib.gpu.hardware import warps_in
from studylib.gpu.launch import bind, function_of, infer, make_grid, run
from studylib.gpu.machine import Grid, chunks
from studylib.gpu.memory import Array
from studylib.gpu.report import Access, Report
from studylib.gpu.source import Source, display_name
from studylib.gpu.trace import Recorder, Request


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
        return Report(title, _tuple(grid), _tuple(block), [finding], [], 0, 0, _Replay(None, None, ()))
    before = _copied(args)
    checks = Checks(geometry)
    fatal: list[Finding] = []
    typed = None
    try:
        typed = infer(source, geometry, arguments, plain_calls=function is kernel)
        run(typed, geometry, arguments, checks)
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
        _Replay(typed, geometry, before),
    )


def _tuple(extents) -> tuple:
    return tuple(extents) if isinstance(extents, tuple | list) else (extents,)


def _copied(args: tuple) -> tuple:
    known: dict = {}

    def copied(value):
        if isinstance(value, DeviceArray):
            return value.clone(known)
        return value.copy(order="K") if isinstance(value, np.ndarray) else value

    return tuple(copied(value) for value in args)


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

    def __init__(self, typed: Typed | None, grid: Grid | None, before: tuple):
        self.typed, self.grid, self.before = typed, grid, before
        self.recorder: Recorder | None = None

    def __call__(self, line: int, warp: int, file: str | None) -> list[Request]:
        if self.typed is None or self.grid is None:
            return []
        warps = warps_in(self.grid.threads)
        if not 0 <= warp < warps * self.grid.blocks:
            raise ValueError(f"the launch has {warps * self.grid.blocks:,} warps, counted from 0; got {warp}")
        block, within = divmod(warp, warps)
        if self.recorder is None or self.recorder.block != block:
            self.recorder = self._record(self.typed, self.grid, block)
        return self.recorder.requests.get((file or self.typed.source.file, line, within), [])

    def _record(self, typed: Typed, grid: Grid, block: int) -> Recorder:
        recorder = Recorder(block)
        arguments = bind(typed.source, _copied(self.before))
        arrays = [a.value.memory for a in arguments if isinstance(a.value, Array)]
        try:
            infer(typed.source, grid, arguments, plain_calls=True)  # marks what is loaded and stored
            talk = any(memory.loaded and memory.stored for memory in arrays)
            parts = [part for part in chunks(grid, waits(typed)) if part[0] <= block] if talk else [(block, 1)]
            run(typed, grid, arguments, recorder, parts)
        except KernelError:
            pass  # the report has it already
        return recorder
