"""XNOR-Net's layers: the best by brute force, gradients by the printed formulas, the packed product by integers."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from studylib import costs, nets
from studylib.nets.xnor import (
    BinaryWeightConv2d,
    XnorConv2d,
    binarize,
    binary_block,
    binary_weight,
    pack_signs,
    packed_product,
    sign,
    sign_straight_through,
)


@pytest.mark.parametrize("seed", range(3))
def test_no_other_signs_and_no_other_scale_are_nearer(seed):
    """All 2^12 sign vectors, each with its own best scale."""
    torch.manual_seed(seed)
    w = torch.randn(12, dtype=torch.float64)
    every = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=12)), dtype=torch.float64)
    best_scale = every @ w / 12
    errors = (w - best_scale[:, None] * every).square().sum(1)
    alpha, signs = binarize(w[None])
    ours = (w - alpha * signs).square().sum()
    assert torch.allclose(ours, errors.min()) and torch.allclose(ours, w.square().sum() - 12 * alpha.square().sum())
    steps = torch.linspace(-0.5, 0.5, 101, dtype=torch.float64)
    assert all((w - (alpha + step) * signs).square().sum() >= ours for step in steps)


def test_zero_counts_as_positive():
    assert sign(torch.tensor([-2.0, -0.0, 0.0, 3.0])).tolist() == [-1, 1, 1, 1]


def test_the_two_estimators():
    x = torch.tensor([-1.5, -1.0, -0.2, 0.0, 0.4, 1.0, 1.1], requires_grad=True)
    sign_straight_through(x).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 1, 1, 0]
    x.grad = None
    sign_straight_through(x, printed=True).sum().backward()
    assert x.grad.tolist() == pytest.approx([0, -1, -0.2, 0, 0.4, 1, 0])


def test_gradient_of_the_binary_weight():
    torch.manual_seed(0)
    w = torch.randn(3, 2, 3, 3, requires_grad=True)
    upstream = torch.randn_like(w)
    binary_weight(w).backward(upstream)
    alpha = w.detach().abs().mean((1, 2, 3))
    for o, i, u, v in itertools.product(range(3), range(2), range(3), range(3)):
        through = alpha[o].item() if abs(w[o, i, u, v]) <= 1 else 0
        assert w.grad[o, i, u, v].item() == pytest.approx(upstream[o, i, u, v].item() * (1 / 18 + through), rel=1e-5)


def test_binary_weight_convolution():
    torch.manual_seed(0)
    conv = BinaryWeightConv2d(4, 5, 3, padding=1)
    x = torch.randn(2, 4, 6, 6)
    alpha, signs = binarize(conv.weight)
    plain = F.conv2d(x, signs, padding=1) * alpha.view(1, -1, 1, 1) + conv.bias.view(1, -1, 1, 1)
    assert torch.allclose(conv(x), plain, atol=1e-5)
    assert all(len(filter_.abs().unique()) == 1 for filter_ in binary_weight(conv.weight))


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (1, 1), (2, 1)])
def test_xnor_convolution_patch_by_patch(stride, padding):
    torch.manual_seed(0)
    conv = XnorConv2d(4, 3, 3, stride, padding).double()
    x = torch.randn(1, 4, 7, 7, dtype=torch.float64)
    out, scale = conv(x), conv.scale(x)
    padded = F.pad(x, (padding,) * 4)
    signs = F.pad(sign(x), (padding,) * 4)
    for i, j in itertools.product(range(out.shape[2]), range(out.shape[3])):
        window = (slice(i * stride, i * stride + 3), slice(j * stride, j * stride + 3))
        k = padded[0][(slice(None), *window)].abs().mean()
        assert scale[0, 0, i, j] == pytest.approx(k.item())
        for o in range(3):
            w = conv.weight[o]
            product = (signs[0][(slice(None), *window)] * sign(w)).sum() * w.abs().mean() * k
            assert out[0, o, i, j].item() == pytest.approx(product.item())


def test_k_is_the_mean_magnitude_of_the_patch():
    """Section 3.2 averages over channels, then over the window: without padding that is the mean of the patch."""
    torch.manual_seed(0)
    x = torch.randn(1, 6, 5, 5)
    patches = F.unfold(x, 3).abs().mean(1)
    assert torch.allclose(XnorConv2d(6, 1, 3).scale(x).flatten(1), patches)


def test_gaussian_theory():
    """For normal numbers: correlation sqrt(2/pi) of W with alpha B, 2/pi of a product of two with its binary one."""
    torch.manual_seed(0)
    w = torch.randn(1, 400_000, dtype=torch.float64)
    alpha, signs = binarize(w)
    relative = torch.linalg.norm(w - alpha * signs) / torch.linalg.norm(w)
    assert relative.item() == pytest.approx(math.sqrt(1 - 2 / math.pi), abs=2e-3)
    assert torch.corrcoef(torch.cat([w, signs]))[0, 1].item() == pytest.approx(math.sqrt(2 / math.pi), abs=2e-3)
    a, b = torch.randn(2, 20_000, 100, dtype=torch.float64)
    pair = torch.stack([(a * b).sum(1), (sign(a) * sign(b)).sum(1)])
    assert torch.corrcoef(pair)[0, 1].item() == pytest.approx(2 / math.pi, abs=0.02)


@pytest.mark.parametrize("depth", [1, 63, 64, 65, 200])
def test_packed_product(depth):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((7, depth)), rng.standard_normal((5, depth))
    a[0, 0] = 0
    plain = np.where(a >= 0, 1, -1) @ np.where(b >= 0, 1, -1).T
    packed = pack_signs(a), pack_signs(b)
    assert packed[0].shape == (7, -(-depth // 64)) and packed[0].dtype == np.uint64
    assert np.array_equal(packed_product(*packed, depth), plain)


@pytest.mark.parametrize("kind", ["full", "bwn", "xnor"])
@pytest.mark.parametrize("order", ["C-B-A-P", "B-A-C-P"])
def test_nets_of_one_cost_that_learn(kind, order):
    torch.manual_seed(0)
    net = nets.xnor_lenet(kind, order)
    assert costs.count(net, (1, 28, 28)).weights == 25 * (32 + 32 * 64 + 64 * 64) + 576 * 10
    images, labels = torch.rand(20, 1, 28, 28), torch.arange(20) % 10
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        loss = F.cross_entropy(net(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize(("order", "kinds"), [
    ("C-B-A-P", ["XnorConv2d", "BatchNorm2d", "ReLU", "MaxPool2d"]),
    ("B-A-C-P", ["BatchNorm2d", "XnorConv2d", "MaxPool2d"]),
])  # fmt: skip
def test_the_order_of_a_block(order, kinds):
    assert [type(part).__name__ for part in binary_block("xnor", order, 3, 5)] == kinds


def test_another_kind_or_order():
    with pytest.raises(ValueError, match="kind of full, bwn, xnor and an order of C-B-A-P, B-A-C-P; got tern, C-B-A-P"):
        binary_block("tern", "C-B-A-P", 1, 1)
    with pytest.raises(ValueError, match="got xnor, C-A-B"):
        nets.xnor_lenet("xnor", "C-A-B")
