"""PSPNet against arXiv 1612.01105 and its authors' nets; and the trap between adaptive and fixed pooling."""

import pytest
import torch

from studylib import costs, nets
from studylib.nets.pspnet import BINS, PyramidPooling


def random(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("size", "side", "map_size", "kernels"), [(473, 60, 60, [60, 30, 20, 10]), (713, 90, 90, [90, 45, 30, 15])]
)
def test_shapes_at_the_papers_sizes(size, side, map_size, kernels, on_meta):
    net = on_meta(nets.pspnet, map_size=map_size)
    counted = costs.count(net, (3, size, size))
    rows = {row.name: row for row in counted.rows}
    assert counted.unknown == ()
    assert [level.pool.kernel_size for level in net.pyramid.levels] == kernels
    assert [rows[f"pyramid.levels.{i}.pool"].output_shape for i in range(4)] == [(2048, n, n) for n in BINS]
    assert rows["conv.conv"].output_shape == (512, side, side)
    assert rows["classifier"].output_shape == (150, side, side)
    assert net.conv.conv.in_channels == 4096
    levels = sum(row.params for name, row in rows.items() if name.startswith("pyramid"))
    assert levels == 4 * (2048 * 512 + 2 * 512) == 4_198_400


def test_the_stem_is_three_3x3_convolutions(on_meta):
    net = on_meta(nets.pspnet, "resnet50")
    rows = costs.count(net, (3, 473, 473)).rows
    stem = [row for row in rows if row.name.startswith("backbone.conv1.") and row.type == "Conv2d"]
    assert [row.output_shape for row in stem] == [(64, 237, 237), (64, 237, 237), (128, 237, 237)]
    assert sum(row.weights for row in stem) == 9 * (3 * 64 + 64 * 64 + 64 * 128)
    with torch.device("meta"):
        assert net(torch.empty(2, 3, 60, 80)).shape == (2, 150, 60, 80)


@pytest.mark.parametrize(("size", "equal"), [(60, True), (61, False), (66, False)])
def test_adaptive_and_fixed_pooling_differ_off_the_training_size(size, equal):
    torch.manual_seed(0)
    adaptive, fixed = PyramidPooling(8).double().eval(), PyramidPooling(8, map_size=60).double().eval()
    fixed.load_state_dict(adaptive.state_dict())
    x = random(1, 8, size, size)
    first, second = adaptive(x), fixed(x)
    assert first.shape == second.shape == (1, 16, size, size)
    assert torch.equal(first[:, :8], x)
    difference = (first - second).abs().max()
    assert difference < 1e-12 if equal else difference > 1e-3


def test_levels_are_means_of_regions():
    """Without convolution and enlargement: 2x2 bins of a 6x6 map are the means of its quarters."""
    x = random(1, 4, 6, 6)
    level = PyramidPooling(4, map_size=6).levels[1].pool
    quarters = x.unflatten(2, (2, 3)).unflatten(4, (2, 3)).mean((3, 5))
    assert (level(x) - quarters).abs().max() < 1e-15


def test_channels_that_the_levels_do_not_divide():
    pyramid = PyramidPooling(10, (1, 2, 3)).double().eval()
    assert pyramid.out_channels == 19 and pyramid(random(1, 10, 6, 6)).shape == (1, 19, 6, 6)


def test_output_stride_is_8_by_rates_2_and_4(on_meta):
    net = on_meta(nets.pspnet).backbone
    assert [net.layer3[1].conv2.dilation, net.layer4[1].conv2.dilation] == [(2, 2), (4, 4)]


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"backbone": "vgg16"}, "backbone must be one of resnet50, resnet101, resnet152, got 'vgg16'"),
        ({"map_size": 64}, r"map_size must be divisible by all bins \(1, 2, 3, 6\), got 64"),
    ],
)
def test_refused(knobs, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        nets.pspnet(**knobs)
