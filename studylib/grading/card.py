"""Shows a verdict: as text in the terminal, as a card in a notebook and in the facilitator's report."""

from __future__ import annotations

import ast
import html
from functools import cache

from studylib.gpu.language.source import Source
from studylib.grading.verdict import Verdict
from studylib.kernels import load

MARKS = {"passed": "✓", "failed": "✗", "skipped": "–"}
COLOURS = {"passed": "#00795c", "failed": "#c0392b", "skipped": "#666666"}  # below white letters, on any page
REFERENCE = "Word for word the exercise's solution."
SHORT = 5  # statements; so short a kernel everybody writes alike
WORDS = {"passed": "passed", "failed": "not yet", "not attempted": "not attempted"}


def text(verdict: Verdict) -> str:
    """The card for a terminal."""
    lines = [f"{verdict.exercise} (week {int(verdict.week[:2])}): {WORDS[verdict.state]}", f"  {_judged(verdict)}"]
    for stage in verdict.stages:
        first, *rest = (stage.text or stage.status).splitlines()
        lines.append(f"  {MARKS[stage.status]} {stage.title}: {first}")
        lines += [f"      {line}" for line in rest]
    lines += [f"  note: {note}" for note in _notes(verdict)]
    return "\n".join(lines)


def page(verdict: Verdict) -> str:
    """The card in HTML, without its picture."""
    rows = ""
    for stage in verdict.stages:
        mark = f"<td>{_coloured(MARKS[stage.status], stage.status)}</td>"
        body = html.escape(stage.text or stage.status).replace("\n", "<br>")
        rows += (
            f"<tr>{mark}<td style='text-align: left; white-space: nowrap'>{html.escape(stage.title)}</td>"
            f"<td style='text-align: left'>{body}</td></tr>"
        )
    state = "passed" if verdict.passed else "failed" if verdict.state == "failed" else "skipped"
    title = f"<b>{html.escape(verdict.exercise)}</b>: {_coloured(WORDS[verdict.state], state)}"
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in _notes(verdict))
    judged = f"<small>{html.escape(_judged(verdict))}</small>"
    return f"<div><p>{title}<br>{judged}</p><table><tbody>{rows}</tbody></table>{notes}</div>"


def _coloured(text: str, status: str) -> str:
    ground = f"background-color: {COLOURS[status]}; padding: 0 .4em; border-radius: .3em"
    return f"<b style='color: white; {ground}'>{text}</b>"


def is_word_for_word(verdict: Verdict) -> bool:
    """Whether a kernel is the exercise's solution, names included, and longer than one that everybody writes alike."""
    return verdict.is_reference and _statements(verdict.exercise) > SHORT


@cache
def _statements(name: str) -> int:
    body = Source(load(name).kernel.py_func).tree.body
    return sum(isinstance(node, ast.stmt) for statement in body for node in ast.walk(statement))


def _judged(verdict: Verdict) -> str:
    return f"judged: {verdict.path}, line {verdict.line}, code {verdict.digest or 'not read'}"


def _notes(verdict: Verdict) -> list[str]:
    return ([REFERENCE] if is_word_for_word(verdict) else []) + verdict.notes
