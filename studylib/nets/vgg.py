"""VGG-16: nothing but 3x3 convolutions, the expensive end of the survey.

Source: Simonyan, Zisserman, "Very deep convolutional networks for large-scale image recognition" (arXiv 1409.1556),
Table 1, configuration D. Parameter names are torchvision's, so its weights load.
"""

import torch
from torch import nn

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Output channels of the 3x3 convolutions of configuration D; a 2x2 max-pool ends each stage."""


class VGG(nn.Module):
    """Stages of 3x3 convolutions with ReLU, then three linear layers.

    Input: (batch, 3, 224, 224); output: (batch, num_classes). torchvision also takes other sizes, by an adaptive
    pooling to 7x7 that the paper does not have.
    """

    def __init__(self, stages: tuple[tuple[int, ...], ...], num_classes: int = 1000):
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for stage in stages:
            for out_channels in stage:
                layers += [nn.Conv2d(channels, out_channels, 3, padding=1), nn.ReLU()]
                channels = out_channels
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(channels * 7 * 7, 4096),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(4096, num_classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))


def vgg16(num_classes: int = 1000) -> VGG:
    """VGG-16, configuration D: 13 convolutions, 138,357,544 parameters, 138,344,128 of them weights."""
    return VGG(STAGES, num_classes)
