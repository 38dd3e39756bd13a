"""Draws architecture blocks (Inception, residual, dense, ASPP, ...) as boxes and arrows, from one short description.

    residual = ["56x56x256", Split(["1x1, 64", "3x3, 64", "1x1, 256"], [], join="+"), "relu"]
    blocks.draw({"A bottleneck": residual}, "Three convolutions and a way round them")

A block is a list of boxes from top to bottom. A text is a box; what stands behind " -> " in it is written beside the arrow
that leaves it, such as the shape there. A `Split` is branches side by side, each a block of its own, that meet in a box; an
empty branch is a line that bypasses the others, and "..." stands for more branches like its neighbours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from studylib import plots

COLUMN, ROW = 1.25, 0.62  # inches of a branch and of a box with its arrow
WIDTH, HEIGHT = 0.86, 0.56  # of a box, as a part of them
BUS = 1 - HEIGHT  # from a box to the one below it; the line across to the branches runs in the middle
MARGIN = 0.05  # between branches and the box that joins them
DOTS = "..."
# Filled pale, with edges of Okabe and Ito's colours; a join is round and a convolution square, so that no meaning is in
# the colour alone.
KINDS = {
    "convolution": ("#d9e9f5", plots.BLUE, "square,pad=0"),
    "pooling": ("#fdf0d5", plots.ORANGE, "round4,pad=0,rounding_size=0.08"),
    "join": ("#d6efe5", plots.GREEN, "round,pad=0,rounding_size=0.17"),
    "other": ("#ffffff", plots.GREY, "square,pad=0"),
}
CONVOLUTION = re.compile(r"\bconv|\d ?[x×] ?\d+(?![x×\d])|depthwise|pointwise", re.IGNORECASE)
SHAPE = re.compile(r"\d+[x×]\d+[x×]\d+")


@dataclass(frozen=True, init=False)
class Split:
    """Branches side by side that meet in a box with the text `join`."""

    branches: tuple[Block | str, ...]
    join: str

    def __init__(self, *branches: Block | str, join: str) -> None:
        if len(branches) < 2:
            raise ValueError(f"a Split has {len(branches)} branch, expected two or more")
        if strange := [b for b in branches if isinstance(b, str) and b != DOTS]:
            raise ValueError(f"a branch is the text {strange[0]!r}, expected a list of boxes, or {DOTS!r}")
        object.__setattr__(self, "branches", branches)
        object.__setattr__(self, "join", join)


Block = Sequence[str | Split]


class _Point(NamedTuple):
    x: float
    y: float


def draw(blocks: Mapping[str, Block], title: str) -> Figure:
    """The blocks side by side, each below its name; its text alternative says in words what is drawn."""
    sizes = [(max(_columns(block), 1.0), _rows(block)) for block in blocks.values()]
    height = max(rows for _, rows in sizes)
    widths = [max(columns, 1.4) for columns, _ in sizes]
    above = BUS if any(block and isinstance(block[0], Split) for block in blocks.values()) else 0.1
    fig, axes = plt.subplots(
        1,
        len(blocks),
        figsize=(COLUMN * sum(widths) + 0.2, ROW * (height - BUS + above) + 0.75),
        gridspec_kw={"width_ratios": widths},
        layout="constrained",
        squeeze=False,
    )
    for ax, (name, block), (columns, _), width in zip(axes[0], blocks.items(), sizes, widths, strict=True):
        ax.set_title(name, fontsize=9, fontweight="normal", loc="center")
        ax.set(xlim=(-(width - columns) / 2, columns + (width - columns) / 2), ylim=(height - BUS + 0.05, -above))
        ax.set_axis_off()
        _series(ax, block, 0.0, columns, 0.0, None)
    plots.title(fig, title)
    plots.alt(fig, f"{title}. " + " ".join(f"{name}: {describe(block)}." for name, block in blocks.items()))
    plt.close(fig)
    return fig


def describe(block: Block) -> str:
    """A block in words."""
    return ", then ".join(_words(item) for item in block) or "the input itself"


def _words(item: str | Split) -> str:
    if isinstance(item, str):
        text, _, shape = item.partition(" -> ")
        text = " ".join(text.split())
        return f"{text} (gives {shape})" if shape else text
    parts = ["more like these" if branch == DOTS else describe(branch) for branch in item.branches]
    return f"{len(parts)} branches side by side [{'; '.join(parts)}] joined by “{item.join}”"


def _columns(item: Block | str | Split) -> float:
    """How many columns something is wide; a line without a box, and dots, take half of one."""
    if isinstance(item, Split):
        return sum(_columns(branch) for branch in item.branches)
    if isinstance(item, str):
        return 0.5 if item == DOTS else 1.0
    return max((_columns(each) for each in item), default=0.5)


def _rows(item: Block | str | Split) -> float:
    if isinstance(item, Split):
        return max(_rows(branch) for branch in item.branches if branch != DOTS) + MARGIN + 1.0
    if isinstance(item, str):
        return 1.0
    return sum(_rows(each) for each in item)


def _series(ax: Axes, block: Block, left: float, right: float, top: float, above: _Point | None) -> _Point | None:
    """Draw a block between `left` and `right` from `top` on, reached from `above`; where its last box ends."""
    for item in block:
        if isinstance(item, Split):
            above = _split(ax, item, left, right, top, above)
        else:
            text, _, shape = item.partition(" -> ")
            above = _box(ax, text, _kind(text), (left + right) / 2, top, above)
            if shape:
                ax.text(above.x + 0.06, above.y + 0.2, shape, fontsize=7, color=plots.GREY, va="center")
        top += _rows(item)
    return above


def _split(ax: Axes, split: Split, left: float, right: float, top: float, above: _Point | None) -> _Point:
    """Branches from a line across below `above` straight down into a box as wide as all of them."""
    middle, columns = (left + right) / 2, _columns(split)
    x = middle - columns / 2
    bottom = top + _rows(split) - 1.0  # the top of the join's box
    start = above or _Point(middle, top - BUS)
    bus = top - BUS / 2
    height = bottom - top - MARGIN
    _line(ax, start, _Point(middle, bus))
    for branch in split.branches:
        width = _columns(branch)
        here = _Point(x + width / 2, bus)
        x += width
        if isinstance(branch, str):
            ax.text(here.x, (top + bottom) / 2, "⋯", ha="center", va="center", fontsize=14, color=plots.GREY)
            continue
        _line(ax, _Point(middle, bus), here)
        begin = top + (height - _rows(branch)) / 2 if branch else top
        end = _series(ax, branch, here.x - width / 2, here.x + width / 2, begin, here)
        _arrow(ax, end or here, _Point(here.x, bottom))
    return _box(ax, split.join, "join", middle, bottom, None, (columns - 1 + WIDTH) / WIDTH)


def _line(ax: Axes, start: _Point, end: _Point) -> None:
    ax.plot(*zip(start, end, strict=True), color=plots.GREY, lw=1.2, solid_capstyle="projecting", zorder=1)


def _box(ax: Axes, text: str, kind: str, x: float, top: float, above: _Point | None, width: float = 1.0) -> _Point:
    """A box at `top`, with an arrow from `above`; the middle of its lower edge."""
    face, edge, style = KINDS[kind]
    ax.add_patch(
        FancyBboxPatch(
            (x - WIDTH * width / 2, top), WIDTH * width, HEIGHT, boxstyle=style, fc=face, ec=edge, lw=1.3, zorder=2
        )
    )
    ax.text(x, top + HEIGHT / 2, text, ha="center", va="center", fontsize=8, linespacing=1.1, zorder=3)
    if above:
        _arrow(ax, above, _Point(x, top))
    return _Point(x, top + HEIGHT)


def _arrow(ax: Axes, start: _Point, end: _Point) -> None:
    style = {"arrowstyle": "-|>", "color": plots.GREY, "lw": 1.2, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 9}
    ax.annotate("", end, start, arrowprops=style)


def _kind(text: str) -> str:
    """What a box stands for, from its text: 3x3 is a convolution, 56x56x256 a shape."""
    if "pool" in text.lower():
        return "pooling"
    return "convolution" if CONVOLUTION.search(SHAPE.sub("", text)) else "other"
