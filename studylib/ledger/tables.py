"""Draws the checked rows of a paper as a table: in a notebook, light or dark, and as plain text."""

import io
from collections import Counter
from html import escape
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from studylib.ledger.files import Paper

if TYPE_CHECKING:
    from studylib.ledger.checking import CheckedRow

# A symbol and a word tell the verdicts apart without colour. The colours are blue, ochre and vermilion, which the
# colour-blind can tell apart, in a lightness that shows on white as well as on black.
MARKS = {
    "reproduces": ("✓", "#2580b5"),
    "truncates": ("≈", "#a07d10"),
    "does not reproduce": ("✗", "#d4551f"),
    "quoted": ("“", "#808080"),
    "not verified": ("?", "#808080"),
}
WIDTHS = {"Where": 13, "What": 30, "Printed": 12, "Computed": 14, "Verdict": 31}
CELL = "text-align:left;vertical-align:top;padding:3px 8px;white-space:normal;overflow-wrap:break-word"


def as_text(paper: Paper, rows: "tuple[CheckedRow, ...]") -> str:
    """A table of at most 110 columns."""
    table = Table(box=box.ASCII2, title=heading(paper), title_justify="left", caption=summary(rows), width=110,
                  caption_justify="left", show_lines=any(row.why for row in rows))  # fmt: skip
    for name in ("Where", "What"):
        table.add_column(name, overflow="fold")
    for name in ("Printed", "Computed"):
        table.add_column(name, overflow="fold", min_width=8)
    table.add_column("Verdict", overflow="fold", min_width=24)
    for row in rows:
        why = f": {row.why}" if row.why else ""
        table.add_row(*(_literal(cell) for cell in (row.where, row.what, row.printed, row.computed or "-",
                                                    verdict(row) + why)))  # fmt: skip
    out = io.StringIO()
    Console(file=out, width=110, color_system=None, highlight=False).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def as_html(paper: Paper, rows: "tuple[CheckedRow, ...]") -> str:
    """A table that wraps within the page, with inline styles; text and background colours are the page's own."""
    columns = "".join(f'<col style="width:{width}%">' for width in WIDTHS.values())
    head = "".join(f'<th style="{CELL}">{name}</th>' for name in WIDTHS)
    body = "".join(_html_row(row) for row in rows)
    return (
        '<table style="width:100%;max-width:900px;table-layout:fixed;border-collapse:collapse;margin:0.5em 0">'
        f'<caption style="text-align:left;caption-side:top;padding:3px 8px">{escape(heading(paper))}<br>'
        f'<span style="opacity:0.75">{escape(summary(rows))}</span></caption>'
        f"<colgroup>{columns}</colgroup><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def heading(paper: Paper) -> str:
    """The paper in one line."""
    return f"{paper.paper} ({paper.year}), {paper.link}"


def summary(rows: "tuple[CheckedRow, ...]") -> str:
    """How many rows there are of each verdict, and how many contradict their file."""
    counts = Counter(row.verdict for row in rows)
    words = {"reproduces": "reproduce", "truncates": "truncated", "does not reproduce": "do not reproduce"}
    parts = [f"{counts[name]} {words.get(name, name)}" for name in MARKS if counts[name]]
    wrong = sum(not row.agrees_with_claim for row in rows)
    parts += [f"{wrong} CONTRADICT THE LEDGER FILE"] if wrong else []
    return f"{len(rows)} rows: {', '.join(parts)}"


def verdict(row: "CheckedRow") -> str:
    """What was found, and the claim where it differs."""
    return row.verdict if row.agrees_with_claim else f"{row.verdict} (BUT THE LEDGER CLAIMS: {row.claimed})"


def _literal(cell: str):
    from rich.text import Text

    return Text(cell)


def _html_row(row: "CheckedRow") -> str:
    symbol, colour = MARKS[row.verdict]
    mark = f'<span style="color:{colour};font-weight:bold">{symbol}</span> {escape(verdict(row))}'
    why = f'<div style="opacity:0.85;font-size:0.92em;margin-top:2px">{escape(row.why)}</div>' if row.why else ""
    computed = f'<span title="{escape(row.compute)}">{escape(row.computed)}</span>' if row.compute else "–"
    cells = (escape(row.where), escape(row.what), escape(row.printed), computed, mark + why)
    return "<tr>" + "".join(f'<td style="{CELL}">{cell}</td>' for cell in cells) + "</tr>"
