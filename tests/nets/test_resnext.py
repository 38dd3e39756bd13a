"""ResNeXt against arXiv 1611.05431 and torchvision, and the three forms of its block against each other."""

import pytest
import torch
import torch.nn.functional as F
import torchvision

from studylib import costs, nets
from studylib.nets.resnext import AggregatedBlock


@pytest.mark.parametrize(
    ("name", "params", "billions"),
    [
        ("resnext50_32x4d", 25_028_904, "4.230"),
        ("resnext101_32x4d", 44_177_704, "7.970"),
        ("resnext101_64x4d", 83_455_272, "15.460"),
    ],
)
def test_counts(name, params, billions, on_meta):
    counted = costs.count(on_meta(getattr(nets, name)))
    assert counted.params == params
    assert f"{counted.macs / 1e9:.3f}" == billions


@pytest.mark.parametrize(
    ("name", "knobs"),
    [("resnext50_32x4d", (50, 32, 4)), ("resnext101_32x8d", (101, 32, 8)), ("resnext101_64x4d", (101, 64, 4))],
)
def test_the_same_as_torchvisions(name, knobs, on_meta, assert_loads):
    ours, theirs = on_meta(nets.resnext, *knobs), on_meta(getattr(torchvision.models, name))
    counted, expected = costs.count(ours), costs.count(theirs)
    assert (counted.params, counted.macs) == (expected.params, expected.macs)
    if knobs[0] == 50:
        assert_loads(ours, theirs, 64)
    else:  # only longer: it would say the same, in seconds
        ours.load_state_dict(theirs.state_dict(), strict=True, assign=True)


def test_one_path_of_width_64_is_resnet50(on_meta, assert_loads):
    assert_loads(on_meta(nets.resnext, 50, 1, 64), on_meta(torchvision.models.resnet50), 64)


@pytest.mark.parametrize(
    ("cardinality", "width", "weights"),
    [(1, 64, 69_632), (2, 40, 69_760), (4, 24, 69_888), (8, 14, 71_456), (32, 4, 70_144)],
)
def test_equation_4(cardinality, width, weights):
    counted = costs.count(AggregatedBlock(256, 256, cardinality, width), (256, 56, 56))
    assert counted.weights == weights == cardinality * (256 * width + 9 * width**2 + width * 256)
    assert counted.macs == weights * 56**2


@pytest.mark.parametrize(("cardinality", "params"), [(8, 34_426_698), (16, 68_155_210)])
def test_cifar(cardinality, params, on_meta):
    net = on_meta(nets.resnext29_cifar, cardinality, 64)
    counted = costs.count(net, (3, 32, 32))
    assert counted.params == params
    layers = [row for row in counted.rows if row.type in ("Conv2d", "Linear") and "downsample" not in row.name]
    assert len(layers) == 29
    sides = [row.output_shape[1] for row in counted.rows if row.name.endswith("conv3")]
    assert sides == [32] * 3 + [16] * 3 + [8] * 3


def separate_paths(block: AggregatedBlock, x: torch.Tensor) -> torch.Tensor:
    """Figure 3a: every path has its own three convolutions, and the results are added (no batch norm)."""
    paths = block.conv2.groups
    firsts, seconds = block.conv1.weight.chunk(paths), block.conv2.weight.chunk(paths)
    thirds = block.conv3.weight.chunk(paths, dim=1)
    total = x
    for first, second, third in zip(firsts, seconds, thirds, strict=True):
        total = total + F.conv2d(F.relu(F.conv2d(F.relu(F.conv2d(x, first)), second, padding=1)), third)
    return F.relu(total)


def concatenated_paths(block: AggregatedBlock, x: torch.Tensor) -> torch.Tensor:
    """Figure 3b: the paths' first two convolutions are separate, the third reads them all."""
    paths = block.conv2.groups
    firsts, seconds = block.conv1.weight.chunk(paths), block.conv2.weight.chunk(paths)
    ends = [
        F.relu(F.conv2d(F.relu(F.conv2d(x, first)), second, padding=1))
        for first, second in zip(firsts, seconds, strict=True)
    ]
    return F.relu(x + F.conv2d(torch.cat(ends, 1), block.conv3.weight))


@pytest.mark.parametrize("form", [separate_paths, concatenated_paths])
def test_three_forms_are_one_block_with_the_same_gradients(form):
    torch.manual_seed(0)
    block = AggregatedBlock(32, 32, 4, 6).double()
    for name in ("bn1", "bn2", "bn3"):
        setattr(block, name, torch.nn.Identity())
    weights = [block.conv1.weight, block.conv2.weight, block.conv3.weight]
    x = torch.randn(2, 32, 7, 7, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(2, 32, 7, 7, dtype=torch.float64)
    grouped, other = block(x), form(block, x)
    assert (grouped - other).abs().max() < 1e-12
    expected = torch.autograd.grad(grouped, [x, *weights], upstream)
    for gradient, also in zip(expected, torch.autograd.grad(other, [x, *weights], upstream), strict=True):
        assert gradient.abs().max() > 0.1
        assert (gradient - also).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: nets.resnext(34), "depth must be one of 50, 101, got 34"),
        (lambda: nets.resnext(50, 0, 4), "cardinality and width must be at least 1, got 0 and 4"),
        (lambda: nets.resnext29_cifar(8, 0), "cardinality and width must be at least 1, got 8 and 0"),
    ],
)
def test_bad_knobs(build, message):
    with pytest.raises(ValueError, match=message):
        build()
