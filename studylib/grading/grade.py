"""Judges everybody's exercises, each in a process of its own, and goes on where an interrupted run stopped."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tqdm import tqdm

from studylib import kernels
from studylib.errors import StudyError
from studylib.grading import isolation, seed
from studylib.grading.card import picture_of
from studylib.grading.child import CAN_FORK, Child
from studylib.grading.hand_ins import Job
from studylib.grading.judge import judge
from studylib.grading.judge_apart import judging, read_answer, verdict_of
from studylib.grading.results import Grade, Results
from studylib.grading.submission import Refused, read_file
from studylib.grading.verdict import Verdict


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
    results, waiting = Results(out), list(reversed(jobs))
    running: list[_Running] = []
    workers = workers or os.cpu_count() or 1
    bar = tqdm(total=len(jobs), unit="kernel", desc="grading", file=sys.stderr)
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting.pop()
                text, found = _read(job)
                key = results.key(text)
                if found := found or results.get(job.participant, job.exercise, key):
                    bar.update()
                    yield found
                else:
                    running.append(_Running(job, _judging(job, text), key))
            for task in [task for task in running if task.child.is_done()]:
                running.remove(task)
                found = _finish(task)
                results.keep(found, task.key)
                bar.update()
                yield found
            time.sleep(0.002)
    finally:
        for task in running:
            if task.child.status is None:
                task.child.stop()
        bar.close()
        seed.keep_in()


@cache
def _warm_up() -> None:
    # Every child inherits what is loaded here, those of a second grading too. tqdm must not run a thread when processes
    # are forked.
    tqdm.monitor_interval = 0
    isolation.warm_up()
    for name in ("transpose", "softmax_squash"):  # between them they use what the compiler loads late
        exercise = kernels.load(name)
        picture_of(judge(exercise, exercise.kernel))
    gc.collect()
    gc.freeze()  # a collection in a child would copy all that it shares with this process


def _read(job: Job) -> tuple[str, Grade | None]:
    """The text of what was handed in, read once and judged as it was then, or a grade if there is none to judge."""
    if job.path is None:
        notes = [job.instead] if job.instead else []
        return "", Grade(job.participant, Verdict.begin(job.exercise, "", *notes))
    try:
        return read_file(job.path, job.folder), None
    except Refused as error:
        return "", Grade(job.participant, Verdict.begin(job.exercise, _shown(job)).fail("imports", str(error)))


def _judging(job: Job, text: str) -> Child:
    assert job.path is not None
    return judging(job.exercise, job.path, text, quiet=True, pictures=True)


def _finish(task: _Running) -> Grade:
    job, child = task.job, task.child
    verdict, picture = verdict_of(read_answer(child.answer), job.exercise, _shown(job), child.status or 0)
    return Grade(job.participant, verdict, picture)


def _shown(job: Job) -> str:
    return job.path.relative_to(job.folder).as_posix() if job.path else ""
