# %% [markdown]
# # Week 3: a net that contains itself twice, and a convolution with a smaller buffer
#
# **At the end of this meeting you can**
#
# - grow a fractal block from its rule, and count its depth, its convolutions and its paths, on paper and on the graph;
# - say what local and global drop-path drop, and prove that the expectation of a join stays what it was;
# - write im2col's matrix and MEC's smaller one, and show that both compute the framework's convolution;
# - say in bytes what each of them costs, and for which layers MEC saves nothing;
# - multiply two matrices on a GPU through tiles, and count what that saves;
# - prove that some functions need exponentially many units in one layer, and a few in each of many layers.
#
# Every number below is computed or asserted by a cell of this notebook, quoted from a paper, or marked as seen once.
# What a paper printed is shown beside what we compute, also where the two disagree.

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
FAST = True  # False: longer training and a net of 40 layers; 25 minutes once, beside other work
SEED = 0  # the first of three seeds of every experiment
DATA = "../../data"  # not needed this week: the digits of scikit-learn are large enough

# %%
import math
import tracemalloc
from collections import Counter
from fractions import Fraction
from itertools import pairwise, product
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
from studylib.nets.fractalnet import LOCAL_DROP, ConvNormReLU, FractalBlock, count_paths, join
from studylib.training import Summary, fit, over_seeds

plots.use_style()
# Networks this small lose more by waiting for a second core than they gain.
torch.set_num_threads(1)
SEEDS = (SEED, SEED + 1, SEED + 2)
digits = data.digits(seed=SEED)
rng = np.random.default_rng(SEED)

# %% [markdown]
# ## Run sheet
# Three hours with a break in each. The presenter of a topic keeps its minutes; the questions close each hour.

# %%
course.sheet(".")


# %% [markdown]
# # Hour 1: FractalNet
#
# ## 1.1 One rule, applied again and again
#
# By 2016 the deepest networks were **residual**: a layer adds its result to its input. FractalNet (arXiv 1605.07648) asks
# whether that addition is what makes depth trainable, and answers with a network that has none. It is grown by one rule.
# Let $f_1$ be a single convolution (with batch norm and ReLU behind it, as always in this hour). Then
#
# $$f_{C+1}(z) = \big[\, (f_C \circ f_C)(z) \,\big] \;\oplus\; \big[\, \mathrm{conv}(z) \,\big]$$
#
# $C$ counts the block's **columns**, as the picture below will show. $f_C \circ f_C$ is the block so far, twice in a
# row; beside both stands one new convolution; $\oplus$ is the **join** of the two results, of which more below. Where a
# join would feed straight into another one, the two are merged into one with more inputs. Here the rule builds a graph.
# What it returns are the **ends**, the nodes that the last join will read, so that two joins in a row never arise.

# %%
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


graph = fractal_graph(3)
assert nx.is_directed_acyclic_graph(graph)
print(Counter(node[0] for node in graph if node not in ("in", "out")))


# %% tags=["figure-fractal"]
def draw_block(ax, columns):
    """Boxes are convolutions, bars are joins; data flow from top to bottom."""
    graph = fractal_graph(columns)
    place = {}  # of each convolution, the shallowest column on the left
    for node, is_ in graph.nodes(data=True):
        if node[0] == "conv":
            place[node] = x, y = columns - is_["number"], (is_["top"] + is_["bottom"]) / 2
            ax.plot([x, x], [is_["top"], is_["bottom"]], color=plots.GREY, lw=1, zorder=1)
            box = plt.Rectangle((x - 0.3, y - 0.03), 0.6, 0.06, color=plots.BLUE, zorder=2)
            ax.add_patch(box)
    for node, is_ in graph.nodes(data=True):
        if node[0] == "join":
            xs = [place[end][0] for end in graph.predecessors(node)]
            ax.plot([min(xs) - 0.25, max(xs) + 0.25], [is_["y"]] * 2, color=plots.ORANGE, lw=4)
    ax.plot([0, columns - 1], [0, 0], color=plots.GREY, lw=1)
    ax.set(xlim=(-0.6, columns - 0.4), ylim=(1.04, -0.04), xticks=[], yticks=[])
    ax.set_title(f"$f_{columns}$: depth {2 ** (columns - 1)}", fontweight="normal", fontsize=10)
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)


fig, axes = plt.subplots(
    1, 4, figsize=(8, 4.2), layout="constrained", width_ratios=[1, 1.6, 2.3, 3]
)
for ax, columns in zip(axes, (1, 2, 3, 4)):
    draw_block(ax, columns)
plots.title(fig, "Each block is the one before it, twice, and one convolution (left) beside both")
plt.show()

# %% [markdown]
# Blue: convolutions. Orange: joins. The columns are numbered from the left: column 1 is one convolution long, column
# $C$ has $2^{C-1}$.
#
# ## 1.2 Depth, convolutions, paths
#
# Three counts follow from the rule by looking at it once.
#
# - **Depth** (convolutions on the longest path): two blocks in a row, so it doubles. $d_{C+1} = 2 d_C$, hence
#   $d_C = 2^{C-1}$.
# - **Convolutions**: two blocks and one more. $n_{C+1} = 2 n_C + 1$, hence $n_C = 2^C - 1$.
# - **Paths** from input to output: through the new convolution there is one; through the two blocks every path of the
#   first can be followed by every path of the second. $p_{C+1} = p_C^2 + 1$.
#
# Does the graph agree? All paths are listed one by one: brute force, and for these sizes a proof.

# %%
for columns in range(1, 6):
    graph = fractal_graph(columns)
    convolutions = sum(node[0] == "conv" for node in graph)
    paths = list(nx.all_simple_paths(graph, "in", "out"))
    lengths = Counter(sum(node[0] == "conv" for node in path) for path in paths)
    assert max(lengths) == 2 ** (columns - 1) and min(lengths) == 1
    assert convolutions == 2**columns - 1
    assert len(paths) == count_paths(columns)
    print(
        f"{columns} columns: depth {max(lengths):2d}, {convolutions:2d} convolutions, "
        f"{len(paths):3d} paths"
    )
counts = [count_paths(columns) for columns in range(1, 7)]
assert all(after == before**2 + 1 for before, after in pairwise(counts))
print(f"and by the rule, with 6 columns {counts[-1]:,} paths")

# %% [markdown]
# Most of those paths are neither short nor long. The network of the paper is five such blocks in a row, each with its own
# number of channels, each followed by a 2x2 pooling that halves the side. With $B$ blocks it is $B \cdot 2^{C-1}$ layers
# deep, and $p_C^B$ paths lead through it.

# %%
graph = fractal_graph(4)
paths = nx.all_simple_paths(graph, "in", "out")
lengths = Counter(sum(node[0] == "conv" for node in path) for path in paths)
print("4 columns, paths of each length:", dict(sorted(lengths.items())))
print(f"5 blocks of 4 columns: {5 * 2**3} layers, {count_paths(4) ** 5:,} paths")


# %% [markdown]
# ## 1.3 The join is a mean
#
# The join of the paper is the element-wise **mean** of its inputs,
#
# $$\bigoplus_{i=1}^{n} z_i = \frac{1}{n} \sum_{i=1}^{n} z_i, \qquad
#   \frac{\partial L}{\partial z_i} = \frac{1}{n}\, \frac{\partial L}{\partial (\oplus z)},$$
#
# so each of the $n$ inputs gets an equal share of the gradient ($L$ is the loss). Unlike a residual connection, nothing
# here is passed on unchanged: every path goes through at least one convolution. The whole block, then, as the rule
# writes it. A column is a list of layers; the two copies of $f_C$ are the first and the second halves of the deeper
# columns.

# %%
def mean(ends):
    """The join, from its formula."""
    return sum(ends) / len(ends)


def fractal(columns, z):
    """f_C(z) as the ends of its last join; columns: lists of layers, the shallowest first."""
    if len(columns) == 1:
        return [columns[0][0](z)]
    first = [column[: len(column) // 2] for column in columns[1:]]
    second = [column[len(column) // 2 :] for column in columns[1:]]
    between = mean(fractal(first, z))
    return [columns[0][0](z), *fractal(second, between)]


torch.manual_seed(SEED)
images = digits.train_x[:4].double()
for columns in (1, 2, 3, 4):
    block = FractalBlock(1, 6, columns).double().eval()  # the module of studylib/nets
    ends = fractal([list(column) for column in block.columns], images)
    from_scratch = mean([F.max_pool2d(end, 2) for end in ends])  # pooled, then joined
    assert (block(images) - from_scratch).abs().max() < 1e-12 < from_scratch.abs().max()
    print(
        f"{columns} columns, {len(ends)} ends: "
        f"{tuple(images.shape)} -> {tuple(block(images).shape)}"
    )

# %% [markdown]
# One detail of the last join: the paper pools each column by itself and joins afterwards, and so do both programs above. In the
# other order the values differ, for the maximum of a mean is not the mean of maxima. The gradient, checked:

# %%
inputs = [torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
upstream = torch.randn(2, 3, 4, 4, dtype=torch.float64)
for gradient in torch.autograd.grad(join(inputs), inputs, upstream):
    assert torch.allclose(gradient, upstream / 3, rtol=0, atol=1e-15)
other_order = F.max_pool2d(mean(ends), 2)
assert not torch.allclose(other_order, from_scratch)
print("three inputs, and each gets a third of the gradient")


# %% [markdown]
# ## 1.4 What a block costs
#
# Let a block have $C$ columns, $M$ channels in, $N$ out, on maps of side $S$. The first convolution of each column reads
# $M$ channels, the other $2^C - 1 - C$ read $N$. With 3x3 filters and batch norm's two numbers a channel:
#
# $$\begin{aligned}
#   \text{weights} &= 9 \left( C\,M N + (2^C - 1 - C)\, N^2 \right) \\
#   \text{parameters} &= \text{weights} + 2 N (2^C - 1) \\
#   \text{multiply-adds} &= S^2 \cdot \text{weights}
#   \end{aligned}$$
#
# Activations, in 4-byte floats: each convolution leaves three maps (its own, the norm's, the ReLU's), and each of
# the $C$ ends leaves a pooled one of a quarter of the size:
#
# $$\text{bytes} = 4 N S^2 \left( 3\,(2^C - 1) + \tfrac{C}{4} \right)$$

# %%
def block_cost(C, M, N, S):
    """Weights, parameters, multiply-adds and activation bytes of a block of C columns."""
    weights = 9 * (C * M * N + (2**C - 1 - C) * N * N)
    activations = 4 * N * S * S * (3 * (2**C - 1) + Fraction(C, 4))
    return weights, weights + 2 * N * (2**C - 1), S * S * weights, activations


for C, M, N, S in ((1, 3, 64, 32), (2, 64, 128, 16), (3, 128, 256, 8), (4, 256, 512, 4)):
    with torch.device("meta"):  # shapes only
        cost = count(FractalBlock(M, N, C), (M, S, S))
    counted = cost.weights, cost.params, cost.macs, cost.activation_bytes
    assert counted == block_cost(C, M, N, S)
    deepest_column = 9 * (M * N + (2 ** (C - 1) - 1) * N * N)
    assert cost.weights < 2 * deepest_column
    print(
        f"C = {C}, {M:3d} -> {N:3d} channels at {S:2d}x{S:<2d}: "
        f"{cost.params / 1e6:6.3f} M params, {cost.macs / 1e6:6.1f} M MACs, "
        f"{cost.activation_bytes / 1e3:5.0f} kB"
    )

# %% [markdown]
# Each further column doubles the depth and, roughly, the cost. A plain network of the same depth has only the deepest
# column: $2^{C-1}$ of the $2^C - 1$ convolutions, so the fractal is less than twice as expensive as the plain network
# that is as deep.
#
# ## 1.5 The paper's parameters
#
# Table 3 varies the columns, with few channels (16, 32, 64, 128, 128) and the hundred classes of CIFAR-100 (the two
# plus signs stand for heavy augmentation of the training images). All of its parameter counts come out.

# %%
display(ledger.check("fractalnet", where="Table 3"))

# %% [markdown]
# Table 1 has the network of the paper's main results, three columns of (64, 128, 256, 512, 512) channels. There the
# parameters do **not** come out:

# %%
display(ledger.check("fractalnet", where="Table 1, parameters"))

# %% [markdown]
# Why? Our count is fixed by the description: seven convolutions a block, three of which read the block's input. We
# looked for a way of counting that gives 38.6 million and found one that comes near: if all seven convolutions of a block
# read as many channels as they write. For all but the last block that is too many, since the input has half the channels
# (or three).

# %%
channels = (64, 128, 256, 512, 512)
inputs_ = (3, *channels[:-1])
described = sum(block_cost(3, M, N, 1)[0] for M, N in zip(inputs_, channels))
all_square = sum(block_cost(3, N, N, 1)[0] for N in channels)
with torch.device("meta"):
    counted = count(nets.fractalnet(columns=3), (3, 32, 32))
assert counted.weights == described + 512 * 10  # and the classifier
print(f"printed                                  {38.6:7.2f} M")
print(f"as described: all parameters             {counted.params / 1e6:7.2f} M")
print(f"as described: the convolutions' weights  {described / 1e6:7.2f} M")
print(f"if each convolution read N channels      {all_square / 1e6:7.2f} M")
assert f"{counted.params / 1e6:.1f}" != "38.6" != f"{all_square / 1e6:.1f}"


# %% [markdown]
# Near is not equal, so the row stays in the ledger as it is: does not reproduce, reason unknown. It matters, because
# DenseNet's Table 2 compares itself with FractalNet at 38.6M parameters. The errors of all tables are quoted in our
# ledger; `study ledger fractalnet` shows them.
#
# ## 1.6 Drop-path
#
# Many paths invite laziness: a deep path may only learn to correct the short ones. **Drop-path** trains them apart, by
# leaving some out in each mini-batch.
#
# - **Local**: at each join, each input is dropped with probability $p$ (the paper: 15 %). At least one survives. The join
#   is the mean of those that are left.
# - **Global**: one column is chosen, the same in every block, and everything else is dropped. What is trained is a plain
#   network.
#
# Every mini-batch draws one of the two, half and half. In evaluation nothing is dropped.
#
# A layer behind a join should not see a weaker or stronger signal in training than later. So what is the *expected*
# join? Let $a_i \in \{0, 1\}$ say whether input $i$ is alive. The join is $\sum_i w_i z_i$ with $w_i = a_i / \sum_j a_j$.
# These weights add up to one in every draw. If all inputs are treated alike, they have the same expectation, and so
#
# $$\mathbb{E}[w_i] = \frac{1}{n} \qquad\Rightarrow\qquad
#   \mathbb{E}\Big[\bigoplus z\Big] = \frac{1}{n} \sum_i z_i ,$$
#
# whatever $p$ is. The argument needs the survivor of an all-dropped draw to be chosen evenly, too. Let us not trust it,
# and add up all $2^n$ draws with their probabilities, as exact fractions:

# %%
def expected_weights(n, p):
    """E[w_i] for i = 1..n, over all draws."""
    expected = [Fraction(0)] * n
    for alive in product((0, 1), repeat=n):
        probability = math.prod(1 - p if a else p for a in alive)
        for i in range(n):
            weight = Fraction(alive[i], sum(alive)) if any(alive) else Fraction(1, n)
            expected[i] += probability * weight
    return expected


p = Fraction(15, 100)
assert float(p) == LOCAL_DROP  # what studylib.nets.fractalnet uses
for n in (2, 3, 4):
    assert expected_weights(n, p) == [Fraction(1, n)] * n
    print(f"{n} inputs: E[w] =", ", ".join(map(str, expected_weights(n, p))))

# %% [markdown]
# Exactly. Had the join divided by $n$ in place of the number alive, its expectation would have been too small by a
# factor of nearly $1 - p$ (dropout multiplies by $1/(1-p)$ for that reason). And the program? Three unit vectors go
# into `join`, so what comes out are the weights:

# %%
torch.manual_seed(SEED)
draws = torch.stack([join(list(torch.eye(3)), LOCAL_DROP) for _ in range(4000)])
error = draws.std(0) / math.sqrt(len(draws))  # standard error of the mean
assert torch.allclose(draws.sum(1), torch.ones(len(draws)))  # never all dropped
assert ((draws.mean(0) - 1 / 3).abs() < 4 * error).all()
print("mean weights of 4000 draws:", [f"{w:.2f}" for w in draws.mean(0)])
print("most frequent draws:")
rounded = Counter(tuple(f"{w:.2f}" for w in draw) for draw in draws)
for weights, times in rounded.most_common(4):
    print("   ", " ".join(weights), f"in {times / len(draws):4.0%}")

# %% [markdown]
# How often does a column run, then? In half of the mini-batches (local) all columns run. In the other half (global) one
# of $C$ runs, and its weight in the last join is 1, so the expected weight is $1/C$ again. A column runs in
# $\frac{1}{2} + \frac{1}{2C}$ of the mini-batches. Counted by hooks in a small network that is in training mode:

# %%
C, BATCHES = 3, 600
torch.manual_seed(SEED)
net = nets.fractalnet(C, blocks=1, channels=(2,)).train()
ran = Counter()
for number, column in enumerate(net.blocks[0].columns, 1):
    column[0].register_forward_hook(lambda *_, number=number: ran.update([number]))
with torch.no_grad():
    for _ in range(BATCHES):
        net(torch.zeros(1, 3, 4, 4))
expected = 1 / 2 + 1 / (2 * C)
four_errors = 4 * math.sqrt(expected * (1 - expected) / BATCHES)
for number in range(1, C + 1):
    print(
        f"column {number} ran in {ran[number] / BATCHES:.0%} of the batches, "
        f"expected {expected:.0%}"
    )
    assert abs(ran[number] / BATCHES - expected) < four_errors

# %% [markdown]
# One caution. The expectation is exact *at the join*. Behind it come batch norm and ReLU, and the expectation of a ReLU is not
# the ReLU of the expectation; the whole network is not the average of its sub-networks.
#
# ## 1.7 A column alone is a plain network
#
# What remains in a global draw is a chain: convolutions, a pooling, convolutions, a pooling. Nothing fractal is left. We
# build that chain without any fractal code, copy the deepest column's weights into it, and compare.

# %%
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
# The paper builds on this: train the fractal, keep the deepest column, throw the rest away. Its Table 1 finds the
# column nearly as good as the whole; in Table 4, which follows, the whole is further ahead.
#
# ## 1.8 Experiment: when depth hurts
#
# The paper's Table 4 is the reason for all this. Plain networks were trained at four depths; the deepest got *worse*,
# also in training loss, so it is not overfitting. The column of a fractal that is as deep, column 4, stays within half
# a point of column 3:

# %%
display(ledger.check("fractalnet", where="Table 4"))

# %% [markdown]
# Can we see it on a laptop? Small networks on 8x8 digits: five blocks, eight channels, three poolings (8 to 4 to 2 to 1; two of
# the blocks keep their size). We train, all in the same way, with the same few steps,
#
# - **plain** networks of depth 5, 10, 20 (what column 1, 2, 3 would be), each by itself;
# - the **fractal** of three columns, 20 layers deep, its paths always joined;
# - the same fractal with **drop-path**.
#
# It may come out either way: batch norm alone may be enough at these depths, or so few steps may be too few for drop-path.
# We look at the training loss, since the question is whether deep networks can be *trained*.

# %%
COLUMNS, EPOCHS = (3, 3) if FAST else (4, 40)
WIDTH = 8
grey = digits._replace(  # the nets read three colours
    train_x=digits.train_x.expand(-1, 3, -1, -1), test_x=digits.test_x.expand(-1, 3, -1, -1)
)


def digits_net(drop_path):
    """A FractalNet for 8x8 images: without two of the five poolings, and with Xavier's start."""
    net = nets.fractalnet(COLUMNS, 5, (WIDTH,) * 5, drop_path=drop_path)
    for block in (net.blocks[0], net.blocks[2]):
        block.pool = nn.Identity()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)  # as in the paper
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


designs = {
    f"plain, depth {5 * 2**n}": lambda n=n: digits_net(False).column(n + 1)
    for n in range(COLUMNS)
}
designs["fractal, joined"] = lambda: digits_net(drop_path=False)
designs["fractal, drop-path"] = lambda: digits_net(drop_path=True)
for name, make in designs.items():
    print(f"{name:20s}{sum(w.numel() for w in make().parameters()):7,d} parameters")

# %% tags=["nbval-ignore-output"]
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

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(8, 3.6), layout="constrained")
for row, (name, values) in enumerate(losses.items()):
    colour = plots.BLUE if "plain" in name else plots.RED if "joined" in name else plots.GREEN
    ax.plot(values, [row] * 3, "o", color=colour, alpha=0.7, mec="white", ms=8)
    ax.plot([np.mean(values)] * 2, [row - 0.3, row + 0.3], color=colour, lw=2.5)
ax.set_yticks(range(len(losses)), list(losses))
ax.invert_yaxis()
ax.set(
    xscale="log",
    xlabel="cross-entropy on 200 training images, natural logarithm (chance: 2.3)",
    title=f"After {EPOCHS} epochs the joined fractal leads the plain net as deep",
)
ax.xaxis.set_major_formatter("{x:g}")
ax.grid(axis="x", alpha=0.25)
plt.show()

# %%
deepest = losses[f"plain, depth {5 * 2 ** (COLUMNS - 1)}"]
joined_losses, dropped_losses = losses["fractal, joined"], losses["fractal, drop-path"]
assert all(fractal < plain for fractal, plain in zip(joined_losses, deepest))
print("in every seed the joined fractal has less loss than the plain net that is as deep")
if FAST:
    assert all(np.mean(deepest) > 2 * np.mean(losses[f"plain, depth {d}"]) for d in (5, 10))
    assert np.mean(deepest) > 2 * np.mean(joined_losses)
    print(
        "on average the plain net of 20 layers has over twice the loss of 5, of 10, "
        "and of the fractal"
    )
    assert min(dropped_losses) > max(joined_losses)
    print("and drop-path has, after so few steps, more loss than the same net without it")
alone, with_drop = losses["  its column 1, joined"], losses["  its column 1, drop-path"]
assert min(alone) > max(joined_losses) and max(with_drop) < min(alone)
print("cut out, column 1 is of little use; with drop-path it is of more, in every seed")


# %% [markdown]
# What this shows: at 20 layers and this little training, the plain network suffers, with batch norm and all, and the fractal
# of the same depth does not. What it does not show is that depth is *good* for anything: the fractal contains a network of
# depth 5, which learns these digits as well, and its mean lets the gradient in by short paths. It is not simply that
# short network either: cut out, column 1 can do little, so the columns lean on each other. That is the laziness
# which drop-path is made against, and with it the column stands better alone. But drop-path needs time. Each column alone
# gets a sixth of the batches, and after so few steps its whole network is behind. In the paper it trains for 400 epochs.
#
# Seen once, FAST=False (40 epochs, a fourth column), on two cores of an x86 server CPU, November 2026, 25 minutes
# beside other work: with more training the plain network of 20 layers caught up (training loss 0.0029 ± 0.0005), the
# one of 40 did not (1.04 ± 0.08), and the joined fractal of 40 layers did (0.0006 ± 0.0001). Drop-path came to 0.14 ±
# 0.02 for the whole and 0.073 ± 0.004 for column 1, but its column of 40 layers, alone, stayed at 1.80 ± 0.03. So the
# paper's most surprising claim, that this column is nearly as good as the whole, was *not* seen here, in a tenth of its
# epochs and on other images.
#
# ## Questions for hour 1
#
# 1. A residual network of $n$ blocks has $2^n$ paths, a fractal block of $C$ columns $p_C$. What do short paths do for training
#    in each of them, and what is different at the join?
# 2. Drop-path's join is a mean over the living. What would dropout's way (divide by $n$, scale by $1/(1-p)$) change for
#    a join of two inputs, when one is dropped?
# 3. Could 38.6 million be right, and the text of the paper incomplete? What would you have to know to decide?
#
# # Hour 2: MEC, a convolution with a smaller buffer
#
# ## 2.1 What im2col repeats
#
# Week 1 turned a convolution into one matrix product by **im2col**: every window of the image is written out. It costs
# memory, and the paper of this hour, MEC (arXiv 1706.06873), asks how much of that is needed. Its notation, which is ours
# from here on: images $I$ of shape $i_n \times i_h \times i_w \times i_c$ (batch, height, width, channels; the channels
# lie side by side in memory), a kernel $K$ of $k_h \times k_w \times i_c \times k_c$, strides $s_h$ and $s_w$, no padding
# (pad the image before). The output $O$ has
#
# $$o_h = \left\lfloor \frac{i_h - k_h}{s_h} \right\rfloor + 1, \qquad o_w = \left\lfloor \frac{i_w - k_w}{s_w} \right\rfloor + 1.$$
#
# The paper's example: one image of 7x7, one channel, a 3x3 kernel, stride 1. Ours is a digit without its last row and column.

# %%
def im2col(x, k_h, k_w, s_h, s_w):
    """Each window as a row: (n, i_h, i_w, c) -> (n, o_h, o_w, k_h * k_w * c)."""
    n, i_h, i_w, c = x.shape
    o_h, o_w = (i_h - k_h) // s_h + 1, (i_w - k_w) // s_w + 1
    rows = np.empty((n, o_h, o_w, k_h * k_w * c), x.dtype)
    for h, w in np.ndindex(o_h, o_w):
        window = x[:, s_h * h : s_h * h + k_h, s_w * w : s_w * w + k_w]
        rows[:, h, w] = window.reshape(n, -1)
    return rows


digit = digits.train_x[1, 0, :7, :7].double().numpy()[None, :, :, None]
windows = im2col(digit, 3, 3, 1, 1)
print(f"image {digit.shape} -> windows {windows.shape}: {windows.size} numbers from {digit.size}")
assert windows.reshape(25, 9).size == 225

# %% [markdown]
# Look at two windows, one above the other. The lower one has lost the first row of the upper one and gained a row below;
# two of its three rows were in the upper window already. In the order in which im2col writes them (row by row, channels
# innermost), those two rows are **one run of six numbers**, once at the end of the upper window and once at the start of
# the lower one. im2col writes the run twice.

# %%
upper, lower = windows[0, 2, 2], windows[0, 3, 2]
assert np.array_equal(upper[3:], lower[:6])
print("upper window ", "".join(f"{value:6.2f}" for value in upper))
print("lower window ", " " * 18 + "".join(f"{value:6.2f}" for value in lower))


# %% [markdown]
# ## 2.2 Lower the width, keep the height
#
# So do not write windows. Write **strips**: for each output column $w$ the part of the image that is as wide as the
# kernel and as *high as the image*, row after row. That is the lowered matrix $L$, Algorithm 1 of the paper (here $h$
# runs over the rows of the image):
#
# $$L[n,\, w,\, h,\, 0{:}k_w,\, 0{:}i_c] \;=\; I[n,\, h,\, s_w w : s_w w + k_w,\, 0{:}i_c],
#   \qquad L \text{ of shape } i_n \times o_w \times (i_h k_w i_c)$$
#
# Each strip contains all windows of its output column. The one of output row $h$ begins at image row $s_h h$, which is
# place $s_h h \cdot k_w i_c$ of the strip, and goes on for $k_h k_w i_c$ numbers. Hence row $h$ of the output is, with
# $K$ as a matrix,
#
# $$O[n, h, w, :] \;=\; L\big[n, w,\; s_h h\, k_w i_c : s_h h\, k_w i_c + k_h k_w i_c\big] \cdot
#   K_{(k_h k_w i_c) \times k_c} .$$

# %%
def lower_strips(x, k_w, s_w):
    """Algorithm 1: (n, i_h, i_w, c) -> L of shape (n, o_w, i_h * k_w * c)."""
    n, i_h, i_w, c = x.shape
    o_w = (i_w - k_w) // s_w + 1
    L = np.empty((n, o_w, i_h * k_w * c), x.dtype)
    for w in range(o_w):
        L[:, w] = x[:, :, s_w * w : s_w * w + k_w].reshape(n, -1)
    return L


def windows_of_row(L, h, kernel_shape, s_h):
    """The windows of output row h, where they lie in L: (n, o_w, k_h * k_w * c), no copy."""
    k_h, k_w, c, _ = kernel_shape
    begin = s_h * h * k_w * c
    return L[:, :, begin : begin + k_h * k_w * c]


L = lower_strips(digit, 3, 1)
print(f"image {digit.shape} -> strips {L.shape}: {L.size} numbers, im2col {windows.size}")
assert L.size == 105
for h in range(5):
    assert np.array_equal(windows_of_row(L, h, (3, 3, 1, 1), 1), windows[:, h])

# %% tags=["figure-lowering"]
fig, axes = plt.subplots(1, 3, figsize=(8.6, 4.9), layout="constrained", width_ratios=[7, 9, 21])
plots.title(fig, "105 numbers in place of 225: the five windows of a column overlap in one strip")
axes[0].imshow(digit[0, :, :, 0])
axes[0].add_patch(plt.Rectangle((1.5, -0.5), 3, 7, fill=False, ec=plots.ORANGE, lw=3))
axes[0].set(xlabel="image, 7 x 7;\nframed:\nthe strip w = 2", xticks=range(7), yticks=range(7))
axes[1].imshow(windows.reshape(25, 9))
axes[1].set(xlabel="im2col: 25 windows of 9", xticks=range(0, 9, 2), yticks=range(0, 25, 5))
axes[1].set_ylabel("window (h, w), number 5 h + w")
axes[2].imshow(L[0])
axes[2].add_patch(plt.Rectangle((-0.5, 1.5), 21, 1, fill=False, ec=plots.ORANGE, lw=3))
for h in range(5):
    y = 6 + 2.6 * h
    axes[2].plot([3 * h - 0.4, 3 * h + 8.4], [y, y], color=plots.BLUE, lw=4)
    axes[2].text(
        3 * h + 4, y + 0.3, f"windows of output row {h}", ha="center", va="top", fontsize=8
    )
axes[2].set(xlabel="MEC: 5 strips of 21; blue: which columns are read")
axes[2].set_ylabel("strip w", loc="top")
axes[2].set(xticks=range(0, 21, 3), yticks=range(5), ylim=(18.5, -0.5))
axes[2].spines["left"].set_visible(False)
plt.show()


# %% [markdown]
# ## 2.3 Two ways to multiply
#
# What is left is $o_h$ matrix products of overlapping parts of $L$ with one and the same $K$. Algorithm 2 of the paper has
# two ways to do them.
#
# - **Solution A.** For each $h$ one product over the whole batch: $(i_n o_w) \times (k_h k_w i_c)$ times
#   $(k_h k_w i_c) \times k_c$. Few and large products, but their results lie in the order $h, n, w, c$, so a pass that brings
#   them into the order $n, h, w, c$ comes behind. ($L$ is no longer needed by then and can be its buffer.)
# - **Solution B.** For each image and each $h$ one product of $o_w$ rows, written to its final place. $i_n$ times as
#   many products, each of them smaller, nothing to reorder.
#
# The paper takes A where the output is at most some $T$ wide (about 100 on GPUs): there the products of B would be
# small. It also asks that the output fits into $L$ (this second condition we have from memory).

# %%
def solution_a(x, K, s_h, s_w):
    """o_h products over the batch, (h, n, w, c), then reordered to (n, h, w, c)."""
    L, matrix = lower_strips(x, K.shape[1], s_w), K.reshape(-1, K.shape[3])
    o_h = (x.shape[1] - K.shape[0]) // s_h + 1
    by_row = np.stack(
        [windows_of_row(L, h, K.shape, s_h).reshape(-1, len(matrix)) @ matrix for h in range(o_h)]
    )
    return by_row.reshape(o_h, len(x), L.shape[1], -1).swapaxes(0, 1)


def solution_b(x, K, s_h, s_w):
    """i_n * o_h small products, each written to its place in (n, h, w, c)."""
    L, matrix = lower_strips(x, K.shape[1], s_w), K.reshape(-1, K.shape[3])
    o_h = (x.shape[1] - K.shape[0]) // s_h + 1
    out = np.empty((len(x), o_h, L.shape[1], K.shape[3]), x.dtype)
    for n, h in np.ndindex(len(x), o_h):
        out[n, h] = windows_of_row(L, h, K.shape, s_h)[n] @ matrix
    return out


def by_im2col(x, K, s_h, s_w):
    """One product over all windows."""
    return im2col(x, *K.shape[:2], s_h, s_w) @ K.reshape(-1, K.shape[3])


def by_torch(x, K, s_h, s_w):
    """The framework's operator, which wants channels before height and width."""
    x, K = torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(K).permute(3, 2, 0, 1)
    return F.conv2d(x, K, stride=(s_h, s_w)).permute(0, 2, 3, 1).numpy()


# %% [markdown]
# All of them against `conv2d`, in double precision: kernels of 1 to 4 rows and columns, strides of 1 to 4 each way, two
# sizes of image (with and without a rest that the stride does not reach), a batch of two, three channels.

# %%
cases = 0
for i_h, i_w in ((7, 7), (9, 6)):
    x = rng.standard_normal((2, i_h, i_w, 3))
    for k_h, k_w, s_h, s_w in product(range(1, 5), repeat=4):
        K = rng.standard_normal((k_h, k_w, 3, 2))
        expected = by_torch(x, K, s_h, s_w)
        for convolution in (by_im2col, solution_a, solution_b):
            assert np.abs(convolution(x, K, s_h, s_w) - expected).max() < 1e-12
        cases += 1
print(f"{cases} convolutions: im2col, Solution A and Solution B are torch's conv2d")

# %% [markdown]
# Is nothing copied for the products? The rows that are multiplied do not lie side by side: between the end of one and
# the start of the next there is the rest of a strip. But BLAS, the library behind `@`, does not ask for that. It wants
# the address of the first number and the **leading dimension**, the distance from the start of a row to that of the
# next. For output row $h$ the address is that of $L$ plus $s_h h\, k_w i_c$ numbers, and the leading dimension is
# $i_h k_w i_c$, whatever part of the strip is read. So a slice of $L$ is enough, and no copy is made.
# `studylib.mec.overlapping_rows` makes all $o_h$ of these views at once, as one array whose matrices overlap:

# %%
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
# The parameters, $k_h k_w i_c k_c$, and the multiply-adds, $i_n o_h o_w$ times as many, are those of the convolution,
# unchanged. What differs is the buffer, in numbers:
#
# $$\text{im2col: } i_n\, o_h\, o_w\, k_h\, k_w\, i_c \qquad\qquad \text{MEC: } i_n\, o_w\, i_h\, k_w\, i_c$$
#
# $$\text{saved: } i_n\, i_c\, o_w\, k_w\, (o_h k_h - i_h)
#   \;=\; i_n\, i_c\, o_w\, k_w\, (i_h - k_h) \left( \frac{k_h}{s_h} - 1 \right) \text{ where } s_h \text{ divides } i_h - k_h$$
#
# The last bracket says it all: in an image that is higher than the kernel, MEC saves if, and only if, the kernel is
# higher than the stride. Where the stride leaves a rest, only the first form holds: a kernel that is not higher than
# the stride saves nothing then either, and one that is may save nothing too. Checked on 1800 shapes:

# %%
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
x = np.zeros((2, 12, 11, 4))
for k_h, s_h in ((3, 1), (3, 2), (3, 3), (2, 3)):
    windows, strips = im2col(x, k_h, 3, s_h, 1), lower_strips(x, 3, 1)
    print(f"height {k_h}, stride {s_h}: im2col {windows.size:5d} numbers, MEC {strips.size}")


# %% [markdown]
# Now on layers of real networks. The paper's benchmark has twelve, cv1 to cv12. **We have this list from memory and
# could not verify it**; take it as twelve realistic layers. Each formula is asserted against the size of the array that
# is really made, and against the **peak of the memory** while the convolution runs, less the output: it may be at most
# 50 kB more. `tracemalloc` sees every array that NumPy allocates (but not BLAS's own small work space, nor torch's
# memory). 4-byte floats, one image.

# %%
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

# %%
print(f"{'':6s}{'input':>13s}{'kernel':>9s}{'stride':>8s}{'im2col, MB':>12s}{'MEC, MB':>9s}{'ratio':>8s}")
for layer, (large, small) in formula.items():
    shape = f"{layer.height}x{layer.width}x{layer.channels}"
    kernel = f"{layer.kernel_height}x{layer.kernel_width}"
    print(f"{layer.name:6s}{shape:>13s}{kernel:>9s}{layer.stride:8d}", end="")
    print(f"{large / 1e6:12.1f}{small / 1e6:9.1f}{large / small:8.2f}")

# %% tags=["nbval-ignore-output"]
for layer, found in measured.items():
    more = [f"{(peak - buffer) / 1e3:.1f} kB" for peak, buffer in zip(found, formula[layer])]
    print(f"{layer.name:6s}measured peak above the buffer:  im2col {more[0]:>8s}   MEC {more[1]:>8s}")

# %%
fig, axes = plt.subplots(1, 2, figsize=(8.6, 3.6), layout="constrained", width_ratios=[3, 2])
large_mb, small_mb = (np.array(side) / 1e6 for side in zip(*formula.values()))
y = np.arange(len(formula))
axes[0].barh(y - 0.2, large_mb, 0.4, color=plots.ORANGE, label="im2col")
axes[0].barh(y + 0.2, small_mb, 0.4, color=plots.BLUE, label="MEC")
image_mb = [4e-6 * math.prod(layer.image) for layer in formula]
axes[0].plot(image_mb, y, "|", color=plots.BLACK, ms=12, mew=2, label="the image itself")
axes[0].set_yticks(y, [layer.name for layer in formula])
axes[0].invert_yaxis()
axes[0].set(
    xscale="log", xlabel="buffer, MB (one image)", title="MEC's buffer is the smaller one"
)
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
axes[1].set(
    xlabel="stride", ylabel="im2col / MEC", yscale="log", title="... while kernel > stride"
)
axes[1].set_yticks([0.5, 1, 2, 5, 10], ["0.5", "1", "2", "5", "10"])
axes[1].minorticks_off()
axes[1].legend(fontsize=8, title="kernel")
plt.show()

# %% [markdown]
# ## 2.5 Where it saves nothing
#
# Below the dashed line MEC *costs* memory: with $k_h < s_h$ there are image rows that no window reads, and the strips
# carry them along. On the line, with $k_h = s_h$, it saves nothing. Two cases of that are worth remembering:
#
# - **1x1 convolutions**, most of the arithmetic of week 1's MobileNet. With stride 1 im2col is a copy of the image, MEC is the
#   same copy, and neither is needed: the image is a matrix already.
# - **Patch embeddings**, where the stride equals the kernel. Nothing overlaps, and nothing is repeated.
#
# For $s_h = 1$ im2col's buffer is nearly $k_h$ times MEC's: for 3x3 MEC needs a third of it, not a ninth. The
# repetition *across* (in the width) stays. Libraries also have convolutions that need no buffer at all, at the price of
# code for each processor.

# %%
for name, image, kernel, s in (
    ("1x1, stride 1", (1, 14, 14, 512), (1, 1, 512, 512), 1),
    ("1x1, stride 2 (ResNet's shortcut)", (1, 56, 56, 256), (1, 1, 256, 512), 2),
    ("16x16, stride 16 (patches)", (1, 224, 224, 3), (16, 16, 3, 768), 16),
    ("3x3, stride 2", (1, 57, 57, 64), (3, 3, 64, 64), 2),
    ("3x3, stride 1", (1, 58, 58, 64), (3, 3, 64, 64), 1),
):
    large, small = (f(image, kernel, (s, s)) for f in (mec.im2col_elements, mec.mec_elements))
    print(
        f"{name:35s} im2col {large / math.prod(image):5.2f} images, "
        f"MEC {small / math.prod(image):5.2f}"
    )
    assert (small < large) == (kernel[0] > s)


# %% [markdown]
# ## 2.6 Experiment: are fewer bytes less time?
#
# The paper reports that MEC is also faster, since less memory is written and read. It could come out either way: its
# products are smaller, one for each row of the output, and each of them reads the whole kernel $K$ again.
# `studylib.mec` has a MEC that is made to be fast (Numba gathers the strips, one batched product of the overlapping
# views), and im2col written in the same way, so that the two differ in nothing else. Beside them stands torch's
# `conv2d`, which may choose its own algorithm and layout. All on one core, the best of several runs, on **your**
# machine. Nothing here checks the times.

# %% tags=["nbval-ignore-output"]
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

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(8, 3.2), layout="constrained")
relative = np.array([(m / i, t / i) for m, i, t in times.values()])
ax.bar(np.arange(12) - 0.2, relative[:, 0], 0.4, color=plots.BLUE, label="MEC")
own = relative[:, 1]
ax.bar(np.arange(12) + 0.2, own, 0.4, color=plots.GREEN, hatch="//", label="torch's conv2d")
ax.axhline(1, color=plots.ORANGE, lw=2, label="im2col")
ax.set_xticks(range(12), times)
ax.set(
    ylabel="time, im2col = 1",
    title=f"One core of this machine: MEC is ahead in {(relative[:, 0] < 1).sum()} of 12 layers",
)
ax.legend()
plt.show()

# %%
for by_mec, by_windows, torchs in answers.values():
    expected = torchs.transpose(0, 2, 3, 1)
    assert np.abs(by_mec - expected).max() < 1e-4 * np.abs(expected).max()
    assert np.abs(by_windows - expected).max() < 1e-4 * np.abs(expected).max()
assert all(small < large for large, small in formula.values())
print(f"{len(answers)} layers: three programs, one answer; MEC's buffer is smaller in each")

# %% [markdown]
# What this shows: on one machine, in which of these layers the smaller buffer is also less time. Look at the shapes where it is
# not: small maps with many channels, where a product of a few rows has to read a large $K$. What it does not show: the paper's
# speeds, which were measured on other processors, with batches, and with MEC's products run side by side. `python -m
# benchmarks.mec` measures the same on one core and on all, Solutions A and B with it; a run is kept in `benchmarks/results/`.
#
# Seen once there, one core of an x86 server CPU, November 2026: MEC took 0.62 to 0.94 of im2col's time in seven layers
# (cv1 to cv4 and cv7 to cv9), 1.12 to 1.37 of it in three, and 1.89 and 2.25 in cv6 and cv12, the two small maps with
# 512 filters. conv2d was ahead of MEC in all but cv7. On two cores MEC was ahead of im2col in three layers only (cv3,
# cv4, cv7), and took 1.58 to 2.23 of its time in the other nine.
#
# ## 2.7 What the paper prints
#
# The example's numbers come out. The layers and one condition are from memory, and say so.

# %%
display(ledger.check("mec"))


# %% [markdown]
# ## 2.8 Theory: depth separation
#
# FractalNet makes depth *trainable*. But is there anything that a deep network can do and a shallow one of the same
# size cannot? Yes, and the proof counts pieces of straight lines. (The construction is Telgarsky's; its statement here
# is from memory, the counts below are computed.) Take the **tent map** on $[0, 1]$, which two ReLU units make:
#
# $$t(x) = 2 \max(x, 0) - 4 \max\left(x - \tfrac{1}{2},\, 0\right)$$
#
# It rises from 0 to 1 and falls back. What does $t(t(x))$ do? While $t$ rises, the outer $t$ runs through its whole
# tent; while it falls, once more, backwards. Two tents. Each further layer doubles them, so $k$ layers of two units
# have $2^k$ pieces. We count them on a grid that contains every bend. All numbers on it are fractions whose denominator
# is a power of two. Floating point holds them exactly, so the count is exact too.

# %%
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


for k in (1, 2, 3, 6, 8, 12):
    grid = np.arange(2 ** (k + 3) + 1) / 2 ** (k + 3)
    assert pieces(deep(grid, k)) == 2**k
    print(f"{k:2d} layers, {2 * k:2d} units: {pieces(deep(grid, k)):5d} pieces")


# %% [markdown]
# Now **one** layer of $n$ units, $g(x) = c + \sum_j a_j \max(w_j x + b_j, 0)$. Each unit bends once, at $x = -b_j / w_j$, so $g$
# has at most $n + 1$ pieces. To have $2^k$ of them it needs at least $2^k - 1$ units. With one more it can be done:
# a unit at 0 for the first slope, $2^k$, and one at each bend, which turns the slope around.

# %%
def shallow(x, k):
    """One layer of 2^k units that is the k-fold tent map on [0, 1]."""
    bends = np.arange(2**k) / 2**k
    weights = np.where(np.arange(2**k) % 2, -2.0, 2.0) * 2**k
    weights[0] = 2**k
    return relu(x[:, None] - bends) @ weights


for k in (1, 3, 6, 8):
    grid = np.arange(2 ** (k + 3) + 1) / 2 ** (k + 3)
    assert np.array_equal(shallow(grid, k), deep(grid, k))  # exactly
    print(f"k = {k}: {2 * k:2d} units in {k} layers, or {2**k:3d} units in one")


# %% [markdown]
# "At least $2^k - 1$" is about being *equal*. Is a smaller network perhaps nearly right? Look only at whether the value lies
# above or below $\frac{1}{2}$, at the $2^k + 1$ points $0, 2^{-k}, 2 \cdot 2^{-k}, \ldots, 1$. There the deep network is 0, 1, 0,
# 1, ... A straight piece crosses the height $\frac{1}{2}$ once at most, so a function of $m$ pieces changes sides at most $m$
# times. How few of the points can such a function get wrong? The claim: $\lceil (2^k - m) / 2 \rceil$. A small dynamic
# program tries all patterns.

# %%
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
    print(
        f"one layer of {units:2d} units: at least {wrong:2d} of {2**k + 1} points "
        "on the wrong side"
    )

# %%
fig, axes = plt.subplots(1, 3, figsize=(8.6, 2.7), layout="constrained", width_ratios=[1, 1, 1.2])
grid = np.arange(2**10 + 1) / 2**10
for ax, k in zip(axes, (2, 5)):
    ax.plot(grid, deep(grid, k), lw=1.2)
    ax.set(xlabel="x", title=f"{k} layers, {2 * k} units", ylim=(-0.05, 1.05))
axes[0].set_ylabel("t applied k times to x")
ks = np.arange(1, 13)
axes[2].semilogy(2 * ks, 2.0**ks, "o-", label="k layers of two: 2^k", base=2)
axes[2].semilogy(2 * ks, 2 * ks + 1, "s-", label="one layer of 2k: 2k + 1", base=2)
axes[2].set(xlabel="units", ylabel="pieces, at most", title="Depth multiplies")
axes[2].legend(fontsize=8)
plt.show()

# %% [markdown]
# So with half the units that it would need, one layer is wrong on about a quarter of the points, wherever it puts its
# bends. What this shows: there are functions for which depth saves exponentially many units. What it does not show:
# that the functions we want to learn are of this kind, or that training finds such weights. Trainability is what the
# first hour was about; question 4 brings the two together.
#
# ## Questions for hour 2
#
# 1. MEC lowers the width and keeps the height. When would the other way round be better? And both halves at once?
# 2. Which of Solution A and B do you take for one image on eight cores, which for a batch of 32?
# 3. In training, the gradient with respect to the weights needs the windows as well. Does $L$ serve for it?
# 4. Would gradient descent find the tent maps? Try it with five layers of two units before you bet.

# %% [markdown]
# # Hour 3: GPU programming 2
#
# ## 3.1 A matrix product, read by read
#
# Both lowerings end in a matrix product, $c_{ij} = \sum_k a_{ik} b_{kj}$. The first kernel that one would write: each
# thread computes one element, and threads that are neighbours in $x$ compute neighbours in a row of $c$.

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
out = np.full((64, 64), np.nan, np.float32)
naive = gpu.check(product_naive, (4, 4), (TILE, TILE), a, b, out)
assert naive.ok and np.abs(out - a.astype(float) @ b).max() < 1e-4
naive

# %% [markdown]
# The check finds no mistake, and a request is cheap. (A warp is two rows of sixteen threads. From $b$ it needs sixteen
# neighbours: two sectors. From $a$ two numbers, each for sixteen threads at once: two sectors as well. The drawing
# below calls these uncoalesced, since little of them is used, but there are only two.) What is wrong is how *many*
# reads there are. Each thread reads two numbers for each multiply-add, $2 \cdot 64$ in all, and so do its neighbours,
# the same ones again and again: each number of $a$ is read by the 64 threads of its row.

# %%
assert naive.global_reads_per_thread == 2 * 64
line = next(access.line for access in naive.accesses if access.array == "b")
display(naive.plot(line))


# %% [markdown]
# ## 3.2 The same product through tiles
#
# A block of 16 x 16 threads computes a tile of $c$. For it, it needs sixteen rows of $a$ and sixteen columns of $b$,
# and every number of them sixteen times. So bring them in **once for the block**, into its shared memory. At full
# length they fit only where the matrices are small, but a sum can be taken in portions: cut $a$ and $b$ into tiles of
# 16 x 16, and
#
# $$C_{IJ} = \sum_{K} A_{IK}\, B_{KJ} \qquad \text{with tiles in place of numbers.}$$
#
# First as arrays, one block at a time, and with a count of what is brought in:

# %%
def tiles_of(matrix, I, J):
    return matrix[TILE * I : TILE * (I + 1), TILE * J : TILE * (J + 1)]


c, brought = np.zeros((64, 64)), 0
for I, J in np.ndindex(4, 4):  # the blocks
    for K in range(4):  # their steps
        left, right = tiles_of(a, I, K), tiles_of(b, K, J)
        brought += left.size + right.size
        tiles_of(c, I, J)[:] += left.astype(float) @ right
assert np.allclose(c, a.astype(float) @ b, rtol=0, atol=1e-12)
threads = 64 * 64
print(
    f"numbers read for each thread: {brought / threads:.0f}, "
    f"naive {naive.global_reads_per_thread}"
)
assert brought / threads == 2 * 64 / TILE


# %% [markdown]
# Each number that comes in is used by sixteen threads, so there are sixteen times fewer reads. As a kernel, for matrices whose
# sides are multiples of 16: in each step every thread brings one number of each tile, waits until all have, adds sixteen
# products, and waits again before the tiles are overwritten.

# %%
@cuda.jit
def product_tiled(a, b, out):
    left = cuda.shared.array((TILE, TILE), float32)
    right = cuda.shared.array((TILE, TILE), float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    column, row = cuda.grid(2)
    total = float32(0)
    for k in range(0, a.shape[1], TILE):
        left[y, x] = a[row, k + x]
        right[y, x] = b[k + y, column]
        cuda.syncthreads()
        for j in range(TILE):
            total += left[y, j] * right[j, x]
        cuda.syncthreads()
    out[row, column] = total


out[:] = np.nan
tiled = gpu.check(product_tiled, (4, 4), (TILE, TILE), a, b, out)
assert tiled.ok and np.abs(out - a.astype(float) @ b).max() < 1e-4
tiled


# %%
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
# Sixteen times fewer reads, eight times fewer sectors (the naive kernel's broadcasts were cheap for what they were), and in
# exchange many passes through shared memory. Those are only as cheap as they look if no two threads of a warp want
# different words of the same **bank** (week 2). Here a warp reads `left[y, j]`, two words for all, and `right[j, x]`, sixteen words
# in sixteen banks: one pass each. Suppose that somebody stores the right tile turned, `right[x, y]`, since a *column* of it is
# wanted. The result is the same:

# %%
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

# %%
inner = max(access.line for access in turned.accesses if access.space == "shared")
display(turned.plot(inner))


# %% [markdown]
# Sixteen words that lie sixteen apart share two banks, eight to each. (These counts are exact for the source, and they are not
# times.)
#
# How large should the tile be? A tile of side $T$ leaves $2 \cdot 64 / T$ reads a thread (64 is the length of the sum)
# and takes $2 \cdot 4\,T^2$ bytes of shared memory and $T^2$ threads. Registers and shared memory decide how many
# blocks a multiprocessor holds at a time. How full of threads it is then, is its **occupancy**. NVIDIA's compiler says
# what a kernel needs, and it runs without a GPU.

# %%
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

# %% tags=["nbval-ignore-output"]
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

# %%
for T, needs in compiled.items():
    assert needs.spill_bytes == 0 and not needs.uses_float64
    assert needs.shared_bytes == (0 if T == "naive" else 2 * 4 * T * T)
print("no register spilled, no double precision by accident")

# %% [markdown]
# The tile of 4 is bad twice. Its sixteen threads fill half a warp, so a request brings in less, and all of them
# together touch as many sectors as the naive kernel's. And a multiprocessor reaches its limit of blocks before it is
# full of threads (occupancy). Beyond 32 the way is closed, since a block may have 1024 threads. Fast libraries go on by
# giving each thread several elements of $c$, in registers, and by the tensor cores.
#
# ## 3.3 Now you: a product of any size
#
# `matmul_tiled` (30 minutes) is the kernel above for matrices of **any** size: the last tiles hang over the edge, and what lies
# outside must count as zero. Think first where a guard is needed, and why a thread without an element of $c$ must still
# come to the barriers. The file is `exercises/03_fractal_mec/matmul_tiled.py`; save it and run the cell again.

# %% tags=["nbval-ignore-output"]
studylib.check("matmul_tiled")


# %% [markdown]
# ## 3.4 Lowering on the GPU
#
# Lowering computes nothing; all that counts is how it reads and writes. The obvious program, one thread for each window, copies
# its numbers one after the other, as on a CPU. The good one gives each *number* a thread, in the order in which they are
# written. One channel, 3x3 windows as rows:

# %%
@cuda.jit
def window_each(x, size, out):
    i = cuda.grid(1)
    if i < out.shape[0]:
        out_width = x.shape[1] - size + 1
        h, w = i // out_width, i % out_width
        for q in range(size * size):
            number = x[h + q // size, w + q % size]
            out[i, q] = number


@cuda.jit
def number_each(x, size, out):
    place = cuda.grid(1)
    i, q = place // (size * size), place % (size * size)
    if i < out.shape[0]:
        out_width = x.shape[1] - size + 1
        h, w = i // out_width, i % out_width
        out[i, q] = x[h + q // size, w + q % size]


x = rng.standard_normal((18, 34), dtype=np.float32)
expected = im2col(x[None, :, :, None], 3, 3, 1, 1).reshape(-1, 9)
reports = {}
for kernel, threads in ((window_each, len(expected)), (number_each, expected.size)):
    lowered = np.full(expected.shape, np.nan, np.float32)
    name = kernel.py_func.__name__
    reports[name] = gpu.check(kernel, math.ceil(threads / 128), 128, x, 3, lowered)
    assert reports[name].ok and np.array_equal(lowered, expected)
    for access in reports[name].accesses:
        print(f"{name:12s} {access.op:5s} {access.sectors_per_request:5.1f} sectors", end="")
        print(f" a request, {access.requests:4d} requests")
stores = {
    name: next(access for access in report.accesses if access.op == "store")
    for name, report in reports.items()
}
assert stores["number_each"].sectors_per_request == 4
assert stores["window_each"].sectors_per_request > 30

# %%
display(reports["window_each"].plot(stores["window_each"].line))

# %% [markdown]
# Neighbouring threads write nine numbers apart, so each write of a warp touches a sector for every thread. In the
# second kernel they write side by side.
#
# Now MEC against im2col, with channels. The solved exercises lie in `studylib/kernels/`; here they are only counted (look
# into them afterwards). An image of 18 x 18 with 8 channels, 3x3 windows:

# %%
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
assert sectors(by_strips) < sectors(by_windows) / 2

# %% [markdown]
# Lowering moves less than half of the sectors. And the product behind it? `mec_conv` is the tiled product on the overlapping
# views, `matmul_tiled` the one on im2col's matrix:

# %%
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
    print(
        f"{name:23s} {report.global_reads_per_thread} reads a thread, "
        f"{sectors(report, 'load'):5,d} sectors loaded"
    )
assert on_strips.global_reads_per_thread == on_columns.global_reads_per_thread

# %% [markdown]
# Here, then, is what MEC saves on a GPU and what it does not. The product reads just as often: each window is read whole,
# wherever it lies. But it reads from a buffer of less than half the size, so more of it stays in the cache, and a larger
# batch fits into the card. How much time that is worth, only a card can say.
#
# **Now you.** `im2col` (20 minutes): channels, a stride, and the transposed order of a matrix product. `mec_lower` (20 minutes): one
# number for each thread, channels innermost. `mec_conv` (30 minutes, the hardest of the week): `matmul_tiled` where one of the
# matrices is a view that overlaps with the next block's.

# %% tags=["nbval-ignore-output"]
studylib.check("im2col")

# %% tags=["nbval-ignore-output"]
studylib.check("mec_lower")

# %% tags=["nbval-ignore-output"]
studylib.check("mec_conv")


# %% [markdown]
# ## 3.5 The join in one pass
#
# Back to FractalNet. A framework that has no operator for "the mean of the living" takes several: add, add, divide. Each of them is
# a kernel of its own, reads everything and writes everything.

# %%
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
print(f"one kernel:    {sectors(fused):,} sectors, the flags of the living included")
assert sectors(fused) < 0.7 * chain_sectors

# %% [markdown]
# The one kernel reads each living path once, and a dropped one not at all: all threads of a warp ask the same flag, so the branch
# does not divide them. **Now you:** `mean_join` (15 minutes).

# %% tags=["nbval-ignore-output"]
studylib.check("mean_join")

# %% [markdown]
# ## Questions for hour 3
#
# 1. A tile of 32 x 32 reads half as much as one of 16 x 16. What speaks against it?
# 2. `product_tiled` waits twice in each step. Which wait could be left out if there were two pairs of tiles in shared memory, used
#    in turn?
# 3. `mec_conv` reads each strip up to $k_h$ times. Could a block keep a strip in shared memory, and how large would it be for
#    cv4?
# 4. What would one kernel for join **and** pooling save?
#
# ## Readings

# %%
Markdown(
    "\n".join(f"- [{reading.title}]({reading.link})" for reading in course.sheet(".").readings)
)
