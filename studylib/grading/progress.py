"""Who stands where: weeks by exercises, for oneself or for a group that has been graded."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from tqdm import tqdm

from studylib import kernels
from studylib.errors import StudyError
from studylib.files import EXERCISES
from studylib.grading import record
from studylib.grading.local import check_file
from studylib.grading.results import grader_version, result_key
from studylib.grading.submission import Refused, read_file
from studylib.grading.verdict import FAILED, MARKS, MISSING, PASSED, Verdict

STYLES = {PASSED: "green", FAILED: "red"}
WIDTH = 20  # characters of a bar


def own(folder: Path = EXERCISES, remembered: Path = record.RECORD) -> dict[str, str]:
    """By exercise, the state of one's own file; judges what has changed since the last time."""
    notes, version, states = record.read(remembered), grader_version(), {}
    for name in tqdm(kernels.names(), unit="kernel", desc="checking", leave=False):
        path = folder / kernels.load(name).week / f"{name}.py"
        if not path.exists():
            states[name] = MISSING
            continue
        try:
            key = result_key(read_file(path), version)
        except Refused:
            key = ""
        last = notes["verdicts"].get(name, {})
        if not key or last.get("key") != key:
            last = {"key": key, "state": check_file(name, path).state}
            notes["verdicts"][name] = last
            record.write(notes, remembered)
        states[name] = last["state"]
    return states


def remember(verdict: Verdict, path: Path, remembered: Path = record.RECORD) -> None:
    """Keeps the verdict on the file `path` for the next `study progress`."""
    try:
        key = result_key(read_file(path), grader_version())
    except Refused:
        return
    notes = record.read(remembered)
    notes["verdicts"][verdict.exercise] = {"key": key, "state": verdict.state}
    record.write(notes, remembered)


def graded(path: Path) -> dict[str, dict[str, str]]:
    """By participant, the states in a grades.csv; raises StudyError for any other file."""
    people: dict[str, dict[str, str]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        if not {"participant", "exercise", "state"} <= set(rows.fieldnames or ()):
            raise StudyError(f"{path} is not a grades.csv of `study grade`: it has the columns {rows.fieldnames}")
        for row in rows:
            people.setdefault(row["participant"], {})[row["exercise"]] = row["state"]
    return people


def table(
    people: dict[str, dict[str, str]],
    borrowed: dict[str, str] | None = None,
    gaps: Mapping[str, tuple[int, int]] | None = None,
) -> Group:
    """A row for each participant and week: a bar, and each exercise with its mark. borrowed: names to mark.

    gaps: by week, how many of the meeting's notebook are passed, of how many; None leaves the column out.
    """
    found = Table(box=None, pad_edge=False)
    for heading in ("", "week", "", "passed", *(["gaps"] if gaps is not None else []), "exercises"):
        found.add_column(heading)
    for person, states in people.items():
        for number, week in enumerate(kernels.weeks()):
            names = kernels.names(week)
            done = sum(states.get(name) == PASSED for name in names)
            bar = ProgressBar(total=len(names), completed=done, width=WIDTH)
            text = Text()
            for name in names:
                state = states.get(name, MISSING)
                mark = f"{MARKS.get(state, '?')} {name}{' (borrowed)' if name in (borrowed or {}) else ''}  "
                text.append(mark, STYLES.get(state, "dim"))
            # What a name holds is no mark-up, and no command to the terminal.
            name = "" if number else "".join(c if c.isprintable() else "?" for c in person)
            own_gaps = []
            if gaps is not None:
                own_gaps = ["{} of {}".format(*gaps[week]) if week in gaps else ""]
            found.add_row(Text(name), str(int(week[:2])), bar, f"{done} of {len(names)}", *own_gaps, text)
    return Group(found, Text("✓ passed   ✗ not yet   · not attempted   ? no file", "dim"))
