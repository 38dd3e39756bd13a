# %% [markdown]
# # Week 1: what a convolution costs, and three ways to pay less
#
# **At the end of this meeting you can**
#
# - write a convolution as loops and as one matrix product, and prove that both are the framework's operator;
# - tell a layer's parameters, multiply-adds and bytes from a formula, and check the formula against a real network;
# - take a dense convolution apart into a spatial and a channel part, say what that saves, and say when it saves no time;
# - shrink a trained network by pruning, weight sharing and Huffman coding, and account for every bit;
# - write a first GPU kernel, and see which memory its threads touch;
# - explain why counting weights does not explain why a network generalises.
#
# Every figure below is computed or asserted by a cell of this notebook. What a paper printed is shown beside it,
# also where the two disagree.

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
    os.chdir("course/weeks/01_intro_depthwise")

# %% tags=["parameters"]
FAST = True  # False: more training, more data; about ten minutes in place of one
SEED = 0  # the first of three seeds of every experiment
DATA = "../../data"  # where `make lab` put the images

# %%
import copy
import heapq
import math
from collections import Counter
from fractions import Fraction
from itertools import pairwise
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from IPython.display import Markdown, display
from numba import cuda
from scipy.linalg import solve_triangular
from sklearn.datasets import load_sample_image
from torch import nn

import studylib
from studylib import course, data, gpu, ledger, nets, plots
from studylib.costs import count, receptive_field
from studylib.training import Summary, accuracy, fit, over_seeds

plots.use_style()
torch.set_num_threads(
    1
)  # networks this small lose more by waiting for a second core than they gain
SEEDS = (SEED, SEED + 1, SEED + 2)
digits = data.digits(seed=SEED)
mnist = data.mnist_or_digits(DATA)

# %% [markdown]
# ## Run sheet
# Three hours with a break in each. The presenter of a topic keeps its minutes; the questions close each hour.

# %%
course.sheet(".")


# %% [markdown]
# # Hour 1: the convolution and the survey
#
# ## 1.1 A convolution as loops
#
# A convolutional layer takes an image $x$ with $M$ channels and makes one with $N$ channels. Output channel $n$ at
# position $(i, j)$ is a weighted sum over a $K \times K$ window of all input channels:
#
# $$y_{n,i,j} = \sum_{m=0}^{M-1} \sum_{u=0}^{K-1} \sum_{v=0}^{K-1} w_{n,m,u,v}\; x_{m,\; si+u,\; sj+v}$$
#
# $s$ is the stride; padding adds zeros around $x$ beforehand. (Strictly this is a cross-correlation; a convolution
# would flip the filter. The field says convolution, and so do we.) Read the sums as loops and you have the program:

# %%
def conv_loops(x, w, stride=1, padding=0):
    """x: (M, height, width), w: (N, M, K, K) -> (N, out_height, out_width)."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    N, M, K, _ = w.shape
    out_height, out_width = ((side - K) // stride + 1 for side in x.shape[1:])
    y = np.zeros((N, out_height, out_width))
    for n, i, j in np.ndindex(y.shape):
        for m, u, v in np.ndindex(M, K, K):
            y[n, i, j] += w[n, m, u, v] * x[m, stride * i + u, stride * j + v]
    return y


rng = np.random.default_rng(SEED)
digit = digits.train_x[0].double().numpy()
w = rng.standard_normal((4, 1, 3, 3))
y = conv_loops(digit, w, stride=2, padding=1)
print("x", digit.shape, "  w", w.shape, "  y", y.shape)


# %% [markdown]
# Is it the operator that `torch` runs? Both in double precision, so that only rounding is left to differ.

# %%
def torch_conv(x, w, **options):
    """torch's own operator on NumPy arrays without a batch axis."""
    return F.conv2d(torch.from_numpy(x)[None], torch.from_numpy(w), **options)[0].numpy()


for stride in (1, 2, 3):
    for padding in (0, 1, 2):
        difference = np.abs(
            conv_loops(digit, w, stride, padding)
            - torch_conv(digit, w, stride=stride, padding=padding)
        )
        assert difference.max() < 1e-12
print("loops and torch agree for strides 1 to 3 and paddings 0 to 2")


# %% [markdown]
# ## 1.2 The same as one matrix product
#
# Nobody runs those loops. Copy each window into a column of a matrix, one column for each output position (the
# operation is called **im2col**), and the whole layer becomes a single product with the filters as rows:
#
# $$Y_{N \times P} = W_{N \times MK^2}\; X_{MK^2 \times P}, \qquad P = H_{out} W_{out}$$
#
# Matrix products are what processors are best at. The price is memory: each pixel is copied into up to $K^2$ columns.

# %%
def im2col(x, K, stride=1, padding=0):
    """x: (M, height, width) -> (M*K*K, out_height*out_width): a column for each output."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (K, K), axis=(1, 2))[
        :, ::stride, ::stride
    ]
    return windows.transpose(0, 3, 4, 1, 2).reshape(x.shape[0] * K * K, -1)


def conv_matmul(x, w, stride=1, padding=0):
    """The convolution as one matrix product: filters as rows, windows as columns."""
    out_height, out_width = (
        (side + 2 * padding - w.shape[2]) // stride + 1 for side in x.shape[1:]
    )
    y = w.reshape(w.shape[0], -1) @ im2col(x, w.shape[2], stride, padding)
    return y.reshape(w.shape[0], out_height, out_width)


for stride in (1, 2, 3):
    for padding in (0, 1, 2):
        assert np.allclose(
            conv_matmul(digit, w, stride, padding),
            conv_loops(digit, w, stride, padding),
            atol=1e-12,
        )
columns = im2col(digit, 3, padding=1)
print("image", digit.shape, "->  columns", columns.shape)
assert (
    columns.size == 9 * digit.size
)  # stride 1 and padding 1: nine copies of each pixel, or of the border's zeros

# %%
fig, axes = plt.subplots(1, 2, figsize=(8.6, 2.4), layout="constrained", width_ratios=[1, 3.2])
axes[0].imshow(digit[0])
axes[0].set(title="the digit, 8 x 8", xticks=[], yticks=[])
axes[1].imshow(columns, aspect="auto")
axes[1].set(
    xlabel="output position (i, j), row by row",
    ylabel="window position (u, v)",
    title="its im2col matrix: each row is the digit, shifted",
    yticks=range(9),
    yticklabels=[f"{u}, {v}" for u in range(3) for v in range(3)],
)
axes[1].tick_params(labelsize=7)
plt.show()

# %% [markdown]
# On a photograph one sees what a filter does. Three filters set by hand, no training: an average, and the
# differences across and along.

# %%
photograph = load_sample_image("flower.jpg")[40:360:2, 120:520:2].mean(axis=2) / 255
difference_x = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
filters = np.stack([np.ones((3, 3)) / 9, difference_x, difference_x.T])[:, None]
blurred, across, along = conv_matmul(photograph[None], filters)
plots.images(
    [-photograph, -blurred, np.abs(across), np.abs(along)],
    ["photograph", "average", "difference across", "difference along"],
    "Three 3x3 filters on a photograph: one smooths, two find edges",
    height=1.7,
)


# %% [markdown]
# ## 1.3 What it costs
#
# Three numbers describe a layer, and they are different things ($P = H_{out} W_{out}$ as above):
#
# | | dense convolution | counts |
# |---|---|---|
# | parameters | $K^2 M N$ | what is stored and sent |
# | multiply-adds (MAC) | $K^2 M N P$ | what is computed; papers also call it Mult-Adds or, loosely, FLOPs |
# | activation bytes | $4 N P$ | what the next layer reads, in 32-bit floats |
#
# `studylib.costs.count` runs any module on shapes alone (torch's meta device: no numbers are computed) and adds up
# the operations that it meets. Does it agree with the formulas?

# %%
def dense_cost(M, N, K, side):
    """Parameters and multiply-adds, M to N channels, K x K filters, output side x side."""
    return K * K * M * N, K * K * M * N * side * side


cost = count(nn.Conv2d(64, 128, 3, stride=2, padding=1, bias=False), (64, 56, 56))
assert (cost.params, cost.macs) == dense_cost(64, 128, 3, 28)
assert cost.activation_bytes == 4 * 128 * 28 * 28
cost

# %% [markdown]
# ## 1.4 What a convolution assumes
#
# A convolution is a matrix product with the *image* too: unroll the image into a vector of $HW$ numbers, and the layer
# is an $HW \times HW$ matrix. A fully connected layer would be free to choose each of its entries. The convolution
# sets nearly all of them to zero (a pixel sees its neighbours only) and ties the rest together (every position uses
# the same weights).

# %%
kernel = rng.standard_normal((1, 1, 3, 3))
pixels = np.eye(64).reshape(64, 1, 8, 8)  # one image for each pixel, that pixel lit
as_matrix = np.stack([conv_matmul(pixel, kernel, padding=1).ravel() for pixel in pixels], axis=1)
assert np.allclose(as_matrix @ digit.ravel(), conv_matmul(digit, kernel, padding=1).ravel())
print(
    f"entries {as_matrix.size}, not zero {np.count_nonzero(as_matrix)}, "
    f"different values besides zero {len(np.unique(as_matrix)) - 1}"
)
fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
drawn = ax.imshow(np.where(as_matrix == 0, np.nan, as_matrix), cmap="cividis")
ax.set(
    xlabel="input pixel",
    ylabel="output pixel",
    title="A 3x3 convolution as a matrix: nine diagonals",
)
fig.colorbar(drawn, label="weight")
plt.show()

# %% [markdown]
# **Experiment: is that assumption about images worth anything?** Take two networks of nearly the same number of
# parameters, one convolutional, one fully connected. Train both on a few digits. Then shuffle the pixels of all images by one fixed
# permutation, so that no information is lost but neighbours are no longer neighbours, and train both again.
# The fully connected network cannot tell the difference: its first layer has no notion of "beside". The
# convolution's assumption is now false. If it was worth something, the convolution must lose by the shuffle.

# %%
EXAMPLES, EPOCHS = (1000, 10) if FAST else (1000, 60)
side = mnist.train_x.shape[-1]
shuffle = torch.randperm(side * side, generator=torch.Generator().manual_seed(SEED))


def shuffled(x):
    """The same permutation of the pixels for each image; x: (n, 1, side, side)."""
    return x.flatten(1)[:, shuffle].reshape(x.shape)


def convolutional():
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 10),
    )


def fully_connected():
    return nn.Sequential(nn.Flatten(), nn.Linear(side * side, 26), nn.ReLU(), nn.Linear(26, 10))


few = data.Dataset(
    mnist.train_x[:EXAMPLES], mnist.train_y[:EXAMPLES], mnist.test_x[:2000], mnist.test_y[:2000]
)
few_shuffled = few._replace(train_x=shuffled(few.train_x), test_x=shuffled(few.test_x))
sizes = {
    make.__name__: count(make(), (1, side, side)).params
    for make in (convolutional, fully_connected)
}
print(sizes)
assert max(sizes.values()) < 1.05 * min(sizes.values())
plots.images(
    [few.test_x[0, 0], few.test_x[1, 0], few_shuffled.test_x[0, 0], few_shuffled.test_x[1, 0]],
    ["as they are", "", "shuffled", ""],
    "The shuffle keeps each grey value and loses each neighbourhood",
    height=1.5,
)


# %% tags=["nbval-ignore-output"]
def trained_accuracy(make, images, epochs, lr=3e-3):
    """A function of the seed: build, train, return the test accuracy in percent."""

    def run(seed):
        net = make()
        fit(
            net,
            images,
            epochs=epochs,
            lr=lr,
            optimizer="adam",
            batch_size=50,
            seed=seed,
            evaluate=False,
            show=False,
        )
        return 100 * accuracy(net, images.test_x, images.test_y)

    return run


pixels_or_not = {
    f"{what}, pixels {how}": over_seeds(trained_accuracy(make, images, EPOCHS), SEEDS, "%")
    for what, make in (("convolutional", convolutional), ("fully connected", fully_connected))
    for how, images in (("as they are", few), ("shuffled", few_shuffled))
}
for name, summary in pixels_or_not.items():
    print(f"{name:38s} {summary}")
plots.seeds(
    {name: summary.values for name, summary in pixels_or_not.items()},
    f"Trained on {EXAMPLES} images: the shuffle hurts the convolution only",
    "test accuracy, %",
)

# %%
lost = {
    what: [
        a - b
        for a, b in zip(
            pixels_or_not[f"{what}, pixels as they are"].values,
            pixels_or_not[f"{what}, pixels shuffled"].values,
        )
    ]
    for what in ("convolutional", "fully connected")
}
assert min(lost["convolutional"]) > max(lost["fully connected"])
print("in every seed the convolution loses more by the shuffle than the other network")

# %% [markdown]
# What this shows: on these images, with this little data, knowing which pixels are neighbours is worth some points,
# and the convolution is what uses it. What it does not show: that this convolution is the best way to use it,
# or how much is left of the gain with a million training images.

# %% [markdown]
# ## 1.5 Five networks side by side
#
# | | year | its idea in a line |
# |---|---|---|
# | AlexNet | 2012 | five convolutions on two GPUs, ReLU, three large fully connected layers |
# | VGG-16 | 2014 | only 3x3 convolutions, sixteen layers with weights |
# | GoogLeNet | 2014 | modules of parallel 1x1, 3x3, 5x5 and pooling branches; 1x1 convolutions to make the others cheap |
# | ResNet-50 | 2015 | $x_{l+1} = x_l + F(x_l)$: a layer learns the change, so that hundreds can be trained |
# | DenseNet-121 | 2016 | each layer reads all layers before it, concatenated, and adds only a few channels |
#
# Each is one readable file in `studylib/nets/`. Where do they keep their parameters, and where do they spend their
# multiply-adds?

# %%
with torch.device(
    "meta"
):  # shapes only: nothing is allocated, and VGG's 138 million weights cost no time
    five = {
        "AlexNet": nets.alexnet(),
        "VGG-16": nets.vgg16(),
        "GoogLeNet": nets.googlenet(),
        "ResNet-50": nets.resnet50(),
        "DenseNet-121": nets.densenet121(),
    }
costs = {name: count(net, (3, 224, 224)) for name, net in five.items()}
linear = {
    name: sum(m.weight.numel() for m in net.modules() if isinstance(m, nn.Linear))
    for name, net in five.items()
}
print(
    f"{'':14s}{'parameters':>12s}{'MACs':>10s}{'activations':>13s}"
    f"{'in fully connected layers':>29s}"
)
for name, cost in costs.items():
    print(
        f"{name:14s}{cost.params / 1e6:10.2f} M{cost.macs / 1e9:8.2f} G"
        f"{cost.activation_bytes / 1e6:10.1f} MB"
        f"{linear[name] / cost.params:13.0%} of params,{1 - cost.macs_no_fc / cost.macs:5.1%} of MACs"
    )

# %%
fig, axes = plt.subplots(1, 2, figsize=(8.6, 2.7), sharey=True, layout="constrained")
names = list(costs)
fc_params = np.array([linear[name] for name in names]) / 1e6
all_params = np.array([costs[name].params for name in names]) / 1e6
conv_macs = np.array([costs[name].macs_no_fc for name in names]) / 1e9
all_macs = np.array([costs[name].macs for name in names]) / 1e9
for ax, conv, fc, unit in (
    (axes[0], all_params - fc_params, fc_params, "parameters, millions"),
    (axes[1], conv_macs, all_macs - conv_macs, "multiply-adds for one image, billions"),
):
    ax.barh(names, conv, color=plots.BLUE, label="convolutions")
    ax.barh(
        names,
        fc,
        left=conv,
        color=plots.ORANGE,
        hatch="//",
        edgecolor="white",
        label="fully connected",
    )
    ax.set_xlabel(unit)
axes[0].invert_yaxis()
axes[0].set_title("Weights: once fully connected")
axes[1].set_title("Work: always the convolutions")
axes[1].legend(loc="lower right")
assert (
    linear["AlexNet"] > 0.9 * costs["AlexNet"].params
    and linear["VGG-16"] > 0.85 * costs["VGG-16"].params
)
assert all(cost.macs_no_fc > 0.9 * cost.macs for cost in costs.values())
plt.show()

# %% [markdown]
# Two lessons that the rest of the course builds on. Removing *parameters* and removing *multiply-adds* are different
# jobs: AlexNet's weights are in the fully connected layers and its time is in the convolutions. And later networks
# dropped the fully connected layers, so what is left to save is inside the convolutions.
#
# One more cost is often forgotten: how much of the image an output can see. The **receptive field** grows with each
# layer by $(K-1)$ times the product of the strides before it.

# %%
for name in ("AlexNet", "VGG-16", "ResNet-50"):
    field = receptive_field(five[name])
    print(
        f"{name:10s} an output of the last map sees {field.size[0]} x {field.size[1]} pixels, "
        f"its neighbour starts {field.stride[0]} further"
    )

# %% [markdown]
# ## 1.6 Do the papers' numbers come out?
#
# The **ledger** holds what the papers printed, each number with a computation from the architecture. A row *reproduces* when the
# computed value rounds to the printed digits, and *truncates* when the paper cut digits off where one would round.
# *Quoted* rows (accuracies, mostly) were not checked: that would take ImageNet and a few hundred GPU hours. Rows that do
# not reproduce say why. Here is one table of each paper; `study ledger NAME` shows the rest.

# %%
display(ledger.check("alexnet", where="Figure 2"))

# %%
display(ledger.check("googlenet", where="Table 1"))

# %%
display(ledger.check("resnet", where="ResNeXt, Table 1"))

# %%
display(ledger.check("densenet", where="Table 2"))

# %% [markdown]
# And all rows of all papers of this week, counted by verdict. The tests of this repository fail when a row claims one
# verdict and gets another.

# %%
for paper in ledger.papers():
    checked = ledger.check(paper)
    assert checked.ok
    verdicts = Counter(row.verdict for row in checked.rows)
    print(
        f"{paper:17s} {len(checked.rows):3d} rows:  "
        + ",  ".join(f"{n} {verdict}" for verdict, n in verdicts.most_common())
    )

# %% [markdown]
# ## 1.7 The survey figure
#
# Error against work, for each network of the course whose error is quoted in its paper. The errors are the papers' and were
# not all measured in the same way (hollow markers: not one centre crop), so a gap of a point means little. The
# multiply-adds are ours, counted from the architecture. Later weeks add their networks.

# %% tags=["figure-survey"]
points = ledger.survey()
by_name = {p.name: p for p in points}
small, large = by_name["1.0 MobileNet-224"], by_name["VGG-16"]
assert large.macs > 25 * small.macs and small.top1_error - large.top1_error < 3
plots.survey(
    points, "From VGG-16 to MobileNet: a twenty-fifth of the work, under three points more error"
)

# %%
print(f"{'':34s}{'paper':>6s}{'MACs':>11s}{'params':>10s}{'top-1 error':>13s}  protocol")
for p in sorted(points, key=lambda p: p.macs):
    print(
        f"{p.name:34s}{p.year:6d}{p.macs / 1e6:9.0f} M{p.params / 1e6:8.1f} M"
        f"{p.top1_error:11.1f} %  {p.protocol}"
    )


# %% [markdown]
# ## Questions for hour 1
#
# 1. im2col writes each pixel up to nine times. For which layers is its matrix larger than the network's weights? (Week
#    3 shrinks it.)
# 2. AlexNet splits three of its convolutions over two GPUs. What does that do to its parameters, and could it help
#    accuracy? (Week 2.)
# 3. Where would a point for *your* network lie in the survey, and which axis is missing from it?
#
# # Hour 2: depthwise separable convolutions
#
# ## 2.1 From Inception to segments
#
# A dense convolution looks for patterns in space and across channels at once. Inception's bet is that the two can be
# looked for apart. Strip a module to its 3x3 branches: each branch first mixes the channels by its own 1x1 convolution,
# then looks around in space, in its own few channels. Xception (arXiv 1610.02357, Figures 2 and 3) observes that these
# parallel towers are the same as **one** large 1x1 convolution followed by 3x3 convolutions on **segments** of its
# channels that do not overlap. First the segments, from scratch:

# %%
def conv_segments(x, w, segments, padding=0):
    """Cut x and the filters w into segments, convolve each by itself, concatenate.

    x: (M, height, width), w: (N, M / segments, K, K) -> (N, out_height, out_width)
    """
    pairs = zip(np.split(x, segments), np.split(w, segments), strict=True)
    return np.concatenate(
        [conv_matmul(part, filters, padding=padding) for part, filters in pairs]
    )


M, TOWERS, WIDTH = 6, 4, 3  # input channels, parallel towers, channels of each tower
x = rng.standard_normal((M, 8, 8))
w1 = [rng.standard_normal((WIDTH, M, 1, 1)) for _ in range(TOWERS)]
w3 = [rng.standard_normal((WIDTH, WIDTH, 3, 3)) for _ in range(TOWERS)]
towers = np.concatenate([conv_matmul(conv_matmul(x, a), b, padding=1) for a, b in zip(w1, w3)])
one_then_segments = conv_segments(
    conv_matmul(x, np.concatenate(w1)), np.concatenate(w3), TOWERS, padding=1
)
assert np.allclose(towers, one_then_segments, rtol=0, atol=1e-12)
assert np.allclose(
    one_then_segments,
    torch_conv(conv_matmul(x, np.concatenate(w1)), np.concatenate(w3), padding=1, groups=TOWERS),
    rtol=0,
    atol=1e-12,
)
print(
    "four towers = one 1x1 convolution, then four segments = torch's groups=4; output",
    towers.shape,
)

# %% [markdown]
# ## 2.2 The continuum
#
# So there is a dial, the number of segments $k$. One segment is a regular convolution; as many segments as channels,
# one filter for each channel, is the **depthwise** convolution at the other end. A 1x1 convolution from $C$ to $C$
# channels followed by a spatial one in $k$ segments has
#
# $$\underbrace{C^2}_{1 \times 1} + \underbrace{k \left(\tfrac{C}{k}\right)^2 K^2}_{k \text{ segments}}
# = C^2 \left(1 + \tfrac{K^2}{k}\right) \text{ parameters.}$$

# %%
C, K = 512, 3
ks = [2**n for n in range(10)]
params = []
for k in ks:
    pair = nn.Sequential(
        nn.Conv2d(C, C, 1, bias=False), nn.Conv2d(C, C, K, padding=1, groups=k, bias=False)
    )
    cost = count(pair, (C, 14, 14))
    assert cost.params == C * C + C * C * K * K // k and cost.macs == cost.params * 14 * 14
    params.append(cost.params)
for k, p in zip(ks, params):
    print(f"{k:4d} segments {p / 1e6:7.3f} M parameters, in the 1x1 convolution {C * C / p:6.1%}")

# %%
fig, axes = plt.subplots(
    1, 5, figsize=(8.6, 2.7), layout="constrained", width_ratios=[1, 1, 1, 0.1, 2.6]
)
for ax, k in zip(axes, (1, 4, 16)):
    connected = np.kron(np.eye(k), np.ones((16 // k, 16 // k)))
    ax.imshow(connected, cmap="Blues", vmin=0, vmax=1.6)
    ax.set_title(f"k = {k}", fontweight="normal", fontsize=9)
    ax.set(xlabel="input channel", xticks=[], yticks=[])
axes[0].set_ylabel("output channel")
axes[3].set_axis_off()
axes[4].semilogx(ks, np.array(params) / params[-1], "o-", base=2)
axes[4].axhline(C * C / params[-1], color=plots.GREY, lw=1, ls="--")
axes[4].text(
    1,
    C * C / params[-1] - 0.2,
    "the 1x1 convolution alone",
    fontsize=8,
    va="top",
    color=plots.GREY,
)
axes[4].set(xlabel="segments k", ylabel="parameters\n(depthwise = 1)", ylim=(0, None))
plots.title(
    fig, "More segments, fewer connections: from k = 16 on, the 1x1 convolution is what costs"
)
assert next(k for k, p in zip(ks, params) if p < 2 * C * C) == 16
plt.show()

# %% [markdown]
# ## 2.3 A clue in the oldest table
#
# GoogLeNet's Table 1 prints its first layer, a 7x7 convolution from 3 to 64 channels with stride 2, at 2.7K parameters
# and 34M operations. A dense convolution of that shape has several times as many. Xception's Section 2 says that a
# depthwise separable convolution was the first layer of Inception V1. Suppose that the depthwise part makes eight maps
# of each colour, and a 1x1 convolution mixes those 24 into 64:

# %%
dense_stem = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
separable_stem = nn.Sequential(
    nn.Conv2d(3, 24, 7, stride=2, padding=3, groups=3, bias=False),
    nn.Conv2d(24, 64, 1, bias=False),
)
for name, stem in (("dense", dense_stem), ("separable", separable_stem)):
    cost = count(stem, (3, 224, 224))
    print(
        f"{name:10s}{cost.params:6d} parameters = {cost.params / 1000:.1f} K of 1000"
        f" = {cost.params / 1024:.1f} K of 1024,"
        f"  {cost.macs / 1e6:5.1f} M multiply-adds"
    )
clue = count(separable_stem, (3, 224, 224))
with_biases = clue.params + 64  # one for each output of the 1x1 convolution
print(f"with 64 biases {with_biases:6d} parameters = {with_biases / 1024:.1f} K of 1024")
assert (
    f"{clue.params / 1000:.1f}" == f"{with_biases / 1024:.1f}" == "2.7"
    and f"{clue.macs / 1e6:.0f}" == "34"
)

# %% [markdown]
# The separable stem fits both printed numbers and the dense one is far from either. Two cautions. That the multiplier is
# eight is our inference, the paper does not print it. And 2.7K comes out in two ways, with K a thousand, or with K 1024 as
# in the table's other rows and 64 biases; which of them the authors meant we cannot tell. All rows about it:

# %%
display(ledger.check("googlenet", where="Table 1, convolution 7x7/2"))


# %% [markdown]
# ## 2.4 The depthwise separable convolution
#
# MobileNet (arXiv 1704.04861) turns the order around, space first and channels second. A **depthwise** filter
# $\hat d$ looks at one channel each; a **pointwise** (1x1) convolution $p$ mixes the channels:
#
# $$\hat g_{m,i,j} = \sum_{u,v} \hat d_{m,u,v}\; x_{m,\,i+u,\,j+v}, \qquad
#   y_{n,i,j} = \sum_m p_{n,m}\; \hat g_{m,i,j}$$

# %%
def depthwise(x, d, padding=0):
    """x: (M, height, width), d: (M, K, K) -> (M, out_height, out_width)."""
    return conv_segments(x, d[:, None], segments=len(d), padding=padding)


def pointwise(x, p):
    """x: (M, height, width), p: (N, M) -> (N, height, width)."""
    return np.einsum("nm,mij->nij", p, x)


M, N, K = 6, 10, 3
x, d, p = (
    rng.standard_normal((M, 9, 9)),
    rng.standard_normal((M, K, K)),
    rng.standard_normal((N, M)),
)
y = pointwise(depthwise(x, d, padding=1), p)
by_torch = torch_conv(torch_conv(x, d[:, None], padding=1, groups=M), p[:, :, None, None])
assert np.allclose(y, by_torch, rtol=0, atol=1e-12)
print(
    "depthwise",
    depthwise(x, d, padding=1).shape,
    " pointwise",
    y.shape,
    " equal to torch's two operators",
)

# %% [markdown]
# What is lost? Put the second formula into the first and one dense filter appears, $w_{n,m,u,v} = p_{n,m}\,\hat
# d_{m,u,v}$. So a separable convolution **is** a dense convolution in which every output channel sees input channel $m$
# through the same spatial filter, only scaled. For each $m$, the $N \times K^2$ matrix of its filters has rank one.

# %%
composed = np.einsum("nm,muv->nmuv", p, d)
assert np.allclose(y, torch_conv(x, composed, padding=1), rtol=0, atol=1e-12)
ranks = [np.linalg.matrix_rank(composed[:, m].reshape(N, K * K)) for m in range(M)]
assert set(ranks) == {1}
print(
    f"numbers to choose: dense {composed.size}, separable {d.size + p.size}; "
    f"rank of each channel's filters: {set(map(int, ranks))}"
)


# %% [markdown]
# What is saved? With $D_F$ for the side of the output, the paper's Equations 2 to 5 are
#
# $$\text{dense: } D_K^2 M N D_F^2 \qquad \text{separable: } D_K^2 M D_F^2 + M N D_F^2 \qquad
#   \text{ratio: } \frac{1}{N} + \frac{1}{D_K^2}$$
#
# Two knobs shrink the whole network: the width multiplier $\alpha$ scales all channels, the resolution multiplier
# $\rho$ the image's side.

# %%
def separable(M, N, stride=1):
    """MobileNet's pair without batch norm: depthwise 3x3, then pointwise."""
    return nn.Sequential(
        nn.Conv2d(M, M, 3, stride, 1, groups=M, bias=False), nn.Conv2d(M, N, 1, bias=False)
    )


for M, N, D in ((32, 64, 112), (128, 128, 56), (512, 512, 14), (1024, 1024, 7)):
    dense, pair = (
        count(nn.Conv2d(M, N, 3, padding=1, bias=False), (M, D, D)),
        count(separable(M, N), (M, D, D)),
    )
    assert pair.macs == 9 * M * D**2 + M * N * D**2
    assert Fraction(pair.macs, dense.macs) == Fraction(1, N) + Fraction(
        1, 9
    )  # exactly, not about
    print(
        f"{M:4d} -> {N:4d} channels at {D:3d}x{D:<3d}  dense {dense.macs / 1e6:8.1f} M"
        f"  separable {pair.macs / 1e6:6.1f} M"
        f"  {dense.macs / pair.macs:.2f} times less"
    )

# %% [markdown]
# ## 2.5 MobileNet's tables
#
# The whole network is one dense convolution, thirteen such pairs, a pooling and a classifier (`studylib/nets/mobilenet.py`).
# The paper's tables come out to the printed digit, with two exceptions that are misprints of the paper: Table 1 prints
# stride 2 in a place where the sizes on both sides are equal, and Table 2 has two digits exchanged.

# %%
display(ledger.check("mobilenet", where="Table 1"))

# %%
display(ledger.check("mobilenet", where="Table 2"))

# %%
display(ledger.check("mobilenet", where="Table 3"))

# %%
display(ledger.check("mobilenet", where="Table 4"))

# %%
with torch.device("meta"):
    mobilenet = nets.mobilenet_v1()
total = count(mobilenet, (3, 224, 224))
kinds = Counter()
for row in total.rows:
    module = dict(mobilenet.named_modules())[row.name]
    if isinstance(module, nn.Conv2d):
        kind = "depthwise 3x3" if module.groups > 1 else "pointwise 1x1"
        kind = "dense 3x3" if module.in_channels == 3 else kind
        kinds[kind] += row.macs
    elif isinstance(module, nn.Linear):
        kinds["classifier"] += row.macs
assert sum(kinds.values()) == total.macs
shares = {kind: macs / total.macs for kind, macs in kinds.most_common()}
print({kind: f"{share:.2%}" for kind, share in shares.items()})
assert shares["pointwise 1x1"] > 0.9
fig, ax = plt.subplots(figsize=(7.5, 1.9), layout="constrained")
ax.barh(list(shares), [100 * share for share in shares.values()], color=plots.BLUE)
ax.invert_yaxis()
ax.set(
    xlabel="share of MobileNet's multiply-adds, %",
    title="MobileNet is nearly all 1x1 convolutions, plain matrix products",
)
plt.show()


# %% [markdown]
# ## 2.6 Why multiply-adds are not time
#
# The multiply-adds fall eight to nine times. Does the time? A processor must also bring the data. The **arithmetic
# intensity** of a layer is its multiply-adds divided by the bytes that must move at least: input, weights and output, once
# each. Below some intensity the memory sets the pace, and less arithmetic saves nothing.

# %%
def intensity(M, N, K, D, groups=1):
    """Multiply-adds, and the same for each byte moved; stride 1, D x D in and out."""
    macs = K * K * M * N // groups * D * D
    moved = 4 * (M * D * D + K * K * M * N // groups + N * D * D)
    return macs, macs / moved


# M, N and D of four of MobileNet's pairs
SHAPES = [(32, 64, 112), (128, 128, 56), (512, 512, 14), (1024, 1024, 7)]
theory = {}
for M, N, D in SHAPES:
    theory[M, N, D] = {
        "dense 3x3": intensity(M, N, 3, D),
        "depthwise 3x3": intensity(M, M, 3, D, groups=M),
        "pointwise 1x1": intensity(M, N, 1, D),
    }
    dense = count(nn.Conv2d(M, N, 3, padding=1, bias=False), (M, D, D))
    assert theory[M, N, D]["dense 3x3"][0] == dense.macs
    assert theory[M, N, D]["depthwise 3x3"][1] < 9 / 8  # nine for a float in and a float out
    listed = "  ".join(f"{name} {per_byte:5.1f}" for name, (_, per_byte) in theory[M, N, D].items())
    print(f"{M:4d} -> {N:4d} at {D:3d}x{D:<3d}  MACs a byte:  {listed}")


# %% [markdown]
# Two things to expect, then. The depthwise layer runs at the pace of the memory, at every size. And the *dense* layer with
# 1024 channels on a 7x7 map should be slow for its multiply-adds too: it reads millions of weights and uses each only 49
# times. Measure it: one image, one core, the best of several runs. These times are your machine's, not ours; nothing here
# checks them.

# %% tags=["nbval-ignore-output"]
def best_time(module, x, repeats=15):
    """Seconds of the fastest of `repeats` runs, after one to warm up."""
    with torch.inference_mode():
        module(x)
        times = []
        for _ in range(repeats):
            start = perf_counter()
            module(x)
            times.append(perf_counter() - start)
    return min(times)


seconds = {}
for M, N, D in SHAPES:
    image = torch.randn(1, M, D, D, generator=torch.Generator().manual_seed(SEED))
    seconds[M, N, D] = {
        "dense 3x3": best_time(nn.Conv2d(M, N, 3, padding=1, bias=False), image),
        "depthwise 3x3": best_time(nn.Conv2d(M, M, 3, padding=1, groups=M, bias=False), image),
        "pointwise 1x1": best_time(nn.Conv2d(M, N, 1, bias=False), image),
    }
print(f"{'':22s}{'separable against dense':^36s}{'the depthwise part has':^30s}")
print(f"{'':22s}{'multiply-adds':>18s}{'time':>18s}{'of multiply-adds':>20s}{'of time':>10s}")
for (M, N, D), t in seconds.items():
    macs = {name: macs for name, (macs, _) in theory[M, N, D].items()}
    pair, pair_macs = (
        t["depthwise 3x3"] + t["pointwise 1x1"],
        macs["depthwise 3x3"] + macs["pointwise 1x1"],
    )
    print(
        f"{M:4d} -> {N:4d} at {D:3d}x{D:<3d}{macs['dense 3x3'] / pair_macs:13.1f}x less"
        f"{t['dense 3x3'] / pair:12.1f}x less"
        f"{macs['depthwise 3x3'] / pair_macs:20.0%}{t['depthwise 3x3'] / pair:10.0%}"
    )

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(7.5, 3.4), layout="constrained")
for n, kind in enumerate(("dense 3x3", "depthwise 3x3", "pointwise 1x1")):
    per_byte = [theory[shape][kind][1] for shape in SHAPES]
    rate = [theory[shape][kind][0] / seconds[shape][kind] / 1e9 for shape in SHAPES]
    ax.loglog(per_byte, rate, plots.MARKERS[n], ms=9, color=plots.COLOURS[n], label=kind)
ax.set(
    xlabel="multiply-adds for each byte moved (computed)",
    ylabel="billion multiply-adds\na second (measured here)",
    title="Few multiply-adds for each byte, few multiply-adds a second",
)
ax.grid(alpha=0.25, which="both")
ax.legend()
ax.margins(0.15)
plt.show()


# %% [markdown]
# So one number, "eight times fewer multiply-adds", turns into another speed-up for each size of layer, and the depthwise
# part takes a far greater share of the time than of the arithmetic. What this shows: the ranking of two layers by
# multiply-adds need not be their ranking by time. What it does not show: how large the effect is elsewhere. It
# depends on the processor, its memory, and the library's kernels as much as on the layer.
#
# ## 2.7 Experiment: what do the segments cost in accuracy?
#
# Fixed width, digits of 8x8 pixels, two blocks of 1x1 and spatial convolution with $k$ segments; and once the
# 1x1 convolutions alone, which see no neighbours after the first layer. Can these images tell the designs apart?

# %%
def segmented(k, width=24, blocks=2):
    """A small classifier for 8x8 digits; k segments, or k = 0 for no spatial convolution."""
    layers = [nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    for _ in range(blocks):
        layers += [nn.Conv2d(width, width, 1, bias=False)]
        if k:
            layers += [nn.Conv2d(width, width, 3, padding=1, groups=k, bias=False)]
        layers += [nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


designs = {
    "1 segment (dense)": 1,
    "4 segments": 4,
    "24 segments (depthwise)": 24,
    "1x1 convolutions alone": 0,
}
for name, k in designs.items():
    cost = count(segmented(k), (1, 8, 8))
    print(f"{name:26s}{cost.params:7,d} parameters{cost.macs:11,d} multiply-adds")

# %% tags=["nbval-ignore-output"]
epochs = 6 if FAST else 24
segments = {
    name: over_seeds(
        trained_accuracy(lambda k=k: segmented(k), digits, epochs, lr=1e-2), SEEDS, "%"
    )
    for name, k in designs.items()
}
for name, summary in segments.items():
    print(f"{name:26s} {summary}")
plots.seeds(
    {name: summary.values for name, summary in segments.items()},
    "Only the network that sees no neighbours falls behind clearly",
    "test accuracy, %",
)

# %%
with_neighbours = [
    summary for name, summary in segments.items() if name != "1x1 convolutions alone"
]
assert max(segments["1x1 convolutions alone"].values) < min(
    min(s.values) for s in with_neighbours
)
print(
    f"one test image is {100 / len(digits.test_y):.1f} points; "
    "in every seed the 1x1 convolutions alone are worse than all others"
)

# %% tags=["nbval-ignore-output"]
spread = max(max(s.values) - min(s.values) for s in with_neighbours)
gap = max(s.mean for s in with_neighbours) - min(s.mean for s in with_neighbours)
print(
    f"among the designs with neighbours: means within {gap:.1f} points, "
    f"seeds of one design up to {spread:.1f} points apart"
)

# %% [markdown]
# What this shows: looking at neighbours is worth something, and the depthwise network gets most or all of it with a
# fraction of the parameters. What it does not show: a ranking among the designs with segments. Their means differ by
# no more than the seeds of one design do, a few test images; digits this small are too easy. Week 2 has a task where the
# structure decides.
#
# ## Questions for hour 2
#
# 1. Xception does 1x1 first and depthwise second, MobileNet the other way. In a deep stack, what is the difference? (And
#    the ReLU between them: Xception's Figure 10 found that leaving it out is best.)
# 2. A separable layer ties $w_{n,m} = p_{n,m} \hat d_m$. What would two depthwise filters a channel allow?
# 3. With a batch of 32 images, which of the points in the last figure move, and where to?

# %% [markdown]
# # Hour 3: pruning, weight sharing, and the first kernels
#
# So far the networks were designed small. Deep Compression (arXiv 1510.00149) takes a trained network and stores it
# small, in three steps: **prune** the small weights, let the rest **share** a few values, and **Huffman**-code what is
# left. This hour shows each step by itself and then all three on MNIST; week 5 takes them apart in full.
#
# ## 3.1 Weight sharing: the paper's Figure 3, number by number
#
# Sixteen weights are replaced by the index of their nearest of four **centroids**. What is stored is the list of indices,
# 2 bits each, and the **codebook** of four floats. With $n$ weights of $b$ bits and $k$ centroids the paper's
# Equation 1 gives the compression rate
#
# $$r = \frac{n b}{n \log_2 k + k b}$$

# %%
weights = np.array(
    [
        [2.09, -0.98, 1.48, 0.09],
        [0.05, -0.14, -1.08, 2.12],
        [-0.91, 1.92, 0, -1.03],
        [1.87, 0, 1.53, 1.49],
    ]
)
centroids = np.array([-1.00, 0.00, 1.50, 2.00])
index = np.abs(weights[..., None] - centroids).argmin(axis=-1)
print(
    "cluster index\n", index, "\nwhat the network now computes with\n", centroids[index], sep=""
)
assert index.tolist() == [
    [3, 0, 2, 1],
    [1, 1, 0, 3],
    [0, 3, 1, 0],
    [3, 1, 2, 2],
]  # as printed in Figure 3


def rate(n, k, b=32):
    """Equation 1: n weights of b bits shared as k values, against n floats."""
    return n * b / (n * math.log2(k) + k * b)


print("compression rate", rate(n=16, k=4))
assert rate(n=16, k=4) == 16 * 32 / (4 * 32 + 2 * 16) == 3.2

# %% [markdown]
# How does a shared weight learn? All weights of a cluster are one number, so its gradient is the sum of theirs (the
# paper's Equation 3):
#
# $$\frac{\partial L}{\partial C_k} = \sum_{i,j} \frac{\partial L}{\partial W_{ij}}\, \mathbb{1}(I_{ij} = k)$$

# %%
gradient = np.array(
    [
        [-0.03, -0.01, 0.03, 0.02],
        [-0.01, 0.01, -0.02, 0.12],
        [-0.01, 0.02, 0.04, 0.01],
        [-0.07, -0.02, 0.01, -0.02],
    ]
)
grouped = np.bincount(index.ravel(), gradient.ravel(), minlength=4)
tuned = centroids - 1.0 * grouped  # learning rate 1, as in the figure
for k in range(4):
    print(
        f"centroid {k}: {centroids[k]:5.2f}   gradients summed {grouped[k]:5.2f}"
        f"   fine-tuned {tuned[k]:5.2f}"
    )
assert np.allclose(grouped, [-0.03, 0.04, 0.02, 0.04]) and np.allclose(
    tuned, [-0.97, -0.04, 1.48, 1.96]
)

shared = torch.tensor(
    centroids, requires_grad=True
)  # and that is what automatic differentiation says
(shared[torch.from_numpy(index)] * torch.from_numpy(gradient)).sum().backward()
assert np.allclose(shared.grad.numpy(), grouped, rtol=0, atol=1e-12)

# %%
fig, axes = plt.subplots(1, 4, figsize=(8.6, 2.5), layout="constrained")
for ax, values, name, fmt in (
    (axes[0], weights, "weights", ".2f"),
    (axes[1], index, "index, 2 bits each", "d"),
    (axes[2], centroids[index], "shared weights", ".2f"),
    (axes[3], tuned[index], "after one step", ".2f"),
):
    ax.imshow(index, cmap="cividis", vmin=-1, vmax=4)
    for (i, j), value in np.ndenumerate(values):
        ax.text(
            j,
            i,
            format(value, fmt),
            ha="center",
            va="center",
            fontsize=8,
            color="black" if index[i, j] >= 2 else "white",
        )
    ax.set_title(name, fontsize=9, fontweight="normal")
    ax.set_axis_off()
plots.title(fig, "Figure 3: sixteen floats become sixteen indices and four floats")
plt.show()


# %% [markdown]
# Real layers need the centroids found: k-means in one dimension. The paper tries three starts and keeps the linear one, equal steps
# from the least to the greatest weight, since that keeps a centroid near the few large weights.

# %%
def kmeans(values, k, rounds=30):
    """values: (n,) -> centroids (k,), index (n,). No round can raise the squared error."""
    centroids = np.linspace(values.min(), values.max(), k)
    for _ in range(rounds):
        index = np.searchsorted((centroids[1:] + centroids[:-1]) / 2, values)
        size = np.bincount(index, minlength=k)
        centroids = np.where(size, np.bincount(index, values, k) / np.maximum(size, 1), centroids)
    return centroids, np.searchsorted((centroids[1:] + centroids[:-1]) / 2, values)


sample = rng.standard_normal(2000)
errors = [
    np.square(sample - c[i]).sum()
    for c, i in (kmeans(sample, 8, rounds) for rounds in (0, 1, 3, 10, 30))
]
print("squared error after 0, 1, 3, 10, 30 rounds:", [f"{e:.3g}" for e in errors])
assert all(a >= b for a, b in pairwise(errors))


# %% [markdown]
# ## 3.2 Storing a sparse layer: gaps
#
# After pruning most weights are zero, and only the others are stored, each with its **gap**, the number of zeros before it. A gap gets a fixed
# number of bits. Where more zeros follow each other than the bits can say, a **filler** zero is stored in between:
# an entry that costs as much as a weight and is none.

# %%
def to_gaps(positions, bits):
    """Sorted positions of the non-zeros -> gaps (zeros before each entry), is_weight."""
    gaps, is_weight, largest = [], [], 2**bits - 1
    for gap in np.diff(positions, prepend=-1) - 1:
        while gap > largest:
            gaps.append(largest)
            is_weight.append(False)
            gap -= largest + 1  # the filler stands on a zero of its own
        gaps.append(int(gap))
        is_weight.append(True)
    return np.array(gaps), np.array(is_weight)


def from_gaps(gaps, is_weight):
    """The way back: positions of the non-zeros."""
    return (np.cumsum(gaps + 1) - 1)[is_weight]


positions = np.flatnonzero(rng.random(20_000) < 0.08)
total_bits = {}
for bits in (3, 4, 5, 6, 7):
    gaps, is_weight = to_gaps(positions, bits)
    assert np.array_equal(from_gaps(gaps, is_weight), positions)  # nothing is lost
    total_bits[bits] = (6 + bits) * len(gaps)
    print(
        f"{bits} bits for a gap: {len(positions)} weights, {np.sum(~is_weight):5d} fillers, "
        f"{total_bits[bits]:6d} bits in all with 6-bit values"
    )
assert min(total_bits, key=total_bits.get) == 5


# %% [markdown]
# Too few bits, and fillers eat what the short gaps save; too many, and each gap is too long. At eight percent density five bits
# is the best, and the one in the paper's tables for LeNet.
#
# ## 3.3 Huffman coding
#
# Neither the indices nor the gaps are equally frequent, so frequent ones should get shorter codes. Huffman: join the
# two rarest symbols into one, again and again; each join makes the codes of its members one bit longer. Theory promises
# that the mean length $L$ is within one bit of the entropy, $H \le L < H + 1$, and that the code is full, $\sum 2^{-l} =
# 1$.

# %%
def huffman(symbols):
    """A prefix code for a sequence: symbol -> string of '0' and '1'."""
    heap = [(n, i, {symbol: ""}) for i, (symbol, n) in enumerate(Counter(symbols).items())]
    heapq.heapify(heap)
    tie = len(heap)  # breaks ties in the order of joining; dicts are never compared
    while len(heap) > 1:
        (n0, _, low), (n1, _, high) = heapq.heappop(heap), heapq.heappop(heap)
        joined = {s: "0" + code for s, code in low.items()} | {
            s: "1" + code for s, code in high.items()
        }
        heapq.heappush(heap, (n0 + n1, tie := tie + 1, joined))
    return heap[0][2]


def decode(bits, code):
    """Read the bits from the left; a prefix code is never in doubt where a symbol ends."""
    symbol_of, symbols, word = {word: symbol for symbol, word in code.items()}, [], ""
    for bit in bits:
        word += bit
        if word in symbol_of:
            symbols.append(symbol_of[word])
            word = ""
    return symbols


text = "abracadabra"
code = huffman(text)
bits = "".join(code[letter] for letter in text)
print(code, bits, f"{len(bits)} bits in place of {8 * len(text)}")
assert "".join(decode(bits, code)) == text
frequency = np.array([n / len(text) for n in Counter(text).values()])
entropy, mean_length = -(frequency * np.log2(frequency)).sum(), len(bits) / len(text)
assert (
    entropy <= mean_length < entropy + 1
    and sum(Fraction(1, 2 ** len(word)) for word in code.values()) == 1
)


# %% [markdown]
# ## 3.4 All three on LeNet-300-100
#
# The paper's smallest network: 784 pixels, 300 and 100 hidden units, ten classes. **Experiment:** train it on MNIST,
# keep only 8, 9 and 26 percent of the weights of its three layers (the paper's Table 2) in three rounds with retraining
# after each, share what is left as 64 values a layer, and write down every bit. Does the error survive, and does the
# size come out as printed?

# %%
def layers_of(net):
    return [module for module in net.modules() if isinstance(module, nn.Linear)]


def magnitude_masks(net, keep):
    """For each layer: 1 where a weight is among the `keep` fraction of largest, else 0."""
    masks = []
    for layer, fraction in zip(layers_of(net), keep, strict=True):
        magnitude = layer.weight.detach().abs()
        kept = round(fraction * magnitude.numel())
        masks.append((magnitude >= magnitude.flatten().topk(kept).values[-1]).float())
    return masks


def apply_masks(net, masks):
    """Put the zeros back; called after each step of the training, which would move them."""
    with torch.no_grad():
        for layer, mask in zip(layers_of(net), masks, strict=True):
            layer.weight *= mask


GAP_BITS, WEIGHT_BITS = 5, 6


def store(weight):
    """A pruned layer (out, in) -> the layer as it is read back, and what it takes in bits."""
    flat = weight.ravel()
    positions = np.flatnonzero(flat)
    gaps, is_weight = to_gaps(positions, GAP_BITS)
    codebook, index = kmeans(flat[positions], 2**WEIGHT_BITS - 1)
    codebook = np.append(codebook, 0).astype(np.float32)  # the last value is the fillers'
    entries = np.full(len(gaps), 2**WEIGHT_BITS - 1)
    entries[is_weight] = index

    codes = [huffman(stream.tolist()) for stream in (entries, gaps)]
    streams = [
        "".join(map(code.get, stream.tolist())) for code, stream in zip(codes, (entries, gaps))
    ]
    read_entries, read_gaps = (np.array(decode(bits, code)) for bits, code in zip(streams, codes))
    restored = np.zeros_like(flat)
    restored[np.cumsum(read_gaps + 1) - 1] = codebook[read_entries]
    return restored.reshape(weight.shape), {
        "float": 32 * flat.size,
        "codebook": 32 * len(codebook),
        "fixed": (WEIGHT_BITS + GAP_BITS) * len(entries),
        "huffman": sum(map(len, streams)),
        "weights": len(positions),
        "entries": len(entries),
    }


toy = np.where(rng.random((30, 40)) < 0.08, rng.standard_normal((30, 40)), 0).astype(np.float32)
restored, size = store(toy)
assert np.array_equal(restored != 0, toy != 0) and len(np.unique(restored)) <= 2**WEIGHT_BITS
print(size)

# %%
EPOCHS, RETRAIN = (2, 1) if FAST else (12, 6)
LAYERS = {"ip1": 0.08, "ip2": 0.09, "ip3": 0.26}  # the paper's names, what its Table 2 keeps
ROUNDS = [(0.4, 0.4, 0.6), (0.2, 0.2, 0.4), tuple(LAYERS.values())]


def error(net):
    """Test error in percent."""
    return 100 - 100 * accuracy(net, mnist.test_x, mnist.test_y)


def train(net, seed, epochs, lr, **options):
    options |= {"batch_size": 256, "evaluate": False, "show": False}
    fit(net, mnist, epochs=epochs, lr=lr, seed=seed, **options)


def prune(net, seed):
    """Prune and retrain in rounds; the test error before and after the last retraining."""
    for keep in ROUNDS:
        masks = magnitude_masks(net, keep)
        apply_masks(net, masks)
        before = error(net)
        train(
            net, seed, RETRAIN, 0.1, after_step=lambda net, masks=masks: apply_masks(net, masks)
        )
    return before, error(net)


def share(net):
    """Replace each layer by what is read back of its stored form; the bits of each layer."""
    sizes = {}
    for name, layer in zip(LAYERS, layers_of(net), strict=True):
        restored, sizes[name] = store(layer.weight.detach().numpy())
        layer.weight.data = torch.from_numpy(restored)
    return sizes


# %% [markdown]
# One trap. Pruned networks are retrained, so they train longer than the network they are compared with, and part of what looks like
# "pruning costs nothing" is only the longer training. So a **control** goes along: a copy of the dense
# network that is trained through the same rounds, without any mask.

# %% tags=["nbval-ignore-output"]
runs = {}


def compress(seed):
    """All steps for one seed; errors, bits and weights are left in `runs`."""
    net = nets.lenet_300_100()
    train(net, seed, EPOCHS, 0.2, weight_decay=1e-4)
    errors = {"trained": error(net)}
    control = copy.deepcopy(net)
    for _ in ROUNDS:
        train(control, seed, RETRAIN, 0.1)
    errors["control: dense, trained on"] = error(control)
    errors["pruned, last round"], errors["and retrained"] = prune(net, seed)
    pruned = [layer.weight.detach().numpy().copy() for layer in layers_of(net)]
    sizes = share(net)
    errors["shared, as read back"] = error(net)
    after = [layer.weight.detach().numpy() for layer in layers_of(net)]
    runs[seed] = {"errors": errors, "sizes": sizes, "before": pruned, "after": after}
    return errors["shared, as read back"]


over_seeds(compress, SEEDS)
for name in runs[SEED]["errors"]:
    summary = Summary(tuple(runs[seed]["errors"][name] for seed in SEEDS), "%")
    print(f"{name:28s} test error {summary}")

# %%
for seed in SEEDS:
    errors = runs[seed]["errors"]
    assert errors["and retrained"] < errors["pruned, last round"]
    assert errors["shared, as read back"] < errors["control: dense, trained on"] + 1.5
mean = {
    name: sum(runs[seed]["errors"][name] for seed in SEEDS) / len(SEEDS)
    for name in runs[SEED]["errors"]
}
assert mean["control: dense, trained on"] < mean["shared, as read back"]
print("in every seed retraining lowers the error again, and the compressed network is within")
print("1.5 points of the dense control; in the mean the control is the better one")

# %% [markdown]
# And the size? *fixed* is pruning and sharing with 6 bits for a value and 5 for a gap, *Huffman* codes both streams. The
# codebook is counted, as in the paper; the list of Huffman code lengths is not counted here (week 5 asks what it
# adds). Every stream was decoded again, and the network that was tested is the decoded one.

# %% tags=["nbval-ignore-output"]
printed = {
    "ip1": ("3.1%", "2.32%"),
    "ip2": ("3.8%", "3.04%"),
    "ip3": ("15.7%", "12.70%"),
    "all": ("3.1%", "2.49%"),
}


def shares_of(seed):
    """Percent of the float size, fixed-length and Huffman-coded, codebook included."""
    sizes = dict(runs[seed]["sizes"])
    sizes["all"] = {key: sum(size[key] for size in sizes.values()) for key in sizes["ip1"]}
    return {
        name: [
            100 * (size[way] + size["codebook"]) / size["float"] for way in ("fixed", "huffman")
        ]
        for name, size in sizes.items()
    }


shares = {seed: shares_of(seed) for seed in SEEDS}
print(f"{'':5s}{'fixed, ours':>28s}{'paper':>8s}{'Huffman, ours':>30s}{'paper':>9s}")
for name, paper in printed.items():
    fixed, coded = (
        Summary(tuple(shares[seed][name][way] for seed in SEEDS), "%") for way in (0, 1)
    )
    print(f"{name:5s}{fixed!s:>28s}{paper[0]:>8s}{coded!s:>30s}{paper[1]:>9s}")
for seed in SEEDS:
    print(
        f"seed {seed}: {100 / shares[seed]['all'][0]:.1f} times smaller, "
        f"Huffman-coded {100 / shares[seed]['all'][1]:.1f} times;"
        " the paper prints 32 and 40 times"
    )

# %%
assert all(33 < 100 / shares[seed]["all"][1] < 46 for seed in SEEDS)
fillers = {
    seed: 1 - runs[seed]["sizes"]["ip1"]["weights"] / runs[seed]["sizes"]["ip1"]["entries"]
    for seed in SEEDS
}
assert all(share > 0.02 for share in fillers.values())
print(
    "in every seed: about forty times smaller; over 2 % of the first layer's entries are fillers"
)

# %% tags=["nbval-ignore-output"]
before, after = (runs[SEED][when][1].ravel() for when in ("before", "after"))
fig, axes = plt.subplots(1, 2, figsize=(8.6, 2.6), layout="constrained")
axes[0].hist(before[before != 0], bins=80, color=plots.BLUE)
axes[0].set(title="Layer ip2 after pruning: a hole at zero", xlabel="weight", ylabel="weights")
values, counts = np.unique(after[after != 0], return_counts=True)
axes[1].vlines(values, 0, counts, color=plots.RED)
axes[1].set(
    title=f"... and after sharing: {len(values)} values",
    xlabel="weight",
    ylabel="weights",
    ylim=(0, None),
)
plt.show()

# %% [markdown]
# What this shows: the size of the paper's smallest network comes out from its text alone, and the error hardly moves by
# sharing. Whether pruning is free depends on what one compares with: against the network before retraining it looks
# so, against the control it is not. What it does not show: that larger networks shrink as far (the paper's other tables are
# quoted below), or that a smaller file runs faster. By itself it does not; that needs kernels that compute on the
# compressed form.

# %%
display(ledger.check("deep_compression", where="Table 2"))

# %% [markdown]
# Two kinds of rows do not reproduce. The rates of single layers come out too small, because a formula with the kept share
# knows nothing of fillers (our encoder above does). And the totals are not the means of their own rows; for VGG-16 the gap is widest:

# %%
display(ledger.check("deep_compression", where="Table 5, total"))


# %% [markdown]
# ## 3.5 The first kernels
#
# On a GPU you write the program of **one** thread, and start very many. Thread $t$ of block $b$ finds its element by
#
# $$i = b \cdot \text{block size} + t$$
#
# and since the grid is made of whole blocks, some threads have no element: each kernel begins with the question
# whether its $i$ exists. Here is that arithmetic as a plain loop over blocks and threads; on the GPU all of them run at once.

# %%
def vector_add_thread(block, thread, block_size, a, b, out):
    """What one thread does: one element, or nothing."""
    i = block * block_size + thread
    if i < len(out):
        out[i] = a[i] + b[i]


a, b = rng.standard_normal(1000), rng.standard_normal(1000)
out, BLOCK = np.full(1000, np.nan), 128
blocks = math.ceil(len(out) / BLOCK)
for block in range(blocks):
    for thread in range(BLOCK):
        vector_add_thread(block, thread, BLOCK, a, b, out)
assert np.array_equal(out, a + b)
print(
    f"{blocks} blocks of {BLOCK} threads for {len(out)} elements: "
    f"{blocks * BLOCK - len(out)} threads have nothing to do"
)


# %% [markdown]
# Read as a kernel it is three lines. `@cuda.jit` makes a GPU program of them; with a GPU in the machine it runs there, and
# without one `studylib.gpu` runs it on an emulator, thread for thread, and says what the hardware would do.

# %%
@cuda.jit
def add_neighbours(a, b, out):
    i = cuda.grid(1)  # block * block size + thread
    if i < out.size:
        out[i] = a[i] + b[i]


a, b = rng.standard_normal((2, 1024)).astype(np.float32)
out = np.full(1024, np.nan, np.float32)
add_neighbours[8, 128](a, b, out)  # 8 blocks of 128 threads
assert np.array_equal(out, a + b)


# %% [markdown]
# That was the easy part. Is it also *good*? Threads run in **warps** of 32, and the 32 reads of a warp travel as one
# request, which memory answers in **sectors** of 32 bytes. Here is a second kernel that computes the same: each thread takes eight
# elements that lie side by side. On a CPU that would be the better program.

# %%
@cuda.jit
def add_runs(a, b, out):
    first = cuda.grid(1) * 8
    for i in range(first, min(first + 8, out.size)):
        out[i] = a[i] + b[i]


good = gpu.check(add_neighbours, 8, 128, a, b, out)
poor = gpu.check(add_runs, 1, 128, a, b, out)
assert good.ok and poor.ok and np.array_equal(out, a + b)
for name, report in (("neighbours", good), ("runs of eight", poor)):
    for access in report.accesses:
        print(
            f"{name:14s} {access.op:5s} {access.array:4s} {access.sectors_per_request:4.0f} sectors a request"
        )
assert all(access.sectors_per_request == 4 for access in good.accesses)
assert all(access.sectors_per_request == 32 for access in poor.accesses)

# %% [markdown]
# Four sectors, 128 bytes, is what 32 floats need: nothing is fetched in vain. In the second kernel the threads of a warp read 32
# bytes apart, so each of them gets a sector of its own, and uses 4 of its bytes at a time. What one warp touches, drawn:

# %%
display(good.plot())
display(poor.plot())

# %% [markdown]
# (These counts are exact for the source, before caches, and they are not times: a cache may keep a sector until its other bytes are
# asked for. A program that needs no such luck is the better one.)
#
# **Now you.** The three kernels of the hour lie in `exercises/01_intro_depthwise/`. Each file begins with its card: what to
# compute, a plan, how many reads and writes it may use. `vector_add` (10 minutes) is the kernel above, in your own words: do it
# together. `depthwise_conv3x3` (20 minutes) computes one output pixel of one channel in a thread; section 2.6 says what to expect
# of it, for it is short of work for each byte. `codebook_decode` (20 minutes) turns the shared weights of section 3.1 back into
# numbers, with the small table kept close. What you don't finish is for the week.
#
# Open a file beside this notebook, write, save, and run its cell again. The verdict does not come from the result alone: it also
# looks for races and out-of-bounds accesses, asks NVIDIA's compiler, and counts your memory traffic.

# %% tags=["nbval-ignore-output"]
studylib.check("vector_add")

# %% tags=["nbval-ignore-output"]
studylib.check("depthwise_conv3x3")

# %% tags=["nbval-ignore-output"]
studylib.check("codebook_decode")

# %% [markdown]
# ## 3.6 Theory: weights enough to remember everything
#
# Zhang et al. (arXiv 1611.03530) ask whether a network generalises *because* it cannot remember. Their Theorem 1: a ReLU
# network of two layers with $2n + d$ weights can fit **any** labels of $n$ points in $d$ dimensions. The proof is a
# program. Project all points on a random line, $z_i = a \cdot x_i$; sort them; put a threshold $b_j$ between each two. Then
#
# $$f(x) = \sum_j w_j \max(a \cdot x - b_j,\, 0), \qquad A_{ij} = \max(z_i - b_j,\, 0)$$
#
# and $A$ is lower triangular with nothing but positive numbers on its diagonal, so $A w = y$ has a solution for every $y$.

# %%
n = 200
points, unseen = (x[:n].flatten(1).double().numpy() for x in (digits.train_x, digits.test_x))
labels = rng.integers(0, 10, n).astype(float)  # drawn by lot: nothing can be learnt here

direction = rng.standard_normal(points.shape[1])
order = np.argsort(points @ direction)
z, targets = (points @ direction)[order], labels[order]
thresholds = np.concatenate([[z[0] - 1], (z[1:] + z[:-1]) / 2])
A = np.maximum(z[:, None] - thresholds, 0)
assert np.array_equal(A, np.tril(A)) and (A.diagonal() > 0).all()
w = solve_triangular(A, targets, lower=True)


def network(x):
    """Two layers: n hidden units that share the direction a and differ in their thresholds b."""
    return np.maximum((x @ direction)[:, None] - thresholds, 0) @ w


used = direction.size + thresholds.size + w.size
assert used == 2 * n + points.shape[1]
assert np.abs(network(points) - labels).max() < 1e-5
print(f"{used} weights fit {n} random labels of {points.shape[1]}-pixel digits exactly")
print(
    f"labels are 0 to 9; on unseen digits the answers reach {np.abs(network(unseen)).max():.0e}"
)

# %%
line = np.linspace(z[0] - 0.05, z[12], 2000)
fig, ax = plt.subplots(figsize=(7.5, 2.7), layout="constrained")
ax.plot(line, np.maximum(line[:, None] - thresholds, 0) @ w, lw=1.2, label="the network")
ax.plot(z[:13], targets[:13], "o", color=plots.RED, label="training points")
ax.set(
    xlabel="position on the random line",
    ylabel="label",
    title="Through every point, and wild between them",
)
ax.legend()
plt.show()

# %% [markdown]
# A construction is not a training run. **Experiment:** does gradient descent find such a fit too? The same LeNet-300-100,
# five hundred images of MNIST, once with their labels and once with labels drawn by lot.

# %% tags=["nbval-ignore-output"]
some = mnist._replace(train_x=mnist.train_x[:500], train_y=mnist.train_y[:500])
by_lot = some._replace(
    train_y=torch.randint(10, (500,), generator=torch.Generator().manual_seed(SEED))
)
memory = {}
for name, images in (("true labels", some), ("labels by lot", by_lot)):
    trained_on = []

    def run(seed, images=images, trained_on=trained_on):
        net = nets.lenet_300_100()
        fit(
            net,
            images,
            epochs=60,
            lr=3e-3,
            optimizer="adam",
            batch_size=100,
            seed=seed,
            evaluate=False,
            show=False,
        )
        trained_on.append(100 * accuracy(net, images.train_x, images.train_y))
        return 100 * accuracy(net, images.test_x, images.test_y)

    memory[name] = tested, trained = over_seeds(run, SEEDS, "%"), Summary(tuple(trained_on), "%")
    print(f"{name:14s} training images {trained!s:26s} new images {tested}")

# %%
for name, (tested, trained) in memory.items():
    assert min(trained.values) > 98, name
    assert (min(tested.values) > 75) if name == "true labels" else (max(tested.values) < 20)
print("both are remembered; only the true labels carry over to new images (chance: 10 %)")

# %% [markdown]
# What this shows: the same network, the same training, the same number of weights, and one run generalises while the other
# cannot. So the number of weights alone cannot be the explanation. What it does not show: what the explanation is.
#
# ## Questions for hour 3
#
# 1. Pruning keeps eight percent of the weights of a network that could remember random labels. Could the pruned one?
# 2. Filler zeros or longer gaps: where does the best number of bits lie for a layer that keeps 1 percent? 30 percent?
# 3. Sharing 64 values makes the file smaller. Which of multiplications, memory traffic and accuracy could a kernel save
#    with it, and which not?
# 4. `depthwise_conv3x3` needs nine reads a pixel if each thread reads for itself. How few could a block of 16x16 threads do with?
#
# ## Readings

# %%
Markdown(
    "\n".join(f"- [{reading.title}]({reading.link})" for reading in course.sheet(".").readings)
)
