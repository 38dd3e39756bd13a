"""What can be wrong with a kernel: the Finding that reports it and the exception that stops a run for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(eq=False, frozen=True)
class Site:
    """A place in a kernel's source: file, line and column (both from 1), and the text of the line."""

    file: str
    line: int
    column: int
    text: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a kernel; line and column count from 1.

    kind: 'out-of-bounds', 'race', 'barrier-divergence', 'uninitialised-read', 'shuffle', 'index-type',
    'shared-memory-limit', 'endless-loop', 'unsupported' or 'launch'.
    """

    kind: str
    message: str
    file: str
    line: int
    column: int
    source: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: {self.kind}: {self.message}"
        return f"{place}\n    {self.source.strip()}" if self.source.strip() else place


class KernelError(RuntimeError):
    """A kernel cannot go on; `finding` says why and where."""

    def __init__(self, finding: Finding):
        super().__init__(str(finding))
        self.finding = finding

    def _render_traceback_(self) -> list[str]:
        """IPython shows these lines in place of a traceback, whose frames would all be the emulator's."""
        return [f"{type(self).__name__}: {self}", *getattr(self, "__notes__", ())]

    def __reduce__(self) -> tuple:
        return type(self), (self.finding,)


class Unsupported(KernelError):
    """The kernel uses something outside the emulator's part of Numba-CUDA, or something Numba itself rejects."""


def stop(kind: str, message: str, site: Site) -> KernelError:
    """The exception for a finding that ends the run: `raise stop(...)`."""
    finding = Finding(kind, message, site.file, site.line, site.column, site.text)
    return Unsupported(finding) if kind == "unsupported" else KernelError(finding)
