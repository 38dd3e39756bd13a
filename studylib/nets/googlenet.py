"""GoogLeNet: the Inception module, whose branches look at one input through kernels of several sizes.

Source: Szegedy et al., "Going deeper with convolutions" (arXiv 1409.4842), Table 1 and Figure 3. There is no batch
norm, and the third branch is 5x5 (torchvision's `googlenet` has batch norm and a 3x3 there). The auxiliary classifiers,
which only add a loss during training, are left out.
"""

from collections import OrderedDict

import torch
from torch import nn

ROWS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
"""Table 1's nine modules: c1 (#1x1), c3_reduce, c3 (#3x3), c5_reduce, c5 (#5x5), pool_proj."""


def _conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Sequential:
    """A convolution that keeps the map's size (over its stride), and the ReLU that follows every one of this paper,
    reductions and projections included."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2)
    return nn.Sequential(OrderedDict(conv=conv, relu=nn.ReLU()))


class Inception(nn.Module):
    """Four branches, concatenated (Figure 2b): 1x1; 1x1 then 3x3; 1x1 then 5x5; 3x3 max-pool then 1x1.

    x: (batch, in_channels, height, width) to (batch, c1 + c3 + c5 + pool_proj, height, width).
    """

    def __init__(self, in_channels: int, c1: int, c3_reduce: int, c3: int, c5_reduce: int, c5: int, pool_proj: int):
        super().__init__()
        self.branch1 = _conv(in_channels, c1, 1)
        self.branch3 = nn.Sequential(
            OrderedDict(reduce=_conv(in_channels, c3_reduce, 1), spatial=_conv(c3_reduce, c3, 3))
        )
        self.branch5 = nn.Sequential(
            OrderedDict(reduce=_conv(in_channels, c5_reduce, 1), spatial=_conv(c5_reduce, c5, 5))
        )
        self.branch_pool = nn.Sequential(
            OrderedDict(pool=nn.MaxPool2d(3, stride=1, padding=1), project=_conv(in_channels, pool_proj, 1))
        )
        self.out_channels = c1 + c3 + c5 + pool_proj

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.branch1(x), self.branch3(x), self.branch5(x), self.branch_pool(x)], 1)


def _first_row(stem: str) -> nn.Sequential:
    """7x7 with stride 2 from 3 to 64 channels, dense or as depthwise (multiplier 8) and pointwise convolution."""
    if stem == "conv":
        return _conv(3, 64, 7, stride=2)
    depthwise = nn.Conv2d(3, 24, 7, stride=2, padding=3, groups=3, bias=False)
    pointwise = nn.Conv2d(24, 64, 1, bias=False)
    return nn.Sequential(OrderedDict(depthwise=depthwise, pointwise=pointwise, relu=nn.ReLU()))


def _pool() -> nn.MaxPool2d:
    """Between the stages: ceil_mode gives the table's 56, 28, 14 and 7 pixels without padding."""
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)


class GoogLeNet(nn.Module):
    """Table 1 from the top to the linear layer. Input: (batch, 3, 224, 224); output: (batch, num_classes).

    The local response norms of Figure 3 have torch's default constants, as the paper gives none.
    """

    def __init__(self, stem: str = "conv", num_classes: int = 1000):
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            conv1=_first_row(stem),
            pool1=_pool(),
            norm1=nn.LocalResponseNorm(5),
            conv2_reduce=_conv(64, 64, 1),
            conv2=_conv(64, 192, 3),
            norm2=nn.LocalResponseNorm(5),
            pool2=_pool(),
        )
        channels = 192
        for name, row in ROWS.items():
            if name in ("4a", "5a"):
                layers["pool3" if name == "4a" else "pool4"] = _pool()
            module = Inception(channels, *row)
            layers[f"inception_{name}"] = module
            channels = module.out_channels
        self.features = nn.Sequential(layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.4)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.dropout(torch.flatten(self.pool(self.features(x)), 1)))


def googlenet(stem: str = "conv", num_classes: int = 1000) -> GoogLeNet:
    """GoogLeNet. `stem="separable"` makes the first 7x7 a depthwise separable one: 2,712 weights and 34.0 million
    multiply-adds instead of 9,408 and 118.0 million. Table 1 prints 2.7K and 34M for a layer it calls a convolution;
    Xception's section 2 says that Inception's first layer was separable.

    Raises ValueError for another `stem`.
    """
    if stem not in ("conv", "separable"):
        raise ValueError(f'stem must be "conv" or "separable", got {stem!r}')
    return GoogLeNet(stem, num_classes)
