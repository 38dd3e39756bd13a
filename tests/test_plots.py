"""The shared figures show what they are given, and refuse what they cannot draw."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell
from matplotlib.figure import Figure

from studylib import plots
from studylib.ledger import Point


def point(name, macs, error, paper="A", protocol="single crop"):
    return Point(name, paper, 2017, error, None, protocol, "Table 1", macs, 1000)


def markers(figure):
    """(x, y, hollow) of every marker in the figure's first axes."""
    lines = [line for line in figure.axes[0].lines if line.get_marker() != "None"]
    return {(line.get_xdata()[0], line.get_ydata()[0], line.get_markerfacecolor() == "white") for line in lines}


def test_survey_draws_every_net_and_marks_other_protocols():
    nets = [
        point("one", 1e8, 40.0),
        point("two", 1e9, 30.0, paper="B", protocol="ten crops"),
        point("three", 2e9, 25.0),
    ]
    figure = plots.survey(nets, "a finding")
    assert markers(figure) == {(1e8, 40.0, False), (1e9, 30.0, True), (2e9, 25.0, False)}
    assert {"one", "two", "three"} <= {text.get_text() for text in figure.axes[0].texts}
    assert figure.axes[0].get_title() == "a finding"


def test_survey_of_nothing_says_what_to_do():
    with pytest.raises(ValueError, match="add .*net.* entries to the ledger"):
        plots.survey([], "nothing")


def test_seeds_draws_each_seed_and_the_mean():
    figure = plots.seeds({"a": [1.0, 2.0, 6.0], "b": [4.0, 4.0, 4.0]}, "title", "accuracy, %")
    drawn = [list(line.get_xdata()) for line in figure.axes[0].lines]
    assert drawn == [[1.0, 2.0, 6.0], [3.0, 3.0], [4.0, 4.0, 4.0], [4.0, 4.0]]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "b"]


def test_images_needs_a_title_for_each_picture():
    with pytest.raises(ValueError, match="2 pictures and 1 titles"):
        plots.images([np.zeros((4, 4))] * 2, ["only one"], "title")


def test_figures_are_closed_so_that_a_notebook_shows_them_once():
    plt.close("all")
    plots.images([np.zeros((4, 4)), np.zeros((4, 8, 3))], ["a", "b"], "title")
    plots.seeds({"a": [1.0, 2.0, 3.0]}, "title", "x")
    assert plt.get_fignums() == []


def test_colours_of_one_figure_differ():
    assert len(set(plots.COLOURS)) == len(plots.COLOURS)


def test_a_title_stands_over_the_whole_figure_at_the_left():
    fig, _ = plt.subplots(1, 2)
    plots.title(fig, "Both sides agree")
    assert fig.get_suptitle() == "Both sides agree" and fig._suptitle.get_position()[0] == 0.01
    assert fig._suptitle.get_fontweight() == "bold" and fig._suptitle.get_ha() == "left"


def test_a_figure_is_described_by_its_titles_axes_and_series_or_as_its_author_says():
    fig, (left, right) = plt.subplots(1, 2)
    plots.title(fig, "Groups save work.")
    left.plot([1, 2], label="dense")
    left.plot([1, 1], label="grouped")
    left.set(xlabel="groups", ylabel="multiply-adds", title="measured\nhere")
    left.legend()
    right.imshow([[0, 1]])
    right.set_title("the matrix", loc="center")
    right.set(xlabel="across: column", ylabel="rows\nof it")
    right.set_axis_off()
    assert plots.describe(fig) == (
        "Groups save work. measured here; across: groups; up: multiply-adds; drawn: dense, grouped. "
        "the matrix; across: column; up: rows of it."
    )
    plots.alt(fig, "Two lines, one falling")
    assert plots.describe(fig) == "Two lines, one falling"
    assert plots.describe(plt.figure()) == ""
    plt.close("all")


def test_a_notebook_stores_the_description_with_the_picture():
    """As the kernel shows a figure: the PNG, and beside it what is said of it."""
    shell = InteractiveShell.instance()
    try:
        plots.use_style()
        fig, ax = plt.subplots()
        ax.set_title("One bar")
        formatter = shell.display_formatter
        formatter.formatters["image/png"].for_type(Figure, lambda figure: b"png")
        data, metadata = formatter.format(fig)
        assert data["image/png"] == b"png" and metadata["image/png"] == {"alt": "One bar."}
    finally:
        InteractiveShell.clear_instance()
        plt.close("all")
