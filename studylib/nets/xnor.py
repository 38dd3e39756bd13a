"""XNOR-Net: convolutions with binary weights, and with binary inputs too; their gradients; the packed product.

Source: Rastegari et al., "XNOR-Net: ImageNet classification using binary convolutional neural networks" (arXiv
1603.05279v4), sections 3.1 and 3.2; the order of the layers in a block is Figure 3's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def sign(x: Tensor) -> Tensor:
    """+1 where x >= 0, else -1 (Eq. 4): zero has a sign here, which `torch.sign` does not give it."""
    return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)


def binarize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The scale alpha and the signs B for which |W - alpha B| is least, for each filter: Eqs. 4 to 6.

    weight: (out_channels, ...). alpha: (out_channels, 1, ...), the mean magnitude; B as weight.
    """
    return weight.abs().mean(tuple(range(1, weight.dim())), keepdim=True), sign(weight)


class _Sign(torch.autograd.Function):
    """The sign, whose gradient passes where |x| <= 1; `printed` multiplies it by x, as the paper's formula does."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, printed: bool) -> Tensor:
        ctx.save_for_backward(x)
        ctx.printed = printed
        return sign(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        through = (x.abs() <= 1).to(gradient.dtype)
        return gradient * through * (x if ctx.printed else 1), None


def sign_straight_through(x: Tensor, printed: bool = False) -> Tensor:
    """The sign, with the gradient 1 where |x| <= 1 and else 0 (the straight-through estimator).

    printed: with the gradient x where |x| <= 1, which is what section 3.1 prints, d sign / d r = r 1(|r| <= 1). With it a
    number just above zero gets next to no gradient and one just below a small one of the other direction; the source that
    the paper cites for it, and every implementation, has 1.
    """
    return _Sign.apply(x, printed)


class _ScaledSign(torch.autograd.Function):
    """alpha B of each filter, with the paper's gradient for it."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        alpha, signs = binarize(weight)
        ctx.save_for_backward(weight, alpha)
        return alpha * signs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        weight, alpha = ctx.saved_tensors
        return gradient * (1 / weight[0].numel() + alpha * (weight.abs() <= 1))


def binary_weight(weight: Tensor) -> Tensor:
    """W~ = alpha B, with the gradient dC/dW_i = dC/dW~_i (1/n + dsign/dW_i alpha) of section 3.1; n numbers a filter.

    It is not the whole chain rule: alpha depends on every weight of the filter, and the 1/n stands for W_i's own part alone,
    without its sign.
    """
    return _ScaledSign.apply(weight)


class BinaryWeightConv2d(nn.Conv2d):
    """BWN's convolution: binary weights with a scale a filter, inputs as they are; the real weights are what learns.

    x: (batch, in_channels, height, width) to (batch, out_channels, ...), as nn.Conv2d.
    """

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, binary_weight(self.weight), self.bias)


class XnorConv2d(nn.Conv2d):
    """XNOR-Net's convolution: signs times signs, scaled by alpha of the filter and K of the place (Eq. 11).

    K = |x| averaged over the channels and the kernel's window. Padding is with zeros, whose product is nothing and whose
    magnitude counts in K; packed signs have no zero. No gradient goes through K's magnitude. No bias, no groups.
    x: (batch, in_channels, height, width) to (batch, out_channels, ...).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: int = 0):
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, bias=False)

    def scale(self, x: Tensor) -> Tensor:
        """K: (batch, 1, height, width) of the output's size."""
        assert not isinstance(self.padding, str)  # a number, in __init__
        magnitude = x.detach().abs().mean(1, keepdim=True)
        return F.avg_pool2d(magnitude, self.kernel_size, self.stride, self.padding)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(sign_straight_through(x), binary_weight(self.weight), None) * self.scale(x)


KINDS = {"full": nn.Conv2d, "bwn": BinaryWeightConv2d, "xnor": XnorConv2d}
ORDERS = ("C-B-A-P", "B-A-C-P")


def binary_block(kind: str, order: str, in_channels: int, out_channels: int) -> nn.Sequential:
    """Convolution 5x5, batch norm, activation and 2x2 pooling in the usual order or in XNOR-Net's (Figure 3).

    x: (batch, in_channels, height, width) to (batch, out_channels, height / 2, width / 2). The activation is ReLU; where the
    convolution takes signs itself there is none in the order B-A-C-P, as the signs are the activation.
    Raises ValueError for another kind or order.
    """
    if kind not in KINDS or order not in ORDERS:
        raise ValueError(
            f"expected a kind of {', '.join(KINDS)} and an order of {', '.join(ORDERS)}; got {kind}, {order}"
        )
    options = {} if kind == "xnor" else {"bias": False}
    conv = KINDS[kind](in_channels, out_channels, 5, padding=2, **options)
    activation = [] if kind == "xnor" and order == "B-A-C-P" else [nn.ReLU()]
    if order == "C-B-A-P":
        return nn.Sequential(conv, nn.BatchNorm2d(out_channels), *activation, nn.MaxPool2d(2))
    return nn.Sequential(nn.BatchNorm2d(in_channels), *activation, conv, nn.MaxPool2d(2))


def xnor_lenet(kind: str = "xnor", order: str = "B-A-C-P", num_classes: int = 10) -> nn.Sequential:
    """A net of LeNet-5's size on 28x28 digits, whose second and third convolution are of a kind: "full", "bwn" or "xnor".

    The first and the last layer are full, as in the paper. Input: (batch, 1, 28, 28).
    Raises ValueError for another kind or order (see `binary_block`).
    """
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        binary_block(kind, order, 32, 64),
        binary_block(kind, order, 64, 64),
        nn.Flatten(),
        nn.BatchNorm1d(64 * 3 * 3),
        nn.Linear(64 * 3 * 3, num_classes),
    )


def pack_signs(x: np.ndarray) -> np.ndarray:
    """The signs of the rows of x (n, depth) as bits: uint64 (n, ceil(depth / 64)), 1 for >= 0, the bits beyond 0."""
    bits = np.packbits(x >= 0, axis=1, bitorder="little")
    return np.pad(bits, ((0, 0), (0, -bits.shape[1] % 8))).view(np.uint64)


def packed_product(a: np.ndarray, b: np.ndarray, depth: int) -> np.ndarray:
    """The products of rows of signs, a (m, words) with b (n, words): int64 (m, n), depth - 2 popcount(a xor b)."""
    different = np.zeros((len(a), len(b)), np.int64)
    for k in range(a.shape[1]):  # a word at a time: (m, n, words) at once would not fit a cache
        different += np.bitwise_count(a[:, None, k] ^ b[None, :, k])
    return depth - 2 * different
