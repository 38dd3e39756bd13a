"""Writes what a grading found: grades.csv, report.html with a page a participant, and JUnit XML."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace as changed
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

from jinja2 import Environment
from markupsafe import Markup

from studylib import files, kernels
from studylib.files import EXERCISES
from studylib.grading.card import page
from studylib.grading.hand_ins import MARKER, file_names
from studylib.grading.results import Grade, forget
from studylib.grading.verdict import FAILED, MARKS, MISSING, NOT_ATTEMPTED, PASSED, display_path
from studylib.words import counted

COLUMNS = ("participant", "week", "exercise", "state", "stage", "reason", "is_reference", "code")
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse } td, th { padding: .2rem .6rem; border-bottom: 1px solid #ddd; vertical-align: top }
th { text-align: left } td.mark { text-align: center; font-weight: bold } .passed { color: #00795c } .failed { color: #c0392b }
.wide { overflow-x: auto } th.name { writing-mode: vertical-rl; transform: rotate(180deg); font-weight: normal }
section { margin: 2.5rem 0 } img { max-width: 100% } small { color: #666 }
"""
PAGES = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
OVERVIEW = PAGES.from_string("""<!doctype html><html lang="en"><meta charset="utf-8"><title>Grades</title>
<meta name="viewport" content="width=device-width"><style>{{ style }}</style>
<h1>Grades</h1>
<p>{{ participants }}, {{ exercises }}. ✓ passed, ✗ not yet, · not attempted, blank: not handed in,
? not handed in, but something lay there, ★ word for word the exercise's solution. Point at a mark for its reason.</p>
<div class="wide"><table><tr><th>participant</th><th>passed</th>
{% for name in names %}<th class="name">{{ name }}</th>{% endfor %}</tr>
{% for person, link, passed, cells in rows %}
<tr><td><a href="{{ link }}">{{ person }}</a></td><td>{{ passed }} of {{ names | length }}</td>
{% for mark, state, reason in cells %}<td class="mark {{ state }}" title="{{ reason }}">{{ mark }}</td>{% endfor %}</tr>
{% endfor %}</table></div></html>
""")
PERSON = PAGES.from_string("""<!doctype html><html lang="en"><meta charset="utf-8"><title>{{ person }}</title>
<meta name="viewport" content="width=device-width"><style>{{ style }}</style>
<p><a href="../report.html">all participants</a></p><h1>{{ person }}</h1>
{% for name, card, picture in cards %}<section id="{{ name }}">{{ card }}
{% if picture %}<img alt="what a warp touches at the costliest line" src="data:image/png;base64,{{ picture }}">{% endif %}
</section>{% else %}<p>Nothing handed in.</p>{% endfor %}
{% for name, why in missing %}<p><b>{{ name }}</b>: not handed in; {{ why }}</p>
{% endfor %}</html>
""")


def begin(out: Path) -> list[str]:
    """Marks a folder as one of gradings, so that it is never taken for a participant's; returns the pages that it has."""
    out.mkdir(parents=True, exist_ok=True)
    try:
        found = json.loads((out / MARKER).read_text(encoding="utf-8"))["pages"]
        pages = [name for name in found if Path(name).name == name and name.endswith(".html")]
    except (OSError, ValueError, KeyError, TypeError):
        pages = []
    files.replace(out / MARKER, json.dumps({"pages": pages}))
    return pages


def not_taken(grades: Sequence[Grade]) -> list[str]:
    """A line for each exercise that was not handed in though something lay there, and for all of one that say the same."""
    lines: dict[tuple[str, str], list[str]] = {}
    for grade in grades:
        if grade.state == MISSING and (why := _reason(grade)[1]):
            lines.setdefault((_clean(grade.participant), why), []).append(grade.verdict.exercise)
    few = {key: ", ".join(names) if len(names) < 4 else f"{len(names)} exercises" for key, names in lines.items()}
    return [f"{person}: {names} not handed in; {why}" for (person, why), names in few.items()]


def write(grades: Sequence[Grade], out: Path, folder: Path) -> list[Path]:
    """Writes the report of all grades into the folder `out`; returns the files that a facilitator opens.

    folder: of the submissions, which no page shows. Pages of an earlier grading that nobody has any more are removed.
    """
    stale = begin(out)
    (out / "participants").mkdir(exist_ok=True)
    grades = [_without_folders(grade, folder) for grade in grades]
    order = {name: i for i, name in enumerate(kernels.names())}
    grades = sorted(grades, key=lambda grade: (grade.participant, order[grade.verdict.exercise]))
    people: dict[str, list[Grade]] = {}
    for grade in grades:
        people.setdefault(grade.participant, []).append(grade)
    pages = file_names(people)
    for person, own in people.items():
        cards = [
            (grade.verdict.exercise, Markup(page(grade.verdict)), base64.b64encode(grade.picture).decode())
            for grade in own
            if grade.state != MISSING
        ]
        missing = [(g.verdict.exercise, _reason(g)[1]) for g in own if g.state == MISSING and _reason(g)[1]]
        files.replace(
            out / "participants" / f"{pages[person]}.html",
            PERSON.render(style=Markup(STYLE), person=person, cards=cards, missing=missing),
        )
    kept = [f"{page}.html" for page in pages.values()]
    written = {name.casefold() for name in kept}
    for name in stale:
        if name.casefold() not in written:
            (out / "participants" / name).unlink(missing_ok=True)
    forget(out, set(people))
    files.replace(out / MARKER, json.dumps({"pages": kept}))
    files.replace(out / "report.html", _overview(people, pages))
    files.replace(out / "grades.csv", _csv(grades))
    files.replace(out / "junit.xml", _junit(grades))
    return [out / "report.html", out / "grades.csv", out / "junit.xml"]


def _reason(grade: Grade) -> tuple[str, str]:
    """(stage, text) of what failed first, or of what lay there instead of a file; empty if nothing did."""
    if grade.state == MISSING:
        return "", "\n".join(grade.verdict.notes)
    return next(((s.name, s.text) for s in grade.verdict.stages if s.status == FAILED), ("", ""))


def _without_folders(grade: Grade, folder: Path) -> Grade:
    """The same with paths from the participant's folder: where the grader keeps what is nobody else's business."""
    v = grade.verdict
    own = [place / grade.participant for place in (folder, folder.absolute(), folder.resolve())]
    prefixes = dict.fromkeys(str(place) for place in (*own, *(place.parent for place in own), EXERCISES.parent))
    known = [prefix for prefix in prefixes if Path(prefix).is_absolute() and prefix != "/"]
    roots = [sys.prefix, sys.base_prefix, str(Path.home())]

    def plain(text: str) -> str:
        for prefix in sorted(known, key=len, reverse=True):
            text = re.sub(re.escape(prefix) + r"(/|(?![\w.-]))", "", text)
        for root in roots:
            text = text.replace(root.rstrip("/") + "/", ".../") if len(root) > 1 else text
        return text

    stages = [changed(stage, text=plain(stage.text)) for stage in v.stages]
    notes = [plain(note) for note in v.notes]
    path = v.path
    for place in (own[0].as_posix(), display_path(own[1])):
        path = path.removeprefix(f"{place}/")
    return changed(grade, verdict=changed(v, path=plain(path), stages=stages, notes=notes))


def _overview(people: dict[str, list[Grade]], pages: dict[str, str]) -> str:
    names = [grade.verdict.exercise for grade in next(iter(people.values()), [])]
    rows = []
    for person, own in people.items():
        cells = [(_mark(g), g.state, _reason(g)[1]) for g in own]
        passed = sum(grade.state == PASSED for grade in own)
        rows.append((person, f"participants/{quote(pages[person])}.html", passed, cells))
    said = {"participants": counted(len(rows), "participant"), "exercises": counted(len(names), "exercise")}
    return OVERVIEW.render(style=Markup(STYLE), rows=rows, names=names, **said)


def _mark(grade: Grade) -> str:
    if grade.state == MISSING and grade.verdict.notes:
        return "?"
    return MARKS.get(grade.state, " ") + "★" * grade.verdict.is_word_for_word


def _csv(grades: Sequence[Grade]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for grade in grades:
        v = grade.verdict
        row = (grade.participant, v.week, v.exercise, grade.state, *_reason(grade), v.is_word_for_word, v.digest)
        writer.writerow([_plain(str(value)) for value in row])
    return buffer.getvalue()


def _plain(text: str) -> str:
    # A spreadsheet would compute what begins so; a terminal would do what a control character says.
    text = _clean(text)
    return f"'{text}" if text.lstrip()[:1] in ("=", "+", "-", "@") else text


def _junit(grades: Sequence[Grade]) -> str:
    suites = ElementTree.Element("testsuites")
    people = dict.fromkeys(grade.participant for grade in grades)
    for person in people:
        own = [grade for grade in grades if grade.participant == person]
        failed = sum(grade.state == FAILED for grade in own)
        skipped = sum(grade.state in (MISSING, NOT_ATTEMPTED) for grade in own)
        attributes = {"name": _clean(person), "tests": len(own), "failures": failed, "errors": 0, "skipped": skipped}
        suite = ElementTree.SubElement(suites, "testsuite", {k: str(v) for k, v in attributes.items()})
        for grade in own:
            names = {"classname": f"{_clean(person)}.{grade.verdict.week}", "name": grade.verdict.exercise}
            case = ElementTree.SubElement(suite, "testcase", names)
            stage, text = _reason(grade)
            if grade.state == FAILED:
                ElementTree.SubElement(case, "failure", {"message": stage}).text = _clean(text)
            elif grade.state != PASSED:
                why = f"{grade.state}; {text}" if text else grade.state
                ElementTree.SubElement(case, "skipped", {"message": _clean(why)})
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _clean(text: str) -> str:
    """Without the control characters that XML has no way to write, and that a terminal obeys."""
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)
