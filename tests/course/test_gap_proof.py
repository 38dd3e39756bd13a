"""The proof of a week's gaps lets sound ones through and names what is wrong with others."""

import os

import nbformat
import pytest

from studylib.course import gap_proof, meeting, notebooks
from studylib.errors import StudyError

# After the first gap's trial `list_` must be as it was, and the second check sees what the first left.
GAPS = """

# %%
from studylib import course

list_ = []


def double(x):
    # BEGIN SOLUTION, 2 minutes: add x to itself
    return x + x
    # END SOLUTION


# %%
list_.append(len(list_))
course.expect(double(3), 6)

# %%
# BEGIN SOLUTION, 3 minutes: the first of the list
first = list_[0] + 7
# END SOLUTION

# %%
assert list_ == [0]
assert globals().get("first") == 7, f"got {globals().get('first')}, expected 7"
"""


@pytest.fixture
def gapped(course, source):
    source.write_text(source.read_text() + GAPS)
    return source


def prove(source, old="", new=""):
    assert old in source.read_text()
    source.write_text(source.read_text().replace(old, new) if old else source.read_text())
    meeting.build()
    return gap_proof.prove("01_small")


def test_sound_gaps_pass_and_trying_one_leaves_nothing_behind(gapped):
    assert prove(gapped) == []


def test_a_week_without_gaps_is_not_run(course, source, monkeypatch):
    monkeypatch.setattr(notebooks, "execute", lambda *_: pytest.fail("it was run"))
    assert gap_proof.prove("01_small") == []


def test_a_check_that_cannot_fail_is_named(gapped):
    wrong = prove(gapped, "course.expect(double(3), 6)", "double(3)")
    assert wrong == ["the gap 'add x to itself': its check passes with the gap unfilled"]


def test_a_check_that_stumbles_is_named(gapped):
    (wrong,) = prove(gapped, "course.expect(double(3), 6)", "assert double(3) + 0 == 6")
    assert 'its check ends with "TypeError: unsupported' in wrong and "says what it got and expected" in wrong


def test_a_check_that_says_nothing_is_named(gapped):
    (wrong,) = prove(gapped, "course.expect(double(3), 6)", "assert double(3) == 6")
    assert "its check ends with 'AssertionError: '" in wrong


def test_a_cell_that_needs_its_own_gap_is_named(gapped):
    (wrong,) = prove(gapped, "first = list_[0] + 7\n# END SOLUTION", "first = list_[0] + 7\n# END SOLUTION\nfirst + 1")
    assert wrong.startswith("the gap 'the first of the list': unfilled, its own cell fails (NameError")


def test_a_kernel_that_ends_is_named(gapped):
    (wrong,) = prove(gapped, "course.expect(double(3), 6)", "double(3) or __import__('os')._exit(0)")
    assert "unfilled, it ends the kernel" in wrong


def test_a_solution_that_fails_its_check_is_a_failing_cell(gapped):
    (wrong,) = prove(gapped, "return x + x", "return x * x")
    assert "code cell 7 failed" in wrong and "got 9, expected 6" in wrong


def test_a_system_that_cannot_copy_a_process_is_told_so(gapped, monkeypatch):
    monkeypatch.delattr(os, "fork")
    with pytest.raises(StudyError, match="on Linux or macOS"):
        prove(gapped)


@pytest.mark.parametrize(
    ("number", "change", "said"),
    [
        (1, {"source": "FAST = False"}, "cell 2 differs from the source: 'FAST = False'"),
        (-4, {"source": "def double(x):\n    ...  # your turn"}, "differs outside the gap 'add x to itself'"),
        (-2, {"source": "first = 7"}, "has 'first = 7' in place of the gap 'the first of the list'"),
        (-1, {"execution_count": 3}, "has been run"),
    ],
)
def test_what_the_participants_get_is_held_against_the_source(course, gapped, monkeypatch, number, change, said):
    meeting.build()
    path = meeting.place(course, "01_small")
    mine = meeting.own(path)
    mine.cells[number].update(change)
    nbformat.write(mine, path)
    monkeypatch.setattr(gap_proof, "_tried", lambda *_: [])
    wrong = gap_proof.prove("01_small")
    assert any(said in line for line in wrong) and all("study exercises build" in line for line in wrong)


def test_a_missing_notebook_is_named(gapped, monkeypatch):
    monkeypatch.setattr(gap_proof, "_tried", lambda *_: [])
    assert gap_proof.prove("01_small") == ["01_small/meeting.ipynb is missing: study exercises build"]


@pytest.mark.parametrize("week", notebooks.weeks())
def test_the_participants_notebooks_of_the_course_are_up_to_date(week):
    assert gap_proof.differences(week) == []


def test_one_that_is_left_over_is_named(gapped, source):
    meeting.build()
    source.write_text(source.read_text().partition("\n# %%\nfrom studylib")[0])
    assert gap_proof.differences("01_small") == ["01_small/meeting.ipynb: the week has no gaps"]
