"""Records which element each lane of a warp touched, for the picture of a kernel's own accesses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from studylib.gpu.emulator.machine import Machine
from studylib.gpu.emulator.mask import Mask
from studylib.gpu.emulator.memory import Memory
from studylib.gpu.emulator.observer import Observer
from studylib.gpu.findings import KernelError, Site
from studylib.gpu.hardware import WARP


@dataclass(frozen=True, eq=False)
class Request:
    """One memory request of a warp. The vectors have one element for each lane that takes part.

    array, shape: the array's name and shape. space: 'global' or 'shared'. op: 'load', 'store' or 'atomic'.
    column: from 1, which tells apart the accesses of one line. lanes: 0 to 31. threads: within the block.
    elements: of the array, counted in C order of `shape`. addresses: bytes from the start of the allocation.
    """

    array: str
    shape: tuple[int, ...]
    itemsize: int
    space: str
    op: str
    column: int
    lanes: np.ndarray
    threads: np.ndarray
    elements: np.ndarray
    addresses: np.ndarray


class Recorder(Observer):
    """An observer that keeps the requests of one block, by file, line and warp of the block."""

    def __init__(self, block: int):
        self.block = block
        self.requests: dict[tuple[str, int, int], list[Request]] = {}

    def load(self, machine: Machine, memory: Memory, cells, mask: Mask, site: Site) -> None:
        self._keep(machine, memory, cells, mask, site, "load")

    def store(self, machine: Machine, memory: Memory, cells, value, mask: Mask, site: Site) -> None:
        self._keep(machine, memory, cells, mask, site, "store")

    def atomic(self, machine: Machine, memory: Memory, cells, mask: Mask, site: Site, needs_old: bool) -> None:
        self._keep(machine, memory, cells, mask, site, "atomic")

    def report(self, error: KernelError) -> None:
        """The report has it already."""

    def _keep(self, machine: Machine, memory: Memory, cells, mask: Mask, site: Site, op: str) -> None:
        number = self.block - machine.first
        if memory.space not in ("global", "shared") or not 0 <= number < machine.blocks:
            return
        threads = machine.grid.threads
        start = number * threads
        active = np.flatnonzero(mask.lanes[start : start + threads])
        if not len(active):
            return
        at = np.full(len(active), cells) if isinstance(cells, int) else cells.all[start + active]
        if memory.spacing:
            at = at % memory.spacing
        elements = memory.elements(at)
        addresses = at * memory.dtype.itemsize + memory.first_byte
        for warp in np.unique(active // WARP):
            here = active // WARP == warp
            request = Request(
                memory.name,
                memory.shape,
                memory.dtype.itemsize,
                memory.space,
                op,
                site.column,
                active[here] % WARP,
                active[here],
                elements[here],
                addresses[here],
            )
            self.requests.setdefault((site.file, site.line, int(warp)), []).append(request)
