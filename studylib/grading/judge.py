"""Judges a kernel stage by stage: compiles, right, safe, within budget, and on a GPU measured; the one place that does."""

from __future__ import annotations

import ast
import hashlib
import inspect
from pathlib import Path
from types import FunctionType

import numpy as np

from studylib import gpu
from studylib.files import EXERCISES
from studylib.gpu.language.source import Source, display_name
from studylib.grading import seed
from studylib.grading.bench import measure
from studylib.grading.budget import for_sizes, judge_budget
from studylib.grading.compile_apart import compile_apart
from studylib.grading.identity import digest_of, is_attempted
from studylib.grading.mismatches import describe
from studylib.grading.runs import Launcher, Run, run
from studylib.grading.submission import read_file, take
from studylib.grading.verdict import FAILED, PASSED, SKIPPED, Stage, Verdict, display_path
from studylib.grading.vetting import Refused
from studylib.grading.vetting import check as vet
from studylib.kernels import Case, Exercise, load
from studylib.words import counted

SAFE = "no race, no barrier that threads miss, nothing out of bounds, nothing read before it is written"


def judge(
    exercise: Exercise | str,
    kernel=None,
    *,
    path: Path | None = None,
    text: str | None = None,
    ccs: tuple[tuple[int, int], ...] = ((8, 0),),
    compile_wrong: bool = True,
) -> Verdict:
    """The verdict on a kernel, or on that of a file (by default the participant's, in exercises/).

    ccs: compute capabilities that it is compiled for. compile_wrong: whether also a kernel that is not right is compiled,
    which takes most of the time. text: of the file, by default read from it. The inputs, and some of their sizes, are
    drawn from the submission's hash and a key that the grader keeps (see `seed`): no file can be made to fit them, and the
    same file always meets the same ones.
    Raises StudyError if there is no such exercise; whatever is wrong with the kernel is in the verdict.
    """
    if isinstance(exercise, str):
        exercise = load(exercise)
    if kernel is not None:
        return _judge_function(exercise, kernel, ccs)
    path = path or EXERCISES / exercise.week / f"{exercise.name}.py"
    verdict = Verdict.begin(exercise.name, display_path(path))
    try:
        submission = take(read_file(path) if text is None else text, exercise.name, path)
    except Refused as error:
        return verdict.fail("imports", str(error))
    verdict.notes = [*_notes(exercise, submission.tree), *submission.notes]
    return _judge(exercise, submission.kernel, verdict, submission.digest, ccs, compile_wrong, compile_apart)


def _judge_function(exercise: Exercise, kernel, ccs) -> Verdict:
    function = getattr(kernel, "py_func", None)
    function = function if isinstance(function, FunctionType) else None
    where = display_name(function.__code__.co_filename) if function else ""
    verdict = Verdict.begin(exercise.name, where)
    if function is None:
        wanted = f"expected {exercise.name} as a function with @cuda.jit"
        return verdict.fail("imports", f"got {type(kernel).__name__}; {wanted}")
    return _judge(
        exercise, kernel, verdict, hashlib.sha256(function.__code__.co_code).hexdigest(), ccs, True, gpu.compile
    )


def _judge(exercise: Exercise, kernel, verdict: Verdict, digest: str, ccs, compile_wrong: bool, compiler) -> Verdict:
    try:
        source = Source(kernel.py_func)
    except ValueError as error:
        return verdict.fail("imports", str(error))
    verdict.line = source.tree.lineno
    verdict.digest = digest_of(kernel)
    verdict.is_reference = verdict.digest == digest_of(exercise.kernel)
    if not is_attempted(source.tree):
        verdict.stages = [Stage("imports", PASSED)]
        return verdict.fail("attempted", "not attempted yet: the kernel is as it was given")
    if misfit := _misfit(exercise, kernel, source):
        return verdict.fail("imports", misfit)
    verdict.stages = [Stage("imports", PASSED), Stage("attempted", PASSED)]
    try:
        vet(source)
    except Refused as error:
        return verdict.fail("compiles", str(error))
    cases = exercise.cases(seed.draws(digest))
    runs = [run(exercise, kernel, case) for case in cases]
    known = next(run for run in runs if run.case.title == exercise.budget.case)
    right = _right(exercise, runs)
    compiled = Stage("compiles", SKIPPED, "compiled once the kernel is right")
    if compile_wrong or right.status == PASSED:
        compiled = _compiles(exercise, kernel, known.case, ccs, compiler)
    verdict.stages += [compiled, right, _safe(runs)]
    verdict.report = max(known.reports, key=lambda report: len(report.accesses), default=None)
    verdict.stages += [_budget(exercise, verdict, known, runs[-1]), _measured(exercise, kernel, verdict)]
    return verdict


def _misfit(exercise: Exercise, kernel, source: Source) -> str:
    """Why a kernel cannot stand in the place of the exercise's, "" if it can."""
    if getattr(kernel, "targetoptions", {}).get("device"):
        return f"{source.name} is a device function, which cannot be launched: write @cuda.jit without device=True"
    expected = inspect.signature(exercise.kernel.py_func).parameters
    if len(source.parameters) != len(expected):
        return (
            f"{source.name} takes {counted(len(source.parameters), 'argument')}, expected {len(expected)}: "
            f"({', '.join(expected)})"
        )
    return ""


def _notes(exercise: Exercise, tree: ast.Module) -> list[str]:
    """What the file says other than the exercise, where the verdict goes by the exercise."""
    own = ast.parse(exercise.text)
    notes = []
    for node in own.body:
        if isinstance(node, ast.FunctionDef) and node.name == "launch":
            theirs = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "launch"]
            if theirs and ast.dump(theirs[-1]) != ast.dump(node):
                notes.append("launch() in the file is not the exercise's; the kernel was judged with the exercise's.")
    return notes


def _compiles(exercise: Exercise, kernel, case: Case, ccs, compiler) -> Stage:
    launches: list[tuple] = []
    outputs = tuple(np.empty_like(array) for array in exercise.outputs(*case.inputs))
    exercise.launch(Launcher(lambda *launch: launches.append(launch)), *case.inputs, *outputs)
    said = []
    for cc in ccs:
        _, block, shared_bytes, args = launches[0]
        try:
            made = compiler(kernel, *args, cc=cc, block=block, dynamic_shared_bytes=shared_bytes)
        except gpu.NotAvailable as error:
            return Stage("compiles", SKIPPED, str(error))
        except (gpu.CompileError, TypeError, ValueError) as error:
            return Stage("compiles", FAILED, f"for compute capability {cc[0]}.{cc[1]}: {error}")
        double = "; computes in double precision, which is slow" if made.uses_float64 else ""
        occupancy = f", occupancy {made.occupancy:.0%}" if made.occupancy is not None else ""
        said.append(f"compute capability {cc[0]}.{cc[1]}: {made.registers} registers a thread{occupancy}{double}")
    return Stage("compiles", PASSED, "\n".join(said))


def _right(exercise: Exercise, runs: list[Run]) -> Stage:
    for each in runs:
        if wrong := describe(exercise, each):
            kinds = (each.stopped.kind,) if each.stopped else ()
            return Stage("right", FAILED, f"case {each.case.title}: {wrong}", kinds)
    return Stage("right", PASSED, f"{counted(len(runs), 'case')}: {', '.join(run.case.title for run in runs)}")


def _safe(runs: list[Run]) -> Stage:
    if any(finding.kind in ("unsupported", "launch") for run in runs for finding in run.findings):
        return Stage("safe", SKIPPED, "the kernel cannot be run")
    found: dict[tuple, tuple[str, gpu.Finding]] = {}
    for each in runs:
        for finding in each.findings:
            found.setdefault((finding.kind, finding.line, finding.column), (each.case.title, finding))
    if not found:
        return Stage("safe", PASSED, SAFE)
    text = "\n".join(f"case {title}: {finding}" for title, finding in found.values())
    return Stage("safe", FAILED, text, tuple(sorted({kind for kind, _, _ in found})))


def _budget(exercise: Exercise, verdict: Verdict, known: Run, last: Run) -> Stage:
    """known: the run of the budget's case. last: that of the last case."""
    if verdict.stage("right").status != PASSED or verdict.stage("safe").status != PASSED:
        return Stage("budget", SKIPPED, "counted once the kernel is right and safe")
    fits, text = judge_budget(exercise.budget, known.reports)
    if fits and exercise.budget.drawn:
        # Who keeps the budget in the one case that everybody knows may not keep it in others.
        own = [run(exercise, exercise.kernel, case).reports for case in (known.case, last.case)]
        fits, elsewhere = judge_budget(for_sizes(exercise.budget, last.case.title, *own), last.reports)
        text = text if fits else elsewhere
    return Stage("budget", PASSED if fits else FAILED, text)


def _measured(exercise: Exercise, kernel, verdict: Verdict) -> Stage:
    if gpu.mode() != "gpu":
        return Stage("measured", SKIPPED, "no GPU here: time is measured on a card and nowhere else")
    if verdict.stage("right").status != PASSED or verdict.stage("safe").status != PASSED:
        return Stage("measured", SKIPPED, "measured once the kernel is right and safe")
    return Stage("measured", PASSED, str(measure(exercise, kernel)))
