"""Xception against Figure 5 of arXiv 1610.02357."""

import torch
from torch import nn

from studylib import costs, nets
from studylib.nets.xception import Block, SeparableConv


def test_counts(on_meta):
    counted = costs.count(on_meta(nets.xception), (3, 299, 299))
    assert counted.params == 22_855_952  # as Keras' own Xception has trainable parameters
    assert f"{counted.macs / 1e9:.2f}" == "8.36"


def test_36_convolutions_in_14_modules(on_meta):
    net = on_meta(nets.xception)
    separable = [part for part in net.modules() if isinstance(part, SeparableConv)]
    blocks = [part for part in net.modules() if isinstance(part, Block)]
    # All modules but the first and the last have a residual connection.
    assert len(separable) + 2 == 36 and len(blocks) + 2 == 14


def test_maps(on_meta):
    rows = costs.count(on_meta(nets.xception), (3, 299, 299)).rows
    pixels = [row.output_shape[1] for row in rows if row.type in ("Conv2d", "MaxPool2d")]
    assert list(dict.fromkeys(pixels)) == [149, 147, 74, 37, 19, 10]
    assert rows[-2].output_shape == (2048,)


def test_no_activation_between_depthwise_and_pointwise():
    layers = [type(layer) for layer in SeparableConv(4, 8)]
    assert layers == [nn.Conv2d, nn.Conv2d, nn.BatchNorm2d]
    depthwise, pointwise, _ = SeparableConv(4, 8)
    assert depthwise.weight.shape == (4, 1, 3, 3) and pointwise.weight.shape == (8, 4, 1, 1)


def test_a_middle_block_adds_its_input():
    torch.manual_seed(0)
    block = Block(6, (6, 6, 6), downsample=False).eval()
    x = torch.rand(2, 6, 5, 5)
    for part in block.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.zeros_(part.weight)
    assert torch.equal(block(x), x)


def test_runs():
    torch.manual_seed(0)
    with torch.no_grad():
        assert nets.xception(num_classes=3).eval()(torch.rand(1, 3, 75, 75)).shape == (1, 3)
