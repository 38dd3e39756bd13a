"""The participants' notebook equals the week's own outside its gaps, and what somebody has done in it is never lost."""

import jupytext
import nbformat
import pytest

from studylib.course import meeting, notebooks

GAPS = '''

# %% [markdown]
# ## Third part

# %%
def double(x):
    """x: a number; twice that."""
    # BEGIN SOLUTION, 2 minutes: add x to itself
    twice = x + x
    return twice
    # END SOLUTION


# %% [markdown]
# Its check:

# %% tags=["nbval-skip"]
assert double(3) == 6, f"got {double(3)}, expected 6"

# %%
base = 4
# BEGIN SOLUTION, 3 minutes: the square of `base`
square = base**2
# END SOLUTION

# %%
assert square == 16
'''


@pytest.fixture
def gapped(course, source):
    """The small week with two gaps; the file is its source."""
    source.write_text(source.read_text() + GAPS)
    return source


def built(course):
    return meeting.own(meeting.place(course, "01_small"))


def test_a_gap_has_its_minutes_and_what_it_is_about(gapped):
    notebook = notebooks.read(gapped)
    first, second = meeting.gaps(notebook)
    assert (first.minutes, first.what, second.minutes) == (2, "add x to itself", 3)
    assert "twice = x + x\n" in first.solution and "..." not in first.solved
    assert first.open.splitlines()[2:] == ["    ...  # your turn, 2 minutes: add x to itself"]
    assert second.open == "base = 4\n...  # your turn, 3 minutes: the square of `base`"
    assert notebook.cells[first.check].source.startswith("assert double(3)")


def test_the_participants_notebook_is_the_source_with_open_gaps(course, gapped):
    assert meeting.build() == ([course / "exercises" / "01_small" / "meeting.ipynb"], [])
    whole, mine = notebooks.read(gapped), built(course)
    gaps = {gap.cell: gap for gap in meeting.gaps(whole)}
    assert [cell.source for cell in mine.cells] == [
        gaps[n].open if n in gaps else cell.source for n, cell in enumerate(whole.cells)
    ]
    assert [cell.id for cell in mine.cells] == [cell.id for cell in whole.cells]
    assert [cell.metadata.get("tags") for cell in mine.cells] == [cell.metadata.get("tags") for cell in whole.cells]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in mine.cells)
    assert mine.metadata.kernelspec.name == "python3" and "twice =" not in nbformat.writes(mine)


def test_jupyterlab_makes_no_py_of_it(course, gapped):
    """All other notebooks have one: [tool.jupytext] in pyproject.toml."""
    meeting.build()
    assert jupytext.formats.long_form_multiple_formats(built(course).metadata.jupytext.formats) == [
        {"extension": ".ipynb"}
    ]


def test_a_week_without_gaps_has_none(course, source):
    assert meeting.build() == ([], []) and not (course / "exercises").exists()


def test_what_a_participant_has_changed_stays(course, gapped):
    (path,), _ = meeting.build()
    assert meeting.build() == ([], [])
    mine = built(course)
    mine.cells[-2].source = "base = 4\nsquare = 16"
    nbformat.write(mine, path)
    before = path.read_bytes()
    gapped.write_text(gapped.read_text().replace("Third", "Last"))
    assert meeting.build() == ([], [path]) and path.read_bytes() == before


def test_one_that_was_only_run_is_brought_up_to_date(course, gapped):
    (path,), _ = meeting.build()
    mine = built(course)
    mine.cells[-1].outputs = [nbformat.v4.new_output("stream", text="ran")]
    mine.cells[-1].execution_count = 5
    mine.cells[-1].metadata["trusted"] = True
    mine.metadata["language_info"] = {"name": "python", "version": "3.11.7"}
    nbformat.write(mine, path)
    assert meeting.build() == ([], [])  # it is up to date
    gapped.write_text(gapped.read_text().replace("Third", "Last"))
    assert meeting.build() == ([path], []) and "Last" in path.read_text()


def test_a_damaged_notebook_is_named(course, gapped):
    (path,), _ = meeting.build()
    path.write_text("{")
    with pytest.raises(ValueError, match="meeting.ipynb is damaged"):
        meeting.build()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("2 minutes: add", "9 minutes: add", "a gap has 2 to 5 minutes"),
        ("SOLUTION, 2 minutes: add x to itself", "SOLUTION", "expected one region a cell, # BEGIN SOLUTION, 3 minutes"),
        ("    # END SOLUTION", "# END SOLUTION", "expected one region a cell"),
        ("    # END SOLUTION\n", "", "expected one region a cell"),
        ("    twice = x + x\n    return twice\n", "", "the region is empty"),
        ("assert double(3) == 6", "# BEGIN SOLUTION, 2 minutes: x\nassert double(3) == 6", "the next code cell must"),
        ("\n# %%\nassert square == 16\n", "", "the next code cell must check it"),
    ],
)
def test_a_wrong_mark_is_refused(course, gapped, old, new, message):
    assert old in gapped.read_text()
    gapped.write_text(gapped.read_text().replace(old, new))
    with pytest.raises(ValueError, match=f"01_small.py: .*{message}"):
        meeting.build()


def test_a_gap_is_passed_when_it_is_filled_and_its_check_has_run(course, gapped):
    meeting.build()
    mine = built(course)
    cell, check = mine.cells[-5], mine.cells[-3]
    assert "def double" in cell.source and "assert double" in check.source
    assert meeting.states(mine) == ["not attempted", "not attempted"]
    cell.source = "def double(x):\n    return 2 * x"
    assert meeting.states(mine) == ["failed", "not attempted"]
    check.execution_count = 7
    assert meeting.states(mine) == ["passed", "not attempted"]
    check.outputs = [nbformat.v4.new_output("error", ename="AssertionError", evalue="no", traceback=[])]
    assert meeting.states(mine) == ["failed", "not attempted"]
    mine.cells.insert(-3, nbformat.v4.new_code_cell("double(3)"))  # one's own cell between
    check.outputs = []
    assert meeting.states(mine) == ["passed", "not attempted"]
