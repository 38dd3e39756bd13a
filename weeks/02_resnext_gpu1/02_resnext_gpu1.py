# %% [markdown]
# # Week 2: many narrow paths, and how a GPU reads memory
#
# **At the end of this meeting you can**
#
# - write a grouped convolution as a block-diagonal one, and say what it saves and what it leaves as it was;
# - prove that groups which never mix cannot compare two images, and mend it without a single weight;
# - write ResNeXt's block in three forms and show that they are one function with one gradient;
# - choose a width for any number of paths at constant cost, and check the paper's tables;
# - say when a layer of thresholds finds the sparse code of a signal, and when not;
# - tell from a kernel's source how many warps diverge, which memory lines a warp touches and which banks conflict.
#
# Every number below is printed or asserted by a cell, unless it is marked as quoted from a paper or as seen once. Where
# a paper's printed number does not come out, the table says so.
#
# *Think first* asks before a cell answers: say your guess aloud, then open the answer. *Your turn* is a gap in your own
# copy of this notebook (`exercises/02_resnext_gpu1/meeting.ipynb`); the cell below it checks what you wrote. A ± is
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
    os.chdir("course/weeks/02_resnext_gpu1")

# %% tags=["parameters"]
FAST = True  # False: more training, more data; about ten minutes in place of one or two
SEED = 0  # the first of three seeds of every experiment
DATA = "../../data"  # not needed this week: the digits of scikit-learn are large enough

# %% jupyter={"source_hidden": true}
import math
import textwrap
from itertools import pairwise, permutations
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from IPython.display import Markdown, display
from matplotlib.patches import Rectangle
from numba import cuda, float32
from sklearn.datasets import load_digits, load_sample_image
from torch import nn

import studylib
from studylib import blocks, course, data, gpu, ledger, nets, plots
from studylib.blocks import Split
from studylib.costs import count
from studylib.gpu.compiler.occupancy import occupancy
from studylib.nets.resnext import AggregatedBlock
from studylib.training import Summary, accuracy, fit, over_seeds

plots.use_style()
torch.set_num_threads(1)  # small networks lose more by waiting for a second core than they gain
SEEDS = (SEED, SEED + 1, SEED + 2)
rng = np.random.default_rng(SEED)

# %% [markdown]
# ## Run sheet
# Three hours with a break in the first two. The presenter of a topic keeps its minutes; questions close each hour.

# %%
course.sheet(".")


# %% [markdown]
# # Hour 1: grouped convolutions
#
# ## 1.1 A convolution in groups
#
# In a dense convolution every output channel reads every input channel. So twice the channels on both sides cost four
# times the weights and four times the work. The cheapest saving is to cut connections. Which ones, and what does a
# network lose with them?
#
# A **grouped** convolution cuts the $M$ input channels and the $N$ output channels into $g$ groups. An output channel
# reads the channels of its own group only. Let $G(n)$ be the $M/g$ input channels in the group of output channel $n$:
#
# $$y_{n,i,j} = \sum_{m \in G(n)} \sum_{u,v} w_{n,m,u,v}\; x_{m,\,i+u,\,j+v}$$
#
# Week 1 wrote a convolution as one matrix product, $Y = W X$: a row of $X$ holds one input channel at one place
# $(u, v)$ of the window, and a column holds one output pixel.
#
# **Your turn.** In groups, each filter keeps the columns of its own group, and all other columns of $W$ are zero: **$W$
# becomes block-diagonal**. Build that matrix from its blocks: `matrix[i, r, j, c]` is row $r$, column $c$ of the block in
# block row $i$ and block column $j$. For which $i$ and $j$ is it not zero?

# %% jupyter={"source_hidden": true}
def im2col(x, K):
    """x: (M, height, width) -> (M*K*K, height*width): windows as columns, 'same' padding."""
    x = np.pad(x, ((0, 0), (K // 2, K // 2), (K // 2, K // 2)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (K, K), axis=(1, 2))
    return windows.transpose(0, 3, 4, 1, 2).reshape(x.shape[0] * K * K, -1)


# %%
def block_diagonal(blocks):
    """blocks: (g, rows, columns) -> (g*rows, g*columns), zero outside of the blocks."""
    g, rows, columns = blocks.shape
    matrix = np.zeros((g, rows, g, columns))
    # BEGIN SOLUTION, 3 minutes: put each block on the diagonal of `matrix`; what does its index look like?
    for group, block in enumerate(blocks):
        matrix[group, :, group, :] = block
    # END SOLUTION
    return matrix.reshape(g * rows, g * columns)


# %%
pieces = np.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]])
wanted = [[1, 2, 0, 0], [3, 4, 0, 0], [0, 0, 5, 6], [0, 0, 7, 8]]
course.expect(block_diagonal(pieces), wanted)


# %%
def grouped_conv(x, w, groups):
    """x: (M, height, width), w: (N, M / groups, K, K) -> (N, height, width)."""
    W = block_diagonal(w.reshape(groups, len(w) // groups, -1))
    return (W @ im2col(x, w.shape[-1])).reshape(len(w), *x.shape[1:])


M, N = 8, 12
x = load_digits().images[:M]  # eight real digits as the channels, whole numbers from 0 to 16
for groups in (1, 2, 4):
    w = rng.integers(-9, 10, (N, M // groups, 3, 3)).astype(float)
    y = grouped_conv(x, w, groups)
    by_torch = F.conv2d(torch.from_numpy(x), torch.from_numpy(w), padding=1, groups=groups)
    assert np.array_equal(y, by_torch.numpy())
    print(f"groups={groups}: w {w.shape} -> W {(N, M * 9)}, output {y.shape}, torch's to the bit")

# %% [markdown]
# The outputs agree to the bit, because pixels and weights are whole numbers here: double precision adds them exactly in
# any order. No tolerance hides a difference. The operator *is* the block-diagonal matrix:

# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(1, 3, figsize=(8.6, 1.9), layout="constrained", sharey=True)
for ax, groups in zip(axes, (1, 2, 4)):
    w = rng.standard_normal((groups, N // groups, M // groups * 9))
    W = block_diagonal(w)
    ax.imshow(np.where(W == 0, np.nan, W), cmap="cividis", aspect="auto", interpolation="none")
    ax.set_title(f"groups = {groups}: {w.size} weights", fontweight="normal", fontsize=9)
    ax.set_xticks(range(0, 72, 9), range(M))
axes[1].set_xlabel("input channel, nine places of the window each")
axes[0].set_ylabel("output channel")
plots.title(fig, "g groups: only the g blocks on the diagonal are left")
plt.show()


# %% [markdown]
# ## 1.2 What groups save, and what they do not
#
# *Think first:* of a layer's parameters, its multiply-adds and the bytes of its output, which does a grouped
# convolution divide by $g$?
#
# <details><summary>Answer</summary>
#
# With filters of $K \times K$, each of the $g$ blocks has $\frac{N}{g} \times \frac{M}{g} K^2$ weights. So, for $P$
# output pixels and without a bias:
#
# | | dense | g groups |
# |---|---|---|
# | parameters | K² M N | K² M N / g |
# | multiply-adds | K² M N P | K² M N P / g |
# | bytes of the output, 32-bit floats | 4 N P | 4 N P |
#
# The output stays as large as it was.
#
# </details>
#
# The layer does a $g$-th of the work and moves as many activations as before. **Your turn:** count the bytes that must
# move at least, so that the next cell can say how much work there is for each byte.

# %%
def bytes_moved(M, N, pixels, weights):
    """Input (M, pixels), output (N, pixels) and the weights, each moved once as 32-bit floats."""
    # BEGIN SOLUTION, 2 minutes: three terms, and four bytes for each number
    return 4 * (M * pixels + N * pixels + weights)
    # END SOLUTION


# %%
course.expect(bytes_moved(128, 256, 28 * 28, 294_912), 2_383_872)
M, N, K, side = 128, 256, 3, 28
for groups in (1, 2, 8, 32, 128):
    layer = nn.Conv2d(M, N, K, padding=1, groups=groups, bias=False)
    cost = count(layer, (M, side, side))
    assert cost.params == K**2 * M * N // groups and cost.macs == cost.params * side**2
    moved = bytes_moved(M, N, side**2, cost.params)
    print(
        f"groups={groups:3d}: {cost.params:7,d} parameters {cost.macs / 1e6:6.1f} M multiply-adds"
        f" {cost.activation_bytes / 1e6:.2f} MB of output"
        f" {cost.macs / moved:5.1f} multiply-adds a byte"
    )

# %% [markdown]
# With as many groups as input channels this is week 1's depthwise convolution, here with two filters a channel. This week's
# layers lie between it and the dense one.
#
# ## 1.3 AlexNet's towers
#
# Groups began as a way round a small memory. AlexNet (2012) did not fit on one graphics card, so its authors put half
# of its filters on each of two cards: two **towers**. The filters of layers 2, 4 and 5 read only the maps on their own
# card, those of layer 3 read both; the authors chose this pattern so that the cards exchange little (Section 3.2). In
# today's words: `groups=2` in three of five convolutions.

# %% jupyter={"source_hidden": true}
with torch.device("meta"):  # shapes only; no number is computed
    towers, one = nets.alexnet(groups=2), nets.alexnet(groups=1)
costs = {name: count(net, (3, 224, 224)) for name, net in (("two", towers), ("one", one))}
convs = {name: [row for row in cost.rows if row.type == "Conv2d"] for name, cost in costs.items()}
print(f"{'':8s}{'weights: two towers':>20s}{'one':>11s}{'MACs: two towers':>20s}{'one':>9s}")
for n, (two, whole) in enumerate(zip(convs["two"], convs["one"]), 1):
    print(
        f"conv{n}   {two.weights:20,d}{whole.weights:11,d}"
        f"{two.macs / 1e6:18.1f} M{whole.macs / 1e6:7.1f} M"
    )
    assert whole.weights == two.weights * (2 if n in (2, 4, 5) else 1)
saved = sum(row.weights for row in convs["one"]) - sum(row.weights for row in convs["two"])
assert saved == costs["one"].params - costs["two"].params
print(
    f"network {costs['two'].params:20,d}{costs['one'].params:11,d}"
    f"{costs['two'].macs / 1e6:18.1f} M{costs['one'].macs / 1e6:7.1f} M"
)
print(
    f"saved: {saved / costs['one'].params:.1%} of the parameters, "
    f"{1 - costs['two'].macs / costs['one'].macs:.0%} of the multiply-adds"
)

# %% jupyter={"source_hidden": true}
names = [f"conv{n}" for n in range(1, 6)]
fig, ax = plt.subplots(figsize=(7.5, 2.3), layout="constrained")
whole = [row.macs / 1e6 for row in convs["one"]]
two = [row.macs / 1e6 for row in convs["two"]]
ax.barh(names, whole, color="white", edgecolor=plots.GREY, hatch="///", label="saved by towers")
ax.barh(names, two, color=plots.BLUE, label="two towers")
ax.invert_yaxis()
ax.set(
    xlabel="multiply-adds for one image, millions",
    title="Two towers halve three convolutions out of five",
)
ax.legend()
plt.show()

# %% [markdown]
# The towers save a third of the arithmetic and next to none of the parameters, which sit in the fully connected layers.
# Later papers count the towers: the cost of AlexNet that MobileNet prints comes out with towers only. (The `alexnet` of
# `torchvision` is another network, with one tower and other widths.)

# %% jupyter={"source_hidden": true}
display(ledger.check("alexnet", where="MobileNet, Table 9"))
assert not 715e6 < costs["one"].macs < 725e6  # without towers nobody's 720 million comes out

# %% [markdown]
# What did the towers do to accuracy? AlexNet's own figures compare two towers with a net of *half the kernels* on one
# card. They say that the wider net is better, and nothing about groups. Yani Ioannou's
# [tutorial on filter groups](https://blog.yani.io/filter-group-tutorial/) trained AlexNet without groups and reports
# *slightly lower* accuracy, in spite of the additional weights. It also shows what AlexNet's Figure 3 shows: one tower's
# first filters are mostly grey, the other's are mostly coloured, in each run. Both are quoted here, not computed.

# %% jupyter={"source_hidden": true}
display(ledger.check("alexnet", where="Sec. 3.2"))

# %% [markdown]
# ## 1.4 What groups cannot express
#
# AlexNet's layer 3 reads both towers. What if no layer did? ReLU and batch norm work on each channel by itself, so a
# stack of grouped convolutions falls into $g$ separate networks, and only the last linear layer adds up what they say.
# Take two groups, and put one image into each. Whatever the network learns, its output is a sum of two functions of
# one image each:
#
# $$s(x_1, x_2) = f(x_1) + h(x_2).$$
#
# Now ask: *do the two images show the same digit?* Let $x_1, x_1'$ be any two images for the first place, and $x_2,
# x_2'$ for the second. Then
#
# $$s(x_1, x_2) + s(x_1', x_2') = s(x_1, x_2') + s(x_1', x_2),$$
#
# because both sides are $f(x_1) + f(x_1') + h(x_2) + h(x_2')$. Let $x_1, x_2$ be sevens and $x_1', x_2'$ be threes. On
# the left stand two *same* pairs, on the right two *different* ones. If "same" means $s > 0$, the left side should be
# positive and the right side should not. They are equal, so **at least one of these four answers is wrong**.
#
# **Your turn.** Half of the pairs show the same digit. Choose one number $f(a)$ for each first digit and one $h(b)$ for
# each second digit, so that as many answers as possible are right. Saying "different" always is right in half of the
# cases; how far do you get?
#
# <details><summary>Hint</summary>
#
# Begin with $f(a) = -a$. The sum must be above 0, and 0 is not.
#
# </details>

# %%
DIGITS = 10
a, b = np.arange(DIGITS)[:, None], np.arange(DIGITS)[None, :]
f, h = np.zeros((DIGITS, 1)), np.zeros((1, DIGITS))
# BEGIN SOLUTION, 5 minutes: the pair (a, b) is called "same" where f + h > 0; all ten same pairs can be right
f, h = 0.5 - a, b  # "is the first digit no larger than the second?"
# END SOLUTION

# %%
def accuracy_of(f, h):
    """Share of right answers, where half of the pairs show the same digit."""
    says_same = f + h > 0
    return (says_same[a == b].mean() + (~says_same[a != b]).mean()) / 2


shape = np.shape(f + h)
assert shape == (10, 10), f"got f + h of shape {shape}, expected (10, 10): f a column, h a row"
print(f"right: {accuracy_of(f, h):.0%}")
course.expect(accuracy_of(f, h), 0.75)


# %% [markdown]
# *Think first:* can any $f$ and $h$ do better than 75 %?
#
# <details><summary>Answer</summary>
#
# No. Sort the first digits by $f$. The larger $f(a)$ is, the more second digits are called "same" with it (those with
# $h(b) > -f(a)$), and each such set contains the ones before it. If all ten *same* pairs are right, the set of the
# $i$-th digit contains that digit and all before it, so at least $i - 1$ of its answers are wrong. Together at least $0 + 1 +
# \dots + 9 = 45$ of the 90 *different* pairs are wrong: all of one kind right and at most half of the other. If only $m$ same
# pairs are right, the same count over their digits leaves at least $m (m - 1) / 2$ of the 90 wrong, so the accuracy is at
# most $\frac12 (\frac{m}{10} + 1 - \frac{m (m - 1)}{180})$: 75 % for $m = 10$ and $m = 9$, and less below. The next cell tries every order of the numbers
# $f(a)$ and $-h(b)$ for a few digits. With many images of a digit, draw one for each place: no draw gets beyond 75 %, so
# their mean does not.
#
# </details>

# %% jupyter={"source_hidden": true}
def best_accuracy(digits):
    """The most that the sign of f(a) + h(b) can reach, over all orders of f and -h."""
    orders = np.array(list(permutations(range(2 * digits))))
    says_same = orders[:, :digits, None] > orders[:, None, digits:]  # f(a) > -h(b)
    equal = np.eye(digits, dtype=bool)
    right_same = says_same[:, equal].mean(axis=1)
    right_different = 1 - says_same[:, ~equal].mean(axis=1)
    return ((right_same + right_different) / 2).max()


for digits in (2, 3, 4):
    assert best_accuracy(digits) == 0.75
    print(f"{digits} digits, every order tried: at best {best_accuracy(digits):.0%} right")

# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(1, 2, figsize=(7, 2.9), layout="constrained")
for ax, answers, name in (
    (axes[0], a == b, "asked: the diagonal"),
    (axes[1], f + h > 0, "as good as a sum gets, 75 %: a staircase"),
):
    ax.imshow(answers, cmap="Blues", vmin=0, vmax=1.5)
    ax.set(xlabel="second digit b", xticks=range(10), yticks=range(10))
    ax.set_title(name, fontsize=9, fontweight="normal")
axes[0].set_ylabel("first digit a")
plots.title(fig, 'Dark: called "same". A sum f(a) + h(b) > 0 gives a staircase, never the diagonal')
plt.show()

# %% [markdown]
# Training does not count right answers, it minimises the cross-entropy. That loss has a bound of its own.
#
# <details><summary>Optional: no sum has an expected loss below ln 2</summary>
#
# Half of the pairs show the same digit, and the digits are uniform. Suppose some $f, h$ were good. Rename the ten digits
# by any permutation, in both images at once: the task is the same, so the renamed $f, h$ are as good. Average the sums
# over all permutations. The average is a constant, because no digit differs from another in it, and since the loss is
# convex, the average is no worse. So the best sum is a constant; the best constant is 0, and its loss is $\ln 2$. With
# many images of a digit, replace $f$ and $h$ by their means over the images of each digit, which by convexity makes the
# loss no worse. The folded cell lets an optimiser search for a better sum, and it fails.
#
# The two bounds do not contradict each other: the sum $0.01\,(b - a + 0.5)$ answers 75 % of the pairs rightly, at a loss
# that is hardly above $\ln 2$. So the loss alone does not say which accuracy a trained sum has.
#
# </details>

# %% jupyter={"source_hidden": true}
same = torch.eye(DIGITS, dtype=torch.float64)
probability = same / (2 * DIGITS) + (1 - same) / (2 * DIGITS * (DIGITS - 1))


def expected_loss(s):
    """Cross-entropy of the logits s (first digit, second digit), expected over all pairs."""
    return (probability * F.binary_cross_entropy_with_logits(s, same, reduction="none")).sum()


for seed in SEEDS:
    start = torch.randn(2, DIGITS, dtype=torch.float64, generator=torch.manual_seed(seed))
    first_part, second_part = (3 * part for part in start)
    first_part.requires_grad_(), second_part.requires_grad_()
    options = {"max_iter": 500, "line_search_fn": "strong_wolfe"}
    search = torch.optim.LBFGS([first_part, second_part], **options)

    def closure(first_part=first_part, second_part=second_part, search=search):
        search.zero_grad()
        loss = expected_loss(first_part[:, None] + second_part[None, :])
        loss.backward()
        return loss

    before = closure().item()
    search.step(closure)
    best = first_part[:, None] + second_part[None, :]
    assert math.log(2) - 1e-12 < expected_loss(best).item() < math.log(2) + 1e-6
    assert best.abs().max() < 0.01  # it has found the constant 0
    print(
        f"seed {seed}: loss {before:.3f} -> {expected_loss(best):.6f}, ln 2 = {math.log(2):.6f}"
    )
small = torch.from_numpy(0.01 * (b - a + 0.5))
assert expected_loss(small).item() < math.log(2) + 1.5e-4
assert accuracy_of(0.01 * (0.5 - a), 0.01 * b) == 0.75
print(f"0.01 (b - a + 0.5): loss {expected_loss(small):.5f}, and 75 % right")


# %% [markdown]
# ## 1.5 Channel shuffle
#
# A network of unmixed groups cannot compare two images. What is the cheapest way to mix them? Deal the channels out anew
# between two layers, so that each group of the next layer gets some of each group of the last. Write channel $c$ as
# (group, place within the group) and exchange the two. This is ShuffleNet's **channel shuffle** (arXiv 1707.01083,
# Section 3.1). It needs no weight and no multiply-add. **Your turn:** a reshape, a transpose, a reshape.

# %%
def channel_shuffle(x, groups):
    """x: (batch, channels, height, width); the transposition of (groups, channels / groups)."""
    batch, channels, height, width = x.shape
    # BEGIN SOLUTION, 3 minutes: channel c is (group, place in the group); exchange the two
    dealt = x.reshape(batch, groups, channels // groups, height, width).transpose(1, 2)
    return dealt.reshape(batch, channels, height, width)
    # END SOLUTION


# %%
x = torch.arange(12.0).reshape(1, 12, 1, 1).double()
for groups in (2, 3, 4):
    course.expect(channel_shuffle(x, groups), nn.ChannelShuffle(groups)(x))
assert count(nn.ChannelShuffle(3), (12, 8, 8)).macs == 0
print("before", x.flatten().int().tolist())
print("after ", channel_shuffle(x, 3).flatten().int().tolist(), " (3 groups)")

# %% [markdown]
# *Think first:* four groups of four channels. Which share of all pairs (input, output) does one grouped layer connect?
# Two layers? Two layers with a shuffle between them?
#
# <details><summary>Answer</summary>
#
# One layer connects what its blocks connect, a quarter. Two layers connect what the product of their matrices connects:
# the same quarter. With a shuffle between them, everything, as soon as a group has at least $g$ channels. Dark in the
# picture are the pairs that are connected.
#
# </details>

# %% jupyter={"source_hidden": true}
CHANNELS, GROUPS = 16, 4
layer = block_diagonal(np.ones((GROUPS, CHANNELS // GROUPS, CHANNELS // GROUPS)))
numbers = torch.arange(CHANNELS).reshape(1, CHANNELS, 1, 1)
shuffle = np.eye(CHANNELS)[channel_shuffle(numbers, GROUPS).flatten().numpy()]
reach = {
    "one layer": layer > 0,
    "two layers": layer @ layer > 0,
    "two, shuffled between": layer @ shuffle @ layer > 0,
}
assert np.array_equal(reach["two layers"], reach["one layer"])
assert reach["two, shuffled between"].all()
fig, axes = plt.subplots(1, 3, figsize=(8.2, 2.9), layout="constrained")
for ax, (name, connected) in zip(axes, reach.items()):
    ax.imshow(connected, cmap="Blues", vmin=0, vmax=1.5)
    ax.set_title(f"{name}: {connected.mean():.0%}", fontsize=9, fontweight="normal")
    ax.set(xlabel="input channel", xticks=[], yticks=[])
axes[0].set_ylabel("output channel")
plots.title(fig, "Without a shuffle, depth connects nothing new")
plt.show()

# %% [markdown]
# ## 1.6 Experiment: same or different digit
#
# Now on real images: pairs of handwritten digits are the two input channels of four grouped convolutions ($g = 2$), once
# as they are and once with a shuffle behind each. Both have the same parameters and multiply-adds. No image is in both
# the training and the test pairs. *Vote first:* where will the two accuracies lie?

# %%
PAIRS, EPOCHS, WIDTH = (3000, 4, 16) if FAST else (12_000, 10, 32)


def grouped_net(shuffled, width=WIDTH):
    """Four convolutions in two groups; x: (batch, 2, 8, 8) -> (batch, 2)."""
    layers, channels = [], 2
    for n in range(4):
        layers += [nn.Conv2d(channels, width, 3, padding=1, groups=2, bias=False)]
        layers += [nn.BatchNorm2d(width), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if n == 0 else []
        layers += [nn.ChannelShuffle(2)] if shuffled else []
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * 16, 2))


pairs = {seed: data.same_different(PAIRS, 1000, seed) for seed in SEEDS}
shown = pairs[SEED]
plots.images(
    [torch.cat(list(pair), dim=1).numpy() for pair in shown.test_x[:6]],
    ["same" if y else "different" for y in shown.test_y[:6]],
    "Six of the pairs, two 8x8 digits each",
    height=0.6,
)

# %% jupyter={"source_hidden": true}
for shuffled in (False, True):
    cost = count(grouped_net(shuffled), (2, 8, 8))
    print(f"shuffled {shuffled!s:6s}{cost.params:6,d} parameters {cost.macs:9,d} multiply-adds")

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
CONDITIONS = {"no mixing": False, "channel shuffle": True}
trained, losses, results = {}, {}, {}
for name, shuffled in CONDITIONS.items():

    def run(seed, name=name, shuffled=shuffled):
        net = grouped_net(shuffled)
        options = {"optimizer": "adam", "batch_size": 64, "evaluate": False, "show": not FAST}
        fit(net, pairs[seed], epochs=EPOCHS, lr=5e-3, seed=seed, **options)
        trained[name, seed] = net.eval()
        with torch.no_grad():
            answers = net(pairs[seed].test_x)
        losses[name, seed] = F.cross_entropy(answers, pairs[seed].test_y).item()
        return 100 * accuracy(net, pairs[seed].test_x, pairs[seed].test_y)

    results[name] = over_seeds(run, SEEDS, "%")
for name, summary in results.items():
    tested = Summary(tuple(losses[name, seed] for seed in SEEDS))
    print(f"{name:16s} test accuracy {summary}, cross-entropy {tested}")
plots.seeds(
    {name: summary.values for name, summary in results.items()},
    "Equal parameters and work: without mixing, near chance",
    "test accuracy, % (chance: 50, the most for a sum: 75)",
)

# %% jupyter={"source_hidden": true}
for seed in SEEDS:
    assert losses["no mixing", seed] > math.log(2) - 0.02  # a thousand test pairs are not all
    assert losses["channel shuffle", seed] < 0.5
assert max(results["no mixing"].values) < 65
assert min(results["channel shuffle"].values) > 80
print("in every seed: no mixing, under 65 % and no loss clearly below ln 2; shuffled, over 80 %")


# %% [markdown]
# The identity of section 1.4 says nothing about *training*, so it must hold in each trained network without mixing, for
# any four images. In a network with the shuffle it need not hold.

# %% jupyter={"source_hidden": true}
def misses(net, x):
    """s(x1, x2) + s(x1', x2') - s(x1, x2') - s(x1', x2), where x1', x2' are the previous pair's."""
    first, second = x.double().split(1, dim=1)
    other_first, other_second = first.roll(1, 0), second.roll(1, 0)

    def s(a, b):
        """The logit: how much more the net says "same" than "different"."""
        with torch.no_grad():
            return net.double()(torch.cat([a, b], dim=1)).diff(dim=1)

    same_pairs = s(first, second) + s(other_first, other_second)
    return (same_pairs - s(first, other_second) - s(other_first, second)).abs()


for name in CONDITIONS:
    found = [misses(trained[name, seed], pairs[seed].test_x[:200]) for seed in SEEDS]
    if name == "no mixing":
        assert all(values.max() < 1e-12 for values in found)
        print(f"{name:16s} 600 quadruples, and the identity holds in each to 1e-12")
    else:
        assert all(values.median() > 0.5 for values in found)
        print(f"{name:16s} the median quadruple misses it by more than 0.5 in every seed")

# %% [markdown]
# What this shows: at equal weights and work, a permutation of the channels after each layer makes the difference between
# a network that compares two images and one that cannot. That no unmixed network gets beyond 75 % is proved above (over all
# pairs; on a thousand, chance can add a little); that the trained ones
# stay near 50 % is observed. What this does not show: that groups with a shuffle are better than a dense network, or that
# natural images punish missing mixing as hard. This task was made to. In AlexNet, layer 3 and the fully connected layers
# mix; in ResNeXt, two layers of three do.
#
# Seen once, FAST=False (four times the pairs, twice the width, ten epochs), on two cores of an x86 server CPU,
# November 2026: no mixing 49.5 ± 0.5 %, channel shuffle 96.8 ± 0.1 %. The cross-entropies were 0.701 ± 0.001 and
# 0.099 ± 0.003.
#
# ## Questions for hour 1
#
# 1. (★★) Two towers halve a layer's arithmetic. For the arithmetic of the dense layer one could have $\sqrt 2$ times the
#    channels in two towers. Which of these two layers has more weights, and which has more activations to store?
# 2. (★★★) A single product $f(x_1) \cdot h(x_2)$ can tell equal from different, for a suitable $f$ and $h$ with several
#    components. Which? Where do networks of today multiply two activations?
# 3. (★) With $g$ groups of 2 channels, how many shuffled layers does it take to reach everything?
#
# <details><summary>Answers for the facilitator</summary>
#
# 1. Weights are equal: $\sqrt 2 \cdot \sqrt 2$ times as many, in half the blocks. The towers store $\sqrt 2$ times the activations.
# 2. One component a digit: $f(x)$ and $h(x)$ are one-hot, and the product is 1 exactly where they agree. Attention
#    multiplies queries by keys, and gates (week 6's squeeze and excitation) multiply channels by numbers from the image.
# 3. Each layer at most doubles what a channel reaches. So four groups of two channels take at least three layers, and $g$
#    groups take the logarithm of $g$ to base 2, rounded up, and one more.
#
# </details>

# %% [markdown]
# # Hour 2: ResNeXt, and a theory of the forward pass
#
# ## 2.1 One block in three forms
#
# To let a network learn more, one makes it deeper or wider. Width is dear: a 3x3 layer with $d$ channels on both sides
# has $9 d^2$ weights, so twice the width costs four times as much. Inception buys width another way, with a few parallel
# paths, and designs each of them by hand. ResNeXt (arXiv 1611.05431) keeps the idea, *split, transform, merge*, and drops
# the design: all paths $\mathcal T_i$ are alike, and one chooses only how many there are. That number $C$ is the
# **cardinality**. With the residual connection, which adds the input to the result as in week 1's ResNet (Equation 3; a
# last ReLU follows, which it leaves out):
#
# $$y = x + \sum_{i=1}^{C} \mathcal T_i(x)$$
#
# Each path goes down to $d$ channels by a 1x1 convolution, looks around by a 3x3 convolution, and comes back by another
# 1x1 convolution. The paper's Figure 3 draws one block in three ways and says that they are the same:

# %% jupyter={"source_hidden": true}
PATH = ["1x1, 256 to 4", "3x3, 4 to 4"]
FORMS = {
    "(a) separate paths, added": [
        "x: 256 channels",
        Split([*PATH, "1x1, 4 to 256"], [*PATH, "1x1, 4 to 256"], "...", [], join="+, then relu"),
    ],
    "(b) concatenated early": [
        "x: 256 channels",
        Split(
            [Split(PATH, PATH, "...", join="concatenate: 128"), "1x1, 128 to 256"],
            [],
            join="+, then relu",
        ),
    ],
    "(c) grouped": [
        "x: 256 channels",
        Split(
            ["1x1, 256 to 128", "3x3, 128 to 128,\n32 groups", "1x1, 128 to 256"],
            [],
            join="+, then relu",
        ),
    ],
}
blocks.draw(FORMS, "ResNeXt's block in three forms: 32 paths of 4 channels")

# %% [markdown]
# Why should (a) and (b) agree? Path $i$ ends in a matrix $A_i$ (its last 1x1 convolution), which is applied to the path's
# channels $B_i$:
#
# $$A_1 B_1 + A_2 B_2 = \begin{bmatrix} A_1 & A_2 \end{bmatrix} \begin{bmatrix} B_1 \\ B_2 \end{bmatrix}$$
#
# The sum of products is the product of the concatenations. Forms (a) and (b) in code, in the real size (batch norm left
# out for now):

# %%
C, d, WIDE = 32, 4, 256  # paths, channels of each, channels of the block


def form_a(x, first, second, third):
    """C separate paths, added. first, second, third: lists of C weights."""
    total = x
    for u, v, w in zip(first, second, third):
        total = total + F.conv2d(F.relu(F.conv2d(F.relu(F.conv2d(x, u)), v, padding=1)), w)
    return F.relu(total)


def form_b(x, first, second, third):
    """Paths concatenated before one last 1x1 convolution."""
    ends = [F.relu(F.conv2d(F.relu(F.conv2d(x, u)), v, padding=1)) for u, v in zip(first, second)]
    return F.relu(x + F.conv2d(torch.cat(ends, dim=1), torch.cat(third, dim=1)))


# %% jupyter={"source_hidden": true}
random = torch.Generator().manual_seed(SEED)


def weights(*shape):
    """C weights of one shape, in float64, scaled so that a layer keeps the size of its input."""
    scale = math.sqrt(2 / math.prod(shape[1:]))
    return [
        (scale * torch.randn(shape, generator=random, dtype=torch.float64)).requires_grad_()
        for _ in range(C)
    ]


first, second, third = weights(d, WIDE, 1, 1), weights(d, d, 3, 3), weights(WIDE, d, 1, 1)
x = torch.randn(2, WIDE, 7, 7, generator=random, dtype=torch.float64, requires_grad=True)
upstream = torch.randn(2, WIDE, 7, 7, generator=random, dtype=torch.float64)
print(f"{C} paths: first {tuple(first[0].shape)}, second {tuple(second[0].shape)}, third {tuple(third[0].shape)}")


# %% [markdown]
# **Your turn: form (c).** All first 1x1 convolutions read the same $x$, so they stack into one. And what is a 3x3
# convolution on each path's own channels? (Section 1.1.)

# %%
def form_c(x, first, second, third):
    """One 1x1, one grouped 3x3, one 1x1. F.conv2d has the option `groups`."""
    # BEGIN SOLUTION, 5 minutes: concatenate each list along the right axis: torch.cat(..., dim=...)
    middle = F.relu(F.conv2d(x, torch.cat(first)))
    middle = F.relu(F.conv2d(middle, torch.cat(second), padding=1, groups=len(second)))
    return F.relu(x + F.conv2d(middle, torch.cat(third, dim=1)))
    # END SOLUTION


# %%
everything = [x, *first, *second, *third]
outputs = {form.__name__: form(x, first, second, third) for form in (form_a, form_b, form_c)}
for name in ("form_b", "form_c"):
    course.expect(outputs[name], outputs["form_a"], within=1e-12)
print(f"{sum(w.numel() for w in everything[1:]):,} weights; (a), (b) and (c) agree to 1e-12")

# %% jupyter={"source_hidden": true}
gradients = {
    name: torch.autograd.grad(y, everything, upstream, retain_graph=True)
    for name, y in outputs.items()
}
for name in ("form_a", "form_b"):
    for mine, theirs in zip(gradients[name], gradients["form_c"], strict=True):
        assert theirs.abs().max() > 0.1 and (mine - theirs).abs().max() < 1e-12
print(f"and so do the gradients of x and of all {len(everything) - 1} weight tensors")


# %% [markdown]
# Same function, same gradients: trained from the same weights in exact arithmetic, the three stay the same. Which one to
# run is a question of speed alone, and the paper runs (c). The whole block, with batch norm, as a module:

# %%
class Block(nn.Module):
    """ResNeXt's block: C paths of d channels inside, `channels` outside. x: (batch, channels, h, w)."""

    def __init__(self, channels, C, d):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, C * d, 1, bias=False)  # -> (batch, C * d, h, w)
        self.conv2 = nn.Conv2d(C * d, C * d, 3, padding=1, groups=C, bias=False)  # the same shape
        self.conv3 = nn.Conv2d(C * d, channels, 1, bias=False)  # -> (batch, channels, h, w)
        self.bn1, self.bn2 = nn.BatchNorm2d(C * d), nn.BatchNorm2d(C * d)
        self.bn3 = nn.BatchNorm2d(channels)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(x + self.bn3(self.conv3(y)))


# %% jupyter={"source_hidden": true}
block, library = Block(WIDE, C, d).double(), AggregatedBlock(WIDE, WIDE, cardinality=C, width=d)
library.double().load_state_dict({k: v for k, v in block.state_dict().items()}, strict=False)
assert torch.equal(block(x), library(x))  # studylib.nets.resnext, which also has strides
with torch.no_grad():
    block.conv1.weight.copy_(torch.cat(first))
    block.conv2.weight.copy_(torch.cat(second))
    block.conv3.weight.copy_(torch.cat(third, dim=1))
block.bn1 = block.bn2 = block.bn3 = nn.Identity()
assert (block(x) - outputs["form_a"]).abs().max() < 1e-12
print("with form (a)'s weights and without its batch norms, the module is form (a)")

# %% [markdown]
# Two fine points. **Batch norm:** the first two of a path work on each channel by itself and stack like the convolutions.
# The last one must stand *behind* the sum in form (a): to normalise 32 results and add them is not to normalise their sum.
# **Depth:** the middle layer makes the difference. Leave it out, and the same identity turns the paths into one *dense*
# pair of layers with $C$ times the width (the paper's Figure 4). Paths of two layers are nothing new.

# %% jupyter={"source_hidden": true}
paths = torch.stack(
    [
        F.conv2d(F.relu(F.conv2d(F.relu(F.conv2d(x, u)), v, padding=1)), w)
        for u, v, w in zip(first, second, third)
    ]
).detach()
norm = nn.BatchNorm2d(WIDE, affine=False).double()  # in training mode: by the batch's own numbers
of_sum, sum_of = norm(paths.sum(0)), sum(norm(path) for path in paths)
ratio = (sum_of.std() / of_sum.std()).item()
assert (of_sum - sum_of).abs().max() > 1
print(f"normalised, then added: {ratio:.1f} times as large as added, then normalised")

two_deep = sum(F.conv2d(F.relu(F.conv2d(x, u)), w) for u, w in zip(first, third))
one_wide = F.conv2d(F.relu(F.conv2d(x, torch.cat(first))), torch.cat(third, dim=1))
assert (two_deep - one_wide).abs().max() < 1e-12
print("32 paths of two layers are one dense pair of layers, without any group")


# %% [markdown]
# ## 2.2 More paths at the same cost
#
# Do more paths make a better network? To compare cardinalities one must hold something constant, and the paper holds the
# cost of a block. With 256 channels outside, a block has (Equation 4)
#
# $$C \cdot (256 \cdot d + 3 \cdot 3 \cdot d \cdot d + d \cdot 256)$$
#
# weights, and as many multiply-adds at each pixel. $C$ paths of $d$ channels are written $C$x$d$d, such as 32x4d. One path,
# 1x64d, is ResNet's *bottleneck*: 1x1 down to 64 channels, 3x3, 1x1 up. Its cost is the budget $B$. **Your turn:** which $d$ keeps the budget for another $C$? Solve the quadratic $9 d^2 + 512\, d = B / C$.

# %%
def equation4(C, d):
    """Weights of a block with C paths of d channels, 256 channels outside."""
    return C * (256 * d + 3 * 3 * d * d + d * 256)


BUDGET = equation4(1, 64)


def width_for(C):
    """The d, not a whole number, at which C paths cost the budget."""
    # BEGIN SOLUTION, 4 minutes: the positive root of 9 d^2 + 512 d - BUDGET / C
    return (-512 + math.sqrt(512**2 + 36 * BUDGET / C)) / 18
    # END SOLUTION


# %%
course.expect(width_for(1), 64, within=1e-9)
course.expect(equation4(32, width_for(32)), BUDGET, within=1e-6)
TABLE2 = {1: 64, 2: 40, 4: 24, 8: 14, 32: 4}  # cardinality and width, as the paper chose them
print(f"{'C':>3s}{'exact d':>9s}{'paper':>7s}{'weights':>9s}{'of 1x64d':>10s}{'activations':>13s}")
for C, d in TABLE2.items():
    cost = count(AggregatedBlock(256, 256, C, d), (256, 56, 56))
    assert cost.weights == equation4(C, d) and cost.macs == cost.weights * 56**2
    stored = 4 * sum(math.prod(row.output_shape) for row in cost.rows if row.type == "Conv2d")
    assert stored == 4 * (2 * C * d + 256) * 56**2
    print(
        f"{C:3d}{width_for(C):9.2f}{d:7d}{cost.weights:9,d}{cost.weights / BUDGET:10.1%}"
        f"{stored / 1e6:10.2f} MB"
    )
    assert abs(width_for(C) - d) < 0.5 and abs(cost.weights / BUDGET - 1) < 0.03

# %% [markdown]
# The paper's widths are the exact ones rounded to whole channels, and the costs agree within three percent. The
# activations (at the 56x56 pixels of the paper's first stage) are not held constant: they grow.
#
# *Think first:* the budget stays. Into which of the three layers do its weights move when $C$ grows?

# %% jupyter={"source_hidden": true}
fig, ax = plt.subplots(figsize=(7.5, 2.5), layout="constrained")
shares = {}
for row, (C, d) in enumerate(TABLE2.items()):
    outer, shares[C] = 256 * C * d / equation4(C, d), C * 9 * d * d / equation4(C, d)
    for left, share, colour in (
        (0, outer, plots.SKY),
        (outer, shares[C], plots.ORANGE),
        (outer + shares[C], outer, plots.SKY),
    ):
        ax.barh(row, 100 * share, left=100 * left, color=colour, edgecolor="white")
    ax.text(50, row, f"3x3: {shares[C]:.0%}", ha="center", va="center", fontsize=8)
ax.set_yticks(range(len(TABLE2)), [f"{C}x{d}d" for C, d in TABLE2.items()])
ax.set(xlabel="share of the block's weights, %: first 1x1, the 3x3, last 1x1", xlim=(0, 100))
ax.invert_yaxis()
plots.title(fig, "At constant cost, more paths move weights from the 3x3 into the 1x1 layers")
assert shares[1] > 0.5 and shares[32] < 0.1
plt.show()

# %% [markdown]
# So "more paths" also means wider, and more of the weights in layers that mix all channels. Such layers stand before and
# after every grouped layer, which is why ResNeXt needs no shuffle. (ShuffleNet groups the 1x1 layers too, and needs one.)
#
# ## 2.3 Do the paper's numbers come out?
#
# All four stages of the network are such blocks, with twice the channels and half the side from stage to stage; the stride
# is in the first 3x3 of a stage. Table 1 compares ResNet-50 with ResNeXt-50, 32x4d. One block of Table 2 does not come
# out: 8 paths need 13.7 channels for "~70k", and 14 of them give 71.5k. (*Truncates* means that the number comes out cut
# off instead of rounded; *quoted*, that we do not compute it.)

# %% jupyter={"source_hidden": true}
display(ledger.check("resnext", where="Table 1", show=["parameters", "multiply-adds"]))
widths = [f"{C}x{d}d" for C, d in TABLE2.items()]
measures = {
    "weights of a block": "weights of a block of conv2, Eq. 4",
    "its multiply-adds": "multiply-adds of that block",
    "width of the grouped layer": "width of the group convolution",
}
display(ledger.check("resnext", where="Table 2").grid(widths, measures))

# %% [markdown]
# *Think first:* Figure 5 and the README of the paper's repository print one cost for a ResNet and for the ResNeXt that is
# compared with it. Whose is it?
#
# <details><summary>Answer</summary>
#
# For the 32x4d networks it is the ResNet's cost; the ResNeXt costs two or three percent more. The README's 15.6 for 64x4d is
# one percent above what comes out, and is twice 7.8.
#
# </details>

# %% jupyter={"source_hidden": true}
display(ledger.check("resnext", where="Figure 5"))
display(ledger.check("resnext", where="README"))

# %% [markdown]
# What was it for? We quote the paper's own errors on ImageNet. At equal cost, the error falls with the number of paths
# (Table 3). At about twice the cost, more paths help more than more width (Table 4, the rows of depth 101).

# %% jupyter={"source_hidden": true}
table3 = [row for row in ledger.load("resnext").rows if row.where == "Table 3"]
fig, ax = plt.subplots(figsize=(7, 2.9), layout="constrained")
for depth, colour, marker in ((50, plots.BLUE, "o"), (101, plots.RED, "s")):
    errors = [float(row.printed.strip("%")) for row in table3 if f"depth {depth}," in row.what]
    assert len(errors) == len(TABLE2) and all(a > b for a, b in pairwise(errors))
    ax.plot(list(TABLE2), errors, marker + "-", color=colour)
    ax.text(34, errors[-1], f"depth {depth}", color=colour, va="center")
ax.set_xscale("log", base=2)
ax.set_xticks(list(TABLE2), [f"{C}x{d}d" for C, d in TABLE2.items()])
ax.set(
    xlabel="paths x channels of each, at about equal cost",
    ylabel="top-1 error, % (quoted)",
    title="Table 3: the error falls with cardinality at each step",
    xlim=(0.9, 60),
)
plt.show()

# %% jupyter={"source_hidden": true}
deep = ["ResNet-200", "ResNet-101 wider, 1x100d", "ResNeXt-101, 2x64d", "ResNeXt-101, 64x4d"]
display(ledger.check("resnext", where="Table 4").grid(deep, ["top-1 error", "top-5 error"]))
display(ledger.check("resnext", where="Sec. 5.1"))

# %% [markdown]
# Section 5.1 has two more measurements. Without residual connections both networks lose several points, so the paths do
# not replace the connection. And equal cost was not equal time.

# %% [markdown]
# ## 2.4 Equal multiply-adds, equal time?
#
# ResNeXt-101, 32x4d, took a third longer than the ResNet of the same cost. Section 1.2 names a possible reason: groups
# divide the arithmetic and leave the traffic. Here is the 3x3 layer of each block of Table 2, at 28x28 pixels:

# %%
SIDE = 28
per_byte = {}
for C, d in TABLE2.items():
    macs, moved = 9 * C * d * d * SIDE**2, bytes_moved(C * d, C * d, SIDE**2, 9 * C * d * d)
    per_byte[C] = macs / moved
    print(f"{C:2d}x{d:2d}d: {macs / 1e6:5.1f} M multiply-adds, {per_byte[C]:5.1f} a byte")
assert all(per_byte[a] > per_byte[b] for a, b in pairwise(TABLE2))

# %% [markdown]
# The 3x3 layer of 32x4d does an eighth of the arithmetic of 1x64d and moves more bytes. *Guess first:* which whole block is
# the slowest on your laptop? One image, one core, best of several runs; nothing here checks the times.

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
image = torch.randn(1, 256, SIDE, SIDE, generator=random)
seconds = {}
with torch.inference_mode():
    for C, d in TABLE2.items():
        timed = AggregatedBlock(256, 256, C, d).eval()
        timed(image)
        times = []
        for _ in range(12):
            begin = perf_counter()
            timed(image)
            times.append(perf_counter() - begin)
        seconds[C] = min(times)
        print(
            f"{C:2d}x{d:2d}d: multiply-adds {equation4(C, d) / BUDGET:5.2f} of one path's, "
            f"time {seconds[C] / seconds[1]:5.2f} of one path's"
        )

# %% [markdown]
# If time followed the multiply-adds alone, the two columns would be equal. What this does not show: a cause, for
# a library may treat one number of groups well and another badly, and one run on a laptop is noisy. Seen on two cores of an
# x86 server CPU with other programs running, November 2026: the 32x4d block took between 0.5 and 1.7 times as long as the
# one path, from run to run. Such a machine decides nothing; close the other programs and repeat.
#
# ## 2.5 Experiment: one path or eight
#
# Does cardinality at constant cost pay on our small images? Week 1 saw that plain digits cannot rank designs; the pairs of
# hour 1 are harder. The network is a small ResNeXt of two blocks, with one path of 16 channels or eight of 4, at nearly
# equal parameters. It can come out either way. *Vote first.*

# %%
DESIGNS = {"1x16d": (1, 16), "8x4d": (8, 4)}
if not FAST:
    DESIGNS["4x7d"] = (4, 7)


def small_resnext(cardinality, width, channels=32):
    """Stem to 4x4 pixels, two blocks; x: (batch, 2, 8, 8) -> (batch, 2)."""
    return nn.Sequential(
        nn.Conv2d(2, channels, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        AggregatedBlock(channels, channels, cardinality, width),
        AggregatedBlock(channels, channels, cardinality, width),
        nn.Flatten(),
        nn.Linear(channels * 16, 2),
    )


sizes = {name: count(small_resnext(*design), (2, 8, 8)) for name, design in DESIGNS.items()}
for name, cost in sizes.items():
    print(f"{name:6s}{cost.params:6,d} parameters {cost.macs:9,d} multiply-adds")
assert max(c.macs for c in sizes.values()) < 1.15 * min(c.macs for c in sizes.values())

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
cardinalities = {}
for name, design in DESIGNS.items():

    def run(seed, design=design):
        net = small_resnext(*design)
        options = {"optimizer": "adam", "batch_size": 128, "evaluate": False, "show": not FAST}
        fit(net, pairs[seed], epochs=4 if FAST else 12, lr=1e-2, seed=seed, **options)
        return 100 * accuracy(net, pairs[seed].test_x, pairs[seed].test_y)

    cardinalities[name] = over_seeds(run, SEEDS, "%")
for name, summary in cardinalities.items():
    print(f"{name:8s} {summary}")
eight, one_path = cardinalities["8x4d"].values, cardinalities["1x16d"].values
difference = Summary(tuple(e - o for e, o in zip(eight, one_path)), "points")
print(f"eight paths against one, seed by seed: {difference}")
plots.seeds(
    {name: summary.values for name, summary in cardinalities.items()},
    "One path and eight paths at equal cost, three seeds each",
    "test accuracy, %",
)

# %% jupyter={"source_hidden": true}
for name, summary in cardinalities.items():
    assert min(summary.values) > 75, name  # more than any sum f + h can reach
assert abs(difference.mean) < 6
print("all compare images, better than any sum could; the designs' means lie within 6 points")


# %% [markdown]
# What this shows: both designs solve the task that unmixed groups fail. They mix the two images in the dense first layer
# already, and again in each 1x1 layer; which of these matters is not tested.
# What it does not show: that cardinality is worth something here, or nothing. In the stored run the difference is under
# two standard errors, and three seeds estimate that error badly. In Table 3 the paper's gain from 1x64d to 32x4d is 0.8
# points at depth 101 and 1.7 at depth 50: this experiment would hardly see the first.
#
# Seen once, FAST=False, on two cores of an x86 server CPU, November 2026: 1x16d 94.6 ± 0.2 %, 4x7d 95.0 ± 0.2 %, 8x4d
# 94.8 ± 0.7 %; eight paths against one 0.2 ± 0.5 points. The whole notebook took eight and a half minutes of
# processor time then, on a busy machine.

# %% [markdown]
# ## 2.6 Theory: the forward pass as a pursuit
#
# Why convolutions and ReLUs at all? Papyan, Romano and Elad (arXiv 1607.08194; Papyan's lecture in Stanford's course
# stats385) begin with a model of *signals*. A signal $X$ is the sum of a few **atoms**, the columns of a dictionary $D_1$.
# The list of coefficients $\Gamma_1$ is sparse: it is mostly zeros, and here it has no negative numbers. And $\Gamma_1$ is
# itself a sum of a few atoms of a second dictionary:
#
# $$X = D_1 \Gamma_1, \qquad \Gamma_1 = D_2 \Gamma_2.$$
#
# Given $X$, how does one find the coefficients? The simplest **pursuit** correlates the signal with each atom and keeps
# what exceeds a threshold $b$. With $S_b(v) = \max(v - b, 0)$, layer by layer:
#
# $$\hat\Gamma_1 = S_{b_1}(D_1^T X), \qquad \hat\Gamma_2 = S_{b_2}(D_2^T\, \hat\Gamma_1).$$
#
# A hat marks an estimate. The atoms are small patterns at every place of the image, so the matrices $D^T$ are made of
# shifted filters. Below, `digit` is $X$ (1, 8, 8), `w1` and `w2` hold the filters, `b1` and `b2` one threshold for each
# channel, and `D1_T` and `D2_T` are made from the filters. **Your turn:** compute the same with two convolutions and two
# ReLUs.

# %% jupyter={"source_hidden": true}
def analysis_matrix(w, shape):
    """D^T for filters w: (N, M, K, K) on inputs of `shape` (M, height, width): a row an atom."""
    pixels = torch.eye(math.prod(shape), dtype=w.dtype).reshape(-1, *shape)  # one lit each
    return F.conv2d(pixels, w).flatten(1).T


def threshold(v, b):
    """S_b: max(v - b, 0). b: one number for each channel; v: (channels * pixels,)."""
    return (v - b.repeat_interleave(len(v) // len(b))).clamp(min=0)


digit = torch.from_numpy(load_digits().images[0] / 16)[None]  # (1, 8, 8)
w1 = torch.randn(6, 1, 3, 3, generator=random, dtype=torch.float64)
w2 = torch.randn(8, 6, 3, 3, generator=random, dtype=torch.float64)
b1, b2 = torch.rand(6, generator=random).double(), torch.rand(8, generator=random).double()
D1_T, D2_T = analysis_matrix(w1, (1, 8, 8)), analysis_matrix(w2, (6, 6, 6))
print(f"w1 {tuple(w1.shape)} -> D1^T {tuple(D1_T.shape)}, w2 {tuple(w2.shape)} -> D2^T {tuple(D2_T.shape)}")

# %%
gamma1 = threshold(D1_T @ digit.flatten(), b1)
gamma2 = threshold(D2_T @ gamma1, b2)
forward = None
# BEGIN SOLUTION, 4 minutes: F.conv2d(input, weight, bias) and F.relu, twice; which bias is the threshold?
forward = F.relu(F.conv2d(F.relu(F.conv2d(digit[None], w1, -b1)), w2, -b2))
# END SOLUTION

# %%
course.expect(forward if forward is None else forward.flatten(), gamma2, within=1e-12)
print("layered thresholding = relu(conv(relu(conv)))")


# %% [markdown]
# So a network's forward pass *is* this pursuit, with minus the thresholds as biases. The equality is a matter of names. The
# theory's content is a promise: *if* the signal is such a sum, and few enough atoms are in it, then the thresholds find the
# right ones. For one layer the proof takes two lines. Let all atoms $d_i$ have norm 1, and let the **coherence** $\mu$ be
# the largest $|d_i \cdot d_j|$ of two different ones. Let $k$ atoms be present, each with coefficient 1. An atom that is
# present correlates with the signal by at least $1 - (k - 1)\mu$, one that is absent by at most $k \mu$. The threshold $b
# = \frac12$ separates them for sure if $k \mu < \tfrac12$. (A threshold chosen for each $k$, between $k\mu$ and $1 - (k-1)\mu$, promises a
# little more: $k < \frac12 (1 + 1/\mu)$. We keep ½. The paper counts the atoms that overlap in one place, not all
# in the image, and carries the argument through the layers.)
#
# *Think first:* three dictionaries have four filters at 64 places each, so 256 atoms: random 21x21 filters, random 3x3
# filters, and smooth bumps. For which does thresholding find the right set most often? The cells draw 200 signals of $k$
# random atoms, each with coefficient 1, and count a success when exactly those exceed ½. A fourth dictionary is there to
# compare: 256 *free* atoms, vectors of 100 random pixels without any filter.

# %% jupyter={"source_hidden": true}
def atoms(filters, places=8):
    """Filters (4, K, K) at every place of an image that holds them: (256, pixels), norm 1."""
    filters = filters / filters.flatten(1).norm(dim=1)[:, None, None]
    side = places + filters.shape[-1] - 1
    return analysis_matrix(filters[:, None], (1, side, side))


def found(D_T, k, trials=200):
    """Share of signals of k atoms whose atoms are exactly those that exceed the threshold."""
    present = torch.zeros(trials, len(D_T), dtype=torch.bool)
    chosen = torch.rand(present.shape, generator=random).topk(k, dim=1).indices
    present.scatter_(1, chosen, True)
    correlations = (present.double() @ D_T) @ D_T.T
    return ((correlations > 0.5) == present).all(dim=1).double().mean().item()


grid = torch.arange(9.0).double() - 4
bumps = [torch.exp(-(grid[:, None] ** 2 + grid**2) / (2 * s**2)) for s in (1, 1.5, 2, 3)]
free = torch.randn(256, 100, generator=random, dtype=torch.float64)
dictionaries = {
    "random 21x21": atoms(torch.randn(4, 21, 21, generator=random, dtype=torch.float64)),
    "random 3x3": atoms(torch.randn(4, 3, 3, generator=random, dtype=torch.float64)),
    "smooth 9x9": atoms(torch.stack(bumps)),
    "free, 100 pixels": free / free.norm(dim=1, keepdim=True),  # no filters: all pixels random
}
KS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
recovered = {}
for name, D_T in dictionaries.items():
    gram = D_T @ D_T.T
    coherence = (gram - torch.eye(len(D_T))).abs().max().item()
    promised = math.ceil(0.5 / coherence) - 1  # the largest k with k * mu < 1/2
    recovered[name] = promised, [found(D_T, k) for k in KS]
    assert all(share == 1 for k, share in zip(KS, recovered[name][1]) if k <= promised)
    rank = int(torch.linalg.matrix_rank(D_T))
    print(
        f"{name:17s} 256 atoms span {rank:3d} dimensions; coherence {coherence:.2f}: "
        f"promised up to k = {promised}"
    )

# %% jupyter={"source_hidden": true}
fig, ax = plt.subplots(figsize=(7.5, 2.9), layout="constrained")
for n, (name, (promised, shares)) in enumerate(recovered.items()):
    label = f"{name} (promised to k = {promised})"
    colour, marker = plots.COLOURS[n], plots.MARKERS[n]
    ax.plot(KS, [100 * share for share in shares], marker + "-", color=colour, label=label)
ax.set(
    xscale="log",
    xlabel="atoms in the signal, k (log scale)",
    ylabel="signals whose set of\natoms is found exactly, %",
    title="How many atoms thresholding tells apart depends on the dictionary",
)
ax.set_xticks(KS, KS)
ax.minorticks_off()
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
at_four = {name: shares[KS.index(4)] for name, (_, shares) in recovered.items()}
assert at_four["random 21x21"] > 0.9 and at_four["random 3x3"] < 0.5
assert all(
    at_four["random 3x3"] <= at_four[name] for name in ("free, 100 pixels", "random 21x21")
)
assert recovered["smooth 9x9"][1][0] == 0
plt.show()

# %% [markdown]
# What this shows: the promise holds where it is made, and recovery lasts beyond it. Filters as small as a network's, 3x3 at
# every place, get no promise at this threshold, not even for one atom. In the same 100 dimensions free atoms, which are less alike, are found
# more often; in 256 dimensions the large filters' atoms are found far more often still. (Those are linearly independent, so
# least squares would find any number of them.) What this does not show: that trained networks work for this reason, or that
# photographs are sums of a few atoms.
#
# <details><summary>Extra: and the values?</summary>
#
# Even where the atoms are right, each value is short by the threshold, and the other atoms blur it. The folded cell
# compares thresholding with least squares on the same atoms.
#
# </details>

# %% jupyter={"source_hidden": true}
D_T = dictionaries["random 21x21"]
truth = torch.zeros(len(D_T), dtype=torch.float64)
truth[torch.randperm(len(D_T), generator=random)[:3]] = 1
estimate = (D_T @ (D_T.T @ truth) - 0.5).clamp(min=0)
support = truth > 0
assert torch.equal(estimate > 0, support)
present = D_T[support]  # their atoms, a row each; least squares by the normal equations
least_squares = torch.linalg.solve(present @ present.T, present @ (D_T.T @ truth))
assert (least_squares - 1).abs().max() < 1e-9
print("true values             ", truth[support].tolist())
print("thresholding finds      ", [float(f"{v:.2f}") for v in estimate[support].tolist()])
print("least squares on its set", [float(f"{v:.2f}") for v in least_squares.tolist()])


# %% [markdown]
# ## Questions for hour 2
#
# 1. (★★) How many paths does Equation 4 afford at $d = 1$? What is the middle layer then, and which network of week 1 is
#    near?
# 2. (★★★) Table 3's widths differ by up to three percent in cost. Could that explain the differences in error?
# 3. (★★) In form (a), where would dropout on a *path* go, and what would it be in form (c)? (Week 3 drops paths.)
# 4. (★) A smooth dictionary fails at $k = 1$. Which step of the two-line proof breaks?
#
# <details><summary>Answers for the facilitator</summary>
#
# 1. $B / (512 + 9) = 133$ paths. The middle layer is depthwise, between two 1x1 layers: near MobileNet's separable layer.
# 2. Not by itself: the cost goes up and down with $C$ (the printed shares), the error only falls.
# 3. It multiplies the whole sum term $A_i B_i$ by 0. In form (c) it sets the $d$ channels of one group to 0 before the last
#    1x1 layer.
# 4. Neither bound; the condition $k\mu < \frac12$ does. With a coherence of 0.96 an absent neighbour may reach 0.96, far
#    above ½. A threshold between 0.96 and 1 would find one atom.
#
# </details>

# %% [markdown]
# # Hour 3: GPU programming 1
#
# Labs 1 and 2 of Caltech's course CS179 give this hour its questions. The labs ask for answers on paper; we find them by
# running the kernels. Without a GPU in the machine they run on the emulator, thread for thread, and `gpu.check` reports
# what each warp did. What it counts is exact for the source, before caches and the compiler. It says nothing about time.
#
# ## 3.1 Threads, and which of them form a warp
#
# As in week 1, a **kernel** is the function that one thread runs. `@cuda.jit` compiles it (`from numba import cuda`); it
# returns nothing and writes into an array that it is given. A launch, `kernel[blocks, threads](...)`, has a **grid** of
# **blocks** of **threads**, and each thread runs the kernel. `gpu.check(kernel, blocks, threads, ...)` launches it and
# reports. A thread knows its place in the block, `threadIdx.x` and `.y`, the block's size, `blockDim`, and the block's place in
# the grid, `blockIdx`. `cuda.grid(1)` is its number in the whole grid, `blockIdx.x * blockDim.x + threadIdx.x`.
#
# **Your turn: a map with a guard.** Two blocks of four threads double six numbers.

# %%
@cuda.jit
def double(x, out):
    i = cuda.grid(1)
    # BEGIN SOLUTION, 2 minutes: double element i, if there is one: eight threads, six elements
    if i < x.size:
        out[i] = 2 * x[i]
    # END SOLUTION


# %%
six, doubled = np.arange(6, dtype=np.float32), np.zeros(6, np.float32)
report = gpu.check(double, 2, 4, six, doubled)
assert report.ok, report
course.expect(doubled, 2 * six)


# %% [markdown]
# The hardware does not run single threads. It cuts each block into **warps** of 32 threads, which share one instruction
# stream. Threads are numbered along x first:
#
# $$t = \text{threadIdx.y} \cdot \text{blockDim.x} + \text{threadIdx.x}, \qquad \text{warp} = \lfloor t / 32 \rfloor$$
#
# **Your turn: two dimensions.** Each thread writes the number of its warp.

# %%
@cuda.jit
def which_warp(warp):
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    # BEGIN SOLUTION, 3 minutes: write this thread's warp to warp[y, x]
    warp[y, x] = (y * cuda.blockDim.x + x) // 32
    # END SOLUTION


# %%
SHAPES = ((32, 8), (16, 16), (8, 32))  # 256 threads each, in x and y
warps = {block: np.full(block[::-1], -1, np.int32) for block in SHAPES}
for block in SHAPES:
    which_warp[1, block](warps[block])
    course.expect(warps[block].ravel(), np.arange(256) // 32)

# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(1, 3, figsize=(8, 2.6), layout="constrained")
for ax, block in zip(axes, SHAPES):
    ax.imshow(warps[block], cmap="viridis", interpolation="none", origin="upper")
    ax.set_title(f"block {block}", fontsize=9, fontweight="normal")
    ax.set(xlabel="threadIdx.x", xticks=[0, block[0] - 1], yticks=[0, block[1] - 1])
axes[0].set_ylabel("threadIdx.y")
plots.title(fig, "Eight warps (colours) of 32 threads: the block's shape decides who runs together")
plt.show()


# %% [markdown]
# ## 3.2 Divergence
#
# If an `if` sends some threads of a warp one way and some the other, the warp goes **both** ways, one after the other, while
# the threads of the other way wait. That is **divergence**. (Since Volta each thread has a program counter of its own, so
# the two ways may interleave; still, only threads at the same instruction run together.)
#
# *Think first,* CS179's lab 2 asks: a block of shape (32, 32, 1) runs the code below. Does it diverge? And a block of (16,
# 16, 1)?

# %%
@cuda.jit
def either_or(out):
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    idx = y + cuda.blockDim.y * x
    if idx % 32 < 16:
        out[y, x] = 1
    else:
        out[y, x] = 2


# %% jupyter={"source_hidden": true}
print(f"{'block':>12s}{'warps':>7s}{'go one way':>12s}{'the other':>11s}{'diverge':>9s}")
diverging = {}
for block in ((32, 32, 1), (16, 16, 1), (64, 16, 1), (8, 32, 1), (32, 8, 1)):
    out = np.zeros((block[1], block[0]), np.int32)
    report = gpu.check(either_or, 1, block, out)
    assert report.ok
    one_way, other = (access.requests for access in report.accesses)  # the two stores
    count_of_warps = block[0] * block[1] // 32
    diverging[block] = one_way + other - count_of_warps
    print(f"{block!s:>12s}{count_of_warps:7d}{one_way:12d}{other:11d}{diverging[block]:9d}")
assert diverging[32, 32, 1] == 0 and diverging[16, 16, 1] == 8 and diverging[32, 8, 1] == 8

# %% [markdown]
# <details><summary>Answer</summary>
#
# With (32, 32, 1) nothing diverges: `idx % 32` is then `threadIdx.y`, and a warp is one row, so all of its threads agree;
# half of the warps go one way. With 8 or 16 threads along y, `idx % 32` depends on x too, and every warp goes both ways. So "does
# this code diverge?" has no answer without the block's shape.
#
# </details>

# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(1, 2, figsize=(7.4, 3), layout="constrained")
for ax, block in zip(axes, ((32, 32), (16, 16))):
    out = np.zeros(block[::-1], np.int32)
    either_or[1, block](out)
    ax.imshow(out, cmap="cividis", interpolation="none")
    rows = 32 // block[0]
    for warp in range(8):
        corner = (-0.5, warp * rows - 0.5)
        ax.add_patch(Rectangle(corner, block[0], rows, fill=False, ec=plots.RED, lw=1.2))
    both = sum(len(np.unique(warp)) == 2 for warp in out.reshape(-1, 32))
    assert both == diverging[*block, 1]
    ax.set_title(f"block {block}: {both} warps diverge", fontsize=9, fontweight="normal")
    ax.set(xlabel="threadIdx.x", ylabel="threadIdx.y")
    ax.set(xticks=range(0, block[0], 4), yticks=range(0, block[1], 4))
plots.title(fig, "Who takes the if (dark) and who the else (yellow); red: the first eight warps")
plt.show()


# %% [markdown]
# ## 3.3 Coalescing
#
# When a warp reads or writes global memory, its 32 addresses travel as one request. Memory comes in **lines** of 128
# bytes, cut into four **sectors** of 32 bytes, and a request moves each sector that one of its threads touches. 32
# neighbouring floats are 128 bytes: four sectors if they begin where a line begins.
#
# *Think first,* CS179's question: which of these writes are coalesced, and how many lines does a warp touch? The block is
# (32, 32, 1), and `data` holds 4-byte floats and begins on a line.

# %%
@cuda.jit
def pattern_a(data):
    data[cuda.threadIdx.x + cuda.blockDim.x * cuda.threadIdx.y] = 1


@cuda.jit
def pattern_b(data):
    data[cuda.threadIdx.y + cuda.blockDim.y * cuda.threadIdx.x] = 1


@cuda.jit
def pattern_c(data):
    data[1 + cuda.threadIdx.x + cuda.blockDim.x * cuda.threadIdx.y] = 1


# %% jupyter={"source_hidden": true}
def lines_touched(report, warp):
    """The 128-byte lines that a warp's only access touches."""
    access = report.accesses[0]
    return {int(a) // 128 for r in report.trace(access.line, warp) for a in r.addresses}


reports = {}
print(f"{'':4s}{'sectors a warp':>15s}{'lines a warp':>14s}{'lines in all':>14s}")
for name, kernel in (("a", pattern_a), ("b", pattern_b), ("c", pattern_c)):
    report = reports[name] = gpu.check(kernel, 1, (32, 32, 1), np.zeros(1025, np.float32))
    lines = [lines_touched(report, warp) for warp in range(32)]
    sectors = report.accesses[0].sectors_per_request
    print(f"{name:4s}{sectors:15.0f}{len(lines[0]):14d}{len(set.union(*lines)):14d}")
    expected = {"a": (4, 1, 32), "b": (32, 32, 32), "c": (5, 2, 33)}[name]
    assert (sectors, len(lines[0]), len(set.union(*lines))) == expected

# %% [markdown]
# <details><summary>Answer</summary>
#
# (a) is coalesced. (b) is not: each thread's element lies in a line of its own. All warps together touch no more lines
# than in (a), but each warp touches all of them. (c) is nearly coalesced: it is off by one element and needs a fifth
# sector, in a second line, so that 80 % of the bytes moved are used.
#
# </details>
#
# The same three, drawn for the first warp:

# %%
for name in "abc":
    display(reports[name].plot(warp=0))


# %% [markdown]
# Between (a) and (b) lies every other stride. On the left, one warp writes elements `stride * threadIdx.x` of global
# memory. On the right it reads such elements of shared memory, which section 3.4 explains:

# %% jupyter={"source_hidden": true}
@cuda.jit
def strided_write(data, stride):
    data[stride * cuda.threadIdx.x] = 1


@cuda.jit
def strided_shared(out, stride):
    tile = cuda.shared.array(1024, float32)
    x = cuda.threadIdx.x
    for k in range(32):
        tile[k * 32 + x] = x
    cuda.syncthreads()
    out[x] = tile[stride * x]  # section 3.4 comes to this one


STRIDES = range(1, 33)
sectors, passes = [], []
for stride in STRIDES:
    report = gpu.check(strided_write, 1, 32, np.zeros(1024, np.float32), stride)
    sectors.append(report.accesses[0].sectors_per_request)
    report = gpu.check(strided_shared, 1, 32, np.zeros(32, np.float32), stride)
    (read,) = (a for a in report.accesses if a.space == "shared" and a.op == "load")
    passes.append(read.passes_per_request)
assert sectors == [min(4 * stride, 32) for stride in STRIDES]
assert passes == [math.gcd(stride, 32) for stride in STRIDES]
fig, axes = plt.subplots(1, 2, figsize=(8.6, 2.7), layout="constrained")
axes[0].plot(STRIDES, sectors, "o-", color=plots.BLUE, ms=4)
axes[0].set(xlabel="stride, floats", ylabel="sectors for a warp", ylim=(0, 35))
axes[0].set_title("Global memory: from stride 8 on, one sector a thread", fontsize=10)
axes[1].vlines(STRIDES, 0, passes, color=plots.RED)
axes[1].plot(STRIDES, passes, "o", color=plots.RED, ms=4)
axes[1].set(xlabel="stride, floats", ylabel="passes for a warp", ylim=(0, 35))
axes[1].set_title("Shared memory: odd strides have no conflict", fontsize=10)
plt.show()


# %% [markdown]
# ## 3.4 Shared memory, and the transpose
#
# **Shared memory** belongs to one block. It lies on the chip and is small: 48 kilobytes, unless one asks for more. All
# threads of the block see it, so a thread can read what *another* thread has written. Between the two stands a **barrier**,
# `cuda.syncthreads()`: no thread passes it before all threads of the block have come to it.
#
# **Your turn: shared memory.** Eight threads reverse eight numbers in place.

# %%
@cuda.jit
def reverse(x):
    tile = cuda.shared.array(8, float32)
    t = cuda.threadIdx.x
    # BEGIN SOLUTION, 4 minutes: write x[t] to the tile, wait for the others, write the other end's number to x[t]
    tile[t] = x[t]
    cuda.syncthreads()
    x[t] = tile[7 - t]
    # END SOLUTION


# %%
eight = np.arange(8, dtype=np.float32)
report = gpu.check(reverse, 1, 8, eight)
assert report.ok, report
course.expect(eight, np.arange(8)[::-1])

# %% [markdown]
# Shared memory has no lines but 32 **banks**, and element $i$ (4 bytes) lies in bank $i \bmod 32$. In one pass each bank
# serves one element. If two threads of a warp want different elements of one bank, that is a **bank conflict** and takes a
# second pass; the same element for both is a broadcast, and free. With stride $s$, the
# number of passes is the greatest common divisor of $s$ and 32: the right half of the figure above.
#
# Shared memory serves two purposes. The first is data that several threads need. In CS179's lab 1, each output of a blur is
# a weighted sum of 17 neighbours, and each thread reads all of them from global memory:

# %%
row = load_sample_image("flower.jpg")[200].mean(axis=1).astype(np.float32)  # a photograph's row
taps = np.exp(-((np.arange(17) - 8) ** 2) / 18).astype(np.float32)
taps /= taps.sum()


@cuda.jit
def blur_straight(x, taps, out):
    i = cuda.grid(1)
    if i < out.size:
        total = float32(0)
        for k in range(17):
            if i + k - 8 >= 0 and i + k - 8 < x.size:
                total += taps[k] * x[i + k - 8]
        out[i] = total


# %% jupyter={"source_hidden": true}
out = np.zeros_like(row)
report = gpu.check(blur_straight, math.ceil(row.size / 256), 256, row, taps, out)
assert report.ok and np.allclose(out, np.convolve(row, taps, "same"), atol=1e-2)
print(f"global reads of a thread: {report.global_reads_per_thread} (17 pixels and 17 taps)")
print(f"different pixels that a block of 256 threads needs: {256 + 16}")

# %% jupyter={"source_hidden": true}
fig, ax = plt.subplots(figsize=(7.5, 2.2), layout="constrained")
ax.plot(row, color=plots.GREY, lw=0.8, label="a row of the photograph")
ax.plot(out, color=plots.RED, label="blurred")
ax.set(xlabel="pixel", ylabel="brightness", title="A weighted sum of 17 neighbours smooths the row")
ax.legend(loc="upper left", ncols=2)
ax.set_ylim(0, 1.35 * row.max())
plt.show()


# %% [markdown]
# Neighbouring threads want nearly the same pixels: each pixel is read by up to 17 threads. In the exercise below, a block
# brings its 272 pixels to shared memory once.
#
# The second purpose is to turn bad patterns into good ones. A transpose reads along rows and must write along columns, and
# one of the two is pattern (b). With a **tile** in shared memory both sides go along rows, and the turn happens on the chip.
# **Your turn,** for one tile of 32x32:

# %%
@cuda.jit
def transpose_straight(a, out):
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    out[x, y] = a[y, x]


@cuda.jit
def transpose_tile(a, out):
    tile = cuda.shared.array((32, 32), float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    # BEGIN SOLUTION, 4 minutes: fill the tile along a row of a; then write along a row of out
    tile[y, x] = a[y, x]
    cuda.syncthreads()
    out[y, x] = tile[x, y]
    # END SOLUTION


# %%
matrix = rng.standard_normal((32, 32)).astype(np.float32)
transposes = {}
for kernel in (transpose_straight, transpose_tile):
    out = np.zeros_like(matrix)
    report = transposes[kernel.__name__] = gpu.check(kernel, 1, (32, 32), matrix, out)
    assert report.ok, report
    course.expect(out, matrix.T)
    for a in report.accesses:
        along_rows = a.space != "global" or a.sectors_per_request == 4
        assert kernel is transpose_straight or along_rows, (
            f"{a.op} {a.array}: got {a.sectors_per_request:.0f} sectors a warp, expected 4, as along a row"
        )


# %% jupyter={"source_hidden": true}
@cuda.jit
def transpose_padded(a, out):
    tile = cuda.shared.array((32, 33), float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    tile[y, x] = a[y, x]
    cuda.syncthreads()
    out[y, x] = tile[x, y]


def costs_of(report):
    """(op, array) -> what a warp's request costs: sectors of global memory, passes of shared."""
    return {
        (a.op, a.array): int(a.sectors_per_request or a.passes_per_request)
        for a in report.accesses
    }


out = np.zeros_like(matrix)
report = transposes["transpose_padded"] = gpu.check(transpose_padded, 1, (32, 32), matrix, out)
assert report.ok and np.array_equal(out, matrix.T)
print("for a warp: sectors of global memory (a, out), passes of shared memory (tile)")
for name, report in transposes.items():
    print(name, {f"{op} {array}": cost for (op, array), cost in costs_of(report).items()})
straight, tiled, padded = (costs_of(report) for report in transposes.values())
assert straight == {("load", "a"): 4, ("store", "out"): 32}
assert tiled["load", "a"] == tiled["store", "out"] == 4
assert max(tiled["load", "tile"], tiled["store", "tile"]) == 32
assert padded["load", "a"] == padded["store", "out"] == 4 and padded["load", "tile"] == 1

# %% [markdown]
# The tile cuts the traffic of global memory from 36 sectors to 8 for each row. But in the tile a warp reads (or writes) a
# *column*: the stride is 32, so all of it lies in one bank and takes 32 passes. One column of padding,
# `cuda.shared.array((32, 33), float32)` and nothing else changed, makes the stride 33, and an odd stride is free. Below,
# what the first warp writes to `out` and what it asks of the tile, without and with the padding (a row of the tile's
# picture is 32 banks wide):

# %% jupyter={"source_hidden": true}
for name in ("transpose_tile", "transpose_padded"):
    report = transposes[name]
    in_tile = [a for a in report.accesses if a.array == "tile"]
    dearest = max(in_tile, key=lambda a: (a.passes_per_request, a.op == "load"))
    display(report.plot(line=dearest.line, warp=0))


# %% [markdown]
# *Think first:* is the barrier needed? The same kernel without it:

# %%
@cuda.jit
def transpose_hasty(a, out):
    tile = cuda.shared.array((32, 33), float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    tile[y, x] = a[y, x]
    out[y, x] = tile[x, y]


# %% jupyter={"source_hidden": true}
report = gpu.check(transpose_hasty, 1, (32, 32), matrix, np.zeros_like(matrix))
print(textwrap.fill(f"{report.findings[0].kind}: {report.findings[0].message}", 90))
assert report.findings[0].kind == "race"

# %% [markdown]
# This is a **race**: one thread reads what another one writes, and nothing says which comes first. On a card the result is
# right in some runs and wrong in others. So the barrier is needed, and *every* thread of the block must come to it: put no
# `return` and no `if` around it.

# %% [markdown]
# ## 3.5 Now you
#
# `exercises/02_resnext_gpu1/gaussian_blur.py` is section 3.4's blur with a tile. Its card says what to compute, a plan, and
# how much traffic it may use. Open the file beside this notebook, write, save, and run the cell. `tile[k]` holds
# `x[first + k - 8]`, where `first = cuda.blockIdx.x * 256`; `taps` may stay in global memory. If you are stuck, run `study
# hint gaussian_blur` in a terminal. What you do not finish goes home, as do `transpose` (25 minutes; matrices of any size), `reduce_sum`
# (30) and `grouped_conv` (25; hour 1's layer, whose weights the block brings once). The appendix has what they need.

# %% tags=["nbval-ignore-output"]
studylib.check("gaussian_blur")

# %% [markdown]
# ## Questions for hour 3
#
# 1. (★) A warp reads a row of a matrix of 8-byte numbers. How many sectors, and is that coalesced?
# 2. (★★) Which padding would you give a tile of (32, 64) floats of which warps read columns? And one of (32, 31)?
# 3. (★★) Pattern (b) touches 32 lines a warp, but all warps the same 32. When does a cache save it, and when not?
# 4. (★★★) A grouped 3x3 convolution with 4 channels a group: how many multiply-adds does a thread do for each float that it
#    reads? Compare with section 2.4.
#
# <details><summary>Answers for the facilitator</summary>
#
# 1. 32 numbers of 8 bytes are 256 bytes: 8 sectors, all of them used, so the request is coalesced.
# 2. (32, 65) for the first: an odd stride. None for the second: 31 is odd.
# 3. A cache that still holds the 32 lines when the next warp writes them saves it; one that has thrown them out does not.
# 4. Without shared memory one multiply-add for each two reads (a weight and a pixel); with the weights in shared memory, one
#    for each pixel read. Section 2.4 counts each number once: 4.4 multiply-adds a byte, 17.6 a float. To come near it a
#    thread must share its pixels too.
#
# </details>
#
# ## Readings

# %%
Markdown(
    "\n".join(f"- [{reading.title}]({reading.link})" for reading in course.sheet(".").readings)
)


# %% [markdown]
# # Appendix: for home
#
# ## A.1 A loop that each thread leaves at another time
#
# CS179's second question on divergence is a loop of another length for each thread: `for i in range(threadIdx.x)`.
# The warp stays in the loop until its last thread is done. Which threads still take part in each round?

# %%
@cuda.jit
def powers(factors, out):
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    result = float32(1)
    for i in range(x):
        result *= factors[i]
    out[y, x] = result


out = np.zeros((32, 32), np.float32)
report = gpu.check(powers, 1, (32, 32, 1), np.full(32, 1.5, np.float32), out)
load = next(access for access in report.accesses if access.array == "factors")
rounds = report.trace(load.line, warp=0)
taking_part = [len(request.lanes) for request in rounds]
assert taking_part == list(range(31, 0, -1))
print(f"rounds of one warp: {len(rounds)}; taking part: {taking_part[:4]} ... {taking_part[-3:]}")
print(f"of all places in these rounds {sum(taking_part) / (32 * len(rounds)):.0%} did something")

# %% [markdown]
# The code takes the same path for all, only not equally long: whether one calls that divergence is the trick in the
# question. What it costs is not in question: half of the warp's places stand idle.

# %% [markdown]
# ## A.2 Latency hiding and occupancy
#
# Lab 2 begins with a question on latency: how many instructions must be under way so that the hardware never waits? If a
# result takes $L$ cycles and a scheduler can start one instruction a cycle, then $L$ independent instructions must be in
# flight (Little's law). They come from other warps, or from independent instructions of the same warp. So a multiprocessor
# holds many warps at a time and switches to another one at each cycle. How many fit is limited by registers, shared
# memory, and fixed numbers of warps and blocks. The share of the hardware's largest number of warps that fits is
# the **occupancy**. For blocks of 256 threads on a card
# of compute capability 8.0:

# %%
for registers, shared in ((32, 0), (64, 0), (128, 0), (32, 16 * 1024), (32, 48 * 1024)):
    held = occupancy((8, 0), registers, shared, block=256)
    print(
        f"{registers:4d} registers a thread, {shared:6,d} bytes shared a block: {held.blocks} blocks, "
        f"occupancy {held.fraction:4.0%}, limited by {held.limited_by}"
    )


# %% [markdown]
# ## A.3 Bank conflicts in a matrix product
#
# CS179's last question on paper: a 32x128 matrix times a 128x32 one. One block of (32, 32, 1), a thread for each
# element of the result; both matrices lie in shared memory **column by column**, so that element $(i, j)$ of the left
# one is `lhs[i + 32 * j]` and of the right one `rhs[i + 128 * j]`. The loop takes two steps of $k$ at a time. Are
# there bank conflicts?

# %%
@cuda.jit
def product(left, right, out, swap):
    lhs = cuda.shared.array(32 * 128, float32)
    rhs = cuda.shared.array(128 * 32, float32)
    output = cuda.shared.array(32 * 32, float32)
    i, j = cuda.threadIdx.x, cuda.threadIdx.y
    for n in range(32 * j + i, 32 * 128, 1024):  # bring both, 1024 elements at a time
        lhs[n] = left[n]
        rhs[n] = right[n]
    if swap:  # the same program with the thread's two numbers exchanged
        i, j = j, i
    output[i + 32 * j] = 0
    cuda.syncthreads()
    for k in range(0, 128, 2):
        output[i + 32 * j] += lhs[i + 32 * k] * rhs[k + 128 * j]
        output[i + 32 * j] += lhs[i + 32 * (k + 1)] * rhs[(k + 1) + 128 * j]
    out[i + 32 * j] = output[i + 32 * j]


# %% jupyter={"source_hidden": true}
left = rng.standard_normal((32, 128)).astype(np.float32)
right = rng.standard_normal((128, 32)).astype(np.float32)


def check_product(kernel, *options):
    """Run it on the matrices column by column; check the result; report."""
    out = np.zeros(32 * 32, np.float32)
    columns = left.ravel(order="F"), right.ravel(order="F")
    report = gpu.check(kernel, 1, (32, 32, 1), *columns, out, *options)
    assert report.ok and np.allclose(out.reshape(32, 32, order="F"), left @ right, atol=1e-4)
    return report


def in_the_loop(report):
    """Shared accesses of the lines that multiply: (array, op) -> (requests, passes each)."""
    found = {}
    for a in report.accesses:
        if " * rhs" in a.source and a.space == "shared":
            requests, _ = found.get((a.array, a.op), (0, 0))
            found[a.array, a.op] = requests + a.requests, int(a.passes_per_request)
    return found


as_asked, swapped = (in_the_loop(check_product(product, swap)) for swap in (False, True))
print(f"{'':16s}{'requests':>9s}{'passes each':>13s}{'i and j exchanged':>20s}")
for (array, op), (requests, each) in as_asked.items():
    print(f"{array:8s}{op:8s}{requests:9,d}{each:13d}{swapped[array, op][1]:20d}")
assert {each for _, each in as_asked.values()} == {1}
assert swapped["rhs", "load"][1] == swapped["output", "load"][1] == 32
assert swapped["lhs", "load"][1] == 1


# %% [markdown]
# No conflicts, then: in a warp $i$ runs from 0 to 31 and $j$ is fixed, so `lhs` and `output` are read side by side,
# and of `rhs` all threads want the *same* element. Exchange $i$ and $j$, which changes no result, and `output` and
# `rhs` are read with strides 32 and 128: 32 passes each. What to look at is the stride between *neighbouring threads*,
# not between steps of the loop.
#
# The lab goes on: each `+=` must wait for the one before, through memory. How can one do with fewer accesses? Keep the sum in a
# register, of which each thread has its own:

# %%
@cuda.jit
def product_register(left, right, out):
    lhs = cuda.shared.array(32 * 128, float32)
    rhs = cuda.shared.array(128 * 32, float32)
    i, j = cuda.threadIdx.x, cuda.threadIdx.y
    for n in range(32 * j + i, 32 * 128, 1024):
        lhs[n] = left[n]
        rhs[n] = right[n]
    cuda.syncthreads()
    even, odd = float32(0), float32(0)  # two sums: neither step waits for the other
    for k in range(0, 128, 2):
        even += lhs[i + 32 * k] * rhs[k + 128 * j]
        odd += lhs[i + 32 * (k + 1)] * rhs[(k + 1) + 128 * j]
    out[i + 32 * j] = even + odd


in_register = in_the_loop(check_product(product_register))
totals = [sum(requests for requests, _ in found.values()) for found in (as_asked, in_register)]
print(f"requests to shared memory in the loop: {totals[0]:,}, with registers {totals[1]:,}")
assert totals[1] * 2 == totals[0]


# %% [markdown]
# Half of the requests are gone, and the two sums do not wait for each other. (A compiler may keep the sum in a
# register by itself. And *how much* waiting costs is a time, which only a card can tell.)
#
# ## A.4 Reductions
#
# Add up 256 numbers with 256 threads. A tree does it in eight rounds, halving each time. Which thread adds what to
# what makes three programs with one result (`step` is 1, 2, 4, ..., 128):
#
# 1. thread $t$ adds its neighbour at distance `step` if $t$ is a multiple of `2 * step`;
# 2. the same additions, done by threads side by side: thread $t$ works at place `2 * step * t`;
# 3. the lower half adds the upper half.

# %%
@cuda.jit
def tree_modulo(x, out):
    sums = cuda.shared.array(256, float32)
    t = cuda.threadIdx.x
    sums[t] = x[t]
    cuda.syncthreads()
    step = 1
    while step < 256:
        if t % (2 * step) == 0:
            sums[t] += sums[t + step]
        cuda.syncthreads()
        step *= 2
    if t == 0:
        out[0] = sums[0]


# %%
@cuda.jit
def tree_strided(x, out):
    sums = cuda.shared.array(256, float32)
    t = cuda.threadIdx.x
    sums[t] = x[t]
    cuda.syncthreads()
    step = 1
    while step < 256:
        if 2 * step * t < 256:
            sums[2 * step * t] += sums[2 * step * t + step]
        cuda.syncthreads()
        step *= 2
    if t == 0:
        out[0] = sums[0]


# %%
@cuda.jit
def tree_halves(x, out):
    sums = cuda.shared.array(256, float32)
    t = cuda.threadIdx.x
    sums[t] = x[t]
    cuda.syncthreads()
    half = 128
    while half > 0:
        if t < half:
            sums[t] += sums[t + half]
        cuda.syncthreads()
        half //= 2
    if t == 0:
        out[0] = sums[0]


# %% jupyter={"source_hidden": true}
numbers = rng.standard_normal(256).astype(np.float32)
exact = math.fsum(numbers.tolist())
trees, totals = {}, {}
print(f"{'':14s}{'warp rounds':>12s}{'passes':>8s}{'sum':>14s}{'off by':>10s}")
for kernel in (tree_modulo, tree_strided, tree_halves):
    out, name = np.zeros(1, np.float32), kernel.__name__
    trees[name] = report = gpu.check(kernel, 1, 256, numbers, out)
    assert report.ok
    adds = [a for a in report.accesses if "+=" in a.source]
    requests = adds[0].requests  # of the first of three accesses: one for each warp that works
    totals[name] = requests, round(sum(a.requests * a.passes_per_request for a in adds))
    off = abs(float(out[0]) - exact)
    assert off < 1e-4
    print(f"{name:14s}{requests:12d}{totals[name][1]:8d}{out[0]:14.7f}{off:10.0e}")
assert totals["tree_modulo"][0] == 8 * 5 + 4 + 2 + 1
assert totals["tree_strided"][0] == totals["tree_halves"][0] == 4 + 2 + 1 + 5
assert totals["tree_modulo"][1] == totals["tree_strided"][1] > 3 * 12 == totals["tree_halves"][1]

# %% [markdown]
# All three do 255 additions. In the first the working threads are spread out, so for five rounds every warp goes
# along, for a few threads each: divergence. The second has its workers side by side, and whole warps are done early;
# but now they read at strides of 2, 4, 8, ..., and the banks conflict. It takes as many passes as the first: the fault
# has only changed its name. The third has neither, until less than one warp has work, in the last five rounds. (A
# *warp round* above is one warp doing one round; *passes* are over all three accesses of `+=`.) Below, what the first
# warp reads and writes of `sums` in the third round of each tree:

# %%
for name in ("tree_modulo", "tree_strided", "tree_halves"):
    report = trees[name]
    line = next(a.line for a in report.accesses if "+=" in a.source)
    display(report.plot(line=line, warp=0, request=2))

# %% [markdown]
# The third sum may differ from the others in its last digits, since floating-point addition in another order rounds
# elsewhere. So the question to ask of a parallel sum is not whether it equals the sequential one, but how far it is
# from the exact one.
#
# ## A.5 The exercises for home

# %% tags=["nbval-ignore-output"]
studylib.check("transpose")

# %% tags=["nbval-ignore-output"]
studylib.check("reduce_sum")

# %% tags=["nbval-ignore-output"]
studylib.check("grouped_conv")
