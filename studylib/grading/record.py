"""What a participant's own clone remembers: hints seen, solutions borrowed, and the last verdicts."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

from studylib import files
from studylib.errors import StudyError
from studylib.files import EXERCISES
from studylib.kernels import load

RECORD = EXERCISES / ".study.json"


def read(path: Path = RECORD) -> dict[str, Any]:
    """The record: 'hints' (shown so far), 'borrowed' (on which day) and 'verdicts', each by exercise.

    Raises StudyError for a file that has been edited into something else.
    """
    if not path.exists():
        return {"hints": {}, "borrowed": {}, "verdicts": {}}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {name: dict(found[name]) for name in ("hints", "borrowed", "verdicts")}
    except (ValueError, KeyError, TypeError):
        raise StudyError(
            f"{path.name} cannot be read: delete it, and only hints and borrowed solutions are forgotten"
        ) from None


def write(record: dict[str, Any], path: Path = RECORD) -> None:
    """Replaces the record."""
    files.replace(path, json.dumps(record, indent=1, sort_keys=True) + "\n")


def next_hint(name: str, path: Path = RECORD) -> tuple[tuple[str, ...], int]:
    """(the hints seen, with the next one; how many there are). Raises StudyError if there is no such exercise."""
    hints, record = load(name).hints, read(path)
    seen = min(int(record["hints"].get(name, 0)) + 1, len(hints))
    record["hints"][name] = seen
    write(record, path)
    return hints[:seen], len(hints)


def borrow(name: str, path: Path = RECORD) -> str:
    """The solution, and a note in the record that it was looked at. Raises StudyError if there is no such exercise."""
    text = load(name).text
    record = read(path)
    record["borrowed"].setdefault(name, datetime.date.today().isoformat())
    write(record, path)
    return text
