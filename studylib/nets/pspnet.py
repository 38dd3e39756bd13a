"""PSPNet: what stands in the whole image, its quarters, ninths and 36ths, told to every position.

Source: Zhao et al., "Pyramid scene parsing network" (arXiv 1612.01105), Figure 3 and Section 3.2, and the authors'
Caffe nets. The auxiliary loss (weight 0.4, after the fourth stage), which only helps training, is left out.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from studylib.nets.deeplab import BACKBONES, ResNetFeatures, dilate
from studylib.nets.resnet import Bottleneck, ResNet

BINS = (1, 2, 3, 6)
"""Bins along a side at each level of the pyramid."""


def _conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Sequential:
    """A convolution that keeps the map's size (over its stride), batch norm, ReLU."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(out_channels), relu=nn.ReLU()))


class PyramidPooling(nn.Module):
    """Averages over bins x bins regions, 1x1 to 1/N of the channels each, enlarged, and beside the input.

    x: (batch, in_channels, h, w) to (batch, 2 * in_channels, h, w) where N, the number of levels, divides in_channels.
    map_size: None pools adaptively: any map gives bins x bins, by regions that overlap where the size is not
    divisible. A number pools as the authors' nets do, by fixed squares of map_size / bins pixels (60 / 30 / 20 / 10
    for 60): on any other map the grid is another one, and pixels that fill no square are left out.
    Raises ValueError where `bins` do not divide `map_size`.
    """

    def __init__(self, in_channels: int, bins: Sequence[int] = BINS, map_size: int | None = None):
        super().__init__()
        if map_size is not None and any(map_size % n for n in bins):
            raise ValueError(f"map_size must be divisible by all bins {tuple(bins)}, got {map_size}")
        channels = in_channels // len(bins)
        self.levels = nn.ModuleList(
            nn.Sequential(
                OrderedDict(
                    pool=nn.AdaptiveAvgPool2d(n) if map_size is None else nn.AvgPool2d(map_size // n),
                    project=_conv(in_channels, channels, 1),
                )
            )
            for n in bins
        )
        self.out_channels = in_channels + len(bins) * channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Aligned at the corners, as Caffe's Interp layer of the authors' nets.
        enlarged = [
            F.interpolate(level(x), size=x.shape[2:], mode="bilinear", align_corners=True) for level in self.levels
        ]
        return torch.cat([x, *enlarged], 1)


def _deep_stem(net: ResNet) -> ResNet:
    """Puts the authors' three 3x3 convolutions (64, 64, 128) in place of the 7x7, and widens the next block's input."""
    stem: OrderedDict[str, nn.Module] = OrderedDict(conv1=_conv(3, 64, 3, stride=2), conv2=_conv(64, 64, 3))
    stem["conv3"] = nn.Sequential(nn.Conv2d(64, 128, 3, padding=1, bias=False))
    net.conv1, net.bn1 = nn.Sequential(stem), nn.BatchNorm2d(128)  # type: ignore[assignment]
    net.layer1[0] = Bottleneck(128, 64, 1, "3x3")
    return net


class PSPNet(nn.Module):
    """Dilated backbone at output stride 8, pyramid pooling, 3x3 to 512, 1x1 to the classes, enlarged.

    Input: (batch, 3, height, width); output: (batch, num_classes, height, width), the logits of each pixel.
    """

    def __init__(self, net: ResNet, map_size: int | None, num_classes: int):
        super().__init__()
        self.backbone = ResNetFeatures(net)
        self.pyramid = PyramidPooling(net.fc.in_features, BINS, map_size)
        self.conv = _conv(self.pyramid.out_channels, 512, 3)
        self.dropout = nn.Dropout2d(0.1)
        self.classifier = nn.Conv2d(512, num_classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.classifier(self.dropout(self.conv(self.pyramid(self.backbone(x)))))
        return F.interpolate(logits, size=x.shape[2:], mode="bilinear", align_corners=True)


def pspnet(backbone: str = "resnet50", map_size: int | None = None, num_classes: int = 150) -> PSPNet:
    """PSPNet with bins of 1, 2, 3 and 6. Input: (batch, 3, 473, 473) for ADE20K (60x60 maps), 713 for Cityscapes.

    backbone: "resnet50", "resnet101" or "resnet152". map_size: see `PyramidPooling`; 60 pools at 473 as the authors'.
    Raises ValueError for another backbone, and for a map size that the bins do not divide.
    """
    if backbone not in BACKBONES:
        raise ValueError(f"backbone must be one of {', '.join(BACKBONES)}, got {backbone!r}")
    return PSPNet(dilate(_deep_stem(BACKBONES[backbone]()), 8), map_size, num_classes)
