"""SENet: what a whole channel holds decides by how much it counts; put into ResNets and ResNeXts.

Source: Hu, Shen, Sun, "Squeeze-and-excitation networks" (arXiv 1709.01507v4), Equations 2 to 4, Figures 2 and 3, Table 1.
"""

from typing import Any, TypeVar

import torch
from torch import nn

from studylib.nets.resnet import ResNet, resnet50, resnet101, resnet152
from studylib.nets.resnext import ResNeXt, resnext50_32x4d

Net = TypeVar("Net", ResNet, ResNeXt)


class SqueezeExcitation(nn.Module):
    """Means of the channels, two linear layers with ReLU between them, a sigmoid; each channel times its own number.

    x: (batch, channels, height, width), and so is the output. The linear layers have no bias (section 6.4 of v4: it helps to
    model the dependencies between channels), so there are 2 channels^2 / reduction parameters. Raises ValueError where
    `reduction` leaves no unit.
    """

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        if not 1 <= reduction <= channels:
            raise ValueError(f"reduction must be from 1 to the {channels} channels, got {reduction}")
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Linear(channels, channels // reduction, bias=False)
        self.relu = nn.ReLU()
        self.expand = nn.Linear(channels // reduction, channels, bias=False)

    def gates(self, x: torch.Tensor) -> torch.Tensor:
        """The excitation s: (batch, channels), between 0 and 1."""
        z = torch.flatten(self.pool(x), 1)
        return torch.sigmoid(self.expand(self.relu(self.reduce(z))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gates(x)[:, :, None, None]


def excite(net: Net, reduction: int, stages: tuple[int, ...] = (2, 3, 4, 5)) -> Net:
    """Puts a squeeze-and-excitation behind the last batch norm of each block, before the sum (Figure 3), in place.

    stages: of Table 1, 2 to 5; Table 13 tries one at a time.
    """
    layers: list[Any] = [net.layer1, net.layer2, net.layer3, net.layer4]
    for stage in stages:
        for block in layers[stage - 2]:
            block.bn3 = nn.Sequential(block.bn3, SqueezeExcitation(block.bn3.num_features, reduction))
    return net


def se_resnet50(reduction: int = 16, num_classes: int = 1000) -> ResNet:
    """SE-ResNet-50: 28,071,976 parameters. The stride is in the first 1x1, as the paper's 3.87 billion say.

    reduction: r. Input: (batch, 3, 224, 224). Raises ValueError where `reduction` leaves a block without a unit.
    """
    return excite(resnet50("1x1", num_classes), reduction)


def se_resnet101(reduction: int = 16, num_classes: int = 1000) -> ResNet:
    """SE-ResNet-101; see `se_resnet50`."""
    return excite(resnet101("1x1", num_classes), reduction)


def se_resnet152(reduction: int = 16, num_classes: int = 1000) -> ResNet:
    """SE-ResNet-152; see `se_resnet50`."""
    return excite(resnet152("1x1", num_classes), reduction)


def se_resnext50_32x4d(reduction: int = 16, num_classes: int = 1000) -> ResNeXt:
    """SE-ResNeXt-50, 32x4d, with the stride in the 3x3 as in ResNeXt; see `se_resnet50`."""
    return excite(resnext50_32x4d(num_classes), reduction)
