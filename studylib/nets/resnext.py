"""ResNeXt: a residual block of many narrow paths, written as one grouped convolution.

Source: Xie et al., "Aggregated residual transformations for deep neural networks" (arXiv 1611.05431), Table 1, Figure 3
and Equation 4. Parameter names are torchvision's, so its weights load; with one path of width 64 the net is ResNet.
"""

import torch
from torch import nn

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
"""Blocks of each stage by depth (Table 1)."""


class AggregatedBlock(nn.Module):
    """1x1 to cardinality * width channels, grouped 3x3, 1x1: Figure 3c. Batch norm after each, ReLU after the sum.

    x: (batch, in_channels, height, width) to (batch, out_channels, height / stride, width / stride). `cardinality` is
    the paper's C, the number of paths; `width` its d, the channels of each. The stride is in the 3x3; where the shape
    changes the connection is a strided 1x1 convolution (option B).
    """

    def __init__(self, in_channels: int, out_channels: int, cardinality: int, width: int, stride: int = 1):
        super().__init__()
        channels = cardinality * width
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, groups=cardinality, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu(out + self.downsample(x))


def _stage(in_channels: int, out_channels: int, blocks: int, cardinality: int, width: int, stride: int) -> nn.Module:
    """Blocks of one width; the first has the stride and the projection."""
    first = AggregatedBlock(in_channels, out_channels, cardinality, width, stride)
    later = (AggregatedBlock(out_channels, out_channels, cardinality, width) for _ in range(blocks - 1))
    return nn.Sequential(first, *later)


class ResNeXt(nn.Module):
    """7x7 stem, four stages, global pooling, one linear layer (Table 1).

    blocks: blocks a stage; `width` is that of the first stage, and doubles with each.
    Input: (batch, 3, 224, 224); output: (batch, num_classes).
    """

    def __init__(self, blocks: tuple[int, int, int, int], cardinality: int, width: int, num_classes: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = _stage(64, 256, blocks[0], cardinality, width, 1)
        self.layer2 = _stage(256, 512, blocks[1], cardinality, 2 * width, 2)
        self.layer3 = _stage(512, 1024, blocks[2], cardinality, 4 * width, 2)
        self.layer4 = _stage(1024, 2048, blocks[3], cardinality, 8 * width, 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(2048, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class CifarResNeXt(nn.Module):
    """3x3 stem, three stages of three blocks on 32, 16 and 8 pixels, global pooling, one linear layer (Appendix A).

    The authors' repository says that the paper's CIFAR runs had batch norm and ReLU before each convolution, and prefers
    the order here; the convolutions are the same.
    Input: (batch, 3, 32, 32); output: (batch, num_classes).
    """

    def __init__(self, cardinality: int, width: int, num_classes: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.layer1 = _stage(64, 256, 3, cardinality, width, 1)
        self.layer2 = _stage(256, 512, 3, cardinality, 2 * width, 2)
        self.layer3 = _stage(512, 1024, 3, cardinality, 4 * width, 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(1024, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def resnext(depth: int = 50, cardinality: int = 32, width: int = 4, num_classes: int = 1000) -> ResNeXt:
    """ResNeXt of `depth` 50 or 101 with `cardinality` paths (C) of `width` channels (d) in the first stage.

    `resnext(50, 1, 64)` is ResNet-50; Tables 2 and 3 go from there over 2x40d, 4x24d and 8x14d to 32x4d at about equal
    cost. Input: (batch, 3, 224, 224). Raises ValueError for another depth and for less than one path or channel.
    """
    if depth not in BLOCKS:
        raise ValueError(f"depth must be one of {', '.join(map(str, BLOCKS))}, got {depth}")
    _check_paths(cardinality, width)
    return ResNeXt(BLOCKS[depth], cardinality, width, num_classes)


def resnext50_32x4d(num_classes: int = 1000) -> ResNeXt:
    """ResNeXt-50, 32x4d: 25,028,904 parameters, 4.230 billion multiply-adds. Input: (batch, 3, 224, 224)."""
    return resnext(50, 32, 4, num_classes)


def resnext101_32x4d(num_classes: int = 1000) -> ResNeXt:
    """ResNeXt-101, 32x4d: 44,177,704 parameters, 7.970 billion multiply-adds. Input: (batch, 3, 224, 224)."""
    return resnext(101, 32, 4, num_classes)


def resnext101_64x4d(num_classes: int = 1000) -> ResNeXt:
    """ResNeXt-101, 64x4d (Table 4): 83,455,272 parameters, 15.460 billion multiply-adds.

    Input: (batch, 3, 224, 224).
    """
    return resnext(101, 64, 4, num_classes)


def resnext29_cifar(cardinality: int = 8, width: int = 64, num_classes: int = 10) -> CifarResNeXt:
    """ResNeXt-29 for 32x32 images; 8x64d has 34,426,698 parameters. Input: (batch, 3, 32, 32).

    Raises ValueError for less than one path or channel.
    """
    _check_paths(cardinality, width)
    return CifarResNeXt(cardinality, width, num_classes)


def _check_paths(cardinality: int, width: int) -> None:
    if cardinality < 1 or width < 1:
        raise ValueError(f"cardinality and width must be at least 1, got {cardinality} and {width}")
