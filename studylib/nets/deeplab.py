"""DeepLabV3: an image network that keeps its resolution, by spreading its kernels instead of striding.

Source: Chen et al., "Rethinking atrous convolution for semantic image segmentation" (arXiv 1706.05587), Sections 3.1 to
3.3, Figures 3 to 5. Names of the backbone and of ASPP are torchvision's, so their weights load.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from studylib.nets.resnet import ResNet, resnet50, resnet101, resnet152

BACKBONES = {"resnet50": resnet50, "resnet101": resnet101, "resnet152": resnet152}
STEM_STRIDE = 4  # of the 7x7 convolution and the pooling
RATES = (6, 12, 18)
"""ASPP's rates at output stride 16 (Section 3.3); doubled at 8."""


def valid_taps(size: int, rate: int) -> dict[int, int]:
    """Positions of a size x size map by how many of a 3x3 kernel's nine weights lie on the map (Figure 4).

    Zero padding of `rate`. {9: ..., 6: ..., 4: ...} while 2 * rate <= size; from rate = size on the kernel is a 1x1.
    """
    along = [sum(0 <= i + step < size for step in (-rate, 0, rate)) for i in range(size)]
    counts: dict[int, int] = {}
    for vertical in along:
        for horizontal in along:
            taps = vertical * horizontal
            counts[taps] = counts.get(taps, 0) + 1
    return dict(sorted(counts.items(), reverse=True))


def dilate(net: ResNet, output_stride: int, multi_grid: Sequence[int] | None = None) -> ResNet:
    """Turns `net`'s later strides into rates, in place, until input and map sizes differ by `output_stride` only.

    No weight is added or changed. A convolution that loses its stride keeps its rate, and every one behind it doubles
    its own: at each position that the strided net has, the values are then the same. torchvision does so too.
    multi_grid: the rates of the last stage's blocks in units of the stage's rate, the first block's too: (1, 2, 4) at
    output stride 16 gives (2, 4, 8), as the paper says. So (1, 1, 1) is not the same as None, where the first block
    keeps the rate from before its stride: (2, 2, 2) against (1, 2, 2).

    net: with the stride in the 3x3 (`resnet50()`). Raises ValueError for an output stride that is not 4, 8, 16 or 32,
    for strides in the 1x1, and for a multi-grid that does not fit the last stage's blocks.
    """
    if output_stride not in (4, 8, 16, 32):
        raise ValueError(f"output_stride must be 4, 8, 16 or 32, got {output_stride}")
    blocks = len(net.layer4)
    if multi_grid is not None and (len(multi_grid) != blocks or min(multi_grid) < 1):
        raise ValueError(f"multi_grid must have a rate of at least 1 for each of {blocks} blocks, got {multi_grid}")
    stride, rate = STEM_STRIDE, 1
    stages: list[Any] = [net.layer2, net.layer3, net.layer4]
    for stage in stages:
        if stage[0].conv1.stride != (1, 1):
            raise ValueError('dilate needs the strides in the 3x3 convolutions: build the net with stride_in="3x3"')
        before = rate
        if stride == output_stride:
            stage[0].conv2.stride = stage[0].downsample[0].stride = (1, 1)
            rate *= 2
        else:
            stride *= 2
        rates = [before] + [rate] * (len(stage) - 1)
        if stage is net.layer4 and multi_grid is not None:
            rates = [rate * unit for unit in multi_grid]
        for block, spread in zip(stage, rates, strict=True):
            block.conv2.dilation = block.conv2.padding = (spread, spread)
    return net


class ResNetFeatures(nn.Module):
    """A ResNet without its pooling and its linear layer: (batch, 3, height, width) to (batch, 2048, h, w)."""

    def __init__(self, net: ResNet):
        super().__init__()
        for name, layer in net.named_children():
            if name not in ("avgpool", "fc"):
                self.add_module(name, layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.children():
            x = layer(x)
        return x


def _conv(in_channels: int, out_channels: int, kernel_size: int, rate: int = 1) -> list[nn.Module]:
    """A convolution that keeps the map's size, batch norm, ReLU."""
    padding = rate * (kernel_size // 2)
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, dilation=rate, bias=False)
    return [conv, nn.BatchNorm2d(out_channels), nn.ReLU()]


class ImagePooling(nn.Sequential):
    """The whole map's mean through a 1x1 convolution, at every position again.

    x: (batch, in_channels, h, w) to (batch, out_channels, h, w).
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(nn.AdaptiveAvgPool2d(1), *_conv(in_channels, out_channels, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(super().forward(x), size=x.shape[2:], mode="bilinear", align_corners=False)


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (Figure 5): 1x1, a 3x3 for each rate, image pooling; concatenated; 1x1.

    Batch norm and ReLU after each. x: (batch, in_channels, h, w) to (batch, out_channels, h, w).
    """

    def __init__(self, in_channels: int, rates: Sequence[int] = RATES, out_channels: int = 256):
        super().__init__()
        branches = [nn.Sequential(*_conv(in_channels, out_channels, 1))]
        branches += [nn.Sequential(*_conv(in_channels, out_channels, 3, rate)) for rate in rates]
        self.convs = nn.ModuleList([*branches, ImagePooling(in_channels, out_channels)])
        self.project = nn.Sequential(*_conv(len(self.convs) * out_channels, out_channels, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.project(torch.cat([branch(x) for branch in self.convs], 1))


class DeepLabV3(nn.Module):
    """Dilated backbone, ASPP, 1x1 to the classes, enlarged to the input's size.

    Input: (batch, 3, height, width); output: (batch, num_classes, height, width), the logits of each pixel.
    """

    def __init__(self, net: ResNet, rates: Sequence[int], num_classes: int):
        super().__init__()
        self.backbone = ResNetFeatures(net)
        self.aspp = ASPP(net.fc.in_features, rates)
        self.classifier = nn.Conv2d(256, num_classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.classifier(self.aspp(self.backbone(x)))
        return F.interpolate(logits, size=x.shape[2:], mode="bilinear", align_corners=False)


def deeplabv3(
    backbone: str = "resnet101",
    output_stride: int = 16,
    multi_grid: Sequence[int] | None = (1, 2, 4),
    num_classes: int = 21,
) -> DeepLabV3:
    """DeepLabV3 with ASPP of rates (6, 12, 18), doubled at output stride 8 (Tables 5 and 6).

    backbone: "resnet50", "resnet101" or "resnet152". output_stride: 16 in training, 8 in the paper's evaluation; the
    parameters are the same. multi_grid: see `dilate`; None is torchvision's backbone. torchvision's head differs from
    the paper's by one more 3x3 convolution and dropout. Input: (batch, 3, height, width), 513x513 in the paper.
    Raises ValueError for another backbone or output stride and for a multi-grid that is not of three rates.
    """
    if backbone not in BACKBONES:
        raise ValueError(f"backbone must be one of {', '.join(BACKBONES)}, got {backbone!r}")
    if output_stride not in (8, 16):
        raise ValueError(f"output_stride must be 8 or 16, for which the paper gives ASPP's rates, got {output_stride}")
    rates = tuple(rate * 16 // output_stride for rate in RATES)
    return DeepLabV3(dilate(BACKBONES[backbone](), output_stride, multi_grid), rates, num_classes)
