# %% [markdown]
# # Week 6: channels that are kept, weighed, shuffled and expanded
#
# **At the end of this meeting you can**
#
# - say what a dense block keeps, what that costs in parameters and in memory, and recompute to save memory;
# - write squeeze and excitation, count it, and say what it cannot see;
# - write a channel shuffle, and say after how many layers every output depends on every input;
# - find the widest interleaved group convolution for a given number of weights;
# - say why MobileNetV2's bottlenecks are linear, and where its theorem and its sentence about it disagree;
# - fuse a shuffle or a gate into the layer next to it on a GPU, and count the traffic that disappears.
#
# Every number below is printed or asserted by a cell, unless it is marked as quoted from a paper or as seen once. Where
# a paper's printed number does not come out, the table says so.
#
# *Think first* asks before a cell answers: say your guess aloud, then open the answer. *Your turn* is a gap in your own
# copy of this notebook (`exercises/06_channel_designs/meeting.ipynb`); the cell below it checks what you wrote. A ± is
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
    os.chdir("course/weeks/06_channel_designs")

# %% tags=["parameters"]
FAST = True  # False: longer training; some minutes
SEED = 0  # the first of three seeds of every experiment
DATA = "../../data"  # the photographs and the weights that the set-up fetched

# %% jupyter={"source_hidden": true}
import copy
import math
from fractions import Fraction
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from IPython.display import Markdown, display
from numba import cuda, float32
from sklearn.datasets import load_sample_image
from torch import nn
from torch.utils.checkpoint import checkpoint

import studylib
from studylib import blocks, connectivity, course, data, gpu, kernels, ledger, nets, plots
from studylib.blocks import Split
from studylib.costs import count
from studylib.nets import efficientnet_lite
from studylib.nets.densenet import recomputing
from studylib.nets.igcv1 import InterleavedGroupConv
from studylib.nets.mobilenet_v2 import InvertedResidual
from studylib.nets.senet import SqueezeExcitation
from studylib.nets.shufflenet import CHANNELS, ShuffleUnit
from studylib.training import Summary, accuracy, fit, over_seeds

plots.use_style()
torch.set_num_threads(1)  # small networks lose more by waiting for a second core than they gain
SEEDS = (SEED, SEED + 1, SEED + 2)
rng = np.random.default_rng(SEED)

# %% [markdown]
# ## Run sheet
# Three hours; the first two end with a break. The presenter of a topic keeps its minutes; questions close each hour.

# %%
course.sheet(".")

# %% [markdown]
# # Hour 1: DenseNet and SENet
#
# ## 1.1 Keep every map
#
# A residual layer *adds* what it found to what it read. From a sum, nobody gets the two parts back. DenseNet (arXiv
# 1608.06993) adds nothing. It keeps all maps of a block side by side, and each layer reads all of them:
#
# $$x_l = H_l\big([x_0,\, x_1,\, \dots,\, x_{l-1}]\big)$$
#
# The brackets are a **concatenation** along the channels. The block begins with $k_0$ maps, and each of its $n$ layers
# makes $k$ new ones: $k$ is the **growth rate**. Since nothing is lost, the argument goes, $k$ can be small (12 in many
# of the paper's networks).

# %% jupyter={"source_hidden": true}
N_DRAWN, K0_DRAWN, K_DRAWN = 6, 6, 3
shades = [plots.GREY, *plots.COLOURS[:N_DRAWN]]
fig, ax = plt.subplots(figsize=(8, 2.9), layout="constrained")
for layer in range(1, N_DRAWN + 1):
    left = 0
    for source in range(layer):
        width = K_DRAWN if source else K0_DRAWN
        ax.barh(layer, width, left=left, color=shades[source], edgecolor="white", height=0.7)
        ax.text(left + width / 2, layer, f"$x_{source}$", ha="center", va="center", color="white", fontsize=9)
        left += width
    ax.annotate("", (left + 1.9, layer), (left + 0.3, layer), arrowprops={"arrowstyle": "-|>", "color": plots.GREY})
    ax.barh(layer, K_DRAWN, left=left + 2, color=shades[layer], edgecolor="black", lw=1.2, height=0.7)
    ax.text(left + 2 + K_DRAWN / 2, layer, f"$x_{layer}$", ha="center", va="center", color="white", fontsize=9)
ax.set(
    yticks=range(1, N_DRAWN + 1), ylabel="layer", xlabel="maps that the layer reads, and (framed) those that it makes"
)
ax.invert_yaxis()
plots.title(fig, "Each layer reads everything that was made before it, and adds a few maps")
plots.alt(
    fig,
    "Six rows, one a layer. Layer 1 reads the block's input x0 and makes x1. Each further row reads one piece more: "
    "layer 6 reads x0 to x5 and makes x6. The pieces made are all equally wide, so the rows form a staircase.",
)
plt.show()


# %% [markdown]
# Layer $l$ reads $C_l = k_0 + k\,(l - 1)$ maps. Its $H$ normalises first and convolves afterwards. A 1x1 convolution to
# $4k$ maps stands before the 3x3, so that the 3x3 reads few: the **bottleneck**, B in the networks' names.
#
# **Your turn.** The whole block as one class; its inner line is $x_l = H_l([x_0, \dots, x_{l-1}])$.
# `torch.cat(list, dim=1)` concatenates.

# %%
def new_maps(C, k):
    """The paper's H: (batch, C, height, width) to k new maps, (batch, k, height, width)."""
    reduce = nn.BatchNorm2d(C), nn.ReLU(), nn.Conv2d(C, 4 * k, 1, bias=False)  # (batch, 4k, ...)
    look = nn.BatchNorm2d(4 * k), nn.ReLU(), nn.Conv2d(4 * k, k, 3, padding=1, bias=False)
    return nn.Sequential(*reduce, *look)


class DenseBlock(nn.Module):
    """n layers: (batch, k0, height, width) to (batch, k0 + n k, height, width)."""

    def __init__(self, n, k0, k):
        super().__init__()
        self.layers = nn.ModuleList(new_maps(k0 + k * made, k) for made in range(n))

    def forward(self, x0):
        maps = [x0]
        for H in self.layers:
            # BEGIN SOLUTION, 3 minutes: make x_l of all maps so far, and keep it
            maps.append(H(torch.cat(maps, dim=1)))
            # END SOLUTION
        return torch.cat(maps, dim=1)


# %%
torch.manual_seed(SEED)
block, library = DenseBlock(3, 24, 12).double(), nets.densenet_cifar(22).features.denseblock1.double()
for mine, its in zip(block.parameters(), library.parameters(), strict=True):
    mine.data = its.data  # the library's layers return their input too, so that it goes from layer to layer
x0 = torch.randn(2, 24, 8, 8, dtype=torch.float64)
course.expect(block(x0), library(x0), within=1e-12)
print(f"{tuple(x0.shape)} -> {tuple(block(x0).shape)}, equal to the first block of studylib's DenseNet")

# %% [markdown]
# *Think first:* a 1x1 convolution $W$ reads the sum $x_0 + x_1$, as in a residual net. Which 1x1 convolution of
# $[x_0, x_1]$ gives the same? And can every 1x1 convolution of $[x_0, x_1]$ be had from the sum?
#
# <details><summary>Answer</summary>
#
# $[W, W]$, for $[W, W]\,[x_0, x_1] = W x_0 + W x_1$. So adding is concatenating with **tied weights**: a sum is the
# special case in which both parts get the same ones. The converse fails. $[W, -W]$ sees the difference of $x_0$ and
# $x_1$, and the sum does not have it. (In real blocks batch norm and ReLU stand between the join and the convolution;
# this is about the join alone.)
#
# </details>

# %%
W, a, b = (torch.randn(size, dtype=torch.float64) for size in ((5, 4, 1, 1), (2, 4, 8, 8), (2, 4, 8, 8)))
of_both = F.conv2d(torch.cat([a, b], dim=1), torch.cat([W, W], dim=1))
course.expect(of_both, F.conv2d(a + b, W), within=1e-12)


# %% [markdown]
# ## 1.2 What growth costs
#
# The price is in the reading: the later a layer, the more maps it reads. **Your turn.** Count the weights of a block
# with the bottleneck, and of one whose layers are a single 3x3 convolution from $C_l$ to $k$ maps.

# %%
def block_weights(n, k0, k, bottleneck):
    """Weights of the convolutions of n dense layers; C_l = k0 + k (l - 1)."""
    # BEGIN SOLUTION, 4 minutes: add up the layers l = 1 to n
    read = [k0 + k * (l - 1) for l in range(1, n + 1)]
    return sum(4 * k * C + 9 * 4 * k * k if bottleneck else 9 * C * k for C in read)
    # END SOLUTION


# %%
for depth, bottleneck in ((100, True), (100, False)):
    n = (depth - 4) // (6 if bottleneck else 3)  # two convolutions a layer, or one; three blocks
    with torch.device("meta"):  # shapes only
        block = nets.densenet_cifar(depth, 12, bottleneck, 1.0).features.denseblock1
    course.expect(block_weights(n, 16, 12, bottleneck), count(block, (16, 32, 32)).weights)
    weights = block_weights(n, 16, 12, bottleneck)
    print(f"DenseNet of 100 layers, {bottleneck=}: first block of {n} dense layers, {weights:,d} weights")

# %% [markdown]
# *Think first:* the bottleneck's 1x1 costs something too. Which dense layers have *more* weights with it than without?
#
# <details><summary>Answer</summary>
#
# With it a layer has $4kC + 36k^2$ weights, without it $9kC$. The first is less where $5C > 36k$, so for $C > 7.2\,k$.
# In DenseNet-BC with $k = 12$ and $k_0 = 24$ the first six layers of the first block have more weights with the
# bottleneck, and only from the seventh on it saves. The following cell checks it.
#
# </details>
#
# The second saving is the **compression**, C in the networks' names. Between two blocks a 1x1 convolution keeps the
# share $\theta = 0.5$ of the maps, rounded down, and a 2x2 average pooling halves the side. The parameters in this
# table all come out. (The errors are quoted; + stands for augmentation. In the names L is the number of layers of the
# whole net, so BC-100-12 is the net with L = 100 and k = 12.)

# %% jupyter={"source_hidden": true}
dearer = [l for l in range(1, 17) if 4 * 12 * (12 + 12 * l) + 36 * 12**2 > 9 * 12 * (12 + 12 * l)]
assert dearer == [1, 2, 3, 4, 5, 6]
DENSE = ["DenseNet L=40 k=12", "DenseNet L=100 k=12", "DenseNet L=100 k=24"]
DENSE += [f"DenseNet-BC L={sizes}" for sizes in ("100 k=12", "250 k=24", "190 k=40")]
COLUMNS = {
    "parameters": "parameters",
    "CIFAR-10+, error": "error on CIFAR-10+",
    "CIFAR-100+, error": "error on CIFAR-100+",
}
display(ledger.check("densenet").grid(DENSE, COLUMNS))

# %% jupyter={"source_hidden": true}
with torch.device("meta"):
    compared = {
        "100 layers, k = 12": nets.densenet_cifar(100, 12, False, 1.0),
        "BC, 100 layers": nets.densenet_cifar(100, 12),
    }
compared = {name: count(net, (3, 32, 32)) for name, net in compared.items()}
for name, cost in compared.items():
    print(
        f"{name:20s}{cost.params / 1e6:6.2f} M parameters {cost.macs / 1e6:6.0f} M multiply-adds "
        f"{cost.activation_bytes / 1e6:6.1f} MB of activations"
    )
plain, bc = compared.values()
print(
    f"{'times less':20s}{plain.params / bc.params:6.1f}{'':12s}{plain.macs / bc.macs:6.1f}{'':16s}"
    f"{plain.activation_bytes / bc.activation_bytes:6.1f}"
)
assert plain.params / bc.params > plain.macs / bc.macs > plain.activation_bytes / bc.activation_bytes


# %% [markdown]
# Both nets have 100 layers, but a dense layer of BC is two of them, so a block has 16 in place of 32 and makes half as
# many maps. All this together divides the parameters by more than the multiply-adds, and these by more than the
# activations (what each layer writes; concatenations are not counted). What is left is memory.
#
# ## 1.3 What keeping costs
#
# A concatenation copies. For each layer the simple program above writes *all* maps so far into a new array, and in
# training more than that is kept. The backward pass needs the inputs of the batch norms and of the convolutions:
# $C_l$ maps twice and $4k$ maps twice for each layer. (A ReLU needs its output, which is the next convolution's input.)
# Three programs, one network:
#
# - **keep**: nothing is done twice;
# - **make again**: keep only what a layer reads, and run the layer once more in the backward pass (`checkpoint`);
# - **join again**: keep only each layer's own maps, and make the concatenation again too.

# %%
def forward_pass(block, x0, how):
    """The DenseBlock's forward pass; what autograd keeps for the backward pass depends on `how`."""
    maps = [x0]
    for H in block.layers:
        if how == "keep":
            x = H(torch.cat(maps, dim=1))
        elif how == "make again":
            x = checkpoint(H, torch.cat(maps, dim=1), use_reentrant=False)
        else:  # join again
            x = checkpoint(lambda *read, H=H: H(torch.cat(read, dim=1)), *maps, use_reentrant=False)
        maps.append(x)
    return torch.cat(maps, dim=1)


# %% jupyter={"source_hidden": true}
PROGRAMS = ("keep", "make again", "join again")


def saved_bytes(net, forward):
    """Bytes of the maps that autograd saves in `forward()`, without the net's own; and the gradients."""
    saved, own = {}, {part.untyped_storage().data_ptr() for part in (*net.parameters(), *net.buffers())}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if tensor.dim() == 4 and storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes(), tensor  # held, so that no other array gets its place
        return tensor

    net.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        total = forward().sum()
    size = sum(nbytes for nbytes, _ in saved.values())
    total.backward()
    return size, [weight.grad.clone() for weight in net.parameters()]


measured = {how: {} for how in PROGRAMS}
x0 = torch.rand(1, 24, 16, 16, generator=torch.Generator().manual_seed(SEED))
for n in (2, 4, 8, 16, 32):
    torch.manual_seed(SEED)
    block, first = DenseBlock(n, 24, 12), None
    for how in PROGRAMS:
        size, gradients = saved_bytes(block, lambda block=block, how=how: forward_pass(block, x0, how))
        measured[how][n] = size / (4 * 16 * 16)  # maps of 16x16 floats
        first = first or gradients
        assert all(torch.equal(*pair) for pair in zip(first, gradients, strict=True))
print("the gradients of the three programs are equal to the last bit")


# %% [markdown]
# **Your turn.** How many maps does each of them keep for a block of $n$ layers? The cell above has measured it, to
# check your count: it asks autograd for every array that it saves, and counts each once.

# %%
def kept_maps(n, k0, k, how):
    """Maps that are kept for the backward pass of a DenseBlock."""
    C = [k0 + k * (l - 1) for l in range(1, n + 1)]  # what layer l reads
    # BEGIN SOLUTION, 4 minutes: "keep", "make again", "join again"; nobody reads the last layer's maps
    if how == "keep":
        return sum(2 * read + 8 * k for read in C)
    if how == "make again":
        return sum(C)
    return k0 + k * (n - 1)
    # END SOLUTION


# %%
for how in PROGRAMS:
    course.expect([kept_maps(n, 24, 12, how) for n in measured[how]], list(measured[how].values()))
    print(f"{how:10s}", ", ".join(f"{n} layers: {maps:5.0f} maps" for n, maps in measured[how].items()))

# %% jupyter={"source_hidden": true}
fig, ax = plt.subplots(figsize=(7.5, 3.2), layout="constrained")
for how, colour, marker in zip(PROGRAMS, (plots.RED, plots.ORANGE, plots.BLUE), "osD"):
    layers = list(measured[how])
    ax.plot(layers, list(measured[how].values()), marker=marker, color=colour)
    ax.annotate(
        how, (layers[-1], measured[how][layers[-1]]), (6, 0), textcoords="offset points", color=colour, va="center"
    )
ax.set(xscale="log", yscale="log", xlabel="dense layers in the block (k = 12, 24 maps at its start)", xlim=(1.8, 50))
ax.set_ylabel("maps kept, for each image")
ax.set_xticks(layers, layers)
ax.minorticks_off()
plots.title(fig, "“Join again” keeps each map once; the other programs keep copies of it")
plots.alt(
    fig,
    "Maps kept against dense layers, both logarithmic. Keep: 312 maps for 2 layers, over 16,000 for 32. Make again is "
    "below it, and rises more steeply at the end. Join again rises to about 400.",
)
plt.show()
grown = [measured[how][32] / measured[how][16] for how in PROGRAMS]
assert min(grown[:2]) > 3 and grown[2] < 2 and grown[1] > grown[0]

# %% [markdown]
# From 16 to 32 layers the maps grow more than threefold with *keep* and *make again*, and less than twofold with *join
# again*. The price of both savings is a second forward pass. (In it batch norm updates its running statistics once
# more.)
#
# Two READMEs, *quoted* here, name the memory and the time of a training step on a card. The authors' own trains
# BC-100-12 (optMemory 0 to 4 are settings of their program); the other says only that its DenseNet-BC has 100 layers.
# Below them stands what autograd keeps in BC-100-12, counted here.

# %% jupyter={"source_hidden": true}
MEASURES = {"memory on the card": "GPU memory in training", "time of a step": "time of a training step"}
lua = {f"optMemory {level}": f"DenseNet-BC L=100 k=12, optMemory {level}" for level in range(5)}
display(ledger.check("densenet", where="README of liuzhuang13/DenseNet, models").grid(lua, MEASURES))
pytorch = ledger.check("densenet", where="README of gpleiss/efficient_densenet_pytorch")
display(pytorch.grid(["naive", "efficient"], MEASURES))
torch.manual_seed(SEED)
net, images = nets.densenet_cifar(100, 12), torch.rand(2, 3, 32, 32)
whole, before = saved_bytes(net, lambda: net(images))
less, after = saved_bytes(recomputing(net), lambda: net(images))
assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
print(f"autograd keeps, for an image of 32x32: {whole / 2e6:.1f} MB; layers made again: {less / 2e6:.1f} MB")
print(f"times less: {whole / less:.2f}; by the quoted memory: {5453 / 1655:.2f} and {2.863 / 1.605:.2f}")
print(f"times longer, by the quoted steps: {0.175 / 0.153:.2f} and {0.207 / 0.165:.2f}")

# %% [markdown]
# The quotients need not agree: the two authors' programs and ours save different things, and a card holds weights,
# gradients and work space too. In all of them memory falls. By the quoted steps that takes a seventh to a quarter more
# time.
#
# ## 1.4 Experiment: who reads whom?
#
# The argument for keeping all maps is that later layers use them. Do they? We train a block of six layers on the
# digits, cut *one* connection at a time, and count what it costs on the test images. A cut connection gives the reader
# the source's mean over the training images. *Vote first:* do far connections matter as much as near ones?

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
N, K0, K = 6, 8, 4
digits = data.digits(seed=SEED)


def dense_digits():
    """A small DenseNet for 8x8 digits: stem, pooling, one block, classifier."""
    stem = nn.Conv2d(1, K0, 3, padding=1, bias=False), nn.MaxPool2d(2)
    head = nn.BatchNorm2d(K0 + N * K), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(K0 + N * K, 10)
    return nn.Sequential(nn.Sequential(*stem), DenseBlock(N, K0, K), nn.Sequential(*head))


def with_cut(net, x, means, reader, source):
    """The net's outputs for x where `reader` (N: the classifier) gets the mean of `source`'s maps."""
    stem, block, head = net
    maps = [stem(x)]
    for number in range(N + 1):
        read = [means[s].expand_as(m) if (number, s) == (reader, source) else m for s, m in enumerate(maps)]
        joined = torch.cat(read, dim=1)
        if number < N:
            maps.append(block.layers[number](joined))
    return head(joined), maps


lost, weights, right = [], [], []  # one matrix a seed: (reader, source)
for seed in SEEDS:
    torch.manual_seed(seed)
    net = dense_digits()
    fit(net, digits, epochs=6 if FAST else 60, lr=0.1, batch_size=64, seed=seed, evaluate=False, show=not FAST)
    net.eval()
    with torch.no_grad():
        means = [maps.mean((0, 2, 3), keepdim=True) for maps in with_cut(net, digits.train_x, None, None, None)[1]]
        right.append(100 * accuracy(net, digits.test_x, digits.test_y))
        cost, size = np.full((2, N + 1, N + 1), np.nan)
        for reader in range(N + 1):
            for source in range(reader + 1):
                out, _ = with_cut(net, digits.test_x, means, reader, source)
                cost[reader, source] = right[-1] - 100 * (out.argmax(1) == digits.test_y).double().mean()
                of = slice(source and K0 + K * (source - 1), K0 + K * source)
                layer = net[2][-1] if reader == N else net[1].layers[reader][2]
                size[reader, source] = layer.weight.detach()[:, of].abs().mean()
        lost.append(cost), weights.append(size)
print(f"test accuracy with all connections {Summary(tuple(right), '%')}")

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(6.4, 3.7), layout="constrained")
mean_lost = np.mean(lost, axis=0)
picture = ax.imshow(mean_lost, cmap="cividis", vmin=0, aspect="auto")
for reader, source in product(range(N + 1), repeat=2):
    if source <= reader:
        value = mean_lost[reader, source]
        colour = "black" if value > np.nanmax(mean_lost) / 2 else "white"
        ax.text(source, reader, round(value), ha="center", va="center", color=colour)
ax.set(xlabel="source whose maps are cut off", ylabel="reader")
ax.set_xticks(range(N + 1), [f"$x_{source}$" for source in range(N + 1)])
ax.set_yticks(range(N + 1), [*(f"layer {layer}" for layer in range(1, N + 1)), "classifier"])
fig.colorbar(picture, label="points of test accuracy lost")
plots.title(fig, "A far connection costs little when cut; near ones cost more on average")
plots.alt(
    fig,
    "A triangle of numbers: rows are readers, columns are sources. On the diagonal and in the upper rows most "
    "accuracy is lost, in the lower left corner next to none.",
)
plt.show()

# %% jupyter={"source_hidden": true}
distance = np.subtract.outer(np.arange(N + 1), np.arange(N + 1))  # 0: the maps just made
near = distance == 0
near[0] = False  # layer 1 has no other source
for matrix in lost:
    assert matrix[near].mean() > 2 * matrix[distance >= 3].mean()
print(
    "in every seed, layer 1 left out, a cut next to the reader costs on average over twice what one of three or more "
    "layers back costs"
)
related = [np.corrcoef(w[:N][distance[:N] >= 0], cut[:N][distance[:N] >= 0])[0, 1] for w, cut in zip(weights, lost)]
assert min(related) > 0.3
print("and where the 1x1's weights are large on average, a cut costs more: correlation above 0.3 in every seed")

# %% [markdown]
# What this shows: in this small net most far connections can be cut at little cost, one at a time. But only late
# readers have far sources, and in the stored run an early reader loses much whichever source is cut. So part of the
# difference between near and far is one between early and late: compare the numbers within a row. Nor does the picture
# show that a net trained without them would be as good, or that two of them could be cut together, since several
# sources may hold the same. Week 8's CondenseNet removes such connections while it trains.
#
# ## 1.5 Weigh the channels: squeeze and excitation
#
# A convolution's weights are the same for each image, and its window is small. Whether a channel matters in *this*
# image, it cannot know. SENet (arXiv 1709.01507, winner of ImageNet 2017) lets the whole image say how much each
# channel counts. With $u_c$ for channel $c$ of the maps, $C$ channels of $h \times w$ pixels:
#
# $$z_c = \frac{1}{h w} \sum_{i,j} u_c(i, j) \qquad \text{(squeeze)}$$
#
# $$s = \sigma\big(W_2\; \mathrm{ReLU}(W_1 z)\big) \qquad \text{(excitation)}$$
#
# and each channel is multiplied by its own $s_c$. $W_1$ has $C/r$ rows and $W_2$ has $C$; $r$ is the **reduction**, 16
# by default. $\sigma$ is the logistic function, so every $s_c$ lies between 0 and 1.

# %% jupyter={"source_hidden": true}
excitation = ["squeeze:\naverage pool -> C", r"$W_1$, ReLU -> C/r", r"$W_2$, $\sigma$ -> C"]
branch = ["1x1, 3x3, 1x1:\nhxwxC", Split(excitation, [], join="scale each channel: hxwxC")]
blocks.draw(
    {"A bottleneck of SE-ResNet-50": [Split(branch, [], join="+, then relu")]},
    "The whole map decides how much each of its channels counts",
)


# %% [markdown]
# **Your turn.** The two formulas.

# %%
class SqueezeExcite(nn.Module):
    """u: (batch, C, h, w) to the same shape, each channel times a number of its own."""

    def __init__(self, C, r=16):
        super().__init__()
        self.W1, self.W2 = nn.Linear(C, C // r, bias=False), nn.Linear(C // r, C, bias=False)

    def gates(self, u):
        """s: (batch, C). self.W1(z) multiplies each row of z: (batch, C) by the matrix."""
        # BEGIN SOLUTION, 3 minutes: squeeze, then excite; torch.relu, torch.sigmoid
        z = u.mean(dim=(2, 3))
        return torch.sigmoid(self.W2(torch.relu(self.W1(z))))
        # END SOLUTION

    def forward(self, u):
        return u * self.gates(u)[:, :, None, None]


# %%
torch.manual_seed(SEED)
mine, library = SqueezeExcite(32, 4).double(), SqueezeExcitation(32, 4).double()
for weight, its in zip(mine.parameters(), library.parameters(), strict=True):
    weight.data = its.data
u = torch.randn(2, 32, 6, 6, dtype=torch.float64)
course.expect(mine.gates(u), library.gates(u), within=1e-12)

# %% [markdown]
# *Think first:* all pixels of a photograph change places, in each channel in the same way. What happens to $s$? And
# what does the block compute if $W_2 = 0$?

# %% jupyter={"source_hidden": true}
photograph = torch.from_numpy(load_sample_image("china.jpg")[::8, ::8] / 255).permute(2, 0, 1)[None]
order = torch.randperm(photograph[0, 0].numel(), generator=torch.Generator().manual_seed(SEED))
mixed = photograph.flatten(2)[:, :, order].view_as(photograph)
of_colours = SqueezeExcite(3, 1).double()
s_before, s_after = of_colours.gates(photograph)[0].tolist(), of_colours.gates(mixed)[0].tolist()
course.expect(s_after, s_before, within=1e-12)
nn.init.zeros_(mine.W2.weight)
course.expect(mine(u), u / 2)
says = ", ".join(f"{value:.3f}" for value in s_before)
names = ["china.jpg of scikit-learn", "the same pixels, mixed"]
pictures = [part[0].permute(1, 2, 0).numpy() for part in (photograph, mixed)]
fig = plots.images(pictures, [f"{name}\ns = {says}" for name in names], "The excitation does not see where anything is")
plots.alt(fig, "A photograph of a Chinese temple, and the same pixels mixed to noise. Both have the same three gates.")
fig

# %% [markdown]
# <details><summary>Answer</summary>
#
# Nothing happens to $s$: a mean does not know the order. So the excitation knows *how much* of a channel there is, and
# not *where*. The convolutions before it do see places, and therefore mixing the *input* of a network does change its
# excitations. With $W_2 = 0$ every gate is $\sigma(0) = 1/2$, and the block halves its input.
#
# </details>
#
# ## 1.6 What it costs, and three baselines
#
# **Your turn.** Each block of ResNet-50 gets an excitation for its stage's channels. How many weights do all of them
# have?

# %%
STAGES = ((3, 256), (4, 512), (6, 1024), (3, 2048))  # blocks and channels (Table 1)


def excitation_weights(stages, r=16):
    """Weights of all W1 and W2; stages: (blocks, channels) each."""
    # BEGIN SOLUTION, 2 minutes: two matrices for each block
    return sum(2 * blocks * channels * (channels // r) for blocks, channels in stages)
    # END SOLUTION


# %%
with torch.device("meta"):
    without, with_se = count(nets.resnet50("1x1")), count(nets.se_resnet50())
course.expect(excitation_weights(STAGES), with_se.params - without.params)
print(
    f"{with_se.params - without.params:,d} weights more, {with_se.params / without.params - 1:.1%} of ResNet-50's parameters"
)

# %% [markdown]
# *Think first:* a tenth more parameters. How many more multiply-adds?

# %% jupyter={"source_hidden": true}
print(
    f"{with_se.macs - without.macs:,d} multiply-adds, {(with_se.macs - without.macs) / without.macs:.3%} of ResNet-50's"
)
assert with_se.macs - without.macs == excitation_weights(STAGES)
scaling = sum(blocks * channels * side**2 for (blocks, channels), side in zip(STAGES, (56, 28, 14, 7)))
print(f"with one for each number that a gate scales: {(with_se.macs - without.macs + scaling) / without.macs:.2%}")
SHOW = ["from the printed 3.86G", "of its linear layers", "multiply-adds without squeeze"]
display(ledger.check("senet", show=SHOW))

# %% [markdown]
# <details><summary>Answer</summary>
#
# In the linear layers less than a thousandth: after the squeeze there is one number for each channel, so each weight is
# used once for an image, not once for a pixel. Scaling the maps takes more than that. The paper's 0.26 % is the
# difference of two rounded numbers, 3.87 G and 3.86 G, divided by the second. Without the squeeze (Table 16) the same
# weights work at each pixel, and the error is higher (quoted: 22.93 % in place of 22.28 %).
#
# </details>
#
# **One paper, three ResNet-50s.** The paper trains its baseline in three ways, and each table belongs to one of them.

# %% jupyter={"source_hidden": true}
PROTOCOLS = {
    "Table 2": ("Table 2", "ResNet-50, re-implemented, top-1 error", "ResNet-50, with SE, top-1 error"),
    "Tables 10 to 16, longer": ("Table 10", "ResNet-50, top-1", "SE-ResNet-50, r = 16, top-1"),
    "Footnote 2, 270 epochs": ("Footnote 2", "ResNet-50 on a fixed", "SE-ResNet-50 on a fixed"),
}
errors = {}
for name, (where, *starts) in PROTOCOLS.items():
    rows = ledger.check("senet", where=where).rows
    printed = [next(row.printed for row in rows if row.what.startswith(start)) for start in starts]
    errors[name] = [float(text.split("%")[0]) for text in printed]
fig, ax = plt.subplots(figsize=(7.5, 2.3), layout="constrained")
for row, (base, se) in enumerate(errors.values()):
    ax.plot([se, base], [row, row], color=plots.GREY, lw=2, zorder=1)
    ax.plot(base, row, "o", color=plots.RED, ms=9)
    ax.plot(se, row, "D", color=plots.BLUE, ms=8)
    ax.text(base + 0.06, row, f"{base:.2f}", va="center", color=plots.RED)
    ax.text(se - 0.06, row, f"{se:.2f}", va="center", ha="right", color=plots.BLUE)
    ax.text((base + se) / 2, row - 0.12, f"{base - se:.2f}", ha="center", va="bottom", fontsize=9)
ax.set_yticks(range(3), list(errors))
ax.set(
    xlabel="top-1 error on ImageNet, %, quoted; circle: ResNet-50, diamond: SE-ResNet-50",
    ylim=(2.5, -0.6),
    xlim=(21.7, 25.1),
)
plots.title(fig, "Within a protocol SE gains 1.0 to 1.5 points; across protocols -0.1 to 2.6")
plots.alt(
    fig, "; ".join(f"{name}: ResNet-50 {base:.2f} %, SE-ResNet-50 {se:.2f} %" for name, (base, se) in errors.items())
)
plt.show()
for (name, (base, _)), (other, (_, se)) in product(errors.items(), repeat=2):
    print(f"baseline of {name:24s} SE of {other:24s} gain {base - se:5.2f}" + ("" if name == other else "  (mixed)"))
assert all(base - se > 1 for base, se in errors.values())


# %% [markdown]
# Whoever takes Table 2's SE (23.29) and the longer schedule's baseline (23.30) finds no gain at all. Table 2's baseline
# and the footnote's SE give 2.60 points, where their own protocols give 1.51 and 1.01. *Before you quote a gain, ask
# for both protocols.*
#
# ## 1.7 Where the whole image is needed
#
# First a task that is made for an excitation. The digits are lit with a quarter, a half, three quarters or all of the
# light, and the net marks each pixel that is brighter than *its image's mean*. The net has 1x1 convolutions only: it
# gives all pixels of one value the same answer, in whichever image they are. So its accuracy has an upper bound.
#
# **Your turn.** Compute the bound: the largest share of right answers of any rule that sees only a pixel's value.

# %%
def best_by_value(values, answers):
    """values: (n,) numbers, answers: (n,) True or False -> the largest share that any rule of the value gets right."""
    right = 0
    for value in np.unique(values):
        of_value = answers[values == value]
        # BEGIN SOLUTION, 3 minutes: the rule says the same for all of them; how many of them can be right?
        right += max(of_value.sum(), (~of_value).sum())
        # END SOLUTION
    return right / len(values)


# %%
course.expect(best_by_value(np.array([0, 0, 0, 1, 1]), np.array([True, True, False, False, False])), 0.8)
shade = torch.Generator().manual_seed(SEED)


def lit(x):
    """The images in one of four kinds of light each; and for each pixel 1.0 if it is brighter than its image's mean."""
    x = x * torch.randint(1, 5, (len(x), 1, 1, 1), generator=shade) / 4
    return x, (x > x.mean(dim=(2, 3), keepdim=True)).float()


lighted = data.Dataset(*lit(digits.train_x), *lit(digits.test_x))
most = 100 * best_by_value(lighted.test_x.numpy().ravel(), lighted.test_y.numpy().ravel() > 0)
print(f"no rule that sees one pixel is right on more than {most:.1f} % of the test pixels")


# %% [markdown]
# *Vote first:* 32 channels, three 1x1 convolutions, and behind the first of them an excitation or none. How many pixels
# are right?

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
def pixel_net(excite):
    """Three 1x1 convolutions, an excitation behind the first or none: (batch, 1, ...) to a logit for each pixel."""
    first = nn.Conv2d(1, 32, 1), nn.BatchNorm2d(32), nn.ReLU(), *([SqueezeExcite(32, 2)] if excite else [])
    return nn.Sequential(*first, nn.Conv2d(32, 32, 1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 1, 1))


def pixel_loss(net, x, y):
    """Cross-entropy of each pixel's answer, averaged."""
    return F.binary_cross_entropy_with_logits(net(x), y)


pixels_right = {"1x1 convolutions": [], "the same with an excitation": []}
options = {"epochs": 4 if FAST else 60, "lr": 0.01, "batch_size": 32, "optimizer": "adam", "loss": pixel_loss}
for (name, values), excite in zip(pixels_right.items(), (False, True)):
    for seed in SEEDS:
        torch.manual_seed(seed)
        net = pixel_net(excite)
        fit(net, lighted, **options, seed=seed, evaluate=False, show=not FAST)
        net.eval()  # batch norm with fixed numbers, so that it sees one pixel too
        with torch.no_grad():
            hit = (net(lighted.test_x) > 0) == (lighted.test_y > 0)
        values.append(100 * hit.double().mean().item())
    print(f"{name:28s}{Summary(tuple(values), '%')} of the pixels right")
fig = plots.seeds(
    pixels_right,
    "An excitation gets past what one pixel can tell",
    "test pixels right, %; dashed: the most for a rule of one pixel",
)
fig.axes[0].axvline(most, color=plots.GREY, ls="--")
fig

# %% jupyter={"source_hidden": true}
assert max(pixels_right["1x1 convolutions"]) <= most < min(pixels_right["the same with an excitation"])
print("in every seed: at most the bound without an excitation, above it with one")


# %% [markdown]
# What this shows: on a task made for them, the gates carry something about the whole image to each pixel. What it does
# not show: that only gates can. Any layer that hands a pixel its image's mean would do.
#
# ## 1.8 Experiment: does it help on digits?
#
# Now the plain digits: two separable convolutions, with and without excitation, and a plain net that is a little
# *wider*, with about as many parameters as the one with excitation. *Vote first:* who wins? And one more question: we
# replace each gate by its mean over the training images. What does the trained net lose?

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
def separable_digits(width, excite):
    """Two blocks of depthwise 3x3 and 1x1 for 8x8 digits, each with an excitation (r = 4) or none."""
    layers = [nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
    for _ in range(2):
        layers += [nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)]
        layers += [nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width)]
        layers += [SqueezeExcite(width, 4)] if excite else []
        layers += [nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def fixed_gates(net, x):
    """The net with each gate replaced by its mean over the images x; and all gates, one (n, C) a block."""
    gates = []
    with torch.no_grad():
        for layer in net:
            if isinstance(layer, SqueezeExcite):
                gates.append(layer.gates(x))
            x = layer(x)
    net = copy.deepcopy(net)
    for layer, s in zip((layer for layer in net if isinstance(layer, SqueezeExcite)), gates):
        mean = s.mean(0)
        layer.gates = lambda u, mean=mean: mean.expand(len(u), -1)
    return net, gates


designs = {"plain, 24 channels": (24, False), "excited, 24 channels": (24, True), "plain, 28 channels": (28, False)}
wrong, spread = {name: [] for name in [*designs, "excited, gates fixed afterwards"]}, []
for name, design in designs.items():
    for seed in SEEDS:
        torch.manual_seed(seed)
        net = separable_digits(*design)
        fit(net, digits, epochs=10 if FAST else 60, lr=0.1, batch_size=64, seed=seed, evaluate=False, show=not FAST)
        wrong[name].append(100 - 100 * accuracy(net, digits.test_x, digits.test_y))
        if design[1]:
            fixed, gates = fixed_gates(net.eval(), digits.train_x)
            wrong["excited, gates fixed afterwards"].append(100 - 100 * accuracy(fixed, digits.test_x, digits.test_y))
            spread.append([s.std(0).mean().item() for s in gates])
    parameters = sum(weight.numel() for weight in net.parameters())
    print(f"{name:32s}{parameters:6,d} parameters, test error {Summary(tuple(wrong[name]), '%')}")
name = "excited, gates fixed afterwards"
print(f"{name:32s}{'':18s}test error {Summary(tuple(wrong[name]), '%')}")
print("how far a gate moves from image to image (standard deviation), by block:", np.mean(spread, axis=0).round(3))
plots.seeds(wrong, "On digits the three designs lie within two points of each other", "test error, % (chance: 90)")

# %% jupyter={"source_hidden": true}
averages = {name: np.mean(values) for name, values in wrong.items()}
assert max(averages[name] for name in designs) - min(averages[name] for name in designs) < 2
one = 100 / len(digits.test_y)
print(f"the three designs' mean errors lie within 2 points; one image of {len(digits.test_y)} is {one:.1f} points")

# %% [markdown]
# In the stored run the net loses less than a point when its gates are fixed at their means, although the gates of its
# second block move from image to image.
#
# What this shows: nothing for or against SENet. All three designs are wrong on a few images of 450, and the differences
# are of the size of what seeds do. The task is too easy: one seed could have told either story. What it does not show
# is that an excitation is useless. The paper gains 1.0 to 1.5 points on ImageNet, where its baselines leave 23 to 25 %
# wrong.
#
# ## Questions for hour 1
#
# 1. (★★★) BC-100-12 has a ninth of the parameters of the plain 100-12. Why does a phone care less about that
#    than about the activations?
# 2. (★★) A dense layer's 1x1 convolution reads $[x_0, \dots, x_{l-1}]$. How could a program compute it without any
#    concatenation, and what would it write instead?
# 3. (★★) Could the trained gates be folded into the weights before the net is shipped? When?
# 4. (★) Which of week 2's arguments about a sum $f(x_1) + h(x_2)$ does a gate break?
#
# <details><summary>Answers for the facilitator</summary>
#
# 1. Because the activations are most of what it moves: by section 1.2 40 MB for each image, against 0.77 million
#    weights of 4 bytes, 3 MB. And those 40 MB are only 2.9 times less than before.
# 2. As a sum: $W = [W_0, \dots, W_{l-1}]$, so $\sum_s W_s x_s$. Each source is read where it lies. A kernel would take
#    a list of addresses; it writes only the $4k$ maps. (Batch norm and ReLU are applied while reading.)
# 3. Where they hardly depend on the image: then $s_c$ is a constant, and the scale and the shift of channel $c$ in the
#    batch norm before it can be multiplied by it. The last row of our experiment is that net. Gates that do move cannot
#    be folded.
# 4. That features of one image never *multiply* features of the other. $s_c\, u_c$ is a product, so a gate computed
#    from one half could scale the other half.
#
# </details>

# %% [markdown]
# # Hour 2: ShuffleNet, interleaved groups, MobileNetV2
#
# ## 2.1 ShuffleNet: the 1x1 convolutions are the dear ones
#
# Week 2's ResNeXt puts its 3x3 convolution into 32 groups. Where is the rest of its work? For $h \times w$ pixels, a
# block with $c$ channels outside and $m$ inside takes this many multiply-adds:
#
# $$\begin{aligned}
# \text{ResNet:} \quad & h\,w\,(2\,c\,m + 9\,m^2) \\
# \text{ResNeXt, } g \text{ groups:} \quad & h\,w\,(2\,c\,m + 9\,m^2 / g)
# \end{aligned}$$
#
# *Think first:* ResNeXt's first blocks have $c = 256$, $m = 128$ and $g = 32$. What share of their work do the two 1x1
# convolutions take?
#
# <details><summary>Answer</summary>
#
# 93 %: 65,536 of 70,144 multiply-adds a pixel. Groups in the 3x3 have saved nearly all that they can save there.
#
# </details>
#
# ShuffleNet (arXiv 1707.01083) is made for phones. It groups the 1x1 convolutions too, and its 3x3 is depthwise. But
# two grouped layers in a row never mix their groups (week 2), so a **channel shuffle** stands between them.

# %% jupyter={"source_hidden": true}
pointwise, middle = 2 * 256 * 128, 9 * 128**2 // 32
assert (pointwise, pointwise + middle) == (65_536, 70_144) and f"{pointwise / (pointwise + middle):.0%}" == "93%"
UNITS = {
    "ResNeXt": [Split(["1x1", "3x3, 32 groups", "1x1"], [], join="+, then relu")],
    "ShuffleNet": [Split(["1x1, g groups", "shuffle", "3x3 depthwise", "1x1, g groups"], [], join="+, then relu")],
    "ShuffleNet, stride 2": [
        Split(
            ["1x1, g groups", "shuffle", "3x3 depthwise,\nstride 2", "1x1, g groups"],
            ["average pooling,\n3x3, stride 2"],
            join="concatenate, then relu",
        ),
    ],
}
blocks.draw(UNITS, "ShuffleNet groups both 1x1 convolutions; a shuffle mixes the groups")


# %% [markdown]
# **Your turn.** Write the multiply-adds of ShuffleNet's unit (in the middle of the picture).

# %%
def unit_macs(h, w, c, m, g):
    """Multiply-adds of ShuffleNet's unit at stride 1; the shuffle and the sum take none."""
    # BEGIN SOLUTION, 2 minutes: two 1x1 convolutions in g groups, and a 3x3 depthwise one
    return h * w * (2 * c * m // g + 9 * m)
    # END SOLUTION


# %%
for g, c in ((1, 144), (2, 200), (3, 240), (8, 384)):  # stage 2 of the paper's nets
    m = c // 4
    course.expect(unit_macs(28, 28, c, m, g), count(ShuffleUnit(c, c, 1, g, g), (c, 28, 28)).macs)
    dense = 28 * 28 * (2 * c * m + 9 * m * m)
    print(f"g = {g}, {c} channels: {unit_macs(28, 28, c, m, g) / 1e6:4.1f} M, ResNet's block {dense / 1e6:5.1f} M")


# %% [markdown]
# The whole unit as a class. No ReLU stands behind the depthwise convolution:

# %%
class Unit(nn.Module):
    """ShuffleNet's unit at stride 1. x: (batch, c, h, w) -> the same shape."""

    def __init__(self, c, m, g):
        super().__init__()
        self.reduce = nn.Conv2d(c, m, 1, groups=g, bias=False)  # -> (batch, m, h, w)
        self.shuffle = nn.ChannelShuffle(g)  # the same shape
        self.depthwise = nn.Conv2d(m, m, 3, padding=1, groups=m, bias=False)  # the same shape
        self.expand = nn.Conv2d(m, c, 1, groups=g, bias=False)  # -> (batch, c, h, w)
        self.norm1, self.norm2, self.norm3 = nn.BatchNorm2d(m), nn.BatchNorm2d(m), nn.BatchNorm2d(c)

    def forward(self, x):
        y = self.shuffle(F.relu(self.norm1(self.reduce(x))))
        y = self.norm2(self.depthwise(y))
        return F.relu(x + self.norm3(self.expand(y)))


# %% jupyter={"source_hidden": true}
torch.manual_seed(SEED)
mine, library = Unit(24, 6, 3).double(), ShuffleUnit(24, 24, 1, 3, 3).double()
for name, place in {"reduce": 0, "norm1": 1, "depthwise": 4, "norm2": 5, "expand": 6, "norm3": 7}.items():
    getattr(mine, name).load_state_dict(library.branch[place].state_dict())
x = torch.randn(2, 24, 7, 7, dtype=torch.float64)
assert (mine(x) - library(x)).abs().max() < 1e-12 < mine(x).abs().max()
print(f"{tuple(x.shape)} -> {tuple(mine(x).shape)}, equal to studylib's ShuffleUnit, which also has stride 2")

# %% [markdown]
# What does one do with the work that groups save? ShuffleNet takes **more channels for the same work**: stage 2 has
# 144 of them with $g = 1$ and 384 with $g = 8$. *Think first:* the paper trains each number of groups at three sizes,
# 1x, 0.5x and 0.25x of these channels. Where do more groups help most?

# %% jupyter={"source_hidden": true}
for g in (1, 2, 3, 4, 8):
    with torch.device("meta"):
        cost = count(nets.shufflenet(g))
    print(
        f"g = {g}: stage 2 has {CHANNELS[g]} channels; "
        f"{cost.macs_no_fc / 1e6:.1f} M multiply-adds, {cost.macs / 1e6:.1f} M with the last layer"
    )
sizes = {size: f"top-1 error of {size}" for size in ("1x", "0.5x", "0.25x")}
display(ledger.check("shufflenet", where="Table 2").grid([f"g = {g}" for g in (1, 2, 3, 4, 8)], sizes))

# %% [markdown]
# <details><summary>Answer</summary>
#
# In the small nets. From $g = 1$ to $g = 8$ the error falls by 1.2 points at 1x and by 4.4 at 0.25x. But at 1x and at
# 0.5x the errors do not fall all the way: $g = 4$ is worse than 3 at 1x, and 8 is worse than 4 at 0.5x.
#
# </details>
#
# Table 1's complexities leave out the last layer. These numbers of the paper and of the authors' README do not come
# out:

# %% jupyter={"source_hidden": true}
assert f"{33.6 - 32.4:.1f} {57.1 - 52.7:.1f}" == "1.2 4.4"
surprising = ["multiply-adds, 1x, g = 3", "the row of Table 4", "times faster for four times"]
display(ledger.check("shufflenet", show=surprising))

# %% [markdown]
# ## 2.2 Interleaved groups: two layers, and everything is mixed
#
# A shuffle takes no multiply-adds, but it may take several layers until everything is mixed. Interleaved group
# convolutions (IGC, arXiv 1707.02725, the same year) make the second layer the complement of the first:
#
# - **primary**: a 3x3 convolution in $L$ groups of $M$ channels;
# - **secondary**: a 1x1 convolution in $M$ groups of $L$ channels, *one from each primary group*.
#
# Let $W^p$ and $W^d$ be these two, block-diagonal, and let the permutation $P^{\top}$ sort the channels by secondary
# group and $P$ sort them back:
#
# $$x' = P\, W^d P^{\top} W^p x$$
#
# Nothing stands between the two, no batch norm and no ReLU. (We could not get the paper itself; this is what the
# authors' program does.)

# %% jupyter={"source_hidden": true}
fig, axes = plt.subplots(1, 4, figsize=(8.4, 2.8), layout="constrained")
L_, M_ = 6, 2
primary = connectivity.grouped(L_ * M_, L_)
to_secondary = connectivity.shuffled(L_ * M_, L_)
secondary = connectivity.grouped(L_ * M_, M_)
pictures = {
    "primary $W^p$: 6 groups of 2": primary,
    "secondary $W^d$: 2 groups of 6": secondary,
    "secondary, sorted back": to_secondary.T @ secondary @ to_secondary,
    "both layers": connectivity.reach([primary, to_secondary, secondary, to_secondary.T])[-1],
}
for ax, (name, connected) in zip(axes, pictures.items()):
    ax.imshow(connected, cmap="Blues", vmin=0, vmax=1.5)
    ax.set_title(name, fontsize=9, fontweight="normal")
    ax.set(xlabel="input channel", xticks=[], yticks=[])
axes[0].set_ylabel("output channel")
assert pictures["both layers"].all()
plots.title(fig, "Sparse times sparse, and every output reads every input")
plots.alt(
    fig,
    "Four matrices of 12 channels. The primary layer has six blocks of two on its diagonal, the secondary layer two of "
    "six; permuted, the secondary layer is a grid of diagonals; the product is full.",
)
plt.show()


# %% [markdown]
# **Your turn.** Since nothing stands between the layers, they are *one* dense 3x3 convolution. Let `Q` be the matrix
# $P W^d P^\top$ and `W_p` the primary kernel, filled up with zeros. Write the kernel of the whole.

# %%
def composed_kernel(Q, W_p):
    """Q: (G, G), output by middle channel; W_p: (G, G, 3, 3), middle by input -> (G, G, 3, 3)."""
    # BEGIN SOLUTION, 3 minutes: sum over the middle channel; torch.einsum("om, ... -> oiuv", Q, W_p)
    return torch.einsum("om,miuv->oiuv", Q, W_p)
    # END SOLUTION


# %%
G, L = 48, 24
layer = InterleavedGroupConv(G, G, L).double()  # L24M2; 0 is the primary layer, 2 the secondary
W_p = torch.zeros(G, G, 3, 3).double()
for n, weights in enumerate(layer[0].weight):  # output channel n reads the two of its group
    W_p[n, n // 2 * 2 : n // 2 * 2 + 2] = weights
P = torch.from_numpy(connectivity.shuffled(G, L).T).double()
Q = P @ torch.block_diag(*layer[2].weight.reshape(2, L, L)) @ P.T
dots = torch.zeros(G, G, 3, 3).double()
dots[range(G), range(G), 1, 1] = 1  # image n has one bright pixel, in channel n: a layer answers with its kernel
kernel = composed_kernel(Q, W_p)
course.expect(kernel, layer(dots).transpose(0, 1).flip(2, 3), within=1e-12)
print(
    f"{count(layer, (G, 8, 8)).weights:,} weights make a kernel of {int((kernel != 0).sum()):,} numbers, none of them 0"
)


# %% [markdown]
# With $G = LM$ channels and $S = 9$ places in the window, the two layers have
#
# $$T = G \cdot M S + G \cdot L = G\,(MS + L)$$
#
# weights. **How wide can they be for a given $T$?** A regular convolution of $C$ channels has $T = S C^2$. Set the two
# equal: then $G > C$ exactly if $S G^2 > T$, that is $LMS > MS + L$, or $L / (L - 1) < MS$. For 3x3 windows that holds
# as soon as there are two primary groups.
#
# **Your turn.** By the inequality of the means $MS + L \ge 2\sqrt{MS \cdot L}$, and $MS \cdot L = S G$. So
# $T \ge 2 \sqrt{S}\, G^{3/2}$. Which width $G$ can a pair of $T$ weights not exceed?

# %%
def greatest_width(T, S=9):
    """No interleaved pair with T weights has more channels (a real number)."""
    # BEGIN SOLUTION, 2 minutes: solve T = 2 sqrt(S) G^(3/2) for G
    return (T / (2 * S**0.5)) ** (2 / 3)
    # END SOLUTION


# %%
course.expect(greatest_width(1296), 36, within=1e-9)  # L = 18, M = 2, where MS = L: the bound is reached
for C in (12, 16, 23):
    T, pairs = 9 * C * C, product(range(1, 400), range(1, 50))
    width, L, M = max((L * M, L, M) for L, M in pairs if L * M * (9 * M + L) <= T)
    print(
        f"{T:,} weights: regular {C} channels; interleaved {width} (L = {L}, M = {M}), at most {greatest_width(T):.1f}"
    )

# %% [markdown]
# Equality needs $L = MS$: **as many primary groups as a primary filter has weights**, so that both layers have the same
# number of weights. *Think first:* is the widest net the best?
#
# <details><summary>Answer</summary>
#
# Not quite. A review (quoted; we lack the paper's own tables) says that nets *near* the greatest width, with $M = 2$,
# are most accurate.
#
# </details>
#
# The README of the authors' program shows the paper's ImageNet table as a picture. Its multiply-adds come out; these of
# its parameters do not:

# %% jupyter={"source_hidden": true}
display(
    ledger.check("igc", show=["parameters, ResNet, C = 69", "multiply-adds, ResNet, C = 69", "parameters, IGC-L4M32"])
)


# %% [markdown]
# ## 2.3 What depends on what
#
# We can now ask of any stack of layers which outputs depend on which inputs. A layer is a matrix of zeros and ones,
# output by input. **Your turn.** What does the next layer's output depend on? (Week 7 asks it again, of random graphs.)

# %%
def one_more(layer, reached):
    """layer: (outputs, channels), reached: (channels, inputs), both bool -> bool (outputs, inputs)."""
    # BEGIN SOLUTION, 2 minutes: a path leads through some channel; a product counts such paths
    return layer.astype(int) @ reached.astype(int) > 0
    # END SOLUTION


# %%
grouped, shuffled, reach = connectivity.grouped, connectivity.shuffled, connectivity.reach
stack = [grouped(64, 16), shuffled(64, 16), grouped(64, 16)]
reached = np.eye(64, dtype=bool)
for layer in stack:
    reached = one_more(layer, reached)
course.expect(reached, reach(stack)[-1])
net = nn.Sequential(nn.Conv2d(64, 64, 1, groups=16), nn.ChannelShuffle(16), nn.Conv2d(64, 64, 1, groups=16))
gradient = torch.autograd.functional.jacobian(lambda x: net(x[None, :, None, None]).flatten(), torch.randn(64))
course.expect(reached, gradient.numpy() != 0)  # the matrix says what a real net's gradient says
print(f"16 groups of 4, two layers: {reached.mean():.1%} of all pairs are connected")

# %% [markdown]
# *Think first:* 64 channels in 32 groups of 2, a shuffle behind each layer. After how many layers does every output
# depend on every input?
#
# <details><summary>Answer</summary>
#
# Six. Each layer multiplies the number of inputs that a channel depends on by the channels per group, $c/g$, at most.
# So $d$ layers need $(c/g)^d \ge c$: here $2^6 = 64$. With 8 groups of 8 it is two layers. The picture shows that so
# many are enough.
#
# </details>

# %% jupyter={"source_hidden": true}
LAYERS = range(1, 8)
designs = {"dense": ([grouped(64, 1)], "k", "s")}
designs["interleaved, L = 32, M = 2"] = (
    [grouped(64, 32), shuffled(64, 32), grouped(64, 2), shuffled(64, 2)],
    plots.GREEN,
    "D",
)
for groups, colour, marker in ((8, plots.BLUE, "o"), (16, plots.SKY, "v"), (32, plots.PURPLE, "^")):
    designs[f"{groups} groups, shuffled"] = ([grouped(64, groups), shuffled(64, groups)], colour, marker)
designs["8 groups, no shuffle"] = ([grouped(64, 8)], plots.RED, "x")
fig, ax = plt.subplots(figsize=(7.6, 3.5), layout="constrained")
full_after = {}
for name, (layers, colour, marker) in designs.items():
    convolutions = [n for n, layer in enumerate(layers * 7) if layer.sum() > 64][:7]  # a shuffle is no layer
    after = reach(layers * 7)
    shares = [100 * after[n].mean() for n in convolutions]
    full_after[name] = next((d for d, share in zip(LAYERS, shares) if share == 100), None)
    ax.plot(LAYERS, shares, marker=marker, color=colour, label=name)
ax.set(
    xlabel="convolutions (a shuffle is not counted)",
    ylabel="pairs (output, input)\nthat are connected, %",
    ylim=(0, 104),
)
ax.legend(loc="lower right", fontsize=8, bbox_to_anchor=(1, 0.1))
plots.title(fig, "64 channels: interleaved groups connect all in two, the shuffle of 32 groups in six")
plots.alt(
    fig,
    "Share of connected pairs of 64 channels after 1 to 7 convolutions. Dense: all after one. Interleaved, and 8 groups "
    "shuffled: after two. 16 groups shuffled: three. 32 groups: six, doubling each time. 8 groups without shuffle: 12.5 % for ever.",
)
plt.show()
for name, (layers, *_) in designs.items():
    if full_after[name]:
        used = [layer for layer in layers * 7 if layer.sum() > 64][: full_after[name]]
        print(f"{name:26s} all pairs after {len(used)}, with {sum(int(m.sum()) for m in used):,d} weights as 1x1")
assert list(full_after.values()) == [1, 2, 2, 3, 6, None]

# %% [markdown]
# Two layers are enough for the interleaved pair and for 8 shuffled groups. As 1x1 layers the shuffled groups have fewer
# than half the weights of the pair. Finer groups need more layers, and 32 groups save nothing against 16.
#
# ## 2.4 Experiment: does a shuffle matter when the stem mixes?
#
# Week 2 proved that two groups which never mix cannot say whether two digits are the same: they compute a sum of two
# functions, which is right in at most 75 % of the cases. But ShuffleNet's first layer, its **stem**, is a full 3x3
# convolution: every group sees all input channels from the start. So the stem is our control. Four nets have the same
# two ShuffleNet units in two groups; their stem is grouped or full, their units have the shuffle or not. *Start the
# next two cells, and vote while they run:* which of the four fail?

# %%
PAIRS, EPOCHS, WIDTH = (3000, 8, 32) if FAST else (12_000, 20, 64)


def two_unit_net(stem_groups, shuffled):
    """Pairs of 8x8 digits (batch, 2, 8, 8) -> logits (batch, 2)."""
    stem = nn.Conv2d(2, WIDTH, 3, 2, 1, groups=stem_groups, bias=False)  # -> (batch, WIDTH, 4, 4)
    units = Unit(WIDTH, WIDTH // 4, 2), Unit(WIDTH, WIDTH // 4, 2)
    for unit in units:
        unit.shuffle = unit.shuffle if shuffled else nn.Identity()
    return nn.Sequential(stem, nn.BatchNorm2d(WIDTH), nn.ReLU(), *units, nn.Flatten(), nn.Linear(16 * WIDTH, 2))


# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
pairs_of = {seed: data.same_different(PAIRS, 1000, seed) for seed in SEEDS}
results = {}
for stem_groups, stem in ((2, "grouped stem"), (1, "full stem")):
    for mixes, between in ((False, "no shuffle"), (True, "shuffle")):

        def run(seed, stem_groups=stem_groups, mixes=mixes):
            net = two_unit_net(stem_groups, mixes)
            options = {"optimizer": "adam", "batch_size": 128, "evaluate": False, "show": not FAST}
            fit(net, pairs_of[seed], epochs=EPOCHS, lr=5e-3, seed=seed, **options)
            return 100 * accuracy(net, pairs_of[seed].test_x, pairs_of[seed].test_y)

        results[f"{stem}, {between}"] = over_seeds(run, SEEDS, "%")
for name, summary in results.items():
    print(f"{name:24s} test accuracy {summary}")
plots.seeds(
    {name: summary.values for name, summary in results.items()},
    "Only the net that mixes nowhere fails",
    "test accuracy, % (chance: 50, the most for a sum: 75)",
)

# %% jupyter={"source_hidden": true}
assert max(results["grouped stem, no shuffle"].values) < 65
for name in list(results)[1:]:
    assert min(results[name].values) > 75  # the most for a sum
assert abs(results["full stem, shuffle"].mean - results["full stem, no shuffle"].mean) < 4
print("in every seed: mixed nowhere, under 65 %; a shuffle, a full stem or both, over 75 %, the most for a sum")

# %% [markdown]
# What this shows: one place that mixes, the stem or the shuffle, is enough to get past the 75 %. So what week 2 proved
# (such a net *cannot express* the answer) is not why ShuffleNet needs its shuffle. All nets of the paper's Table 3 have
# a full stem, and the shuffle still takes 1.3 to 5.8 points off their errors, more with 8 groups than with 3 at each
# size.
#
# What our experiment does not show is why. With a full stem the shuffle changes our mean by less than 4 points, and
# three seeds on small digits do not say whether it helps.

# %% jupyter={"source_hidden": true}
kinds = [f"{size}, g = {g}" for size in ("1x", "0.5x", "0.25x") for g in (3, 8)]
sides = {name: f"top-1 error {name}" for name in ("without the shuffle", "with the shuffle")}
table3 = ledger.check("shufflenet", where="Table 3").grid(kinds, sides)
gains = [
    float(before.printed[:-1]) - float(after.printed[:-1]) for before, after in zip(table3.rows[::2], table3.rows[1::2])
]
assert (f"{min(gains):.1f}", f"{max(gains):.1f}") == ("1.3", "5.8")
assert all(three < eight for three, eight in zip(gains[::2], gains[1::2]))
display(table3)


# %% [markdown]
# ## 2.5 MobileNetV2: what does a ReLU destroy?
#
# To save memory, the maps between the blocks should have few channels. MobileNetV2 (arXiv 1801.04381) asks what else
# must change then. A layer takes a vector $x$ of $n$ numbers (the channels of one pixel) to $y = \mathrm{ReLU}(B x)$,
# where $B$ has $N$ rows. ReLU sets some of the $N$ numbers to zero. **Is $x$ lost?**
#
# A positive $y_i$ is an equation for $x$: $B_i\, x = y_i$. A zero only says that $B_i\, x \le 0$. So $x$ can be
# computed if, and in general only if, at least $n$ of the $N$ numbers are positive (the paper's Lemma 2, for rows in
# general position). **Your turn.**

# %%
def recover(B, y):
    """B: (N, n), y = ReLU(B x): (N,) with n or more positive numbers -> x: (n,)."""
    alive = y > 0
    # BEGIN SOLUTION, 3 minutes: the equations of the living rows; np.linalg.lstsq(A, b)[0] solves A x = b
    return np.linalg.lstsq(B[alive], y[alive], rcond=None)[0]
    # END SOLUTION


# %%
draw = np.random.default_rng(SEED)
for N in (2, 3, 5, 15, 30):
    B = draw.standard_normal((N, 2))
    x = draw.standard_normal((400, 2))
    y = np.maximum(x @ B.T, 0)
    for seen, true in zip(y, x):
        if (seen > 0).sum() >= 2:
            course.expect(recover(B, seen), true, within=1e-6)
print("every x with two living rows or more came back")


# %% [markdown]
# How often is that? Draw $B$ at random, from a distribution that does not change if a row changes its sign. Then each
# $y_i$ is positive with probability ½, whatever $x \ne 0$ is, and independently of the others: **$N$ coins are thrown,
# and $x$ is kept if $n$ of them or more show heads.** That is the paper's Theorem 1. **Your turn.**

# %%
def kept(N, n):
    """The probability that N fair coins show n heads or more, as an exact fraction."""
    # BEGIN SOLUTION, 3 minutes: math.comb(N, j) of the 2**N outcomes have j heads; Fraction(a, b) is exact
    return Fraction(sum(math.comb(N, j) for j in range(n, N + 1)), 2**N)
    # END SOLUTION


# %%
course.expect([kept(2, 2), kept(3, 2), kept(5, 2)], [Fraction(1, 4), Fraction(1, 2), Fraction(13, 16)])
for N in (2, 3, 5, 15):
    Bx = np.einsum("dNn,dn->dN", draw.standard_normal((50_000, N, 2)), draw.standard_normal((50_000, 2)))
    seen = ((Bx > 0).sum(axis=1) >= 2).mean()
    p = float(kept(N, 2))
    assert abs(seen - p) < 5 * (p * (1 - p) / 50_000) ** 0.5 + 1e-4
    print(f"n = 2, N = {N:2d}: kept {p:.4f}; of 50,000 random pairs of B and x {seen:.3f}")

# %% [markdown]
# The paper's Figure 1 takes a spiral in the plane to $N$ dimensions, through a ReLU, and back by the pseudo-inverse of
# $B$. Here it is, coloured by our law: the blue points are kept, though only `recover` brings them back to their place;
# the orange ones are lost. All points of a spiral share one $B$, so the share that is kept scatters around the expected
# one.

# %% jupyter={"source_hidden": true}
angle = np.linspace(0.5, 4 * np.pi, 300)
spiral = (angle / angle[-1])[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
fig, axes = plt.subplots(1, 6, figsize=(9, 2.2), layout="constrained")
axes[0].scatter(*spiral.T, s=4, color=plots.GREY)
axes[0].set_title("the spiral x", fontsize=8, fontweight="normal")
for ax, N in zip(axes[1:], (2, 3, 5, 15, 30)):
    B = draw.standard_normal((N, 2))
    y = np.maximum(spiral @ B.T, 0)
    back = y @ np.linalg.pinv(B).T
    can = (y > 0).sum(axis=1) >= 2
    ax.scatter(*back[can].T, s=4, color=plots.BLUE, marker="o")
    ax.scatter(*back[~can].T, s=8, color=plots.ORANGE, marker="x")
    ax.set_title(f"N = {N}: kept {can.mean():.0%},\nexpected {float(kept(N, 2)):.1%}", fontsize=8, fontweight="normal")
for ax in axes:
    ax.set(xticks=[], yticks=[])
    ax.margins(0.1)
plots.title(fig, "A ReLU in few dimensions loses much of the plane; in many, next to nothing")
plots.alt(
    fig,
    "A spiral, and the same spiral after a random map to N dimensions, a ReLU and the pseudo-inverse. For N = 2 and 3 much "
    "of it collapses to lines and is orange, lost; for 15 and 30 it is blue, kept.",
)
plt.show()

# %% [markdown]
# *Think first:* a pixel has $n = 16$ channels. What share is kept if a ReLU follows a layer with $N = 16$ rows, and
# which if it follows one with $N = 6 \cdot 16$?

# %% jupyter={"source_hidden": true}
print(f"N = 16: kept {float(kept(16, 16)):.2g};  N = 96: lost {float(1 - kept(96, 16)):.2g}")
print("t = N / n = 6:     lost        the paper's bound on it")
for n in (2, 4, 5, 6, 8, 16):
    lost, bound = 1 - kept(6 * n, n), Fraction(1, 2 ** (3 * n))
    print(
        f"n = {n:2d}, N = {6 * n:2d}:  {float(lost):.3e}   {float(bound):.3e}  {'holds' if lost <= bound else 'FAILS'}"
    )
assert all((1 - kept(6 * n, n) <= Fraction(1, 2 ** (3 * n))) == (n <= 5) for n in (*range(1, 61), 64, 96, 160))
assert 2 * math.log2(6) > 3 and math.log2(6 * 2) > 3  # so (n + 1) log2(6 n) > 3 n for all n
with torch.device("meta"):
    bottlenecks = [part for part in nets.mobilenet_v2().features if isinstance(part, InvertedResidual)]
assert {part.wide // 6 for part in bottlenecks[1:]} == {16, 24, 32, 64, 96, 160}  # what those that expand read
for n, N in product((1, 2, 3, 5, 8, 16), (16, 32, 96)):  # the first bound of the paper's chain
    assert 1 - kept(N, n) <= Fraction(N ** (n + 1), 2**N * math.factorial(n))
display(ledger.check("mobilenet_v2", where="Appendix A"))


# %% [markdown]
# <details><summary>Answer</summary>
#
# With $N = n$ all 16 coins must show heads: nearly everything is lost. With six times as many rows nearly nothing is.
# So a ReLU belongs where the map is **wide**, and the narrow ends stay **linear**.
#
# </details>
#
# The paper's text about its theorem has two slips. It calls the theorem's share *collapsed*, and it is the *kept* one.
# And its last bound, that at most $2^{-N/2}$ is lost, is derived through the condition
#
# $$(n + 1) \log_2 N \le N / 2.$$
#
# With the paper's expansion $t = N / n = 6$ that condition holds for no $n$. By exact fractions the bound itself fails
# from $n = 6$ on, so for every bottleneck that expands: they read 16 to 160 channels. What the paper concludes stays
# right: nearly nothing is lost.
#
# ## 2.6 The inverted residual with a linear bottleneck
#
# Narrow, wide, narrow, the residual between the narrow ends: ResNet's bottleneck turned inside out, so *inverted*.
# **Your turn:** three lines, and the theorem says where a ReLU6 ($\min(\max(0, x), 6)$) stands and where none does.

# %%
class LinearBottleneck(nn.Module):
    """MobileNetV2's block, stride 1, n channels in and out, N = t * n inside. x: (batch, n, h, w)."""

    def __init__(self, n, t):
        super().__init__()
        N = t * n
        self.expand = nn.Sequential(nn.Conv2d(n, N, 1, bias=False), nn.BatchNorm2d(N))  # -> (batch, N, h, w)
        self.depthwise = nn.Sequential(nn.Conv2d(N, N, 3, 1, 1, groups=N, bias=False), nn.BatchNorm2d(N))
        self.project = nn.Sequential(nn.Conv2d(N, n, 1, bias=False), nn.BatchNorm2d(n))  # -> (batch, n, h, w)

    def forward(self, x):
        # BEGIN SOLUTION, 3 minutes: expand, depthwise, project, with F.relu6 where it may stand, and the sum
        y = F.relu6(self.expand(x))
        y = F.relu6(self.depthwise(y))
        return x + self.project(y)
        # END SOLUTION


# %%
block, library = LinearBottleneck(16, 6).double(), InvertedResidual(16, 16, 1, 6).double()
block.load_state_dict(dict(zip(block.state_dict(), library.state_dict().values(), strict=True)))
x = 3 * torch.randn(2, 16, 8, 8).double()
course.expect(block(x), library(x), within=1e-12)
h, w, n, N = 56, 56, 16, 96
course.expect(h * w * N * (n + 9 + n), count(block, (n, h, w)).macs)  # with n' channels out: h w N (n + 9 + n')

# %% [markdown]
# Between blocks only the narrow maps wait in memory. The paper's Table 3 counts the bytes of the largest of them at
# each resolution, for numbers of 16 bits: at most 400 K, where MobileNet v1 has 1600 K (quoted). Two of its numbers do
# not come out:

# %% jupyter={"source_hidden": true}
display(ledger.check("mobilenet_v2", where="Table 3", show=["memory at 7x7"]))


# %% [markdown]
# ## 2.7 Does a trained net keep its pixels?
#
# The theorem is about random weights. EfficientNet-Lite0 (week 5) is built of MobileNetV2's blocks, and its trained
# weights are here. The paper's Figure 7 asks of its own net, and we ask of this one: how many of the $N$ expanded
# channels are positive, at each pixel of 20 photographs? With fewer than $N / 6 = n$ the pixel cannot be computed from
# them. *Think first:* training may push channels to zero as it likes. In how many of the 15 blocks that expand do some
# pixels fall below?

# %% jupyter={"source_hidden": true}
def positive_shares(net, images):
    """For each block that expands: share of its channels that are positive, and the share strictly below 6 too, a pixel."""
    found = []

    def watch(module, inputs, output):
        alive = output > 0
        found.append((alive.float().mean(1).flatten(), (alive & (output < 6)).float().mean(1).flatten()))

    hooks = [part.expand.register_forward_hook(watch) for part in net.blocks if hasattr(part.expand, "conv")]
    with torch.no_grad():
        net(efficientnet_lite.prepared(images))
    for hook in hooks:
        hook.remove()
    return found


try:
    images = data.photographs(DATA)[0]
    trained = positive_shares(nets.efficientnet_lite0(DATA), images)
except data.DataUnavailable as reason:
    trained = []
    print(f"{reason} With it, this section shows that in 12 of 15 blocks no pixel falls below the threshold.")

# %% jupyter={"source_hidden": true}
if trained:
    torch.manual_seed(SEED)
    untrained = positive_shares(nets.efficientnet_lite0().train(), images[:4])  # batch norm by these images
    number = range(1, 16)
    fig, ax = plt.subplots(figsize=(7.6, 3.2), layout="constrained")
    low, mean, high = (np.array([f(alive).item() for alive, _ in trained]) for f in (torch.min, torch.mean, torch.max))
    ax.fill_between(number, low, high, color=plots.BLUE, alpha=0.2, label="trained: least to most")
    ax.plot(number, mean, "o-", color=plots.BLUE, label="trained: mean")
    ax.plot(
        number, [alive.mean().item() for alive, _ in untrained], "s--", color=plots.GREY, label="before training: mean"
    )
    ax.axhline(1 / 6, color=plots.RED, lw=1.2)
    ax.text(1, 1 / 6 - 0.02, "1/6: below it a pixel is lost", color=plots.RED, fontsize=8, va="top")
    ax.set(xlabel="block", ylabel="share of the expanded channels\nthat are positive", ylim=(0, 1), xticks=number)
    ax.legend(fontsize=8, ncols=3)
    below = [(alive < 1 / 6 - 1e-6).float().mean().item() for alive, _ in trained]
    lost = {n: share for n, share in zip(number, below) if share}
    assert set(lost) == {11, 14, 15} and max(lost.values()) < 0.25
    assert all(0.45 < alive.mean() < 0.55 for alive, _ in untrained)
    plots.title(fig, f"In {15 - len(lost)} of 15 trained blocks every pixel keeps enough positive channels")
    plots.alt(
        fig,
        "Share of the expanded channels that are positive, by block, over all pixels of 20 photographs. The mean falls from 0.8 "
        "in the first block to 0.2 in the last; the least share lies below 1/6 in blocks 11, 14 and 15. Before training: 0.5.",
    )
    plt.show()
    for n, share in lost.items():
        print(f"block {n}: {share:.0%} of the pixels fall below")
    clipped = [(strictly < 1 / 6 - 1e-6).float().mean().item() for _, strictly in trained]
    assert max(more - share for more, share in zip(clipped, below)) < 0.005
    print("counting only numbers strictly between 0 and 6: not half a percent of the pixels more, in any block")

# %% [markdown]
# <details><summary>Answer</summary>
#
# In three, all of them late in the net. In each it is less than a quarter of the pixels. The paper reports two for its
# own net. Before training, with batch norm centring each channel, about half of the channels are positive, as with the
# coins. (ReLU6 clips at 6 as well; if one counts only the numbers strictly between, hardly more pixels fall below. A
# block's residual connection, where it has one, carries the pixel past the ReLU.)
#
# </details>
#
# ## 2.8 The whole net, and two heads on it
#
# Seventeen such blocks, a stem, a last 1x1 convolution and a linear layer are MobileNetV2 (the paper's text speaks of
# 19 blocks). On the same body the paper puts two heads. **SSDLite** detects: on six maps of falling size, at each place
# and for each of a few standard boxes, one small convolution names the class and one shifts the box. SSD makes each of
# them a dense 3x3; SSDLite makes it separable. **DeepLab** (week 4) names the class of each pixel. Here they are
# counted; the appendix derives both counts and runs both on a photograph, untrained. Below the counts stand three
# printed numbers that do not come out, and one that does.

# %% jupyter={"source_hidden": true}
heads = (
    ("the classifier", nets.mobilenet_v2(), 224),
    ("SSDLite", nets.mobilenet_v2_ssdlite(), 320),
    ("DeepLab", nets.mobilenet_v2_deeplab(), 513),
)
assert len(bottlenecks) == 17
for name, net, side in heads:
    cost = count(net, (3, side, side))
    print(f"{name:14s} {side}x{side}: {cost.params / 1e6:.2f} M parameters, {cost.macs / 1e6:6.1f} M multiply-adds")
display(
    ledger.check("mobilenet_v2", where="Table 4", show=["width 1.4, without batch norm", "multiply-adds, MobileNet v1"])
)
display(ledger.check("mobilenet_v2", where="Table 5", show=["layers, SSDLite"]))


# %% [markdown]
# ## Questions for hour 2
#
# 1. (★★★) On what does each of the three designs spend the work that it saves?
# 2. (★★) The authors' PyTorch program of ShuffleNet reshapes to $(c/g, g)$ before it transposes. Is that the paper's
#    shuffle? Does it matter?
# 3. (★★) Theorem 1 has no bias. What does a large positive bias do to the share that is kept, and what to the net?
# 4. (★) Why may the sum of MobileNetV2's block stand between the narrow ends, and what would it cost between the wide
#    ones?
#
# <details><summary>Answers for the facilitator</summary>
#
# 1. ShuffleNet and interleaved groups on width: more channels for the same work or weights. MobileNetV2 on width too,
#    but only inside a block; between blocks it stays narrow, for memory.
# 2. It is the inverse permutation: 12 channels in 3 groups come out in the order 0, 3, 6, 9, 1, ..., and the paper's is
#    0, 4, 8, 1, 5, ... Here both give each new group channels of every old one, but weights trained with one are wrong
#    for the other.
# 3. More numbers are positive, so more is kept; with all of them positive the layer is linear, and ReLU does nothing. A
#    net must lose something somewhere to be more than a matrix.
# 4. The narrow ends have equal shapes, and what waits for the sum is $n$ channels. Between the wide ends it would be
#    $t$ times as much.
#
# </details>

# %% [markdown]
# # Hour 3: layers that cost nothing, and what they cost
#
# ## 3.1 The shuffle is an index
#
# Hour 2's channel shuffle computes nothing: it renames channels. Grouped 1x1 convolutions need it so that the groups
# of one layer see all groups of the layer before. As an operation of its own it copies the whole map. But on a GPU
# each thread decides where it reads and where it writes, so the new name can be part of an address. Without a GPU the
# kernels run on the emulator. Its counts are exact for the source, before caches and the compiler, and are not times.
#
# Let the channels be in $g$ groups of $s$. The shuffle writes them as a table of $g$ rows and $s$ columns, a group in
# each row, and reads the table column by column. **Your turn:** six threads move six channels, 2 groups of 3, each
# thread one channel.

# %%
@cuda.jit
def shuffle_six(x, groups, out):
    c = cuda.threadIdx.x
    size = x.size // groups  # channels of a group, s
    # BEGIN SOLUTION, 3 minutes: channel c is in row c // size, column c % size of the table; write it to its new place
    out[c % size * groups + c // size] = x[c]
    # END SOLUTION


# %%
six, shuffled = np.arange(6, dtype=np.float32), np.zeros(6, np.float32)
report = gpu.check(shuffle_six, 1, 6, six, 2, shuffled)
assert report.ok, f"got {report.findings[0].kind}, expected a kernel without a finding"
course.expect(shuffled, nn.ChannelShuffle(2)(torch.from_numpy(six).view(1, 6, 1, 1)).flatten())
print(*shuffled.astype(int))

# %% jupyter={"source_hidden": true}
fig, ax = plt.subplots(figsize=(7, 1.9), layout="constrained")
for place, channel in enumerate(shuffled.astype(int)):
    color = plots.BLUE if channel < 3 else plots.ORANGE
    ax.plot([channel, place], [1, 0], color=color, lw=1.5)
    for x, y in ((channel, 1), (place, 0)):
        ax.text(
            x, y, channel, ha="center", va="center", bbox={"boxstyle": "round", "fc": color, "ec": "none", "alpha": 0.9}
        )
ax.set(xlim=(-1.2, 5.6), ylim=(-0.35, 1.35), yticks=[0, 1], yticklabels=["after", "before"], xticks=[])
for side in ("left", "top", "right", "bottom"):
    ax.spines[side].set_visible(False)
plots.title(fig, "After the shuffle each group of three has channels of both groups")
plots.alt(
    fig, "Six channels, 0 to 2 blue and 3 to 5 orange. Lines lead to their order after the shuffle: 0, 3, 1, 4, 2, 5."
)
plt.show()


# %% [markdown]
# *Think first:* your index is the address of a **write**. The layer behind the shuffle would rather **read** the right
# channel. Which channel is at place $o$ after the shuffle?
#
# <details><summary>Answer</summary>
#
# Place $o$ is in column $\lfloor o / g \rfloor$ and row $o \bmod g$ of the table, so it holds channel
#
# $$(o \bmod g) \cdot s + \lfloor o / g \rfloor.$$
#
# That is the inverse of the write's index: the same formula with $g$ and $s$ exchanged.
#
# </details>
#
# ## 3.2 A kernel of its own, or an address
#
# Behind ShuffleNet's shuffle comes a depthwise convolution. Here a simpler layer takes its place, one that multiplies
# each channel by a factor. Two kernels, one after the other, shuffle and scale:

# %%
@cuda.jit
def shuffle(x, groups, out):
    pixel, c = cuda.grid(1), cuda.blockIdx.y
    size = x.shape[0] // groups
    if pixel < x.shape[1]:
        out[c % size * groups + c // size, pixel] = x[c, pixel]


@cuda.jit
def scale(x, factor, out):
    pixel, o = cuda.grid(1), cuda.blockIdx.y
    if pixel < x.shape[1]:
        out[o, pixel] = factor[o] * x[o, pixel]


# %% [markdown]
# **Your turn:** one kernel that does both, with the shuffle in its read.

# %%
@cuda.jit
def scale_shuffled(x, factor, groups, out):
    pixel, o = cuda.grid(1), cuda.blockIdx.y
    size = x.shape[0] // groups
    if pixel < x.shape[1]:
        # BEGIN SOLUTION, 3 minutes: output channel o, read from where the shuffle would have brought it from
        out[o, pixel] = factor[o] * x[o % groups * size + o // groups, pixel]
        # END SOLUTION


# %%
N_CHANNELS, N_PIXELS, N_GROUPS = 24, 256, 3
maps = rng.standard_normal((N_CHANNELS, N_PIXELS), dtype=np.float32)
factors = rng.standard_normal(N_CHANNELS, dtype=np.float32)
between, twice, once = np.full((3, N_CHANNELS, N_PIXELS), np.nan, np.float32)
launch = (N_PIXELS // 128, N_CHANNELS), 128
first = gpu.check(shuffle, *launch, maps, N_GROUPS, between)
second = gpu.check(scale, *launch, between, factors, twice)
fused = gpu.check(scale_shuffled, *launch, maps, factors, N_GROUPS, once)
assert fused.ok, f"got {fused.findings[0].kind}, expected a kernel without a finding"
course.expect(once, twice)


# %% [markdown]
# *Think first:* how many sectors does each version move, and how many does a request of the fused read touch?

# %% jupyter={"source_hidden": true}
def sectors_of(report, *arrays, op=None):
    """32-byte sectors of global memory that all requests of a launch touch, of some arrays or of all."""
    return round(
        sum(
            access.requests * access.sectors_per_request
            for access in report.accesses
            if access.space == "global" and (not arrays or access.array in arrays) and op in (None, access.op)
        )
    )


def sectors_a_request(report, array):
    (read,) = (access for access in report.accesses if access.array == array)
    return read.sectors_per_request


def channels_last(x, groups, out):
    """The fused read where the channels of a pixel lie side by side: a warp reads 32 channels."""
    o, pixel = cuda.grid(1), cuda.blockIdx.y
    size = x.shape[1] // groups
    if o < x.shape[1]:
        out[pixel, o] = x[pixel, o % groups * size + o // groups]


print(f"shuffle, then scale: {sectors_of(first) + sectors_of(second):6,d} sectors")
print(f"shuffle in the read: {sectors_of(fused):6,d} sectors, {sectors_a_request(fused, 'x'):.0f} for a request of x")
assert np.array_equal(between, nn.ChannelShuffle(N_GROUPS)(torch.from_numpy(maps)[None, :, :, None]).numpy()[0, ..., 0])
assert sectors_a_request(fused, "x") == 4 and 0.45 < sectors_of(fused) / (sectors_of(first) + sectors_of(second)) < 0.55
small_maps = np.ascontiguousarray(maps[:, :49])
on_small = gpu.check(scale_shuffled, (1, N_CHANNELS), 128, small_maps, factors, N_GROUPS, np.empty_like(small_maps))
assert on_small.ok and round(sectors_of(on_small, "x") / (small_maps.nbytes / 32), 2) == 1.29  # question 1
for groups in (1, 2, 4, 8, 16):
    by_pixels = rng.standard_normal((8, 64), dtype=np.float32)
    out = np.full_like(by_pixels, np.nan)
    report = gpu.check(cuda.jit(channels_last), (1, 8), 64, by_pixels, groups, out)
    assert report.ok and np.array_equal(out, by_pixels.reshape(8, groups, -1).transpose(0, 2, 1).reshape(8, 64))
    apart = sectors_a_request(report, "x")
    print(f"channels innermost, 64 channels in {groups:2d} group{'s' * (groups > 1)}: {apart:.0f} for a request of x")
    assert apart == (4 if groups <= 4 else 8)
    if groups == 8:
        eight_groups = report

# %% [markdown]
# <details><summary>Answer</summary>
#
# The fused kernel moves about half: a separate shuffle reads and writes the whole map, and so does the scaling. In the
# fused read a warp's 32 pixels belong to one channel and lie side by side, wherever the channel lies: four sectors,
# as without a shuffle. The shuffle is free here because of the layout. With the channels innermost a warp reads 32
# channels, and the shuffle makes as many runs of them as there are groups. Up to 4 groups a run fills whole sectors,
# and nothing is lost. With 8 groups a run fills half a sector, so a request touches twice as many: all eight sectors of
# the pixel's 64 channels. That is why 16 groups are no worse.
#
# </details>
#
# The channels innermost, 8 groups, the first warp drawn:

# %% jupyter={"source_hidden": true}
display(eight_groups.plot(warp=0))


# %% [markdown]
# ## 3.3 Squeeze, excite, scale
#
# Hour 1's squeeze and excitation takes the mean of each channel, computes a gate from the means, and multiplies the
# channel by its gate. The mean is a sum over threads. Lanes of a warp add up without memory, by a **shuffle** of
# registers (it shares only its name with the shuffle of channels). With `cuda.shfl_xor_sync(0xFFFFFFFF, total, shift)`
# the lanes exchange their totals in pairs, and each call returns the other lane's total: with shift 4, lane 0 and lane
# 4 exchange, so do 1 and 5, and so on. The first argument has a one for each lane that takes part, here for all 32.
#
# **Your turn:** a warp holds 4 channels of 8 pixels, a pixel in each lane. Each pixel is multiplied by the sigmoid of
# its channel's mean, a gate without weights.

# %%
@cuda.jit
def gate_of_eight(x, out):
    channel, pixel = cuda.threadIdx.y, cuda.threadIdx.x  # a block of 8 x 4
    value = x[channel, pixel]
    total = value
    # BEGIN SOLUTION, 4 minutes: exchange with shifts 4, 2, 1, so that total is the sum of the channel's eight pixels
    shift = 4
    while shift > 0:
        total += cuda.shfl_xor_sync(0xFFFFFFFF, total, shift)
        shift //= 2
    # END SOLUTION
    out[channel, pixel] = value / (float32(1) + math.exp(-total / float32(8)))


# %%
small = rng.standard_normal((4, 8), dtype=np.float32) + np.array([[-2], [0], [1], [3]], np.float32)
gated = np.full((4, 8), np.nan, np.float32)
report = gpu.check(gate_of_eight, 1, (8, 4), small, gated)
assert report.ok, f"got {report.findings[0].kind}, expected a kernel without a finding"
course.expect(gated, small / (1 + np.exp(-small.mean(1, keepdims=True, dtype=float))), within=1e-5)
course.expect(report.global_reads_per_thread, 1)


# %% [markdown]
# Every lane of a channel has the sum at the end, so each scales its own pixel, which it still holds: one read and one
# write. In a larger map a thread has too many pixels to hold them all until the mean is known.
#
# *Think first:* the exercise `squeeze_excite` does all four steps in one kernel. How many sectors does it save
# against four kernels, for 2 images of 64 channels and 256 pixels, reduced to 4?

# %% jupyter={"source_hidden": true}
@cuda.jit
def squeeze(x, z):  # a warp a channel
    b, c, lane = cuda.blockIdx.y, cuda.blockIdx.x, cuda.threadIdx.x
    total = float32(0)
    for p in range(lane, x.shape[2], 32):
        total += x[b, c, p]
    shift = 16
    while shift > 0:
        total += cuda.shfl_xor_sync(0xFFFFFFFF, total, shift)
        shift //= 2
    if lane == 0:
        z[b, c] = total / float32(x.shape[2])


@cuda.jit
def reduce_relu(z, w1, hidden):  # a thread a number
    b, k = cuda.blockIdx.x, cuda.threadIdx.x
    total = float32(0)
    for c in range(z.shape[1]):
        total += w1[k, c] * z[b, c]
    hidden[b, k] = max(total, float32(0))


@cuda.jit
def all_gates(hidden, w2, gate):
    b, c = cuda.blockIdx.x, cuda.threadIdx.x
    total = float32(0)
    for k in range(w2.shape[0]):
        total += w2[k, c] * hidden[b, k]
    gate[b, c] = float32(1) / (float32(1) + math.exp(-total))


@cuda.jit
def gated_map(x, gate, out):
    b, c, p = cuda.blockIdx.z, cuda.blockIdx.y, cuda.grid(1)
    out[b, c, p] = gate[b, c] * x[b, c, p]


se = kernels.load("squeeze_excite")
images = rng.standard_normal((2, 64, 256), dtype=np.float32)
w1, w2 = rng.standard_normal((2, 4, 64), dtype=np.float32)
z, hidden, gate = (np.zeros((2, n), np.float32) for n in (64, 4, 64))
apart, together = np.zeros((2, *images.shape), np.float32)
chain = [
    gpu.check(squeeze, (64, 2), 32, images, z),
    gpu.check(reduce_relu, 2, 4, z, w1, hidden),
    gpu.check(all_gates, 2, 64, hidden, w2, gate),
    gpu.check(gated_map, (2, 64, 2), 128, images, gate, apart),
]
at_once = gpu.check(se.kernel, 2, 256, images, w1, w2, together)
assert at_once.ok and all(report.ok for report in chain) and np.abs(apart - together).max() < 1e-4
one_map = images.nbytes // 32
for name, reports in (("four kernels", chain), ("one kernel", [at_once])):
    of_map = sum(sectors_of(report, "x", "out") for report in reports)
    others = sum(sectors_of(report) for report in reports) - of_map
    print(f"{name:13s} {of_map:6,d} sectors of the map ({of_map // one_map} times the map), {others:5,d} others")
    assert of_map == 3 * one_map


# %% [markdown]
# <details><summary>Answer</summary>
#
# Of the map, nothing: both versions read it twice and write it once, because no gate is known before the last pixel.
# One kernel saves most of the other sectors: the small numbers in between, where every warp of the scaling reads its
# gate again, and some reads of the weights. It also saves three launches, and perhaps the second read of the map, if
# the image is still in a cache near the block. But the map is most of the traffic, so the larger gain lies elsewhere:
# the scaling could be part of the *next* layer's read, as the shuffle is in section 3.2.
#
# </details>
#
# ## 3.4 An expanded map that nobody stores
#
# MobileNetV2's block makes the map $t = 6$ times wider, convolves it depthwise, and projects it back. *Stored*, the
# wide maps are most of the memory that the block needs. But what happens to a wide channel depends on no other wide
# channel, and the projection only adds them up. So the paper's section 5.1 takes them in pieces. Leave out the
# depthwise convolution for now, and cut the rows of $B$ (expand) and the columns of $A$ (project) into $q$ pieces:
#
# $$A\,\text{ReLU6}(B\,x) = \sum_{i=1}^{q} A_i\,\text{ReLU6}(B_i\,x)$$
#
# **Your turn,** in NumPy:

# %%
def in_pieces(x, expand, project, pieces):
    total = np.zeros((len(project), x.shape[1]))
    for part in np.split(np.arange(len(expand)), pieces):  # the numbers of a piece's channels
        # BEGIN SOLUTION, 3 minutes: add what this piece contributes; ReLU6 is np.clip(..., 0, 6)
        total += project[:, part] @ np.clip(expand[part] @ x, 0, 6)
        # END SOLUTION
    return total


# %%
thin, wide, pixels = 4, 24, 10
x_thin = rng.standard_normal((thin, pixels))
expand, project = rng.standard_normal((wide, thin)), rng.standard_normal((thin, wide))
for pieces in (1, 2, 6, 24):
    whole = project @ np.clip(expand @ x_thin, 0, 6)
    course.expect(in_pieces(x_thin, expand, project, pieces), whole, within=1e-12)

# %% [markdown]
# The depthwise convolution fits between the two, for it works channel by channel. *Think first:* a block has $c$
# channels of $h \times w$ pixels, and its output is a sum that grows from piece to piece. At any one time it holds in
# memory
#
# $$\underbrace{2\,c\,h\,w}_{\text{input, output}} + \underbrace{2\,t\,c\,h\,w \,/\, q}_{\text{two wide maps}}$$
#
# numbers. By which factor do six pieces shrink that, and does any $q$ make it a tenth?

# %% jupyter={"source_hidden": true}
BLOCKS = []  # channels and side of MobileNetV2's blocks with a residual, each once
with torch.device("meta"):
    image = torch.empty(1, 3, 224, 224)
    for layer in nets.mobilenet_v2().eval().features:
        if getattr(layer, "has_residual", False) and (image.shape[1], image.shape[2]) not in BLOCKS:
            BLOCKS.append((image.shape[1], image.shape[2]))
            assert layer.wide == 6 * image.shape[1]
        image = layer(image)


def live(c, side, q, t=6):
    """Bytes of float32 that a block needs at a time."""
    return 4 * (2 * c * side**2 + 2 * t * c * side**2 // q)


fig, ax = plt.subplots(figsize=(7.5, 2.8), layout="constrained")
for n, (q, color) in enumerate(((1, plots.RED), (2, plots.ORANGE), (6, plots.BLUE))):
    kilobytes = [live(c, side, q) / 1000 for c, side in BLOCKS]
    ax.bar(np.arange(len(BLOCKS)) + 0.27 * (n - 1), kilobytes, 0.25, color=color, label=f"{q} piece{'s' * (q > 1)}")
ax.set(xticks=range(len(BLOCKS)), xticklabels=[f"{c} channels\n{side} x {side}" for c, side in BLOCKS])
ax.set(ylabel="kilobytes, float32")
ax.legend()
plots.title(fig, "In six pieces a block needs less than a third of the memory")
plots.alt(
    fig,
    "For each size of MobileNetV2's residual blocks, bars of the bytes that it needs at a time, with the wide maps whole, in "
    "two and in six pieces; six pieces are 29 % of the whole.",
)
plt.show()
assert all(7 * live(c, side, 6) == 2 * live(c, side, 1) for c, side in BLOCKS)
assert all(live(c, side, 6 * c) > live(c, side, 1) / 10 for c, side in BLOCKS)

# %% [markdown]
# <details><summary>Answer</summary>
#
# In maps of $c$ channels, from $2 + 12$ to $2 + 2$: by 3.5. A tenth would be 1.4 maps, less than input and output
# alone: no $q$ does it. (Without pieces the output can wait until the expanded map is gone. Then the most at one time
# is 13 maps, not 14.)
#
# </details>
#
# The exercise `inverted_residual` cuts the image, too. A block of threads writes 16 x 8 pixels. With a rim of one pixel
# it keeps 18 x 10 of them in shared memory, of the input and of one piece. That is 23 kilobytes for any image of up to
# 16 channels, and no wide number goes to global memory. Counted for 8 channels, $t = 6$, 32 x 32 pixels:

# %% jupyter={"source_hidden": true}
residual = kernels.load("inverted_residual")
c, t, side = 8, 6, 32
thin_map = rng.standard_normal((c, side, side), dtype=np.float32)
expand_, bias = rng.standard_normal((t * c, c), dtype=np.float32), rng.standard_normal(t * c, dtype=np.float32)
depthwise = rng.standard_normal((t * c, 3, 3), dtype=np.float32)
arguments = thin_map, expand_, bias, depthwise, rng.standard_normal((c, t * c), dtype=np.float32)
out = np.full_like(thin_map, np.nan)
report = gpu.check(residual.kernel, (2, 4), (16, 8), *arguments, out)
assert report.ok and (np.abs(out - residual.reference(*arguments)) <= residual.allowed(*arguments)).all()
stored = 4 * t * thin_map.nbytes // 32  # two wide maps, each written once and read once
weights_read = sectors_of(report, "expand", "bias", "depthwise", "project")
without_rims, different = 2 * thin_map.nbytes // 32, sum(a.nbytes for a in arguments[1:]) // 32
print(f"input and output:        {sectors_of(report, 'x', 'out'):6,d} sectors ({without_rims:,} without the rims)")
print(f"weights, again and again:{weights_read:6,d} sectors, of {different} different ones")
print(f"wide maps:               {0:6,d} sectors; stored, they would be {stored:,} at least")
assert {access.array for access in report.accesses if access.space == "global" and access.op == "store"} == {"out"}
assert stored > 7 * sectors_of(report, "x", "out") and 2 * 4 * 16 * 180 == 23_040  # bytes of patch and piece
assert round(180 / 128, 2) == 1.41 and round(34**2 / 32**2, 2) == 1.13 and 34**2 == 1156
assert 4 * 512 * 7 * 7 == 100_352  # question 2

# %% [markdown]
# In this count the weights outweigh all else, because every warp reads them for itself. But they are few different
# sectors, which a cache can keep, and a kernel that stores the wide maps needs the weights as well. The counts are
# before caches.
#
# *Think first:* a block expands 180 pixels for the 128 that it writes. By how much does the work of the expansion
# grow? And for blocks of 32 x 32 pixels?
#
# <details><summary>Answer</summary>
#
# $180 / 128$ is 1.41: 41 % extra. $34^2 / 32^2$ is 1.13: 13 % extra, but a channel then takes 1156 places in shared
# memory and not 180, so fewer channels fit. Larger blocks lower one price and raise the other.
#
# </details>
#
# ## 3.5 Now you: the shuffle in a grouped 1x1
#
# `exercises/06_channel_designs/channel_shuffle.py` (25 minutes) fuses the shuffle into a real layer, on its other
# side: a grouped 1x1 convolution **writes** to shuffled places, with section 3.1's index. Open the file in a tab
# next to this notebook, write, save, and run the cell; `study hint channel_shuffle` in a terminal helps. What you do
# not finish goes home, as do `squeeze_excite` (35 minutes) and `inverted_residual` (45); the appendix has what they
# need.

# %% tags=["nbval-ignore-output"]
studylib.check("channel_shuffle")

# %% [markdown]
# ## Questions for hour 3
#
# 1. (★★) The fused read of section 3.2 takes four sectors a request on 256 pixels. Does it on the 7x7 pixels of a late
#    stage?
# 2. (★★★) Squeeze and excitation reads the map twice. Could a block keep its image in shared memory, for 512 channels
#    of 7x7? What if several blocks shared an image?
# 3. (★★) `inverted_residual` allows 16 channels. Which of MobileNetV2's blocks is that enough for, and what would you
#    change for the others?
#
# <details><summary>Answers for the facilitator</summary>
#
# 1. No: a channel is 196 bytes, which is not a multiple of 32. So most channels begin in the middle of a sector, which
#    is fetched for the end of the channel before, too. And 49 pixels take two warps, whose border mostly lies in the
#    middle of a sector as well. Together 29 % more sectors move than the bytes need. The second warp is nearly half
#    empty.
# 2. $512 \cdot 49$ floats are 100,352 bytes: more than the 48 kilobytes that a block gets without asking. Several
#    blocks would have to wait for each other's sums, but `syncthreads` holds only one block together. A second kernel
#    is such a wait: it begins when the first has ended.
# 3. None of those with a residual: they have 24 channels or more. The patch of the input grows with the channels, so
#    take fewer pixels, or read the input from global memory for each piece. A piece may also have fewer channels than
#    the input.
#
# </details>

# %% [markdown]
# ## Readings

# %%
Markdown("\n".join(f"- [{reading.title}]({reading.link})" for reading in course.sheet(".").readings))

# %% [markdown]
# # Appendix: for home

# %% [markdown]
# ## A.1 Hour 1: a dense layer without a concatenation
#
# Question 2 in code. The 1x1 convolution of a dense layer is cut into one piece for each source, and the pieces are
# added up. Each source gets its own part of batch norm, too, which works channel by channel. No array holds all maps.

# %%
torch.manual_seed(SEED)
sources = [torch.randn(2, channels, 8, 8, dtype=torch.float64) for channels in (24, 12, 12)]
norm, relu, reduce = new_maps(48, 12).double().eval()[:3]
nn.init.normal_(norm.running_mean), nn.init.uniform_(norm.running_var, 0.5, 2)  # as after training
total, first = 0, 0
for maps in sources:
    own = slice(first, first + maps.shape[1])  # the source's channels in the concatenation
    mean, variance = norm.running_mean[own], norm.running_var[own]
    maps = F.batch_norm(maps, mean, variance, norm.weight[own], norm.bias[own])
    total = total + F.conv2d(relu(maps), reduce.weight[:, own])
    first = own.stop
course.expect(total, reduce(relu(norm(torch.cat(sources, dim=1)))), within=1e-12)
print(f"three sources, {tuple(total.shape)}: equal, and nothing was concatenated")

# %% [markdown]
# ## A.2 Hour 2: times, pieces, and the two heads
#
# ### A.2.1 Time is not multiply-adds (ShuffleNet, Table 8)
#
# The paper measures on a phone, one thread. The sizes 0.5x and 2x differ only in their channels, so the times can be
# held against the work. The paper's text says that four times less work is about 2.6 times faster; its own table gives
# more:

# %% jupyter={"source_hidden": true}
ratio = 524 / 38  # multiply-adds of 2x and 0.5x as printed in Table 8
for size, slow, fast in (("224x224", 108.8, 15.2), ("480x640", 617.0, 87.4), ("720x1280", 1857.6, 260.1)):
    faster = slow / fast
    print(
        f"{size:8s}: {ratio:.1f} times less work is {faster:.2f} times faster, "
        f"so {faster ** (math.log(4) / math.log(ratio)):.2f} for four times"
    )
display(ledger.check("shufflenet", where="Table 8"))

# %% [markdown]
# Table 5 compares ShuffleNets with MobileNets of about the same work. Its column of differences is MobileNet's error
# minus ShuffleNet's, and it comes out with the errors that MobileNet's own paper prints:

# %% jupyter={"source_hidden": true}
printed = {
    row.what: float(row.printed[:-1]) for row in ledger.check("shufflenet", where="Table 5").rows if "error" in row.what
}
rivals = {"2x, g = 3": 70.6, "1.5x, g = 3": 68.4, "1x, g = 8": 63.7, "0.5x, g = 4": 50.6, "0.5x shallow, g = 3": 50.6}
for name, top1 in rivals.items():
    error = printed[f"top-1 error, {name}"]
    print(f"ShuffleNet {name:20s} {error:.1f} %, MobileNet {100 - top1:.1f} %: difference {100 - top1 - error:.1f}")

# %% [markdown]
# ### A.2.2 One block in t pieces
#
# The expanded map of an inverted residual need not exist as a whole (the paper's section 5.1). Cut its $N = t\,n$
# channels into $t$ pieces of $n$. Each piece goes through its own part of the three layers, and the results add up,
# because the last layer is linear and the middle one works on each channel by itself. (Hour 3's `inverted_residual`
# does this on a GPU.)

# %% jupyter={"source_hidden": true}
torch.manual_seed(SEED)
n, t = 16, 6
block = InvertedResidual(n, n, 1, t).double().eval()
for norm in block.modules():
    if isinstance(norm, nn.BatchNorm2d):
        nn.init.normal_(norm.bias), nn.init.uniform_(norm.running_var, 0.5, 2)
(expand, norm1, _), (depthwise, norm2, _), project, norm3 = block.conv[0], block.conv[1], block.conv[2], block.conv[3]


def piece(x, part):
    """What the expanded channels of one slice give to the output."""

    def normed(y, norm):
        shape = (-1, 1, 1)
        scale = norm.weight[part] / (norm.running_var[part] + norm.eps) ** 0.5
        return (y - norm.running_mean[part].view(shape)) * scale.view(shape) + norm.bias[part].view(shape)

    y = F.relu6(normed(F.conv2d(x, expand.weight[part]), norm1))
    y = F.relu6(normed(F.conv2d(y, depthwise.weight[part], padding=1, groups=len(y[0])), norm2))
    return F.conv2d(y, project.weight[:, part])


x = torch.randn(2, n, 8, 8, dtype=torch.float64)
with torch.no_grad():
    total = sum(piece(x, slice(k * n, (k + 1) * n)) for k in range(t))
    assert (x + norm3(total) - block(x)).abs().max() < 1e-12
print(
    f"{t} pieces of {n} channels give the block's output to 1e-12; {n} expanded channels in memory in place of {t * n}"
)

# %% [markdown]
# Memory falls with the number of pieces and the multiply-adds stay what they were. But small pieces make small, slow
# operations: the paper finds that 2 to 5 pieces help most (quoted).
#
# ### A.2.3 SSDLite: a detector's heads, counted
#
# A detector of the SSD family puts two heads on six maps of falling size: at each place, for each of a few boxes of
# standard shapes (**anchors**), a class head says what it shows and a box head shifts its corners. SSDLite makes
# every 3x3 of the heads separable. With $C$ channels in, $a$ anchors and $q$ numbers for each, a head has
#
# $$\underbrace{9\,C}_{\text{depthwise}} + \underbrace{C\,a\,q}_{1 \times 1}$$
#
# weights, where SSD has $9\,C\,a\,q$. The first map is the *expansion* of layer 15 (576 channels, stride 16), the
# second the last 1x1 convolution's 1280; four more are made by strided separable layers. (Their widths are those of
# TensorFlow's library; the paper does not print them.)

# %% jupyter={"source_hidden": true}
CLASSES = 81  # 80 and the background
MAPS = ((20, 576, 3), (10, 1280, 6), (5, 512, 6), (3, 256, 6), (2, 256, 6), (1, 128, 6))  # side, channels, anchors
EXTRAS = ((1280, 256, 512), (512, 128, 256), (256, 128, 256), (256, 64, 128))  # in, narrow, out


def head_weights(C, anchors, numbers, separable=True):
    """Of one head: 3x3 depthwise and 1x1, or SSD's dense 3x3."""
    return 9 * C + C * anchors * numbers if separable else 9 * C * anchors * numbers


heads = sum(head_weights(C, a, q) for _, C, a in MAPS for q in (CLASSES, 4))
dense = sum(head_weights(C, a, q, separable=False) for _, C, a in MAPS for q in (CLASSES, 4))
extras = sum(before * narrow + 9 * narrow + narrow * out for before, narrow, out in EXTRAS)
with torch.device("meta"):
    detector = nets.mobilenet_v2_ssdlite(CLASSES)
    backbone = nets.mobilenet_v2()
weights = count(detector, (3, 320, 320)).weights - (count(backbone).weights - 1280 * 1000)
assert heads + extras == weights == 2_093_696
anchors = sum(side**2 * a for side, _, a in MAPS)
print(f"SSDLite: heads {heads:,} weights, maps made for them {extras:,}; together {weights:,}")
print(f"dense 3x3 heads on the same maps: {dense:,} weights, {dense / heads:.1f} times as many")
print(f"an image of 320x320 has {anchors:,} anchors: {anchors:,} x {CLASSES} class logits, {anchors:,} x 4 box numbers")
display(ledger.check("mobilenet_v2", where="Table 5"))
display(
    ledger.check(
        "mobilenet_v2",
        where="Table 6",
        show=["parameters, MobileNetV2 with", "multiply-adds, MobileNetV2 with", "MobileNetV2 with SSDLite, mAP"],
    )
)

# %% [markdown]
# Run on a photograph, as shapes: the heads are untrained, so what they say is noise. The picture (scikit-learn's
# `china.jpg`, by danielbuechele, CC BY 2.0) shows where the anchors of three of the six maps have their centres.

# %% jupyter={"source_hidden": true}
photo = torch.from_numpy(load_sample_image("china.jpg").copy()).permute(2, 0, 1)[None] / 255.0  # (1, 3, 427, 640)
square = F.interpolate(photo[..., 106:533], size=(320, 320), mode="bilinear", antialias=True)
torch.manual_seed(SEED)
detector = nets.mobilenet_v2_ssdlite(CLASSES).eval()
with torch.no_grad():
    classes, boxes = detector(square)
assert classes.shape == (1, anchors, CLASSES) and boxes.shape == (1, anchors, 4)
fig, axes = plt.subplots(1, 3, figsize=(6.2, 2.4), layout="constrained")
small = F.interpolate(square, size=(80, 80), mode="bilinear", antialias=True)[0].mean(0)
for ax, (side, _, a) in zip(axes, MAPS[:3]):
    ax.imshow((8 * small).round(), cmap="gray", vmin=-6, vmax=8)
    centre = (np.arange(side) + 0.5) * 80 / side
    ax.plot(*[axis.ravel() for axis in np.meshgrid(centre, centre)], ".", color=plots.RED, ms=14 / side**0.5)
    ax.set_title(f"{side}x{side} places, {a} anchors each:\n{side**2 * a} boxes", fontsize=8, fontweight="normal")
    ax.set_axis_off()
plots.title(fig, f"More than half of the {anchors:,} anchors belong to the first map")
plots.alt(fig, "A photograph of a Chinese temple three times, with a grid of 20 by 20, 10 by 10 and 5 by 5 red points.")
plt.show()
assert anchors < 2 * 20**2 * 3
print(f"{tuple(square.shape)} -> classes {tuple(classes.shape)}, boxes {tuple(boxes.shape)}, untrained")


# %% [markdown]
# ### A.2.4 DeepLab on MobileNetV2, counted
#
# Week 4's DeepLabV3 head on the map of 320 channels. Output stride 16: the last stage has stride 1 and then rate 2.
# Without the three dilated convolutions (ASPP) the head is a 1x1 convolution, the mean of the whole map through a 1x1,
# a 1x1 on both together, each to 256 channels with batch norm, and the logits. Without ASPP the paper loses 0.38 points
# of mIOU at output stride 16 (75.70 to 75.32, quoted below).

# %% jupyter={"source_hidden": true}
def normed(C, out):
    """Parameters of a 1x1 convolution from C channels, with batch norm."""
    return C * out + 2 * out


body = count(backbone).params - (320 * 1280 + 2 * 1280) - (1280 * 1000 + 1000)
head = normed(320, 256) + normed(320, 256) + normed(512, 256) + (256 * 21 + 21)
costs = {}
for aspp in (False, True):
    with torch.device("meta"):
        costs[aspp] = count(nets.mobilenet_v2_deeplab(aspp), (3, 513, 513))
assert body == 1_811_712 and body + head == costs[False].params == 2_113_557
for aspp, cost in costs.items():
    print(
        f"{'with' if aspp else 'without':7s} ASPP: {cost.params:9,d} parameters, {cost.macs / 1e9:.2f} G multiply-adds"
    )
display(
    ledger.check(
        "mobilenet_v2",
        where="Table 7",
        show=["without ASPP, OS 16", "parameters, V2*", "without ASPP, mIOU at OS 16", "with ASPP, mIOU at OS 16"],
    )
)

# %% jupyter={"source_hidden": true}
crop = F.interpolate(photo[..., 106:533], size=(513, 513), mode="bilinear")
torch.manual_seed(SEED)
segmenter = nets.mobilenet_v2_deeplab().eval()
with torch.no_grad():
    coarse = segmenter.backbone(crop)
    logits = segmenter(crop)
assert coarse.shape == (1, 320, 33, 33) and logits.shape == (1, 21, 513, 513)
print(f"{tuple(crop.shape)} -> {tuple(coarse.shape)} -> {tuple(logits.shape)}, untrained")

# %% [markdown]
# 513 pixels a side become 33, and the logits are enlarged bilinearly.

# %% [markdown]
# ## A.3 Squeeze, excite and scale in one kernel (`squeeze_excite`)
#
# Section 3.3 adds up eight lanes in three exchanges; 32 lanes take five. The kernel has four steps: squeeze, two layers
# of the excitation, scale. Each step needs what all threads of the step before have put into shared memory. So where
# are the barriers, and which threads have nothing to do between them?

# %% tags=["nbval-ignore-output"]
studylib.check("squeeze_excite")

# %% [markdown]
# ## A.4 The inverted residual in pieces (`inverted_residual`)
#
# This is section 3.4's sum with the depthwise convolution in between. The convolution reads neighbours, so a piece
# needs the rim. One trap: outside of the image the wide map is zero, but a zero in the input expands to
# $\text{ReLU6}(\text{bias})$, which can be more than zero.

# %% tags=["nbval-ignore-output"]
studylib.check("inverted_residual")

# %% [markdown]
# ## A.5 What the compiler says of the three kernels
#
# Registers and shared memory decide how many blocks fit on a multiprocessor (week 2, occupancy). NVIDIA's compiler
# runs without a GPU:

# %% jupyter={"source_hidden": true} tags=["nbval-ignore-output"]
compiled = {}
try:
    for name, block in (("channel_shuffle", 128), ("squeeze_excite", 256), ("inverted_residual", (16, 8))):
        exercise = kernels.load(name)
        case = next(c for c in exercise.cases(np.random.default_rng(SEED)) if c.title == exercise.budget.case)
        outputs = [np.empty_like(array) for array in exercise.outputs(*case.inputs)]
        compiled[name] = needs = gpu.compile(exercise.kernel, *case.inputs, *outputs, block=block)
        print(
            f"{name:17s} {needs.registers:3d} registers a thread, {needs.shared_bytes:6,d} bytes shared a block, "
            f"occupancy {needs.occupancy:4.0%}, limited by {needs.limited_by}"
        )
except gpu.NotAvailable as reason:
    print("no compiler here:", reason)

# %% jupyter={"source_hidden": true}
for needs in compiled.values():
    assert needs.spill_bytes == 0 and not needs.uses_float64
print("no register spilled, no double precision by accident")
