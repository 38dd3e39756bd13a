"""ResNet-50, 101 and 152: bottleneck blocks with a residual connection.

Source: He et al., "Deep residual learning for image recognition" (arXiv 1512.03385), Table 1 and Figure 5. Parameter
names are torchvision's, so its weights load (with the stride in the 3x3).
"""

import torch
from torch import nn


class Bottleneck(nn.Module):
    """1x1 to `channels`, 3x3, 1x1 to 4 x `channels`; batch norm after each, ReLU after the sum.

    x: (batch, in_channels, height, width) to (batch, 4 * channels, height / stride, width / stride). The connection is
    the identity, or a strided 1x1 convolution where the shape changes (option B). `stride_in` says which convolution
    of the block has the stride: the first "1x1", as in the authors' own nets, or the "3x3", as in ResNeXt and
    torchvision.
    """

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int, stride_in: str):
        super().__init__()
        first, second = (stride, 1) if stride_in == "1x1" else (1, stride)
        out_channels = self.expansion * channels
        self.conv1 = nn.Conv2d(in_channels, channels, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, second, 1, bias=False)
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


def _stage(in_channels: int, channels: int, blocks: int, stride: int, stride_in: str) -> nn.Sequential:
    """Blocks of one width; the first has the stride and the projection."""
    first = Bottleneck(in_channels, channels, stride, stride_in)
    later = (Bottleneck(Bottleneck.expansion * channels, channels, 1, stride_in) for _ in range(blocks - 1))
    return nn.Sequential(first, *later)


class ResNet(nn.Module):
    """7x7 stem, four stages of bottlenecks, global pooling, one linear layer.

    blocks: blocks a stage. Input: (batch, 3, 224, 224); output: (batch, num_classes).
    Raises ValueError where `stride_in` is neither "3x3" nor "1x1".
    """

    def __init__(self, blocks: tuple[int, int, int, int], stride_in: str = "3x3", num_classes: int = 1000):
        super().__init__()
        if stride_in not in ("3x3", "1x1"):
            raise ValueError(f'stride_in must be "3x3" or "1x1", got {stride_in!r}')
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = _stage(64, 64, blocks[0], 1, stride_in)
        self.layer2 = _stage(256, 128, blocks[1], 2, stride_in)
        self.layer3 = _stage(512, 256, blocks[2], 2, stride_in)
        self.layer4 = _stage(1024, 512, blocks[3], 2, stride_in)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(2048, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def resnet50(stride_in: str = "3x3", num_classes: int = 1000) -> ResNet:
    """ResNet-50: 25,557,032 parameters; 4.089 billion multiply-adds with the stride in the 3x3, 3.858 in the 1x1."""
    return ResNet((3, 4, 6, 3), stride_in, num_classes)


def resnet101(stride_in: str = "3x3", num_classes: int = 1000) -> ResNet:
    """ResNet-101; see `resnet50`."""
    return ResNet((3, 4, 23, 3), stride_in, num_classes)


def resnet152(stride_in: str = "3x3", num_classes: int = 1000) -> ResNet:
    """ResNet-152; see `resnet50`."""
    return ResNet((3, 8, 36, 3), stride_in, num_classes)
