"""Judges everybody's exercises, each in a process of its own, and goes on where an interrupted run stopped."""

from __future__ import annotations

import contextlib
import fnmatch
import gc
import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from tqdm import tqdm

from studylib import kernels
from studylib.grading import isolation
from studylib.grading.isolation import IMPORT, JUDGE, Limits
from studylib.grading.local import picture_of
from studylib.grading.source import Refused, read_file
from studylib.grading.verdict import FAILED, PASSED, Stage, Verdict, judge
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
    """Writes exercises/ of every git branch that fits the pattern to a folder each; raises ValueError if none does."""
    listed = _git("for-each-ref", "--format=%(refname)", "refs/heads", "refs/remotes").decode().splitlines()
    branches: dict[str, str] = {}
    for reference in listed:
        short = reference.split("/", 2)[2]
        for name in (short, short.partition("/")[2]):  # origin/group/anna fits group/* too
            if fnmatch.fnmatch(name, pattern):
                branches.setdefault(name, reference)
    if not branches:
        raise ValueError(f"no git branch fits {pattern!r}")
    for name, reference in branches.items():
        target = folder / name.replace("/", "_")
        target.mkdir(parents=True, exist_ok=True)
        with tarfile.open(fileobj=BytesIO(_git("archive", reference, "exercises"))) as archive:
            archive.extractall(target, filter=_harmless)
    return folder


def _harmless(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
    with contextlib.suppress(tarfile.FilterError):
        return tarfile.data_filter(member, path)
    return None


def _git(*arguments: str) -> bytes:
    try:
        return subprocess.run(["git", "-C", EXERCISES.parent, *arguments], check=True, capture_output=True).stdout
    except FileNotFoundError:
        raise ValueError("git is not installed, and --branches needs it") from None
    except subprocess.CalledProcessError as error:
        raise ValueError(f"git {arguments[0]}: {error.stderr.decode(errors='replace').strip()}") from None


class Child:
    """A process that runs a function under limits; what it writes to its pipe is its answer."""

    def __init__(self, function: Callable[[int], None], limits: Limits):
        self.limits, self.answer = limits, b""
        self.until = time.monotonic() + limits.patience
        self.read, write = os.pipe()
        os.set_blocking(self.read, False)
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setsid()
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                gc.disable()
                # What the grader has open is none of a submission's business.
                os.closerange(3, write)
                os.closerange(write + 1, 4096)
                function(write)
            finally:
                os._exit(70)
        os.close(write)
        self.status: int | None = None

    def is_done(self) -> bool:
        """Looks after it: takes what it has said, stops it when its time is over."""
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self.read, 1 << 16):
                self.answer += part
        found, status = os.waitpid(self.pid, os.WNOHANG)
        if found:
            self.status = os.waitstatus_to_exitcode(status)
            with contextlib.suppress(BlockingIOError):
                while part := os.read(self.read, 1 << 16):
                    self.answer += part
            self._sweep()
            return True
        if time.monotonic() > self.until or len(self.answer) > self.limits.output:
            self.stop()
            return True
        return False

    def stop(self) -> None:
        """Kills it and all that it started."""
        self._sweep()
        os.waitpid(self.pid, 0)
        self.status = -signal.SIGKILL

    def _sweep(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        os.close(self.read)


@dataclass
class _Running:
    """A job on its way: first its file is imported, then its kernel is judged."""

    job: Job
    child: Child
    imported: bool = False
    why: str = field(default="")


def grade(jobs: list[Job], out: Path, workers: int | None = None) -> Iterator[Grade]:
    """Judges jobs, `workers` at a time (by default one a core), and keeps each result in `out`.

    A result is taken from there if the file and the grader are the same. Raises ValueError on a system without fork.
    """
    if not hasattr(os, "fork"):
        raise ValueError("study grade needs Linux or macOS; on Windows use the Windows Subsystem for Linux")
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
                if kept is None:
                    running.append(_Running(job, _importing(job)))
                else:
                    bar.update()
                    yield kept
            for task in [task for task in running if task.child.is_done()]:
                if not task.imported and not _advance(task):
                    continue
                running.remove(task)
                found = _finish(task)
                _keep(task.job, found, out, version)
                bar.update()
                yield found
            time.sleep(0.002)
    finally:
        for task in running:
            if task.child.status is None:
                task.child.stop()
        bar.close()


def _warm_up() -> None:
    # Every child inherits what is loaded here. tqdm must not run a thread when processes are forked.
    tqdm.monitor_interval = 0
    isolation.warm_up()
    for name in ("transpose", "softmax_squash"):  # between them they use what the compiler loads late
        exercise = kernels.load(name)
        picture_of(judge(exercise, exercise.kernel))
    gc.collect()
    gc.freeze()  # a collection in a child would copy all that it shares with this process


def _importing(job: Job) -> Child:
    def run(report: int) -> None:
        assert job.path is not None
        isolation.import_file(job.path, job.folder, report)

    return Child(run, IMPORT)


def _judging(job: Job) -> Child:
    def run(report: int) -> None:
        isolation.limit(JUDGE)
        try:
            verdict = judge(job.exercise, path=job.path, inside=job.folder, compile_wrong=False)
            # How it uses memory is the question once it computes what it should.
            picture = picture_of(verdict) if verdict.stage("safe").status == PASSED else b""
            answer = verdict.as_dict() | {"picture": picture.hex()}
        except MemoryError:
            answer = {"why": "needs more memory than a kernel of this exercise may"}
        os.set_blocking(report, True)
        with os.fdopen(report, "wb") as pipe:
            pipe.write(json.dumps(answer).encode())
        os._exit(0)

    return Child(run, JUDGE)


def _advance(task: _Running) -> bool:
    """Goes on from the import to the judging; True if there is nothing to judge."""
    task.why = _said(task.child).get("why", isolation.ended(task.child.status or 0, IMPORT))
    task.imported = True
    if task.why:
        return True
    task.child = _judging(task.job)
    return False


def _said(child: Child) -> dict:
    try:
        found = json.loads(child.answer)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _finish(task: _Running) -> Grade:
    job = task.job
    said = {} if task.why else _said(task.child)
    if "stages" in said:
        picture = bytes.fromhex(said.pop("picture"))
        return Grade(job.participant, Verdict.from_dict(said), picture)
    assert job.path is not None
    if task.why:
        return Grade(job.participant, _failed(job, "imports", f"{job.path.name} {task.why}"))
    why = said.get("why") or isolation.ended(task.child.status or 0, JUDGE)
    return Grade(job.participant, _failed(job, "right", f"judging the kernel {why}"))


def _failed(job: Job, stage: str, why: str) -> Verdict:
    week = kernels.load(job.exercise).week
    return Verdict(job.exercise, week, _shown(job), 1, "", False, [Stage(stage, FAILED, why)])


def _shown(job: Job) -> str:
    return job.path.relative_to(job.folder).as_posix() if job.path else ""


def grader_version() -> str:
    """Of the grader: a digest of all that a verdict depends on."""
    package = Path(kernels.__file__).parents[1]
    files = sorted(path for part in ("gpu", "grading", "kernels") for path in (package / part).rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def _place(job: Job, out: Path) -> Path:
    return out / "results" / job.participant / f"{job.exercise}.json"


def _kept(job: Job, out: Path, version: str) -> Grade | None:
    """What needs no process: a result of an earlier run, a file that is missing or cannot be read."""
    week = kernels.load(job.exercise).week
    if job.path is None:
        return Grade(job.participant, Verdict(job.exercise, week, "", 1, "", False, []))
    try:
        text = read_file(job.path, job.folder)
    except Refused as error:
        return Grade(job.participant, _failed(job, "imports", str(error)))
    try:
        found = json.loads(_place(job, out).read_text(encoding="utf-8"))
        if found["key"] == result_key(text, version):
            return Grade(job.participant, Verdict.from_dict(found["verdict"]), bytes.fromhex(found["picture"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def result_key(text: str, version: str) -> str:
    return hashlib.sha256(f"{version}\n{text}".encode()).hexdigest()


def _keep(job: Job, found: Grade, out: Path, version: str) -> None:
    assert job.path is not None
    path = _place(job, out)
    path.parent.mkdir(parents=True, exist_ok=True)
    key = result_key(read_file(job.path, job.folder), version)
    data = {"key": key, "verdict": found.verdict.as_dict(), "picture": found.picture.hex()}
    replace(path, json.dumps(data))
