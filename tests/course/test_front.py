"""JupyterLab's first page: the next meeting, the schedule, one's own topics and exercises. (In a browser:
tests/browser/test_front_page.)"""

import json
import re
import shutil

import pytest

from studylib import course as courses
from studylib.course import front
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
    return courses.load(group)


def test_todays_and_the_next_meeting_come_first_and_a_past_one_never(everything):
    assert "## Today: week 1, Week of grouped" in front.page(everything, "", {}, on(2))
    page = front.page(everything, "", {}, on(3))
    assert f"## Next meeting: week 2, Week of gpu\n\nMonday 9 November 2026\n\n[notebook]({WEEK}/{WEEK}.ipynb)" in page
    assert "- Hour 3: All of gpu (Ada Lovelace)" in page and "| **2** | **Monday 9 November 2026** |" in page
    after = front.page(everything, "", {}, on(20))
    assert "\n\nNew here? Begin with week 1" in after and "study group init" in after
    assert "Monday 9 November 2026 was the last one" in after


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
