"""`report.plot()`: which elements a warp of the learner's own kernel touches at a line of its source.

Global memory is drawn as the array lies, with the 32-byte sectors that a request fetches; shared memory as rows of
its 32 banks. What is drawn is exact for the source as written: it is before caches, and says nothing about time.
"""

from __future__ import annotations

import math
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from studylib.gpu.checks.trace import Request
from studylib.gpu.hardware import WARP, warps_in
from studylib.gpu.report.picture import Accesses, draw, verdict
from studylib.words import counted

if TYPE_CHECKING:
    from studylib.gpu.report.report import Access, Report

LONGEST = 100  # characters that the figure is wide


def plot(
    report: Report,
    line: int | None = None,
    warp: int = 0,
    thread: int | None = None,
    request: int = 0,
    interactive: bool = False,
) -> Any:
    """A picture of what `warp` touches at `line`: a panel for each array and access of the line.

    line: of the source; by default the one whose requests cost most. warp: counted over the whole grid, block by
    block. request: which one of each access, counted from 0, if the warp comes to the line several times.
    thread: 0 to 31, to draw instead all that this thread of the warp touches there, coloured by request.
    interactive: return ipywidgets sliders for warp and request instead of a figure; needs a live kernel.
    Raises ValueError for a line without accesses, a warp that does not come to it, a request that is not made.
    """
    if thread is not None and not 0 <= thread < WARP:
        raise ValueError(f"thread={thread}: a warp has the threads 0 to {WARP - 1}")
    access = _most_costly(report) if line is None else _at(report, line)
    if interactive:
        return _sliders(report, access, thread)
    return _figure(report, access, warp, thread, request)


def _most_costly(report: Report) -> Access:
    if not report.accesses:
        raise ValueError(f"{report.kernel} accessed no memory, so there is nothing to draw")
    # Four sectors are what a warp of float32 neighbours costs, one pass what is free of conflicts.
    return max(report.accesses, key=lambda a: a.passes_per_request or (a.sectors_per_request or 0) / 4)


def _at(report: Report, line: int) -> Access:
    for access in report.accesses:
        if access.line == line:
            return access
    lines = sorted({access.line for access in report.accesses})
    raise ValueError(f"line {line} of {report.kernel} accesses no memory; lines that do: {lines}")


def _figure(report: Report, access: Access, warp: int, thread: int | None, number: int) -> Figure:
    sites = _sites(report, access, warp)
    most = max(map(len, sites))
    place = f"{access.file}, line {access.line}:  {access.source.strip()}"
    heading = [place if len(place) <= LONGEST else place[: LONGEST - 3] + "...", _who(report, warp)]
    if thread is not None:
        heading[1] += f"; thread {thread} of the warp"
        panels = [_of_thread(site, thread) for site in sites if any(thread in r.lanes for r in site)]
        if not panels:
            raise ValueError(f"thread {thread} of warp {warp} takes no part at line {access.line}")
        return draw(panels, heading, ("request", most), costs=False)
    if not 0 <= number < most:
        raise ValueError(f"request={number}: at line {access.line} warp {warp} makes requests 0 to {most - 1}")
    if most > 1:
        heading[1] += f"; request {number} of 0 to {most - 1}"
    panels = [_of_warp(site, number) for site in sites if number < len(site)]
    return draw(panels, heading, ("thread of the warp", WARP), costs=True)


def _sites(report: Report, access: Access, warp: int) -> list[list[Request]]:
    """The warp's requests at the access's line, apart by column, kind and array."""
    requests = report.trace(access.line, warp, access.file)
    if not requests:
        raise ValueError(f"warp {warp} does not come to line {access.line}, or none of its threads takes part")
    return [list(same) for _, same in groupby(sorted(requests, key=_site), key=_site)]


def _site(request: Request) -> tuple[int, str, str]:
    return request.column, request.op, request.array


def _who(report: Report, warp: int) -> str:
    threads = math.prod(report.block)
    block, within = divmod(warp, warps_in(threads))
    place = tuple(int(i) for i in np.unravel_index(block, report.grid[::-1]))[::-1]
    name = place[0] if len(place) == 1 else place
    return f"warp {warp}: block {name}, threads {within * WARP} to {min(threads, (within + 1) * WARP) - 1}"


def _of_warp(site: list[Request], number: int) -> tuple[str, Accesses]:
    request = site[number]
    accesses = _accesses(site, [request], request.lanes, np.ones(len(request.lanes), bool))
    return f"{request.op} {request.array}: {verdict(accesses)}", accesses


def _of_thread(site: list[Request], thread: int) -> tuple[str, Accesses]:
    users = np.concatenate([np.full(len(request.lanes), number) for number, request in enumerate(site)])
    mine = np.concatenate([request.lanes for request in site]) == thread
    accesses = _accesses(site, site, users, mine)
    count, elements = len(accesses.elements), len(accesses.touched)
    return f"{site[0].op} {site[0].array}: {counted(count, 'time')}, {counted(elements, 'element')}", accesses


def _accesses(site: list[Request], drawn: list[Request], users: np.ndarray, keep: np.ndarray) -> Accesses:
    """site: all requests of one access of the line; drawn: those to draw, of whose lanes `keep` are kept."""
    first = site[0]
    starts = {int(byte) for r in site for byte in r.addresses - r.elements * r.itemsize}
    addresses = np.concatenate([r.addresses for r in drawn])[keep]
    if len(starts) == 1 and min(starts) >= 0:
        elements = np.concatenate([r.elements for r in drawn])[keep]
        return Accesses(first.space, first.shape, first.itemsize, elements, users[keep], starts.pop())
    # The array does not lie in C order: it is drawn as its memory lies.
    reach = max(int(r.addresses.max()) for r in site) // first.itemsize + 1
    return Accesses(first.space, (reach,), first.itemsize, addresses // first.itemsize, users[keep])


def _sliders(report: Report, access: Access, thread: int | None) -> Any:
    import ipywidgets
    from IPython.display import display

    warps = warps_in(math.prod(report.block)) * math.prod(report.grid)
    choose_warp = ipywidgets.IntSlider(min=0, max=warps - 1, continuous_update=False)
    choose_request = ipywidgets.IntSlider(min=0, max=0, continuous_update=False)

    def show(warp: int, request: int) -> None:
        try:
            choose_request.max = max(map(len, _sites(report, access, warp))) - 1
            display(_figure(report, access, warp, thread, min(request, choose_request.max)))
        except ValueError as error:
            print(error)

    return ipywidgets.interactive(show, warp=choose_warp, request=choose_request)
