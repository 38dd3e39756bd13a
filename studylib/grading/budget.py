"""Compares what a kernel used of memory with its exercise's budget."""

from __future__ import annotations

from studylib.gpu import Access, Report
from studylib.kernels import Budget

SLACK = 1e-9  # the figures are ratios of integers
MARGIN = 1.1  # for what another order of the same accesses makes of sizes that the budget was not written for


def judge_budget(budget: Budget, reports: list[Report]) -> tuple[bool, str]:
    """(whether every figure fits, a line for each: what was used, what is allowed, and where)."""
    lines, fits = [], True
    for what, used, allowed, where in _figures(budget, reports):
        over = used > allowed + SLACK
        fits = fits and not over
        place = f": {where.file}, line {where.line}: {where.source.strip()}" if over and where else ""
        lines.append(f"{what}: {used:.4g} of {allowed:g}{' TOO MANY' if over else ''}{place}")
    return fits, "\n".join([f"case {budget.case}", *lines])


def for_sizes(budget: Budget, case: str, own: list[Report], own_there: list[Report]) -> Budget:
    """The budget for another case: what the solution uses there, and as much room as the budget leaves it in its own case.

    own, own_there: the solution's reports in the budget's case and in the other.
    """
    allowed = [
        there * (room / used if used else 1) * MARGIN if there else room
        for (_, used, room, _), (_, there, _, _) in zip(_figures(budget, own), _figures(budget, own_there), strict=True)
    ]
    reads, writes, sectors, *passes = allowed
    return Budget(case, reads, writes, sectors, passes[0] if passes else None)


def _figures(budget: Budget, reports: list[Report]) -> list[tuple[str, float, float, Access | None]]:
    accesses = [access for report in reports for access in report.accesses]
    sectors = max(
        (a for a in accesses if a.sectors_per_request), key=lambda a: a.sectors_per_request or 0, default=None
    )
    passes = max((a for a in accesses if a.passes_per_request), key=lambda a: a.passes_per_request or 0, default=None)
    found: list[tuple[str, float, float, Access | None]] = [
        ("global reads a thread", max(r.global_reads_per_thread for r in reports), budget.reads, None),
        ("global writes a thread", max(r.global_writes_per_thread for r in reports), budget.writes, None),
        ("sectors a request", (sectors and sectors.sectors_per_request) or 0, budget.sectors, sectors),
    ]
    if budget.passes is not None:
        found.append(
            ("shared-memory passes a request", (passes and passes.passes_per_request) or 0, budget.passes, passes)
        )
    return found
