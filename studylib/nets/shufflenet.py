"""ShuffleNet: grouped 1x1 convolutions, and a shuffle so that the groups of two layers are not the same.

Source: Zhang et al., "ShuffleNet: an extremely efficient convolutional neural network for mobile devices" (arXiv
1707.01083v2), sections 3.1 and 3.2, Figure 2, Table 1. The stem's channels at other widths are those of the authors'
code (megvii-model/ShuffleNet-Series).
"""

import torch
from torch import nn

CHANNELS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
"""Table 1: output channels of stage 2 by number of groups; stages 3 and 4 have two and four times as many."""
UNITS = (4, 8, 4)
"""Units of stages 2, 3 and 4; the first of each has stride 2."""


class ShuffleUnit(nn.Module):
    """Figure 2: grouped 1x1, shuffle, 3x3 depthwise, grouped 1x1; the sum, or at stride 2 the concatenation.

    x: (batch, in_channels, height, width) to (batch, out_channels, height / stride, width / stride). The bottleneck has a
    quarter of the output's channels, rounded up to a multiple of `groups` (which only 0.5x with 4 groups needs). At stride
    2 the input goes through a 3x3 average pooling and is concatenated, so the branch makes the rest of the channels.
    `first_groups`: of the first 1x1, which is not grouped in the first unit of stage 2.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, groups: int, first_groups: int):
        super().__init__()
        narrow = -(-out_channels // 4 // groups) * groups
        made = out_channels - in_channels if stride == 2 else out_channels
        self.branch = nn.Sequential(
            nn.Conv2d(in_channels, narrow, 1, groups=first_groups, bias=False),
            nn.BatchNorm2d(narrow),
            nn.ReLU(),
            nn.ChannelShuffle(groups),
            nn.Conv2d(narrow, narrow, 3, stride, 1, groups=narrow, bias=False),
            nn.BatchNorm2d(narrow),
            nn.Conv2d(narrow, made, 1, groups=groups, bias=False),
            nn.BatchNorm2d(made),
        )
        self.shortcut = nn.AvgPool2d(3, 2, 1) if stride == 2 else nn.Identity()
        self.concatenates = stride == 2
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = self.shortcut(x), self.branch(x)
        return self.relu(torch.cat(parts, 1) if self.concatenates else parts[0] + parts[1])


class ShuffleNet(nn.Module):
    """Table 1. Input: (batch, 3, 224, 224); output: (batch, num_classes)."""

    def __init__(self, groups: int, stem: int, channels: int, num_classes: int):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, stem, 3, 2, 1, bias=False), nn.BatchNorm2d(stem), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        self.stages = nn.Sequential()
        before = stem
        for number, units in enumerate(UNITS):
            out = channels * 2**number
            stage = nn.Sequential(ShuffleUnit(before, out, 2, groups, 1 if number == 0 else groups))
            stage.extend(ShuffleUnit(out, out, 1, groups, groups) for _ in range(units - 1))
            self.stages.append(stage)
            before = out
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(before, num_classes, bias=False)  # as in the authors' code

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.flatten(self.pool(self.stages(self.stem(x))), 1))


def shufflenet(groups: int = 3, width: float = 1.0, num_classes: int = 1000) -> ShuffleNet:
    """ShuffleNet `width`x with that many groups (g); 1x with 3 has 1,864,728 parameters and 137.5 million multiply-adds.

    groups: 1, 2, 3, 4 or 8. width: the paper's scale s of all channels; the stem has 24 s of them, but 24 at 1.5x. Table 1's
    complexities are without the last layer (`costs.count(...).macs_no_fc`). Input: (batch, 3, 224, 224).
    Raises ValueError for another number of groups and for a width whose channels are not whole or not divisible.
    """
    if groups not in CHANNELS:
        raise ValueError(f"groups must be one of {', '.join(map(str, CHANNELS))}, got {groups}")
    stem = 24 if width == 1.5 else round(24 * width)
    channels = round(CHANNELS[groups] * width)
    if stem < 1 or channels % groups or (channels - stem) % groups:
        raise ValueError(f"width {width} gives {stem} and {channels} channels, which {groups} groups cannot share")
    return ShuffleNet(groups, stem, channels, num_classes)
