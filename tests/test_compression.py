"""Deep Compression's steps against the paper's worked example, what coding theory promises, week 1's small forms."""

import ast
import copy
import heapq
import math
from collections import Counter
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from studylib import compression, nets
from studylib.compression import (
    Stored,
    coded_bits,
    decode,
    encode,
    expected_fillers,
    from_gaps,
    huffman,
    kmeans,
    magnitude_mask,
    nearest,
    prune,
    share,
    store,
    to_gaps,
)

WEEK_1 = Path(__file__).parents[1] / "weeks" / "01_intro_depthwise" / "01_intro_depthwise.py"
# Figure 3 of the paper.
WEIGHTS = [[2.09, -0.98, 1.48, 0.09], [0.05, -0.14, -1.08, 2.12], [-0.91, 1.92, 0, -1.03], [1.87, 0, 1.53, 1.49]]
INDEX = [[3, 0, 2, 1], [1, 1, 0, 3], [0, 3, 1, 0], [3, 1, 2, 2]]
GRADIENT = [
    [-0.03, -0.01, 0.03, 0.02],
    [-0.01, 0.01, -0.02, 0.12],
    [-0.01, 0.02, 0.04, 0.01],
    [-0.07, -0.02, 0.01, -0.02],
]


def pruned_layer(outputs, inputs, keep, seed=0):
    torch.manual_seed(seed)
    layer = nn.Linear(inputs, outputs)
    prune(layer, keep)
    return layer


def week_1(name):
    """A function of week 1's notebook, in the names that it uses."""
    tree = ast.parse(WEEK_1.read_text(encoding="utf-8"))
    names = {"np": np, "Counter": Counter, "heapq": heapq, "GAP_BITS": 5, "WEIGHT_BITS": 6}
    functions = [n for n in tree.body if isinstance(n, ast.FunctionDef)]
    wanted = {"kmeans", "to_gaps", "from_gaps", "huffman", "decode", "store"}
    module = ast.Module([f for f in functions if f.name in wanted], [])
    exec(compile(module, str(WEEK_1), "exec"), names)  # noqa: S102  our own notebook
    return names[name]


def test_mask_keeps_the_largest():
    weight = torch.tensor([[3.0, -0.5, 0.1], [-2.0, 0.5, 0.0]])
    assert magnitude_mask(weight, 0.5).tolist() == [[True, True, False], [True, False, False]]
    assert magnitude_mask(weight, 0).sum() == 0 and magnitude_mask(weight, 1).all()


@pytest.mark.parametrize("keep", [-0.1, 1.1, float("nan")])
def test_a_fraction_out_of_range(keep):
    with pytest.raises(ValueError, match="keep is a fraction from 0 to 1, got"):
        magnitude_mask(torch.ones(3), keep)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_pruned_weights_stay_zero_and_the_others_learn(optimizer):
    layer = pruned_layer(8, 20, 0.3)
    before = layer.weight.detach().clone()
    momentum = {"momentum": 0.9} if optimizer is torch.optim.SGD else {}
    optimise = optimizer(layer.parameters(), lr=0.1, weight_decay=1e-2, **momentum)
    for _ in range(5):
        optimise.zero_grad()
        layer(torch.rand(4, 20)).square().sum().backward()
        assert torch.equal(layer.weight.grad != 0, before != 0)
        optimise.step()
    assert torch.equal(layer.weight == 0, before == 0)
    assert (layer.weight != before)[before != 0].all()


def test_pruning_in_rounds():
    layer = pruned_layer(10, 10, 0.5)
    first = layer.weight.detach() != 0
    second = prune(layer, 0.2)
    assert second.sum() == 20 and not (second & ~first).any()


def test_figure_3():
    centroids = np.array([-1.0, 0, 1.5, 2])
    assert nearest(centroids, np.array(WEIGHTS)).tolist() == INDEX
    codebook = compression.Codebook(torch.tensor(centroids), torch.tensor(INDEX) + 1)
    shared = torch.tensor(centroids, requires_grad=True)
    (codebook(shared) * torch.tensor(GRADIENT)).sum().backward()
    assert shared.grad.tolist() == pytest.approx([-0.03, 0.04, 0.02, 0.04])
    assert (shared - shared.grad).tolist() == pytest.approx([-0.97, -0.04, 1.48, 1.96])


@pytest.mark.parametrize("start", ["linear", "density", "random"])
def test_no_round_of_kmeans_raises_the_error(start):
    values = np.random.default_rng(0).standard_normal(500)
    errors = []
    for rounds in range(12):
        centroids, index = kmeans(values, 7, start, rounds)
        assert (np.diff(centroids) >= 0).all()
        assert (np.abs(values[:, None] - centroids).argmin(1) == index).all()
        errors.append(np.square(values - centroids[index]).sum())
    assert all(a >= b for a, b in pairwise(errors)) and errors[-1] < errors[0]


def test_linear_start_reaches_the_ends_and_the_others_do_not():
    values = np.concatenate([np.random.default_rng(0).standard_normal(1000), [9.0]])
    assert kmeans(values, 4, rounds=0)[0].tolist() == np.linspace(values.min(), 9, 4).tolist()
    assert kmeans(values, 4, "density", rounds=0)[0].max() < 2
    first, second = (kmeans(values, 4, "random", 0, seed)[0] for seed in (0, 1))
    assert (first != second).any() and set(first) <= set(values)


def test_kmeans_refuses():
    with pytest.raises(ValueError, match='start must be "linear", "density" or "random", got'):
        kmeans(np.ones(3), 2, "forgy")
    with pytest.raises(ValueError, match="at least one value and one centroid, got 0 values, k = 2"):
        kmeans(np.ones(0), 2)


def test_a_shared_layer_learns_its_codebook_and_keeps_its_zeros():
    layer = pruned_layer(30, 40, 0.2)
    zeros = layer.weight.detach() == 0
    share(layer, 3)
    assert torch.equal(layer.weight == 0, zeros) and len(layer.weight.detach().unique()) <= 8
    learned = layer.parametrizations.weight.original
    assert learned.shape == (7,)
    layer(torch.rand(5, 40)).square().sum().backward()
    before = learned.detach().clone()
    with torch.no_grad():
        learned -= 0.01 * learned.grad
    assert torch.equal(layer.weight == 0, zeros) and (learned != before).any()
    # Equation 3: the gradient of a centroid is the sum of its weights' own.
    dense = copy.deepcopy(layer.weight.detach()).requires_grad_()
    torch.manual_seed(1)
    x = torch.rand(5, 40)
    nn.functional.linear(x, dense, layer.bias).square().sum().backward()
    learned.grad = None
    layer(x).square().sum().backward()
    index = layer.parametrizations.weight[0].index
    sums = torch.stack([dense.grad[index == k + 1].sum() for k in range(7)])
    assert torch.allclose(learned.grad, sums, rtol=1e-5, atol=1e-5)


@given(st.lists(st.integers(0, 400), min_size=1, max_size=40, unique=True), st.integers(1, 8))
def test_gaps_lose_nothing(places, bits):
    positions = np.array(sorted(places))
    gaps, is_weight = to_gaps(positions, bits)
    assert np.array_equal(from_gaps(gaps, is_weight), positions)
    assert gaps.max() < 2**bits and gaps.min() >= 0
    fillers = sum((gap - 1) // 2**bits for gap in np.diff(positions, prepend=-1))
    assert (~is_weight).sum() == fillers


def test_figure_2_of_the_paper():
    """Non-zeros at 1, 4 and 15: with 3 bits the gap of 10 zeros takes a filler."""
    gaps, is_weight = to_gaps(np.array([1, 4, 15]), 3)
    assert gaps.tolist() == [1, 2, 7, 2] and is_weight.tolist() == [True, True, False, True]


@pytest.mark.parametrize(("kept", "bits"), [(0.08, 5), (0.04, 5), (0.09, 4), (0.3, 3)])
def test_expected_fillers(kept, bits):
    positions = np.flatnonzero(np.random.default_rng(0).random(400_000) < kept)
    _, is_weight = to_gaps(positions, bits)
    found, expected = (~is_weight).sum() / len(positions), expected_fillers(kept, bits)
    assert abs(found - expected) < 4 * math.sqrt((1 + expected) * expected / len(positions))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=200))
def test_huffman_is_full_and_within_a_bit_of_the_entropy(symbols):
    code = huffman(symbols)
    bits = encode(symbols, code)
    assert decode(bits, code) == symbols and coded_bits(symbols) == len(bits)
    if len(code) == 1:
        assert len(bits) == len(symbols)
        return
    assert sum(Fraction(1, 2 ** len(word)) for word in code.values()) == 1
    share_of = [n / len(symbols) for n in Counter(symbols).values()]
    entropy = -sum(share * math.log2(share) for share in share_of)
    assert entropy <= len(bits) / len(symbols) + 1e-9 and len(bits) / len(symbols) < entropy + 1


def test_no_code_for_nothing():
    with pytest.raises(ValueError, match="empty sequence"):
        huffman([])


@pytest.mark.parametrize("shape", [(30, 40), (6, 5, 3, 3)])
def test_a_stored_layer_is_read_back(shape):
    rng = np.random.default_rng(0)
    weight = np.where(rng.random(shape) < 0.1, rng.standard_normal(shape), 0).astype(np.float32)
    stored = store(weight, 4, 3)
    back = stored.weight()
    assert back.shape == shape and np.array_equal(back != 0, weight != 0)
    assert len(np.unique(back[back != 0])) <= 15
    assert stored.weights == (weight != 0).sum() and stored.fillers > 0
    assert stored.entries == stored.weights + stored.fillers
    again = store(back, 4, 3)
    assert np.array_equal(again.weight(), back) and again.fixed_bits == stored.fixed_bits


def test_sizes_in_bits():
    """Ten weights of which 3 are kept with two fillers: 5 entries of 2 + 1 bits, and 4 shared numbers."""
    weight = np.zeros(10, np.float32)
    weight[[0, 4, 8]] = 1, 2, 1
    stored = store(weight, 2, 1)
    assert stored.gaps.tolist() == [0, 1, 1, 1, 1] and stored.fillers == 2
    assert (stored.float_bits, stored.fixed_bits, stored.codebook_bits) == (320, 15, 128)
    # Indices: 1, filler, 2, filler, 1 in 1 or 2 bits, 8 in all; gaps: two symbols of one bit.
    assert stored.huffman_bits == 8 + 5 and stored.table_bits == 8 * (4 + 2)
    assert stored.rate_pq == (15 + 128) / 320 and stored.rate_pqh == (13 + 128) / 320


def test_storing_nothing():
    with pytest.raises(ValueError, match=r"shape \(2, 3\) with no weight left"):
        store(np.zeros((2, 3), np.float32), 4, 5)


def test_lenet_300_100_at_the_papers_rates():
    """Table 2's kept shares, on weights as they begin: the rates depend little on what the weights are."""
    torch.manual_seed(0)
    stored: list[Stored] = []
    for layer, keep in zip(
        [m for m in nets.lenet_300_100() if isinstance(m, nn.Linear)], (0.08, 0.09, 0.26), strict=True
    ):
        prune(layer, keep)
        stored.append(store(layer.weight, 6, 5))
    assert sum(s.float_bits for s in stored) == 32 * 266_200
    assert [s.weights for s in stored] == [18_816, 2_700, 260]
    rates = [s.rate_pq for s in stored]
    # Where pruning is by chance, the fillers come out as the formula says.
    for layer, keep, rate in zip(stored[:2], (0.08, 0.09), rates, strict=False):
        without = (keep * 11 + 2**6 * 32 / (layer.float_bits / 32)) / 32
        assert rate == pytest.approx(without + keep * expected_fillers(keep, 5) * 11 / 32, rel=0.01)
        assert rate > without


@pytest.mark.parametrize("seed", range(3))
def test_the_same_as_week_1(seed):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(300)
    ours, theirs = kmeans(values, 9), week_1("kmeans")(values, 9)
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
    weight = np.where(rng.random((40, 50)) < 0.08, rng.standard_normal((40, 50)), 0).astype(np.float32)
    stored, (restored, sizes) = store(weight, 6, 5), week_1("store")(weight)
    assert np.array_equal(stored.weight(), restored)
    assert sizes == {
        "float": stored.float_bits,
        "codebook": stored.codebook_bits,
        "fixed": stored.fixed_bits,
        "huffman": stored.huffman_bits,
        "weights": stored.weights,
        "entries": stored.entries,
    }
    text = "abracadabra"
    assert huffman(text) == week_1("huffman")(text)
