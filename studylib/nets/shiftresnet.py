"""ShiftResNet: the 3x3 convolutions of a ResNet for CIFAR become 1x1, shift, 1x1; and the ResNets they are compared with.

Source: Wu et al., "Shift: a zero FLOP, zero parameter alternative to spatial convolutions" (arXiv 1711.08141), by the authors'
code (alvinwan/shiftresnet-cifar: models/shiftresnet.py, models/resnet.py and the CUDA kernel of the shift). An older version
of that block has ReLU before the sum and none after it.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.functional import pad

STAGES = (16, 32, 64)
"""Channels on maps of 32, 16 and 8 pixels; the first block of the second and third stage has stride 2."""


class Shift(nn.Module):
    """Each channel moved by one place, or not, in one of the nine directions in turn: no weights, no multiply-adds.

    out[c, i, j] = x[c, i + dy, j + dx], zero outside, with dx = c % 3 - 1 and dy = c // 3 % 3 - 1. Channels that are left
    over when they are counted in nines stay. x: (batch, channels, height, width), and out as x.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[2:]
        padded = pad(x, (1, 1, 1, 1))
        whole = x.shape[1] // 9 * 9
        out = torch.empty_like(x)
        for direction in range(9):
            down, across = direction // 3, direction % 3
            moved = padded[:, direction:whole:9, down : down + height, across : across + width]
            out[:, direction:whole:9] = moved
        out[:, whole:] = x[:, whole:]
        return out


class ConvShiftConv(nn.Module):
    """1x1 to `expansion` times the output's channels, batch norm, ReLU, shift, 1x1 with the stride, batch norm; the sum, ReLU.

    x: (batch, in_channels, height, width) to (batch, out_channels, height / stride, width / stride). The connection is the
    identity, or a strided 1x1 convolution where the shape changes.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int):
        super().__init__()
        middle = expansion * out_channels
        self.conv1 = nn.Conv2d(in_channels, middle, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.shift = Shift()
        self.conv2 = nn.Conv2d(middle, out_channels, 1, stride, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()
        self.shortcut = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(self.shift(out)))
        return self.relu(out + self.shortcut(x))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, batch norm after each, ReLU between them and after the sum: what a ConvShiftConv replaces."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()
        self.shortcut = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))


class CifarResNet(nn.Module):
    """3x3 stem, three stages of blocks, global pooling, one linear layer. Input: (batch, 3, 32, 32).

    block: makes a block from its input channels, output channels and stride. blocks: in each stage.
    """

    def __init__(self, block: Callable[[int, int, int], nn.Module], blocks: int, num_classes: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.stages = nn.Sequential()
        before = 16
        for channels in STAGES:
            for number in range(blocks):
                self.stages.append(block(before, channels, 2 if number == 0 and channels > 16 else 1))
                before = channels
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(before, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stages(self.relu(self.bn1(self.conv1(x))))
        return self.fc(torch.flatten(self.pool(x), 1))


def _shifted(blocks: int, expansion: int, num_classes: int) -> CifarResNet:
    if expansion < 1:
        raise ValueError(f"expansion must be at least 1, got {expansion}")
    return CifarResNet(
        lambda before, after, stride: ConvShiftConv(before, after, stride, expansion), blocks, num_classes
    )


def shift_resnet20(expansion: int = 3, num_classes: int = 10) -> CifarResNet:
    """ShiftResNet-20, three blocks a stage: 95,642 parameters with expansion 3. Input: (batch, 3, 32, 32)."""
    return _shifted(3, expansion, num_classes)


def shift_resnet56(expansion: int = 3, num_classes: int = 10) -> CifarResNet:
    """ShiftResNet-56, nine blocks a stage: 294,554 parameters with expansion 3. Input: (batch, 3, 32, 32)."""
    return _shifted(9, expansion, num_classes)


def shift_resnet110(expansion: int = 3, num_classes: int = 10) -> CifarResNet:
    """ShiftResNet-110, 18 blocks a stage. Input: (batch, 3, 32, 32)."""
    return _shifted(18, expansion, num_classes)


def resnet20_cifar(num_classes: int = 10) -> CifarResNet:
    """ResNet-20 for CIFAR with projections where the shape changes: 272,474 parameters. Input: (batch, 3, 32, 32)."""
    return CifarResNet(ResidualBlock, 3, num_classes)


def resnet56_cifar(num_classes: int = 10) -> CifarResNet:
    """ResNet-56 for CIFAR: 855,770 parameters; see `resnet20_cifar`."""
    return CifarResNet(ResidualBlock, 9, num_classes)


def resnet110_cifar(num_classes: int = 10) -> CifarResNet:
    """ResNet-110 for CIFAR: 1,730,714 parameters; see `resnet20_cifar`."""
    return CifarResNet(ResidualBlock, 18, num_classes)
