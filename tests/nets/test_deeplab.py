"""DeepLabV3 against arXiv 1706.05587 and torchvision: atrous convolution, strides turned into rates, ASPP."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.models.segmentation import deeplabv3_resnet50

from studylib import costs, nets
from studylib.nets.deeplab import ASPP, RATES, DeepLabV3, ResNetFeatures, dilate, valid_taps
from studylib.nets.resnet import ResNet


def random(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def tiny(blocks=(1, 2, 2, 3)):
    """A ResNet in float64 whose batch norms do something."""
    torch.manual_seed(0)
    net = ResNet(blocks, num_classes=10).double().eval()
    for name, buffer in net.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(std=0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return net


@pytest.mark.parametrize("rate", [2, 3, 6])
def test_atrous_convolution_is_the_filter_with_zeros_between(rate):
    x, weight = random(2, 3, 19, 17), random(4, 3, 3, 3, seed=1)
    spread = torch.zeros(4, 3, 2 * rate + 1, 2 * rate + 1, dtype=torch.float64)
    spread[:, :, ::rate, ::rate] = weight
    expected = F.conv2d(x, spread, padding=rate)
    assert (F.conv2d(x, weight, padding=rate, dilation=rate) - expected).abs().max() < 1e-12


@pytest.mark.parametrize(
    ("rate", "shares"),
    [
        (1, {9: 0.9394, 6: 0.0596, 4: 0.0009}),
        (6, {9: 0.6649, 6: 0.3011, 4: 0.0341}),
        (12, {9: 0.3979, 6: 0.4658, 4: 0.1363}),
        (18, {9: 0.1991, 6: 0.4942, 4: 0.3067}),
        (64, {4: 0.0009, 2: 0.0596, 1: 0.9394}),
        (65, {1: 1.0}),
    ],
)
def test_figure_4(rate, shares):
    counts = valid_taps(65, rate)
    assert {taps: round(n / 65**2, 4) for taps, n in counts.items()} == shares
    ones = torch.ones(1, 1, 65, 65, dtype=torch.float64)
    seen = F.conv2d(ones, torch.ones(1, 1, 3, 3, dtype=torch.float64), padding=rate, dilation=rate)
    assert counts == {int(taps): int((seen == taps).sum()) for taps in sorted(seen.unique().tolist(), reverse=True)}


@pytest.mark.parametrize(("output_stride", "size"), [(4, 65), (8, 65), (8, 64), (16, 66), (32, 65)])
def test_dilated_net_has_the_strided_nets_values(output_stride, size):
    x = random(1, 3, size, size)
    strided, dilated = tiny(), dilate(tiny(), output_stride)
    with torch.no_grad():
        expected, fine = ResNetFeatures(strided)(x), ResNetFeatures(dilated)(x)
    assert fine.shape[2] == -(-size // output_stride)
    step = 32 // output_stride
    assert expected.abs().max() > 0.1
    assert (fine[:, :, ::step, ::step] - expected).abs().max() < 1e-10
    assert sum(p.numel() for p in dilated.parameters()) == sum(p.numel() for p in strided.parameters())


def rates(net):
    return [[block.conv2.dilation[0] for block in stage] for stage in (net.layer2, net.layer3, net.layer4)]


@pytest.mark.parametrize(
    ("output_stride", "multi_grid", "expected"),
    [
        (32, None, [[1, 1], [1, 1], [1, 1, 1]]),
        (16, None, [[1, 1], [1, 1], [1, 2, 2]]),
        (16, (1, 1, 1), [[1, 1], [1, 1], [2, 2, 2]]),
        (16, (1, 2, 4), [[1, 1], [1, 1], [2, 4, 8]]),
        (8, None, [[1, 1], [1, 2], [2, 4, 4]]),
        (8, (1, 2, 4), [[1, 1], [1, 2], [4, 8, 16]]),
        (4, None, [[1, 2], [2, 4], [4, 8, 8]]),
    ],
)
def test_rates(output_stride, multi_grid, expected, on_meta):
    net = dilate(on_meta(ResNet, (1, 2, 2, 3)), output_stride, multi_grid)
    assert rates(net) == expected


@pytest.mark.parametrize(("output_stride", "side"), [(8, 65), (16, 33)])
def test_shapes_and_parameters(output_stride, side, on_meta):
    counted = costs.count(on_meta(nets.deeplabv3, "resnet50", output_stride), (3, 513, 513))
    rows = {row.name: row for row in counted.rows}
    assert rows["classifier"].output_shape == (21, side, side)
    assert rows["aspp.project.0"].output_shape == (256, side, side)
    aspp = 2048 * 256 * 2 + 3 * 9 * 2048 * 256 + 5 * 256 * 256 + 6 * 2 * 256
    assert sum(row.params for name, row in rows.items() if name.startswith("aspp")) == aspp == 15_535_104
    assert counted.params == 25_557_032 - 2_049_000 + aspp + 256 * 21 + 21  # the same at both output strides
    with torch.device("meta"):
        assert nets.deeplabv3("resnet50", output_stride)(torch.empty(2, 3, 50, 70)).shape == (2, 21, 50, 70)


@pytest.mark.parametrize(("output_stride", "expected"), [(16, RATES), (8, (12, 24, 36))])
def test_aspp_has_four_convolutions_and_the_image(output_stride, expected, on_meta):
    aspp = on_meta(nets.deeplabv3, "resnet50", output_stride).aspp
    assert [branch[0].kernel_size[0] for branch in aspp.convs[:4]] == [1, 3, 3, 3]
    assert tuple(branch[0].dilation[0] for branch in aspp.convs[1:4]) == expected
    assert [costs.receptive_field(branch).size for branch in aspp.convs[1:4]] == [
        (2 * rate + 1,) * 2 for rate in expected
    ]
    assert aspp.project[0].in_channels == 5 * 256


def test_image_pooling_is_the_maps_mean_everywhere():
    torch.manual_seed(0)
    aspp = ASPP(4, (1,), 3).double().eval()
    x = random(2, 4, 5, 6)
    pooled = aspp.convs[-1](x)
    mean = aspp.convs[-1][1](x.mean((2, 3), keepdim=True))
    expected = F.relu(aspp.convs[-1][2](mean)).expand(2, 3, 5, 6)
    assert pooled.shape == (2, 3, 5, 6) and (pooled - expected).abs().max() < 1e-12


def test_the_same_as_torchvisions_backbone_and_aspp(on_meta):
    """torchvision's rates are those of output stride 8 without multi-grid; its head has one more 3x3 convolution."""
    theirs = on_meta(deeplabv3_resnet50, weights=None, weights_backbone=None).to_empty(device="cpu").eval()
    torch.manual_seed(0)
    for name, tensor in theirs.state_dict().items():
        if tensor.dim() > 1:
            tensor.normal_(std=(2 / tensor[0].numel()) ** 0.5)
        elif tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5) if "running_var" in name or "weight" in name else tensor.normal_(std=0.1)
    ours: DeepLabV3 = on_meta(nets.deeplabv3, "resnet50", 8, None).eval()
    weights = theirs.state_dict()
    for part, prefix in ((ours.backbone, "backbone."), (ours.aspp, "classifier.0.")):
        own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        part.load_state_dict(own, strict=True, assign=True)
    x = torch.rand(2, 3, 65, 97)
    with torch.no_grad():
        features = theirs.backbone(x)["out"]
        expected, computed = theirs.classifier[0](features), ours.aspp(ours.backbone(x))
    assert computed.shape == (2, 256, 9, 13)
    assert (expected[0] - expected[1]).abs().max() > 1e-2
    assert (computed - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nets.deeplabv3("vgg16"), "backbone must be one of resnet50, resnet101, resnet152, got 'vgg16'"),
        (lambda: nets.deeplabv3(output_stride=32), "output_stride must be 8 or 16.*got 32"),
        (lambda: nets.deeplabv3(multi_grid=(1, 2)), r"a rate of at least 1 for each of 3 blocks, got \(1, 2\)"),
        (lambda: nets.deeplabv3(multi_grid=(0, 1, 1)), r"got \(0, 1, 1\)"),
        (lambda: dilate(nets.resnet50(), 12), "output_stride must be 4, 8, 16 or 32, got 12"),
        (lambda: dilate(nets.resnet50(stride_in="1x1"), 8), "needs the strides in the 3x3"),
    ],
)
def test_refused(call, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        call()
