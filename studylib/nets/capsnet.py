"""CapsNet: groups of numbers whose length says whether a thing is there, and whose direction says how it lies.

Source: Sabour et al., "Dynamic routing between capsules" (arXiv 1710.09829), Equations 1 to 4, Procedure 1, Figures 1
and 2. The authors' published code differs: it adds a bias to each capsule, and half the margin loss. Here the paper
stands.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

KERNEL = 9  # of both convolutions


def squash(s: torch.Tensor, dim: int = -1) -> torch.Tensor:
    """Equation 1: v = |s|^2 / (1 + |s|^2) * s / |s|, of s's shape; lengths along `dim` go to |s|^2 / (1 + |s|^2) < 1.

    Computed as s * |s| / (1 + |s|^2), which is the same and has a gradient (zero) at s = 0.
    """
    length = torch.linalg.vector_norm(s, dim=dim, keepdim=True)
    return s * length / (1 + length**2)


class Routed(NamedTuple):
    """What `routing` found. outputs: v, (batch, parents, size); couplings: c of each iteration, (batch, children,
    parents), each row a share over the parents."""

    outputs: torch.Tensor
    couplings: list[torch.Tensor]


def routing(votes: torch.Tensor, iterations: int = 3) -> Routed:
    """Routing by agreement (Procedure 1): a child sends more to those parents whose output agrees with its vote.

    votes: u_hat, (batch, children, parents, size). Each iteration takes c = softmax(b) over the parents, so that the
    shares of a child sum to 1, v = squash(sum of c * votes over the children), and adds the products votes . v to b,
    which begins at 0: the first couplings are all 1 / parents. Gradients flow through every iteration.
    Raises ValueError for less than one iteration, or votes of another rank.
    """
    if iterations < 1:
        raise ValueError(f"routing needs at least one iteration, got {iterations}")
    if votes.dim() != 4:
        raise ValueError(f"votes must be (batch, children, parents, size), got a tensor of shape {tuple(votes.shape)}")
    logits = votes.new_zeros(votes.shape[:3])
    couplings = []
    for iteration in range(iterations):
        couplings.append(logits.softmax(dim=2))
        outputs = squash(torch.einsum("bij,bijd->bjd", couplings[-1], votes))
        if iteration < iterations - 1:  # after the last outputs nobody asks for the logits
            logits = logits + torch.einsum("bijd,bjd->bij", votes, outputs)
    return Routed(outputs, couplings)


def margin_loss(lengths: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Equation 4, summed over the classes and averaged over the batch: a scalar.

    L_k = T_k max(0, 0.9 - |v_k|)^2 + 0.5 (1 - T_k) max(0, |v_k| - 0.1)^2. lengths: (batch, classes), in [0, 1);
    labels: (batch,), int64.
    """
    present = F.one_hot(labels, lengths.shape[1]).to(lengths.dtype)
    missed, false = F.relu(0.9 - lengths) ** 2, F.relu(lengths - 0.1) ** 2
    return (present * missed + 0.5 * (1 - present) * false).sum(1).mean()


class PrimaryCaps(nn.Module):
    """A convolution whose channels are read as capsules of `size` numbers, then squashed.

    x: (batch, in_channels, height, width) to (batch, types * grid height * grid width, size).
    """

    def __init__(self, in_channels: int, types: int, size: int, kernel_size: int, stride: int):
        super().__init__()
        self.types, self.size = types, size
        self.conv = nn.Conv2d(in_channels, types * size, kernel_size, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.conv(x).unflatten(1, (self.types, self.size))
        return squash(maps.permute(0, 1, 3, 4, 2).flatten(1, 3))


class RoutedCaps(nn.Module):
    """Every child votes for every parent through a matrix of its own (W_ij), and the votes are routed.

    x: (batch, children, child_size) to (batch, parents, size). `vote` gives the votes, for a look at `routing`.
    """

    def __init__(self, children: int, child_size: int, parents: int, size: int, iterations: int):
        super().__init__()
        self.iterations = iterations
        self.weight = nn.Parameter(torch.randn(children, parents, child_size, size) * 0.1)

    def vote(self, x: torch.Tensor) -> torch.Tensor:
        """u_hat, (batch, children, parents, size): Equation 2, right."""
        return torch.einsum("bic,ijcd->bijd", x, self.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return routing(self.vote(x), self.iterations).outputs


class CapsNet(nn.Module):
    """Convolution, primary capsules, one routed capsule for each class, and a decoder that draws what a pose says.

    Input: (batch, 1, image_size, image_size); output: (batch, num_classes), the lengths of the classes' capsules.
    The sizes default to the paper's; smaller ones make a net that is trained in a minute.
    """

    def __init__(
        self,
        image_size: int = 28,
        routing_iterations: int = 3,
        reconstruction: bool = True,
        num_classes: int = 10,
        channels: int = 256,
        types: int = 32,
        kernel_size: int = KERNEL,
        decoder: Sequence[int] = (512, 1024),
    ):
        super().__init__()
        grid = (image_size - 2 * (kernel_size - 1) - 1) // 2 + 1
        if grid < 1:
            raise ValueError(
                f"image_size must be at least {2 * kernel_size - 1} for two {kernel_size}x{kernel_size} "
                f"convolutions, got {image_size}"
            )
        if routing_iterations < 1:
            raise ValueError(f"routing_iterations must be at least 1, got {routing_iterations}")
        self.image_size, self.size = image_size, 16
        self.conv = nn.Conv2d(1, channels, kernel_size)
        self.relu = nn.ReLU()
        self.primary = PrimaryCaps(channels, types, 8, kernel_size, stride=2)
        self.digits = RoutedCaps(types * grid**2, 8, num_classes, self.size, routing_iterations)
        self.decoder: nn.Sequential | None = None
        if reconstruction:
            widths = (num_classes * self.size, *decoder)
            self.decoder = nn.Sequential()
            for before, after in pairwise(widths):
                self.decoder.append(nn.Linear(before, after)).append(nn.ReLU())
            self.decoder.append(nn.Linear(widths[-1], image_size**2)).append(nn.Sigmoid())

    def poses(self, x: torch.Tensor) -> torch.Tensor:
        """The class capsules' outputs v, (batch, num_classes, 16)."""
        return self.digits(self.primary(self.relu(self.conv(x))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.vector_norm(self.poses(x), dim=2)

    def reconstruct(self, poses: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Images (batch, 1, image_size, image_size) in [0, 1] from `poses`, of which only the labels' is kept.

        labels: (batch,); None takes the longest capsule of each. In training the paper adds 0.0005 times the sum of
        squared differences from the input to the margin loss. Raises ValueError for a net without decoder.
        """
        if self.decoder is None:
            raise ValueError("this CapsNet has no decoder: make it with reconstruction=True")
        if labels is None:
            labels = torch.linalg.vector_norm(poses, dim=2).argmax(1)
        kept = F.one_hot(labels, poses.shape[1]).to(poses.dtype)[:, :, None] * poses
        return self.decoder(kept.flatten(1)).unflatten(1, (1, self.image_size, self.image_size))


def capsnet(
    image_size: int = 28, routing_iterations: int = 3, reconstruction: bool = True, num_classes: int = 10
) -> CapsNet:
    """The paper's CapsNet: 8,215,568 parameters, 6,804,224 without reconstruction. Input: (batch, 1, 28, 28).

    image_size: 28 for MNIST, 36 for MultiMNIST. Raises ValueError below 17, and for less than one iteration.
    """
    return CapsNet(image_size, routing_iterations, reconstruction, num_classes)
