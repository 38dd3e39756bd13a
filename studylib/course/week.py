"""Reads a meeting's week.toml and shows it as a run sheet, so that nobody adds up minutes by hand."""

import html
import tomllib
import types
import typing
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

MEETING_MINUTES = 180


@dataclass(frozen=True)
class Part:
    """One line of the run sheet; `section` is the heading in the notebook that it goes through."""

    minutes: int
    what: str
    section: str = ""
    who: str = ""


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


@dataclass(frozen=True)
class Week:
    """A meeting as week.toml describes it. Printed or shown in a notebook it is the run sheet."""

    number: int
    title: str
    hours: list[Hour]
    topics: list[str]
    readings: list[Reading]
    discussion: list[str] = field(default_factory=list)

    def rows(self) -> list[tuple[str, int, str, str, str]]:
        """The run sheet: (start as h:mm from the beginning, minutes, what, section, who) for every part."""
        rows, start = [], 0
        for part in (part for hour in self.hours for part in hour.parts):
            rows.append((f"{start // 60}:{start % 60:02d}", part.minutes, part.what, part.section, part.who))
            start += part.minutes
        return rows

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

    Raises FileNotFoundError without that file, and ValueError naming file and field where it is not TOML,
    lacks a field, has an unknown one or one of the wrong type, or where minutes do not add up.
    """
    path = Path(folder) / "week.toml"
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}: give the folder of a meeting, such as weeks/01_intro_depthwise")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid TOML: {error}") from None
    week: Week = _build(Week, table, str(path), "")
    _check_minutes(week, path)
    return week


def _check_minutes(week: Week, path: Path) -> None:
    for number, hour in enumerate(week.hours, 1):
        for place, part in enumerate(hour.parts, 1):
            if part.minutes <= 0:
                raise ValueError(f"{path}: hours[{number}].parts[{place}].minutes is {part.minutes}, expected above 0")
        total = sum(part.minutes for part in hour.parts)
        if total != hour.minutes:
            raise ValueError(
                f"{path}: hours[{number}] ({hour.title}) says minutes = {hour.minutes}, its parts add up to {total}"
            )
    total = sum(hour.minutes for hour in week.hours)
    if total != MEETING_MINUTES:
        raise ValueError(f"{path}: the hours add up to {total} minutes, a meeting has {MEETING_MINUTES}")


def _build(kind: Any, value: Any, path: str, where: str) -> Any:
    """`value` from TOML as `kind`: a dataclass, list[...] or plain type. `where` names the field in messages."""
    if typing.get_origin(kind) is list:
        if not isinstance(value, list):
            raise ValueError(f"{path}: {where} is {value!r}, expected a list")
        (item,) = typing.get_args(kind)
        return [_build(item, entry, path, f"{where}[{number}]") for number, entry in enumerate(value, 1)]
    if not (isinstance(kind, type) and is_dataclass(kind)):
        if type(value) is not kind:
            raise ValueError(f"{path}: {where} is {value!r}, expected {_name(kind)}")
        return value
    if type(value) is not dict:
        raise ValueError(f"{path}: {where} is {value!r}, expected a table")
    known = {entry.name: entry for entry in fields(kind)}
    inside = f" in {where}" if where else ""
    if unknown := sorted(value.keys() - known.keys()):
        raise ValueError(f"{path}: unknown field {unknown[0]!r}{inside}; known are {', '.join(known)}")
    needed = [n for n, entry in known.items() if entry.default is MISSING and entry.default_factory is MISSING]
    if missing := [name for name in needed if name not in value]:
        raise ValueError(f"{path}: field {missing[0]!r} is missing{inside}")
    types_of = typing.get_type_hints(kind)
    prefix = f"{where}." if where else ""
    return kind(**{name: _build(types_of[name], entry, path, prefix + name) for name, entry in value.items()})


def _name(kind: type | types.GenericAlias) -> str:
    return {"int": "a whole number", "str": "a text in quotes"}.get(getattr(kind, "__name__", ""), str(kind))
