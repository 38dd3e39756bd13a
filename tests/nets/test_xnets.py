"""X-Nets: the released mask rule, the gathered layer against a masked one, and counts of weights that exist."""

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d

from studylib import costs, nets
from studylib.nets.xnets import ExpanderConv2d

RULE = [(48, 96, 1, 24), (200, 96, 1, 100), (96, 24, 3, 48), (64, 64, 1, 4), (7, 5, 3, 7)]


@pytest.mark.parametrize(("inputs", "outputs", "size", "degree"), RULE)
def test_the_released_mask_rule(inputs, outputs, size, degree):
    torch.manual_seed(0)
    layer = ExpanderConv2d(inputs, outputs, size, degree)
    mask = layer.mask()
    assert mask.shape == (outputs, inputs)
    assert (mask.sum(1 if inputs > outputs else 0) == degree).all()
    assert mask.sum() * size * size == layer.weight.numel() == min(inputs, outputs) * degree * size**2
    assert torch.equal(layer.dense_weight() != 0, mask[..., None, None].expand(-1, -1, size, size))


@pytest.mark.parametrize(("inputs", "outputs", "size", "degree"), RULE)
def test_gathered_is_masked(inputs, outputs, size, degree):
    """What the layer computes is the masked convolution; so are the gradients, and no weight that is zero has one."""
    torch.manual_seed(0)
    layer = ExpanderConv2d(inputs, outputs, size, degree).double()
    x = torch.rand(2, inputs, 5, 6, dtype=torch.float64, requires_grad=True)
    dense = layer.dense_weight().detach().clone().requires_grad_()
    expected = conv2d(x, dense * layer.mask()[..., None, None], padding=size // 2)
    grad = torch.rand_like(expected)
    expected_x, expected_w = torch.autograd.grad(expected, (x, dense), grad)
    out = layer(x)
    assert torch.allclose(out, expected, rtol=0, atol=1e-12)
    got_x, got_w = torch.autograd.grad(out, (x, layer.weight), grad)
    assert torch.allclose(got_x, expected_x, rtol=0, atol=1e-12)
    layer.weight.data = got_w
    assert torch.allclose(layer.dense_weight(), expected_w, rtol=0, atol=1e-12)


def test_a_one_sided_draw_leaves_channels_out():
    """1,024 inputs draw 2 outputs each: an output has none with probability (1 - 2 / 1024) ^ 1024, about e^-2."""
    torch.manual_seed(0)
    left_out = (ExpanderConv2d(1024, 1024, 1, 2).mask().sum(1) == 0).sum().item()
    assert abs(left_out - 1024 * (1 - 2 / 1024) ** 1024) < 5 * (1024 * 0.135 * 0.865) ** 0.5


@pytest.mark.parametrize(
    ("depth", "growth_rate", "compression", "params", "macs"),
    [
        (40, 24, 2, 374_068, 142_690_080),
        (40, 36, 2, 813_124, 320_037_552),
        (40, 100, 4, 3_075_400, 1_232_519_600),
        (40, 100, 8, 1_614_900, 618_324_400),
        (40, 100, 16, 884_500, 311_111_600),
        (40, 200, 4, 11_985_700, 4_918_799_200),
        (40, 200, 10, 4_983_700, 1_974_287_200),
        (40, 200, 20, 2_649_700, 992_783_200),
        (40, 200, 50, 1_249_300, 403_880_800),
    ],
)
def test_x_densenets_of_the_logs(depth, growth_rate, compression, params, macs, on_meta):
    counted = costs.count(on_meta(nets.x_densenet, depth, growth_rate, compression, 100), (3, 32, 32))
    assert (counted.params, counted.macs) == (params, macs)


def test_a_layer_with_fewer_inputs_than_outputs_keeps_less_than_its_share(on_meta):
    """The first bottleneck of 40-100-16, 200 to 400: 200 * (200 // 16) weights; a sixteenth would be 5,000."""
    first = on_meta(nets.x_densenet, 40, 100, 16).features.denseblock1.denselayer1.conv1
    assert (first.in_channels, first.out_channels, first.weight.numel()) == (200, 400, 2_400)


def test_compression_1_is_dense_in_one_net_and_not_in_the_other(on_meta):
    assert costs.count(on_meta(nets.x_mobilenet, 1.0, 1)).macs == costs.count(on_meta(nets.mobilenet_v1)).macs
    x_net, dense = on_meta(nets.x_densenet, 100, 12, 1), on_meta(nets.densenet_cifar, 100, 12)
    assert costs.count(x_net, (3, 32, 32)).macs < costs.count(dense, (3, 32, 32)).macs


@pytest.mark.parametrize(("compression", "macs"), [(1, 176_502_016), (2, 105_854_208), (16, 44_037_376)])
def test_x_mobilenets_as_released(compression, macs, on_meta):
    """The stem, the depthwise, the first 1x1 and the last layer are 35,206,400; the other 1x1s 141,295,616 / c."""
    counted = costs.count(on_meta(nets.x_mobilenet, 0.5, compression))
    assert counted.macs == macs == 35_206_400 + 141_295_616 // compression


def test_x_mobilenet_keeps_the_first_pointwise_dense(on_meta):
    blocks = on_meta(nets.x_mobilenet, 0.5, 4).features[1:]
    pointwise = [block.pointwise for block in blocks]
    assert isinstance(pointwise[0], nn.Conv2d) and (pointwise[0].in_channels, pointwise[0].out_channels) == (32, 32)
    assert all(isinstance(layer, ExpanderConv2d) for layer in pointwise[1:])
    assert (pointwise[-1].in_channels, pointwise[-1].out_channels) == (512, 1024)
    assert pointwise[-1].weight.shape == (512, 256, 1, 1)


@pytest.mark.parametrize(
    ("net", "shape"), [(nets.x_densenet(10, 6, 2, 7), (3, 32, 32)), (nets.x_mobilenet(0.25, 4, 7), (3, 64, 64))]
)
def test_all_weights_of_a_small_net_learn(net, shape):
    torch.manual_seed(0)
    x = torch.rand(2, *shape)
    out = net(x)
    assert out.shape == (2, 7)
    out.square().sum().backward()
    drawn = [part for part in net.modules() if isinstance(part, ExpanderConv2d)]
    assert len(drawn) > 3 and all(part.weight.grad is not None and part.weight.grad.any() for part in drawn)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ExpanderConv2d(8, 4, 1, 9), "each of 4 channels draws 9 of 8: expected 1 to 8"),
        (lambda: nets.x_densenet(40, 24, 49), "draws 0 of 96"),
        (lambda: nets.x_densenet(40, 24, 0), "compression must be at least 1, got 0"),
        (lambda: nets.x_mobilenet(0.5, 0), "compression of at least 1, got 0.5, 0"),
        (lambda: nets.x_mobilenet(0.01, 1), "width of at least 1/64"),
    ],
)
def test_bad_knobs(build, message):
    with pytest.raises(ValueError, match=message):
        build()
