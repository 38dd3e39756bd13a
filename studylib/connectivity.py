"""Which outputs of a stack of layers depend on which inputs, exactly, by 0/1 matrices: what weeks 6 and 7 compare."""

from collections.abc import Sequence

import numpy as np


def grouped(channels: int, groups: int) -> np.ndarray:
    """What a convolution in groups connects: bool (channels, channels), output by input.

    Raises ValueError where the groups do not divide the channels.
    """
    _check(channels, groups)
    width = channels // groups
    return np.kron(np.eye(groups, dtype=bool), np.ones((width, width), dtype=bool))


def shuffled(channels: int, groups: int) -> np.ndarray:
    """The channel shuffle (arXiv 1707.01083, section 3.1), a permutation: bool (channels, channels), output by input.

    Raises ValueError where the groups do not divide the channels.
    """
    _check(channels, groups)
    return np.eye(channels, dtype=bool)[np.arange(channels).reshape(groups, -1).T.ravel()]


def reach(layers: Sequence[np.ndarray]) -> list[np.ndarray]:
    """After each layer, which channel depends on which input of the first: bool (channels, inputs) each.

    layers: bool (outputs, inputs), the first one first. A path is a dependence, unless weights happen to cancel it.
    """
    reached: list[np.ndarray] = []
    for layer in layers:
        before = reached[-1] if reached else np.eye(layer.shape[1], dtype=bool)
        reached.append(layer.astype(np.int64) @ before.astype(np.int64) > 0)
    return reached


def _check(channels: int, groups: int) -> None:
    if groups < 1 or channels % groups:
        raise ValueError(f"{channels} channels cannot be shared by {groups} groups: groups must divide them")
