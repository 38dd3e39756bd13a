"""Judges everybody's exercises, each in a process of its own, and goes on where an interrupted run stopped."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from studylib import files, kernels
from studylib.errors import StudyError
from studylib.grading import isolation, seed
from studylib.grading.child import CAN_FORK, Child
from studylib.grading.hand_ins import Job
from studylib.grading.judging import failed, judging, picture_of, read_answer, verdict_of
from studylib.grading.source import Refused, read_file
from studylib.grading.verdict import Verdict, judge

MISSING = "not handed in"


@dataclass(frozen=True)
class Grade:
    """What became of a job. picture: PNG of what the kernel accesses, empty if there is none."""

    participant: str
    verdict: Verdict
    picture: bytes = b""

    @property
    def state(self) -> str:
        """'passed', 'failed', 'not attempted' or 'not handed in'."""
        return self.verdict.state if self.verdict.stages else MISSING


@dataclass(frozen=True)
class _Waiting:
    """A text that was read once, to be judged as it was then, and the key of its result."""

    text: str
    key: str


@dataclass
class _Running:
    """A job on its way. key: of its result."""

    job: Job
    child: Child
    key: str


def grade(jobs: list[Job], out: Path, workers: int | None = None) -> Iterator[Grade]:
    """Judges jobs, `workers` at a time (by default one a core), and keeps each result in `out`.

    A result is taken from there if the file and the grader are the same. Raises StudyError on a system without fork.
    """
    if not CAN_FORK:
        raise StudyError("study grade needs Linux or macOS; on Windows use the Windows Subsystem for Linux")
    seed.keep_in(out / "seed")
    _warm_up()
    version, waiting = grader_version(), list(reversed(jobs))
    running: list[_Running] = []
    workers = workers or os.cpu_count() or 1
    bar = tqdm(total=len(jobs), unit="kernel", desc="grading", file=sys.stderr)
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting.pop()
                kept = _kept(job, out, version)
                if isinstance(kept, _Waiting):
                    running.append(_Running(job, _judging(job, kept.text), kept.key))
                else:
                    bar.update()
                    yield kept
            for task in [task for task in running if task.child.is_done()]:
                running.remove(task)
                found = _finish(task)
                _keep(task, found, out)
                bar.update()
                yield found
            time.sleep(0.002)
    finally:
        for task in running:
            if task.child.status is None:
                task.child.stop()
        bar.close()
        seed.keep_in()


def _warm_up() -> None:
    # Every child inherits what is loaded here. tqdm must not run a thread when processes are forked.
    tqdm.monitor_interval = 0
    isolation.warm_up()
    for name in ("transpose", "softmax_squash"):  # between them they use what the compiler loads late
        exercise = kernels.load(name)
        picture_of(judge(exercise, exercise.kernel))
    gc.collect()
    gc.freeze()  # a collection in a child would copy all that it shares with this process


def _judging(job: Job, text: str) -> Child:
    assert job.path is not None
    return judging(job.exercise, job.path, text, quiet=True, pictures=True)


def _finish(task: _Running) -> Grade:
    job, child = task.job, task.child
    verdict, picture = verdict_of(read_answer(child.answer), job.exercise, _shown(job), child.status or 0)
    return Grade(job.participant, verdict, picture)


def _shown(job: Job) -> str:
    return job.path.relative_to(job.folder).as_posix() if job.path else ""


def grader_version() -> str:
    """Of the grader: a digest of all that a verdict depends on."""
    package = Path(kernels.__file__).parents[1]
    files = sorted(path for part in ("gpu", "grading", "kernels") for path in (package / part).rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def _place(job: Job, out: Path) -> Path:
    return out / "results" / job.participant / f"{job.exercise}.json"


def _kept(job: Job, out: Path, version: str) -> Grade | _Waiting:
    """What needs no process: a result of an earlier run, a file that is missing or cannot be read."""
    week = kernels.load(job.exercise).week
    if job.path is None:
        notes = [job.instead] if job.instead else []
        return Grade(job.participant, Verdict(job.exercise, week, "", 1, "", False, [], notes))
    try:
        text = read_file(job.path, job.folder)
    except Refused as error:
        return Grade(job.participant, failed(job.exercise, _shown(job), "imports", str(error)))
    key = result_key(text, version)
    try:
        found = json.loads(_place(job, out).read_text(encoding="utf-8"))
        if found["key"] == key:
            return Grade(job.participant, Verdict.from_dict(found["verdict"]), bytes.fromhex(found["picture"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return _Waiting(text, key)


def result_key(text: str, version: str) -> str:
    return hashlib.sha256(f"{version}\n{text}".encode()).hexdigest()


def _keep(task: _Running, found: Grade, out: Path) -> None:
    path = _place(task.job, out)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = {"key": task.key, "verdict": found.verdict.as_dict(), "picture": found.picture.hex()}
    files.replace(path, json.dumps(data))
