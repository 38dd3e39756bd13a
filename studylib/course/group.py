"""The course as a whole: group.toml, the weeks with their topics, the reading list; everything shown is made of it.

    from studylib import course
    everything = course.load()
    for week in everything.weeks:
        print(week.number, everything.date(week), [topic.title for topic in everything.topics_of(week)])

The dates of a first run long past are dates like others: what "today" is, is always said by the caller.
"""

import datetime
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from studylib import files, kernels
from studylib.course import toml_files, topic, week
from studylib.course.topic import Topic
from studylib.course.week import Week

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
AREAS = ("compression", "designs", "segmentation", "search", "GPU", "theory")
WEEK_NAME = re.compile(r"(\d\d)_[a-z][a-z0-9_]*")
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
    repository: the course's address on GitHub, which the notebooks' badges need.
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


@dataclass(frozen=True)
class Paper:
    """An entry of readings.toml: a paper, or a page that stands for one. It has an arXiv number, links, or both.

    name: the short one. section: the heading, in the notebook of one of its topics, under which it is derived; empty
    where there is none. A test holds it against the notebook.
    """

    key: str
    name: str
    title: str
    area: str
    arxiv: str = ""
    links: list[str] = field(default_factory=list)
    section: str = ""

    @property
    def all_links(self) -> list[str]:
        return [f"https://arxiv.org/abs/{self.arxiv}", *self.links] if self.arxiv else self.links


@dataclass(frozen=True)
class Readings:
    papers: list[Paper]


@dataclass(frozen=True)
class PaperState:
    """Where a paper stands. Each is computed, and one does not follow from another.

    claimed: a topic that has it has an owner. read: that topic's notes answer all questions. derived: the notebook has
    the section that is named. checked: a row of its ledger file comes out as printed. reproduced: how many rows come out (cut
    off instead of rounded included), of how many that are computed, of how many that there are.
    """

    claimed: bool
    read: bool
    derived: bool
    checked: bool
    reproduced: tuple[int, int, int]


@dataclass(frozen=True)
class Course:
    """Everything that the course's files say, checked against each other. weeks: in the order of their numbers."""

    root: Path
    group: Group
    weeks: list[Week]
    topics: list[Topic]
    papers: list[Paper]

    def week(self, name: str) -> Week:
        """The week of that folder's name, number, or beginning. Raises ValueError with the weeks there are."""
        name = name.strip().rstrip("/").rpartition("/")[2]
        found = [w for w in self.weeks if name == w.name or (name.isdigit() and int(name) == w.number)]
        found = found or [w for w in self.weeks if name and w.name.startswith(name)]
        if len(found) == 1:
            return found[0]
        names = [w.name for w in self.weeks]
        raise ValueError(f"there is no week {name!r}{toml_files.near(name, names)}\nweeks: {', '.join(names)}")

    def topic(self, name: str) -> Topic:
        """The topic of that folder's name. Raises ValueError with the one that was probably meant."""
        names = [t.name for t in self.topics]
        if name not in names:
            raise ValueError(f"there is no topic {name!r}{toml_files.near(name, names)}\ntopics: {', '.join(names)}")
        return self.topics[names.index(name)]

    def paper(self, key: str) -> Paper:
        keys = [p.key for p in self.papers]
        if key not in keys:
            raise ValueError(f"there is no paper {key!r} in readings.toml{toml_files.near(key, keys)}")
        return self.papers[keys.index(key)]

    def topics_of(self, of: Week | Paper) -> list[Topic]:
        """A week's topics in the order of its week.toml, or the topics that have a paper."""
        if isinstance(of, Paper):
            return [t for t in self.topics if of.key in t.papers]
        return [self.topic(name) for name in of.topics]

    def date(self, of: Week) -> datetime.date | None:
        """The day of a meeting: its own date if it has one, else as many weeks after the first as its number says."""
        first = self.group.first()
        return of.date or (first and first + datetime.timedelta(weeks=of.number - 1))

    def next(self, today: datetime.date) -> Week | None:
        """The first meeting that is today or later; None where there is none, or where no dates are set."""
        return next((w for w in self.weeks if (day := self.date(w)) and day >= today), None)

    def this_week(self, today: datetime.date) -> Week | None:
        """The meeting in the week, Monday to Sunday, in which `today` is."""
        week = today.isocalendar()[:2]
        return next((w for w in self.weeks if (day := self.date(w)) and day.isocalendar()[:2] == week), None)

    def place(self, of: Week) -> str:
        return of.place or self.group.place

    def link(self, of: Week) -> str:
        return of.link or self.group.link

    def state(self, of: Paper) -> PaperState:
        """Where a paper stands today. The ledger's verdicts are those in its file, which the tests compute anew."""
        topics = self.topics_of(of)
        answers = [t.answered() for t in topics]
        rows = _verdicts(self.root / "studylib" / "ledger" / f"{of.key}.toml")
        good = sum(verdict in ("reproduces", "truncates") for verdict in rows)
        computed = good + rows.count("does not reproduce")
        return PaperState(
            claimed=any(t.claim for t in topics),
            read=any(given == asked > 0 for given, asked in answers),
            derived=any(of.section in headings(self.root / "weeks" / t.week / f"{t.week}.py") for t in topics),
            checked=good > 0,
            reproduced=(good, computed, len(rows)),
        )


def load(root: Path | None = None) -> Course:
    """The course whose files lie under `root`; this repository's where none is given.

    Raises ValueError or OSError naming file and field for whatever in the files is wrong or does not go together.
    """
    root = Path(root or files.ROOT)
    group = _group(root / "group.toml")
    folders = {path.parent for path in (root / "weeks").glob("*/week.toml")}
    folders |= {path.parents[1] for path in (root / "weeks").glob("*/*/topic.toml")}  # a week.toml may be missing
    weeks = sorted((week.load(folder) for folder in folders), key=lambda w: w.number)
    topics = [t for w in weeks for t in _topics(w)]
    readings = root / "readings.toml"
    course = Course(root, group, weeks, topics, toml_files.read(Readings, readings).papers)
    _check_papers(course, readings)
    _check_topics(course)
    _check_weeks(course)
    return course


def _topics(of: Week) -> list[Topic]:
    """The topics in a week's folder, in the order of its week.toml; what that does not name comes last."""
    found = [topic.load(path.parent) for path in sorted(of.folder.glob("*/topic.toml"))]
    return sorted(found, key=lambda t: of.topics.index(t.name) if t.name in of.topics else len(of.topics))


def _group(path: Path) -> Group:
    group = toml_files.read(Group, path)
    toml_files.check_line(group.title, f"{path}: title")
    if len(group.hours) != 3:
        raise ValueError(f"{path}: hours has {len(group.hours)} entries, a meeting has 3 hours")
    if group.weekday and group.weekday not in WEEKDAYS:
        raise ValueError(f"{path}: weekday is {group.weekday!r}, expected one of {', '.join(WEEKDAYS)}")
    if bool(group.weekday) != bool(group.start):
        missing = "start" if group.weekday else "weekday"
        raise ValueError(f"{path}: field {missing!r} is missing: dates follow from start and weekday together")
    if group.start:
        toml_files.check_day(group.start, f"{path}: start")
    if group.link:
        _check_link(group.link, f"{path}: link")
    for number, participant in enumerate(group.participants, 1):
        topic.check_name(participant.name, f"{path}: participants[{number}].name")
        if participant.github and not HANDLE.fullmatch(participant.github):
            raise ValueError(
                f"{path}: participants[{number}].github is {participant.github!r}, expected a handle without @"
            )
    _refuse_twins(path, "participants", [participant.name for participant in group.participants])
    return group


def _check_papers(course: Course, path: Path) -> None:
    for number, paper in enumerate(course.papers, 1):
        where = f"{path}: papers[{number}] ({paper.key})"
        if not topic.NAME.fullmatch(paper.key):
            raise ValueError(f"{where}: key has small letters, digits and _, such as mobilenet_v2")
        if paper.area not in AREAS:
            raise ValueError(f"{where}: area is {paper.area!r}, expected one of {', '.join(AREAS)}")
        if paper.arxiv and not re.fullmatch(r"\d{4}\.\d{4,5}", paper.arxiv):
            raise ValueError(f"{where}: arxiv is {paper.arxiv!r}, expected a number such as 1704.04861")
        if not paper.all_links:
            raise ValueError(f"{where}: has neither arxiv nor links, one of them is needed")
        for link in paper.links:
            _check_link(link, f"{where}: links")
    _refuse_twins(path, "papers", [paper.key for paper in course.papers])


def _check_topics(course: Course) -> None:
    keys = [paper.key for paper in course.papers]
    for t in course.topics:
        for key in t.papers:
            if key not in keys:
                raise ValueError(
                    f"{t.file}: papers has {key!r}, which readings.toml has not{toml_files.near(key, keys)}"
                )
    for t in course.topics:
        if twin := next((other for other in course.topics if other.name == t.name and other is not t), None):
            raise ValueError(f"{twin.file}: there is a topic {t.name!r} in {t.week} already: rename the folder")


def _check_weeks(course: Course) -> None:
    for w in course.weeks:
        path = w.folder / "week.toml"
        match = WEEK_NAME.fullmatch(w.name)
        if not match or int(match[1]) != w.number:
            raise ValueError(
                f"{path}: number is {w.number}, and the folder is {w.name!r}, expected {w.number:02d}_name"
            )
        own = [t.name for t in course.topics if t.week == w.name]
        for name in w.topics:
            if name not in own:
                raise ValueError(f"{path}: topics has {name!r}, and {w.name} has no such folder with a topic.toml"
                                 f"{toml_files.near(name, own)}")  # fmt: skip
        if missing := [name for name in own if name not in w.topics]:
            raise ValueError(f"{path}: topics has no {missing[0]!r}, which is a folder with a topic.toml here")
        _refuse_twins(path, "topics", w.topics)
        known = kernels.names(w.name)
        for name in w.exercises:
            if name not in known:
                raise ValueError(
                    f"{path}: exercises has {name!r}, and exercises/{w.name} has not{toml_files.near(name, known)}"
                )
        if w.date:
            toml_files.check_day(w.date, f"{path}: date")
        if w.link:
            _check_link(w.link, f"{path}: link")
        for number, reading in enumerate(w.readings, 1):
            _check_link(reading.link, f"{path}: readings[{number}].link")
    for before, after in zip(course.weeks, course.weeks[1:], strict=False):
        path = after.folder / "week.toml"
        if before.number == after.number:
            raise ValueError(f"{path}: number is {after.number}, as in {before.name}")
        days = course.date(before), course.date(after)
        if days[0] and days[1] and days[1] <= days[0]:
            raise ValueError(
                f"{path}: date is {days[1]}, which is not after {days[0]} of {before.name}; give it another"
            )


def headings(source: Path) -> list[str]:
    """The headings of a notebook, from its .py source; none where there is no such file."""
    if not source.is_file():
        return []
    return re.findall(r"^# #+ +(.+?) *$", files.text(source), re.MULTILINE)


def _check_link(link: str, where: str) -> None:
    if not re.match(r"https?://\S+$", link):
        raise ValueError(f"{where} is {link!r}, expected an address that begins with https://")


def _refuse_twins(path: Path, where: str, names: list[str]) -> None:
    for number, name in enumerate(names, 1):
        if names.index(name) + 1 != number:
            raise ValueError(f"{path}: {where}[{number}] is {name!r}, as {where}[{names.index(name) + 1}] is already")


def _verdicts(path: Path) -> list[str]:
    """Of each row of a ledger file; read as plain TOML, for studylib.ledger takes seconds to import torch."""
    if not path.is_file():
        return []
    return [row["verdict"] for row in tomllib.loads(path.read_text(encoding="utf-8")).get("row", [])]
