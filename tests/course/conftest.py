"""A course of one small week in a temporary folder, for the tests of what executes notebooks."""

import pytest

from studylib.course import notebooks

WEEK = """# %% [markdown]
# # Small
# ## First part

# %% tags=["parameters"]
FAST = True
SEED = 0
DATA = "../../data"

# %%
import sys
import time
from pathlib import Path

from tqdm import tqdm

# %%
for _ in tqdm(range(3), file=sys.stdout):
    pass
print("fast" if FAST else "slow", SEED, Path.cwd().name)

# %% tags=["nbval-ignore-output"]
print(time.time_ns())

# %% [markdown]
# ## Second part

# %%
1 + 1
"""


@pytest.fixture
def course(tmp_path, monkeypatch):
    """The root; the week is 01_small."""
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    source = tmp_path / "weeks" / "01_small" / "01_small.py"
    source.parent.mkdir(parents=True)
    source.write_text(WEEK, encoding="utf-8")
    return tmp_path


@pytest.fixture
def source(course):
    """The week's notebook, weeks/01_small/01_small.py."""
    return course / "weeks" / "01_small" / "01_small.py"
