"""Writes what a grading found: grades.csv, report.html with a page a participant, and JUnit XML."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

from jinja2 import Environment
from markupsafe import Markup

from studylib import kernels
from studylib.grading.card import is_word_for_word, page
from studylib.grading.grade import MISSING, Grade, file_names
from studylib.kernels.stubs import replace

COLUMNS = ("participant", "week", "exercise", "state", "stage", "reason", "is_reference", "code")
MARKS = {"passed": "✓", "failed": "✗", "not attempted": "·", MISSING: " "}
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
<p>{{ rows | length }} participants, {{ names | length }} exercises. ✓ passed, ✗ not yet, · not attempted, blank: not handed
in, ★ word for word
the exercise's solution.</p>
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
</section>{% else %}<p>Nothing handed in.</p>{% endfor %}</html>
""")


def write(grades: Sequence[Grade], out: Path) -> list[Path]:
    """Writes the report of all grades into the folder `out`; returns the files that a facilitator opens."""
    (out / "participants").mkdir(parents=True, exist_ok=True)
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
        replace(
            out / "participants" / f"{pages[person]}.html",
            PERSON.render(style=Markup(STYLE), person=person, cards=cards),
        )
    replace(out / "report.html", _overview(people, pages))
    replace(out / "grades.csv", _csv(grades))
    replace(out / "junit.xml", _junit(grades))
    return [out / "report.html", out / "grades.csv", out / "junit.xml"]


def _reason(grade: Grade) -> tuple[str, str]:
    """(stage, text) of what failed first; empty if nothing did."""
    return next(((s.name, s.text) for s in grade.verdict.stages if s.status == "failed"), ("", ""))


def _overview(people: dict[str, list[Grade]], pages: dict[str, str]) -> str:
    names = [grade.verdict.exercise for grade in next(iter(people.values()), [])]
    rows = []
    for person, own in people.items():
        cells = [(MARKS[g.state] + "★" * is_word_for_word(g.verdict), g.state, _reason(g)[1]) for g in own]
        passed = sum(grade.state == "passed" for grade in own)
        rows.append((person, f"participants/{quote(pages[person])}.html", passed, cells))
    return OVERVIEW.render(style=Markup(STYLE), rows=rows, names=names)


def _csv(grades: Sequence[Grade]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for grade in grades:
        v = grade.verdict
        row = (grade.participant, v.week, v.exercise, grade.state, *_reason(grade), is_word_for_word(v), v.digest)
        writer.writerow([_plain(str(value)) for value in row])
    return buffer.getvalue()


def _plain(text: str) -> str:
    # A spreadsheet would compute what begins so; and a line of a table must not begin within a name.
    text = text.replace("\r", " ")
    return f"'{text}" if text.lstrip()[:1] in ("=", "+", "-", "@") else text


def _junit(grades: Sequence[Grade]) -> str:
    suites = ElementTree.Element("testsuites")
    people = dict.fromkeys(grade.participant for grade in grades)
    for person in people:
        own = [grade for grade in grades if grade.participant == person]
        failed = sum(grade.state == "failed" for grade in own)
        skipped = sum(grade.state in (MISSING, "not attempted") for grade in own)
        attributes = {"name": _clean(person), "tests": len(own), "failures": failed, "errors": 0, "skipped": skipped}
        suite = ElementTree.SubElement(suites, "testsuite", {k: str(v) for k, v in attributes.items()})
        for grade in own:
            names = {"classname": f"{_clean(person)}.{grade.verdict.week}", "name": grade.verdict.exercise}
            case = ElementTree.SubElement(suite, "testcase", names)
            stage, text = _reason(grade)
            if grade.state == "failed":
                ElementTree.SubElement(case, "failure", {"message": stage}).text = _clean(text)
            elif grade.state != "passed":
                ElementTree.SubElement(case, "skipped", {"message": grade.state})
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _clean(text: str) -> str:
    """Without the control characters that XML has no way to write."""
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)
