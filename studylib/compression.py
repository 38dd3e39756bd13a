"""Deep Compression's three steps on any layer: prune, share what is left, and code it; every bit of the result counted.

Source: Han, Mao, Dally, "Deep Compression" (arXiv 1510.00149), sections 2 to 4. A layer's weights are pruned by magnitude
(`prune`), the others share a few values (`kmeans`, `share`), and what is stored (`store`) is a gap and an index a weight.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

FLOAT_BITS = 32
LENGTH_BITS = 8  # for the length of one symbol's code: that is all that a canonical Huffman code needs to be known


def magnitude_mask(weight: Tensor, keep: float) -> Tensor:
    """True for the fraction `keep` of the weights that is largest in magnitude; of equal ones the first are kept.

    weight: any shape; the mask has the same. Raises ValueError for a fraction outside of 0 to 1.
    """
    if not 0 <= keep <= 1:
        raise ValueError(f"keep is a fraction from 0 to 1, got {keep}")
    order = weight.detach().abs().flatten().argsort(descending=True, stable=True)
    mask = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
    mask[order[: round(keep * weight.numel())]] = True
    return mask.view_as(weight)


def prune(layer: nn.Linear | nn.Conv2d, keep: float) -> Tensor:
    """Sets all but the fraction `keep` of the layer's weights to zero for good, and returns the mask of the others.

    From now on the pruned weights get no gradient. So an optimiser that begins after this call leaves them at zero, with
    momentum and weight decay too; one that began before may still move them by its momentum. A copy of the layer
    learns again, until it is pruned itself. Pruning in rounds: call it again with a smaller fraction after each
    retraining; what is zero is the smallest, so that it stays pruned.
    """
    mask = magnitude_mask(layer.weight, keep)
    with torch.no_grad():
        layer.weight *= mask
    layer.weight.register_hook(lambda gradient: gradient * mask)
    return mask


def kmeans(
    values: np.ndarray, k: int, start: str = "linear", rounds: int = 30, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """One-dimensional k-means of `values` (n,): float64 centroids (k,) in ascending order, and each value's index (n,).

    start, as in section 3.2: "linear" takes equal steps from the least to the greatest value, "density" equal steps of the
    distribution, "random" (Forgy's) k of the values by `seed`. A centroid that no value is nearest to stays where it is. No
    round raises the sum of squares (Eq. 2). Raises ValueError for another start, and for k below 1 or no values.
    """
    values = np.asarray(values, float).ravel()
    if k < 1 or not values.size:
        raise ValueError(f"k-means takes at least one value and one centroid, got {values.size} values, k = {k}")
    centroids = np.sort(_start(values, k, start, seed))
    for _ in range(rounds):
        index = nearest(centroids, values)
        size = np.bincount(index, minlength=k)
        centroids = np.where(size, np.bincount(index, values, k) / np.maximum(size, 1), centroids)
    return centroids, nearest(centroids, values)


def _start(values: np.ndarray, k: int, start: str, seed: int) -> np.ndarray:
    if start == "linear":
        return np.linspace(values.min(), values.max(), k)
    if start == "density":
        return np.quantile(values, (np.arange(k) + 0.5) / k)
    if start == "random":
        return np.random.default_rng(seed).choice(values, k, replace=values.size < k)
    raise ValueError(f'start must be "linear", "density" or "random", got {start!r}')


def nearest(centroids: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The index of the nearest of the ascending centroids (k,) for each value, in the values' shape."""
    return np.searchsorted((centroids[1:] + centroids[:-1]) / 2, values)


class Codebook(nn.Module):
    """A weight as a look-up in k shared values: torch's parametrization of a layer's weight, made by `share`.

    index: the weight's shape; 0 where it is pruned, else 1 + the number of its centroid. The parameter that learns is the
    centroids' (k,), and the gradient of one is the sum of its weights' (Eq. 3), by differentiation.
    """

    index: Tensor

    def __init__(self, centroids: Tensor, index: Tensor):
        super().__init__()
        self.register_buffer("index", index)
        self._begin = centroids

    def forward(self, centroids: Tensor) -> Tensor:
        return torch.cat([centroids.new_zeros(1), centroids])[self.index]

    def right_inverse(self, weight: Tensor) -> Tensor:
        return self._begin.to(weight)


def share(layer: nn.Linear | nn.Conv2d, bits: int, start: str = "linear", seed: int = 0) -> Codebook:
    """Replaces the layer's non-zero weights by 2^bits - 1 shared ones, which from now on are what the layer learns.

    Zeros stay zeros; they take the last of the 2^bits symbols, for the fillers (see `store`). Whatever reads
    `layer.weight` gets the shared weights; `layer.parametrizations.weight.original` is the codebook. start, seed: `kmeans`.
    """
    weight = layer.weight.detach()
    kept = (weight != 0).cpu().numpy()
    centroids, found = kmeans(weight.cpu().numpy()[kept], 2**bits - 1, start, seed=seed)
    index = np.zeros(weight.shape, np.int64)
    index[kept] = found + 1
    codebook = Codebook(torch.from_numpy(centroids).to(weight), torch.from_numpy(index).to(weight.device))
    layer.weight = nn.Parameter(weight.clone())  # without what `prune` does to the gradient of the old one
    parametrize.register_parametrization(layer, "weight", codebook)
    return codebook


def to_gaps(positions: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Section 2: ascending positions of the non-zeros as gaps, the number of zeros before each entry, and is_weight.

    A gap has `bits` bits. Where more zeros follow each other than 2^bits - 1, a filler is put on the next zero: an entry that
    is no weight. Both arrays: (entries,).
    """
    gaps, is_weight, largest = [], [], 2**bits - 1
    for gap in (np.diff(positions, prepend=-1) - 1).tolist():
        while gap > largest:
            gaps.append(largest)
            is_weight.append(False)
            gap -= largest + 1  # the filler stands on a zero of its own
        gaps.append(gap)
        is_weight.append(True)
    return np.array(gaps, np.int64), np.array(is_weight, bool)


def from_gaps(gaps: np.ndarray, is_weight: np.ndarray) -> np.ndarray:
    """The way back: the positions of the non-zeros."""
    return (np.cumsum(gaps + 1) - 1)[is_weight]


def expected_fillers(kept: float, bits: int) -> float:
    """Fillers a non-zero weight, if each weight is kept with probability `kept` whatever its neighbours are.

    A run of zeros reaches 2^bits with probability q = (1 - kept)^(2^bits), then as many more with q again: q / (1 - q).
    """
    q = (1 - kept) ** (2**bits)
    return q / (1 - q)


def huffman(symbols: Iterable[Hashable]) -> dict[Hashable, str]:
    """Section 4: a prefix code of least length for a sequence, each symbol's word of '0' and '1'.

    A sequence of one symbol only gets the word '0', since a word of no bits could not be counted when it is read.
    Raises ValueError for an empty sequence.
    """
    heap = [(n, i, {symbol: ""}) for i, (symbol, n) in enumerate(Counter(symbols).items())]
    if not heap:
        raise ValueError("there is no code for an empty sequence")
    if len(heap) == 1:
        return dict.fromkeys(heap[0][2], "0")
    heapq.heapify(heap)
    tie = len(heap)  # breaks ties in the order of joining; dicts are never compared
    while len(heap) > 1:
        (n0, _, low), (n1, _, high) = heapq.heappop(heap), heapq.heappop(heap)
        joined = {s: "0" + word for s, word in low.items()} | {s: "1" + word for s, word in high.items()}
        heapq.heappush(heap, (n0 + n1, tie := tie + 1, joined))
    return heap[0][2]


def encode(symbols: Iterable[Hashable], code: dict[Hashable, str]) -> str:
    """The words of the symbols one after the other."""
    return "".join(code[symbol] for symbol in symbols)


def decode(bits: str, code: dict[Hashable, str]) -> list:
    """The symbols, read from the left: a prefix code is never in doubt where a word ends."""
    symbol_of, symbols, word = {word: symbol for symbol, word in code.items()}, [], ""
    for bit in bits:
        word += bit
        if word in symbol_of:
            symbols.append(symbol_of[word])
            word = ""
    return symbols


@dataclass(frozen=True)
class Stored:
    """A layer as it is stored, and what that takes in bits.

    gaps, indices: (entries,), the zeros before an entry and its place in the codebook. codebook: float32, whose last value is
    the fillers' zero. fixed: bits of the two streams with gap_bits and weight_bits an entry; huffman: with a Huffman code
    each; tables: of both codes, as the length of each possible symbol's word. The paper counts the codebook and does not
    speak of the tables.
    """

    shape: tuple[int, ...]
    weight_bits: int
    gap_bits: int
    gaps: np.ndarray
    indices: np.ndarray
    codebook: np.ndarray

    @property
    def weights(self) -> int:
        """Non-zero weights."""
        return self.entries - self.fillers

    @property
    def entries(self) -> int:
        return len(self.gaps)

    @property
    def fillers(self) -> int:
        return int((self.indices == len(self.codebook) - 1).sum())

    @property
    def float_bits(self) -> int:
        return FLOAT_BITS * int(np.prod(self.shape))

    @property
    def codebook_bits(self) -> int:
        return FLOAT_BITS * len(self.codebook)

    @property
    def fixed_bits(self) -> int:
        return (self.weight_bits + self.gap_bits) * self.entries

    @property
    def huffman_bits(self) -> int:
        return sum(coded_bits(stream) for stream in (self.indices, self.gaps))

    @property
    def table_bits(self) -> int:
        return LENGTH_BITS * (2**self.weight_bits + 2**self.gap_bits)

    @property
    def rate_pq(self) -> float:
        """What is left of the float32 layer by pruning and quantization, codebook included."""
        return (self.fixed_bits + self.codebook_bits) / self.float_bits

    @property
    def rate_pqh(self) -> float:
        """What is left of it by pruning, quantization and Huffman coding, codebook included, tables not."""
        return (self.huffman_bits + self.codebook_bits) / self.float_bits

    def weight(self) -> np.ndarray:
        """The layer as it is read back: float32, `shape`."""
        flat = np.zeros(int(np.prod(self.shape)), np.float32)
        flat[np.cumsum(self.gaps + 1) - 1] = self.codebook[self.indices]
        return flat.reshape(self.shape)


def store(weight: np.ndarray | Tensor, weight_bits: int, gap_bits: int, start: str = "linear") -> Stored:
    """Shares the non-zero weights of a pruned layer of any shape by k-means, and codes their positions.

    Of the 2^weight_bits symbols one is the fillers', so there are 2^weight_bits - 1 shared weights. A layer that is shared
    already (see `share`) is stored without loss. Raises ValueError for a layer without a non-zero weight.
    """
    weight = weight.detach().cpu().numpy() if isinstance(weight, Tensor) else weight
    flat, k = weight.ravel(), 2**weight_bits - 1
    positions = np.flatnonzero(flat)
    if not positions.size:
        raise ValueError(f"a layer of shape {weight.shape} with no weight left cannot be stored")
    gaps, is_weight = to_gaps(positions, gap_bits)
    known = np.unique(flat[positions])
    if len(known) <= k:
        centroids = np.concatenate([known, np.full(k - len(known), known[-1])])
        index = np.searchsorted(known, flat[positions])
    else:
        centroids, index = kmeans(flat[positions], k, start)
    indices = np.full(len(gaps), k)
    indices[is_weight] = index
    codebook = np.append(centroids, 0).astype(np.float32)
    return Stored(weight.shape, weight_bits, gap_bits, gaps, indices, codebook)


def coded_bits(stream: np.ndarray | list) -> int:
    """The bits of a stream in its own Huffman code, without the code's table."""
    symbols = np.asarray(stream).tolist()
    counts, code = Counter(symbols), huffman(symbols)
    return sum(n * len(code[symbol]) for symbol, n in counts.items())
