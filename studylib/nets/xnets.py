"""X-Nets: MobileNet and DenseNet whose 1x1 and 3x3 convolutions keep a random few of their connections.

Source: Prabhu, Varma, Namboodiri, "Deep Expander Networks: efficient deep networks from graph theory" (arXiv 1711.08757),
by the authors' code (DrImpossible/Deep-Expander-Networks): layers/expandergraphlayer.py, mobilenet.py, and what their
training logs print of the nets. There a mask makes zeros of a dense layer's weights; here only the weights that exist are
held, multiplied and counted.
"""

import math

import torch
from torch import nn
from torch.nn import functional

from studylib.nets.densenet import DenseLayer, DenseNet, Transition, densenet_cifar
from studylib.nets.mobilenet import ROWS, FullConv, SeparableConv


class ExpanderConv2d(nn.Module):
    """A convolution with the released mask rule, without the zeros.

    Where it has more inputs than outputs, each output draws `degree` inputs, all different; else each input draws
    `degree` outputs. So only one side's degrees are equal, and the other side's are random: some have no connection.
    x: (batch, in_channels, height, width) to (batch, out_channels, height, width). partners: int64 (side, degree), whom
    each channel of the drawing side drew. weight: (side, degree, kernel_size, kernel_size).
    Raises ValueError where a channel cannot draw so many.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, degree: int):
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.outputs_draw = in_channels > out_channels
        side, others = min(in_channels, out_channels), max(in_channels, out_channels)
        if not 1 <= degree <= others:
            raise ValueError(f"each of {side} channels draws {degree} of {others}: expected 1 to {others}")
        self.partners: torch.Tensor
        self.register_buffer("partners", torch.rand(side, others).argsort(1)[:, :degree])
        self.weight = nn.Parameter(torch.empty(side, degree, kernel_size, kernel_size))
        fan_in = self.weight.numel() / out_channels
        nn.init.normal_(self.weight, std=math.sqrt(2 / fan_in))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        side, degree, size, _ = self.weight.shape
        partners = self.partners.flatten()
        if self.outputs_draw:
            gathered = x.index_select(1, partners)
            return functional.conv2d(gathered, self.weight, padding=size // 2, groups=side)
        weight = self.weight.view(side * degree, 1, size, size)
        products = functional.conv2d(x, weight, padding=size // 2, groups=side)
        out = products.new_zeros(len(x), self.out_channels, *products.shape[2:])
        return out.index_add(1, partners, products)

    def dense_weight(self) -> torch.Tensor:
        """The weight with its zeros, (out_channels, in_channels, kernel_size, kernel_size), as a masked layer has it."""
        wide = self.weight.new_zeros(
            len(self.partners), max(self.in_channels, self.out_channels), *self.weight.shape[2:]
        )
        places = self.partners[..., None, None].expand_as(self.weight)
        wide = wide.scatter(1, places, self.weight)
        return wide if self.outputs_draw else wide.transpose(0, 1)

    def mask(self) -> torch.Tensor:
        """Which input each output has: bool (out_channels, in_channels)."""
        others = max(self.in_channels, self.out_channels)
        wide = torch.zeros(len(self.partners), others, dtype=torch.bool, device=self.partners.device)
        wide = wide.scatter(1, self.partners, True)
        return wide if self.outputs_draw else wide.T


class XMobileNet(nn.Module):
    """MobileNet with expander pointwise convolutions, all but the first. Input: (batch, 3, 224, 224), or others."""

    def __init__(self, width: float, compression: int, num_classes: int):
        super().__init__()
        self.features = nn.Sequential(FullConv(3, 32, stride=2))
        last = len(ROWS) - 1
        for number, (in_channels, out_channels, stride) in enumerate(ROWS):
            before = in_channels if number == 0 else int(width * in_channels)
            after = out_channels if number == last else int(width * out_channels)
            block = SeparableConv(before, after, stride)
            if number:
                block.add_module("pointwise", ExpanderConv2d(before, after, 1, after // compression))
            block.add_module("relu1", nn.ReLU6())
            block.add_module("relu2", nn.ReLU6())
            self.features.append(block)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(1024, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.pool(self.features(x)), 1))


def x_mobilenet(width: float = 0.5, compression: int = 2, num_classes: int = 1000) -> XMobileNet:
    """X-MobileNet as released: width 0.5 and compression 2 have 105.9 million multiply-adds, and the README prints 85.8.

    width: of all layers but two, whose 32 channels of the stem and 1,024 of the last 1x1 stay at any width.
    compression: c; each input of a pointwise convolution draws its outputs' number // c. 1 is the dense net.
    Raises ValueError where that leaves a channel without a connection, and for a width that leaves a layer without one.
    """
    if compression < 1 or not width * 64 >= 1:
        raise ValueError(
            f"expected a width of at least 1/64 and a compression of at least 1, got {width}, {compression}"
        )
    return XMobileNet(width, compression, num_classes)


def x_densenet(depth: int = 40, growth_rate: int = 24, compression: int = 2, num_classes: int = 10) -> DenseNet:
    """X-DenseNet-BC for 32x32 images: all convolutions but the stem draw their inputs' number // `compression`.

    depth, growth_rate: as in `densenet_cifar`. compression: c. By the released rule a layer with fewer inputs than outputs
    keeps less than 1/c of its weights, for that many outputs are drawn by each input; so c = 1 is not the dense net.
    Input: (batch, 3, 32, 32). Raises ValueError where a channel cannot draw one, and as `densenet_cifar` does.
    """
    if compression < 1:
        raise ValueError(f"compression must be at least 1, got {compression}")
    net = densenet_cifar(depth, growth_rate, num_classes=num_classes)
    for part in net.modules():
        if isinstance(part, DenseLayer):
            part.add_module("conv1", _drawn(part.conv1, compression))
            part.add_module("conv2", _drawn(part.conv2, compression))
        elif isinstance(part, Transition):
            part.add_module("conv", _drawn(part.conv, compression))
    return net


def _drawn(conv: nn.Conv2d, compression: int) -> ExpanderConv2d:
    """What takes a dense convolution's place."""
    return ExpanderConv2d(conv.in_channels, conv.out_channels, conv.kernel_size[0], conv.in_channels // compression)
