"""Judges everybody's exercises, each in a process of its own, and goes on where an interrupted run stopped."""

from __future__ import annotations

import contextlib
import fnmatch
import gc
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from tqdm import tqdm

from studylib import kernels
from studylib.grading import isolation, seed
from studylib.grading.isolation import IMPORT, JUDGE, Limits
from studylib.grading.local import picture_of
from studylib.grading.source import MAX_BYTES, Refused, read_file
from studylib.grading.verdict import FAILED, PASSED, Stage, Verdict, judge
from studylib.kernels.stubs import EXERCISES, replace

MISSING = "not handed in"
LONGEST = 400  # characters of the reason why a file is not imported
LONGEST_STAGE = 10_000  # and of a stage's text, which quotes lines of the file: they may be as long as the file


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
        self._listen()
        found, status = os.waitpid(self.pid, os.WNOHANG)
        if found:
            self.status = os.waitstatus_to_exitcode(status)
            self._listen()
            self._sweep()
            return True
        if time.monotonic() > self.until or len(self.answer) > self.limits.output:
            self.stop()
            return True
        return False

    def _listen(self) -> None:
        # Who writes as fast as it is read would keep the grader here for ever.
        with contextlib.suppress(BlockingIOError):
            while len(self.answer) <= self.limits.output and (part := os.read(self.read, 1 << 16)):
                self.answer += part

    def stop(self) -> None:
        """Kills it and all that it started."""
        os.kill(self.pid, signal.SIGKILL)  # just begun, it has no group yet
        self._sweep()
        os.waitpid(self.pid, 0)
        self.status = -signal.SIGKILL

    def _sweep(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        os.close(self.read)


@dataclass
class _Running:
    """A job on its way: first its file is imported, then its kernel is judged. key: of its result."""

    job: Job
    child: Child
    key: str
    imported: bool = False
    why: str = ""


def grade(jobs: list[Job], out: Path, workers: int | None = None) -> Iterator[Grade]:
    """Judges jobs, `workers` at a time (by default one a core), and keeps each result in `out`.

    A result is taken from there if the file and the grader are the same. Raises ValueError on a system without fork.
    """
    if not hasattr(os, "fork"):
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
                    running.append(_Running(job, _importing(job), kept))
                else:
                    bar.update()
                    yield kept
            for task in [task for task in running if task.child.is_done()]:
                if not task.imported and not _advance(task):
                    continue
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


def _importing(job: Job) -> Child:
    def run(report: int) -> None:
        assert job.path is not None
        isolation.import_file(job.path, job.folder, report)

    return Child(run, IMPORT)


def _judging(job: Job) -> Child:
    def run(report: int) -> None:
        # A kernel may print, and what it prints is not the facilitator's.
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        isolation.limit(JUDGE)
        try:
            verdict = judge(job.exercise, path=job.path, inside=job.folder, compile_wrong=False)
            # How it uses memory is the question once it computes what it should.
            picture = picture_of(verdict) if verdict.stage("safe").status == PASSED else b""
            verdict.stages = [Stage(s.name, s.status, s.text[:LONGEST_STAGE], s.finds) for s in verdict.stages]
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
    why = _said(task.child).get("why", isolation.ended(task.child.status or 0, IMPORT))
    task.why = str(why)[:LONGEST]  # the file may have written it
    task.imported = True
    if task.why:
        return True
    task.child = _judging(task.job)
    return False


def _said(child: Child) -> dict:
    try:
        found = json.loads(child.answer)
    except (ValueError, RecursionError):
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


def _kept(job: Job, out: Path, version: str) -> Grade | str:
    """What needs no process: a result of an earlier run, a file that is missing or cannot be read. Or the result's key."""
    week = kernels.load(job.exercise).week
    if job.path is None:
        return Grade(job.participant, Verdict(job.exercise, week, "", 1, "", False, []))
    try:
        text = read_file(job.path, job.folder)
    except Refused as error:
        return Grade(job.participant, _failed(job, "imports", str(error)))
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
