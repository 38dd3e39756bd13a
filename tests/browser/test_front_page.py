"""What `make lab` opens: the course's first page, whose links open notebooks, exercises, and both side by side."""

import shutil

import pytest

from studylib import course as courses
from studylib import files
from studylib.course import front, meeting
from tests.browser.lab import PATIENCE, TOKEN, Lab, copy_course, page_of
from tests.course.conftest import on

pytestmark = pytest.mark.browser
SECONDS = PATIENCE * 1000
WEEK = "01_intro_depthwise"
TABS = ".lm-DockPanel .lm-TabBar-tabLabel"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A running JupyterLab on a copy of the course, with the first page of 6 November 2026."""
    root = copy_course(tmp_path_factory.mktemp("course"))
    for name in ("group.toml", "readings.toml"):
        shutil.copy(files.ROOT / name, root)
    front.write(courses.load(root), "", {"vector_add": "passed"}, on(6))
    with Lab(root, tmp_path_factory.mktemp("lab")) as running:
        yield running


@pytest.fixture
def page(lab, browser):
    """The first page, as `make lab` opens it."""
    with page_of(browser, 1600, 1000) as page:
        page.goto(f"http://127.0.0.1:{lab.port}/lab/tree/weeks/START.md?reset&token={TOKEN}")
        page.wait_for_selector(".jp-MarkdownViewer h1", timeout=SECONDS)
        yield page


def test_the_page_is_shown_rendered_and_the_file_browser_stands_at_the_weeks(page):
    shown = page.locator(".jp-MarkdownViewer")
    assert [t.strip() for t in shown.locator("h2").all_inner_texts()] == ["Schedule", "My exercises"]
    page.wait_for_selector(f".jp-DirListing-itemText:has-text('{WEEK}')", timeout=SECONDS)
    assert "weeks" in page.locator(".jp-FileBrowser .jp-BreadCrumbs").inner_text()
    assert page.locator(".jp-FileEditor, .jp-Notebook").count() == 0


def test_an_exercise_opens_as_text_and_a_weeks_py_as_a_notebook(page, lab):
    page.locator(".jp-MarkdownViewer a", has_text="vector_add").click()
    page.wait_for_selector(".jp-FileEditor", timeout=SECONDS)
    assert page.locator(TABS).all_inner_texts() == ["START.md", "vector_add.py"]
    assert page.locator(".jp-Notebook").count() == 0
    page.goto(f"http://127.0.0.1:{lab.port}/lab/tree/weeks/{WEEK}/{WEEK}.py?reset&token={TOKEN}")
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=SECONDS)
    assert page.locator(TABS).all_inner_texts() == [f"{WEEK}.py"] and page.locator(".jp-FileEditor").count() == 0


def test_the_exercises_open_beside_the_notebook(page):
    page.locator(".jp-MarkdownViewer a", has_text="with its exercises").first.click()
    page.wait_for_url(f"**/lab/workspaces/{WEEK}*", timeout=SECONDS)
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=SECONDS)
    page.wait_for_selector(".jp-FileEditor:visible .cm-line", timeout=SECONDS)
    names = courses.load(files.ROOT).week(WEEK).exercises
    opened = meeting.opened(files.ROOT, WEEK).rpartition("/")[2]
    assert page.locator(TABS).all_inner_texts() == [opened, *(f"{name}.py" for name in names)]
    notebook, exercise = (page.locator(s).first.bounding_box() for s in (".jp-Notebook", ".jp-FileEditor:visible"))
    assert notebook["x"] + notebook["width"] <= exercise["x"] and notebook["width"] > 400 < exercise["width"]


# Words of tables' cells that stand on more than one line, and whatever of an output can't be scrolled to.
BROKEN = """() => [...document.querySelectorAll('.jp-OutputArea-output td, .jp-OutputArea-output th')].flatMap(cell => {
    const walk = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT), found = [];
    while (walk.nextNode())
        for (const word of walk.currentNode.data.matchAll(/[A-Za-z0-9.,%]+/g)) {
            const range = document.createRange();
            range.setStart(walk.currentNode, word.index);
            range.setEnd(walk.currentNode, word.index + word[0].length);
            if (new Set([...range.getClientRects()].map(r => Math.round(r.top))).size > 1) found.push(word[0]);
        }
    return found;
})"""
HIDDEN = """() => [...document.querySelectorAll('.jp-OutputArea-output table')].filter(table => {
    const output = table.closest('.jp-OutputArea-output'), boxes = [];
    for (let box = table.parentElement; box !== output.parentElement; box = box.parentElement) boxes.push(box);
    const scrolls = boxes.some(box => ['auto', 'scroll'].includes(getComputedStyle(box).overflowX));
    return table.getBoundingClientRect().right > output.getBoundingClientRect().right + 1 && !scrolls;
}).map(table => table.textContent.slice(0, 40))"""


def test_the_exercises_leave_the_notebook_half_of_a_small_screen(page):
    page.set_viewport_size({"width": 1280, "height": 800})
    page.locator(".jp-MarkdownViewer a", has_text="with its exercises").first.click()
    page.wait_for_url(f"**/lab/workspaces/{WEEK}*", timeout=SECONDS)
    page.wait_for_selector(".jp-FileEditor:visible .cm-line", timeout=SECONDS)
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=SECONDS)
    assert not page.locator(".jp-FileBrowser").is_visible()
    assert page.locator(".jp-Notebook").first.bounding_box()["width"] >= 680


def test_no_word_of_a_table_breaks_where_an_output_is_480_wide(page, lab):
    page.goto(f"http://127.0.0.1:{lab.port}/lab/tree/weeks/{WEEK}/{WEEK}.ipynb?reset&token={TOKEN}")
    page.wait_for_selector(".jp-OutputArea-output table", timeout=SECONDS)
    page.add_style_tag(content=".jp-OutputArea-output { width: 480px !important; flex: none !important; }")
    assert page.locator(".jp-OutputArea-output th", has_text="Computed").count() >= 10
    assert page.locator(".jp-OutputArea-output table").first.evaluate("e => e.parentElement.clientWidth") <= 480
    assert page.evaluate(BROKEN) == []
    assert page.evaluate(HIDDEN) == []
