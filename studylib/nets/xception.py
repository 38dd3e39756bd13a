"""Xception: Inception's idea taken to the end, a net of depthwise separable convolutions with residual connections.

Source: Chollet, "Xception: deep learning with depthwise separable convolutions" (arXiv 1610.02357), Figure 5.
"""

import torch
from torch import nn


class SeparableConv(nn.Sequential):
    """3x3 depthwise, then 1x1 pointwise, then batch norm; no activation between the two (Figure 10).

    x: (batch, in_channels, height, width) to (batch, out_channels, height, width).
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)


class Block(nn.Module):
    """Separable convolutions, each after a ReLU, and a residual connection around them.

    channels: output channels of each separable convolution. `downsample` ends the block with a 3x3 max-pool of stride
    2 and makes the connection a 1x1 convolution of stride 2, else it is the identity. The first block of the entry
    flow has no ReLU at its start.
    """

    def __init__(self, in_channels: int, channels: tuple[int, ...], downsample: bool, relu_first: bool = True):
        super().__init__()
        layers: list[nn.Module] = []
        before = in_channels
        for out_channels in channels:
            # Not in place: the residual connection still needs the block's input.
            layers += [nn.ReLU(), SeparableConv(before, out_channels)]
            before = out_channels
        self.body = nn.Sequential(*(layers if relu_first else layers[1:]))
        self.skip: nn.Module = nn.Identity()
        if downsample:
            self.body.append(nn.MaxPool2d(3, stride=2, padding=1))
            self.skip = nn.Sequential(nn.Conv2d(in_channels, before, 1, stride=2, bias=False), nn.BatchNorm2d(before))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) + self.skip(x)


def _conv(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride=stride, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU()
    )


class Xception(nn.Module):
    """Entry flow, eight middle blocks, exit flow: 36 convolutions in 14 modules.

    Input: (batch, 3, 299, 299); output: (batch, num_classes).
    """

    def __init__(self, num_classes: int = 1000):
        super().__init__()
        self.entry = nn.Sequential(
            _conv(3, 32, stride=2),
            _conv(32, 64, stride=1),
            Block(64, (128, 128), downsample=True, relu_first=False),
            Block(128, (256, 256), downsample=True),
            Block(256, (728, 728), downsample=True),
        )
        self.middle = nn.Sequential(*(Block(728, (728, 728, 728), downsample=False) for _ in range(8)))
        self.exit = nn.Sequential(
            Block(728, (728, 1024), downsample=True),
            SeparableConv(1024, 1536),
            nn.ReLU(),
            SeparableConv(1536, 2048),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.classifier = nn.Linear(2048, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.exit(self.middle(self.entry(x))))


def xception(num_classes: int = 1000) -> Xception:
    """Xception as in Figure 5, for 299x299 pixels, without the optional linear layers before the last one:
    22,855,952 parameters."""
    return Xception(num_classes)
