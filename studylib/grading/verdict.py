"""The verdict on a kernel, stage by stage: compiles, right, safe, within budget, and on a GPU measured."""

from __future__ import annotations

import ast
import hashlib
import inspect
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np

from studylib import gpu
from studylib.gpu.findings import counted
from studylib.gpu.language.source import Source, display_name
from studylib.grading import seed
from studylib.grading.apart import compile_apart
from studylib.grading.budget import for_sizes, judge_budget
from studylib.grading.mismatches import describe
from studylib.grading.source import Refused, read_file, take
from studylib.grading.vetting import check as vet
from studylib.kernels import Case, Exercise, load
from studylib.kernels.stubs import EXERCISES

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
TITLES = {
    "imports": "imports",
    "attempted": "attempted",
    "compiles": "compiles for a real GPU",
    "right": "right",
    "safe": "safe",
    "budget": "within budget",
    "measured": "measured",
}
SAFE = "no race, no barrier that threads miss, nothing out of bounds, nothing read before it is written"


@dataclass(frozen=True)
class Stage:
    """One result: `status` is 'passed', 'failed' or 'skipped', `text` says why. finds: kinds of gpu.Finding."""

    name: str
    status: str
    text: str = ""
    finds: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return TITLES[self.name]


@dataclass
class Verdict:
    """What the grader says of one kernel.

    path, line, digest: which function was judged; digest is of its code, without comments and docstring. is_reference:
    whether that is the exercise's own solution. report: of the emulator, for the budget's case, if it came so far.
    """

    exercise: str
    week: str
    path: str
    line: int
    digest: str
    is_reference: bool
    stages: list[Stage]
    notes: list[str] = field(default_factory=list)
    report: gpu.Report | None = field(default=None, repr=False)

    @property
    def passed(self) -> bool:
        """Whether every stage passed that can be judged on this machine."""
        return all(stage.status != FAILED for stage in self.stages) and self.stage("right").status == PASSED

    @property
    def state(self) -> str:
        """'not attempted', 'failed' or 'passed'."""
        if self.passed:
            return "passed"
        return "not attempted" if self.stage("attempted").status == FAILED else "failed"

    def stage(self, name: str) -> Stage:
        """The stage of that name; one that was not reached is skipped."""
        return next((stage for stage in self.stages if stage.name == name), Stage(name, SKIPPED, "not reached"))

    def as_dict(self) -> dict[str, Any]:
        """For JSON: all but the report."""
        found = {name: value for name, value in vars(self).items() if name not in ("report", "stages")}
        return found | {"stages": [asdict(stage) for stage in self.stages], "state": self.state}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Verdict:
        """What as_dict gave."""
        stages = [Stage(s["name"], s["status"], s["text"], tuple(s["finds"])) for s in data["stages"]]
        return cls(**{k: v for k, v in data.items() if k not in ("stages", "state")}, stages=stages)

    def __str__(self) -> str:
        from studylib.grading.card import text

        return text(self)

    def _repr_html_(self) -> str:
        from studylib.grading.card import page

        return page(self)


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
    Raises ValueError if there is no such exercise; whatever is wrong with the kernel is in the verdict.
    """
    if isinstance(exercise, str):
        exercise = load(exercise)
    if kernel is not None:
        return _judge_function(exercise, kernel, ccs)
    path = path or EXERCISES / exercise.week / f"{exercise.name}.py"
    verdict = Verdict(exercise.name, exercise.week, display_path(path), 1, "", False, [])
    try:
        submission = take(read_file(path) if text is None else text, exercise.name, path)
    except Refused as error:
        verdict.stages = [Stage("imports", FAILED, str(error))]
        return verdict
    verdict.notes = [*_notes(exercise, submission.tree), *submission.notes]
    verdict.stages = [Stage("imports", PASSED)]
    return _judge(exercise, submission.kernel, verdict, submission.digest, ccs, compile_wrong, compile_apart)


def display_path(path: Path) -> str:
    """The path as its reader knows it, from the repository's folder where it lies there."""
    root = EXERCISES.parent
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _judge_function(exercise: Exercise, kernel, ccs) -> Verdict:
    function = getattr(kernel, "py_func", None)
    function = function if isinstance(function, FunctionType) else None
    where = display_name(function.__code__.co_filename) if function else ""
    verdict = Verdict(exercise.name, exercise.week, where, 1, "", False, [])
    if function is None:
        wanted = f"expected {exercise.name} as a function with @cuda.jit"
        verdict.stages = [Stage("imports", FAILED, f"got {type(kernel).__name__}; {wanted}")]
        return verdict
    verdict.stages = [Stage("imports", PASSED)]
    return _judge(
        exercise, kernel, verdict, hashlib.sha256(function.__code__.co_code).hexdigest(), ccs, True, gpu.compile
    )


def _judge(exercise: Exercise, kernel, verdict: Verdict, digest: str, ccs, compile_wrong: bool, compiler) -> Verdict:
    try:
        source = Source(kernel.py_func)
    except ValueError as error:
        verdict.stages = [Stage("imports", FAILED, str(error))]
        return verdict
    verdict.line = source.tree.lineno
    verdict.digest = digest_of(kernel)
    verdict.is_reference = verdict.digest == digest_of(exercise.kernel)
    if not is_attempted(source.tree):
        verdict.stages.append(Stage("attempted", FAILED, "not attempted yet: the kernel is as it was given"))
        return verdict
    if getattr(kernel, "targetoptions", {}).get("device"):
        text = f"{source.name} is a device function, which cannot be launched: write @cuda.jit without device=True"
        verdict.stages[0] = Stage("imports", FAILED, text)
        return verdict
    parameters = len(inspect.signature(exercise.kernel.py_func).parameters)
    if len(source.parameters) != parameters:
        names = ", ".join(inspect.signature(exercise.kernel.py_func).parameters)
        text = f"{source.name} takes {counted(len(source.parameters), 'argument')}, expected {parameters}: ({names})"
        verdict.stages[0] = Stage("imports", FAILED, text)
        return verdict
    verdict.stages.append(Stage("attempted", PASSED))
    try:
        vet(source)
    except Refused as error:
        verdict.stages.append(Stage("compiles", FAILED, str(error)))
        return verdict
    cases = exercise.cases(seed.draws(digest))
    runs = [run(exercise, kernel, case) for case in cases]
    right = _right(exercise, runs)
    compiled = Stage("compiles", SKIPPED, "compiled once the kernel is right")
    if compile_wrong or right.status == PASSED:
        compiled = _compiles(exercise, kernel, _budget_case(exercise, cases), ccs, compiler)
    verdict.stages += [compiled, right, _safe(runs)]
    verdict.report = max(_budget_run(exercise, runs).reports, key=lambda report: len(report.accesses), default=None)
    verdict.stages += [_budget(exercise, verdict, runs), _measured(exercise, kernel, verdict)]
    return verdict


def digest_of(kernel) -> str:
    """Of a kernel's code, without comments, docstring, decorator and annotations."""
    return hashlib.sha256(_code(Source(kernel.py_func).tree).encode()).hexdigest()[:12]


def _code(tree: ast.FunctionDef) -> str:
    """A function's code in one form: without docstring, decorator and annotations."""
    body = [s for s in tree.body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
    return "\n".join([", ".join(a.arg for a in tree.args.args), *map(ast.unparse, body)])


def is_attempted(tree: ast.FunctionDef) -> bool:
    """Whether there is any statement but the stub's `raise`, `pass` or text."""
    return any(not isinstance(s, ast.Raise | ast.Pass) and not _is_text(s) for s in tree.body)


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


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


class _Launcher:
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

    exercise.launch(_Launcher(start), *inputs, *outputs)
    return Run(case, expected, inputs, outputs, reports)


def _budget_case(exercise: Exercise, cases: list[Case]) -> Case:
    return next(case for case in cases if case.title == exercise.budget.case)


def _budget_run(exercise: Exercise, runs: list[Run]) -> Run:
    return next(run for run in runs if run.case.title == exercise.budget.case)


def _compiles(exercise: Exercise, kernel, case: Case, ccs, compiler) -> Stage:
    launches: list[tuple] = []
    outputs = tuple(np.empty_like(array) for array in exercise.outputs(*case.inputs))
    exercise.launch(_Launcher(lambda *launch: launches.append(launch)), *case.inputs, *outputs)
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
    for run in runs:
        if wrong := describe(exercise, run):
            kinds = (run.stopped.kind,) if run.stopped else ()
            return Stage("right", FAILED, f"case {run.case.title}: {wrong}", kinds)
    return Stage("right", PASSED, f"{counted(len(runs), 'case')}: {', '.join(run.case.title for run in runs)}")


def _safe(runs: list[Run]) -> Stage:
    if any(finding.kind in ("unsupported", "launch") for run in runs for finding in run.findings):
        return Stage("safe", SKIPPED, "the kernel cannot be run")
    found: dict[tuple, tuple[str, gpu.Finding]] = {}
    for run in runs:
        for finding in run.findings:
            found.setdefault((finding.kind, finding.line, finding.column), (run.case.title, finding))
    if not found:
        return Stage("safe", PASSED, SAFE)
    text = "\n".join(f"case {title}: {finding}" for title, finding in found.values())
    return Stage("safe", FAILED, text, tuple(sorted({kind for kind, _, _ in found})))


def _budget(exercise: Exercise, verdict: Verdict, runs: list[Run]) -> Stage:
    if verdict.stage("right").status != PASSED or verdict.stage("safe").status != PASSED:
        return Stage("budget", SKIPPED, "counted once the kernel is right and safe")
    known, last = _budget_run(exercise, runs), runs[-1]
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
    from studylib.grading.bench import measure

    return Stage("measured", PASSED, str(measure(exercise, kernel)))
