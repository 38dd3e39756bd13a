"""The picture of memory accesses: elements coloured by who touches them, with sectors or banks, one panel an array."""

from __future__ import annotations

import math
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from studylib.gpu.hardware import BANKS, SECTOR, WARP, WORD

WIDEST = 64  # columns of an array that are drawn as they lie; a wider reach is drawn in memory order
MOST_ROWS = 36  # of a panel; of a longer reach only rows that are touched are drawn, the first so many
COLOURS = plt.get_cmap("viridis")
FETCHED, CONFLICT, RULING = "#dddddd", "#d55e00", "#e6e6e6"
PAGE, LEFT, RIGHT, HEAD, PANEL, CELL = 8.5, 1.0, 0.2, 1.1, 0.9, 0.22  # inches: figure, margins, heading, panel, row
SMALL = 8.7  # points, the smallest text: 8 on a screen where the picture is 800 pixels wide
DIGIT = 0.64 * SMALL  # points that a digit is wide


@dataclass(frozen=True, eq=False)
class Accesses:
    """Elements of one array that are touched, in order.

    elements: their numbers in memory order, or in C order if that is how the array lies. users: the thread of the
    warp, or the number of the request, that touches each. first_byte: where element 0 lies in its allocation.
    """

    space: str
    shape: tuple[int, ...]
    itemsize: int
    elements: np.ndarray
    users: np.ndarray
    first_byte: int = 0

    @property
    def touched(self) -> np.ndarray:
        """The elements, each once."""
        return np.unique(self.elements)

    @property
    def sectors(self) -> np.ndarray:
        """The 32-byte sectors, each once."""
        return np.unique((self.first_byte + self.touched * self.itemsize) // SECTOR)

    def words_by_bank(self) -> np.ndarray:
        """How many different words a warp wants of each bank; 8-byte elements are served half a warp at a time."""
        parts = max(1, self.itemsize // WORD)
        most = np.zeros(BANKS, int)
        for part in range(parts):
            here = self.elements[self.users * parts // WARP == part]
            first = (self.first_byte + here * self.itemsize) // WORD
            words = np.unique([first + i for i in range(parts)])
            most = np.maximum(most, np.bincount(words % BANKS, minlength=BANKS))
        return most


def verdict(request: Accesses) -> str:
    """What the request of a warp costs, in the terms of a profiler, and the name of that where there is one."""
    elements, threads = len(request.touched), len(request.users)
    same = "one element for all threads" if elements == 1 < threads else ""
    if request.space == "shared":
        ways = request.words_by_bank().max()
        return f"{ways}-way bank conflict" if ways > 1 else "no bank conflict" + (same and f" ({same})")
    sectors = len(request.sectors)
    count = f"{sectors} sector{'s' if sectors > 1 else ''} a request"
    used = elements * request.itemsize / (sectors * SECTOR)
    if same or sectors == math.ceil(elements * request.itemsize / SECTOR):
        return f"{count}: {same or 'coalesced'}"
    return f"{count}, {100 * used:.3g}% of their bytes used" + (": uncoalesced" if used < 0.5 else "")


class Layout:
    """Where elements are drawn: in columns and rows, of which only those near the touched ones are shown."""

    def __init__(self, accesses: Accesses):
        self.accesses = accesses
        shape, touched = accesses.shape, accesses.touched
        self.in_banks = accesses.space == "shared"
        self.natural = len(shape) > 1 and not self.in_banks and np.ptp(touched % shape[-1]) < WIDEST
        self.length = shape[-1] if self.natural else BANKS
        self.width = accesses.itemsize / WORD if self.in_banks else 1.0
        rows, columns = self.place(touched)
        end = int(self.place(np.array([math.prod(shape) - 1]))[0][0])
        near = np.arange(max(0, int(rows.min()) - 1), min(end, int(rows.max()) + 1) + 1)
        self.rows = near if len(near) <= MOST_ROWS else np.unique(rows)[:MOST_ROWS]
        self.complete = len(near) <= MOST_ROWS
        sector = max(1, SECTOR // accesses.itemsize)
        self.first = 0 if self.in_banks else int(columns.min()) // sector * sector
        reach = int(columns.max()) // sector * sector + sector
        self.end = BANKS if self.in_banks else min(self.length, max(reach, self.first + BANKS))

    def place(self, elements: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Row and column of each element, in the whole array."""
        if self.in_banks:
            byte = self.accesses.first_byte + elements * self.accesses.itemsize
            return byte // (BANKS * WORD), byte % (BANKS * WORD) / WORD
        return np.divmod(elements, self.length)

    def row_name(self, row: int) -> str:
        if self.natural:
            return ", ".join(map(str, np.unravel_index(row, self.accesses.shape[:-1])))
        return f"{row if self.in_banks else row * self.length}"

    @property
    def axis_names(self) -> tuple[str, str]:
        if self.in_banks:
            return "bank", "row of 128 bytes"
        if self.natural:
            return ("column", "row") if len(self.accesses.shape) == 2 else ("last index", "other indices")
        return "place in the row", "first element of the row"


def draw(panels: list[tuple[str, Accesses]], heading: list[str], users: tuple[str, int], costs: bool) -> Figure:
    """One panel for each (title, accesses), under the lines of the heading.

    users: what the colours stand for, and how many there are. costs: whether to mark sectors and bank conflicts.
    """
    layouts = [Layout(accesses) for _, accesses in panels]
    heights = [PANEL + CELL * len(layout.rows) for layout in layouts]
    total = HEAD + sum(heights)
    figure = plt.figure(figsize=(PAGE, total), facecolor="white")
    for number, text in enumerate(heading):
        # A line of somebody's source: a $ in it is a dollar.
        y = 1 - (0.2 + 0.22 * number) / total
        figure.text(0.02, y, text, va="center", family="monospace", fontsize=9.5, parse_math=False)
    _legend(figure.add_axes((0.62, 1 - 0.82 / total, 0.3, 0.13 / total)), *users)
    top = sum(heights)
    for (title, _), layout, height in zip(panels, layouts, heights, strict=True):
        bottom = top - height + PANEL - 0.3
        box = (LEFT / PAGE, bottom / total, 1 - (LEFT + RIGHT) / PAGE, CELL * len(layout.rows) / total)
        ax = figure.add_axes(box)
        ax.set_title(title, loc="left", fontsize=10, fontweight="bold", parse_math=False)
        _panel(ax, layout, users[1], costs)
        top -= height
    plt.close(figure)  # or a notebook would show it a second time
    return figure


def _legend(ax: Axes, name: str, users: int) -> None:
    ax.imshow(np.arange(users)[None], cmap=COLOURS, aspect="auto")
    ax.set_xticks(sorted({0, users // 4, users // 2, 3 * users // 4, users - 1}))
    ax.set_yticks([])
    ax.tick_params(labelsize=SMALL, length=2)
    ax.set_ylabel(f"{name} (◥: and others)", rotation=0, ha="right", va="center", fontsize=SMALL)


def _panel(ax: Axes, layout: Layout, users: int, costs: bool) -> None:
    accesses = layout.accesses
    columns = layout.end - layout.first
    ax.vlines(np.arange(layout.first, layout.end + 1), 0, len(layout.rows), color=RULING, linewidth=0.5, zorder=0)
    ax.hlines(np.arange(len(layout.rows) + 1), layout.first, layout.end, color=RULING, linewidth=0.5, zorder=0)
    if costs and not layout.in_banks:
        _sectors(ax, layout)
    elements, firsts, counts = np.unique(accesses.elements, return_index=True, return_counts=True)
    rows, columns_at = layout.place(elements)
    drawn = np.isin(rows, layout.rows)
    xs, ys = columns_at[drawn], np.searchsorted(layout.rows, rows[drawn])
    owners, shared = accesses.users[firsts][drawn], counts[drawn] > 1
    shades = owners / max(1, users - 1)
    # One collection, as a patch for each element would take ten times as long.
    corners = np.array([(0, 0), (layout.width, 0), (layout.width, 1), (0, 1)])
    squares = list(np.stack([xs, ys], axis=1)[:, None] + corners)
    ax.add_collection(PolyCollection(squares, facecolors=COLOURS(shades), edgecolors="white", linewidths=0.4, zorder=1))
    inks = np.where(shades < 0.45, "white", "black")
    triangles = np.array([(0.65, 0), (1, 0), (1, 0.35)]) * (layout.width, 1)
    marks = list(np.stack([xs, ys], axis=1)[shared][:, None] + triangles)
    ax.add_collection(PolyCollection(marks, facecolors=inks[shared], zorder=2))
    cell = layout.width * 72 * (PAGE - LEFT - RIGHT) / max(columns, BANKS)
    if len(str(users - 1)) * DIGIT < cell:
        for x, y, user, ink in zip(xs, ys, owners, inks, strict=True):
            ax.text(x + layout.width / 2, y + 0.5, f"{user}", ha="center", va="center", fontsize=SMALL, color=ink)
    if costs and layout.in_banks and (words := accesses.words_by_bank()).max() > 1:
        corner, width = (int(words.argmax()), 0), max(1, layout.width)
        box = Rectangle(corner, width, len(layout.rows), fill=False, ec=CONFLICT, lw=2, zorder=3, clip_on=False)
        ax.add_patch(box)
    _axes(ax, layout)


def _sectors(ax: Axes, layout: Layout) -> None:
    """The sectors fetched, in pieces where a row of the drawing ends."""
    accesses = layout.accesses
    each = SECTOR // accesses.itemsize
    for sector in accesses.sectors:
        first = (int(sector) * SECTOR - accesses.first_byte) // accesses.itemsize
        rows, columns = layout.place(np.arange(max(0, first), min(math.prod(accesses.shape), first + each)))
        for row in np.intersect1d(rows, layout.rows):
            piece = columns[(rows == row) & (columns >= layout.first) & (columns < layout.end)]
            if piece.size:
                corner = piece[0], int(np.searchsorted(layout.rows, row))
                ax.add_patch(Rectangle(corner, piece.size, 1, color=FETCHED))
                ax.add_patch(Rectangle(corner, piece.size, 1, fill=False, ec="black", lw=1.2, zorder=3))


def _axes(ax: Axes, layout: Layout) -> None:
    height = len(layout.rows)
    ax.set_xlim(layout.first, max(layout.end, layout.first + BANKS))
    ax.set_ylim(height, 0)
    ax.spines[:].set_visible(False)
    step = 1 if height <= 12 else 4
    ax.set_yticks(np.arange(0, height, step) + 0.5, [layout.row_name(int(row)) for row in layout.rows[::step]])
    columns = np.arange(layout.first, layout.end, 4)
    ax.set_xticks(columns + 0.5, [f"{column}" for column in columns])
    ax.tick_params(labelsize=SMALL, length=0)
    across, down = layout.axis_names
    # Below both axes: down the side the name of the rows would be longer than one or two of them are high.
    names = f"across: {across}; down: {down}" + ("" if layout.complete else " (some are left out)")
    ax.set_xlabel(names, fontsize=SMALL, loc="left")
