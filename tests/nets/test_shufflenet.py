"""ShuffleNet against Table 1 of arXiv 1707.01083 and the authors' own counts; what the shuffle does."""

import pytest
import torch
from torch import nn

from studylib import costs, nets
from studylib.nets.shufflenet import ShuffleUnit


@pytest.mark.parametrize(
    ("groups", "macs", "macs_no_fc"),
    [(1, "143.079", "142.503"), (2, "140.837", "140.037"), (3, "137.461", "136.501")],
)
def test_table_1(groups, macs, macs_no_fc, on_meta):
    counted = costs.count(on_meta(nets.shufflenet, groups))
    assert f"{counted.macs / 1e6:.3f}" == macs and f"{counted.macs_no_fc / 1e6:.3f}" == macs_no_fc


@pytest.mark.parametrize(
    ("width", "params", "millions"), [(0.5, 717_324, "37.59"), (1.0, 1_864_728, "137.46"), (1.5, 3_441_168, "292.44")]
)
def test_the_authors_counts(width, params, millions, on_meta):
    counted = costs.count(on_meta(nets.shufflenet, 3, width))
    assert counted.params == params and f"{counted.macs / 1e6:.2f}" == millions


@pytest.mark.parametrize(
    ("groups", "width", "last"), [(3, 0.5, 480), (3, 2.0, 1920), (1, 0.5, 288), (4, 0.5, 544), (8, 1, 1536)]
)
def test_channels_of_stage_4(groups, width, last, on_meta):
    assert on_meta(nets.shufflenet, groups, width).fc.in_features == last


@pytest.mark.parametrize(("c", "g"), [(24, 3), (48, 4)])
def test_cost_of_a_unit(c, g, on_meta):
    """Section 3.2: h w (2 c m / g + 9 m) multiply-adds, with m = c / 4."""
    unit = on_meta(ShuffleUnit, c, c, 1, g, g)
    m = c // 4
    assert costs.count(unit, (c, 5, 6)).macs == 5 * 6 * (2 * c * m // g + 9 * m)


def test_the_shuffle_of_the_paper():
    """Channels as (groups, n), transposed: 0, 4, 8, 1, 5, 9, ...; the authors' PyTorch code has the inverse."""
    x = torch.arange(12.0).view(1, 12, 1, 1)
    paper = nn.ChannelShuffle(3)(x).flatten().int().tolist()
    assert paper == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]
    authors = x.view(1, 4, 3).transpose(1, 2).flatten().int().tolist()
    assert authors == [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11] and paper != authors
    assert torch.equal(nn.ChannelShuffle(4)(nn.ChannelShuffle(3)(x)), x)


@pytest.mark.parametrize(("groups", "layers"), [(8, 2), (16, 3), (32, 6)])
def test_layers_until_each_output_sees_each_input(groups, layers):
    """64 channels: grouped 1x1 and shuffle in turn; without the shuffle a group never sees another."""
    group = torch.arange(64) // (64 // groups)
    grouped = (group[:, None] == group).float()
    shuffle = nn.ChannelShuffle(groups)(torch.eye(64).view(64, 64, 1, 1)).view(64, 64).T
    seen, found = torch.eye(64), 0
    while (seen == 0).any():
        seen, found = shuffle @ grouped @ seen, found + 1
    assert found == layers
    assert torch.equal(grouped @ grouped @ grouped > 0, grouped > 0)


@pytest.mark.parametrize(("stride", "out"), [(1, 24), (2, 60)])
def test_a_unit_passes_its_input_on(stride, out):
    torch.manual_seed(0)
    unit = ShuffleUnit(24, out, stride, 3, 3).eval()
    x = torch.rand(2, 24, 8, 8)
    with torch.no_grad():
        y, branch = unit(x), unit.branch(x)
    assert y.shape == (2, out, 8 // stride, 8 // stride)
    if stride == 1:
        assert torch.allclose(y, torch.relu(x + branch))
    else:
        assert torch.allclose(y[:, :24], nn.functional.avg_pool2d(x, 3, 2, 1)) and branch.shape[1] == 36


def test_a_unit_mixes_its_groups():
    """Input channel 0 is in the first of three groups, and reaches outputs of the second; never without a shuffle."""
    torch.manual_seed(0)
    unit = ShuffleUnit(24, 24, 1, 3, 3).eval()
    unit.branch[2] = nn.Identity()  # no ReLU that could close the way
    x = torch.rand(1, 24, 4, 4)
    other = x.clone()
    other[:, 0] += 5
    with torch.no_grad():
        changed = (unit.branch(other) - unit.branch(x)).abs().amax((0, 2, 3)) > 1e-4
        assert changed[:8].any() and changed[8:16].any()
        unit.branch[3] = nn.Identity()
        changed = (unit.branch(other) - unit.branch(x)).abs().amax((0, 2, 3)) > 1e-4
    assert changed[:8].any() and not changed[8:].any()


def test_only_the_first_1x1_of_stage_2_is_not_grouped(on_meta):
    net = on_meta(nets.shufflenet, 3)
    firsts = [part.branch[0].groups for part in net.modules() if isinstance(part, ShuffleUnit)]
    assert firsts == [1] + [3] * 15


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"groups": 5}, "groups must be one of 1, 2, 3, 4, 8, got 5"),
        ({"width": 0}, "width 0 gives 0 and 0 channels"),
        ({"groups": 8, "width": 0.5}, "width 0.5 gives 12 and 192 channels, which 8 groups cannot share"),
    ],
)
def test_bad_knobs(knobs, message):
    with pytest.raises(ValueError, match=message):
        nets.shufflenet(**knobs)
