"""Judges everybody's exercises, each in a process of its own, and goes on where an interrupted run stopped."""

from __future__ import annotations

import fnmatch
import gc
import hashlib
import json
import os
import re
import subprocess
import sys
import time
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from tqdm import tqdm

from studylib import kernels
from studylib.grading import isolation, seed
from studylib.grading.child import CAN_FORK, Child
from studylib.grading.judging import failed, judging, picture_of, read_answer, verdict_of
from studylib.grading.source import MAX_BYTES, Refused, read_file
from studylib.grading.verdict import Verdict, judge
from studylib.kernels.stubs import EXERCISES, replace

MISSING = "not handed in"


@dataclass(frozen=True)
class Job:
    """One exercise of one participant. folder: the participant's; path: of the file, None if there is none."""

    participant: str
    exercise: str
    folder: Path
    path: Path | None


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


def jobs_in(folder: Path, chosen: list[str]) -> list[Job]:
    """All exercises of all participants: each folder in `folder` is one. Raises ValueError if there is none."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; expected one with a folder for each participant")
    people = sorted(p for p in folder.iterdir() if p.is_dir() and not p.is_symlink() and not p.name.startswith("."))
    if not people:
        raise ValueError(f"{folder} has no folders; expected one for each participant")
    return [Job(person.name, name, person, _file(person, name)) for person in people for name in chosen]


def _file(person: Path, name: str) -> Path | None:
    week = kernels.load(name).week
    for place in (person / "exercises" / week, person / week, person):
        if os.path.lexists(place / f"{name}.py"):
            return place / f"{name}.py"
    return None


def check_out(pattern: str, folder: Path) -> Path:
    """Writes the exercises of every git branch that fits the pattern to a folder each; raises ValueError if none does.

    Only they are asked for, one by one: a branch may hold a tree that never ends, or gigabytes that pack well.
    """
    listed = _git("for-each-ref", "--format=%(refname)", "refs/heads", "refs/remotes").decode().splitlines()
    branches: dict[str, str] = {}
    for reference in listed:
        _, kind, short = reference.split("/", 2)
        # origin/group/anna fits group/* too
        for name in (short, short.partition("/")[2]) if kind == "remotes" else (short,):
            if fnmatch.fnmatch(name, pattern):
                branches.setdefault(name, reference)
    if not branches:
        raise ValueError(f"no git branch fits {pattern!r}")
    wanted = [f"exercises/{kernels.load(name).week}/{name}.py" for name in kernels.names()]
    names = file_names(branches)
    for name, reference in branches.items():
        target = folder / names[name]
        target.mkdir(parents=True, exist_ok=True)
        for entry in _git("ls-tree", "-l", "-z", reference, "--", *wanted).decode().split("\0")[:-1]:
            facts, _, path = entry.partition("\t")
            mode, _, blob, size = facts.split()
            if mode.startswith("100"):  # a file, neither a link nor a folder
                _write_blob(target / path, blob, int(size))
    return folder


def _write_blob(path: Path, blob: str, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if size <= MAX_BYTES:
        path.write_bytes(_git("cat-file", "blob", blob))
    else:
        with path.open("wb") as file:
            file.truncate(min(size, 1 << 30))  # takes no room, and is refused for its size


def file_names(names: Iterable[str]) -> dict[str, str]:
    """For each name another that any file system takes, and no two the same, also where case does not count."""
    found: dict[str, str] = {}
    for name in sorted(names):
        short = unicodedata.normalize("NFC", re.sub(r"[^\w.=-]", "_", name))[:40]
        numbered = (f"{short}-{n}" if n > 1 else short for n in count(1))
        taken = {other.casefold() for other in found.values()}
        found[name] = next(new for new in numbered if new.casefold() not in taken)
    return found


def _git(*arguments: str) -> bytes:
    try:
        return subprocess.run(["git", "-C", EXERCISES.parent, *arguments], check=True, capture_output=True).stdout
    except FileNotFoundError:
        raise ValueError("git is not installed, and --branches needs it") from None
    except subprocess.CalledProcessError as error:
        raise ValueError(f"git {arguments[0]}: {error.stderr.decode(errors='replace').strip()}") from None


@dataclass
class _Running:
    """A job on its way. key: of its result."""

    job: Job
    child: Child
    key: str


def grade(jobs: list[Job], out: Path, workers: int | None = None) -> Iterator[Grade]:
    """Judges jobs, `workers` at a time (by default one a core), and keeps each result in `out`.

    A result is taken from there if the file and the grader are the same. Raises ValueError on a system without fork.
    """
    if not CAN_FORK:
        raise ValueError("study grade needs Linux or macOS; on Windows use the Windows Subsystem for Linux")
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
                if isinstance(kept, str):
                    running.append(_Running(job, _judging(job), kept))
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


def _judging(job: Job) -> Child:
    assert job.path is not None
    return judging(job.exercise, job.path, job.folder, quiet=True, pictures=True)


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


def _kept(job: Job, out: Path, version: str) -> Grade | str:
    """What needs no process: a result of an earlier run, a file that is missing or cannot be read. Or the result's key."""
    week = kernels.load(job.exercise).week
    if job.path is None:
        return Grade(job.participant, Verdict(job.exercise, week, "", 1, "", False, []))
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
    return key


def result_key(text: str, version: str) -> str:
    return hashlib.sha256(f"{version}\n{text}".encode()).hexdigest()


def _keep(task: _Running, found: Grade, out: Path) -> None:
    path = _place(task.job, out)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = {"key": task.key, "verdict": found.verdict.as_dict(), "picture": found.picture.hex()}
    replace(path, json.dumps(data))
