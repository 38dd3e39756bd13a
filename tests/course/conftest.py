"""Small courses in temporary folders: one of a single notebook, and a group's two weeks under real git."""

import datetime
import os
import subprocess

import pytest

from studylib import files
from studylib.course import notebooks, topic

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


GROUP = """\
# The group.
title = "Small nets"
description = "Nets with few parameters."
how = "Each takes a topic."
hours = ["basics", "recent", "GPU"]
start = 2026-10-30
weekday = "Monday"  # the first is on 2 November
repository = "https://github.com/ada/nets"

[[participants]]
name = "Ada Lovelace"
github = "ada"

[[participants]]
name = "Bob"
"""
READINGS = """\
[[papers]]
key = "resnext"
name = "ResNeXt"
title = "Aggregated Residual Transformations"
area = "designs"
arxiv = "1611.05431"
section = "2.1 Paths"

[[papers]]
key = "cs179"
name = "CS179"
title = "GPU Programming"
area = "GPU"
links = ["https://courses.cms.caltech.edu/cs179"]
"""
MEETING = """\
# The run sheet.
number = {number}
title = "Week of {topics[0]}"
topics = [{quoted}]
readings = [{{ title = "ResNeXt", link = "https://arxiv.org/abs/1611.05431" }}]

[[hours]]
title = "One"
minutes = 60
parts = [{{ minutes = 50, what = "Talk", who = "Ada Lovelace" }}, {{ minutes = 10, what = "Break" }}]

[[hours]]
title = "Two"
minutes = 60
parts = [{{ minutes = 60, what = "Paths", section = "2.1 Paths" }}]

[[hours]]
title = "Three"
minutes = 60
parts = [{{ minutes = 60, what = "Kernels" }}]
"""
TOPIC = """\
# A topic.
title = "All of {name}"
hour = {hour}
papers = ["{paper}"]  # in this order
"""
BEGUN = datetime.datetime(2026, 11, 2, 12, tzinfo=datetime.UTC)


def on(day, hour=12):
    """Noon, or another hour, of a day of November 2026."""
    return datetime.datetime(2026, 11, day, hour, tzinfo=datetime.UTC)


@pytest.fixture
def group(tmp_path, monkeypatch):
    """The root of a course of two weeks: grouped and resnext in 01_groups, gpu in 02_kernels; claims: none."""
    root = tmp_path / "group"
    root.mkdir()
    (root / "group.toml").write_text(GROUP, encoding="utf-8")
    (root / "readings.toml").write_text(READINGS, encoding="utf-8")
    weeks = {"01_groups": {"grouped": (1, "resnext"), "resnext": (2, "resnext")}, "02_kernels": {"gpu": (3, "cs179")}}
    for number, (week, topics) in enumerate(weeks.items(), 1):
        folder = root / "weeks" / week
        folder.mkdir(parents=True)
        quoted = ", ".join(f'"{name}"' for name in topics)
        text = MEETING.format(number=number, topics=list(topics), quoted=quoted)
        (folder / "week.toml").write_text(text, encoding="utf-8")
        (folder / f"{week}.py").write_text("# %% [markdown]\n# # A week\n# ## 2.1 Paths\n", encoding="utf-8")
        for name, (hour, paper) in topics.items():
            (folder / name).mkdir()
            text = TOPIC.format(name=name, hour=hour, paper=paper)
            (folder / name / "topic.toml").write_text(text, encoding="utf-8")
            (folder / name / "notes.md").write_text(topic.notes_template(name), encoding="utf-8")
    monkeypatch.setattr(files, "ROOT", root)
    return root


@pytest.fixture
def git(group):
    """Runs git in the group's repository, which has one commit of 2 November on main; `when` dates a commit."""

    def git(*arguments, when=BEGUN, check=True):
        environment = {"PATH": os.environ["PATH"], "HOME": str(group.parent), "GIT_CONFIG_NOSYSTEM": "1"}
        environment |= {f"GIT_{who}_DATE": when.isoformat() for who in ("AUTHOR", "COMMITTER")}
        done = subprocess.run(
            ["git", *arguments], cwd=group, env=environment, capture_output=True, encoding="utf-8", check=False
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    git("init", "-q", "-b", "main")
    git("config", "user.name", "Ada Lovelace")
    git("config", "user.email", "ada@example.org")
    git("add", ".")
    git("commit", "-q", "-m", "The course")
    return git
