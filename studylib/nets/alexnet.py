"""AlexNet: the first of the line, whose two towers are the first grouped convolutions.

Source: Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural networks" (NIPS 2012).
"""

import torch
from torch import nn


def _response_norm() -> nn.LocalResponseNorm:
    """k=2, n=5, alpha=1e-4, beta=0.75. The paper multiplies alpha with a sum over n maps, torch with the
    mean over them, so torch is given n times the paper's alpha."""
    return nn.LocalResponseNorm(size=5, alpha=5 * 1e-4, beta=0.75, k=2.0)


class AlexNet(nn.Module):
    """Five convolutions and three linear layers; maps of 55, 27, 13 and 6 pixels a side.

    The paper says 224x224 pixels, stride 4 and 55x55 maps, which an 11x11 kernel does not give without padding
    ((224 - 11) / 4 is no integer; Caffe therefore feeds 227). Two pixels of zeros on each side give 55 from 224.

    groups: towers of conv2, conv4 and conv5, which see only the maps of their own tower; conv3 sees all.
    Input: (batch, 3, 224, 224); output: (batch, num_classes).
    """

    def __init__(self, groups: int = 2, num_classes: int = 1000):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 96, 11, stride=4, padding=2),
            nn.ReLU(),
            _response_norm(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(96, 256, 5, padding=2, groups=groups),
            nn.ReLU(),
            _response_norm(),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(256, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 384, 3, padding=1, groups=groups),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1, groups=groups),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, num_classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x))


def alexnet(groups: int = 2, num_classes: int = 1000) -> AlexNet:
    """AlexNet with the paper's two towers (60,965,224 parameters), or with `groups=1` the same widths ungrouped.

    Raises ValueError where `groups` does not divide 96, 256 and 384 channels.
    """
    if groups < 1 or 96 % groups or 256 % groups:
        raise ValueError(f"groups must divide 96, 256 and 384 channels (1, 2, 4, 8, 16 or 32), got {groups}")
    return AlexNet(groups, num_classes)
