"""DenseNet: every layer reads all the maps before it, so a layer adds only a few of its own.

Source: Huang et al., "Densely connected convolutional networks" (arXiv 1608.06993), Tables 1 and 2. Parameter names
are torchvision's, so its weights load.
"""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class DenseLayer(nn.Module):
    """The paper's H: BN-ReLU-3x3 to `growth_rate` (k) maps, before it BN-ReLU-1x1 to 4k with `bottleneck` (B).

    x: (batch, in_channels, height, width) to (batch, in_channels + growth_rate, height, width): input and new maps.
    `recomputes`: keep nothing of the new maps' making for the backward pass, which makes them again (see `recomputing`).
    """

    def __init__(self, in_channels: int, growth_rate: int, bottleneck: bool):
        super().__init__()
        self.recomputes = False
        self.bottleneck = bottleneck
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        if bottleneck:
            self.conv1 = nn.Conv2d(in_channels, 4 * growth_rate, 1, bias=False)
            self.norm2 = nn.BatchNorm2d(4 * growth_rate)
            self.relu2 = nn.ReLU()
            self.conv2 = nn.Conv2d(4 * growth_rate, growth_rate, 3, padding=1, bias=False)
        else:
            self.conv1 = nn.Conv2d(in_channels, growth_rate, 3, padding=1, bias=False)

    def new(self, x: torch.Tensor) -> torch.Tensor:
        """The new maps: (batch, growth_rate, height, width)."""
        new = self.conv1(self.relu1(self.norm1(x)))
        return self.conv2(self.relu2(self.norm2(new))) if self.bottleneck else new

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        new = checkpoint(self.new, x, use_reentrant=False) if self.recomputes and self.training else self.new(x)
        return torch.cat([x, new], 1)


class Transition(nn.Sequential):
    """Between two blocks: batch norm, ReLU, 1x1 convolution, 2x2 average pooling.

    x: (batch, in_channels, height, width) to (batch, out_channels, height / 2, width / 2).
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.relu = nn.ReLU()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.pool = nn.AvgPool2d(2)


class DenseNet(nn.Module):
    """Stem, dense blocks with transitions between them, global pooling, one linear layer.

    stem: the layers before the first block by name; stem_channels: their output channels (k0).
    blocks: layers a block. compression: theta, a transition keeps floor(theta * channels).
    Output: (batch, num_classes).
    """

    def __init__(
        self,
        stem: dict[str, nn.Module],
        stem_channels: int,
        blocks: tuple[int, ...],
        growth_rate: int,
        bottleneck: bool,
        compression: float,
        num_classes: int,
    ):
        super().__init__()
        self.features = nn.Sequential()
        for name, layer in stem.items():
            self.features.add_module(name, layer)
        channels = stem_channels
        for number, depth in enumerate(blocks, start=1):
            block = nn.Sequential()
            for layer_number in range(1, depth + 1):
                block.add_module(f"denselayer{layer_number}", DenseLayer(channels, growth_rate, bottleneck))
                channels += growth_rate
            self.features.add_module(f"denseblock{number}", block)
            if number < len(blocks):
                kept = int(compression * channels)
                if kept < 1:
                    raise ValueError(f"compression {compression} leaves none of {channels} channels")
                self.features.add_module(f"transition{number}", Transition(channels, kept))
                channels = kept
        self.features.add_module(f"norm{len(blocks) + 1}", nn.BatchNorm2d(channels))
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.pool(self.relu(self.features(x))), 1))


def recomputing(net: DenseNet) -> DenseNet:
    """Lets the backward pass make each layer's new maps again in place of keeping what they were made from, in place.

    What the authors' and gpleiss's memory-saving versions do: less memory for about a fifth more time. The gradients are the
    same; batch norm's running statistics see each batch twice, once a pass.
    """
    for part in net.modules():
        if isinstance(part, DenseLayer):
            part.recomputes = True
    return net


def _imagenet(blocks: tuple[int, ...], growth_rate: int, num_classes: int) -> DenseNet:
    """Table 1: a 7x7 stem with 2k maps, and DenseNet-BC with theta = 0.5. Input: (batch, 3, 224, 224)."""
    stem_channels = 2 * growth_rate
    stem: dict[str, nn.Module] = {
        "conv0": nn.Conv2d(3, stem_channels, 7, 2, 3, bias=False),
        "norm0": nn.BatchNorm2d(stem_channels),
        "relu0": nn.ReLU(),
        "pool0": nn.MaxPool2d(3, 2, 1),
    }
    return DenseNet(stem, stem_channels, blocks, growth_rate, True, 0.5, num_classes)


def densenet121(num_classes: int = 1000) -> DenseNet:
    """DenseNet-121, growth rate 32: 7,978,856 parameters. Input: (batch, 3, 224, 224)."""
    return _imagenet((6, 12, 24, 16), 32, num_classes)


def densenet161(num_classes: int = 1000) -> DenseNet:
    """DenseNet-161, growth rate 48. Input: (batch, 3, 224, 224)."""
    return _imagenet((6, 12, 36, 24), 48, num_classes)


def densenet169(num_classes: int = 1000) -> DenseNet:
    """DenseNet-169, growth rate 32: 14,149,480 parameters. Input: (batch, 3, 224, 224)."""
    return _imagenet((6, 12, 32, 32), 32, num_classes)


def densenet201(num_classes: int = 1000) -> DenseNet:
    """DenseNet-201, growth rate 32. Input: (batch, 3, 224, 224)."""
    return _imagenet((6, 12, 48, 32), 32, num_classes)


def densenet264(num_classes: int = 1000) -> DenseNet:
    """DenseNet-264, growth rate 32: 33,337,704 parameters. Input: (batch, 3, 224, 224)."""
    return _imagenet((6, 12, 64, 48), 32, num_classes)


def densenet_cifar(
    depth: int = 100, growth_rate: int = 12, bottleneck: bool = True, compression: float = 0.5, num_classes: int = 10
) -> DenseNet:
    """DenseNet for 32x32 images: three blocks of equal depth on 32, 16 and 8 pixels. Input: (batch, 3, 32, 32).

    depth: L, 3n + 4 layers, with `bottleneck` 6n + 4. compression: theta, 1.0 for none.
    The first convolution has 16 maps, in DenseNet-BC (both `bottleneck` and compression < 1) 2 x `growth_rate`.
    Raises ValueError for a depth that fits no whole number of layers, and for knobs out of range.
    """
    layers_each = 6 if bottleneck else 3
    if depth <= 4 or (depth - 4) % layers_each:
        raise ValueError(
            f"depth must be 4 + {layers_each}n with bottleneck={bottleneck}, such as {4 + 6 * layers_each}, got {depth}"
        )
    if growth_rate < 1:
        raise ValueError(f"growth_rate must be at least 1, got {growth_rate}")
    if not 0 < compression <= 1:
        raise ValueError(f"compression must be above 0 and at most 1, got {compression}")
    stem_channels = 2 * growth_rate if bottleneck and compression < 1 else 16
    stem: dict[str, nn.Module] = {"conv0": nn.Conv2d(3, stem_channels, 3, padding=1, bias=False)}
    blocks = ((depth - 4) // layers_each,) * 3
    return DenseNet(stem, stem_channels, blocks, growth_rate, bottleneck, compression, num_classes)
