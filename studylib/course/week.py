"""Reads a meeting's week.toml and shows it as a run sheet, so that nobody adds up minutes by hand."""

import datetime
import html
import re
from dataclasses import dataclass, field
from pathlib import Path

from studylib import files
from studylib.course import toml_files
from studylib.errors import StudyError, near

MEETING_MINUTES = 180


@dataclass(frozen=True)
class Part:
    """One line of the run sheet; `section` is the heading in the notebook that it goes through.

    exercises: those of the week that are done in it; the week's others are for at home.
    """

    minutes: int
    what: str
    section: str = ""
    who: str = ""
    exercises: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Hour:
    """One of the three hours; its parts, breaks included, add up to its minutes."""

    title: str
    minutes: int
    parts: list[Part]


@dataclass(frozen=True)
class Reading:
    """A paper or chapter to read before the meeting."""

    title: str
    link: str


@dataclass(frozen=True, repr=False)
class Week:
    """A meeting as week.toml describes it. Printed or shown in a notebook it is the run sheet.

    topics: the names of this folder's folders that have a topic.toml, in the order in which they are presented.
    date: only where it is not the one that follows from group.toml; `Course.date` knows both. place, link: only where
    they are not the group's. exercises: names, in the order in which they are done; empty where the week has none.
    folder: where week.toml lies.
    """

    number: int
    title: str
    hours: list[Hour]
    topics: list[str]
    readings: list[Reading]
    folder: Path
    date: datetime.date | None = None
    place: str = ""
    link: str = ""
    exercises: list[str] = field(default_factory=list)
    discussion: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The folder's name, such as 02_resnext_gpu1."""
        return self.folder.name

    @property
    def in_meeting(self) -> list[str]:
        """The exercises that are done in the meeting; the others are for at home."""
        return [name for hour in self.hours for part in hour.parts for name in part.exercises]

    def rows(self) -> list[tuple[str, int, str, str, str]]:
        """The run sheet: (start as h:mm from the beginning, minutes, what, section, who) for every part."""
        rows, start = [], 0
        for part in (part for hour in self.hours for part in hour.parts):
            rows.append((f"{start // 60}:{start % 60:02d}", part.minutes, part.what, part.section, part.who))
            start += part.minutes
        return rows

    def __repr__(self) -> str:
        """Short, for a notebook stores it beside the table: no path, and nothing that changes with a date."""
        return f"<Week {self.number}: {self.title}>"

    def __str__(self) -> str:
        lines, rows = [f"Week {self.number}: {self.title}"], iter(self.rows())
        for number, hour in enumerate(self.hours, 1):
            lines += ["", f"Hour {number}: {hour.title} ({hour.minutes} min)"]
            for start, minutes, what, section, who in (next(rows) for _ in hour.parts):
                notes = "; ".join(note for note in (section and f"section “{section}”", who) if note)
                lines.append(f"  {start}  {minutes:3d} min  {what}" + (f"  ({notes})" if notes else ""))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        left, text = ' style="text-align: left"', html.escape
        columns = ["start", "minutes", "what", "section of this notebook", "who"]
        if not any(part.who for hour in self.hours for part in hour.parts):
            columns.pop()
        body, rows = [], iter(self.rows())
        for number, hour in enumerate(self.hours, 1):
            heading = f"Hour {number}: {text(hour.title)} ({hour.minutes} min)"
            body.append(f'<tr><th colspan="{len(columns)}"{left}>{heading}</th></tr>')
            for row in (next(rows) for _ in hour.parts):
                cells = "".join(f"<td{left}>{text(str(value))}</td>" for value in row[: len(columns)])
                body.append(f"<tr>{cells}</tr>")
        head = "".join(f"<th{left}>{column}</th>" for column in columns)
        caption = f"<caption><b>Week {self.number}: {text(self.title)}</b></caption>"
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def load(folder: Path | str = ".") -> Week:
    """The meeting of `folder`, which holds week.toml; in its notebook that is the current folder.

    Of the folder of its exercises, exercises/WEEK, it is the meeting too: the participants' notebook lies there.
    Raises FileNotFoundError without that file, and StudyError naming file and field where it is not TOML, lacks a field,
    has an unknown one or one of the wrong type, or where minutes do not add up.
    """
    path = Path(folder) / "week.toml"
    here = path.resolve().parent
    if not path.is_file() and here.parent.name == "exercises":
        path = here.parents[1] / "weeks" / here.name / "week.toml"
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}: give the folder of a meeting, such as weeks/01_intro_depthwise")
    week = toml_files.read(Week, path, folder=path.resolve().parent)
    toml_files.check_line(week.title, f"{path}: title")
    _check_minutes(week, path)
    _check_exercises(week, path)
    return week


def _check_minutes(week: Week, path: Path) -> None:
    for number, hour in enumerate(week.hours, 1):
        for place, part in enumerate(hour.parts, 1):
            if part.minutes <= 0:
                raise StudyError(f"{path}: hours[{number}].parts[{place}].minutes is {part.minutes}, expected above 0")
        total = sum(part.minutes for part in hour.parts)
        if total != hour.minutes:
            raise StudyError(
                f"{path}: hours[{number}] ({hour.title}) says minutes = {hour.minutes}, its parts add up to {total}"
            )
    total = sum(hour.minutes for hour in week.hours)
    if total != MEETING_MINUTES:
        raise StudyError(f"{path}: the hours add up to {total} minutes, a meeting has {MEETING_MINUTES}")


def headings(source: Path) -> list[str]:
    """The headings of a notebook, from its .py source; none where there is no such file."""
    if not source.is_file():
        return []
    return re.findall(r"^# #+ +(.+?) *$", files.text(source), re.MULTILINE)


def _check_exercises(week: Week, path: Path) -> None:
    seen: list[str] = []
    for number, hour in enumerate(week.hours, 1):
        for place, part in enumerate(hour.parts, 1):
            for name in part.exercises:
                where = f"{path}: hours[{number}].parts[{place}].exercises has {name!r}"
                if name not in week.exercises:
                    raise StudyError(f"{where}, which is not among the week's exercises{near(name, week.exercises)}")
                if name in seen:
                    raise StudyError(f"{where}, which another part has already")
                seen.append(name)
