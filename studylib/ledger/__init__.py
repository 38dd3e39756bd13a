"""The numbers that the papers print, as data, each with the computation that checks it.

    from studylib import ledger
    ledger.check("mobilenet", where="Table 4")      # a table: printed beside computed, and the verdict
    ledger.check("mobilenet", show=["text of a row", "and of another"])  # the others are folded
    ledger.check("mobilenet", where="Table 4").grid(rows, columns)       # as the paper's own table

One TOML file a paper lies in this folder; a row of it:

    [[row]]
    where = "Table 4"
    what = "multiply-adds, MobileNet"
    printed = "569M"
    compute = "costs(mobilenet_v1()).macs"
    verdict = "reproduces"
    source = "R"

The tolerance is the printed precision and no more: the computed value "reproduces" the printed one if it rounds to
its digits (half away from zero), "truncates" if only cutting it off gives them, and else "does not reproduce", and
then the row says why. A row without `compute` is "quoted", or "not verified" where it is from memory. Tests fail
where a row claims another verdict than the one found.
"""

from studylib.ledger.checking import Checked, check, survey
from studylib.ledger.files import LedgerError, Net, Paper, Row, claimed, coming_out, load, papers
from studylib.ledger.results import CheckedRow, Point

__all__ = [
    "Checked",
    "CheckedRow",
    "LedgerError",
    "Net",
    "Paper",
    "Point",
    "Row",
    "check",
    "claimed",
    "coming_out",
    "load",
    "papers",
    "survey",
]
