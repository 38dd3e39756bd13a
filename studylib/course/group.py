"""The group that runs the course now: its people, and when and where it meets, as group.toml says."""

import datetime
import re
from dataclasses import dataclass, field
from pathlib import Path

from studylib.course import toml_files, topic
from studylib.errors import StudyError

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
HANDLE = re.compile(r"[A-Za-z0-9](?:-?[A-Za-z0-9])*")


@dataclass(frozen=True)
class Participant:
    """A member of the group; `github` is the handle, without @, that .github/CODEOWNERS needs."""

    name: str
    github: str = ""


@dataclass(frozen=True)
class Group:
    """What group.toml says of the group that runs the course now.

    hours: what each of the three hours is for. start and weekday: the first meeting is on the first `weekday` on or
    after `start`; both are missing as long as nothing is planned. time: when a meeting begins, local time.
    repository: the course's address on GitHub, which the notebooks' badges need; empty where there is none.
    """

    title: str
    description: str
    how: str
    hours: list[str]
    participants: list[Participant] = field(default_factory=list)
    start: datetime.date | None = None
    weekday: str = ""
    time: datetime.time | None = None
    place: str = ""
    link: str = ""
    repository: str = ""

    def first(self) -> datetime.date | None:
        """The day of the first meeting, as start and weekday have it."""
        if self.start is None:
            return None
        return self.start + datetime.timedelta((WEEKDAYS.index(self.weekday) - self.start.weekday()) % 7)


def load(path: Path) -> Group:
    """What a group.toml says. Raises StudyError or OSError naming file and field for whatever is wrong in it."""
    group = toml_files.read(Group, path)
    toml_files.check_line(group.title, f"{path}: title")
    if len(group.hours) != 3:
        raise StudyError(f"{path}: hours has {len(group.hours)} entries, a meeting has 3 hours")
    if group.weekday and group.weekday not in WEEKDAYS:
        raise StudyError(f"{path}: weekday is {group.weekday!r}, expected one of {', '.join(WEEKDAYS)}")
    if bool(group.weekday) != bool(group.start):
        missing = "start" if group.weekday else "weekday"
        raise StudyError(f"{path}: field {missing!r} is missing: dates follow from start and weekday together")
    if group.start:
        toml_files.check_day(group.start, f"{path}: start")
    if group.link:
        toml_files.check_link(group.link, f"{path}: link")
    for number, participant in enumerate(group.participants, 1):
        topic.check_name(participant.name, f"{path}: participants[{number}].name")
        if participant.github and not HANDLE.fullmatch(participant.github):
            raise StudyError(
                f"{path}: participants[{number}].github is {participant.github!r}, expected a handle without @"
            )
    toml_files.refuse_twins(path, "participants", [participant.name for participant in group.participants])
    return group
