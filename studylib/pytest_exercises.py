"""Lets pytest judge exercises: `pytest exercises/` has an item for each stage, so that -k, -x and editors work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> ExerciseFile | None:
    """Collects exercises/WEEK/NAME.py where studylib has an exercise of that name in that week."""
    solved = Path(__file__).parent / "kernels" / file_path.parent.name / file_path.name
    if file_path.suffix == ".py" and file_path.parent.parent.name == "exercises" and solved.exists():
        return ExerciseFile.from_parent(parent, path=file_path)
    return None


class ExerciseFile(pytest.File):
    """An exercise; it is judged once, when its first stage is asked for."""

    verdict = None

    def collect(self) -> Iterator[StageItem]:
        from studylib.grading.verdict import TITLES  # here, so that other test runs do not wait for the emulator

        for stage in TITLES:
            yield StageItem.from_parent(self, name=stage)

    def stage(self, name: str) -> Any:
        if self.verdict is None:
            from studylib.grading.local import check_file

            self.verdict = check_file(self.path.stem, self.path)
        return self.verdict.stage(name)


class StageItem(pytest.Item):
    """One stage of the verdict. What was not attempted is skipped, and so is what cannot be judged on this machine."""

    parent: ExerciseFile

    def runtest(self) -> None:
        from studylib.grading.verdict import FAILED, SKIPPED

        found = self.parent.stage(self.name)
        if self.parent.stage("attempted").status == FAILED:
            pytest.skip("not attempted")  # that an untouched stub can be imported is nobody's merit
        if found.status == SKIPPED:
            pytest.skip(found.text)
        if found.status == FAILED:
            raise NotPassedError(found.text)

    def repr_failure(self, excinfo: Any, style: Any = None) -> str:
        if isinstance(excinfo.value, NotPassedError):
            return f"{self.parent.path.stem} is not {self.parent.stage(self.name).title}:\n{excinfo.value}"
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, int, str]:
        verdict = self.parent.verdict
        return self.path, verdict.line - 1 if verdict else 0, f"{self.path.stem}: {self.name}"


class NotPassedError(Exception):
    """A stage that failed, for its text without a traceback."""
