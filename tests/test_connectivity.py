"""The connectivity of stacks of layers: against real convolutions' gradients, and by what can be counted by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from studylib.connectivity import (
    barabasi_albert,
    grouped,
    mix_factor,
    permutations,
    reach,
    shuffled,
    small_world,
    unevenness,
)
from studylib.nets.xnets import ExpanderConv2d


def test_grouped_and_shuffled_are_what_torchs_layers_connect():
    torch.manual_seed(0)
    conv = nn.Conv2d(12, 12, 1, groups=3, bias=False)
    stack = nn.Sequential(conv, nn.ChannelShuffle(3), nn.Conv2d(12, 12, 1, groups=3, bias=False))
    for net, layers in ((conv, [grouped(12, 3)]), (stack, [grouped(12, 3), shuffled(12, 3), grouped(12, 3)])):
        jacobian = torch.autograd.functional.jacobian(
            lambda x, net=net: net(x[None, :, None, None]).flatten(), torch.rand(12)
        )
        assert np.array_equal(jacobian.numpy() != 0, reach(layers)[-1])


def test_shuffled_is_the_papers_order():
    assert shuffled(12, 3).argmax(1).tolist() == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]


@pytest.mark.parametrize(("groups", "layers"), [(8, 2), (16, 3), (32, 6)])
def test_layers_until_every_output_depends_on_every_input(groups, layers):
    """64 channels: after k layers with shuffles between them min(groups, width ** (k - 1)) groups are reached."""
    stack = [grouped(64, groups)]
    while len(stack) < 2 * layers - 1:
        assert not reach(stack)[-1].all()
        stack += [shuffled(64, groups), grouped(64, groups)]
    assert reach(stack)[-1].all()


def test_without_a_shuffle_depth_connects_nothing():
    reached = reach([grouped(64, 8)] * 5)
    assert len(reached) == 5
    assert all(np.array_equal(each, grouped(64, 8)) for each in reached)


def test_layers_need_not_be_square():
    first, second = np.array([[True, False], [False, True], [True, True]]), np.array([[False, True, False]])
    assert [each.tolist() for each in reach([first, second])] == [first.tolist(), [[False, True]]]


@pytest.mark.parametrize("build", [grouped, shuffled])
@pytest.mark.parametrize("groups", [0, 5])
def test_groups_must_divide_the_channels(build, groups):
    with pytest.raises(ValueError, match=f"12 channels cannot be shared by {groups} groups"):
        build(12, groups)


def drawn(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("channels", "degree"), [(1, 1), (2, 1), (4, 2), (5, 2), (7, 4), (9, 9), (64, 4), (64, 32), (64, 60)]
)
def test_permutations_are_regular_on_both_sides(channels, degree):
    layer = permutations(channels, degree, drawn())
    assert layer.dtype == bool and (layer.sum(0) == degree).all() and (layer.sum(1) == degree).all()
    assert degree == channels or not np.array_equal(layer, permutations(channels, degree, drawn(1))) or channels < 3


@pytest.mark.parametrize(("degree", "layers"), [(2, (12, 13)), (4, (6,)), (8, (4,)), (16, (3,))])
def test_expanders_join_all_in_logarithmically_many_layers(degree, layers):
    """256 channels, five seeds; log 256 / log degree layers are the fewest possible: 8, 4, 3, 2."""
    for seed in range(5):
        rng = drawn(seed)
        reached = reach([permutations(256, degree, rng) for _ in range(14)])
        assert [each.all() for each in reached].index(True) + 1 in layers


def test_paths_of_expanders_even_out_and_those_of_groups_do_not():
    found = unevenness([permutations(256, 8, rng) for rng in map(drawn, range(10))])
    assert found[0] == 256 / 8 - 1
    assert all(found[k + 2] < found[k] / 3 for k in range(8)) and found[-1] < 0.01
    assert unevenness([grouped(256, 32)] * 10) == [256 / 8 - 1] * 10
    assert unevenness([np.ones((3, 4), bool)]) == [0]


def test_unevenness_by_hand():
    """Shares of two inputs: (1/2, 1/2) and (1, 0) after the first layer, (1/2, 1/2) and (3/4, 1/4) after the second."""
    first, second = np.array([[True, True], [True, False]]), np.array([[True, False], [True, True]])
    assert unevenness([first, second]) == [1, 0.5]


def test_a_layer_drawn_from_one_side_leaves_outputs_out_for_good():
    torch.manual_seed(0)
    masks = [ExpanderConv2d(256, 256, 1, 4).mask().numpy() for _ in range(12)]
    left_out = ~masks[-1].any(1)
    assert left_out.any() and np.array_equal(~reach(masks)[-1].any(1), left_out)
    assert reach(masks)[-1][~left_out].mean() > 0.9 and unevenness(masks)[-1] >= 1


@pytest.mark.parametrize("neighbours", [1, 2, 5])
def test_a_ring_joins_its_neighbours_neighbours(neighbours):
    ring = small_world(64, neighbours, 0, drawn())
    assert mix_factor([ring] * 4) == [(2 * neighbours * k + 1) / 64 for k in (1, 2, 3, 4)]


def test_mix_factor_is_that_of_the_script():
    """One input at a time set to one, and the others that it reaches counted after each step."""
    layouts = [small_world(20, 2, 0.5, drawn(seed)) for seed in range(3)]
    expected, reached = [], np.eye(20)
    for layout in layouts:
        reached = np.array([(one @ layout.astype(float) > 0).astype(float) for one in reached])
        expected.append(reached.sum() / 400)
    assert mix_factor(layouts) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("rewired", [0, 0.2, 1])
@pytest.mark.parametrize(("blocks", "neighbours"), [(80, 5), (160, 11)])
def test_blocks_of_a_small_world(blocks, neighbours, rewired):
    layout = small_world(blocks, neighbours, rewired, drawn())
    assert layout.sum() == blocks * (2 * neighbours + 1)
    assert np.array_equal(layout, layout.T) and layout.diagonal().all()


@pytest.mark.parametrize(
    ("blocks", "links", "meant", "today"), [(80, 5, 850, 842), (160, 11, 3548, 3528), (9, 1, 25, 25)]
)
def test_blocks_of_barabasi_and_albert(blocks, links, meant, today):
    for as_meant, count in ((True, meant), (False, today)):
        layout = barabasi_albert(blocks, links, drawn(), as_meant)
        assert layout.sum() == count
        assert np.array_equal(layout, layout.T) and layout.diagonal().all() and layout[:links, :links].all()
        earlier = np.tril(layout, -1).sum(1)[links:].tolist()
        assert earlier == [links if as_meant else 1] + [links] * (blocks - links - 1)


def test_a_few_random_joints_mix_faster_than_a_ring():
    """64 blocks, 5 each: the share of joined pairs after four layers."""
    ring, world = small_world(64, 2, 0, drawn()), small_world(64, 2, 0.2, drawn())
    hubs, expander = barabasi_albert(64, 2, drawn()), permutations(64, 5, drawn())
    mixed = [mix_factor([layer] * 4)[-1] for layer in (grouped(64, 16), ring, world, hubs, expander)]
    assert mixed == sorted(mixed) and mixed[0] == 4 / 64 and mixed[1] == 17 / 64 and mixed[-1] > 0.99


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: permutations(8, 0, drawn()), "a degree of 1 to 8, got 0"),
        (lambda: permutations(8, 9, drawn()), "a degree of 1 to 8, got 9"),
        (lambda: small_world(8, 4, 0, drawn()), "a ring of 8 blocks has 1 to 3 neighbours on a side, got 4"),
        (lambda: barabasi_albert(8, 8, drawn()), "each of 8 blocks can be joined with 1 to 7 earlier ones, got 8"),
    ],
)
def test_layouts_that_do_not_exist(build, message):
    with pytest.raises(ValueError, match=message):
        build()
