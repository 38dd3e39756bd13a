"""What a checked run found, as a value, as text and as an HTML table with the source beside each figure."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from studylib.gpu.checks.trace import Request
from studylib.gpu.findings import Finding
from studylib.words import counted

NOTE = (
    "Counted for the source as written: exact, before caches and before the compiler merges or moves accesses. "
    "No timings. A warp of 32 float32 neighbours is 4 sectors; 1 pass is free of bank conflicts (2 for 8-byte elements)."
)


@dataclass(frozen=True)
class Access:
    """All requests that one place in the source made of one array.

    space: 'global' or 'shared'. op: 'load', 'store' or 'atomic'. requests: of whole warps.
    sectors_per_request: 32-byte sectors that a request touches (global memory, else None), as Nsight Compute
    counts them. passes_per_request: what a request takes in shared memory (else None).
    """

    array: str
    space: str
    op: str
    line: int
    column: int
    requests: int
    sectors_per_request: float | None
    passes_per_request: float | None
    file: str
    source: str

    @property
    def cost(self) -> str:
        if self.sectors_per_request is not None:
            return f"{self.sectors_per_request:.2f} sectors"
        return f"{self.passes_per_request:.2f} {'pass' if self.passes_per_request == 1 else 'passes'}"


@dataclass(eq=False)
class Report:
    """The findings and accesses of one launch of a kernel.

    global_reads_per_thread, global_writes_per_thread: elements of global memory, the most of any thread; an
    atomic counts as both. They are what the kernel did until the first fatal finding, if there is one. stopped: that
    finding; NumPy arrays are then as they were before the launch.
    """

    kernel: str
    grid: tuple[int, ...]
    block: tuple[int, ...]
    findings: list[Finding]
    accesses: list[Access]
    global_reads_per_thread: int
    global_writes_per_thread: int
    _replay: Callable[[int, int, str | None], list[Request]] = field(repr=False)
    stopped: Finding | None = field(default=None, repr=False)

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def trace(self, line: int, warp: int = 0, file: str | None = None) -> list[Request]:
        """What one warp's lanes touched at a line of the source, request by request in the order of the run.

        warp: counted over the whole grid, block by block (a block of 80 threads has 3). file: needed only for a
        device function in another file, as in `Access.file`. Runs the kernel once more on copies of its
        arguments as they were, only the warp's block where blocks cannot influence each other; the last block
        asked for is kept. Raises ValueError for a warp that the launch does not have.
        """
        return self._replay(line, warp, file)

    def plot(
        self,
        line: int | None = None,
        warp: int = 0,
        thread: int | None = None,
        request: int = 0,
        interactive: bool = False,
    ) -> Any:
        """A picture of what a warp touches at a line of the source; see `studylib.gpu.report.plot.plot`."""
        from studylib.gpu.report.plot import plot

        return plot(self, line, warp, thread, request, interactive)

    def _title(self) -> str:
        return f"{self.kernel}, grid {self.grid}, block {self.block}"

    def _totals(self) -> str:
        reads, writes = self.global_reads_per_thread, self.global_writes_per_thread
        return (
            f"A thread reads global memory {counted(reads, 'time')} and writes it {counted(writes, 'time')}, at most."
        )

    def __str__(self) -> str:
        lines = [self._title(), ""]
        lines += [f"! {finding}" for finding in self.findings] or ["Nothing found."]
        if self.accesses:
            rows = [(*_cells(access), access.source.strip()) for access in self.accesses]
            rows.insert(0, (*HEADINGS, "source"))
            widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
            lines.append("")
            for row in rows:
                texts = [
                    c.rjust(w) if i in NUMBERS else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
                ]
                lines.append("  ".join(texts).rstrip())
        return "\n".join([*lines, "", self._totals(), NOTE])

    def _repr_html_(self) -> str:
        parts = [f"<p><b>{html.escape(self._title())}</b></p>"]
        if self.findings:
            items = "".join(f"<li>{_finding_html(finding)}</li>" for finding in self.findings)
            parts.append(f"<ul>{items}</ul>")
        else:
            parts.append("<p>Nothing found.</p>")
        if self.accesses:
            head = "".join(_cell("th", text, i in NUMBERS) for i, text in enumerate(HEADINGS))
            body = ""
            for access in self.accesses:
                cells = "".join(_cell("td", text, i in NUMBERS) for i, text in enumerate(_cells(access)))
                body += f"<tr>{cells}<td style='text-align: left'>{_code(access.source)}</td></tr>"
            parts.append(f"<table><thead><tr>{head}<th></th></tr></thead><tbody>{body}</tbody></table>")
        return "".join([*parts, f"<p>{html.escape(self._totals())}<br><small>{html.escape(NOTE)}</small></p>"])


HEADINGS = ("line", "array", "memory", "access", "warp requests", "each takes")
NUMBERS = (0, 4, 5)  # columns that line up on the right


def _cells(access: Access) -> tuple[str, ...]:
    return (str(access.line), access.array, access.space, access.op, f"{access.requests:,}", access.cost)


def _cell(tag: str, text: str, number: bool) -> str:
    return f"<{tag} style='text-align: {'right' if number else 'left'}'>{html.escape(text)}</{tag}>"


def _code(text: str) -> str:
    return f"<code>{html.escape(text.strip())}</code>"


def _finding_html(finding: Finding) -> str:
    place = f"<b>{html.escape(finding.kind)}</b>, {html.escape(finding.file)}, line {finding.line}"
    source = f"<br>{_code(finding.source)}" if finding.source.strip() else ""
    return f"{place}: {html.escape(finding.message)}{source}"
