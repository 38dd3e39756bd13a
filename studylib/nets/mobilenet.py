"""MobileNet: one plain net of depthwise separable convolutions, and one knob for its width.

Source: Howard et al., "MobileNets" (arXiv 1704.04861), Table 1. The table prints stride 2 for the last depthwise
convolution with 7x7 maps before and after it; only stride 1 fits.
"""

import torch
from torch import nn

ROWS = (
    (32, 64, 1),
    (64, 128, 2),
    (128, 128, 1),
    (128, 256, 2),
    (256, 256, 1),
    (256, 512, 2),
    *((512, 512, 1),) * 5,
    (512, 1024, 2),
    (1024, 1024, 1),
)
"""Table 1's thirteen blocks: in_channels, out_channels and stride of the depthwise convolution."""


class SeparableConv(nn.Sequential):
    """3x3 depthwise and 1x1 pointwise convolution, batch norm and ReLU after each (Figure 3, right).

    x: (batch, in_channels, height, width) to (batch, out_channels, height / stride, width / stride).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, stride, 1, groups=in_channels, bias=False)
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU()


class FullConv(nn.Sequential):
    """3x3 convolution, batch norm, ReLU (Figure 3, left): the first layer, and what Table 4 compares with.

    x: (batch, in_channels, height, width) to (batch, out_channels, height / stride, width / stride).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()


class MobileNet(nn.Module):
    """Table 1. Input: (batch, 3, 224, 224), or any other resolution; output: (batch, num_classes)."""

    def __init__(self, width: float, shallow: bool, separable: bool, num_classes: int):
        super().__init__()
        block = SeparableConv if separable else FullConv
        rows = [row for row in ROWS if not (shallow and row == (512, 512, 1))]
        self.features = nn.Sequential(FullConv(3, int(width * 32), stride=2))
        for in_channels, out_channels, stride in rows:
            self.features.append(block(int(width * in_channels), int(width * out_channels), stride))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(int(width * 1024), num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.pool(self.features(x)), 1))


def mobilenet_v1(
    width: float = 1.0, shallow: bool = False, separable: bool = True, num_classes: int = 1000
) -> MobileNet:
    """MobileNet v1. The paper's resolution multiplier is the input's size.

    width: the width multiplier alpha, on every layer's channels; rounded down.
    shallow: leave out the five blocks of 512 channels at 14x14 (Table 5).
    separable: False makes every block a full 3x3 convolution ("Conv MobileNet", Table 4).
    Raises ValueError where `width` leaves a layer without a channel.
    """
    if not width * 32 >= 1:
        raise ValueError(f"width must leave the first layer's 32 channels at least one (width >= 1/32), got {width}")
    return MobileNet(width, shallow, separable, num_classes)
