"""The figures that several notebooks share, in one readable style: a survey, an experiment over seeds, a row of images.

Colours are Okabe and Ito's, which a colour-blind reader can tell apart; where colour carries meaning,
a marker or a label carries it too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import matplotlib.ticker
import numpy as np
from adjustText import adjust_text
from cycler import cycler
from IPython import get_ipython
from matplotlib.axes import Axes
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from studylib.ledger import Point

BLUE, ORANGE, GREEN, PURPLE, SKY, RED, BLACK, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#000000",
    "#777777",
)
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, RED, BLACK)  # their yellow is left out: too pale on white
MARKERS = "osD^vPX*<>hd"


def use_style() -> None:
    """Set matplotlib's defaults for a notebook, and give its figures a text alternative; call it in the import cell."""
    mpl.rcParams.update(
        {
            "figure.dpi": 110,
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "font.size": 10,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "axes.titleweight": "bold",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.axisbelow": True,
            "axes.prop_cycle": cycler(color=COLOURS),
            "lines.linewidth": 1.8,
            "legend.frameon": False,
            "image.cmap": "gray_r",
        }
    )
    if shell := get_ipython():
        from matplotlib_inline.config import InlineBackend

        shell.display_formatter.mimebundle_formatter.for_type(Figure, _with_alt)
        # Otherwise each stored PNG names matplotlib's version, and a new release alone would change them all.
        options: dict[str, Any] = {"bbox_inches": "tight", "metadata": {"Software": None}}
        InlineBackend.instance(parent=shell).print_figure_kwargs = options


def title(fig: Figure, text: str) -> None:
    """What the figure shows as a whole, bold, above its axes at the left."""
    fig.suptitle(text, fontsize=11, fontweight="bold", x=0.01, ha="left")


def alt(fig: Figure, text: str) -> None:
    """Say in words what a figure shows, for those who do not see it, in place of what `describe` makes of it."""
    fig.set_label(text)


def describe(fig: Figure) -> str:
    """What a figure shows, in words: the text that `alt` gave it, else its titles, axes and series."""
    if fig.get_label():
        return str(fig.get_label())
    panels = [_panel(ax) for ax in fig.axes if ax.axison or ax.get_title()]
    parts = [fig.get_suptitle(), *dict.fromkeys(panel for panel in panels if panel)]
    return " ".join(f"{part.rstrip('.')}." for part in parts if part)


def _panel(ax: Axes) -> str:
    headings = [ax.get_title(loc) for loc in ("left", "center", "right")]
    parts = [" ".join(heading.split()) for heading in headings if heading]
    for name, label in (("across", ax.get_xlabel()), ("up", ax.get_ylabel())):
        text = " ".join(label.split())
        parts += [text if text.startswith(("across:", "down:")) else f"{name}: {text}"] if text else []
    named = [text for text in ax.get_legend_handles_labels()[1] if text]
    return "; ".join(parts + ([f"drawn: {', '.join(named)}"] if named else []))


def _with_alt(fig: Figure, include: object = None, exclude: object = None) -> tuple[dict, dict]:
    """No data, for IPython draws the figure as ever, and what goes with its PNG."""
    return {}, {"image/png": {"alt": describe(fig)}}


def survey(points: Sequence[Point], title: str) -> Figure:
    """Quoted top-1 error (percent, ImageNet validation) against computed multiply-adds, one marker per paper.

    The nets of one paper are joined by a line; hollow markers are errors that were not measured on a single
    centre crop and compare less well. Raises ValueError where there is nothing to draw.
    """
    points = [p for p in points if p.top1_error is not None]
    if not points:
        raise ValueError("the survey has no net with a quoted top-1 error: add [[net]] entries to the ledger")
    papers = list(dict.fromkeys(p.paper for p in sorted(points, key=lambda p: (p.year, p.paper))))
    fig, ax = plt.subplots(figsize=(9.4, 7.2), layout="constrained")
    for n, paper in enumerate(papers):
        group = sorted((p for p in points if p.paper == paper), key=lambda p: p.macs)
        colour, marker = COLOURS[n % len(COLOURS)], MARKERS[n % len(MARKERS)]
        ax.plot([p.macs for p in group], [p.top1_error for p in group], color=colour, lw=1, alpha=0.4)
        for p in group:
            single = "single" in p.protocol or "centre" in p.protocol
            ax.plot(p.macs, p.top1_error, marker, color=colour, ms=7, mfc=colour if single else "white")
    ax.set_xscale("log")
    ax.set_yscale("log")  # most networks lie between 20 and 30 %; the small ones would press them together
    ax.yaxis.set_major_locator(mpl.ticker.FixedLocator(range(15, 65, 5)))
    ax.yaxis.set_major_formatter("{x:.0f}")
    ax.yaxis.set_minor_locator(mpl.ticker.NullLocator())
    ax.set_xlabel("multiply-adds for one image (computed from the published architecture)")
    ax.set_ylabel("top-1 error on ImageNet, % (quoted; log scale)")
    ax.set_title(title)
    ax.text(0.01, 0.02, "hollow: not stated to be a single centre crop", transform=ax.transAxes, fontsize=8, color=GREY)
    ax.grid(alpha=0.25)
    ax.margins(x=0.12, y=0.1)
    fig.draw_without_rendering()  # the labels are placed against the final layout
    macs, errors = [p.macs for p in points], [p.top1_error for p in points]
    labels = [ax.text(p.macs, p.top1_error, p.name, fontsize=7.5) for p in points]
    # So many steps, as by default it stops after a second: the picture would depend on the machine.
    adjust_text(
        labels,
        x=macs,
        y=errors,
        ax=ax,
        expand=(1.1, 1.4),
        min_arrow_len=4,
        iter_lim=300,
        arrowprops={"arrowstyle": "-", "color": GREY, "lw": 0.6},
    )
    return _finished(fig)


def seeds(results: Mapping[str, Sequence[float]], title: str, xlabel: str) -> Figure:
    """One row a condition, one dot a seed, a bar at the mean: what an experiment over seeds showed.

    results: condition -> one value per seed, in the unit that `xlabel` names.
    """
    fig, ax = plt.subplots(figsize=(7.5, 0.8 + 0.42 * len(results)), layout="constrained")
    for row, values in enumerate(results.values()):
        colour = COLOURS[row % len(COLOURS)]
        ax.plot(values, [row] * len(values), "o", color=colour, alpha=0.7, ms=7, mec="white")
        ax.plot([np.mean(values)] * 2, [row - 0.28, row + 0.28], color=colour, lw=2.5)
    ax.set_yticks(range(len(results)), list(results))
    ax.invert_yaxis()
    ax.set_xlabel(xlabel)
    ax.set_title(title)
    ax.grid(axis="x", alpha=0.25)
    return _finished(fig)


def images(pictures: Sequence[np.ndarray], titles: Sequence[str], title: str, height: float = 2.2) -> Figure:
    """A row of pictures (height, width) or (height, width, 3), each with its own title and no axes."""
    if len(pictures) != len(titles):
        raise ValueError(f"got {len(pictures)} pictures and {len(titles)} titles: give one title for each picture")
    shapes = [np.shape(p) for p in pictures]
    widths = [height * s[1] / s[0] for s in shapes]
    fig, axes = plt.subplots(
        1,
        len(pictures),
        figsize=(sum(widths) + 0.25 * len(widths), height + 0.75),
        gridspec_kw={"width_ratios": widths},
        layout="constrained",
        squeeze=False,
    )
    for ax, picture, name in zip(axes[0], pictures, titles, strict=True):
        ax.imshow(picture)
        ax.set_title(name, fontsize=9, fontweight="normal")
        ax.set_axis_off()
    fig.suptitle(title, fontsize=11, fontweight="bold", x=0.01, ha="left")
    return _finished(fig)


def _finished(fig: Figure) -> Figure:
    """The figure, out of pyplot's hands: a notebook would otherwise show it twice, as value and as open figure."""
    plt.close(fig)
    return fig
