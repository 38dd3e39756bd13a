"""ShiftResNets against the authors' counts; the shift against the convolutions that it is a case of."""

import pytest
import torch
from torch.nn.functional import conv2d

from studylib import costs, nets
from studylib.nets.shiftresnet import ConvShiftConv, ResidualBlock, Shift


def one_hot(channels):
    """Depthwise kernels (channels, 1, 3, 3) with a single 1 each, where the authors' kernel takes the number from."""
    kernels = torch.zeros(channels, 1, 3, 3, dtype=torch.float64)
    for c in range(channels):
        dx, dy = (c % 3 - 1, c // 3 % 3 - 1) if c < 9 * (channels // 9) else (0, 0)
        kernels[c, 0, dy + 1, dx + 1] = 1
    return kernels


@pytest.mark.parametrize("channels", [1, 9, 13, 36])
def test_shift_is_a_depthwise_convolution_with_one_hot_kernels(channels):
    torch.manual_seed(0)
    x = torch.rand(2, channels, 5, 7, dtype=torch.float64)
    assert torch.equal(Shift()(x), conv2d(x, one_hot(channels), padding=1, groups=channels))


def test_shift_and_1x1_are_a_3x3_with_one_tap_an_input_channel():
    torch.manual_seed(0)
    x, pointwise = torch.rand(2, 20, 5, 7, dtype=torch.float64), torch.rand(6, 20, 1, 1, dtype=torch.float64)
    taps = pointwise * one_hot(20).transpose(0, 1)
    assert ((taps != 0).sum((0, 2, 3)) == 6).all()
    assert torch.allclose(conv2d(Shift()(x), pointwise), conv2d(x, taps, padding=1), rtol=0, atol=1e-13)


def test_the_gradient_is_the_opposite_shift():
    torch.manual_seed(0)
    x = torch.rand(2, 13, 5, 7, dtype=torch.float64, requires_grad=True)
    grad = torch.rand_like(x)
    (got,) = torch.autograd.grad(Shift()(x), x, grad)
    assert torch.equal(got, conv2d(grad, one_hot(13).flip(2, 3), padding=1, groups=13))


@pytest.mark.parametrize(
    ("name", "knobs", "params"),
    [
        ("shift_resnet20", (1,), 34_906),
        ("shift_resnet20", (3,), 95_642),
        ("shift_resnet20", (6,), 186_746),
        ("shift_resnet20", (9,), 277_850),
        ("shift_resnet56", (3,), 294_554),
        ("resnet20_cifar", (), 272_474),
        ("resnet56_cifar", (), 855_770),
        ("resnet110_cifar", (), 1_730_714),
    ],
)
def test_parameters(name, knobs, params, on_meta):
    assert costs.count(on_meta(getattr(nets, name), *knobs), (3, 32, 32)).params == params


@pytest.mark.parametrize(("name", "printed"), [("resnet20_cifar", 40_960_640), ("shift_resnet20", 16_581_248)])
def test_the_readmes_counts_have_another_stem(name, printed, on_meta):
    """The README counts the stem as 9 x 64 weights a pixel; it has 27 x 16."""
    macs = costs.count(on_meta(getattr(nets, name)), (3, 32, 32)).macs
    assert macs + 32 * 32 * (9 * 64 - 27 * 16) == printed


def test_blocks_of_110_layers(on_meta):
    net = on_meta(nets.shift_resnet110, 1)
    blocks = [part for part in net.modules() if isinstance(part, ConvShiftConv)]
    assert len(blocks) == 54 and [block.conv2.stride for block in blocks].count((2, 2)) == 2
    assert len([part for part in net.modules() if isinstance(part, Shift)]) == 54


@pytest.mark.parametrize("block", [ConvShiftConv(8, 8, 1, 3), ResidualBlock(8, 8, 1)])
def test_a_block_adds_its_input(block):
    torch.manual_seed(0)
    x = torch.rand(2, 8, 6, 6)
    block.eval()
    torch.nn.init.zeros_(block.conv2.weight)
    with torch.no_grad():
        assert torch.equal(block(x), x)


@pytest.mark.parametrize("block", [ConvShiftConv(8, 16, 2, 3), ResidualBlock(8, 16, 2)])
def test_a_block_with_a_stride(block):
    assert block(torch.rand(2, 8, 6, 6)).shape == (2, 16, 3, 3)


def test_a_shift_is_not_counted_and_not_unknown():
    counted = costs.count(ConvShiftConv(8, 8, 1, 3), (8, 6, 6))
    assert counted.unknown == () and counted.macs == 36 * 2 * 8 * 24
    assert next(row for row in counted.rows if row.type == "Shift").macs == 0


def test_bad_expansion():
    with pytest.raises(ValueError, match="expansion must be at least 1, got 0"):
        nets.shift_resnet20(0)
