"""Draws the checked rows of a paper as a table: in a notebook, light or dark, and as plain text."""

import textwrap
from collections import Counter
from html import escape
from itertools import zip_longest

from studylib.ledger.files import Paper
from studylib.ledger.results import CheckedRow

# Symbol and word tell the verdicts apart without colour; only the symbol is coloured, in blue, ochre and vermilion
# (the colour-blind can tell them apart) of a lightness that shows on white as well as on black.
MARKS = {
    "reproduces": ("✓", "#2a86bd"),
    "truncates": ("≈", "#a07d10"),
    "does not reproduce": ("✗", "#d4551f"),
    "quoted": ("“", "#808080"),
    "not verified": ("?", "#808080"),
}
HEAD = ("Where", "What", "Printed", "Computed", "Verdict")
COLUMNS = (16, 38, 15, 15, 18)  # characters, with two between them: 110 in all
SHARES = (13, 30, 12, 14, 31)  # percent of the width
CELL = "text-align:left;vertical-align:top;padding:3px 8px;white-space:normal;overflow-wrap:normal"


def as_text(paper: Paper, rows: tuple[CheckedRow, ...], shown: tuple[CheckedRow, ...]) -> str:
    """A plain table of at most 110 columns of the rows `shown`; why a row does not reproduce stands below it."""
    lines = [heading(paper), *_line(*HEAD), "-" * 110]
    for row in shown:
        lines += _line(row.where, row.what, row.printed, row.computed or "-", verdict(row))
        lines += textwrap.wrap(row.why, 110, initial_indent=" " * 18 + "why: ", subsequent_indent=" " * 23)
    these = f"{len(shown)} shown of " if len(shown) < len(rows) else ""
    return "\n".join([*lines, "-" * 110, these + summary(rows)])


def as_html(paper: Paper, rows: tuple[CheckedRow, ...], shown: tuple[CheckedRow, ...]) -> str:
    """A table with inline styles that wraps between words and, where that is not enough, scrolls in a box of its own.

    Text and background colours are the page's. Where not all rows are shown, all are folded below.
    """
    table = _table(shown, caption(paper, summary(rows)))
    return table + (folded(paper, rows) if len(shown) < len(rows) else "")


def folded(paper: Paper, rows: tuple[CheckedRow, ...]) -> str:
    """All rows, closed until somebody opens them, with the way to the paper."""
    title = f"<summary>all rows: {escape(summary(rows).partition(': ')[2])}</summary>"
    return (
        f'<details style="padding:3px 8px">{title}{_table(rows, caption(paper, summary(rows)))}{_way(paper)}</details>'
    )


def _table(rows: tuple[CheckedRow, ...], above: str) -> str:
    columns = "".join(f'<col style="width:{share}%">' for share in SHARES)
    head = "".join(f'<th style="{CELL}">{name}</th>' for name in HEAD)
    body = "".join(_html_row(row) for row in rows)
    return (
        '<div style="overflow-x:auto">'
        '<table style="width:100%;max-width:900px;border-collapse:collapse;margin:0.5em 0">'
        f"{above}<colgroup>{columns}</colgroup><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def caption(paper: Paper, below: str) -> str:
    """The paper and a line below it."""
    return (
        f'<caption style="text-align:left;caption-side:top;padding:3px 8px">{escape(heading(paper))}<br>'
        f'<span style="opacity:0.8">{escape(below)}</span></caption>'
    )


def _way(paper: Paper) -> str:
    """A link to the paper, where it has one."""
    number = paper.link.removeprefix("arXiv:")
    return f'<a href="https://arxiv.org/abs/{escape(number)}">the paper</a>' if number != paper.link else ""


def heading(paper: Paper) -> str:
    """The paper in one line."""
    return f"{paper.paper} ({paper.year}), {paper.link}: what it prints, computed again"


def summary(rows: tuple[CheckedRow, ...]) -> str:
    """How many rows there are of each verdict, and how many contradict their file."""
    counts = Counter(row.verdict for row in rows)
    parts = [f"{name} {counts[name]}" for name in MARKS if counts[name]]
    wrong = sum(not row.agrees_with_claim for row in rows)
    parts += [f"OTHERWISE THAN CLAIMED {wrong}"] if wrong else []
    return f"{len(rows)} {'row' if len(rows) == 1 else 'rows'}: {', '.join(parts)}"


def verdict(row: CheckedRow) -> str:
    """What was found, and the claim where it differs."""
    return row.verdict if row.agrees_with_claim else f"{row.verdict} (BUT CLAIMED: {row.claimed})"


def _line(*cells: str) -> list[str]:
    """One row of the plain table, on as many lines as its longest cell needs."""
    wrapped = [textwrap.wrap(cell, width) for cell, width in zip(cells, COLUMNS, strict=True)]
    padded = (
        "  ".join(part.ljust(width) for part, width in zip(parts, COLUMNS, strict=True)).rstrip()
        for parts in zip_longest(*wrapped, fillvalue="")
    )
    return list(padded)


def _html_row(row: CheckedRow) -> str:
    symbol, colour = MARKS[row.verdict]
    mark = f'<span style="color:{colour};font-weight:bold" aria-hidden="true">{symbol}</span> {escape(verdict(row))}'
    why = f'<div style="font-size:0.92em;margin-top:2px">{escape(row.why)}</div>' if row.why else ""
    computed = f'<span title="{escape(row.compute)}">{escape(row.computed)}</span>' if row.compute else "–"
    cells = (escape(row.where), escape(row.what), escape(row.printed), computed, mark + why)
    return "<tr>" + "".join(f'<td style="{CELL}">{cell}</td>' for cell in cells) + "</tr>"
