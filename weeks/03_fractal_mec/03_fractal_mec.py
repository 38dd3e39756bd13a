# %% [markdown]
# # Week 3: a net that contains itself twice, and a convolution with a smaller buffer
#
# **At the end of this meeting you can**
#
# - grow a fractal block from its rule, and count its depth, its convolutions and its paths;
# - say what local and global drop-path drop, and prove that the expected join is still the mean of all inputs;
# - write im2col's matrix and MEC's smaller one, and show that both compute the framework's convolution;
# - say in bytes what each of them costs, and for which layers MEC saves nothing;
# - name a function that a deep network computes with $2k$ units, and prove that one layer needs at least $2^k - 1$;
# - multiply two matrices on a GPU through tiles, and count what that saves.
#
# Every number below is printed or asserted by a cell, unless it is marked as quoted from a paper or as seen once. Where
# a paper's printed number does not come out, the table says so.
#
# *Think first* asks before a cell answers: say your guess aloud, then open the answer. *Your turn* is a gap in your own
# copy of this notebook (`exercises/03_fractal_mec/meeting.ipynb`); the cell below it checks what you wrote. A ± is
# the standard error of the mean over three seeds.

# %% tags=["remove-cell"]
# Google Colab opens this file alone: fetch the rest. Anywhere else this cell does nothing.
import os
import site
import subprocess
import sys

if "google.colab" in sys.modules and not os.path.exists("week.toml"):
    address = ""
    if not address:
        raise RuntimeError("this copy names no address to fetch the course from: study address URL writes it here")
    subprocess.run(["git", "clone", "--depth=1", address, "course"], check=True)
    subprocess.run([sys.executable, "-m", "pip", "install", "-qe", "course[weeks]"], check=True)
    site.main()  # this running Python finds the package too
    os.chdir("course/weeks/03_fractal_mec")

# %% tags=["parameters"]
FAST = True  # False: longer training and a net of 40 layers; half an hour
SEED = 0  # the first of three seeds of every experiment
DATA = "../../data"  # not needed this week: the digits of scikit-learn are large enough

# %% jupyter={"source_hidden": true}
import math
import tracemalloc
from collections import Counter
from fractions import Fraction
from itertools import product
from time import perf_counter

import matplotlib.pyplot as plt
import networkx as nx
import numba
import numpy as np
import torch
import torch.nn.functional as F
from IPython.display import Markdown, display
from numba import cuda, float32
from threadpoolctl import threadpool_limits
from torch import nn

import studylib
from studylib import course, data, gpu, kernels, ledger, mec, nets, plots
from studylib.costs import count
from studylib.nets.fractalnet import LOCAL_DROP, ConvNormReLU, FractalBlock, join
from studylib.training import Summary, accuracy, fit, over_seeds
from studylib.words import counted

plots.use_style()
torch.set_num_threads(1)  # small networks lose more by waiting for a second core than they gain
SEEDS = (SEED, SEED + 1, SEED + 2)
digits = data.digits(seed=SEED)
rng = np.random.default_rng(SEED)

# %% [markdown]
# ## Run sheet
# Three hours with a break in the first two. The presenter of a topic keeps its minutes; questions close each hour.

# %%
course.sheet(".")


# %% [markdown]
# # Hour 1: FractalNet
#
# ## 1.1 One rule, applied again and again
#
# By 2016 the deepest networks were **residual**: a few layers add their result to their input. Is that addition what
# makes depth trainable? FractalNet (arXiv 1605.07648) answers with a network that has none and is, on ImageNet, as
# accurate as the residual network of 34 layers (its Table 2). It is grown by one rule. Here is the single convolution
# that it begins with, and what the rule makes of it, applied once, twice, three times:

# %% jupyter={"source_hidden": true}
def expand(graph, columns, source, top=0.0, bottom=1.0):
    """Add f_columns, which reads the node `source`; return the ends of its last join."""
    conv = ("conv", len(graph))
    graph.add_node(conv, number=columns, top=top, bottom=bottom)  # where to draw it
    graph.add_edge(source, conv)
    if columns == 1:
        return [conv]
    middle = (top + bottom) / 2
    between = joined(graph, expand(graph, columns - 1, source, top, middle), middle)
    return [conv, *expand(graph, columns - 1, between, middle, bottom)]


def joined(graph, ends, y):
    """The node that reads all ends; a single end is that node itself."""
    if len(ends) == 1:
        return ends[0]
    node = ("join", len(graph))
    graph.add_node(node, y=y)
    graph.add_edges_from((end, node) for end in ends)
    return node


def fractal_graph(columns):
    """The whole block f_columns, from the node "in" to the node "out"."""
    graph = nx.DiGraph()
    graph.add_node("in")
    graph.add_edge(joined(graph, expand(graph, columns, "in"), 1.0), "out")
    return graph


def draw_block(ax, columns, title, drop=lambda column, middle: False):
    """Boxes are convolutions, bars are joins; data flow from top to bottom. `drop`: drawn pale."""
    graph = fractal_graph(columns)
    place = {}  # of each convolution, the shallowest column on the left
    dropped = set()
    for node, is_ in graph.nodes(data=True):
        if node[0] == "conv":
            place[node] = x, y = columns - is_["number"], (is_["top"] + is_["bottom"]) / 2
            pale = drop(columns - is_["number"] + 1, y)
            dropped |= {node} if pale else set()
            arrow = {"arrowstyle": "-|>", "color": plots.GREY, "lw": 1, "shrinkA": 0, "shrinkB": 0}
            arrow["alpha"] = 0.25 if pale else 1
            ax.annotate("", (x, y - 0.03), (x, is_["top"]), arrowprops=arrow, zorder=1)
            below = [y + 0.03, is_["bottom"]]
            ax.plot([x, x], below, color=plots.GREY, lw=1, alpha=arrow["alpha"], zorder=1)
            box = plt.Rectangle((x - 0.3, y - 0.03), 0.6, 0.06, color=plots.BLUE, zorder=2)
            box.set_alpha(0.15 if pale else 1)
            ax.add_patch(box)
    for node, is_ in graph.nodes(data=True):
        if node[0] == "join":
            ends = list(graph.predecessors(node))
            xs = [place[end][0] for end in ends]
            alpha = 0.15 if all(end in dropped for end in ends) else 1
            span = [min(xs) - 0.25, max(xs) + 0.25]
            ax.plot(span, [is_["y"]] * 2, color=plots.ORANGE, lw=4, alpha=alpha)
    ax.plot([0, columns - 1], [0, 0], color=plots.GREY, lw=1)
    ax.set(xlim=(-0.6, columns - 0.4), ylim=(1.04, -0.04), xticks=[], yticks=[])
    ax.set_title(title, fontweight="normal", fontsize=9)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)


# %% jupyter={"source_hidden": true} tags=["figure-fractal"]
fig, axes = plt.subplots(1, 4, figsize=(8, 4.2), layout="constrained", width_ratios=[1, 1.6, 2.3, 3])
for ax, columns in zip(axes, (1, 2, 3, 4)):
    draw_block(ax, columns, f"$f_{columns}$: depth {2 ** (columns - 1)}")
plots.title(fig, "Each block is the one before it, twice, and one convolution (left) next to both")
plots.alt(
    fig,
    "Four fractal blocks of 1 to 4 columns. Blue boxes are convolutions, orange bars are joins, arrows run from top to "
    "bottom. Column c of a block has 2 to the power c - 1 convolutions; each block holds the one before it twice.",
)
plt.show()


# %% [markdown]
# Blue boxes are convolutions (each with batch norm and ReLU behind it), orange bars are **joins**, and data flow
# downwards. The block has $C$ **columns**, numbered from the left: column 1 is one convolution long, column $C$ has
# $2^{C-1}$. The rule itself starts with a single convolution $f_1$:
#
# $$f_{C+1}(z) = \big[\, (f_C \circ f_C)(z) \,\big] \;\oplus\; \big[\, \mathrm{conv}(z) \,\big]$$
#
# $f_C \circ f_C$ is the block so far, twice in a row. One new convolution stands next to both, and $\oplus$ joins the
# two results. Where one join would feed straight into another, the two become one join with more inputs.
#
# ## 1.2 Depth, convolutions, paths
#
# **Your turn.** Read three counts off the rule: the *depth* (convolutions on the longest path), the number of
# *convolutions*, and the number of *paths* from input to output.

# %%
def counts(columns):
    """Depth, convolutions and paths of the block f_columns."""
    depth, convolutions, paths = 1, 1, 1  # of f_1
    for _ in range(columns - 1):
        # BEGIN SOLUTION, 3 minutes: the three counts of the next block from those of this one
        depth, convolutions, paths = 2 * depth, 2 * convolutions + 1, paths**2 + 1
        # END SOLUTION
    return depth, convolutions, paths


# %%
for columns in (1, 2, 3, 4, 5):  # by brute force: every path of the drawn graph is listed
    graph = fractal_graph(columns)
    paths = list(nx.all_simple_paths(graph, "in", "out"))
    depth = max(sum(node[0] == "conv" for node in path) for path in paths)
    convolutions = sum(node[0] == "conv" for node in graph)
    course.expect(counts(columns), (depth, convolutions, len(paths)))
    sizes = counted(convolutions, "convolution"), counted(len(paths), "path")
    print(f"{counted(columns, 'column')}: depth {depth}, {', '.join(sizes)}")

# %% [markdown]
# <details><summary>Why the three rules hold</summary>
#
# - Two blocks in a row are twice as deep: $d_{C+1} = 2 d_C$, hence $d_C = 2^{C-1}$.
# - Two blocks and one more convolution: $n_{C+1} = 2 n_C + 1$, hence $n_C = 2^C - 1$.
# - One path leads through the new convolution. Through the two blocks, each path of the first can be followed by each
#   path of the second: $q_{C+1} = q_C^2 + 1$.
#
# </details>
#
# The paper's network for CIFAR is five such blocks in a row, each with its own number of channels. At the end of each
# block a 2x2 pooling halves the side. With $B$ blocks it is $B \cdot 2^{C-1}$ layers deep, and $q_C^B$ paths lead
# through it ($q_C$: the paths of one block).

# %% jupyter={"source_hidden": true}
graph = fractal_graph(4)
paths = nx.all_simple_paths(graph, "in", "out")
lengths = Counter(sum(node[0] == "conv" for node in path) for path in paths)
print("4 columns, paths of each length:", dict(sorted(lengths.items())))
print(f"5 blocks of 4 columns: {5 * 2**3} layers, {counts(4)[2] ** 5:,} paths")


# %% [markdown]
# ## 1.3 The join is a mean
#
# The join $\oplus$ is the element-wise **mean** of its inputs. With $\ell$ for the loss:
#
# $$\bigoplus_{i=1}^{n} z_i = \frac{1}{n} \sum_{i=1}^{n} z_i, \qquad
#   \frac{\partial \ell}{\partial z_i} = \frac{1}{n}\, \frac{\partial \ell}{\partial (\oplus z)}$$
#
# Each of the $n$ inputs gets an equal share of the gradient. Unlike in a residual network, nothing is passed on
# unchanged: every path goes through at least one convolution.
#
# **Your turn.** The whole block as one class, with $M$ channels in and $N$ out. It returns the **ends**, the inputs of
# its last join, so that two joins in a row never arise. Write the rule's other half. (`join` takes a list and returns
# its mean.)

# %%
class Fractal(nn.Module):
    """f_columns. z: (batch, M, side, side) -> its ends, a list of (batch, N, side, side)."""

    def __init__(self, M, N, columns):
        super().__init__()
        self.conv = ConvNormReLU(M, N)  # (batch, M, side, side) -> (batch, N, side, side)
        self.columns = columns
        if columns > 1:
            self.first, self.second = Fractal(M, N, columns - 1), Fractal(N, N, columns - 1)

    def forward(self, z):
        ends = [self.conv(z)]
        if self.columns > 1:
            # BEGIN SOLUTION, 4 minutes: self.first, a join, self.second; join(list) is the mean
            between = join(self.first(z))
            ends += self.second(between)
            # END SOLUTION
        return ends


# %%
torch.manual_seed(SEED)
small = Fractal(1, 6, 3).double().eval()
z = digits.train_x[:4].double()
by_hand = [small.conv(z)]  # three columns, written out
half = (small.first.conv(z) + small.first.second.conv(small.first.first.conv(z))) / 2
by_hand += [small.second.conv(half), small.second.second.conv(small.second.first.conv(half))]
course.expect(torch.stack(small(z)), torch.stack(by_hand), within=1e-12)
print(f"{tuple(z.shape)} -> {len(small(z))} ends of {tuple(small(z)[0].shape)}")


# %% jupyter={"source_hidden": true}
def columns_of(block):
    """The convolutions of a Fractal by column, the shallowest first."""
    if block.columns == 1:
        return [[block.conv]]
    halves = zip(columns_of(block.first), columns_of(block.second))
    return [[block.conv], *(first + second for first, second in halves)]


for columns in (1, 2, 3, 4):
    mine, library = Fractal(1, 6, columns).double().eval(), FractalBlock(1, 6, columns).double().eval()
    for layers, theirs in zip(columns_of(mine), library.columns, strict=True):
        for layer, its in zip(layers, theirs, strict=True):
            layer.load_state_dict(its.state_dict())
    pooled = join([F.max_pool2d(end, 2) for end in mine(z)])
    assert (library(z) - pooled).abs().max() < 1e-12 < pooled.abs().max()
    other_order = F.max_pool2d(join(mine(z)), 2)
    assert columns == 1 or not torch.allclose(other_order, pooled)
print("1 to 4 columns, weights copied: equal to studylib's FractalBlock, which goes through the columns in a loop")


# %% [markdown]
# `FractalBlock` in `studylib/nets/fractalnet.py` is the same block without the recursion, a second way to read it. The
# paper pools each column by itself and joins afterwards. The other order gives other values, because the maximum of a
# mean is not the mean of the maxima.
#
# ## 1.4 What a block costs
#
# The maps have side $S$. The first convolution of each column reads $M$ channels, the others read $N$. **Your turn.**
# How many weights do the 3x3 filters of the whole block have?

# %%
def block_weights(C, M, N):
    """Weights of the 3x3 convolutions of a block of C columns, M channels in, N out."""
    # BEGIN SOLUTION, 3 minutes: of 2^C - 1 convolutions C read the input
    return 9 * (C * M * N + (2**C - 1 - C) * N * N)
    # END SOLUTION


# %%
with torch.device("meta"):  # shapes only; first M and N that differ
    course.expect(block_weights(3, 2, 8), count(FractalBlock(2, 8, 3), (2, 8, 8)).weights)
M = N = 64
S = 32
for C in (1, 2, 3, 4):
    with torch.device("meta"):
        cost = count(FractalBlock(M, N, C), (M, S, S))
    course.expect(block_weights(C, M, N), cost.weights)
    print(
        f"C = {C}, depth {2 ** (C - 1)}: {cost.params:9,d} parameters, {cost.macs / 1e6:6.1f} M multiply-adds, "
        f"{cost.activation_bytes / 1e6:4.1f} MB of activations"
    )

# %% [markdown]
# With $M = N$ and the side fixed, a block has the parameters and multiply-adds of $2^C - 1$ convolutions. Each further
# column doubles the depth. The second one triples the cost (from 1 to 3 convolutions), the later ones little more than
# double it (3 to 7, 7 to 15). A plain network of the same depth has only the deepest column, $2^{C-1}$ convolutions. So
# the fractal costs less than twice as much as the plain network that is as deep.

# %% jupyter={"source_hidden": true}
for C, M, N, S in ((1, 3, 64, 32), (2, 64, 128, 16), (3, 128, 256, 8), (4, 256, 512, 4)):
    with torch.device("meta"):
        cost = count(FractalBlock(M, N, C), (M, S, S))
    assert cost.params == block_weights(C, M, N) + 2 * N * (2**C - 1)  # batch norm's two a channel
    assert cost.macs == S * S * block_weights(C, M, N)
    # Three maps a convolution (its own, the norm's, the ReLU's), and a pooled one an end.
    assert cost.activation_bytes == 4 * N * S * S * (3 * (2**C - 1) + Fraction(C, 4))
    assert block_weights(C, M, N) < 2 * 9 * (M * N + (2 ** (C - 1) - 1) * N * N)
print("parameters, multiply-adds, activations: the formulas hold for the paper's kinds of blocks")

# %% [markdown]
# ## 1.5 The paper's parameters
#
# Table 3 varies the columns, on CIFAR-100 with heavy augmentation (written CIFAR-100++). All of its parameter counts
# come out; its errors are *quoted*, we do not compute them. Table 1, the main results, prints two counts: 22.9M for 40
# layers, whose filters we do not know, and 38.6M for 20 layers, which does **not** come out. *Think first:* 38.6M is
# more than we count. The description fixes our count: seven convolutions a block, three of which read the block's
# input. Which slip in counting would give more?

# %% jupyter={"source_hidden": true}
display(ledger.check("fractalnet", where="Table 3", show=["5 columns"]))
with torch.device("meta"):
    cost = count(nets.fractalnet(columns=3), (3, 32, 32))
print(f"Table 1, 20 layers: printed 38.6M, counted {cost.params / 1e6:.1f}M")

# %% [markdown]
# <details><summary>Answer</summary>
#
# We found one that comes near, the last row of the table below: all seven convolutions read as many channels as they
# write. For all but the last block that is too many, since the input has half the channels (or three). Near is not
# equal, so the row stays in the ledger: does not reproduce, reason unknown. The number matters, because DenseNet's
# Table 2 repeats it.
#
# </details>

# %% jupyter={"source_hidden": true}
display(ledger.check("fractalnet", where="Table 1, parameters", show=["20 layers"]))

# %% [markdown]
# ## 1.6 Drop-path
#
# With many paths, a deep path may only learn to correct the short ones. **Drop-path** trains them apart, by leaving
# some out in each mini-batch.
#
# - **Local**: at each join, each input is dropped with probability $p$ (the paper: 15 %). At least one survives. The
#   join is the mean of those that are left.
# - **Global**: one column is chosen, the same in every block, and everything else is dropped. What is trained is a
#   plain network.
#
# Every mini-batch draws one of the two, half and half. In evaluation nothing is dropped.

# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(1, 4, figsize=(8, 3), layout="constrained")
LOCAL = {(1, 0.5), (2, 0.25), (3, 0.875)}  # one draw: these results are dropped at their joins
draw_block(axes[0], 3, "local, one draw", lambda column, y: (column, y) in LOCAL)
for ax, kept in zip(axes[1:], (1, 2, 3)):
    draw_block(ax, 3, f"global, column {kept}", lambda column, y, kept=kept: column != kept)
plots.title(fig, "Local drop-path thins the joins; global drop-path leaves a plain network")
plots.alt(
    fig,
    "Four copies of the block of three columns. In the first, three of seven convolutions are pale: dropped at their "
    "joins. In the others one column is left: one, two or four convolutions in a row.",
)
plt.show()


# %% [markdown]
# (In the first picture the third box of the right column is computed, but only a dropped box reads it.) A layer behind
# a join should not see a weaker or stronger signal in training than in evaluation. So what is the *expected* join? Let
# $a_i \in \{0, 1\}$ say whether input $i$ is alive. Where at least one of them is,
#
# $$\bigoplus z = \sum_i w_i z_i, \qquad w_i = \frac{a_i}{\sum_j a_j}$$
#
# These weights add up to one in every draw. *Think first:* what is $\mathbb E[w_i]$, for a given $p$?
#
# <details><summary>Answer</summary>
#
# $1/n$, whatever $p$ is. The weights add up to one, and all inputs are treated alike, so all have the same expectation.
# This holds for local draws, if the survivor of an all-dropped draw is chosen evenly. (A global draw gives $1/n$ as
# well, where all columns meet.) If the join divided by $n$ in place of the number alive, its expectation would be too
# small by a factor of nearly $1 - p$. That is why dropout multiplies by $1/(1-p)$.
#
# </details>
#
# **Your turn.** Write the weights of one draw; the cell below adds up all $2^n$ draws with their probabilities, as
# exact fractions.

# %%
def join_weights(alive):
    """alive: 0 or 1 for each input -> what each counts for, exact; expected values if all were dropped."""
    n = len(alive)
    # BEGIN SOLUTION, 3 minutes: Fraction(a, b) is exact; if none is alive, each one survives in 1 of n cases
    if not any(alive):
        return [Fraction(1, n)] * n
    return [Fraction(a, sum(alive)) for a in alive]
    # END SOLUTION


# %%
course.expect(join_weights((1, 0, 1)), [Fraction(1, 2), 0, Fraction(1, 2)])
course.expect(join_weights((0, 0)), [Fraction(1, 2), Fraction(1, 2)])
p = Fraction(15, 100)
for n in (2, 3, 4):
    expected = np.zeros(n, dtype=object)
    for alive in product((0, 1), repeat=n):
        probability = math.prod(1 - p if a else p for a in alive)
        expected += [probability * weight for weight in join_weights(alive)]
    course.expect(expected.tolist(), [Fraction(1, n)] * n)
    print(f"{n} inputs: E[w] =", ", ".join(map(str, expected)))

# %% jupyter={"source_hidden": true}
assert float(p) == LOCAL_DROP  # what studylib.nets.fractalnet uses
torch.manual_seed(SEED)
draws = torch.stack([join(list(torch.eye(3)), LOCAL_DROP) for _ in range(4000)])  # the weights come out
error = draws.std(0) / math.sqrt(len(draws))
assert torch.allclose(draws.sum(1), torch.ones(len(draws)))  # never all dropped
assert ((draws.mean(0) - 1 / 3).abs() < 4.5 * error).all()
print("studylib's join, mean weights of 4000 draws:", [f"{w:.2f}" for w in draws.mean(0)])
counts_at_all = (Fraction(1, 3) + 1 - p + p**3 / 3) / 2  # column 1 of three, the question below
assert f"{float(counts_at_all):.2f}" == "0.59"

# %% [markdown]
# The expectation is exact *at the join* only. Batch norm and ReLU come behind it, and the expectation of a ReLU is not
# the ReLU of the expectation. So the whole network is not the average of its sub-networks.
#
# *Think first:* in what share of the mini-batches does column 1 of three contribute to a block's last join?
#
# <details><summary>Answer</summary>
#
# In the global half it is chosen once in three times. In the local half the last join keeps it with probability $0.85$,
# or as the survivor where all three would be dropped, $0.15^3 / 3$. Together
# $\frac12 \cdot \frac13 + \frac12 \cdot 0.851 = 0.59$. (Our program *computes* it more often, in $\frac12 + \frac16$ of
# the batches: it runs all columns in a local draw and drops their results afterwards.)
#
# </details>
#
# ## 1.7 A column alone is a plain network
#
# What remains in a global draw is a chain: convolutions, a pooling, convolutions, a pooling. The paper builds on this:
# train the fractal, keep the deepest column, throw the rest away. The folded cell builds that chain without any fractal
# code and copies the deepest column's weights into it.

# %% jupyter={"source_hidden": true}
torch.manual_seed(SEED)
net = nets.fractalnet(3, blocks=2, channels=(4, 6)).double().eval()
layers, before = [], 3
for channels_ in (4, 6):
    for _ in range(2 ** (3 - 1)):
        layers.append(ConvNormReLU(before, channels_))
        before = channels_
    layers.append(nn.MaxPool2d(2))
plain = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10))
plain = plain.double().eval()
x = torch.randn(5, 3, 8, 8, dtype=torch.float64)
alone = net.column(3)
assert not torch.equal(plain(x), alone(x))
plain.load_state_dict(alone.state_dict())
assert torch.equal(plain(x), alone(x))
assert not torch.allclose(net(x), alone(x))  # the whole net computes something else
print(f"column 3 of two blocks: {sum(isinstance(m, nn.Conv2d) for m in plain.modules())}", end="")
print(" convolutions in a row, equal to the last bit")

# %% [markdown]
# ## 1.8 Experiment: when depth hurts
#
# The paper's Table 4 compares plain networks with the columns of a fractal. *Think first:* plain networks of 5, 10, 20
# and 40 layers are trained. Which has the lowest training loss, which the lowest test error?

# %% jupyter={"source_hidden": true}
depths = [f"{depth} layers" for depth in (5, 10, 20, 40)]
sides = {
    "plain: error": "error on CIFAR-100++ of a plain net",
    "plain: training loss": "training loss of a plain net",
    "a fractal's column alone: error": "error on CIFAR-100++ of a fractal's column",
    "the whole fractal: error": "error on CIFAR-100++ of the whole fractal",
}
display(ledger.check("fractalnet", where="Table 4").grid(depths, sides))

# %% [markdown]
# <details><summary>Answer</summary>
#
# 20 layers have the lowest of both. The network of 40 layers is *worse*, in training loss too: its trouble is training,
# not overfitting.
#
# </details>
#
# The fractal's column of 40 layers, cut out and tested alone, stays within half a point of the one of 20. The whole
# fractal is well ahead of each of its columns.
#
# Can we see it on a laptop? The images are 8x8 digits, the networks have five blocks of eight channels and three
# poolings. All are trained for the same few steps: **plain** networks of depth 5, 10 and 20, each by itself; the
# **fractal** of three columns, its paths always joined; the same fractal with **drop-path**. We look at the *training*
# loss, because the question is whether depth can be trained; batch norm takes the statistics of the images that the
# loss is measured on. Batch norm alone may make these depths trainable: the experiment can come out either way.

# %% jupyter={"source_hidden": true}
COLUMNS, EPOCHS = (3, 3) if FAST else (4, 40)
WIDTH = 8
grey = digits._replace(  # the nets read three colours
    train_x=digits.train_x.expand(-1, 3, -1, -1), test_x=digits.test_x.expand(-1, 3, -1, -1)
)


def digits_net(drop_path, columns=COLUMNS, blocks=5):
    """A FractalNet for 8x8 images, three poolings, with Xavier's start as in the paper."""
    net = nets.fractalnet(columns, blocks, (WIDTH,) * blocks, drop_path=drop_path)
    if blocks == 5:
        net.blocks[0].pool = net.blocks[2].pool = nn.Identity()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
    return net


def loss_of(net):
    """Cross-entropy on 200 training images, all paths joined.

    Batch norm takes the mean and variance of these images themselves: after so few steps its
    running averages lag behind, and for a column that rarely ran alone they are those of other
    inputs.
    """
    net.train()
    net.drop_path = False
    with torch.no_grad():
        return F.cross_entropy(net(grey.train_x[:200]), grey.train_y[:200]).item()


designs = {f"plain, depth {5 * 2**n}": lambda n=n: digits_net(False).column(n + 1) for n in range(COLUMNS)}
designs["fractal, joined"] = lambda: digits_net(drop_path=False)
designs["fractal, drop-path"] = lambda: digits_net(drop_path=True)
parameters = {name: sum(w.numel() for w in make().parameters()) for name, make in designs.items()}
for name, number in parameters.items():
    print(f"{name:20s}{number:7,d} parameters")

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
losses = {}  # of each design and column, one for each seed


def trained_loss(name):
    """A function of the seed: the training loss of a new net; its columns' go into `losses`."""

    def run(seed):
        net = designs[name]()
        options = {"epochs": EPOCHS, "lr": 0.1, "batch_size": 64, "seed": seed}
        fit(net, grey, **options, evaluate=False, show=not FAST)
        if name.startswith("fractal"):
            for n in (1, COLUMNS):
                column = f"  its column {n}{name[7:]}"
                losses.setdefault(column, []).append(loss_of(net.column(n)))
        return loss_of(net)

    return run


for name in designs:
    losses[name] = []  # above its columns
    losses[name] += over_seeds(trained_loss(name), SEEDS).values
for name, values in losses.items():
    print(f"{name:27s} training loss {Summary(tuple(values))}")


# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
def draw_seeds(results):
    """A dot for each seed, a bar at the mean. Blue: plain nets; red: joined fractals; green: with drop-path."""
    fig, ax = plt.subplots(figsize=(8, 0.4 * len(results)), layout="constrained")
    for row, (name, values) in enumerate(results.items()):
        colour = plots.BLUE if "plain" in name else plots.RED if "joined" in name else plots.GREEN
        ax.plot(values, [row] * len(values), "o", color=colour, alpha=0.7, mec="white", ms=8)
        ax.plot([np.mean(values)] * 2, [row - 0.3, row + 0.3], color=colour, lw=2.5)
    ax.set_yticks(range(len(results)), results)
    ax.invert_yaxis()
    ax.grid(axis="x", alpha=0.25)
    return fig, ax


labelled = {
    f"{name}: {parameters[name] / 1e3:.0f} k parameters" if name in parameters else name: values
    for name, values in losses.items()
}
fig, ax = draw_seeds(labelled)
ax.set(xscale="log", xlabel="cross-entropy on 200 training images, natural logarithm (chance: 2.3)")
ax.xaxis.set_major_formatter("{x:g}")
plots.title(fig, f"After {EPOCHS} epochs the joined fractal has less loss than the plain net as deep")
plots.alt(
    fig,
    f"Training loss of {len(losses)} nets, a dot for each of three seeds, logarithmic axis. "
    f"{'Of the plain nets the one of 20 layers has the greatest loss. ' if FAST else ''}"
    "The joined fractal has less loss than the plain net of the same depth. Its column 1, cut out, has more than the "
    "whole; with drop-path column 1 has less than without.",
)
plt.show()

# %% jupyter={"source_hidden": true}
deepest = losses[f"plain, depth {5 * 2 ** (COLUMNS - 1)}"]
joined_losses, dropped_losses = losses["fractal, joined"], losses["fractal, drop-path"]
assert all(fractal < plain for fractal, plain in zip(joined_losses, deepest))
print("in every seed the joined fractal has less loss than the plain net that is as deep")
if FAST:
    assert all(np.mean(deepest) > 2 * np.mean(losses[f"plain, depth {d}"]) for d in (5, 10))
    assert np.mean(deepest) > 2 * np.mean(joined_losses)
    print("on average the plain net of 20 layers has over twice the loss of 5, of 10, and of the fractal")
    assert min(dropped_losses) > max(joined_losses)
    print("and drop-path has, after so few steps, more loss than the same net without it")
alone, with_drop = losses["  its column 1, joined"], losses["  its column 1, drop-path"]
assert min(alone) > max(joined_losses) and max(with_drop) < min(alone)
print("cut out, column 1 is of little use; with drop-path it is of more, in every seed")

# %% [markdown]
# What this shows: at 20 layers and this little training, the plain network suffers, batch norm or not, and the fractal
# of the same depth suffers much less. (The fractal has more parameters; the labels say how many.) What it does not
# show: that depth is *good* for anything: the plain network of depth 5 learns these digits, too. Nor does it show that
# the fractal's short paths help because they carry the gradient; nobody has measured that here. But the fractal is not
# simply its column 1, a network of depth 5: cut out, column 1 can do little, so the columns lean on each other.
#
# Seen once, FAST=False (40 epochs, a fourth column), on two cores of an x86 server CPU, November 2026: the plain
# network of 20 layers caught up (training loss 0.0029 ± 0.0005), the one of 40 did not (1.04 ± 0.08), and the joined
# fractal of 40 layers did (0.0006 ± 0.0001).
#
# ## 1.9 Experiment: drop-path, by test error
#
# Drop-path is a **regularizer**, so a training loss cannot judge it: above, the net with drop-path has the higher one.
# The paper's evidence is the *test* error, most of all without augmentation (Table 1, CIFAR-100: 35.34 to 28.20 %; with
# heavy augmentation there is no gain, 22.85 to 23.36 %). The paper adds drop-path and **dropout** (0 % in the first
# block, 10 more in each later one) together; our nets have no dropout.

# %% jupyter={"source_hidden": true}
kinds = {
    "20 layers": "20 layers",
    "with drop-path and dropout": "20 layers with drop-path and dropout",
    "of that, the deepest column": "20 layers with drop-path and dropout, deepest column alone",
}
sets = {
    "CIFAR-100": "error on CIFAR-100, no augmentation",
    "CIFAR-100++": "error on CIFAR-100++, more heavily augmented",
    "CIFAR-10": "error on CIFAR-10, no augmentation",
    "CIFAR-10++": "error on CIFAR-10++, more heavily augmented",
}
display(ledger.check("fractalnet", where="Table 1, errors").grid(kinds, sets))

# %% [markdown]
# *Vote first.* Two blocks of three columns (8 layers) see **a hundred** digits, again and again. Does drop-path lower
# the error on the test images, of the whole network, and of a column that is cut out? The control is the plain network
# of 8 layers, trained by itself. Every network that is tested, whole or cut out, takes batch norm's statistics anew
# from the hundred images.

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
FEW, LONG = 100, (200 if FAST else 800)
few = grey._replace(train_x=grey.train_x[:FEW], train_y=grey.train_y[:FEW])


def test_error(net):
    """Percent wrong, with batch norm's statistics taken anew from the training images, all paths joined.

    Its running averages are those of other inputs, for a column that rarely ran alone.
    """
    net.drop_path = False  # a plain net has none to switch off
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a plain average
    net.train()
    with torch.no_grad():
        net(few.train_x)
    return 100 - 100 * accuracy(net, few.test_x, few.test_y)


errors = {}
for name in ("plain", "joined", "drop-path"):
    for seed in SEEDS:
        torch.manual_seed(seed)
        net = digits_net(name == "drop-path", columns=3, blocks=2)
        net = net.column(3) if name == "plain" else net
        fit(net, few, epochs=LONG, lr=0.1, batch_size=50, seed=seed, evaluate=False, show=not FAST)
        whole = "plain, 8 layers" if name == "plain" else f"{name}: the whole"
        errors.setdefault(whole, []).append(test_error(net))
        for n in () if name == "plain" else (1, 3):
            errors.setdefault(f"{name}: column {n} alone", []).append(test_error(net.column(n)))
for name, values in errors.items():
    print(f"{name:27s} test error {Summary(tuple(values), '%')}")
fig, ax = draw_seeds(errors)
ax.set(xlabel="test error, % (chance: 90)")
plots.title(fig, "Cut out, columns 1 and 3 fail without drop-path and work with it")
plots.alt(
    fig,
    f"Test error of {len(errors)} nets, a dot for each of three seeds. Cut out of the joined net, columns 1 and 3 are "
    "wrong on over 40 percent of the images; with drop-path their errors lie near those of the plain and the whole net.",
)
plt.show()

# %% jupyter={"source_hidden": true}
for n in (1, 3):
    name = f": column {n} alone"
    assert max(errors["drop-path" + name]) < min(errors["joined" + name])
    assert min(errors["joined" + name]) > 40 > max(errors["drop-path" + name])
print("cut out of the joined net a column is wrong on over 40 %; with drop-path on less, in every seed")


# %% [markdown]
# What this shows: drop-path does what it is made for. Without it the columns lean on each other, and cut out they are
# of little use. With it, in the stored run, the deepest column has on average fewer errors than the plain network of
# the same depth that was trained by itself (three seeds, the closest two nearly touch). In the paper's Table 4 a column
# beats the plain network at 40 layers only, and ties with it at 20. Our column stays a few points behind the whole
# network. What the experiment does *not* show is the paper's gain for the whole network: with and without drop-path,
# its errors lie within each other's spread. Digits are not CIFAR-100, and we have no dropout.
#
# ## Questions for hour 1
#
# 1. (★★) A residual network of $n$ blocks has $2^n$ paths, a fractal block of $C$ columns $q_C$. What do short paths do
#    for training in each of them, and what is different at the join?
# 2. (★★) Drop-path's join is a mean over the inputs that are alive. What would dropout's way (divide by $n$, scale by
#    $1/(1-p)$) change for a join of two inputs, when one is dropped?
# 3. (★) Could 38.6 million be right, and the text of the paper incomplete? What would you have to know to decide?
#
# <details><summary>Answers for the facilitator</summary>
#
# 1. In both, the gradient reaches early layers over few convolutions. A residual join is a sum with an identity: it can
#    pass its input on unchanged, and its values can grow with depth. A mean does not grow, and each path has a
#    convolution.
# 2. The mean gives the survivor itself. Dropout's way gives it $\frac{1}{2(1-p)}$ times, $1/1.7$ for the paper's $p$:
#    the right expectation, but another size in each draw.
# 3. It could. The authors' own program would decide it, or their number of parameters for each layer. A program by
#    somebody else would not: its author may have misread the paper, as we may have.
#
# </details>

# %% [markdown]
# # Hour 2: MEC, a convolution with a smaller buffer
#
# ## 2.1 What im2col repeats
#
# Week 1 turned a convolution into one matrix product by **im2col**: it writes out every window of the image. That costs
# memory. How much of it is needed? MEC (arXiv 1706.06873) needs about a third
# of it for 3x3 filters with stride 1.
#
# Its notation: images $I$ of shape $i_n \times i_h \times i_w \times i_c$ (batch, height, width, channels; a pixel's
# channels lie next to each other in memory), a kernel $K$ of $k_h \times k_w \times i_c \times k_c$, strides $s_h$ and
# $s_w$, no padding (pad the image before). The output has
#
# $$o_h = \left\lfloor \frac{i_h - k_h}{s_h} \right\rfloor + 1, \qquad o_w = \left\lfloor \frac{i_w - k_w}{s_w} \right\rfloor + 1.$$
#
# **Your turn.** Write im2col's loop: window $(h, w)$ begins at row $s_h h$ and column $s_w w$.

# %%
def im2col(x, k_h, k_w, s_h, s_w):
    """Each window as a row: (n, i_h, i_w, c) -> (n, o_h, o_w, k_h * k_w * c)."""
    n, i_h, i_w, c = x.shape
    o_h, o_w = (i_h - k_h) // s_h + 1, (i_w - k_w) // s_w + 1
    rows = np.zeros((n, o_h, o_w, k_h * k_w * c), x.dtype)
    for h, w in np.ndindex(o_h, o_w):
        # BEGIN SOLUTION, 3 minutes: cut window (h, w) out of all images of the batch; .reshape(n, -1) makes rows
        window = x[:, s_h * h : s_h * h + k_h, s_w * w : s_w * w + k_w]
        rows[:, h, w] = window.reshape(n, -1)
        # END SOLUTION
    return rows


# %%
digit = digits.train_x[1, 0, :7, :7].double().numpy()[None, :, :, None]  # the paper's example: 7x7
windows = im2col(digit, 3, 3, 1, 1)
course.expect(windows, mec.im2col(digit, (3, 3), (1, 1)))
colours = np.arange(2 * 7 * 9 * 3.0).reshape(2, 7, 9, 3)  # two images of three channels
course.expect(im2col(colours, 3, 2, 2, 3), mec.im2col(colours, (3, 2), (2, 3)))
print(f"image {digit.shape} -> windows {windows.shape}: {windows.size} numbers from {digit.size}")

# %% [markdown]
# *Think first:* compare a window with the one below it. How many of its nine numbers does im2col write a second time,
# and where do they lie in the two rows?

# %% jupyter={"source_hidden": true}
upper, lower = windows[0, 2, 2], windows[0, 3, 2]
assert np.array_equal(upper[3:], lower[:6])
print("upper window ", "".join(f"{value:6.2f}" for value in upper))
print("lower window ", " " * 18 + "".join(f"{value:6.2f}" for value in lower))


# %% [markdown]
# <details><summary>Answer</summary>
#
# Six, two of its three rows. In the order in which im2col writes them (row by row, channels innermost) they are **one
# run of six numbers**, at the end of the upper window and at the start of the lower one.
#
# </details>
#
# ## 2.2 Lower the width, keep the height
#
# So do not write windows. Write **strips**: for each output column $w$ the part of the image that is as wide as the
# kernel and as *high as the image*, row after row. That is the lowered matrix $L$ (Algorithm 1):
#
# $$L[n,\, w,\, :] \;=\; I[n,\; 0{:}i_h,\; s_w w : s_w w + k_w,\; 0{:}i_c] \text{ as one row}, \qquad
#   L \text{ of shape } i_n \times o_w \times (i_h k_w i_c)$$
#
# **Your turn.** Make the strips. Each is cut out of the width alone; its height is the image's.

# %%
def lower_strips(x, k_w, s_w):
    """Algorithm 1: (n, i_h, i_w, c) -> L of shape (n, o_w, i_h * k_w * c)."""
    n, i_h, i_w, c = x.shape
    o_w = (i_w - k_w) // s_w + 1
    L = np.zeros((n, o_w, i_h * k_w * c), x.dtype)
    for w in range(o_w):
        # BEGIN SOLUTION, 3 minutes: the strip of output column w
        L[:, w] = x[:, :, s_w * w : s_w * w + k_w].reshape(n, -1)
        # END SOLUTION
    return L


# %%
L = lower_strips(digit, 3, 1)
course.expect(L, mec.lower(digit, 3, 1))
course.expect(lower_strips(colours, 2, 3), mec.lower(colours, 2, 3))
print(f"image {digit.shape} -> strips {L.shape}: {L.size} numbers, im2col {windows.size}")


# %% [markdown]
# A strip contains all windows of its output column, and the windows overlap in it. The window of output row $h$ begins
# at image row $s_h h$. **Your turn.** At which place of the strip does it begin? It is $k_h k_w i_c$ numbers long.

# %%
def windows_of_row(L, h, kernel_shape, s_h):
    """The windows of output row h, where they lie in L: (n, o_w, k_h * k_w * c), no copy."""
    k_h, k_w, c, _ = kernel_shape
    begin = 0
    # BEGIN SOLUTION, 2 minutes: how many numbers of the strip stand before image row s_h * h?
    begin = s_h * h * k_w * c
    # END SOLUTION
    return L[:, :, begin : begin + k_h * k_w * c]


# %%
for h in range(5):
    course.expect(windows_of_row(L, h, (3, 3, 1, 1), 1), windows[:, h])
L_colours = mec.lower(colours, 2, 3)
for h in range(3):  # three channels, a kernel of 3 x 2, stride 2
    course.expect(windows_of_row(L_colours, h, (3, 2, 3, 1), 2), im2col(colours, 3, 2, 2, 3)[:, h])
print("each of im2col's windows lies in a strip")

# %% jupyter={"source_hidden": true} tags=["figure-lowering"]
fig, axes = plt.subplots(1, 3, figsize=(8.6, 4.6), layout="constrained", width_ratios=[7, 9, 21])
plots.title(fig, "105 numbers in place of 225: what im2col repeats downwards, a strip has once")
axes[0].imshow(digit[0, :, :, 0])
axes[0].add_patch(plt.Rectangle((1.5, -0.5), 3, 7, fill=False, ec=plots.ORANGE, lw=3))
axes[0].add_patch(plt.Rectangle((1.6, 2.5), 2.8, 2, fill=False, ec=plots.BLUE, lw=2.5))
axes[0].set(xlabel="image, 7 x 7\norange: strip w = 2", xticks=range(7), yticks=range(7))
axes[1].imshow(windows.reshape(25, 9))
for row, left in ((12, 2.5), (17, -0.5)):  # windows (2, 2) and (3, 2)
    axes[1].add_patch(plt.Rectangle((left, row - 0.5), 6, 1, fill=False, ec=plots.BLUE, lw=2.5))
axes[1].set(xlabel="im2col: 25 windows of 9", xticks=range(0, 9, 2), yticks=range(0, 25, 5))
axes[1].set_ylabel("window (h, w), number 5 h + w")
axes[2].imshow(L[0])
axes[2].add_patch(plt.Rectangle((-0.5, 1.5), 21, 1, fill=False, ec=plots.ORANGE, lw=3))
axes[2].add_patch(plt.Rectangle((8.5, 1.6), 6, 0.8, fill=False, ec=plots.BLUE, lw=2.5))
for h, y in ((2, 6), (3, 8.6)):
    axes[2].plot([3 * h - 0.4, 3 * h + 8.4], [y, y], color=plots.GREY, lw=4)
    axes[2].text(3 * h + 4, y + 0.3, f"window ({h}, 2)", ha="center", va="top", fontsize=8)
axes[2].set(xlabel="MEC: 5 strips of 21; blue: the same six numbers in all three")
axes[2].set_ylabel("strip w", loc="top")
axes[2].set(xticks=range(0, 21, 3), yticks=range(5), ylim=(10.2, -0.5))
axes[2].spines["left"].set_visible(False)
plots.alt(
    fig,
    "Three panels. The 7 by 7 image with one strip of three columns framed, and two rows of it framed in blue. "
    "im2col's 25 rows of nine numbers: the blue numbers stand in two of them. MEC's five strips of 21 numbers: they "
    "stand there once, and windows (2, 2) and (3, 2) overlap in them.",
)
plt.show()


# %% [markdown]
# ## 2.3 Two ways to multiply
#
# What is left is one matrix product for each output row, all with the same $K$ as a matrix:
#
# $$O[n, h, w, :] \;=\; L\big[n, w,\; s_h h\, k_w i_c : s_h h\, k_w i_c + k_h k_w i_c\big] \cdot
#   K_{(k_h k_w i_c) \times k_c}$$
#
# Algorithm 2 of the paper has two ways to do them. **Solution A**: for each $h$ one product over the whole batch. The
# products are large, but their results lie in the order $h, n, w, c$, and one more pass brings them into the order
# $n, h, w, c$. **Solution B**: for each image and each $h$ one product, written to its final place. These are more and
# smaller products, and nothing is reordered. (Our sources are two independent programs that follow the paper; we did
# not have its text. According to them, A is for narrow outputs, up to a width of about 100 on GPUs.)

# %%
def solution_a(x, K, s_h, s_w):
    """o_h products over the batch, (h, n, w, c), then reordered to (n, h, w, c)."""
    L, matrix = lower_strips(x, K.shape[1], s_w), K.reshape(-1, K.shape[3])
    o_h = (x.shape[1] - K.shape[0]) // s_h + 1
    by_row = np.stack([windows_of_row(L, h, K.shape, s_h) @ matrix for h in range(o_h)])
    return by_row.swapaxes(0, 1)


def solution_b(x, K, s_h, s_w):
    """i_n * o_h small products, each written to its place in (n, h, w, c)."""
    L, matrix = lower_strips(x, K.shape[1], s_w), K.reshape(-1, K.shape[3])
    o_h = (x.shape[1] - K.shape[0]) // s_h + 1
    out = np.empty((len(x), o_h, L.shape[1], K.shape[3]), x.dtype)
    for n, h in np.ndindex(len(x), o_h):
        out[n, h] = windows_of_row(L, h, K.shape, s_h)[n] @ matrix
    return out


# %% jupyter={"source_hidden": true}
def by_im2col(x, K, s_h, s_w):
    """One product over all windows."""
    return im2col(x, *K.shape[:2], s_h, s_w) @ K.reshape(-1, K.shape[3])


def by_torch(x, K, s_h, s_w):
    """The framework's operator, which wants channels before height and width."""
    x, K = torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(K).permute(3, 2, 0, 1)
    return F.conv2d(x, K, stride=(s_h, s_w)).permute(0, 2, 3, 1).numpy()


cases = 0
for i_h, i_w in ((7, 7), (9, 6)):
    x = rng.standard_normal((2, i_h, i_w, 3))
    for k_h, k_w, s_h, s_w in product(range(1, 5), range(1, 4), range(1, 5), range(1, 3)):
        K = rng.standard_normal((k_h, k_w, 3, 2))
        expected = by_torch(x, K, s_h, s_w)
        for convolution in (by_im2col, solution_a, solution_b):
            assert np.abs(convolution(x, K, s_h, s_w) - expected).max() < 1e-12
        cases += 1
print(f"{cases} convolutions: im2col, Solution A and Solution B are torch's conv2d")

# %% [markdown]
# *Think first:* the rows that are multiplied do not lie side by side: the rest of a strip lies between the end of one
# and the start of the next. Must they be copied for BLAS, the library behind `@`?
#
# <details><summary>Answer</summary>
#
# No. BLAS wants the address of the first number and the **leading dimension**, the distance from the start of a row to
# that of the next. For output row $h$ the address is that of $L$ plus $s_h h\, k_w i_c$ numbers, and the leading
# dimension is $i_h k_w i_c$. The folded cell shows it on NumPy's strides. `studylib.mec` computes that
# way, and section 2.4 measures that it allocates nothing more (Solution B, one image).
#
# </details>

# %% jupyter={"source_hidden": true}
x, K = rng.standard_normal((2, 9, 8, 3)), rng.standard_normal((3, 2, 3, 4))
L = mec.lower(x, K.shape[1], 1)
rows = mec.overlapping_rows(L, K.shape, height=7, stride=1)
assert np.array_equal(L, lower_strips(x, K.shape[1], 1))
assert np.shares_memory(rows, L)
assert np.shares_memory(windows_of_row(L, 1, K.shape, 1).reshape(-1, 18), L)  # Solution A's
step, leading, one = (stride // 8 for stride in rows.strides)  # in numbers of 8 bytes
print(f"L {L.shape}: {L.size} numbers; the views {rows.shape}: {rows.size}, sharing L's memory")
print(f"from an output row to the next {step}, leading dimension {leading}, within a row {one}")
assert (step, leading, one) == (1 * 2 * 3, 9 * 2 * 3, 1)
for convolution in (mec.solution_a, mec.solution_b, mec.mec_conv2d, mec.im2col_conv2d):
    assert np.abs(convolution(x, K, (1, 1)) - by_torch(x, K, 1, 1)).max() < 1e-12


# %% [markdown]
# ## 2.4 Memory: as a formula, as a size, as measured
#
# Parameters and multiply-adds are those of the convolution, unchanged. What differs is the buffer. **Your turn.** How
# many numbers does each of the two matrices hold?

# %%
def buffers(i_n, i_h, i_c, k_h, k_w, o_h, o_w):
    """Numbers in im2col's matrix, and in MEC's."""
    # BEGIN SOLUTION, 2 minutes: all windows; all strips. Sections 2.1 and 2.2 have the shapes
    return i_n * o_h * o_w * k_h * k_w * i_c, i_n * o_w * i_h * k_w * i_c
    # END SOLUTION


# %%
course.expect(buffers(1, 7, 1, 3, 3, 5, 5), (225, 105))
for k, s in ((3, 1), (3, 2), (3, 3), (2, 3)):
    o = (12 - k) // s + 1
    large, small = buffers(2, 12, 4, k, 3, o, 9)
    shape = (2, 12, 11, 4)
    course.expect((large, small), (im2col(np.zeros(shape), k, 3, s, 1).size, lower_strips(np.zeros(shape), 3, 1).size))
    print(f"kernel of height {k}, stride {s}: im2col {large:5d} numbers, MEC {small}")

# %% [markdown]
# *Think first:* for which kernels and strides does MEC save nothing?
#
# <details><summary>Answer</summary>
#
# Subtract, and put in $o_h$. Where $s_h$ divides $i_h - k_h$, what is saved is
#
# $$i_n\, i_c\, o_w\, k_w\, (o_h k_h - i_h) \;=\; i_n\, i_c\, o_w\, k_w\, (i_h - k_h) \left( \frac{k_h}{s_h} - 1 \right)$$
#
# So in an image that is higher than the kernel, MEC saves if, and only if, the kernel is higher than the stride. (Where
# the stride does not divide, a kernel that is not higher than the stride saves nothing either, and a higher one
# sometimes saves nothing.)
#
# </details>

# %% jupyter={"source_hidden": true}
checked = divides = 0
for i_h, k_h, s_h, k_w, c in product(range(5, 17), range(1, 6), range(1, 6), (1, 2, 3), (1, 4)):
    image, kernel, stride = (2, i_h, 11, c), (k_h, k_w, c, 8), (s_h, 2)
    o_h, o_w = mec.output_size(image, kernel, stride)
    saved = mec.im2col_elements(image, kernel, stride) - mec.mec_elements(image, kernel, stride)
    assert saved == 2 * c * o_w * k_w * (o_h * k_h - i_h)
    if (i_h - k_h) % s_h == 0:
        assert saved == 2 * c * o_w * k_w * (i_h - k_h) * (Fraction(k_h, s_h) - 1)
        assert (saved > 0) == (k_h > s_h and i_h > k_h)
        divides += 1
    assert saved <= 0 or k_h > s_h
    checked += 1
print(f"{checked} shapes, in {divides} of them the stride divides: the formulas hold")


# %% [markdown]
# Now we take twelve layers of the sizes that networks of that time had, in 4-byte floats, with one image. (The paper's
# benchmark has twelve layers too; we could not compare the lists.) The folded cells assert each formula against the
# array that is really made, and against the **peak of the memory** during the convolution, as `tracemalloc` sees it.

# %% jupyter={"source_hidden": true}
def peak_bytes(convolution, *arguments):
    """The most that was allocated at a time during a call, less its result."""
    with threadpool_limits(1):
        tracemalloc.start()
        out = convolution(*arguments)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak - out.nbytes


def arrays_of(layer):
    """One image and the kernel of a layer, in single precision, and its strides."""
    x, K = (rng.standard_normal(shape, np.float32) for shape in (layer.image, layer.kernel))
    return x, K, (layer.stride, layer.stride)


for convolution in (mec.im2col_conv2d, mec.mec_conv2d):  # compiled at the first call: not counted
    convolution(np.ones((1, 4, 4, 1), np.float32), np.ones((2, 2, 1, 1), np.float32), (1, 1))
formula, measured = {}, {}
for layer in mec.LAYERS:
    x, K, stride = arrays_of(layer)
    formula[layer] = (
        4 * mec.im2col_elements(layer.image, layer.kernel, stride),
        4 * mec.mec_elements(layer.image, layer.kernel, stride),
    )
    assert mec.im2col(x, K.shape[:2], stride).nbytes == formula[layer][0]
    assert mec.lower(x, K.shape[1], layer.stride).nbytes == formula[layer][1]
    with torch.device("meta"):
        module = nn.Conv2d(*K.shape[2:], K.shape[:2], stride, bias=False)
        cost = count(module, (layer.channels, layer.height, layer.width))
    o_h, o_w = mec.output_size(layer.image, layer.kernel, stride)
    assert (cost.params, cost.macs) == (K.size, o_h * o_w * K.size)
    assert cost.activation_bytes == 4 * o_h * o_w * K.shape[3]
    programs = (mec.im2col_conv2d, mec.mec_conv2d)
    measured[layer] = tuple(peak_bytes(program, x, K, stride) for program in programs)
    for expected, found in zip(formula[layer], measured[layer]):
        assert expected <= found < expected + 50_000  # and the small change of Python itself

# %% jupyter={"source_hidden": true}
print(f"{'':6s}{'input':>13s}{'kernel':>9s}{'stride':>8s}{'im2col, MB':>12s}{'MEC, MB':>9s}{'ratio':>8s}")
for layer, (large, small) in formula.items():
    shape = f"{layer.height}x{layer.width}x{layer.channels}"
    kernel = f"{layer.kernel_height}x{layer.kernel_width}"
    print(f"{layer.name:6s}{shape:>13s}{kernel:>9s}{layer.stride:8d}", end="")
    print(f"{large / 1e6:12.1f}{small / 1e6:9.1f}{large / small:8.2f}")

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
for layer, found in measured.items():
    more = [f"{(peak - buffer) / 1e3:.1f} kB" for peak, buffer in zip(found, formula[layer])]
    print(f"{layer.name:6s}measured peak above the buffer:  im2col {more[0]:>8s}   MEC {more[1]:>8s}")

# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(1, 2, figsize=(8.6, 3.6), layout="constrained", width_ratios=[3, 2])
large_mb, small_mb = (np.array(side) / 1e6 for side in zip(*formula.values()))
y = np.arange(len(formula))
image_mb = [4e-6 * math.prod(layer.image) for layer in formula]
axes[0].hlines(y, small_mb, large_mb, color=plots.GREY, lw=1)
axes[0].plot(large_mb, y, "s", color=plots.ORANGE, ms=6, label="im2col")
axes[0].plot(small_mb, y, "o", color=plots.BLUE, ms=6, label="MEC")
axes[0].plot(image_mb, y, "|", color=plots.BLACK, ms=12, mew=2, label="the image itself")
axes[0].set_yticks(y, [layer.name for layer in formula])
axes[0].invert_yaxis()
axes[0].set(xscale="log", xlabel="buffer, MB (one image)", title="MEC's buffer is the smaller one")
axes[0].xaxis.set_major_formatter("{x:g}")
axes[0].grid(axis="x", alpha=0.25)
axes[0].legend(fontsize=8)
for k, marker in zip((3, 5, 7, 11), plots.MARKERS):
    ratios = []
    for s in range(1, 8):
        image, kernel = (1, 227, 227, 1), (k, k, 1, 1)
        large, small = (f(image, kernel, (s, s)) for f in (mec.im2col_elements, mec.mec_elements))
        ratios.append(large / small)
        assert (ratios[-1] > 1) == (k > s)
    axes[1].plot(range(1, 8), ratios, marker + "-", label=f"{k} x {k}", ms=5, lw=1.2)
axes[1].axhline(1, color=plots.GREY, lw=1, ls="--")
axes[1].set(xlabel="stride", ylabel="im2col / MEC", yscale="log", title="... while kernel > stride")
axes[1].set_yticks([0.5, 1, 2, 5, 10], ["0.5", "1", "2", "5", "10"])
axes[1].minorticks_off()
axes[1].legend(fontsize=8, title="kernel")
assert all(image < small < large for image, small, large in zip(image_mb, small_mb, large_mb))
plots.alt(
    fig,
    "Left: buffers of twelve layers on a logarithmic axis: MEC's lies between the image and im2col's in each. Right: "
    "im2col's buffer over MEC's against the stride, for four kernels: it falls with the stride, and is above 1 only "
    "where the kernel is larger than the stride.",
)
plt.show()

# %% [markdown]
# Below the dashed line MEC *costs* memory: with $k_h < s_h$ no window reads some of the image's rows, and the strips
# carry them along. For $s_h = 1$, in images much higher than the kernel, im2col's buffer is nearly $k_h$ times
# MEC's: for 3x3 a third remains, not a ninth, because the repetition *across* stays.
#
# ## 2.5 Where it saves nothing
#
# *Think first:* most of the arithmetic of week 1's MobileNet is in 1x1 convolutions. What do the two matrices hold
# there?
#
# <details><summary>Answer</summary>
#
# With stride 1, im2col's is a copy of the image. MEC's has the same numbers with height and width exchanged. Neither
# copy is needed: the image is such a matrix already. A convolution whose stride equals its kernel cuts the image into
# patches. There MEC saves nothing either, because no windows overlap.
#
# </details>

# %% jupyter={"source_hidden": true}
image = rng.standard_normal((1, 4, 5, 3))
assert np.array_equal(im2col(image, 1, 1, 1, 1), image)
assert np.array_equal(lower_strips(image, 1, 1).reshape(1, 5, 4, 3), image.swapaxes(1, 2))
for name, image, kernel, s in (
    ("1x1, stride 1", (1, 14, 14, 512), (1, 1, 512, 512), 1),
    ("1x1, stride 2 (ResNet's shortcut)", (1, 56, 56, 256), (1, 1, 256, 512), 2),
    ("16x16, stride 16 (patches)", (1, 224, 224, 3), (16, 16, 3, 768), 16),
    ("3x3, stride 2", (1, 57, 57, 64), (3, 3, 64, 64), 2),
    ("3x3, stride 1", (1, 58, 58, 64), (3, 3, 64, 64), 1),
):
    large, small = (f(image, kernel, (s, s)) for f in (mec.im2col_elements, mec.mec_elements))
    print(f"{name:35s} im2col {large / math.prod(image):5.2f} images, MEC {small / math.prod(image):5.2f}")
    assert (small < large) == (kernel[0] > s)


# %% [markdown]
# ## 2.6 Experiment: are fewer bytes less time?
#
# The paper reports that MEC is faster, too, since less memory is written and read. But its products are smaller, one
# for each output row, and each of them reads the whole kernel again. *Vote first:* in how many of the twelve layers is
# MEC ahead on your machine? `studylib.mec` has MEC and im2col in the same style, so that they differ only in the
# lowering and the products. torch's `conv2d` may choose its own algorithm and layout. All on one core, the best of
# several runs. No cell checks the times.

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
def best_time(call, *arguments):
    """Seconds of the fastest of several calls."""
    seconds = []
    for _ in range(3 if FAST else 15):
        start = perf_counter()
        call(*arguments)
        seconds.append(perf_counter() - start)
    return min(seconds)


threads = numba.get_num_threads()
numba.set_num_threads(1)
times, answers = {}, {}
with threadpool_limits(1), torch.inference_mode():
    for layer in mec.LAYERS:
        x, K, stride = arrays_of(layer)
        image = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous()
        weight = torch.from_numpy(K).permute(3, 2, 0, 1).contiguous()
        calls = (
            (mec.mec_conv2d, x, K, stride),
            (mec.im2col_conv2d, x, K, stride),
            (F.conv2d, image, weight, None, stride),
        )
        answers[layer.name] = [np.asarray(call(*args)) for call, *args in calls]  # and warmed up
        times[layer.name] = [best_time(*call) for call in calls]
numba.set_num_threads(threads)
print(f"{'':6s}{'time, im2col = 1':>22s}{'buffer':>15s}")
print(f"{'':6s}{'MEC':>10s}{'conv2d':>12s}{'MEC / im2col':>15s}")
for (layer, (large, small)), (fast, slow, own) in zip(formula.items(), times.values()):
    print(f"{layer.name:6s}{fast / slow:10.2f}{own / slow:12.2f}{small / large:15.2f}")

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(8, 3.2), layout="constrained")
relative = np.array([(m / i, t / i) for m, i, t in times.values()])
ax.bar(np.arange(12) - 0.2, relative[:, 0], 0.4, color=plots.BLUE, label="MEC")
own = relative[:, 1]
ax.bar(np.arange(12) + 0.2, own, 0.4, color=plots.GREEN, hatch="//", label="torch's conv2d")
ax.axhline(1, color=plots.ORANGE, lw=2, label="im2col")
ax.set_xticks(range(12), times)
ahead, behind = (relative[:, 0] < 0.95).sum(), (relative[:, 0] > 1.05).sum()
ax.set(
    ylabel="time, im2col = 1",
    title=f"One core: MEC is more than 5 % ahead in {ahead} of 12 layers, behind in {behind}",
)
ax.legend()
plots.alt(
    fig,
    "Twelve layers, two bars each: the time of MEC and of torch's conv2d on one core, with im2col's as 1. MEC's bars "
    f"end between {relative[:, 0].min():.1f} and {relative[:, 0].max():.1f}, more than 5 percent below im2col's line in "
    f"{ahead} layers and above it in {behind}; conv2d's between {own.min():.1f} and {own.max():.1f}.",
)
plt.show()

# %% jupyter={"source_hidden": true}
for by_mec, by_windows, torchs in answers.values():
    expected = torchs.transpose(0, 2, 3, 1)
    assert np.abs(by_mec - expected).max() < 1e-4 * np.abs(expected).max()
    assert np.abs(by_windows - expected).max() < 1e-4 * np.abs(expected).max()
assert all(small < large for large, small in formula.values())
print(f"{len(answers)} layers: three programs, one answer; MEC's buffer is smaller in each")

# %% [markdown]
# What this shows: in which of these layers the smaller buffer is also less time, on one machine. What it does not show:
# the paper's speeds, measured on other processors, with batches, and with MEC's products run side by side.
#
# <details><summary>Seen once: one core and two of an x86 server CPU</summary>
#
# One core, November 2026: MEC took 0.62 to 0.94 of im2col's time in seven layers (cv1 to cv4 and cv7 to cv9), 1.12 to
# 1.37 of it in three, and 1.89 and 2.25 in cv6 and cv12, the two small maps with 512 filters. There a product of a few
# rows reads a large $K$; whether that is the cause we have not measured. conv2d was ahead of MEC in all but cv7. On two
# cores MEC was ahead in three layers only (cv3, cv4, cv7) and took 1.58 to 2.23 of im2col's time in the other nine. The
# run stored above differs in several layers: such times change from run to run. `python -m benchmarks.mec` measures
# them again.
#
# </details>
#
# The paper's example comes out. Its tables of times and memory are not in our ledger: we did not have the paper's text
# (section 2.3).

# %% jupyter={"source_hidden": true}
display(ledger.check("mec", where="Figure 2", show=["numbers in the lowered matrix"]))


# %% [markdown]
# ## 2.7 Theory: depth separation
#
# FractalNet makes depth *trainable*. But is there anything that a deep network can do and a shallow one of the same
# size cannot? Lecture 5 of Stanford's stats385 asks this, and one of its readings (arXiv 1603.00988) answers for
# functions that are composed of small parts. Here is a short proof, for one function, by counting pieces of straight
# lines; the construction is Telgarsky's. Two ReLU units make the **tent map** on $[0, 1]$:
#
# $$t(x) = 2 \max(x, 0) - 4 \max\left(x - \tfrac{1}{2},\, 0\right)$$
#
# It rises from 0 to 1 and falls back. *Think first:* how many tents has $t(t(x))$, and how many straight pieces $k$
# layers?

# %% jupyter={"source_hidden": true}
def relu(x):
    return np.maximum(x, 0)


def tent(x):
    """Two ReLU units."""
    return 2 * relu(x) - 4 * relu(x - 0.5)


def deep(x, k):
    """k layers of two units: the tent map of the tent map of ..."""
    for _ in range(k):
        x = tent(x)
    return x


def pieces(y):
    """Straight pieces of a function, from its values on a fine and even grid."""
    slopes = np.diff(y)
    return 1 + np.count_nonzero(np.diff(slopes))


for k in (1, 2, 3, 6, 8, 12):  # every bend is on the grid, and powers of two are exact
    grid = np.arange(2 ** (k + 3) + 1) / 2 ** (k + 3)
    assert pieces(deep(grid, k)) == 2**k
    print(f"{counted(k, 'layer'):>9s}, {2 * k:2d} units: {pieces(deep(grid, k)):5d} pieces")


# %% [markdown]
# <details><summary>Answer</summary>
#
# While $t$ rises, the outer $t$ runs through its whole tent; while it falls, once more, backwards. Two tents, four
# pieces. Each further layer doubles them: $k$ layers of two units have $2^k$ pieces.
#
# </details>
#
# Now **one** layer of $n$ units, $g(x) = c + \sum_j a_j \max(w_j x + b_j, 0)$. Each unit bends at most once, at
# $-b_j / w_j$, so $g$ has at most $n + 1$ pieces. To have $2^k$ of them it needs at least $2^k - 1$ units. **Your
# turn.** With $2^k$ units, $\max(x - j / 2^k, 0)$ for $j = 0, 1, 2, \ldots$, it can be done. By how much must each of
# them change the slope?

# %%
def slopes(k):
    """a_j of the 2^k units that make the k-fold tent map: its slope is 2^k, then -2^k, ..."""
    a = np.zeros(2**k)
    # BEGIN SOLUTION, 4 minutes: the first unit makes the slope 2^k; each other one turns it around
    a[0] = 2**k
    a[1::2] = -2 * 2**k
    a[2::2] = 2 * 2**k
    # END SOLUTION
    return a


# %%
for k in (1, 3, 6, 8):
    grid = np.arange(2 ** (k + 3) + 1) / 2 ** (k + 3)
    bends = np.arange(2**k) / 2**k
    course.expect(relu(grid[:, None] - bends) @ slopes(k), deep(grid, k))
    print(f"k = {k}: {2 * k:2d} units in {counted(k, 'layer')}, or {2**k:3d} units in one")

# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(1, 3, figsize=(8.6, 2.7), layout="constrained", width_ratios=[1, 1, 1.2])
grid = np.arange(2**10 + 1) / 2**10
for ax, k in zip(axes, (2, 5)):
    ax.plot(grid, deep(grid, k), lw=1.2)
    ax.set(xlabel="x", ylim=(-0.05, 1.05))
axes[0].set_title("Twice: 4 pieces")
axes[1].set_title("Five times: 32 pieces")
axes[0].set_ylabel("t applied k times to x")
ks = np.arange(1, 13)
axes[2].semilogy(2 * ks, 2.0**ks, "o-", color=plots.BLUE, ms=4, base=2)
axes[2].semilogy(2 * ks, 2 * ks + 1, "s-", color=plots.ORANGE, ms=4, base=2)
axes[2].text(14, 2**9, "tent map: $2^k$", ha="right", fontsize=8)
axes[2].text(25, 2**2.3, "one layer: at most $2k + 1$", ha="right", fontsize=8)
axes[2].set(xlabel="units, $2k$", ylabel="pieces", title="Depth multiplies", ylim=(1.5, 2**14))
plots.alt(
    fig,
    "Left: the tent map applied twice, two tents. Middle: five times, sixteen tents. Right: straight pieces against "
    "units, logarithmic: the deep net's double with every two units, the bound for one layer grows by two.",
)
plt.show()


# %% [markdown]
# "At least $2^k - 1$" is about being *equal*. Is a smaller network perhaps nearly right? Look only at whether the value
# lies above or below $\frac{1}{2}$, at the $2^k + 1$ points $0, 2^{-k}, 2 \cdot 2^{-k}, \ldots, 1$. There the deep
# network is 0, 1, 0, 1, ... A straight piece crosses the height $\frac{1}{2}$ at most once. So a function of $m$ pieces
# changes sides at most $m$ times; the deep network changes sides $2^k$ times. A wrong point removes at most two
# changes, so at least $\lceil (2^k - m) / 2 \rceil$ points are wrong. For one layer of $n$ units $m$ is at most
# $n + 1$. The folded cell tries all patterns for $k = 5$.

# %% jupyter={"source_hidden": true}
def fewest_mistakes(k, m):
    """Least number of the 2^k + 1 alternating points missed by a pattern of at most m changes."""
    best = {(side, 0): side for side in (0, 1)}  # (side of 1/2, changes so far) -> mistakes
    for j in range(1, 2**k + 1):
        after = {}
        for (side, changes), mistakes in best.items():
            for new in (0, 1):
                key = (new, changes + (new != side))
                if key[1] <= m:
                    cost = mistakes + (new != j % 2)
                    after[key] = min(after.get(key, cost), cost)
        best = after
    return min(best.values())


k = 5
for m in range(1, 2**k + 1):
    assert fewest_mistakes(k, m) == math.ceil((2**k - m) / 2)
for units in (1, 7, 15, 23, 31):
    wrong = fewest_mistakes(k, units + 1)
    print(f"one layer of {units:2d} units: at least {wrong:2d} of {2**k + 1} points on the wrong side")

# %% [markdown]
# With half the units that it would need, one layer is wrong on at least about a quarter of the points, wherever it puts
# its bends. What this shows: there are functions for which depth saves exponentially many units. What it does not show:
# that the functions we want to learn are of this kind, or that training finds such weights.
#
# ## Questions for hour 2
#
# 1. (★★) MEC lowers the width and keeps the height. When would the other way round be better? And what if we keep both?
# 2. (★) Which of Solution A and B do you take for one image on eight cores, which for a batch of 32?
# 3. (★★) In training, the gradient with respect to the weights needs the windows as well. Does $L$ serve for it?
# 4. (★★★) Would gradient descent find the tent maps? Bet first, then try five layers of two units.
#
# <details><summary>Answers for the facilitator</summary>
#
# 1. Where the kernel overlaps more across than down, that is $k_w / s_w > k_h / s_h$, and the memory order is changed
#    to suit. Whoever keeps both needs no buffer, but $k_h$ times as many products, each a sum over a $k_h$-th of the
#    terms.
# 2. For one image A and B do the same products, one for each output row. They are independent, so each core can do
#    some. For a batch of 32, A's products are 32 times as large: take A where the output is narrow. Where it is wide,
#    B's are large enough.
# 3. Yes, with the same views of $L$: for each output row $h$, multiply the transposed windows by
#    $\partial \ell / \partial O_h$. The sum over $h$ is $\partial \ell / \partial K$.
# 4. Hardly ever from a random start: a small change of an inner unit moves all outer bends at once. That is a guess
#    until somebody has tried it with several seeds.
#
# </details>

# %% [markdown]
# # Hour 3: GPU programming 2
#
# ## 3.1 A matrix product, read by read
#
# Both lowerings end in a matrix product, $c_{ij} = \sum_k a_{ik} b_{kj}$. The first kernel that comes to mind: each
# thread computes one element, and threads that are neighbours in $x$ compute neighbours in a row of $c$. A card has a
# memory of its own, so the matrices are copied to it and the result is copied back:

# %%
TILE = 16


@cuda.jit
def product_naive(a, b, out):
    column, row = cuda.grid(2)
    total = float32(0)
    for k in range(a.shape[1]):
        total += a[row, k] * b[k, column]
    out[row, column] = total


a, b = rng.standard_normal((2, 64, 64), dtype=np.float32)
on_card_a, on_card_b = cuda.to_device(a), cuda.to_device(b)  # host to device
on_card_out = cuda.device_array((64, 64), np.float32)  # on the device alone
product_naive[(4, 4), (TILE, TILE)](on_card_a, on_card_b, on_card_out)
out = on_card_out.copy_to_host()  # device to host
assert np.abs(out - a.astype(float) @ b).max() < 1e-4

# %% [markdown]
# (A launch on NumPy arrays, as in week 2, makes these copies silently, both ways, at each launch.) *Think first:* the
# way between host and card is much slower than the card's own memory. How many multiply-adds does a product of two
# $n$-by-$n$ matrices do for each byte that crosses? And week 1's `vector_add`?
#
# <details><summary>Answer</summary>
#
# Three matrices of $4 n^2$ bytes cross, for $n^3$ multiply-adds: $n / 12$ a byte, so the copies matter less the larger
# the matrices are. `vector_add` does one addition for 12 bytes, whatever its length: it is not worth the copies. That
# is why a network's weights and activations stay on the card from layer to layer.
#
# </details>
#
# And on the card? The check counts what the kernel reads:

# %%
out = np.full((64, 64), np.nan, np.float32)
naive = gpu.check(product_naive, (4, 4), (TILE, TILE), a, b, out)
assert naive.ok and naive.global_reads_per_thread == 2 * 64
naive


# %% [markdown]
# A single request is cheap. A warp is two rows of sixteen threads: it needs sixteen neighbours of $b$, two sectors of
# 32 bytes, and two numbers of $a$, each for sixteen threads at once, two sectors as well. What is wrong is how *many*
# reads there are. Each thread reads two numbers for each multiply-add, 128 in all, and its neighbours read the same
# ones again: each number of $a$ is read by the 64 threads of its row.
#
# ## 3.2 The same product through tiles
#
# A block of 16 x 16 threads computes a tile of $c$. It needs sixteen rows of $a$ and sixteen columns of $b$, and each
# number of them sixteen times. So bring them in **once for the block**, into its shared memory. At full length they
# fit only where the matrices are small, but a sum can be taken in portions. Cut $a$ and $b$ into tiles of 16 x 16:
#
# $$c_{IJ} = \sum_{P} a_{IP}\, b_{PJ} \qquad \text{with tiles in place of numbers.}$$
#
# **Your turn.** In each step every thread brings one number of each tile, and adds sixteen products. Where must it
# wait, and for whom?

# %%
@cuda.jit
def product_tiled(a, b, out):
    left = cuda.shared.array((TILE, TILE), float32)
    right = cuda.shared.array((TILE, TILE), float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    column, row = cuda.grid(2)
    total = float32(0)
    for k in range(0, a.shape[1], TILE):
        # BEGIN SOLUTION, 5 minutes: a's tile begins at column k, b's at row k; two barriers (cuda.syncthreads())
        left[y, x] = a[row, k + x]
        right[y, x] = b[k + y, column]
        cuda.syncthreads()
        for j in range(TILE):
            total += left[y, j] * right[j, x]
        cuda.syncthreads()
        # END SOLUTION
    out[row, column] = total


# %%
out[:] = np.nan
tiled = gpu.check(product_tiled, (4, 4), (TILE, TILE), a, b, out)
course.expect(out, a.astype(float) @ b, within=1e-4)
assert tiled.ok, f"got {tiled.findings[0].kind}, expected a kernel without a finding"
course.expect(tiled.global_reads_per_thread, 2 * 64 // TILE)  # more where it reads past the tiles
print(f"global reads a thread: {tiled.global_reads_per_thread}, naive {naive.global_reads_per_thread}")


# %% jupyter={"source_hidden": true}
def sectors(report, op=None):
    """32-byte sectors of global memory that all requests of a launch touch."""
    return round(
        sum(
            access.requests * access.sectors_per_request
            for access in report.accesses
            if access.space == "global" and op in (None, access.op)
        )
    )


def passes(report):
    """Passes through shared memory of all requests, those that wait for a busy bank included."""
    shared = [access for access in report.accesses if access.space == "shared"]
    return round(sum(access.requests * access.passes_per_request for access in shared))


for name, report in (("naive", naive), ("tiled", tiled)):
    print(
        f"{name}: {report.global_reads_per_thread:3d} reads a thread, "
        f"{sectors(report, 'load'):6,d} sectors loaded, "
        f"{passes(report):6,d} passes in shared memory"
    )
assert tiled.global_reads_per_thread * TILE == naive.global_reads_per_thread
assert sectors(naive, "load") == 8 * sectors(tiled, "load")


# %% [markdown]
# The first barrier waits until both tiles are complete; the second until every thread has read them, because the next
# step overwrites them. Sixteen threads use each number that comes in, so there are sixteen times fewer reads. There are
# only eight times fewer sectors: a request of the naive kernel touches two, one that fills a tile touches four. In
# exchange there are many passes through shared memory, and they are cheap only without bank conflicts (week 2). Here a
# warp reads `left[y, j]`, two words for all, and `right[j, x]`, sixteen words in sixteen banks: one pass each.
#
# *Think first:* somebody stores the right tile turned, `right[x, y]`, and reads `right[x, j]`. The result is the same.
# How many passes does a warp's read take?

# %% jupyter={"source_hidden": true}
@cuda.jit
def product_turned(a, b, out):
    left = cuda.shared.array((TILE, TILE), float32)
    right = cuda.shared.array((TILE, TILE), float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    column, row = cuda.grid(2)
    total = float32(0)
    for k in range(0, a.shape[1], TILE):
        left[y, x] = a[row, k + x]
        right[x, y] = b[k + y, column]
        cuda.syncthreads()
        for j in range(TILE):
            total += left[y, j] * right[x, j]
        cuda.syncthreads()
    out[row, column] = total


out[:] = np.nan
turned = gpu.check(product_turned, (4, 4), (TILE, TILE), a, b, out)
assert turned.ok and np.abs(out - a.astype(float) @ b).max() < 1e-4
assert sectors(turned) == sectors(tiled)
for name, report in (("tiled", tiled), ("turned", turned)):
    worst = max(access.passes_per_request or 0 for access in report.accesses)
    print(f"{name:7s} at worst {worst:.0f} passes a request, {passes(report):6,d} in all")
assert max(access.passes_per_request or 0 for access in tiled.accesses) == 1
assert max(access.passes_per_request or 0 for access in turned.accesses) == 8

# %% jupyter={"source_hidden": true}
inner = max(access.line for access in turned.accesses if access.space == "shared")
fig = turned.plot(inner)
plots.alt(
    fig,
    "Two reads of one warp, on a map of the 32 banks. Of the left tile it reads two words, in banks 0 and 16. Of the "
    "turned right tile it reads sixteen: eight below each other in bank 0, and eight in bank 16.",
)
display(fig)


# %% [markdown]
# <details><summary>Answer</summary>
#
# Eight: sixteen words that lie sixteen apart share two banks, eight to each. (These counts are exact for the source,
# and they are not times.)
#
# </details>
#
# Tiles of side $T$ leave $2 \cdot 64 / T$ reads a thread. Why not larger ones? The appendix asks NVIDIA's compiler.
#
# ## 3.3 Lowering on the GPU
#
# Lowering computes nothing. All that counts is how it reads and writes. The obvious program gives each *window* a
# thread, which copies its numbers one after the other, as on a CPU. **Your turn.** Give each *number* a thread, in the
# order in which the numbers are written. (One channel, 3x3 windows as rows of nine.)

# %%
@cuda.jit
def window_each(x, size, out):
    i = cuda.grid(1)  # the window
    if i < out.shape[0]:
        out_width = x.shape[1] - size + 1
        for q in range(size * size):
            number = x[i // out_width + q // size, i % out_width + q % size]
            out[i, q] = number


@cuda.jit
def number_each(x, size, out):
    place = cuda.grid(1)  # in the order of out's memory, row after row
    out_width = x.shape[1] - size + 1
    # BEGIN SOLUTION, 4 minutes: which window i and which number q of it? Guard, then copy as above
    i, q = place // (size * size), place % (size * size)
    if i < out.shape[0]:
        number = x[i // out_width + q // size, i % out_width + q % size]
        out[i, q] = number
    # END SOLUTION


# %%
x = rng.standard_normal((18, 34), dtype=np.float32)
expected = mec.im2col(x[None, :, :, None], (3, 3), (1, 1)).reshape(-1, 9)
reports, stores = {}, {}
for kernel, threads in ((window_each, len(expected)), (number_each, expected.size)):
    lowered = np.full(expected.shape, np.nan, np.float32)
    report = gpu.check(kernel, math.ceil(threads / 128), 128, x, 3, lowered)
    course.expect(lowered, expected)
    assert report.ok, f"got {report.findings[0].kind}, expected a kernel without a finding"
    name = kernel.py_func.__name__
    reports[name], stores[name] = report, next(a for a in report.accesses if a.op == "store")
    print(f"{name:12s} {stores[name].sectors_per_request:4.1f} sectors written a request, ", end="")
    print(f"{stores[name].requests} requests")
course.expect(stores["number_each"].sectors_per_request, 4)  # 32 neighbours

# %% jupyter={"source_hidden": true}
assert stores["window_each"].sectors_per_request > 30
fig, axes = plt.subplots(2, 1, figsize=(8, 3.4), layout="constrained", sharex=True)
for ax, (name, report) in zip(axes, reports.items()):
    store = next(r for r in report.trace(stores[name].line, warp=0) if r.op == "store")
    floats = store.elements  # the array begins on a line
    memory = np.zeros((9, 32))
    memory.reshape(-1, 8)[floats // 8] = 1  # the whole sector moves
    memory.ravel()[floats] = 2
    ax.imshow(memory, cmap="Blues", vmin=0, vmax=2.5, aspect="auto")
    for sector in (7.5, 15.5, 23.5):
        ax.axvline(sector, color=plots.GREY, lw=0.8)
    touched = len(set(floats // 8))
    ax.set_title(f"{name}: {touched} sectors for 32 numbers", fontsize=9, fontweight="normal")
    ax.set(ylabel="line", yticks=range(9))
axes[1].set(xlabel="number in its line of 128 bytes; grey: borders of the sectors", xticks=range(0, 32, 4))
plots.title(fig, "One store of one warp. Dark: numbers written; pale: moved with them")
plots.alt(
    fig,
    "Nine lines of memory, 32 numbers each. With a thread for each window, a warp's 32 numbers lie nine apart, over all "
    "nine lines. With a thread for each number they fill the first line.",
)
plt.show()

# %% [markdown]
# Neighbouring threads of the first kernel write nine numbers apart, so each write of a warp touches a sector for every
# thread. In the second kernel they write next to each other.
#
# *Think first:* MEC's matrix for 3x3 windows has about a third of the numbers. Does its lowering move a third of the
# sectors, and does the product behind it read less? The exercises' solutions, counted on 18 x 18 pixels with 8
# channels:

# %% jupyter={"source_hidden": true}
SIDE, CH, SIZE, OUT = 18, 8, 3, 16
o = SIDE - SIZE + 1  # the output's side
image = rng.standard_normal((SIDE, SIDE, CH), dtype=np.float32)
planes = np.ascontiguousarray(image.transpose(2, 0, 1))  # im2col has the channels first
columns = np.empty((CH * SIZE**2, o * o), np.float32)
strips = np.empty((o, SIDE, SIZE, CH), np.float32)
im2col_kernel, mec_kernel = kernels.load("im2col").kernel, kernels.load("mec_lower").kernel
grid = math.ceil(o * o / 256), len(columns)
by_windows = gpu.check(im2col_kernel, grid, 256, planes, SIZE, 1, columns)
grid = math.ceil(SIDE * SIZE * CH / 256), o
by_strips = gpu.check(mec_kernel, grid, 256, image, SIZE, 1, strips)
assert by_windows.ok and by_strips.ok
for name, report, buffer in (("im2col", by_windows, columns), ("MEC", by_strips, strips)):
    print(
        f"{name:7s} writes {buffer.size:6,d} numbers: "
        f"{sectors(report, 'store'):5,d} sectors written, {sectors(report, 'load'):5,d} loaded"
    )
shapes = (1, SIDE, SIDE, CH), (SIZE, SIZE, CH, OUT), (1, 1)
assert columns.size == mec.im2col_elements(*shapes) and strips.size == mec.mec_elements(*shapes)
assert 0.3 < sectors(by_strips) / sectors(by_windows) < 0.36
assert 4 * 224 * 7 * 64 == 401_408  # bytes of a strip of cv4, question 2

# %% jupyter={"source_hidden": true}
weight = rng.standard_normal((SIZE * SIZE * CH, OUT), dtype=np.float32)  # (u, v, c) by output
K = weight.reshape(SIZE, SIZE, CH, OUT)
by_mec, expected = np.empty((o, o, OUT), np.float32), by_torch(image[None], K, 1, 1)[0]
grid = OUT // TILE, math.ceil(o / TILE), o
arguments = strips.reshape(o, -1), weight, SIZE * CH, 1, by_mec
on_strips = gpu.check(kernels.load("mec_conv").kernel, grid, (TILE, TILE), *arguments)
assert on_strips.ok and np.abs(by_mec - expected).max() < 1e-4

rows = np.ascontiguousarray(K.transpose(3, 2, 0, 1).reshape(OUT, -1))  # output by (c, u, v)
by_columns = np.empty((OUT, o * o), np.float32)
grid = math.ceil(o * o / TILE), OUT // TILE
arguments = rows, columns, by_columns
on_columns = gpu.check(kernels.load("matmul_tiled").kernel, grid, (TILE, TILE), *arguments)
assert on_columns.ok
assert np.abs(by_columns.reshape(OUT, o, o).transpose(1, 2, 0) - expected).max() < 1e-4
for name, report in (("matmul_tiled on im2col", on_columns), ("mec_conv on MEC", on_strips)):
    print(f"{name:23s} {report.global_reads_per_thread} reads a thread, {sectors(report, 'load'):5,d} sectors loaded")
assert on_strips.global_reads_per_thread == on_columns.global_reads_per_thread

# %% [markdown]
# <details><summary>Answer</summary>
#
# The lowering moves about a third of the sectors. The product reads just as often: each window is read whole, wherever
# it lies. But it reads from a smaller buffer, so more of it can stay in the cache, and a larger batch fits into the
# card. How much time that is worth, only a card can say.
#
# </details>
#
# ## 3.4 Now you
#
# `exercises/03_fractal_mec/mec_lower.py` (20 minutes) is MEC's lowering: one number for each thread, channels
# innermost. Its card says what to compute, a plan, and how much traffic it may use. Open the file next to this
# notebook, write, save, and run the cell. If you are stuck, run `study hint mec_lower` in a terminal. What you do not
# finish is for home, as are `matmul_tiled` (30 minutes: section 3.2 for matrices of any size), `im2col` (20),
# `mec_conv` (30, the hardest of the week) and `mean_join` (15). The appendix has what they need.

# %% tags=["nbval-ignore-output"]
studylib.check("mec_lower")

# %% [markdown]
# ## Questions for hour 3
#
# 1. (★★) `product_tiled` waits twice in each step. Which wait could be left out if there were two pairs of tiles in
#    shared memory, used in turn?
# 2. (★★★) `mec_conv` reads each strip up to $k_h$ times. Could a block keep a strip in shared memory? How large would
#    it be for cv4 (224 high, 7 wide, 64 channels)?
# 3. (★) What would one kernel for join **and** pooling save?
#
# <details><summary>Answers for the facilitator</summary>
#
# 1. The second one: the next step writes to the other pair. The first of the next step then keeps a fast warp from
#    overwriting what a slow one still reads.
# 2. $4 \cdot 224 \cdot 7 \cdot 64$ bytes, 401 kB: more than a block gets on today's cards. It could keep the $k_h$ rows
#    that are in use, and bring a new one for each output row.
# 3. In the paper's order (pool, then join) the $n$ pooled maps are never written and read again: one kernel reads each
#    column's map once and writes one map of a quarter of the size.
#
# </details>
#
# ## Readings

# %%
Markdown("\n".join(f"- [{reading.title}]({reading.link})" for reading in course.sheet(".").readings))


# %% [markdown]
# # Appendix: for home
#
# ## A.1 How large should a tile be?
#
# Two tiles of side $T$ take $2 \cdot 4\,T^2$ bytes of shared memory, and the block has $T^2$ threads. Registers and
# shared memory decide how many blocks a multiprocessor holds at a time. Its **occupancy** (week 2) says how full of
# threads it then is. NVIDIA's compiler says what a kernel needs, and it runs without a GPU.

# %% jupyter={"source_hidden": true}
def tiled_by(T):
    """product_tiled with tiles of side T."""

    @cuda.jit
    def kernel(a, b, out):
        left = cuda.shared.array((T, T), float32)
        right = cuda.shared.array((T, T), float32)
        x, y = cuda.threadIdx.x, cuda.threadIdx.y
        column, row = cuda.grid(2)
        total = float32(0)
        for k in range(0, a.shape[1], T):
            left[y, x] = a[row, k + x]
            right[y, x] = b[k + y, column]
            cuda.syncthreads()
            for j in range(T):
                total += left[y, j] * right[j, x]
            cuda.syncthreads()
        out[row, column] = total

    return kernel


for T in (4, 8, 16, 32):
    report = gpu.check(tiled_by(T), (64 // T, 64 // T), (T, T), a, b, out)
    assert T > 4 or sectors(report, "load") == sectors(naive, "load")
    assert report.ok and report.global_reads_per_thread == 2 * 64 / T
    print(
        f"T = {T:2d}: {T * T:4d} threads a block, "
        f"{report.global_reads_per_thread:2d} reads a thread, "
        f"{sectors(report, 'load'):6,d} sectors, {8 * T * T:5,d} bytes shared"
    )

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
compiled = {}
try:
    for T in (4, 8, 16, 32):
        compiled[T] = gpu.compile(tiled_by(T), a, b, out, block=(T, T))
    compiled["naive"] = gpu.compile(product_naive, a, b, out, block=(TILE, TILE))
    for T, needs in compiled.items():
        print(
            f"{T!s:>5s}: {needs.registers} registers a thread, "
            f"{needs.shared_bytes:5,d} bytes shared, occupancy {needs.occupancy:4.0%}, "
            f"limited by {needs.limited_by}"
        )
except gpu.NotAvailable as reason:
    print("no compiler here:", reason)

# %% jupyter={"source_hidden": true}
for T, needs in compiled.items():
    assert needs.spill_bytes == 0 and not needs.uses_float64
    assert needs.shared_bytes == (0 if T == "naive" else 2 * 4 * T * T)
print("no register spilled, no double precision by accident")

# %% [markdown]
# The tile of 4 has two faults. Its sixteen threads fill half a warp, so a request brings in less, and all of them
# together touch as many sectors as the naive kernel's. And a multiprocessor reaches its limit of blocks before it is
# full of threads. By these counts 32 is better than 16, but then all threads of a block of 1024 wait at each barrier,
# and what that costs only a card can say. A side beyond 32 is not allowed, because a block has at most 1024 threads.
# Fast libraries give each thread several elements of $c$, in registers, and use the tensor cores. CS179's labs 5 and 6
# (2019) leave such products to them: they build a dense and a convolutional network for MNIST from calls of cuBLAS and
# cuDNN.
#
# ## A.2 A product of any size
#
# `matmul_tiled` is section 3.2's kernel for matrices of **any** size: the last tiles hang over the edge, and what lies
# outside must count as zero. Where is a guard needed, and why must a thread without an element of $c$ still come to the
# barriers?

# %% tags=["nbval-ignore-output"]
studylib.check("matmul_tiled")

# %% [markdown]
# ## A.3 Both lowerings, and the product on MEC's strips
#
# `im2col`: channels, a stride, and the transposed order of a matrix product. `mec_conv`: `matmul_tiled` where one of
# the matrices is a view that overlaps with the next block's.

# %% tags=["nbval-ignore-output"]
studylib.check("im2col")

# %% tags=["nbval-ignore-output"]
studylib.check("mec_conv")


# %% [markdown]
# ## A.4 The join in one pass
#
# Back to FractalNet. A framework that has no operator for the mean of the inputs that are alive takes several: add,
# add, divide. Each of them is a kernel of its own, which reads everything and writes everything.

# %% jupyter={"source_hidden": true}
@cuda.jit
def add(a, b, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = a[i] + b[i]


@cuda.jit
def divide(a, n, out):
    i = cuda.grid(1)
    if i < out.size:
        out[i] = a[i] / n


N = 4096
paths = rng.standard_normal((4, N), dtype=np.float32)
alive = np.array([1, 0, 1, 1], np.float32)  # local drop-path dropped one of four
mean_, first, second = np.empty((3, N), np.float32)
chain = [
    gpu.check(add, N // 256, 256, paths[0], paths[2], first),
    gpu.check(add, N // 256, 256, first, paths[3], second),
    gpu.check(divide, N // 256, 256, second, float32(3), mean_),
]
fused_mean = np.empty(N, np.float32)
fused = gpu.check(kernels.load("mean_join").kernel, N // 256, 256, paths, alive, fused_mean)
assert fused.ok and all(report.ok for report in chain)
assert np.abs(fused_mean - mean_).max() < 1e-6
assert np.abs(mean_ - paths[[0, 2, 3]].mean(0)).max() < 1e-6
chain_sectors = sum(sectors(report) for report in chain)
print(f"three kernels: {chain_sectors:,} sectors, two arrays in between written and read again")
print(f"one kernel:    {sectors(fused):,} sectors, the flags included")
assert sectors(fused) < 0.7 * chain_sectors

# %% [markdown]
# The one kernel reads each living path once, and a dropped one not at all: all threads of a warp read the same flag, so
# the warp does not diverge. `mean_join` is yours to write.

# %% tags=["nbval-ignore-output"]
studylib.check("mean_join")
