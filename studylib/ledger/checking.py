"""Computes the rows of a paper and compares: what is printed, what comes out, and whether the claim was right."""

from collections.abc import Sequence
from dataclasses import dataclass

from studylib.ledger import grids, tables
from studylib.ledger.files import CHECKED, LedgerError, Net, Paper, Row, load, papers
from studylib.ledger.printed import Printed
from studylib.ledger.results import CheckedRow, Point


@dataclass(frozen=True, repr=False)
class Checked:
    """The checked rows of a paper, a table in a notebook and when printed. `ok` if every row agrees with its claim.

    shown: those in sight; the others are folded.
    """

    paper: Paper
    rows: tuple[CheckedRow, ...]
    shown: tuple[CheckedRow, ...]

    @property
    def ok(self) -> bool:
        return all(row.agrees_with_claim for row in self.rows)

    def __str__(self) -> str:
        return tables.as_text(self.paper, self.rows, self.shown)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return tables.as_html(self.paper, self.rows, self.shown)

    def grid(self, rows: grids.Sides, columns: grids.Sides) -> grids.Grid:
        """The rows as the paper's own table: `rows` and `columns` are what stands at its sides, as in the rows' `what`.

            full = {"Conv MobileNet": "MobileNet with full convolutions", "MobileNet": "MobileNet"}
            ledger.check("mobilenet", where="Table 4").grid(full, ["accuracy", "multiply-adds", "parameters"])

        Raises LedgerError where one of them has no row, or a cell two.
        """
        return grids.grid(self.paper, self.rows, rows, columns)


def check(paper: str, where: str | None = None, show: Sequence[str] | None = None) -> Checked:
    """Computes every row of `paper` that has a computation; `where="Table 4"` takes only the rows printed there.

    show: the few rows to have in sight, each by a part of its `what` or its place; the others are folded. None shows
    all. Raises LedgerError if the paper, the place or a row to show is unknown, or a row cannot be computed.
    """
    found = load(paper)
    rows = [(i, row) for i, row in enumerate(found.rows, 1) if where is None or _printed_at(row, where)]
    if where is not None and not rows:
        places = ", ".join(dict.fromkeys(row.where for row in found.rows))
        raise LedgerError(f"{found.key}.toml has no row printed at {where!r}. It has: {places}.")
    checked = tuple(_check(row, f"{found.key}.toml, row {i} ({row.where}: {row.what})") for i, row in rows)
    return Checked(found, checked, checked if show is None else _in_sight(found, checked, show))


def _in_sight(paper: Paper, rows: tuple[CheckedRow, ...], show: Sequence[str]) -> tuple[CheckedRow, ...]:
    def has(row: CheckedRow, text: str) -> bool:
        return text in row.what or text in row.where

    for text in show:
        if not any(has(row, text) for row in rows):
            listed = "; ".join(row.what for row in rows[:8])
            raise LedgerError(f"no row of {paper.key}.toml to show has {text!r}. There are: {listed} ...")
    return tuple(row for row in rows if any(has(row, text) for text in show))


def survey() -> list[Point]:
    """All networks of the ledger with their printed error and counted costs, oldest paper first."""
    found = sorted((load(paper) for paper in papers()), key=lambda paper: (paper.year, paper.key))
    return [_point(paper, i, net) for paper in found for i, net in enumerate(paper.nets, 1)]


def _printed_at(row: Row, where: str) -> bool:
    """Whether `row` stands at `where` or at a part of it: "Table 4, conv1" stands at "Table 4"."""
    return row.where == where or row.where.startswith(f"{where}, ")


def _check(row: Row, place: str) -> CheckedRow:
    from studylib.ledger.expressions import number  # takes seconds to import torch, which who only reads spares

    computed, verdict = "", row.verdict
    if row.verdict in CHECKED:
        try:
            printed = Printed.parse(row.printed, row.unit, row.precision)
        except ValueError as error:
            raise LedgerError(f"{place}, field `printed`: {error}.") from None
        try:
            value = number(row.compute)
        except ValueError as error:
            raise LedgerError(f"{place}, field `compute`: {error}.") from None
        computed, verdict = printed.show(value), printed.verdict(value)
    return CheckedRow(row.where, row.what, row.printed, computed, verdict, row.verdict, row.why, row.compute)


def _point(paper: Paper, i: int, net: Net) -> Point:
    from studylib.ledger.expressions import costs, evaluate

    place = f"{paper.key}.toml, net {i} ({net.name})"
    try:
        found = costs(evaluate(net.build), net.input)
    except (ValueError, RuntimeError, AttributeError, TypeError) as error:
        raise LedgerError(f"{place}, field `build`: {error}.") from None
    top1 = _error(net.top1_error, net.top1_accuracy, place, "top1")
    top5 = _error(net.top5_error, net.top5_accuracy, place, "top5") if net.top5_error or net.top5_accuracy else None
    return Point(net.name, paper.paper, paper.year, top1, top5, net.protocol, net.where, found.macs, found.params)


def _error(error: str, accuracy: str, place: str, field: str) -> float:
    """The error in percent, from an error or an accuracy that is printed as "29.4%" or as ".294"."""
    try:
        printed = Printed.parse(error or accuracy)
    except ValueError as problem:
        raise LedgerError(f"{place}, field `{field}_error`: {problem}.") from None
    share = printed.value * printed.unit
    if not 0 < share < 1:
        raise LedgerError(f"{place}, field `{field}_error`: got {error or accuracy!r}, expected e.g. 29.4% or .294.")
    return float(100 * (share if error else 1 - share))
