"""Shows a verdict as a card in HTML, in a notebook with a picture of what a warp of the kernel accesses."""

from __future__ import annotations

import base64
import html
import io

from studylib.grading.verdict import FAILED, MARKS, PASSED, SKIPPED, WORDS, Verdict

COLOURS = {PASSED: "#00795c", FAILED: "#c0392b", SKIPPED: "#666666"}  # below white letters, on any page


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
    state = verdict.state if verdict.state in COLOURS else SKIPPED
    title = f"<b>{html.escape(verdict.exercise)}</b>: {_coloured(WORDS[verdict.state], state)}"
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in verdict.all_notes)
    judged = f"<small>{html.escape(verdict.judged)}</small>"
    return f"<div><p>{title}<br>{judged}</p><table><tbody>{rows}</tbody></table>{notes}</div>"


def _coloured(text: str, status: str) -> str:
    ground = f"background-color: {COLOURS[status]}; padding: 0 .4em; border-radius: .3em"
    return f"<b style='color: white; {ground}'>{text}</b>"


def picture_of(verdict: Verdict) -> bytes:
    """What a warp touches at the kernel's costliest line, as PNG; empty if the kernel accessed nothing."""
    if verdict.report is None or not verdict.report.accesses:
        return b""
    buffer = io.BytesIO()
    verdict.report.plot().savefig(buffer, format="png", dpi=80)
    return buffer.getvalue()


class Card:
    """A verdict as a notebook shows it: the card, and beside it what a warp of the kernel accesses.

    picture: as PNG, of a verdict that has no report.
    """

    def __init__(self, verdict: Verdict, picture: bytes = b""):
        self.verdict, self.picture = verdict, picture

    def __getattr__(self, name: str):
        return getattr(self.verdict, name)

    def __str__(self) -> str:
        return str(self.verdict)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        picture = self.picture or picture_of(self.verdict)
        if not picture:
            return page(self.verdict)
        source = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
        alt = "which elements of each array a warp touches at the costliest line of the kernel"
        return f'{page(self.verdict)}<img style="max-width: 100%" alt="{alt}" src="{source}">'
