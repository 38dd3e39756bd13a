"""JupyterLab's first page: the next meeting, the schedule, one's own topics and exercises. (In a browser:
tests/browser/test_front_page.)"""

import json
import re
import shutil

import nbformat
import pytest

from studylib import course as courses
from studylib.course import front, meeting
from studylib.kernels import stubs
from tests.course.conftest import on

WEEK = "02_resnext_gpu1"


@pytest.fixture
def everything(group):
    """The course, with the second week renamed to one that has exercises, a stored notebook and a claim."""
    (group / "weeks" / "02_kernels").rename(group / "weeks" / WEEK)
    sheet = group / "weeks" / WEEK / "week.toml"
    sheet.write_text(sheet.read_text().replace("topics =", 'exercises = ["transpose", "reduce_sum"]\ntopics ='))
    (group / "weeks" / WEEK / f"{WEEK}.ipynb").touch()
    with (group / "weeks" / WEEK / "gpu" / "topic.toml").open("a") as file:
        file.write('\n[claim]\nowner = "Ada Lovelace"\ndate = 2026-11-02\n')
    shutil.copytree(stubs.EXERCISES / WEEK, group / "exercises" / WEEK)
    (group / "exercises" / WEEK / meeting.NAME).unlink(missing_ok=True)
    return courses.load(group)


@pytest.fixture
def gapped(everything):
    """The participants' notebook of that week, with two gaps, one of them passed."""
    open_ = "...  # your turn, 2 minutes: x"
    cells = [
        nbformat.v4.new_code_cell("x = 1", id="a", metadata={"gap": {"check": "b"}}),
        nbformat.v4.new_code_cell("x", id="b", execution_count=1),
        nbformat.v4.new_code_cell(open_, id="c", metadata={"gap": {"check": "d"}}),
        nbformat.v4.new_code_cell("x", id="d", execution_count=1),
    ]
    path = meeting.place(everything.root, WEEK)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_todays_and_the_next_meeting_come_first_and_a_past_one_never(everything):
    assert "## Today: week 1, Week of grouped" in front.page(everything, "", {}, on(2))
    page = front.page(everything, "", {}, on(3))
    assert (
        f"## Next meeting: week 2, Week of gpu\n\nMonday 9 November 2026\n\n[notebook](../weeks/{WEEK}/{WEEK}.ipynb)"
        in page
    )
    assert "- Hour 3: All of gpu (Ada Lovelace)" in page and "| **2** | **Monday 9 November 2026** |" in page
    after = front.page(everything, "", {}, on(20))
    assert "\n\nNew here? Begin with week 1" in after and "study group init" in after
    assert "Monday 9 November 2026 was the last one" in after


def test_where_a_week_has_gaps_the_participants_notebook_is_opened_and_its_gaps_are_counted(everything, gapped):
    page = front.page(everything, "", {}, on(3))
    assert page.count(f"[notebook](../exercises/{WEEK}/meeting.ipynb)") == 3 and f"{WEEK}/{WEEK}.ipynb" not in page
    assert "**Week 2**, 1 of 2 gaps of its [notebook]" in page
    layout = front.workspace(everything.week("2"))["data"]
    path = f"exercises/{WEEK}/meeting.ipynb"
    assert layout[f"notebook:{path}"]["data"]["path"] == path and len(layout) == 5
    assert layout["file-browser-filebrowser:cwd"]["path"] == f"exercises/{WEEK}"
    gapped.write_text("{")
    assert "gaps" not in front.page(everything, "", {}, on(3))  # a damaged file is no reason not to start


def test_my_topics_are_mine(everything):
    assert f"[All of gpu]({WEEK}/gpu/notes.md): 0 of 8 questions" in front.page(everything, "Ada Lovelace", {}, on(3))
    assert "My topics" not in front.page(everything, "Bob", {}, on(3))


def test_my_exercises_say_where_my_file_stands(everything):
    def mine(verdicts):
        return re.search(
            r"^\| \[transpose\]\(.*\| (.*) \|$", front.page(everything, "", verdicts, on(3)), re.MULTILINE
        )[1]

    file = everything.root / "exercises" / WEEK / "transpose.py"
    assert mine({"transpose": "passed"}) == "–"  # a stub has not passed, whatever was remembered
    file.write_text(file.read_text().replace("raise NotImplementedError", "pass  #"))
    assert mine({}) == mine({"transpose": "not attempted"}) == "begun"
    assert mine({"transpose": "failed"}) == "✗ not yet" and mine({"transpose": "passed"}) == "✓ passed"
    file.unlink()
    assert "the file is missing" in mine({})


def test_links_lead_to_files_that_are_there(everything):
    path = front.write(everything, "Ada Lovelace", {}, on(3))
    links = re.findall(r"\]\(([^)]+)\)", path.read_text())
    assert path == everything.root / "weeks" / "START.md" and len(links) >= 6
    assert [link for link in links if not (path.parent / link).exists()] == []
    (saved,) = (everything.root / front.FOLDERS).iterdir()
    layout = json.loads(saved.read_text())
    opened = [
        entry["data"]["path"] for name, entry in layout["data"].items() if name.startswith(("notebook", "editor"))
    ]
    assert len(opened) == 3 and all((everything.root / name).exists() for name in opened)
