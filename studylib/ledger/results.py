"""What a check of the ledger finds, as data: a checked row, and a network of the survey."""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class CheckedRow:
    """A row with its computation done: `verdict` is what was found, `claimed` what the file says."""

    where: str
    what: str
    printed: str
    computed: str
    verdict: str
    claimed: str
    why: str
    compute: str

    @property
    def agrees_with_claim(self) -> bool:
        """Whether the file claims what was found. A quoted row claims nothing, so nothing contradicts it."""
        return self.verdict == self.claimed


class Point(NamedTuple):
    """A network of the survey: the error in percent as printed, multiply-adds and parameters as counted here.

    `protocol` says how the error was measured; points of different protocols are not comparable.
    """

    name: str
    paper: str
    year: int
    top1_error: float
    top5_error: float | None
    protocol: str
    where: str
    macs: int
    params: int
