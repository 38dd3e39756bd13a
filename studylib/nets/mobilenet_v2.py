"""MobileNetV2: blocks that are wide inside and narrow, and linear, at their ends; and its two heads, SSDLite and DeepLab.

Source: Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks" (arXiv 1801.04381v4), Tables 1 and 2 and
sections 5 and 6. Parameter names of the classifier are torchvision's, so its weights load.
"""

import torch
import torch.nn.functional as F
from torch import nn

from studylib.nets.deeplab import ASPP, RATES

ROWS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Table 2's bottlenecks: expansion t, out_channels c, repeats n, stride s of the first."""
LAST = 1280
"""Channels of the 1x1 convolution behind them, which no width below 1 makes narrower."""


def rounded(channels: float, width: float = 1.0) -> int:
    """Channels times width, to the nearest multiple of 8, but not below 8 and not more than 10 % below.

    It is the rule of the authors' code; the paper does not speak of rounding.
    """
    wanted = channels * width
    found = max(8, int(wanted + 4) // 8 * 8)
    return found if found >= 0.9 * wanted else found + 8


class ConvNorm(nn.Sequential):
    """Convolution that keeps the map's size at stride 1, batch norm, ReLU6 where not `linear`.

    x: (batch, in_channels, height, width) to (batch, out_channels, height / stride, width / stride).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        groups: int = 1,
        dilation: int = 1,
        linear: bool = False,
    ):
        padding = dilation * (kernel_size // 2)
        conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias=False)
        super().__init__(conv, nn.BatchNorm2d(out_channels), *([] if linear else [nn.ReLU6()]))


class InvertedResidual(nn.Module):
    """Table 1: 1x1 to `expansion` times as many channels, 3x3 depthwise, 1x1 without activation; the sum where it fits.

    x: (batch, in_channels, height, width) to (batch, out_channels, height / stride, width / stride). The first convolution is
    left out where it would not expand (t = 1).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int, dilation: int = 1):
        super().__init__()
        wide = expansion * in_channels
        self.wide = wide
        self.has_residual = stride == 1 and in_channels == out_channels
        self.conv = nn.Sequential()
        if expansion != 1:
            self.conv.append(ConvNorm(in_channels, wide))
        self.conv.append(ConvNorm(wide, wide, 3, stride, groups=wide, dilation=dilation))
        self.conv.extend(ConvNorm(wide, out_channels, linear=True))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x) if self.has_residual else self.conv(x)


def _features(width: float, output_stride: int = 32) -> tuple[nn.Sequential, int]:
    """The stem and the seventeen bottlenecks, and their channels. Beyond `output_stride` strides become rates."""
    if not width > 0:
        raise ValueError(f"width must be above 0, got {width}")
    channels = rounded(32, width)
    features = nn.Sequential(ConvNorm(3, channels, 3, 2))
    reached, rate = 2, 1
    for expansion, out, repeats, first_stride in ROWS:
        before = rate
        if first_stride == 2 and reached == output_stride:
            first_stride, rate = 1, 2 * rate
        reached *= first_stride
        for number in range(repeats):
            stride, spread = (first_stride, before) if number == 0 else (1, rate)
            features.append(InvertedResidual(channels, rounded(out, width), stride, expansion, spread))
            channels = rounded(out, width)
    return features, channels


class MobileNetV2(nn.Module):
    """Table 2. Input: (batch, 3, 224, 224), or any other resolution; output: (batch, num_classes)."""

    def __init__(self, width: float, num_classes: int):
        super().__init__()
        self.features, channels = _features(width)
        last = rounded(LAST, max(1.0, width))
        self.features.append(ConvNorm(channels, last))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, num_classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


def mobilenet_v2(width: float = 1.0, num_classes: int = 1000) -> MobileNetV2:
    """MobileNetV2: 3,504,872 parameters (3,470,760 without batch norm), 300.8 million multiply-adds at 224x224.

    width: the multiplier of every layer's channels, the last convolution's only above 1; see `rounded`.
    Raises ValueError for a width that is not positive.
    """
    return MobileNetV2(width, num_classes)


def _separable(in_channels: int, out_channels: int) -> nn.Sequential:
    """SSDLite's head: 3x3 depthwise with batch norm and ReLU6, then 1x1 with a bias and nothing behind it."""
    return nn.Sequential(
        ConvNorm(in_channels, in_channels, 3, groups=in_channels), nn.Conv2d(in_channels, out_channels, 1)
    )


class SSDLite(nn.Module):
    """MobileNetV2 with a class and a box head on six maps, of 20, 10, 5, 3, 2 and 1 pixels for an input of 320x320.

    The first map is the expansion of layer 15, the first of stride 16 to 32 (section 6.2); the second is the last 1x1
    convolution; the others are made by strided inverted bottlenecks 1x1, 3x3 depthwise, 1x1. Anchors a place: 3 on
    the first map, else 6. Widths are those of TensorFlow's object detection library; the paper does not print them.
    Input: (batch, 3, 320, 320); output: class logits (batch, anchors, num_classes) and boxes (batch, anchors, 4).
    """

    EXTRAS = ((256, 512), (128, 256), (128, 256), (64, 128))

    def __init__(self, num_classes: int):
        super().__init__()
        features, channels = _features(1.0)
        features.append(ConvNorm(channels, LAST))
        # Layer 15 counts the stem: features[14] is the first bottleneck of 160 channels, whose expansion is tapped.
        tapped = features[14]
        assert isinstance(tapped, InvertedResidual)
        self.to_stride_16, self.tapped, self.behind = features[:14], tapped, features[15:]
        self.num_classes = num_classes
        self.extras = nn.ModuleList()
        widths = [tapped.wide, LAST]
        for narrow, out in self.EXTRAS:
            extra = [ConvNorm(widths[-1], narrow), ConvNorm(narrow, narrow, 3, 2, narrow), ConvNorm(narrow, out)]
            self.extras.append(nn.Sequential(*extra))
            widths.append(out)
        anchors = [3, 6, 6, 6, 6, 6]
        self.classes = nn.ModuleList(_separable(w, n * num_classes) for w, n in zip(widths, anchors, strict=True))
        self.boxes = nn.ModuleList(_separable(w, n * 4) for w, n in zip(widths, anchors, strict=True))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        expanded = self.tapped.conv[0](self.to_stride_16(x))
        maps = [expanded, self.behind(self.tapped.conv[1:](expanded))]
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        found = []
        for heads, size in ((self.classes, self.num_classes), (self.boxes, 4)):
            outs = [head(part).permute(0, 2, 3, 1).flatten(1) for head, part in zip(heads, maps, strict=True)]
            found.append(torch.cat(outs, 1).view(len(x), -1, size))
        return found[0], found[1]


def mobilenet_v2_ssdlite(num_classes: int = 81) -> SSDLite:
    """MobileNetV2 with SSDLite for 80 classes and background: 4,337,013 parameters, 788.8 million multiply-adds at 320x320.

    The heads and the maps made for them have 2,093,696 weights of these. Untrained: it is for its shapes and its cost (Table
    6: 4.3M, 0.8B). `num_classes` counts the background.
    """
    return SSDLite(num_classes)


class MobileDeepLab(nn.Module):
    """MobileNetV2 up to its 320 channels at output stride 16, DeepLabV3's head, enlarged to the input's size.

    Input: (batch, 3, height, width), 513x513 in the paper; output: (batch, num_classes, height, width).
    """

    def __init__(self, aspp: bool, num_classes: int):
        super().__init__()
        self.backbone, channels = _features(1.0, output_stride=16)
        self.aspp = ASPP(channels, RATES if aspp else ())
        self.classifier = nn.Conv2d(256, num_classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.classifier(self.aspp(self.backbone(x)))
        return F.interpolate(logits, size=x.shape[2:], mode="bilinear", align_corners=False)


def mobilenet_v2_deeplab(aspp: bool = False, num_classes: int = 21) -> MobileDeepLab:
    """DeepLabV3 on MobileNetV2, the paper's V2*: 2,113,557 parameters, 2.74 billion multiply-adds at 513x513.

    aspp: with the three 3x3 convolutions of rates 6, 12 and 18; without them the head has the 1x1 and the image pooling
    (section 6.3, which finds that they cost more than they bring). Untrained: for its shapes and its cost.
    """
    return MobileDeepLab(aspp, num_classes)
