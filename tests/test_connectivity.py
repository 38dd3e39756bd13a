"""The connectivity of stacks of layers: against real convolutions' gradients, and by what can be counted by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from studylib.connectivity import grouped, reach, shuffled


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
