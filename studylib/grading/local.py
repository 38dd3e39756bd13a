"""`studylib.check`: the verdict on one's own kernel, from a notebook's cell or from the file in exercises/."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from studylib.files import EXERCISES
from studylib.grading.card import Card
from studylib.grading.judge import judge
from studylib.grading.judge_apart import judge_apart
from studylib.grading.verdict import Verdict
from studylib.kernels import load

PATIENCE = 1  # seconds after which a check says that it is working


def check_file(name: str, path: Path | None = None) -> Verdict:
    """The verdict on a file, by default the participant's, from a process with limits.

    Raises StudyError if there is no such exercise.
    """
    return _judged(name, path, pictures=False)[0]


def _judged(name: str, path: Path | None, pictures: bool) -> tuple[Verdict, bytes]:
    path = path or EXERCISES / load(name).week / f"{name}.py"
    return judge_apart(name, path, pictures=pictures, meanwhile=_working(name))


def _working(name: str) -> Callable[[], None]:
    """Says once, after a second, that a kernel is being judged."""
    begun = time.monotonic()
    said: list[bool] = []

    def meanwhile() -> None:
        if not said and time.monotonic() - begun > PATIENCE:
            said.append(True)
            print(f"judging {name} ...", file=sys.stderr, flush=True)

    return meanwhile


def check(name: str, kernel=None) -> Card:
    """Judges a kernel of yours: `check("transpose", my_kernel)`, or `check("transpose")` for the file in exercises/.

    Shows each stage (imports, compiles for a real GPU, right, safe, within budget, and on a GPU measured) and a picture
    of what a warp touches. Raises StudyError if there is no such exercise.
    """
    if kernel is not None:
        return Card(judge(name, kernel))
    return Card(*_judged(name, None, pictures=True))
