"""Who presents which topic: claim, release, and the lapse after two weeks in which nobody touched the topic's folder.

A claim is a table of its topic's topic.toml and nothing else, so that git merges claims of different topics and stops
at two of the same. What a claim rests on, the last change of the folder, is asked of git each time.
"""

import datetime
import subprocess
from dataclasses import dataclass
from pathlib import Path

import tomlkit

from studylib import files
from studylib.course import toml_files, topic
from studylib.course.course import Course
from studylib.course.topic import Topic
from studylib.errors import StudyError

HELD = datetime.timedelta(weeks=2)
DAY = datetime.timedelta(days=1)  # by which two people's dates may differ although both clocks are right
CODEOWNERS = Path(".github", "CODEOWNERS")
CODEOWNERS_HEAD = "# Whom GitHub asks to review a topic's folder. Made from the claims by `study claims --codeowners`."


@dataclass(frozen=True)
class Standing:
    """Where a claim stands: the last change of its folder, the last day on which it holds, and whether that is over."""

    changed: datetime.date
    until: datetime.date
    lapsed: bool


def standing(claimed: Topic, now: datetime.datetime) -> Standing | None:
    """Where the claim of a topic stands at `now` (with a time zone); None where nobody has claimed it.

    The folder's last change is its last commit on any branch known here, or the claim itself. Raises StudyError
    without git, and where the claim lies in the future.
    """
    if claimed.claim is None:
        return None
    today = now.date()
    if claimed.claim.date > today + DAY:
        raise StudyError(
            f"{claimed.file}: claim.date is {claimed.claim.date}, and today is {today}: correct the date, "
            "or the clock of this machine"
        )
    answer = _git(claimed.folder, "log", "-1", "--format=%ct", "HEAD", "--branches", "--remotes", "--", ".")
    committed = _day(answer, now) if answer else claimed.claim.date
    changed = max(claimed.claim.date, min(committed, today))  # a commit's clock may have been wrong too
    return Standing(changed, changed + HELD, today > changed + HELD)


def claim(course: Course, name: str, person: str, now: datetime.datetime, second: str = "") -> str:
    """Write into the topic's file that `person` presents it, with `second`; returns what was done, in words.

    Raises StudyError, and writes nothing, where the topic is somebody's whose claim holds, for a name that can't be a
    person's, without git, and where the clock is behind the last commit.
    """
    chosen = course.topic(name)
    _check_people(person, second)
    _check_clock(course.root, now)
    held, state = chosen.claim, standing(chosen, now)
    if held and state and not state.lapsed:
        until = f"until {state.until}, and longer with each change of its folder"
        if person not in held.people:
            share = f"{held.owner} may share it (study claim {name} --with {_quoted(person)}) or release it"
            raise StudyError(
                f"{name} is {_people(held)}'s {until}; {'one of them may release it' if held.second else share}"
            )
        other = next((who for who in held.people if who != person), "")
        if not second or second == other:
            raise StudyError(f"{name} is yours already, {f'with {other}, ' if other else ''}{until}")
        if other:
            raise StudyError(f"{name} is shared with {other} already: a topic has an owner and a second")
        _write(chosen, topic.Claim(person, held.date, second))
        return f"{second} shares {name} with {person}"
    _write(chosen, topic.Claim(person, now.date(), second))
    before = f"; the claim of {_people(held)} had lapsed after {state.until}" if held and state else ""
    shared = f" with {second}" if second else ""
    return f"{person} presents {name} (week {course.week(chosen.week).number}){shared}{before}"


def release(course: Course, name: str, person: str, now: datetime.datetime) -> str:
    """Take `person` out of the topic's claim; where two share it the other one stays, as the owner.

    A lapsed claim anybody may release. Raises StudyError where nobody has it, or somebody else.
    """
    chosen = course.topic(name)
    _check_people(person, "")
    held, state = chosen.claim, standing(chosen, now)
    if held is None or state is None:
        raise StudyError(f"nobody has claimed {name}")
    if person in held.people:
        stays = next((other for other in held.people if other != person), "")
        _write(chosen, topic.Claim(stays, held.date) if stays else None)
        return f"{person} has released {name}" + (f"; {stays} goes on alone" if stays else "")
    if not state.lapsed:
        raise StudyError(f"{name} is {_people(held)}'s until {state.until}, not {person}'s: only they can release it")
    _write(chosen, None)
    return f"{name} is free; the claim of {_people(held)} had lapsed after {state.until}"


def git_name(root: Path) -> str:
    """user.name of git's configuration. Raises StudyError without git, or without the name."""
    _git(root, "rev-parse", "--git-dir")
    name = _git(root, "config", "--default", "", "user.name")
    if not name:
        raise StudyError('git has no name for you: git config user.name "Ada Lovelace", or give --name')
    return name


def has_git(folder: Path) -> bool:
    """Whether git can be asked about `folder`; the notebooks and the site do without."""
    try:
        return bool(_git(folder, "log", "-1", "--format=%ct"))
    except ValueError:
        return False


def is_shallow(root: Path) -> bool:
    """Whether this clone lacks the history that a lapse is computed from (git clone --depth)."""
    return _git(root, "rev-parse", "--is-shallow-repository") == "true"


def codeowners(course: Course) -> str:
    """The text of .github/CODEOWNERS: each claimed folder with the handles, as group.toml has them, of its people.

    A claim counts until somebody else has taken over, lapsed or not: the file would change by itself else.
    """
    handles = {participant.name: participant.github for participant in course.group.participants}
    lines = [CODEOWNERS_HEAD]
    for claimed in course.topics:
        if claimed.claim is None:
            continue
        folder = f"/weeks/{claimed.week}/{claimed.name}/"
        known = [handle for person in claimed.claim.people if (handle := handles.get(person))]
        if known:
            lines.append(" ".join([folder, *(f"@{handle}" for handle in known)]))
        missing = [person for person in claimed.claim.people if not handles.get(person)]
        lines += [f"# {folder} {person}: no github in group.toml" for person in missing]
    return "\n".join(lines) + "\n"


def write_codeowners(course: Course) -> bool:
    """Write .github/CODEOWNERS; True where that changed it."""
    path = course.root / CODEOWNERS
    text = codeowners(course)
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return False
    path.parent.mkdir(exist_ok=True)
    files.replace(path, text)
    return True


def without_claim(path: Path) -> str:
    """The text of a topic.toml without its claim."""
    document = toml_files.document(path)
    document.pop("claim", None)
    return tomlkit.dumps(document).rstrip() + "\n"


def _write(chosen: Topic, new: topic.Claim | None) -> None:
    text = without_claim(chosen.file)
    if new is not None:
        document = tomlkit.parse(text + "\n")
        table = tomlkit.table()
        table.update({"owner": new.owner} | ({"second": new.second} if new.second else {}) | {"date": new.date})
        document["claim"] = table
        text = tomlkit.dumps(document)
    files.replace(chosen.file, text)


def _check_people(person: str, second: str) -> None:
    topic.check_name(person, "the name")
    if second:
        topic.check_name(second, "the name of the second")
    if person == second:
        raise StudyError(f"the name and the second's are both {person!r}: leave out --with, or name somebody else")


def _check_clock(root: Path, now: datetime.datetime) -> None:
    """A claim of a wrong date would hold for years or not at all. Raises StudyError without git, or without a commit."""
    answer = _git(root, "log", "-1", "--format=%ct")
    if (last := _day(answer, now)) > now.date() + DAY:
        raise StudyError(
            f"this machine's clock says {now.date()}, and the last commit is of {last}: set the clock; "
            "if that commit is the wrong one, make another first"
        )


def _day(answer: str, now: datetime.datetime) -> datetime.date:
    """The day of a commit, from its seconds since 1970, where `now` is."""
    return datetime.datetime.fromtimestamp(int(answer), now.tzinfo).date()


def _people(held: topic.Claim) -> str:
    return " and ".join(held.people)


def _quoted(name: str) -> str:
    """As a shell takes it for one word: a name has nothing in it that quotes would not keep."""
    return name if name.isalnum() else f'"{name}"'


def _git(folder: Path, *arguments: str, check: bool = True) -> str:
    """What git answers, in one line. Raises StudyError where there is no git, or no repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, encoding="utf-8", errors="replace", check=False
        )
    except FileNotFoundError:
        raise StudyError("there is no program git on this machine: install it, claims rest on its history") from None
    if done.returncode and check:
        reason = done.stderr.strip().splitlines()[:1]
        raise StudyError(
            f"{folder} is in no git repository that can be read ({''.join(reason)}): claims rest on its history, "
            "so get the course with git clone, or begin with git init and a commit"
        )
    return done.stdout.strip() if not done.returncode else ""
