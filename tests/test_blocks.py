"""A block is drawn box by box with every arrow, nothing on top of anything else, and said in words."""

import itertools

import matplotlib.pyplot as plt
import pytest
from matplotlib.patches import FancyBboxPatch

from studylib import blocks, plots
from studylib.blocks import Split

RESIDUAL = ["x: 56x56x256", Split(["1x1, 64 -> 56x56x64", "3x3, 64", "1x1, 256"], [], join="+"), "relu"]
PATH = ["1x1, 256 to 4", "3x3, 4 to 4", "1x1, 4 to 256"]


def fractal(columns):
    smaller = [] if columns == 1 else fractal(columns - 1)
    return ["conv"] if columns == 1 else [Split(["conv"], [*smaller, *smaller], join="mean")]


BLOCKS = {
    "Inception": [
        "28x28x192",
        Split(
            ["1x1, 64"],
            ["1x1, 96", "3x3, 128"],
            ["1x1, 16", "5x5, 32"],
            ["max pool 3x3", "1x1, 32"],
            join="concatenate",
        ),
    ],
    "residual": RESIDUAL,
    "dense": ["k0", *[Split(["1x1, 4k", "3x3, k"], [], join=f"concatenate: k0 + {n}k") for n in (1, 2)]],
    "separable": ["x", "depthwise 3x3", "pointwise 1x1", "y"],
    "ResNeXt": ["x", Split(PATH, PATH, "...", PATH, [], join="+"), "relu"],
    "fractal": fractal(3),
    "ASPP": ["x", Split(["1x1"], ["3x3, rate 6"], ["image pooling", "1x1", "upsample"], join="concatenate"), "1x1"],
    "pyramid": ["x", Split([], *[[f"pool to {n}x{n}", "1x1", "upsample"] for n in (1, 2, 3, 6)], join="concatenate")],
}


def boxes(ax):
    """The boxes as (left, right, top, bottom), with the vertical axis downwards."""
    found = [patch for patch in ax.patches if isinstance(patch, FancyBboxPatch)]
    return [(p.get_x(), p.get_x() + p.get_width(), p.get_y(), p.get_y() + p.get_height()) for p in found]


def labels(ax):
    return [text.get_text() for text in ax.texts if text.get_text()]


@pytest.mark.parametrize("name", BLOCKS)
def test_every_box_is_there_on_its_own_place_inside_the_axes(name):
    (ax,) = blocks.draw({name: BLOCKS[name]}, "title").axes

    def count(block):
        inner = [branch for item in block if isinstance(item, Split) for branch in item.branches if branch != "..."]
        return len(block) + sum(map(count, inner))

    found = boxes(ax)
    assert len(found) == count(BLOCKS[name])
    for a, b in itertools.combinations(found, 2):
        assert a[1] <= b[0] or b[1] <= a[0] or a[3] < b[2] or b[3] < a[2], (a, b)
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert all(left <= a and b <= right and top <= c and d <= bottom for a, b, c, d in found)
    for patch in ax.patches:
        assert patch.get_boxstyle().pad == 0  # what is drawn is what was counted


@pytest.mark.parametrize("name", BLOCKS)
def test_arrows_end_at_boxes_and_every_box_but_the_first_is_reached(name):
    (ax,) = blocks.draw({name: BLOCKS[name]}, "title").axes
    ends = [text.xy for text in ax.texts if text.get_text() == ""]
    found = boxes(ax)
    reached = [box for box in found if any(box[0] <= x <= box[1] and abs(y - box[2]) < 1e-9 for x, y in ends)]
    assert all(any(box[0] <= x <= box[1] and abs(y - box[2]) < 1e-9 for box in found) for x, y in ends)
    first = 0 if isinstance(BLOCKS[name][0], Split) else 1
    assert len(reached) == len(found) - first


@pytest.mark.parametrize("name", BLOCKS)
def test_texts_fit_their_boxes(name):
    fig = blocks.draw({name: BLOCKS[name]}, "title")
    fig.draw_without_rendering()
    (ax,) = fig.axes
    edges = [patch.get_window_extent() for patch in ax.patches]
    for text in ax.texts:
        if text.get_text() and text.get_fontsize() == 8:
            extent = text.get_window_extent()
            assert any(e.x0 <= extent.x0 and extent.x1 <= e.x1 and e.y0 <= extent.y0 for e in edges), text.get_text()


def test_kinds_are_told_apart_without_colour():
    (ax,) = blocks.draw({"a": ["28x28x192", "max pool 3x3", "3x3, 64", Split([], ["1x1"], join="+")]}, "title").axes
    styles = [type(patch.get_boxstyle()).__name__ for patch in ax.patches]
    assert styles == ["Square", "Round4", "Square", "Square", "Round"]
    assert [blocks._kind(text) for text in ("28x28x192", "depthwise", "upsample", "x", "conv", "image pooling")] == [
        "other",
        "convolution",
        "other",
        "other",
        "convolution",
        "pooling",
    ]


def test_a_shape_is_written_beside_the_arrow():
    (ax,) = blocks.draw({"a": RESIDUAL}, "title").axes
    assert "1x1, 64" in labels(ax) and "56x56x64" in labels(ax)


def test_it_is_said_in_words_and_titled():
    fig = blocks.draw({"A bottleneck": RESIDUAL, "ResNeXt": BLOCKS["ResNeXt"]}, "A way round")
    said = plots.describe(fig)
    assert fig.get_suptitle() == "A way round" and [ax.get_title("center") for ax in fig.axes] == [
        "A bottleneck",
        "ResNeXt",
    ]
    assert said.startswith(
        "A way round. A bottleneck: x: 56x56x256, then 2 branches side by side [1x1, 64 (gives 56x56x64), then "
        "3x3, 64, then 1x1, 256; the input itself] joined by “+”, then relu."
    )
    assert "more like these; 1x1, 256 to 4" in said
    plt.close("all")
    assert plt.get_fignums() == []


def test_a_branch_that_is_no_list_is_refused():
    with pytest.raises(ValueError, match=r"a branch is the text '1x1', expected a list of boxes, or '\.\.\.'"):
        Split("1x1", [], join="+")
    with pytest.raises(ValueError, match="a Split has 1 branch"):
        Split(["1x1"], join="+")
