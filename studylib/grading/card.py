"""Shows a verdict: as text in the terminal, as a card in a notebook and in the facilitator's report."""

from __future__ import annotations

import html

from studylib.grading.verdict import Verdict

MARKS = {"passed": "✓", "failed": "✗", "skipped": "–"}
COLOURS = {"passed": "#00795c", "failed": "#c0392b", "skipped": "#767676"}
REFERENCE = "This is the exercise's own solution."
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
        mark = f"<td style='color: {COLOURS[stage.status]}; font-weight: bold'>{MARKS[stage.status]}</td>"
        body = html.escape(stage.text or stage.status).replace("\n", "<br>")
        rows += (
            f"<tr>{mark}<td style='text-align: left; white-space: nowrap'>{html.escape(stage.title)}</td>"
            f"<td style='text-align: left'>{body}</td></tr>"
        )
    state = "passed" if verdict.passed else "failed" if verdict.state == "failed" else "skipped"
    title = f"<b>{html.escape(verdict.exercise)}</b>: "
    title += f"<b style='color: {COLOURS[state]}'>{WORDS[verdict.state]}</b>"
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in _notes(verdict))
    judged = f"<small>{html.escape(_judged(verdict))}</small>"
    return f"<div><p>{title}<br>{judged}</p><table><tbody>{rows}</tbody></table>{notes}</div>"


def _judged(verdict: Verdict) -> str:
    return f"judged: {verdict.path}, line {verdict.line}, code {verdict.digest or 'not read'}"


def _notes(verdict: Verdict) -> list[str]:
    return ([REFERENCE] if verdict.is_reference else []) + verdict.notes
