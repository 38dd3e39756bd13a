"""Empties what belongs to one run of the course (claims, dates, people), so that another group can begin its own."""

import datetime
from collections.abc import Mapping
from pathlib import Path

import tomlkit

from studylib import files
from studylib.course import claims, toml_files, topic
from studylib.course.course import Course
from studylib.course.group import WEEKDAYS
from studylib.errors import StudyError

OF_A_RUN = ("participants", "start", "weekday", "time", "place", "link")


def changes(course: Course, title: str, start: datetime.date | None, participants: list[str]) -> dict[Path, str]:
    """The new text of every file that a new run changes. Nothing is written.

    group.toml loses participants, dates and places and gets those given; each week.toml loses its date, place, link
    and who does which part; each topic.toml its claim; .github/CODEOWNERS follows. Reading notes and notebooks stay.
    Raises StudyError for a name that can't be a person's, a title of more than a line, and a start in a year too far.
    """
    if title:
        toml_files.check_line(title, "--title")
    if start:
        toml_files.check_day(start, "--start")
    for name in participants:
        topic.check_name(name, "--participant")
    if twice := next((name for name in participants if participants.count(name) > 1), None):
        raise StudyError(f"--participant is {twice!r} twice")
    texts = {course.root / "group.toml": _group(course.root / "group.toml", title, start, participants)}
    for week in course.weeks:
        texts[week.folder / "week.toml"] = _week(week.folder / "week.toml")
    for each in course.topics:
        texts[each.file] = claims.without_claim(each.file) if each.claim else each.file.read_text(encoding="utf-8")
    owners = course.root / claims.CODEOWNERS
    if owners.is_file():
        texts[owners] = claims.CODEOWNERS_HEAD + "\n"
    return {path: text for path, text in texts.items() if path.read_text(encoding="utf-8") != text}


def write(root: Path, texts: Mapping[Path, str]) -> None:
    """Replace the files, each in one step. Cut off in between, the same command goes on from there.

    group.toml is without dates meanwhile, and gets its new ones last: beside them, or the old ones, a meeting that has
    still a date of its own could be out of order, and the course would not load.
    """
    group = root / "group.toml"
    last = texts.get(group, group.read_text(encoding="utf-8"))
    document = toml_files.document(group)
    for name in ("start", "weekday"):
        document.pop(name, None)
    files.replace(group, tomlkit.dumps(document))
    for path, text in texts.items():
        if path != group:
            files.replace(path, text)
    files.replace(group, last)


def _group(path: Path, title: str, start: datetime.date | None, participants: list[str]) -> str:
    document = toml_files.document(path)
    kept = {"start": start, "weekday": WEEKDAYS[start.weekday()]} if start else {}
    for name in OF_A_RUN:
        if name not in kept:
            document.pop(name, None)
    if title:
        document["title"] = title
    for name, value in kept.items():
        document[name] = value  # keeps its place; the comment on the old value goes
        document[name].trivia.comment = document[name].trivia.comment_ws = ""
    if participants:
        people = tomlkit.aot()
        for name in participants:
            people.append(tomlkit.item({"name": name}))
        document["participants"] = people
    return tomlkit.dumps(document)


def _week(path: Path) -> str:
    document = toml_files.document(path)
    for name in ("date", "place", "link"):
        document.pop(name, None)
    for hour in document["hours"]:
        for part in hour["parts"]:
            part.pop("who", None)
    return tomlkit.dumps(document)
