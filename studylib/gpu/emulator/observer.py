"""What a run can be watched for: an observer overrides the events that it wants, all others pass by."""

from __future__ import annotations

from typing import Any

from studylib.gpu.emulator.mask import Mask
from studylib.gpu.findings import KernelError, Site


class Observer:
    """The base of all observers, and what watches a plain launch: nothing is recorded, and what is wrong ends the run.

    machine: the chunk of blocks that runs. memory: the array whose cells are accessed. cells: the `Cells` of the
    lanes, or an int if all access the same cell. An access is announced before it is done.
    """

    def begin(self, machine: Any) -> None:
        """A chunk of blocks starts."""

    def end(self) -> None:
        """The chunk has ended, or was ended."""

    def load(self, machine: Any, memory: Any, cells, mask: Mask, site: Site) -> None:
        """The lanes of the mask read the cells."""

    def store(self, machine: Any, memory: Any, cells, value, mask: Mask, site: Site) -> None:
        """The lanes of the mask write a value, a scalar or a vector."""

    def atomic(self, machine: Any, memory: Any, cells, mask: Mask, site: Site, needs_old: bool) -> None:
        """The lanes of the mask do an atomic operation; needs_old: whether the kernel uses the old values."""

    def barrier(self, machine: Any, mask: Mask) -> None:
        """Blocks pass a barrier."""

    def warp_barrier(self, machine: Any, mask: Mask) -> None:
        """Warps pass a barrier."""

    def fence(self, machine: Any, mask: Mask) -> None:
        """Threads order what they have written before what they write from here on."""

    def report(self, error: KernelError) -> None:
        """Something is wrong, but the run could go on."""
        raise error
