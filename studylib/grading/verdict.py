"""What the grader says of a kernel, as data: stages, the verdict that they make, and its text for a terminal."""

from __future__ import annotations

import ast
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from studylib import gpu
from studylib.files import EXERCISES
from studylib.gpu.language.source import Source
from studylib.kernels import load

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"  # a stage
NOT_ATTEMPTED, MISSING = "not attempted", "not handed in"  # what a kernel can be other than passed and failed
MARKS = {PASSED: "✓", FAILED: "✗", SKIPPED: "–", NOT_ATTEMPTED: "·"}
WORDS = {PASSED: "passed", FAILED: "not yet", NOT_ATTEMPTED: "not attempted"}
REFERENCE = "Word for word the exercise's solution."
SHORT = 5  # statements; so short a kernel everybody writes alike
TITLES = {
    "imports": "imports",
    "attempted": "attempted",
    "compiles": "compiles for a real GPU",
    "right": "right",
    "safe": "safe",
    "budget": "within budget",
    "measured": "measured",
}


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
    line: int = 1
    digest: str = ""
    is_reference: bool = False
    stages: list[Stage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    report: gpu.Report | None = field(default=None, repr=False)

    @classmethod
    def begin(cls, exercise: str, path: str, *notes: str) -> Verdict:
        """A verdict without a stage so far; path: as it is shown."""
        return cls(exercise, load(exercise).week, path, notes=list(notes))

    def fail(self, stage: str, why: str) -> Verdict:
        """This verdict, ended by a stage that has failed."""
        self.stages.append(Stage(stage, FAILED, why))
        return self

    @property
    def passed(self) -> bool:
        """Whether every stage passed that can be judged on this machine."""
        return all(stage.status != FAILED for stage in self.stages) and self.stage("right").status == PASSED

    @property
    def state(self) -> str:
        """'not attempted', 'failed' or 'passed'."""
        if self.passed:
            return PASSED
        return NOT_ATTEMPTED if self.stage("attempted").status == FAILED else FAILED

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

    @property
    def is_word_for_word(self) -> bool:
        """Whether it is the exercise's solution, names included, and longer than one that everybody writes alike."""
        return self.is_reference and _statements(self.exercise) > SHORT

    @property
    def judged(self) -> str:
        """Which code was judged, in a line."""
        return f"judged: {self.path}, line {self.line}, code {self.digest or 'not read'}"

    @property
    def all_notes(self) -> list[str]:
        return ([REFERENCE] if self.is_word_for_word else []) + self.notes

    def __str__(self) -> str:
        lines = [f"{self.exercise} (week {int(self.week[:2])}): {WORDS[self.state]}", f"  {self.judged}"]
        for stage in self.stages:
            first, *rest = (stage.text or stage.status).splitlines()
            lines.append(f"  {MARKS[stage.status]} {stage.title}: {first}")
            lines += [f"      {line}" for line in rest]
        lines += [f"  note: {note}" for note in self.all_notes]
        return "\n".join(lines)


@cache
def _statements(name: str) -> int:
    body = Source(load(name).kernel.py_func).tree.body
    return sum(isinstance(node, ast.stmt) for statement in body for node in ast.walk(statement))


def display_path(path: Path) -> str:
    """The path as its reader knows it, from the repository's folder where it lies there."""
    root = EXERCISES.parent
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
