"""`studylib.check`: the verdict on one's own kernel, from a notebook's cell or from the file in exercises/."""

from __future__ import annotations

import base64
import sys
import time
from collections.abc import Callable
from pathlib import Path

from studylib.grading.card import page
from studylib.grading.judging import judge_apart, picture_of
from studylib.grading.verdict import Verdict, judge
from studylib.kernels import load
from studylib.kernels.stubs import EXERCISES

PATIENCE = 1  # seconds after which a check says that it is working


def check_file(name: str, path: Path | None = None) -> Verdict:
    """The verdict on a file, by default the participant's, from a process with limits. Raises ValueError for no exercise."""
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


class Card:
    """A verdict as a notebook shows it: the card, and beside it what a warp of the kernel accesses.

    picture: as PNG, of a verdict that has no report.
    """

    def __init__(self, verdict: Verdict, picture: bytes = b""):
        self.verdict, self.picture = verdict, picture

    def __getattr__(self, name: str):
        return getattr(self.verdict, name)

    def __str__(self) -> str:
        return str(self.verdict)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        picture = self.picture or picture_of(self.verdict)
        if not picture:
            return page(self.verdict)
        source = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
        alt = "which elements of each array a warp touches at the costliest line of the kernel"
        return f'{page(self.verdict)}<img style="max-width: 100%" alt="{alt}" src="{source}">'


def check(name: str, kernel=None) -> Card:
    """Judges a kernel of yours: `check("transpose", my_kernel)`, or `check("transpose")` for the file in exercises/.

    Shows each stage (imports, compiles for a real GPU, right, safe, within budget, and on a GPU measured) and a picture
    of what a warp touches. Raises ValueError if there is no such exercise.
    """
    if kernel is not None:
        return Card(judge(name, kernel))
    return Card(*_judged(name, None, pictures=True))
