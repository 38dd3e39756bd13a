"""The course as a whole: group.toml, the weeks with their topics, the reading list; everything shown is made of it.

    from studylib import course
    everything = course.load()
    for week in everything.weeks:
        print(week.number, everything.date(week), [topic.title for topic in everything.topics_of(week)])

The dates of a first run long past are dates like others: what "today" is, is always said by the caller.
"""

import datetime
import re
from dataclasses import dataclass
from pathlib import Path

from studylib import files, kernels, ledger, words
from studylib.course import toml_files, topic, week
from studylib.course.group import Group
from studylib.course.group import load as load_group
from studylib.course.readings import Paper
from studylib.course.readings import load as load_readings
from studylib.course.topic import Topic
from studylib.course.week import Week
from studylib.errors import StudyError, near

WEEK_NAME = re.compile(r"(\d\d)_[a-z][a-z0-9_]*")


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
        """The week that `words.weeks` finds. Raises StudyError with the weeks there are."""
        names = [w.name for w in self.weeks]
        if len(found := words.weeks(name, names)) == 1:
            return self.weeks[names.index(found[0])]
        raise StudyError(f"there is no week {name!r}{near(name, names)}\nweeks: {', '.join(names)}")

    def topic(self, name: str) -> Topic:
        """The topic of that folder's name. Raises StudyError with the one that was probably meant."""
        names = [t.name for t in self.topics]
        if name not in names:
            raise StudyError(f"there is no topic {name!r}{near(name, names)}\ntopics: {', '.join(names)}")
        return self.topics[names.index(name)]

    def paper(self, key: str) -> Paper:
        keys = [p.key for p in self.papers]
        if key not in keys:
            raise StudyError(f"there is no paper {key!r} in readings.toml{near(key, keys)}")
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
        """The first meeting that is today or later; None if none is left or no dates are set."""
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
        rows = ledger.claimed(of.key, self.root / "studylib" / "ledger")
        good, computed = ledger.coming_out(rows)
        return PaperState(
            claimed=any(t.claim for t in topics),
            read=any(given == asked > 0 for given, asked in answers),
            derived=any(of.section in week.headings(self.root / "weeks" / t.week / f"{t.week}.py") for t in topics),
            checked=good > 0,
            reproduced=(good, computed, len(rows)),
        )


def load(root: Path | None = None) -> Course:
    """The course whose files lie under `root`; this repository's where none is given.

    Raises StudyError or OSError naming file and field for whatever in the files is wrong or does not go together.
    """
    root = Path(root or files.ROOT)
    group = load_group(root / "group.toml")
    folders = {path.parent for path in (root / "weeks").glob("*/week.toml")}
    folders |= {path.parents[1] for path in (root / "weeks").glob("*/*/topic.toml")}  # a week.toml may be missing
    weeks = sorted((week.load(folder) for folder in folders), key=lambda w: w.number)
    topics = [t for w in weeks for t in _topics(w)]
    course = Course(root, group, weeks, topics, load_readings(root / "readings.toml"))
    _check_topics(course)
    _check_weeks(course)
    return course


def _topics(of: Week) -> list[Topic]:
    """The topics in a week's folder, in the order of its week.toml; what that does not name comes last."""
    found = [topic.load(path.parent) for path in sorted(of.folder.glob("*/topic.toml"))]
    return sorted(found, key=lambda t: of.topics.index(t.name) if t.name in of.topics else len(of.topics))


def _check_topics(course: Course) -> None:
    keys = [paper.key for paper in course.papers]
    for t in course.topics:
        for key in t.papers:
            if key not in keys:
                raise StudyError(f"{t.file}: papers has {key!r}, which is not in readings.toml{near(key, keys)}")
    for t in course.topics:
        if twin := next((other for other in course.topics if other.name == t.name and other is not t), None):
            raise StudyError(f"{twin.file}: there is a topic {t.name!r} in {t.week} already: rename the folder")


def _check_weeks(course: Course) -> None:
    for w in course.weeks:
        path = w.folder / "week.toml"
        match = WEEK_NAME.fullmatch(w.name)
        if not match or int(match[1]) != w.number:
            raise StudyError(
                f"{path}: number is {w.number}, and the folder is {w.name!r}, expected {w.number:02d}_name"
            )
        own = [t.name for t in course.topics if t.week == w.name]
        for name in w.topics:
            if name not in own:
                raise StudyError(f"{path}: topics has {name!r}, and {w.name} has no such folder with a topic.toml"
                                 f"{near(name, own)}")  # fmt: skip
        if missing := [name for name in own if name not in w.topics]:
            raise StudyError(f"{path}: topics has no {missing[0]!r}, which is a folder with a topic.toml here")
        toml_files.refuse_twins(path, "topics", w.topics)
        known = kernels.names(w.name)
        for name in w.exercises:
            if name not in known:
                raise StudyError(
                    f"{path}: exercises has {name!r}, which is not in exercises/{w.name}{near(name, known)}"
                )
        if w.date:
            toml_files.check_day(w.date, f"{path}: date")
        if w.link:
            toml_files.check_link(w.link, f"{path}: link")
        for number, reading in enumerate(w.readings, 1):
            toml_files.check_link(reading.link, f"{path}: readings[{number}].link")
    for before, after in zip(course.weeks, course.weeks[1:], strict=False):
        path = after.folder / "week.toml"
        if before.number == after.number:
            raise StudyError(f"{path}: number is {after.number}, as in {before.name}")
        days = course.date(before), course.date(after)
        if days[0] and days[1] and days[1] <= days[0]:
            raise StudyError(
                f"{path}: date is {days[1]}, which is not after {days[0]} of {before.name}; give it another"
            )
