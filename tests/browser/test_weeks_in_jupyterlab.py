"""Every week's notebook as a participant meets it: opened in JupyterLab; the quickest is run from the menu.

nbval and `study run` execute all of them.
"""

from pathlib import Path

import nbformat
import pytest

from studylib.course import notebooks
from tests.browser.lab import (
    OVERFLOW,
    ROOT,
    Lab,
    all_numbered,
    copy_course,
    has_error,
    page_of,
    photograph,
    save,
    wait_for_formulas,
)
from tests.pythons import NOTEBOOK

pytestmark = pytest.mark.browser
QUICKEST = Path(NOTEBOOK).name
OUTPUTS = ".jp-Notebook .jp-OutputArea-output"


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    return copy_course(tmp_path_factory.mktemp("course"))


@pytest.fixture(scope="module")
def lab(course, tmp_path_factory):
    with Lab(course, tmp_path_factory.mktemp("lab")) as running:
        yield running


@pytest.fixture
def page(browser):
    with page_of(browser) as page:
        yield page


def test_the_quickest_runs_from_the_menu(lab, course, page):
    check(QUICKEST, lab, course, page, run=True)


@pytest.mark.parametrize("week", sorted(notebooks.weeks().keys() - {QUICKEST}))
def test_the_others_show_what_is_stored(week, lab, course, page):
    check(week, lab, course, page, run=False)


def check(week, lab, course, page, run):
    """No error, warning or overflow; saving leaves the .py, which people review, as it was, and the metadata."""
    path = f"weeks/{week}/{week}.ipynb"
    scripts, requests = [], []
    page.on("pageerror", lambda error: scripts.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    lab.open(page, path)
    if run:
        lab.run_all(page, path, seconds=900)
    wait_for_formulas(page)
    # Errors are of this type too.
    written = page.locator(f'{OUTPUTS}[data-mime-type="application/vnd.jupyter.stderr"]').all_inner_texts()
    assert not written, written[0]
    assert all_numbered(page) and not has_error(page)
    for what, selector in {"table": "table", "figure": "img, svg"}.items():
        assert page.locator(OUTPUTS).locator(selector).count(), f"no {what} among the outputs"
    assert page.locator(OUTPUTS).filter(has_text="100%|").count(), "no progress bar"
    assert page.locator(".jp-MarkdownOutput mjx-container").count(), "no formula is typeset"
    if wide := page.evaluate(OVERFLOW):
        photograph(page, ROOT / "build" / "screenshots", week)
        pytest.fail(f"wider than its place: {wide}; see build/screenshots")
    assert not scripts
    assert not [url for url in requests if not url.startswith((f"http://127.0.0.1:{lab.port}", "data:", "blob:"))]
    save(page)
    assert (course / path).with_suffix(".py").read_text() == notebooks.find(week).read_text()
    assert metadata(course / path) == metadata(ROOT / path)


def metadata(path):
    """The notebook's and its cells' metadata, but the version of Python."""
    notebook = nbformat.read(path, 4)
    notebook.metadata.language_info.version = ""
    return notebook.metadata, [(cell.id, cell.cell_type, cell.metadata) for cell in notebook.cells]
