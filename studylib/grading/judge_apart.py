"""Judges a file in a process of its own with limits on time and memory, and says where it was when they ended it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from studylib.gpu.emulator.endless import still_running
from studylib.grading import isolation
from studylib.grading.card import picture_of
from studylib.grading.child import CAN_FORK, Child, write_all
from studylib.grading.isolation import JUDGE, ended
from studylib.grading.judge import judge
from studylib.grading.verdict import PASSED, Stage, Verdict, display_path

LONGEST_STAGE = 10_000  # characters of a stage's text, which quotes lines of the file: they may be as long as the file


class OutOfTimeError(BaseException):
    """The time that judging may take is over; no `except Exception` on the way keeps it."""


def judging(name: str, path: Path, text: str | None = None, *, quiet: bool, pictures: bool) -> Child:
    """A process that judges a file, or the text that was read from it; `verdict_of` reads its answer.

    quiet: for a facilitator: what the kernel prints is not shown, and only a right kernel is compiled. pictures: whether
    the answer has a picture of what a safe kernel accesses.
    """

    def run(report: int) -> None:
        # The parent may have put something else in the place of standard output, as Jupyter and pytest do.
        stream = io.FileIO(os.open(os.devnull, os.O_WRONLY) if quiet else os.dup(1), "w")
        sys.stdout = sys.stderr = io.TextIOWrapper(stream, encoding="utf-8", errors="replace", write_through=True)
        isolation.limit(JUDGE)
        if hasattr(signal, "SIGXCPU"):
            signal.signal(signal.SIGXCPU, _out_of_time)
        write_all(report, json.dumps(_answer(name, path, text, quiet, pictures)).encode())

    return Child(run, JUDGE)


def _out_of_time(number: int, frame: FrameType | None) -> None:
    raise OutOfTimeError


def _answer(name: str, path: Path, text: str | None, quiet: bool, pictures: bool) -> dict[str, Any]:
    try:
        verdict = judge(name, path=path, text=text, compile_wrong=not quiet)
        # How it uses memory is the question once it computes what it should.
        picture = picture_of(verdict) if pictures and verdict.stage("safe").status == PASSED else b""
        verdict.stages = [Stage(s.name, s.status, s.text[:LONGEST_STAGE], s.finds) for s in verdict.stages]
        return verdict.as_dict() | {"picture": picture.hex()}
    except OutOfTimeError as error:
        loop = still_running(error)
        return {"why": f"took more than {JUDGE.seconds:g} s of computing{f': {loop}' if loop else ''}"}
    except MemoryError:
        return {"why": "needs more memory than a kernel of this exercise may"}
    except RecursionError:
        return {"why": "goes deeper than Python can: what is nested too deep, or calls itself?"}
    except Exception as error:  # noqa: BLE001  a verdict, not a traceback, for what nobody thought of
        return {"why": f"stopped with {type(error).__name__}, a fault of the judge: {str(error)[:300]}"}


def verdict_of(said: Any, name: str, path: str, status: int) -> tuple[Verdict, bytes]:
    """The verdict and the picture that a judging process has answered, or why it has not. path: as it is shown."""
    if isinstance(said, dict) and "stages" in said:
        picture = bytes.fromhex(said.pop("picture"))
        return Verdict.from_dict(said), picture
    why = said["why"] if isinstance(said, dict) and "why" in said else ended(status, JUDGE)
    return Verdict.begin(name, path).fail("right", f"judging the kernel {why}"), b""


def read_answer(answer: bytes) -> Any:
    """What a process has said, None if it cannot be read."""
    try:
        return json.loads(answer)
    except (ValueError, RecursionError):
        return None


def judge_apart(name: str, path: Path, *, pictures: bool, meanwhile: Callable[[], None]) -> tuple[Verdict, bytes]:
    """The verdict on one's own file, and the picture, from a process with limits; where there is no fork, with one of time."""
    if CAN_FORK:
        isolation.warm_up()
        child = judging(name, path, quiet=False, pictures=pictures)
        answer = child.wait(meanwhile)
        return verdict_of(read_answer(answer), name, display_path(path), child.status or 0)
    return judge_in_a_new_python(name, path, pictures=pictures, meanwhile=meanwhile)


def judge_in_a_new_python(
    name: str, path: Path, *, pictures: bool, meanwhile: Callable[[], None]
) -> tuple[Verdict, bytes]:
    """judge_apart for Windows: what the kernel prints is shown at the end."""
    meanwhile()
    command = [sys.executable, "-m", "studylib.grading.judge_apart", name, str(path.resolve()), str(int(pictures))]
    try:
        done = subprocess.run(command, capture_output=True, timeout=JUDGE.patience, check=False)
    except subprocess.TimeoutExpired:
        return verdict_of(None, name, display_path(path), -9)
    sys.stdout.write(done.stderr.decode("utf-8", errors="replace"))
    verdict, picture = verdict_of(read_answer(done.stdout), name, display_path(path), done.returncode)
    verdict.path = display_path(path)
    return verdict, picture


def main() -> None:
    """`python -m studylib.grading.judge_apart NAME PATH PICTURES`: the answer on standard output."""
    name, path, pictures = sys.argv[1:]
    answer_to, sys.stdout = sys.stdout, sys.stderr
    answer_to.write(json.dumps(_answer(name, Path(path), None, False, bool(int(pictures)))))


if __name__ == "__main__":
    main()
