"""MobileNetV2 and its heads against the tables of arXiv 1801.04381, the authors' own table, and torchvision."""

import pytest
import torch
import torchvision
from torch import nn

from studylib import costs, nets
from studylib.nets.mobilenet_v2 import InvertedResidual, rounded


@pytest.mark.parametrize(
    ("width", "pixels", "millions"),
    [
        (1.0, 224, "300.77"),
        (1.0, 192, "221.32"),
        (1.0, 160, "154.08"),
        (1.0, 96, "56.29"),
        (0.75, 224, "209.07"),
        (0.75, 160, "107.30"),
        (0.75, 128, "69.13"),
        (0.5, 224, "97.13"),
        (0.5, 192, "71.70"),
        (0.5, 128, "32.58"),
        (0.35, 224, "59.29"),
        (0.35, 160, "30.87"),
        (0.35, 128, "20.22"),
        (1.4, 224, "582.20"),
    ],
)
def test_multiply_adds(width, pixels, millions, on_meta):
    counted = costs.count(on_meta(nets.mobilenet_v2, width), (3, pixels, pixels))
    assert f"{counted.macs / 1e6:.2f}" == millions


@pytest.mark.parametrize(
    ("width", "params", "without_norms"),
    [
        (1.0, 3_504_872, 3_470_760),
        (0.75, 2_636_424, 2_609_784),
        (0.5, 1_968_680, 1_950_136),
        (0.35, 1_677_128, 1_663_048),
        (1.4, 6_108_776, 6_060_840),
    ],
)
def test_parameters(width, params, without_norms, on_meta):
    counted = costs.count(on_meta(nets.mobilenet_v2, width))
    assert (counted.params, counted.params_no_bn) == (params, without_norms)


def test_300_774_272(on_meta):
    assert costs.count(on_meta(nets.mobilenet_v2)).macs == 300_774_272


def test_table_2(on_meta):
    """Seventeen bottlenecks, where the text says nineteen, and the maps' sizes; ten of them have the sum."""
    net = on_meta(nets.mobilenet_v2)
    blocks = [part for part in net.modules() if isinstance(part, InvertedResidual)]
    assert len(blocks) == 17 and sum(block.has_residual for block in blocks) == 10
    rows = [row for row in costs.count(net).rows if row.type == "Conv2d"]
    depthwise = [row.output_shape for row in rows if row.weights == 9 * row.output_shape[0]]
    assert [shape[1] for shape in depthwise] == [112] + [56] * 2 + [28] * 3 + [14] * 7 + [7] * 4
    assert rows[-1].output_shape == (1280, 7, 7)


def test_cost_of_a_block(on_meta):
    """Section 3.3: h w d t (d + k^2 + d') multiply-adds at stride 1."""
    for d, out, t in ((16, 24, 6), (24, 24, 2)):
        counted = costs.count(on_meta(InvertedResidual, d, out, 1, t), (d, 10, 12))
        assert counted.macs == 10 * 12 * d * t * (d + 9 + out)


@pytest.mark.parametrize("t", [2, 3, 6])
def test_the_split_of_section_5_1(t):
    """The block is the sum over groups of expanded channels: as many multiply-adds, and 1/t of the widest map."""
    torch.manual_seed(0)
    block = InvertedResidual(4, 4, 1, t).double().eval()
    x = torch.randn(2, 4, 7, 7, dtype=torch.float64)
    (expand, norm1, _), (depthwise, norm2, _), project, norm3 = block.conv
    total = torch.zeros_like(x)
    with torch.no_grad():
        for number in range(t):
            part = slice(4 * number, 4 * number + 4)

            def normed(norm, y, part=part):
                y = nn.functional.batch_norm(
                    y, norm.running_mean[part], norm.running_var[part], norm.weight[part], norm.bias[part]
                )
                return nn.functional.relu6(y)

            e = normed(norm1, nn.functional.conv2d(x, expand.weight[part]))
            assert e.shape[1] == 4
            d = normed(norm2, nn.functional.conv2d(e, depthwise.weight[part], padding=1, groups=4))
            total += nn.functional.conv2d(d, project.weight[:, part])
        assert torch.allclose(x + norm3(total), block(x), atol=1e-12)


@pytest.mark.parametrize(
    ("channels", "width", "found"), [(32, 1, 32), (32, 0.35, 16), (24, 0.75, 24), (96, 0.35, 32), (3, 1, 8)]
)
def test_rounding(channels, width, found):
    assert rounded(channels, width) == found


def test_torchvisions_weights_load(on_meta, assert_loads):
    assert_loads(on_meta(nets.mobilenet_v2), on_meta(torchvision.models.mobilenet_v2), 64)


def test_ssdlite(on_meta):
    """Table 6 prints 4.3M and 0.8B, Table 5 2.1M for the predicting layers."""
    net = on_meta(nets.mobilenet_v2_ssdlite)
    counted = costs.count(net, (3, 320, 320))
    assert (counted.params, counted.macs) == (4_337_013, 788_830_144)
    new = [row for row in counted.rows if row.name.startswith(("extras", "classes", "boxes"))]
    assert sum(row.weights for row in new) == 2_093_696 and f"{sum(row.macs for row in new) / 1e6:.1f}" == "177.6"
    backbone = counted.params - sum(row.params for row in new)
    assert backbone == 2_223_872 == costs.count(on_meta(nets.mobilenet_v2)).params - 1281 * 1000
    classes, boxes = net(torch.empty(2, 3, 320, 320, device="meta"))
    anchors = 3 * 20**2 + 6 * (10**2 + 5**2 + 3**2 + 2**2 + 1)
    assert classes.shape == (2, anchors, 81) and boxes.shape == (2, anchors, 4)
    heads = [row.output_shape for row in new if row.type == "Conv2d" and row.name.startswith("classes")]
    assert [shape for shape in heads if shape[0] % 81 == 0] == [
        (243, 20, 20), (486, 10, 10), (486, 5, 5), (486, 3, 3), (486, 2, 2), (486, 1, 1)
    ]  # fmt: skip


def test_ssdlites_head_shares_the_first_nets_layers():
    """What the tap and the layers behind it make is what the whole net makes."""
    torch.manual_seed(0)
    net, plain = nets.mobilenet_v2_ssdlite(3).eval(), nets.mobilenet_v2().eval()
    ours = [*net.to_stride_16, net.tapped, *net.behind]
    for mine, theirs in zip(ours, plain.features, strict=True):
        mine.load_state_dict(theirs.state_dict())
    x = torch.rand(1, 3, 64, 64)
    seen: list[torch.Tensor] = []
    net.behind[-1].register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        net(x)
        assert torch.allclose(seen[0], plain.features(x), atol=1e-5)


def test_deeplab(on_meta):
    """Table 7 prints 2.11M and 2.75B for V2* without ASPP at output stride 16."""
    counted = costs.count(on_meta(nets.mobilenet_v2_deeplab), (3, 513, 513))
    assert counted.params == 2_113_557 and f"{counted.macs / 1e9:.3f}" == "2.741"
    assert [row.output_shape for row in counted.rows if row.name.startswith("backbone")][-1] == (320, 33, 33)
    pixels = costs.count(on_meta(nets.mobilenet_v2_deeplab, True), (3, 513, 513))
    assert pixels.params - counted.params == 3 * (9 * 320 * 256 + 512) + 3 * 256 * 256


def test_rates_in_place_of_strides():
    """At output stride 16 each place that the strided net has holds the same values."""
    torch.manual_seed(0)
    net, plain = nets.mobilenet_v2_deeplab().eval(), nets.mobilenet_v2().eval()
    for part in plain.modules():  # weights that keep the scale of what passes
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
    for mine, theirs in zip(net.backbone, plain.features[:-1], strict=True):
        mine.load_state_dict(theirs.state_dict())
    x = torch.rand(1, 3, 97, 97)
    with torch.no_grad():
        dense, strided = net.backbone(x), plain.features[:-1](x)
        assert dense.shape[2:] == (7, 7) and strided.shape[2:] == (4, 4)
        assert strided.abs().max() > 0.1 and torch.allclose(dense[:, :, ::2, ::2], strided, atol=1e-4)
        assert net(x).shape == (1, 21, 97, 97)


@pytest.mark.parametrize("width", [0, -1.0, float("nan")])
def test_a_width_that_is_none(width):
    with pytest.raises(ValueError, match="width must be above 0, got"):
        nets.mobilenet_v2(width)
