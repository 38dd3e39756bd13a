"""Which outputs of a stack of layers depend on which inputs, exactly, by 0/1 matrices: what weeks 6 and 7 compare."""

from collections.abc import Sequence

import networkx
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
        # A sum of zeros and ones is zero only where all are, in float32 too, whose products are the fast ones.
        reached.append(layer.astype(np.float32) @ before.astype(np.float32) > 0)
    return reached


def mix_factor(layers: Sequence[np.ndarray]) -> list[float]:
    """After each layer, the share of pairs of an output and an input that are joined, as openai/blocksparse has it."""
    return [float(joined.mean()) for joined in reach(layers)]


def unevenness(layers: Sequence[np.ndarray]) -> list[float]:
    """After each layer, how far the paths are from joining all pairs alike: the greatest |inputs * share - 1|.

    share: of the paths that end in an output, those that begin at an input, where each output shares itself out evenly
    among its inputs. 0 is even; an output without an input has no path, and leaves it at 1 or more for good.
    """
    found, shares = [], np.eye(layers[0].shape[1])
    for layer in layers:
        shares = layer / np.maximum(layer.sum(1, keepdims=True), 1) @ shares
        found.append(float(np.abs(shares.shape[1] * shares - 1).max()))
    return found


def permutations(channels: int, degree: int, rng: np.random.Generator) -> np.ndarray:
    """A random `degree`-regular layer: permutations that have no place in common, united; bool (channels, channels).

    Each output has `degree` inputs and each input `degree` outputs: the expander of the theory of Deep Expander Nets
    (arXiv 1711.08757), where the authors' code draws from one side only (`nets.xnets.ExpanderConv2d(...).mask()`).
    Raises ValueError for a degree below 1 or above the channels.
    """
    if not 1 <= degree <= channels:
        raise ValueError(f"a layer of {channels} channels has a degree of 1 to {channels}, got {degree}")
    if 2 * degree > channels:  # what a few permutations leave over; to find many without a common place takes long
        few = channels - degree
        return ~permutations(channels, few, rng) if few else np.ones((channels, channels), dtype=bool)
    layer, outputs = np.zeros((channels, channels), dtype=bool), np.arange(channels)
    for _ in range(degree):
        inputs = rng.permutation(channels)
        while len(taken := np.flatnonzero(layer[outputs, inputs])):
            pair = [taken[0], rng.integers(channels)]
            inputs[pair] = inputs[pair[::-1]]
        layer[outputs, inputs] = True
    return layer


def small_world(blocks: int, neighbours: int, rewired: float, rng: np.random.Generator) -> np.ndarray:
    """Each block joined with itself and `neighbours` on either side, round a ring; then a share of the joints rewired.

    Symmetric, bool (blocks, blocks), with blocks * (2 * neighbours + 1) joints whatever is rewired: Watts and
    Strogatz's graph, a layout of openai/blocksparse. rewired: 0 is the ring, 1 a random graph.
    Raises ValueError where a ring of so many blocks has too few neighbours.
    """
    if not 1 <= neighbours <= (blocks - 1) // 2:
        raise ValueError(
            f"a ring of {blocks} blocks has 1 to {(blocks - 1) // 2} neighbours on a side, got {neighbours}"
        )
    return _joined(networkx.watts_strogatz_graph(blocks, 2 * neighbours, rewired, seed=rng))


def barabasi_albert(blocks: int, links: int, rng: np.random.Generator, as_meant: bool = True) -> np.ndarray:
    """Blocks that come one after the other, each joined with `links` earlier ones, rather with those of many joints.

    Each is joined with itself, and the first `links` with each other, a hub. Symmetric, bool (blocks, blocks): a layout
    of openai/blocksparse, whose script counts 2 m (n - m) + m^2 + n - m joints (m links, n blocks). There are so many
    if the first m blocks begin without joints: `as_meant`. Today's networkx begins with a star of m + 1 blocks about
    the first one. m - 1 of its rays lie in the hub, twice each, so that the script as it is has 2 (m - 1) fewer.
    Raises ValueError for links below 1, or as many as there are blocks.
    """
    if not 1 <= links < blocks:
        raise ValueError(f"each of {blocks} blocks can be joined with 1 to {blocks - 1} earlier ones, got {links}")
    star = networkx.star_graph([links, *range(links)]) if as_meant else None  # about the first block behind the hub
    layout = _joined(networkx.barabasi_albert_graph(blocks, links, seed=rng, initial_graph=star))
    layout[:links, :links] = True
    return layout


def _joined(graph: networkx.Graph) -> np.ndarray:
    """A graph's joints in the order of its numbers, each block with itself as well."""
    return networkx.to_numpy_array(graph, nodelist=range(len(graph)), dtype=bool) | np.eye(len(graph), dtype=bool)


def _check(channels: int, groups: int) -> None:
    if groups < 1 or channels % groups:
        raise ValueError(f"{channels} channels cannot be shared by {groups} groups: groups must divide them")
