"""Interleaved group convolutions: a grouped 3x3 and a grouped 1x1 whose groups cross, in place of one full 3x3.

Source: Zhang et al., "Interleaved group convolutions for deep neural networks" (arXiv 1707.02725), known here through the
authors' code and its README (hellozting/InterleavedGroupConvolutions): L primary groups of M channels, M secondary ones
of L.
"""

from collections.abc import Callable

import torch
from torch import nn

Layer = Callable[[int, int, int], nn.Module]


class InterleavedGroupConv(nn.Sequential):
    """Primary: 3x3 in `primary_groups` (L) groups. Secondary: 1x1 in M groups, each with one channel of every primary.

    x: (batch, in_channels, height, width) to (batch, out_channels, height / stride, width / stride), where M = out_channels
    / L. Nothing stands between the two, so together they are one full 3x3 convolution whose kernel is a product; with
    equal widths G in and out it has G (9 M + L) weights. Raises ValueError where L does not divide the channels.
    """

    def __init__(self, in_channels: int, out_channels: int, primary_groups: int, stride: int = 1):
        if in_channels % primary_groups or out_channels % primary_groups:
            raise ValueError(
                f"{primary_groups} primary groups must divide the channels, got {in_channels} and {out_channels}"
            )
        secondary_groups = out_channels // primary_groups
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, stride, 1, groups=primary_groups, bias=False),
            nn.ChannelShuffle(primary_groups),
            nn.Conv2d(out_channels, out_channels, 1, groups=secondary_groups, bias=False),
            nn.ChannelShuffle(secondary_groups),
        )


def _full(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    return nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)


def _interleaved(primary_groups: int) -> Layer:
    return lambda in_channels, out_channels, stride: InterleavedGroupConv(
        in_channels, out_channels, primary_groups, stride
    )


class PlainNet(nn.Module):
    """The authors' nets without connections for 32x32 images: a stem, three stages of (depth - 2) / 3 layers, pooling.

    Each layer has batch norm and ReLU behind it; the first of stages 2 and 3 has stride 2 and doubles the channels.
    Input: (batch, 3, 32, 32); output: (batch, num_classes).
    """

    def __init__(self, layer: Layer, channels: int, depth: int, num_classes: int):
        super().__init__()
        if depth < 5 or (depth - 2) % 3:
            raise ValueError(f"depth must be 3n + 2, such as 20 or 38, got {depth}")
        self.features = nn.Sequential(_full(3, channels, 1), nn.BatchNorm2d(channels), nn.ReLU())
        before = channels
        for number in range(3 * (depth - 2) // 3):
            stage, place = divmod(number, (depth - 2) // 3)
            out = channels * 2**stage
            stride = 2 if stage and not place else 1
            self.features.extend([layer(before, out, stride), nn.BatchNorm2d(out), nn.ReLU()])
            before = out
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(before, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.flatten(self.pool(self.features(x)), 1))


class BasicBlock(nn.Module):
    """Two 3x3 layers with batch norm, and the identity, or a 1x1 convolution where the shape changes, added.

    x: (batch, in_channels, height, width) to (batch, out_channels, height / stride, width / stride).
    """

    def __init__(self, layer: Layer, in_channels: int, out_channels: int, stride: int, groups: int):
        super().__init__()
        self.layers = nn.Sequential(
            layer(in_channels, out_channels, stride),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            layer(out_channels, out_channels, 1),
            nn.BatchNorm2d(out_channels),
        )
        self.connection: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            conv = nn.Conv2d(in_channels, out_channels, 1, stride, groups=groups, bias=False)
            self.connection = nn.Sequential(conv, nn.BatchNorm2d(out_channels))
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.layers(x) + self.connection(x))


class ResNet18(nn.Module):
    """7x7 stem, four stages of two basic blocks, pooling, one linear layer; the channels double with each stage.

    primary_groups: L of each stage, or None for full convolutions; the 1x1 of a connection is grouped alike.
    Input: (batch, 3, 224, 224); output: (batch, num_classes).
    """

    def __init__(self, stem: int, channels: int, primary_groups: tuple[int, ...] | None, num_classes: int):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, stem, 7, 2, 3, bias=False), nn.BatchNorm2d(stem), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        self.stages = nn.Sequential()
        before = stem
        for number in range(4):
            groups = primary_groups[number] if primary_groups else 1
            layer = _interleaved(groups) if primary_groups else _full
            out = channels * 2**number
            first = BasicBlock(layer, before, out, 1 if number == 0 else 2, groups)
            self.stages.append(nn.Sequential(first, BasicBlock(layer, out, out, 1, groups)))
            before = out
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(before, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.flatten(self.pool(self.stages(self.stem(x))), 1))


def igc_cifar(primary_groups: int = 24, group_width: int = 2, depth: int = 20, num_classes: int = 10) -> PlainNet:
    """IGC-LxMy without connections for CIFAR; L24M2 of depth 20 has 151,834 parameters without batch norm.

    primary_groups: L, the same in all stages. group_width: M of the first stage, which doubles with each. The width is L M.
    Raises ValueError for a depth other than 3n + 2.
    """
    return PlainNet(_interleaved(primary_groups), primary_groups * group_width, depth, num_classes)


def regular_cifar(width: int = 16, depth: int = 20, num_classes: int = 10) -> PlainNet:
    """RegConv-W, what the paper compares with: the same net of full 3x3 convolutions, W channels in the first stage."""
    return PlainNet(_full, width, depth, num_classes)


def igc_imagenet(primary_groups: int = 4, group_width: int = 32, num_classes: int = 1000) -> ResNet18:
    """IGC-LxMy+Ident of depth 18: L4M32 (the default), L16M16, L100M2.

    M doubles with each stage, in the net of 100 groups L does; that one has a stem of L channels, the others of L M, as in
    the authors' files. Input: (batch, 3, 224, 224).
    """
    doubles_l = primary_groups == 100
    groups = tuple(primary_groups * (2**number if doubles_l else 1) for number in range(4))
    stem = primary_groups if doubles_l else primary_groups * group_width
    return ResNet18(stem, primary_groups * group_width, groups, num_classes)


def regular_imagenet(width: int = 64, num_classes: int = 1000) -> ResNet18:
    """ResNet-18 with `width` (C) channels in its first stage, what the paper compares with: 64 and 69."""
    return ResNet18(width, width, None, num_classes)
