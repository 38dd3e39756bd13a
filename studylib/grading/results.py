"""Grades, and the folder that keeps them: a result is taken again where the file and the grader are the same."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from studylib import files, kernels
from studylib.grading.verdict import MISSING, Verdict

FOLDER = "results"  # of the folder that a grading writes to


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


class Results:
    """What earlier runs found, in a folder of `out`: a file for each participant and exercise."""

    def __init__(self, out: Path):
        self.folder, self.version = out / FOLDER, grader_version()

    def key(self, text: str) -> str:
        """The key under which the result of a text is kept."""
        return result_key(text, self.version)

    def get(self, participant: str, exercise: str, key: str) -> Grade | None:
        """The result that was kept under that key; None for another one, none, and a file that cannot be read."""
        try:
            found = json.loads(self._place(participant, exercise).read_text(encoding="utf-8"))
            if found["key"] == key:
                return Grade(participant, Verdict.from_dict(found["verdict"]), bytes.fromhex(found["picture"]))
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    def keep(self, grade: Grade, key: str) -> None:
        path = self._place(grade.participant, grade.verdict.exercise)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = {"key": key, "verdict": grade.verdict.as_dict(), "picture": grade.picture.hex()}
        files.replace(path, json.dumps(data))

    def _place(self, participant: str, exercise: str) -> Path:
        return self.folder / participant / f"{exercise}.json"


def forget(out: Path, people: set[str]) -> None:
    """Removes the results kept for anybody but `people`, and nothing that somebody else put into their folders."""
    results = out / FOLDER
    for folder in results.iterdir() if results.is_dir() else ():
        if folder.name not in people and not folder.is_symlink():
            for name in kernels.names():
                (folder / f"{name}.json").unlink(missing_ok=True)
            with suppress(OSError):  # something else lies there
                folder.rmdir()


def grader_version() -> str:
    """The grader's version: a digest of all that a verdict depends on."""
    package = Path(kernels.__file__).parents[1]
    sources = sorted(path for part in ("gpu", "grading", "kernels") for path in (package / part).rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]


def result_key(text: str, version: str) -> str:
    """The key of the result of a text, judged by a version of the grader."""
    return hashlib.sha256(f"{version}\n{text}".encode()).hexdigest()
