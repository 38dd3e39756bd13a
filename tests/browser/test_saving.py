"""A run that JupyterLab saves differs from what `study run --save` stored only in what may differ: tagged cells."""

import json
import shutil
import subprocess

import pytest

from studylib.course import notebooks
from tests.browser.lab import ROOT, Lab, page_of, save

pytestmark = pytest.mark.browser
WEEK = "weeks/01_short/01_short"
# Every kind of output that the weeks have, and one cell whose output no two runs share.
SOURCE = r"""# %% [markdown]
# # Short
#
# A formula, $x^2$, and a letter, é.

# %% tags=["parameters"]
FAST = True
SEED = 0
DATA = "../../data"

# %%
from time import perf_counter_ns

import matplotlib.pyplot as plt
from IPython.display import HTML, Markdown, display

from studylib import ledger, plots

plots.use_style()

# %%
print("one\ntwo", end="")
print(" and the rest", flush=True)
print("three")

# %%
fig, ax = plt.subplots()
ax.plot([1, 2, 3]);

# %% tags=["nbval-ignore-output"]
print(perf_counter_ns())


# %%
def twice(x):
    return 2 * x


# %%
display(Markdown("**é**"), HTML("<b>b</b>\n<i>c</i>"))
ledger.check("mobilenet", where="Table 1")

# %%
{"a": [twice(1.5), None, True], "b": 1 / 3}
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory, browser):
    """(what is stored, what JupyterLab saved after it ran all cells, the .py afterwards, JupyterLab's log)"""
    root = tmp_path_factory.mktemp("course")
    shutil.copy(ROOT / "pyproject.toml", root)
    notebook, source = root / f"{WEEK}.ipynb", root / f"{WEEK}.py"
    source.parent.mkdir(parents=True)
    source.write_text(SOURCE, encoding="utf-8")
    notebooks.store(source)
    stored = notebook.read_text(encoding="utf-8")
    with Lab(root, tmp_path_factory.mktemp("lab")) as lab, page_of(browser) as page:
        lab.open(page, f"{WEEK}.ipynb")
        lab.run_all(page, f"{WEEK}.ipynb", seconds=120)
        save(page)
    return stored, notebook.read_text(encoding="utf-8"), source.read_text(encoding="utf-8"), lab.log.read_text()


def test_only_the_tagged_cell_differs(saved, tmp_path):
    stored, again, source, _ = saved
    assert source == SOURCE
    assert stored != again, "the tagged cell prints the time: it was not run"
    changed = [
        f"{sign}      {json.dumps(time)}" for sign, text in (("-", stored), ("+", again)) for time in times(text)
    ]
    assert difference(stored, again, tmp_path) == changed


def test_the_log_warns_of_nothing_that_a_reader_should_mend(saved):
    """That a notebook is not trusted is said of every one that was made elsewhere."""
    warnings = [line for line in saved[3].splitlines() if line.startswith("[W") and "is not trusted" not in line]
    assert warnings == []


def times(notebook):
    """The lines that the tagged cell printed."""
    cells = json.loads(notebook)["cells"]
    return [
        line
        for cell in cells
        if cell["metadata"].get("tags") == ["nbval-ignore-output"]
        for line in cell["outputs"][0]["text"]
    ]


def difference(old, new, folder):
    """The lines of `git diff` that are removed and added."""
    for name, text in (("old", old), ("new", new)):
        (folder / name).write_text(text, encoding="utf-8")
    command = ["git", "diff", "--no-index", "--no-color", "--unified=0", "old", "new"]
    shown = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", check=False).stdout
    return [line for line in shown.splitlines()[4:] if not line.startswith("@@")]
