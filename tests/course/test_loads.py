"""The load of a part is counted from what stands under its heading; what is folded costs nothing."""

import re

import pytest
from rich.console import Console
from typer.testing import CliRunner

from studylib.cli import app
from studylib.course import form, loads, notebooks, week

SHEET = """
number = 1
title = "Loads"
topics = []
readings = []
exercises = ["transpose", "reduce_sum"]
hours = [
    {title = "One", minutes = 60, parts = [{minutes = 5, what = "Welcome"},
        {minutes = 40, what = "First", section = "1.1 First"}, {minutes = 15, what = "Rest", section = "1.3 Rest"}]},
    {title = "Two", minutes = 60, parts = [{minutes = 60, what = "Second", section = "2.1 Second"}]},
    {title = "Three", minutes = 60, parts = [{minutes = 60, what = "Kernels", exercises = ["transpose"]}]},
]
"""
NOTEBOOK = """\
# %% [markdown]
# # Week 1: loads
# These words are before the first part.

# %%
import before

# %% [markdown]
# # Hour 1
# Two words.
#
# ## 1.1 First
# one two three

# %%
a = 1

b = 2  # a line

# %% [markdown]
# ## 1.2 No part of its own
# four

# %% jupyter={"source_hidden": true}
folded = 1

# %% tags=["remove-cell"]
left_out = 1

# %%
def f(x):
    # BEGIN SOLUTION, 4 minutes: what
    y = x
    return y
    # END SOLUTION


# %%
assert f(1) == 1, "got"

# %% [markdown]
# ## 1.3 Rest
# # Hour 2
# ## 2.1 Second

# %%
x = 1

# %% [markdown]
# # Appendix
# ## Not in the meeting
# many words which nobody has to read

# %%
# BEGIN SOLUTION, 5 minutes: what
x = 1
# END SOLUTION

# %%
assert x == 1
"""


@pytest.fixture
def meeting(tmp_path):
    """The week of that sheet and notebook, in a folder of its own."""
    folder = tmp_path / "weeks" / "01_loads"
    folder.mkdir(parents=True)
    (folder / "week.toml").write_text(SHEET)
    (folder / "01_loads.py").write_text(NOTEBOOK)
    return week.load(folder)


def test_each_part_has_what_stands_under_its_heading(meeting):
    welcome, first, rest, second, kernels = loads.of_week(meeting)
    # "Hour 1", "Two words.", "1.1 First", "one two three", "1.2 No part of its own", "four": marks are no words.
    assert (first.words, first.lines, first.gaps) == (2 + 2 + 2 + 3 + 6 + 1, 2 + 2 + 1, (4,))
    assert (welcome.words, welcome.lines, welcome.gaps, welcome.minutes) == (0, 0, (), 0)
    assert (rest.words, second.words, second.lines, second.gaps) == (2, 2 + 2, 1, ())
    assert [load.hour for load in (welcome, first, rest, second, kernels)] == [1, 1, 1, 2, 3]
    assert first.minutes == pytest.approx(16 / 150 + 5 / 10 + 4) and first.own == 4
    transpose = loads.kernels.load("transpose").minutes
    assert kernels.minutes == kernels.own == transpose
    assert loads.own_work([welcome, first, rest, second, kernels]) == 4 + transpose


def test_over_is_more_than_a_quarter():
    part = week.Part(8, "x")
    assert not loads.Load(part, 1, 1500, 0, ()).is_over
    assert loads.Load(part, 1, 1500, 1, ()).is_over


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("One, two: *three* - four.", 4),
        ("[the paper](https://arxiv.org/abs/1) and ![a picture](x.png)", 3),
        ("with $x_{a} + y$ in it", 4),
        ("$$y = \\sum_{n}\nx_n$$", 10),
        ("Why?\n\n<details><summary>Answer</summary>\n\nBecause so.\n\n</details>\n\nOn", 2),
        ("| a | b |\n|---|---|\n| 1 | 2 |", 4),
        ("<b>bold</b> text", 2),
    ],
)
def test_words_are_those_in_sight(text, words):
    assert loads.count_words(text) == words


def test_a_heading_in_a_fence_is_none(meeting):
    source = meeting.folder / "01_loads.py"
    source.write_text(source.read_text().replace("# four", "# ```\n# # Hour 9\n# ```\n# four"))
    assert loads.of_week(meeting)[1].words == 16 + 2


def test_study_sheet_load_shows_them_and_what_is_wrong(meeting, monkeypatch):
    assert "Load" not in CliRunner().invoke(app, ["sheet", "2"]).output
    shown = CliRunner().invoke(app, ["sheet", "2", "--load"])
    assert shown.exit_code == 0 and "The participants' own work:" in shown.output and "Gaps:" in shown.output
    assert CliRunner().invoke(app, ["sheet", "2", "--load", "--live"]).exit_code == 1
    console = Console(width=120)
    with console.capture() as captured:
        console.print(loads.table(meeting, loads.of_week(meeting), ["a remark"]))
    lines = captured.get().splitlines()
    (row,) = [line for line in lines if "First" in line]
    assert [cell.strip() for cell in row.split("│")[1:-1]] == ["0:05", "40", "4.6", "0.1", "0.5", "4", "", "First"]
    assert "Gaps: 1 in hour 1, 0 in hour 2, 0 in hour 3." in lines and lines[-1] == "a remark"


def sound(meeting):
    """The notebook of a week in the form: three gaps in hours 1 and 2 each, 25 minutes of an exercise."""
    gap = "\n# %%\n# BEGIN SOLUTION, 4 minutes: x\nx = 1\n# END SOLUTION\n\n# %%\nassert x == 1\n"
    text = NOTEBOOK.replace("\n# %%\nx = 1\n", 3 * gap, 1).replace(
        "\n# %% [markdown]\n# ## 1.2", f"{2 * gap}\n# %% [markdown]\n# ## 1.2"
    )
    (meeting.folder / "01_loads.py").write_text(text)
    return text


def test_a_week_in_the_form_has_no_fault(meeting):
    sound(meeting)
    assert form.faults(meeting) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("# one two three", "# " + 9000 * "word ", "“First” has 40 minutes and a load of 73.0: .* or give it 59"),
        ("# ## 2.1 Second", "# ## 2.1 Second\n# # Later", "hour 2 has 0 gaps, expected 3"),
        ("# ## 2.1 Second", "# ## 2.1 Second\n# # Later", "own work is 37 minutes, expected 45"),
        ("a = 1\n", 25 * "a = 1\n", "a cell in sight has 27 lines, at most 25: 'a = 1'"),
        ("a = 1\n", 34 * "assert a\n", "41 assertions are in sight, at most 40"),
    ],
)
def test_what_is_not_in_the_form_is_named(meeting, old, new, fault):
    text = sound(meeting).replace(old, new, 1)
    (meeting.folder / "01_loads.py").write_text(text)
    assert any(re.search(fault, line) for line in form.faults(meeting)), form.faults(meeting)


def test_a_week_without_a_notebook_has_faults(meeting):
    (meeting.folder / "01_loads.py").unlink()
    assert "hour 1 has 0 gaps, expected 3 or more" in form.faults(meeting)


def test_folded_code_counts_for_no_rule(meeting):
    text = sound(meeting).replace("folded = 1\n", 50 * "assert True\n")
    (meeting.folder / "01_loads.py").write_text(text)
    assert form.faults(meeting) == []


COURSE = [week.load(source.parent) for source in notebooks.weeks().values()]


@pytest.mark.parametrize("week", COURSE, ids=lambda week: week.name)
def test_every_week_of_the_course_is_in_the_form(week):
    assert form.faults(week) == []
