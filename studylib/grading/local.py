"""`studylib.check`: the verdict on one's own kernel, from a notebook's cell or from the file in exercises/."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from pathlib import Path

from studylib.grading.card import page
from studylib.grading.isolation import IMPORT, ended
from studylib.grading.verdict import FAILED, Stage, Verdict, judge
from studylib.kernels import load
from studylib.kernels.stubs import EXERCISES


def check_file(name: str, path: Path | None = None) -> Verdict:
    """The verdict on a file, by default the participant's; imports it first, in a process of its own."""
    exercise = load(name)
    path = path or EXERCISES / exercise.week / f"{name}.py"
    verdict = judge(exercise, path=path)
    if verdict.state != "not attempted" and verdict.stage("imports").status != FAILED and (why := import_apart(path)):
        verdict.stages = [Stage("imports", FAILED, f"{path.name} {why}")]
        verdict.report = None
    return verdict


def import_apart(path: Path) -> str:
    """Why a file cannot be imported, or an empty text."""
    command = [sys.executable, "-m", "studylib.grading.isolation", str(path.resolve())]
    try:
        done = subprocess.run(command, capture_output=True, timeout=IMPORT.patience, check=False)
    except subprocess.TimeoutExpired:
        return ended(-9, IMPORT)
    try:
        return json.loads(done.stderr.decode(errors="replace").splitlines()[-1])["why"]
    except (ValueError, KeyError, IndexError, TypeError):
        return ended(done.returncode, IMPORT)


class Card:
    """A verdict as a notebook shows it: the card, and beside it what a warp of the kernel accesses."""

    def __init__(self, verdict: Verdict):
        self.verdict = verdict

    def __getattr__(self, name: str):
        return getattr(self.verdict, name)

    def __str__(self) -> str:
        return str(self.verdict)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        picture = picture_of(self.verdict)
        if not picture:
            return page(self.verdict)
        source = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
        alt = "which elements of each array a warp touches at the costliest line of the kernel"
        return f'{page(self.verdict)}<img style="max-width: 100%" alt="{alt}" src="{source}">'


def picture_of(verdict: Verdict) -> bytes:
    """What a warp touches at the kernel's costliest line, as PNG; empty if the kernel accessed nothing."""
    if verdict.report is None or not verdict.report.accesses:
        return b""
    buffer = io.BytesIO()
    verdict.report.plot().savefig(buffer, format="png", dpi=80)
    return buffer.getvalue()


def check(name: str, kernel=None) -> Card:
    """Judges a kernel of yours: `check("transpose", my_kernel)`, or `check("transpose")` for the file in exercises/.

    Shows each stage (imports, compiles for a real GPU, right, safe, within budget, and on a GPU measured) and a picture
    of what a warp touches. Raises ValueError if there is no such exercise.
    """
    return Card(check_file(name) if kernel is None else judge(name, kernel))
