"""The site's pages say what the course's files say; what is wrong with a page stops the build. (tests/browser/test_site
reads the built site.)"""

import base64
import io

import nbformat
import numpy as np
import pytest
from PIL import Image

from studylib import course as courses
from studylib import ledger
from studylib.course import notebooks, site
from studylib.course.site import pages
from tests.course.conftest import on

CLAIM = '\n[claim]\nowner = "Ada Lovelace"\ndate = 2026-11-02\nsecond = "Bob"\n'


@pytest.fixture
def everything(group):
    with (group / "weeks" / "01_groups" / "resnext" / "topic.toml").open("a") as file:
        file.write(CLAIM)
    return courses.load(group)


def test_the_schedule_has_every_meeting_topic_and_claim(everything):
    page = pages.schedule(everything, on(3))
    assert 'data-date="2026-11-02"' in page and 'data-date="2026-11-09"' in page and "Monday 2 November 2026" in page
    for topic in everything.topics:
        assert topic.title in page and f'href="weeks/{topic.week}/{topic.name}/notes.html"' in page
    assert page.count("Ada Lovelace and Bob") == 2  # the topic; the participants
    assert "Ada Lovelace, Bob, 1 of 2 topics free" in page and "free: study claim gpu" in page


def test_a_weeks_page_has_run_sheet_topics_readings_and_the_notebook_once_it_is_there(everything):
    week = everything.weeks[0]
    without = pages.week_page(everything, week, on(3), has_notebook=False)
    assert "not executed yet" in without and "Notebook <" not in without
    page = pages.week_page(everything, week, on(3), has_notebook=True)
    assert "Notebook <01_groups>" in page and 'href="01_groups.html#paths">2.1 Paths<' in page
    for start, minutes, what, _, who in week.rows():
        assert f"<div>{start}</div>" in page and f"<div>{minutes}</div>" in page and what in page and who in page
    assert "[ResNeXt](https://arxiv.org/abs/1611.05431)" in page


def test_every_paper_of_the_list_is_there_with_its_state_whether_or_not_it_has_a_ledger(everything):
    page = pages.papers_page(everything, {"resnet": ledger.check("resnet", where="Table 1")})
    for paper in everything.papers:
        assert f'href="{paper.key}.html"' in page and paper.title in page
    assert "claimed, derived" in page and "[ResNet](resnet.md)" in page  # the second is beside the list
    alone = pages.paper_page(everything, "cs179", None, on(3))
    assert "<https://courses.cms.caltech.edu/cs179>" in alone and "not in the ledger yet" in alone


def test_a_papers_page_has_each_row_printed_computed_verdict_and_why(everything):
    checked = ledger.check("mobilenet", where="Table 2")
    page = pages.paper_page(everything, "mobilenet", checked, on(3))
    for row in checked.rows:
        assert row.what in page and f"<div>{row.printed}</div>" in page and row.verdict in page and row.why in page
        assert f"<summary>{row.computed}</summary><code>{pages.escape(row.compute)}</code>" in page
    wrong = pages.differences_page({"mobilenet": checked})
    assert wrong.count("1.19%") == 1 and "1.91%" in wrong and "94.86%" not in wrong


def test_a_card_has_the_plan_the_budget_and_the_file_but_no_hint_and_no_solution():
    page = pages.cards_page("02_resnext_gpu1")
    exercise = pages.kernels.load("transpose")
    assert all(step in page for step in exercise.plan) and 'NotImplementedError("week 2, transpose' in page
    assert not any(hint in " ".join(page.split()) for hint in exercise.hints) and "cuda.shared.array" not in page


def test_a_notebook_gets_one_title_and_code_is_left_alone():
    cells = ["# Title\n## Run sheet", "# Hour 1\n## 1.1 Part", "```\n# a comment\n```\n# Hour 2"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text) for text in cells])
    notebook.cells.append(nbformat.v4.new_code_cell("# Not a heading"))
    assert [cell.source for cell in pages.notebook_page(notebook).cells] == [
        "# Title\n## Run sheet",
        "## Hour 1\n### 1.1 Part",
        "```\n# a comment\n```\n## Hour 2",
        "# Not a heading",
    ]


def test_what_stands_in_a_data_file_is_text_and_no_markup(everything, group):
    text = (group / "weeks" / "01_groups" / "week.toml").read_text()
    text = text.replace('"Talk"', '"<script>x</script>"').replace('title = "Week of', 'title = "*<b>* of')
    (group / "weeks" / "01_groups" / "week.toml").write_text(text)
    week = courses.load(group).weeks[0]
    page = pages.week_page(everything, week, on(3), has_notebook=False)
    assert "<script>" not in page and "&lt;script&gt;" in page and r"\*\<b\>\*" in page


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")  # in the theme
def test_a_link_to_nowhere_stops_the_build(everything, monkeypatch, capfd):
    monkeypatch.setattr(site.ledger, "papers", list)
    notes = everything.topics[0].notes
    notes.write_text(notes.read_text().replace("Reading notes", "[Reading notes](nowhere.md)"))
    with pytest.raises(site.SiteError, match="faults that are listed above"):
        site.build(on(3), everything.root)
    assert "nowhere.md" in capfd.readouterr().err


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")  # in the theme
def test_the_built_page_has_the_texts_of_its_pictures_and_folds_code_and_solutions(everything, monkeypatch):
    monkeypatch.setattr(site.ledger, "papers", list)
    dot = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABpfZFQAAAAABJRU5ErkJggg=="
    pictures = [
        nbformat.v4.new_output("display_data", {"image/png": dot}, metadata={"image/png": {"alt": text}})
        for text in ("A line that rises.", 'Two "lines" < one.')
    ]
    solved = "# BEGIN SOLUTION, 2 minutes: x\nx = 21 + 21\n# END SOLUTION"
    cells = [
        nbformat.v4.new_markdown_cell("# Week 1"),
        nbformat.v4.new_code_cell("plot()", metadata={"jupyter": {"source_hidden": True}}, outputs=pictures),
        nbformat.v4.new_code_cell(solved),
        nbformat.v4.new_code_cell("x"),
    ]
    week = everything.weeks[0]
    metadata = {"kernelspec": notebooks.KERNELSPEC, "language_info": {"name": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), week.folder / f"{week.name}.ipynb")
    site.build(on(3), everything.root)
    page = (everything.root / "build" / "site" / "weeks" / week.name / f"{week.name}.html").read_text()
    assert page.count('alt="A line that rises."') == 1 and page.count('alt="Two &quot;lines&quot; &lt; one."') == 1
    folded = page.partition("<summary>Solution: x</summary>")[2].partition("</details>")[0]
    assert page.count(">21<") == 2 == folded.count(">21<") and "your turn, 2 minutes: x" in page
    assert "tag_hide-input" in page and page.index("tag_hide-input") < page.index("A line that rises")


def test_a_picture_on_the_site_is_lighter_and_looks_the_same():
    drawn = np.full((120, 160, 4), 255, np.uint8)
    drawn[..., :3] = np.random.default_rng(0).integers(100, 140, (120, 160, 3))
    stored = io.BytesIO()
    Image.fromarray(drawn).save(stored, "PNG")
    shown = nbformat.v4.new_output("display_data", {"image/png": base64.b64encode(stored.getvalue()).decode() + "\n"})
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("plot()", outputs=[shown])])
    page = base64.b64decode(pages.notebook_page(notebook).cells[0].outputs[0].data["image/png"])
    with Image.open(io.BytesIO(page)) as image:
        difference = np.abs(np.asarray(image.convert("RGBA"), int) - drawn)
    assert difference.shape == (120, 160, 4) and difference.mean() < 8
    assert len(page) < len(stored.getvalue()) / 2


def test_a_missing_package_is_named(everything, monkeypatch):
    monkeypatch.setattr(site, "NEEDED", ("sphinx", "no-such-package"))
    with pytest.raises(ValueError, match=r"^the site needs no-such-package: run `make lab`"):
        site.build(on(3), everything.root)


def test_a_notebooks_page_folds_what_is_folded_and_the_solutions_of_gaps():
    solved = "def f(x):\n    # BEGIN SOLUTION, 2 minutes: `x` < 3 twice\n    return 2 * x\n    # END SOLUTION"
    cells = [
        nbformat.v4.new_markdown_cell("# Week 1", id="title"),
        nbformat.v4.new_code_cell(solved, id="gap"),
        nbformat.v4.new_code_cell("assert f(1) == 2", id="check"),
        nbformat.v4.new_code_cell("plot()", id="plot", metadata={"jupyter": {"source_hidden": True}, "tags": ["x"]}),
    ]
    page = pages.notebook_page(nbformat.v4.new_notebook(cells=cells))
    nbformat.validate(page)
    gap, solution, check, plot = page.cells[1:]
    assert gap.source == "def f(x):\n    ...  # your turn, 2 minutes: `x` < 3 twice"
    assert solution.cell_type == "markdown" and "```python\nreturn 2 * x\n```" in solution.source
    assert solution.source.startswith("<details><summary>Solution: <code>x</code> &lt; 3 twice</summary>")
    assert check.source == "assert f(1) == 2" and check.metadata == {}
    assert plot.metadata.tags == ["x", "hide-input"]
