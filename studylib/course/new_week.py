"""Makes the next week as it should begin: a run sheet, an executed notebook, and a folder a topic with its questions."""

import os
import shutil
from pathlib import Path

import jupytext
import tomlkit

from studylib import files
from studylib.course import toml_files, topic
from studylib.course.course import Course
from studylib.errors import StudyError

WEEK = """\
# One meeting: the run sheet is made from this file and its minutes must add up (studylib/course/week.py).
# `section` is a heading of the notebook, word for word; `topics` are this folder's folders with a topic.toml.
number = {number}
title = {title}
topics = {topics}
exercises = []
readings = []

[[hours]]
title = "basics and pre-2017 techniques"
minutes = 60
parts = [
    {{ minutes = 30, what = "The problem", section = "1.1 The problem" }},
    {{ minutes = 20, what = "What the answers of that time cost", section = "1.2 What the first answers cost" }},
    {{ minutes = 10, what = "Break" }},
]

[[hours]]
title = "recent techniques or theory"
minutes = 60
parts = [
    {{ minutes = 20, what = "The idea from scratch", section = "2.1 The idea from scratch" }},
    {{ minutes = 10, what = "What it costs, and the paper's own table", section = "2.2 What it costs" }},
    {{ minutes = 20, what = "Experiment", section = "2.4 Experiment" }},
    {{ minutes = 10, what = "Break" }},
]

[[hours]]
title = "GPU programming"
minutes = 60
parts = [
    {{ minutes = 50, what = "The kernel of the hour", section = "3.1 The kernel" }},
    {{ minutes = 10, what = "Questions; who takes which topic next week", section = "Questions for the discussion" }},
]
"""
TOPIC = """\
title = {title}
hour = {hour}
papers = []  # keys of readings.toml
"""
NOTEBOOK = '''\
# %% [markdown]
# # Week {number}: {title}
#
# **At the end of this meeting you can**
#
# - say what the paper's idea is, and prove that your few lines do the same as the framework's operator;
# - tell what it costs from a formula.

# %% tags=["parameters"]
FAST = True  # False: more training, more data
SEED = 0  # the first of three seeds of every experiment
DATA = "../../data"  # where `make lab` put the images

# %%
import numpy as np
from numba import cuda

from studylib import blocks, course, gpu, plots

plots.use_style()

# %% [markdown]
# ## Run sheet

# %%
course.sheet(".")

# %% [markdown]
# # Hour 1: basics
#
# ## 1.1 The problem
#
# What did the best answer cost before this paper? Two or three sentences, a picture of the block, and then the lines
# that carry the idea, written by the participants. As an example a $1 \\times 1$ convolution, which mixes the $M$
# channels of an image $x$ at each place $(i, j)$ into $N$ others:
#
# $$y_{{n,i,j}} = \\sum_{{m=0}}^{{M-1}} w_{{n,m}}\\; x_{{m,i,j}}$$

# %% jupyter={{"source_hidden": true}}
one_by_one = ["M channels", "1x1, M to N", "N channels"]
blocks.draw({{"a 1x1 convolution": one_by_one}}, "Each place is mixed by itself")


# %%
def mixed(x, w, n, i, j):
    """x: (M, height, width), w: (N, M) -> the number at place (i, j) of output channel n."""
    # BEGIN SOLUTION, 5 minutes: the sum over m in the formula, for one n, i, j
    return sum(w[n, m] * x[m, i, j] for m in range(len(x)))
    # END SOLUTION


# %%
rng = np.random.default_rng(SEED)
x, w = rng.standard_normal((3, 5, 5)), rng.standard_normal((4, 3))
course.expect(mixed(x, w, 1, 2, 3), np.einsum("nm,mij->nij", w, x)[1, 2, 3], within=1e-12)


# %%
def conv_loops(x, w):
    """x: (M, height, width), w: (N, M) -> (N, height, width)."""
    y = np.zeros((len(w), *x.shape[1:]))
    # BEGIN SOLUTION, 5 minutes: fill every place of y with `mixed`
    for n, i, j in np.ndindex(y.shape):
        y[n, i, j] = mixed(x, w, n, i, j)
    # END SOLUTION
    return y


# %%
course.expect(conv_loops(x, w), np.einsum("nm,mij->nij", w, x), within=1e-12)

# %% [markdown]
# ## 1.2 What the first answers cost
#
# How many multiply-adds does that take for an image of $P$ places?
#
# <details><summary>Answer</summary>
#
# $M$ for each of the $N P$ numbers of $y$: $M N P$.
#
# </details>


# %%
def multiply_adds(M, N, P):
    """What a 1x1 convolution of M channels to N costs at P places."""
    # BEGIN SOLUTION, 5 minutes: count them in your loops
    return M * N * P
    # END SOLUTION


# %%
course.expect(multiply_adds(3, 4, 25), 300)

# %% [markdown]
# # Hour 2: the paper
#
# ## 2.1 The idea from scratch
#
# The formula with every symbol explained, then the same in a few lines, equal to the framework's own operator.


# %%
def conv_matrix(x, w):
    """As conv_loops."""
    # BEGIN SOLUTION, 5 minutes: one matrix product; which shape must x have for it?
    return (w @ x.reshape(len(x), -1)).reshape(len(w), *x.shape[1:])
    # END SOLUTION


# %%
course.expect(conv_matrix(x, w), conv_loops(x, w), within=1e-12)


# %%
def both(x, w, v):
    """Two 1x1 convolutions, w and then v: (L, N), without anything between them -> (L, height, width)."""
    # BEGIN SOLUTION, 5 minutes: as one convolution
    return conv_matrix(x, v @ w)
    # END SOLUTION


# %%
v = rng.standard_normal((2, 4))
course.expect(both(x, w, v), conv_matrix(conv_matrix(x, w), v), within=1e-12)

# %% [markdown]
# ## 2.2 What it costs
#
# Parameters, multiply-adds and bytes as formulas; assert them against `studylib.costs.count` of the real module.


# %%
def parameters(M, N):
    """The weights of a 1x1 convolution, without bias."""
    # BEGIN SOLUTION, 5 minutes: and of one with K x K places?
    return M * N
    # END SOLUTION


# %%
course.expect(parameters(3, 4), w.size)

# %% [markdown]
# ## 2.3 The paper's own table
#
# `ledger.check("paper", where="Table 1", show=[...])`: the three rows that surprise, the rest folded.
#
# ## 2.4 Experiment
#
# On real images, three seeds, their spread, a control, and a sentence on what it does not show.
#
# # Hour 3: GPU programming
#
# ## 3.1 The kernel
#
# Naive against good, drawn with `studylib.gpu`, in steps of a few minutes, then the exercise.


# %%
@cuda.jit
def doubled(x, out):
    # BEGIN SOLUTION, 5 minutes: thread i doubles element i
    i = cuda.grid(1)
    out[i] = 2 * x[i]
    # END SOLUTION


# %%
eight, out = np.arange(8, dtype=np.float32), np.zeros(8, np.float32)
gpu.check(doubled, 1, 8, eight, out)
course.expect(out, 2 * eight)


# %%
@cuda.jit
def doubled_guarded(x, out):
    # BEGIN SOLUTION, 5 minutes: the same, with more threads than elements
    i = cuda.grid(1)
    if i < x.size:
        out[i] = 2 * x[i]
    # END SOLUTION


# %%
out = np.zeros(8, np.float32)
report = gpu.check(doubled_guarded, 2, 8, eight, out)
course.expect(out, 2 * eight)
assert report.ok, report


# %%
@cuda.jit
def transposed(x, out):
    # BEGIN SOLUTION, 5 minutes: two dimensions, and which of the two is x?
    column, row = cuda.grid(2)
    if row < x.shape[0] and column < x.shape[1]:
        out[column, row] = x[row, column]
    # END SOLUTION


# %%
matrix, out = eight.reshape(2, 4), np.zeros((4, 2), np.float32)
gpu.check(transposed, 1, (4, 4), matrix, out)
course.expect(out, matrix.T)

# %% [markdown]
# ## Questions for the discussion
#
# - Which result would have spoken against the idea?
#
# ## Readings
#
# The papers of the topics, with links.
'''


def make(course: Course, name: str, title: str, topics: list[str]) -> Path:
    """Make the folder of the next week, e.g. weeks/05_compression for "compression", and return it.

    topics: the names of the topics' folders, one named like the week if there are none; they go into hours 1, 2, 3.
    The notebook is executed. The folder appears whole or not at all. Raises StudyError for a name that is taken or none.
    """
    from studylib.course import address, meeting, notebooks

    number = max((week.number for week in course.weeks), default=0) + 1
    title, topics = title or name.replace("_", " "), topics or [name]
    _check(course, name, title, topics)
    folder = course.root / "weeks" / f"{number:02d}_{name}"
    if folder.exists():
        raise StudyError(f"there is a folder {folder} without a week.toml: move it away first")
    # Hidden, and a level deeper than weeks are looked for.
    beside = folder.parent / f".{folder.name}.{os.getpid()}"
    made = beside / folder.name
    try:
        made.mkdir(parents=True)
        _write_files(made, number, title, topics)
        notebook = jupytext.reads(NOTEBOOK.format(number=number, title=title), fmt="py:percent")
        address.dress(notebook, folder.name, address.repository(course.root))
        files.replace(made / f"{folder.name}.py", notebooks.as_source(notebook))
        notebooks.store(made / f"{folder.name}.py")
        made.rename(folder)
        opened = meeting.participants(notebooks.read(folder / f"{folder.name}.py"))
        meeting.write(meeting.place(course.root, folder.name), opened)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def _check(course: Course, name: str, title: str, topics: list[str]) -> None:
    for what, given in [("NAME", name), *(("--topic", given) for given in topics)]:
        if not topic.NAME.fullmatch(given):
            raise StudyError(f"{what} is {given!r}, expected small letters, digits and _, such as compression")
    if twice := next((given for given in topics if topics.count(given) > 1), None):
        raise StudyError(f"--topic is {twice!r} twice")
    taken = {known.name: known.week for known in course.topics}
    if twin := next((given for given in topics if given in taken), None):
        raise StudyError(f"there is a topic {twin!r} in {taken[twin]} already: give another name with --topic")
    if twin := next((week.name for week in course.weeks if week.name.partition("_")[2] == name), None):
        raise StudyError(f"there is a week {twin!r} already: give another name")
    toml_files.check_line(title, "--title", longest=100)  # it is the notebook's heading


def _write_files(folder: Path, number: int, title: str, topics: list[str]) -> None:
    quoted = tomlkit.item(title).as_string()
    text = WEEK.format(number=number, title=quoted, topics=tomlkit.item(topics).as_string())
    files.replace(folder / "week.toml", text)
    for place, name in enumerate(topics):
        own = folder / name
        own.mkdir()
        words = title if len(topics) == 1 else name.replace("_", " ")
        text = TOPIC.format(title=tomlkit.item(words).as_string(), hour=place % 3 + 1)
        files.replace(own / "topic.toml", text)
        files.replace(own / "notes.md", topic.notes_template(words))
