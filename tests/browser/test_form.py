"""What the form of a meeting needs of JupyterLab: folded cells, answers, a figure's text, a notebook of one's own."""

import shutil

import pytest

from studylib import files
from studylib.course import meeting, notebooks
from tests.browser.lab import PATIENCE, TOKEN, Lab, page_of, save

pytestmark = pytest.mark.browser
SECONDS = PATIENCE * 1000
SOURCE = r"""# %% [markdown]
# # Form
#
# Why?
#
# <details><summary>Answer</summary>
#
# Because $x^2$ **grows**.
#
# </details>

# %% jupyter={"source_hidden": true}
import matplotlib.pyplot as plt

from studylib import plots

plots.use_style()
fig, ax = plt.subplots()
ax.set_title("A line that rises")
ax.plot([1, 2, 3])
plt.show()


# %%
def double(x):
    # BEGIN SOLUTION, 2 minutes: add x to itself
    return x + x
    # END SOLUTION


# %%
assert double(2) == 4, f"got {double(2)}, expected 4"
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A running JupyterLab on a course of one executed week with a gap."""
    root = tmp_path_factory.mktemp("course")
    shutil.copy(files.ROOT / "pyproject.toml", root)
    source = root / "weeks" / "01_form" / "01_form.py"
    source.parent.mkdir(parents=True)
    source.write_text(SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notebooks, "ROOT", root)
        notebooks.store(source)
        meeting.build()
    with Lab(root, tmp_path_factory.mktemp("lab")) as running:
        running.root = root
        yield running


@pytest.fixture
def page(lab, browser):
    with page_of(browser) as page:
        page.goto(f"http://127.0.0.1:{lab.port}/lab/tree/weeks/01_form/01_form.ipynb?reset&token={TOKEN}")
        page.wait_for_selector(".jp-Notebook .jp-OutputArea-output img", timeout=SECONDS)
        yield page


def test_a_folded_cell_shows_its_picture_and_not_its_code(page):
    cells = page.locator(".jp-CodeCell")
    assert cells.nth(0).locator(".jp-InputPlaceholder").count() == 1
    assert cells.nth(0).locator(".cm-content").count() == 0 and cells.nth(1).locator(".cm-content").count() == 1


def test_a_folded_answer_opens_and_is_rendered(page):
    answer = page.locator(".jp-MarkdownOutput details")
    bold = answer.locator("strong", has_text="grows")
    bold.wait_for(state="attached", timeout=SECONDS)
    assert not bold.is_visible()
    answer.locator("summary").click()
    assert bold.is_visible() and answer.locator("mjx-container").count() == 1


def test_a_figure_has_its_text_alternative(page):
    assert page.locator(".jp-RenderedImage img").get_attribute("alt") == "A line that rises."


def test_the_participants_notebook_is_saved_alone_and_counts_its_gaps(page, lab):
    path = "exercises/01_form/meeting.ipynb"
    lab.open(page, path)
    assert "...  # your turn, 2 minutes: add x to itself" in page.locator(".jp-CodeCell").nth(1).inner_text()
    lab.run_all(page, path, PATIENCE)
    save(page)
    own = meeting.place(lab.root, "01_form")
    assert sorted(file.name for file in own.parent.iterdir() if file.is_file()) == ["meeting.ipynb"]
    assert meeting.progress(lab.root) == {"01_form": (0, 1)} and meeting.is_untouched(meeting.own(own))
    page.locator(".jp-CodeCell").nth(1).locator(".cm-line", has_text="your turn").click()
    page.keyboard.press("Home")
    page.keyboard.type("return 2 * x #")
    lab.run_all(page, path, PATIENCE)
    save(page)
    assert meeting.progress(lab.root) == {"01_form": (1, 1)} and not meeting.is_untouched(meeting.own(own))
