"""Which outputs of a stack of layers depend on which inputs: exact, by 0/1 matrices; weeks 6 and 7 compare designs with it."""

from collections.abc import Sequence

import numpy as np


def grouped(channels: int, groups: int) -> np.ndarray:
    """What a convolution in groups connects: bool (channels, channels), output by input. Raises ValueError if uneven."""
    if groups < 1 or channels % groups:
        raise ValueError(f"{channels} channels cannot be shared by {groups} groups: groups must divide them")
    width = channels // groups
    return np.kron(np.eye(groups, dtype=bool), np.ones((width, width), dtype=bool))


def shuffled(channels: int, groups: int) -> np.ndarray:
    """The channel shuffle (arXiv 1707.01083, section 3.1) as bool (channels, channels): each output is one input."""
    if groups < 1 or channels % groups:
        raise ValueError(f"{channels} channels cannot be shared by {groups} groups: groups must divide them")
    return np.eye(channels, dtype=bool)[np.arange(channels).reshape(groups, -1).T.ravel()]


def reach(layers: Sequence[np.ndarray]) -> list[np.ndarray]:
    """After each of the layers, the first one first: which channel there depends on which input, bool (channels, inputs).

    layers: bool (outputs, inputs) each; inputs are the outputs of the layer before. Exact for generic weights: a path is a
    dependence unless weights cancel it.
    """
    reached: list[np.ndarray] = []
    for layer in layers:
        before = reached[-1] if reached else np.eye(layer.shape[1], dtype=bool)
        reached.append(layer.astype(np.int64) @ before.astype(np.int64) > 0)
    return reached
