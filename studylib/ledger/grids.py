"""Lays checked rows out as the paper's own table: networks down, measures across, in each cell printed and computed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import product

from studylib.ledger import tables
from studylib.ledger.files import LedgerError, Paper
from studylib.ledger.results import CheckedRow

Sides = Sequence[str] | Mapping[str, str]
KEY = "as printed; ✓ comes out, ≈ comes out cut off instead of rounded, ✗ computed otherwise, “ not computed"


@dataclass(frozen=True, repr=False)
class Grid:
    """Rows of a paper as its own table, in a notebook and when printed; all of them folded below it.

    down, across: what stands at its rows and columns; cells: by both, the row that is printed there.
    """

    paper: Paper
    rows: tuple[CheckedRow, ...]
    down: tuple[str, ...]
    across: tuple[str, ...]
    cells: dict[tuple[str, str], CheckedRow]

    def __str__(self) -> str:
        body = [
            ["", *self.across],
            *([name, *(self._text(name, column) for column in self.across)] for name in self.down),
        ]
        widths = [max(len(line[n]) for line in body) for n in range(len(body[0]))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in body
        ]
        return "\n".join([tables.heading(self.paper), *lines, KEY, *self._whys(), tables.summary(self.rows)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        cell = tables.CELL
        head = "".join(f'<th style="{cell}">{escape(name)}</th>' for name in ("", *self.across))
        body = "".join(
            f'<tr><th style="{cell};font-weight:normal">{escape(name)}</th>'
            + "".join(f'<td style="{cell}">{self._html(name, column)}</td>' for column in self.across)
            + "</tr>"
            for name in self.down
        )
        whys = "".join(f'<div style="font-size:0.92em;padding:0 8px">{escape(line)}</div>' for line in self._whys())
        return (
            '<div style="overflow-x:auto"><table style="border-collapse:collapse;margin:0.5em 0">'
            f"{tables.caption(self.paper, KEY)}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
            f"{whys}{tables.folded(self.paper, self.rows)}"
        )

    def _whys(self) -> list[str]:
        """Why what does not come out does not, with its place in the table."""
        places = product(self.down, self.across)
        found = [(place, self.cells[place]) for place in places if place in self.cells]
        return [f"✗ {name}, {column}: {row.why}" for (name, column), row in found if row.why]

    def _text(self, name: str, column: str) -> str:
        if not (row := self.cells.get((name, column))):
            return ""
        symbol = tables.MARKS[row.verdict][0]
        return f"{row.printed} {symbol}" + (f" {row.computed}" if row.verdict == "does not reproduce" else "")

    def _html(self, name: str, column: str) -> str:
        if not (row := self.cells.get((name, column))):
            return ""
        symbol, colour = tables.MARKS[row.verdict]
        otherwise = f" {escape(row.computed)}" if row.verdict == "does not reproduce" else ""
        how = f"{row.computed} = {row.compute}" if row.compute else row.verdict
        mark = f'<span style="color:{colour};font-weight:bold" title="{escape(row.verdict)}">{symbol}</span>'
        return f'<span title="{escape(how)}">{escape(row.printed)}</span> {mark}{otherwise}'


def grid(paper: Paper, rows: tuple[CheckedRow, ...], down: Sides, across: Sides) -> Grid:
    """The grid whose cell at ("MobileNet", "parameters") is the row with one of these texts:

    "parameters, MobileNet", "MobileNet, parameters", "parameters of MobileNet", or "parameters" printed at a place that
    ends with ", MobileNet". A side may be a mapping, of what the table says to what the rows say. Raises LedgerError
    where a row or a column finds nothing, or a cell two.
    """
    sides = [side if isinstance(side, Mapping) else {name: name for name in side} for side in (down, across)]
    cells: dict[tuple[str, str], CheckedRow] = {}
    for (label, name), (above, column) in product(sides[0].items(), sides[1].items()):
        texts = {f"{column}, {name}", f"{name}, {column}", f"{column} of {name}"}
        found = [row for row in rows if row.what in texts or (row.what == column and row.where.endswith(f", {name}"))]
        if len(found) > 1:
            raise LedgerError(f"{len(found)} rows of {paper.key}.toml are {column!r} of {name!r}: give `where` too")
        if found:
            cells[label, above] = found[0]
    for number, side in enumerate(sides):
        for label, name in side.items():
            if not any(place[number] == label for place in cells):
                listed = "; ".join(row.what for row in rows[:8])
                raise LedgerError(f"no row of {paper.key}.toml is of {name!r} in this table. It has: {listed} ...")
    return Grid(paper, rows, tuple(sides[0]), tuple(sides[1]), cells)
