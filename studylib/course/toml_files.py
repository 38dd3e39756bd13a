"""Reads the course's TOML files into dataclasses, strictly."""

import re
import tomllib
import types
import typing
from dataclasses import MISSING, fields, is_dataclass
from datetime import date, time
from pathlib import Path
from typing import Any, TypeVar

import tomlkit
from tomlkit.exceptions import TOMLKitError

from studylib.errors import StudyError

KINDS = {int: "a whole number", str: "a text in quotes", date: "a date such as 2018-01-06, without quotes"}
KINDS |= {time: "a time such as 17:30:00, without quotes"}

T = TypeVar("T")


def read(kind: type[T], path: Path, **given: Any) -> T:
    """The file at `path` as the dataclass `kind`; `given` are fields that follow from its place, not from its text.

    Raises StudyError naming file and field where the file is not TOML, lacks a field, has an unknown one or one of the
    wrong type; OSError where it can't be read.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _not_toml(path, error) from None
    return _build(kind, table, str(path), "", given)


def document(path: Path) -> tomlkit.TOMLDocument:
    """The file at `path` to be edited: what is not touched, comments included, stays as it is."""
    try:
        return tomlkit.parse(path.read_text(encoding="utf-8"))
    except (TOMLKitError, UnicodeDecodeError) as error:
        raise _not_toml(path, error) from None


def check_line(line: str, where: str, longest: int = 200) -> None:
    """Raises StudyError, which begins with `where`, unless `line` can be a title: tables and lists show it in one line."""
    if not line.isprintable() or not line.strip() or len(line) > longest:
        raise StudyError(f"{where} is {line!r}, expected one line of at most {longest} letters")


def check_day(day: date, where: str) -> None:
    """Raises StudyError, which begins with `where`, for a year mistyped so that weeks can't be added to it."""
    if day.year >= 3000:
        raise StudyError(f"{where} is {day}, expected a day before the year 3000")


def check_link(link: str, where: str) -> None:
    """Raises StudyError, which begins with `where`, unless `link` is an address on the web."""
    if not re.match(r"https?://\S+$", link):
        raise StudyError(f"{where} is {link!r}, expected an address that begins with https://")


def refuse_twins(path: Path, where: str, names: list[str]) -> None:
    """Raises StudyError for a name that stands twice in the list `where` of a file."""
    for number, name in enumerate(names, 1):
        if names.index(name) + 1 != number:
            raise StudyError(f"{path}: {where}[{number}] is {name!r}, as {where}[{names.index(name) + 1}] is already")


def _not_toml(path: Path, error: Exception) -> StudyError:
    """What to say of a file that is not TOML; two claims of a topic end in a merge conflict, and that is called one."""
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if line.startswith(b"<<<<<<< "):
            return StudyError(
                f"{path} is not valid TOML: line {number} begins a merge conflict, two branches changed it: "
                "keep one side, delete the other and the marks, then git add this file and git commit"
            )
    return StudyError(f"{path} is not valid TOML: {error}")


def _build(kind: Any, value: Any, path: str, where: str, given: dict[str, Any] | None = None) -> Any:
    """`value` from TOML as `kind`: a dataclass, list[...], X | None or a plain type. `where` names it in messages."""
    if typing.get_origin(kind) is types.UnionType:
        (kind,) = (choice for choice in typing.get_args(kind) if choice is not types.NoneType)  # TOML has no null
    if typing.get_origin(kind) is list:
        if not isinstance(value, list):
            raise StudyError(f"{path}: {where} is {value!r}, expected a list")
        (item,) = typing.get_args(kind)
        return [_build(item, entry, path, f"{where}[{number}]") for number, entry in enumerate(value, 1)]
    if not (isinstance(kind, type) and is_dataclass(kind)):
        if type(value) is not kind:
            raise StudyError(f"{path}: {where} is {_shown(value)}, expected {KINDS.get(kind, kind)}")
        return value
    if type(value) is not dict:
        raise StudyError(f"{path}: {where} is {value!r}, expected a table")
    given = given or {}
    known = {entry.name: entry for entry in fields(kind) if entry.name not in given}
    inside = f" in {where}" if where else ""
    if unknown := sorted(value.keys() - known.keys()):
        raise StudyError(f"{path}: unknown field {unknown[0]!r}{inside}; known are {', '.join(known)}")
    needed = [n for n, entry in known.items() if entry.default is MISSING and entry.default_factory is MISSING]
    if missing := [name for name in needed if name not in value]:
        raise StudyError(f"{path}: field {missing[0]!r} is missing{inside}")
    types_of = typing.get_type_hints(kind)
    prefix = f"{where}." if where else ""
    built = {name: _build(types_of[name], entry, path, prefix + name) for name, entry in value.items()}
    return kind(**built, **given)


def _shown(value: Any) -> str:
    return str(value) if isinstance(value, date | time) else repr(value)
