"""What JupyterLab opens on: a page with the next meeting, the schedule and one's own exercises, made anew at each start.

It is weeks/START.md, so that the file browser opens at the weeks. Beside it, in build/lab/, each week with exercises
has a workspace: JupyterLab shows its notebook at the left and its exercises at the right.
"""

import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studylib import files, kernels
from studylib.course import meeting, tables
from studylib.course.course import Course
from studylib.course.week import Week
from studylib.kernels import stubs

FOLDERS = "build/lab"
COMMANDS = """\
In a terminal (File, New, Terminal): `study check NAME` judges an exercise, `study hint NAME` helps, `study claim TOPIC`
takes a topic, `study update` brings what is new in the course, `study --help` lists the rest. This page is made by
`make lab`."""


def write(course: Course, person: str, verdicts: Mapping[str, str], now: datetime.datetime) -> Path:
    """Write the page and the workspaces of the course, and return the page's path.

    verdicts: by exercise, what was last said of one's own file ("passed", "failed").
    """
    (course.root / FOLDERS).mkdir(parents=True, exist_ok=True)
    for week in course.weeks:
        if week.exercises and _notebook(week):
            text = json.dumps(workspace(week), indent=1)
            files.replace(course.root / FOLDERS / f"{week.name}.jupyterlab-workspace", text)
    path = course.root / "weeks" / "START.md"
    files.replace(path, page(course, person, verdicts, now))
    return path


def page(course: Course, person: str, verdicts: Mapping[str, str], now: datetime.datetime) -> str:
    """The page as Markdown; its links are relative to weeks/."""
    parts = [f"# {course.group.title}", *_meeting(course, now), "## Schedule", _schedule(course, now)]
    parts += _topics(course, person)
    parts += ["## My exercises", *(_exercises(course, week, verdicts) for week in course.weeks if week.exercises)]
    parts += ["---", COMMANDS]
    return "\n\n".join(part for part in parts if part) + "\n"


def workspace(week: Week) -> dict[str, Any]:
    """JupyterLab's layout for a week: the notebook left, its exercises as tabs right.

    The notebook is the participants' where the week has gaps. The file browser stands at its folder and is closed, so that both have room on a screen 1280 wide.
    """
    notebook = meeting.opened(week.folder.parents[1], week.name)
    exercises = [f"exercises/{week.name}/{name}.py" for name in week.exercises]
    areas = [[f"notebook:{notebook}"], [f"editor:{path}" for path in exercises]]
    tabs = [{"type": "tab-area", "currentIndex": 0, "widgets": area} for area in areas]
    dock = {"type": "split-area", "orientation": "horizontal", "sizes": [0.58, 0.42], "children": tabs}
    data: dict[str, Any] = {
        "layout-restorer:data": {
            "main": {"dock": dock, "current": areas[0][0]},
            # JupyterLab opens whatever is "current", collapsed or not.
            "left": {"collapsed": True, "visible": True, "widgets": ["filebrowser"]},
            "right": {"collapsed": True, "visible": True, "widgets": []},
        },
        "file-browser-filebrowser:cwd": {"path": notebook.rpartition("/")[0]},
        areas[0][0]: {"data": {"path": notebook, "factory": "Notebook"}},
    }
    data |= {f"editor:{path}": {"data": {"path": path, "factory": "Editor"}} for path in exercises}
    return {"data": data, "metadata": {"id": week.name}}


def _meeting(course: Course, now: datetime.datetime) -> list[str]:
    """Today's meeting or the next; where none is ahead, the first week, for those who read alone."""
    today, week = now.date(), course.next(now.date())
    if week is None:
        first = course.weeks[0] if course.weeks else None
        return [tables.no_meeting_ahead(course), f"Week {first.number}: {_links(first)}" if first else ""]
    date = course.date(week)
    when = "Today" if date == today else "Next meeting"
    place, link = course.place(week), course.link(week)
    facts = [tables.day(date), place, f"[video call]({link})" if link else ""]
    lines = [f"## {when}: week {week.number}, {week.title}", ", ".join(fact for fact in facts if fact), _links(week)]
    topics = [f"- Hour {t.hour}: {t.title} ({tables.presenters(t, now)})" for t in course.topics_of(week)]
    return [*lines, "\n".join(topics)]


def _schedule(course: Course, now: datetime.datetime) -> str:
    coming = course.next(now.date())
    rows = ["| week | date | meeting | open |", "|---|---|---|---|"]
    for week in course.weeks:
        cells = [str(week.number), tables.day(course.date(week)), week.title.replace("|", r"\|"), _links(week)]
        rows.append(
            "| "
            + " | ".join(f"**{cell}**" if week is coming and cell is not cells[3] else cell for cell in cells)
            + " |"
        )
    return "\n".join(rows)


def _topics(course: Course, person: str) -> list[str]:
    """The topics that `person` has claimed, each with what is left to answer."""
    lines = []
    for topic in course.topics:
        if topic.claim and person in topic.claim.people:
            answered, asked = topic.answered()
            notes = f"{topic.week}/{topic.name}/notes.md"
            lines.append(
                f"- Week {int(topic.week[:2])}, [{topic.title}]({notes}): {answered} of {asked} questions answered"
            )
    return ["## My topics", "\n".join(lines)] if lines else []


def _exercises(course: Course, week: Week, verdicts: Mapping[str, str]) -> str:
    """The week's exercises with where one's own file stands."""
    passed, gaps = meeting.progress(course.root).get(week.name, (0, 0))
    filled = (
        f", {passed} of {gaps} gaps of its [notebook](../{meeting.opened(course.root, week.name)}) filled"
        if gaps
        else ""
    )
    rows = [f"**Week {week.number}**{filled}", "", "| exercise | what | minutes | mine |", "|---|---|---|---|"]
    for name in week.exercises:
        exercise = kernels.load(name)
        file = f"exercises/{week.name}/{name}.py"
        state = _state(course.root / file, verdicts.get(name, ""))
        rows.append(f"| [{name}](../{file}) | {exercise.title} | {exercise.minutes} | {state} |")
    return "\n".join(rows)


def _state(file: Path, verdict: str) -> str:
    if not file.is_file():
        return "the file is missing: `study exercises build`"
    if stubs.is_untouched(file.read_text(encoding="utf-8", errors="replace")):
        return "–"
    return {"passed": "✓ passed", "failed": "✗ not yet"}.get(verdict, "begun")


def _links(week: Week) -> str:
    if not _notebook(week):
        return ""
    found = f"[notebook](../{meeting.opened(week.folder.parents[1], week.name)})"
    if not week.exercises:
        return found
    return f"{found}, [with its exercises](../{FOLDERS}/{week.name}.jupyterlab-workspace)"


def _notebook(week: Week) -> bool:
    return (week.folder / f"{week.name}.ipynb").is_file()
