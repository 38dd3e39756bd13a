"""Interleaved group convolutions: one full convolution in disguise; the counts of the authors' README and code."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d

from studylib import costs, nets
from studylib.nets.igcv1 import InterleavedGroupConv


@pytest.mark.parametrize(
    ("name", "knobs", "depth_20", "depth_38"),
    [
        ("regular_cifar", (16,), 268_346, 558_650),
        ("regular_cifar", (18,), 339_472, 706_888),
        ("igc_cifar", (24, 2), 151_834, 309_082),
        ("igc_cifar", (4, 8), 274_794, 570_474),
    ],
)
def test_cifar_nets(name, knobs, depth_20, depth_38, on_meta):
    """Convolutions and the last layer, without batch norm."""
    found = [costs.count(on_meta(getattr(nets, name), *knobs, depth), (3, 32, 32)).params_no_bn for depth in (20, 38)]
    assert found == [depth_20, depth_38]


@pytest.mark.parametrize(
    ("name", "knobs", "billions", "convolutions"),
    [
        ("regular_imagenet", (64,), "1.814", "11.167"),
        ("regular_imagenet", (69,), "2.099", "12.979"),
        ("igc_imagenet", (4, 32), "1.945", "11.207"),
    ],
)
def test_imagenet_nets(name, knobs, billions, convolutions, on_meta):
    """The README's FLOPs are 1.8, 2.1 and 1.9; its 11.333M for 69 channels is not what they have."""
    net = on_meta(getattr(nets, name), *knobs)
    counted = costs.count(net)
    assert f"{counted.macs / 1e9:.3f}" == billions
    assert f"{(counted.weights - net.fc.weight.numel()) / 1e6:.3f}" == convolutions


def test_l100m2_doubles_its_primary_groups(on_meta):
    net = on_meta(nets.igc_imagenet, 100, 2)
    layers = [part for part in net.modules() if isinstance(part, InterleavedGroupConv)]
    assert [(layer[0].groups, layer[2].groups, layer[0].out_channels) for layer in layers[::4]] == [
        (100, 2, 200), (200, 2, 400), (400, 2, 800), (800, 2, 1600)
    ]  # fmt: skip
    assert net.stem[0].out_channels == 100


@pytest.mark.parametrize(("primary", "width"), [(24, 2), (4, 8), (18, 2), (1, 5), (7, 1)])
def test_weights_of_a_layer(primary, width):
    """G (9 M + L), from the primary part's G^2 9 / L and the secondary one's G^2 / M."""
    g = primary * width
    layer = InterleavedGroupConv(g, g, primary)
    assert sum(p.numel() for p in layer.parameters()) == g * (9 * width + primary)


def test_one_full_convolution_in_disguise():
    """L24M2: 2,016 weights make a full kernel of 48 x 48 x 9 numbers, none of them zero."""
    torch.manual_seed(0)
    layer = InterleavedGroupConv(48, 48, 24).double()
    assert sum(p.numel() for p in layer.parameters()) == 2016
    impulses = torch.zeros(48, 48, 3, 3, dtype=torch.float64)
    impulses[torch.arange(48), torch.arange(48), 1, 1] = 1
    with torch.no_grad():
        kernel = layer(impulses).transpose(0, 1).flip(2, 3)
        assert kernel.numel() == 20_736 and kernel.abs().min() > 0
        x = torch.randn(2, 48, 6, 6, dtype=torch.float64)
        assert torch.allclose(layer(x), conv2d(x, kernel, padding=1), atol=1e-12)


def test_a_secondary_group_takes_one_channel_of_each_primary():
    layer = InterleavedGroupConv(6, 6, 3)
    order = layer[1](torch.arange(6.0).view(1, 6, 1, 1)).flatten().int().tolist()
    assert order == [0, 2, 4, 1, 3, 5]  # primary groups (0 1) (2 3) (4 5)
    assert torch.equal(layer[3](layer[1](torch.arange(6.0).view(1, 6, 1, 1))), torch.arange(6.0).view(1, 6, 1, 1))


def test_one_primary_channel_each_is_a_separable_convolution():
    """M = 1: a depthwise 3x3 and a full 1x1, as in Xception; L = 1: a full 3x3 and a scale for each channel."""
    depthwise, _, full, _ = InterleavedGroupConv(8, 8, 8)
    assert (depthwise.groups, full.groups) == (8, 1)
    conv, _, scale, _ = InterleavedGroupConv(8, 8, 1)
    assert (conv.groups, scale.groups) == (1, 8)


def test_the_widest_net():
    """For at most T weights the widest layer has about L = 9 M: T = 2,304 allows 52 channels, with 26 groups of 2."""
    for budget, widest, best in ((2304, 52, (26, 2)), (4672, 84, (28, 3))):
        fits = [
            (l_ * m, l_, m)
            for l_, m in itertools.product(range(1, 200), range(1, 40))
            if l_ * m * (9 * m + l_) <= budget
        ]
        assert max(fits)[0] == widest and (widest, *best) in fits
        assert widest <= (budget / (2 * 9**0.5)) ** (2 / 3)


def test_runs():
    torch.manual_seed(0)
    with torch.no_grad():
        assert nets.igc_cifar(4, 2, 8, 3).eval()(torch.rand(1, 3, 32, 32)).shape == (1, 3)
        assert nets.igc_imagenet(4, 2, 3).eval()(torch.rand(1, 3, 64, 64)).shape == (1, 3)
    assert isinstance(nets.regular_imagenet(8, 3).stages[0][0].connection, nn.Identity)


def test_refuses():
    with pytest.raises(ValueError, match="3 primary groups must divide the channels, got 9 and 10"):
        InterleavedGroupConv(9, 10, 3)
    with pytest.raises(ValueError, match=r"depth must be 3n \+ 2, such as 20 or 38, got 21"):
        nets.igc_cifar(depth=21)
