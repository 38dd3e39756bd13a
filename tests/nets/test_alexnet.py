"""AlexNet against NIPS 2012 and the counts recomputed from it."""

import pytest
import torch

from studylib import costs, nets


def convolutions(counted):
    return [row for row in counted.rows if row.type == "Conv2d"]


def test_two_towers(on_meta):
    counted = costs.count(on_meta(nets.alexnet))
    assert [row.weights for row in convolutions(counted)] == [34_848, 307_200, 884_736, 663_552, 442_368]
    assert sum(row.weights for row in convolutions(counted)) == 2_332_704
    assert sum(row.weights for row in counted.rows if row.type == "Linear") == 58_621_952
    assert counted.weights == 60_954_656
    assert counted.params == counted.params_no_bn == 60_965_224
    assert f"{counted.macs / 1e6:.1f}" == "724.4"


def test_ungrouped(on_meta):
    counted = costs.count(on_meta(nets.alexnet, groups=1))
    assert sum(row.weights for row in convolutions(counted)) == 3_745_824
    assert counted.params == 62_378_344
    assert f"{counted.macs / 1e6:.1f}" == "1135.3"


def test_maps_of_the_paper_from_224_pixels(on_meta):
    rows = costs.count(on_meta(nets.alexnet)).rows
    shapes = [row.output_shape for row in rows if row.type in ("Conv2d", "MaxPool2d")]
    assert shapes == [
        *[(96, 55, 55), (96, 27, 27), (256, 27, 27), (256, 13, 13)],
        *[(384, 13, 13), (384, 13, 13), (256, 13, 13), (256, 6, 6)],
    ]


def test_a_tower_sees_its_own_maps_except_in_conv3(on_meta):
    """conv2, conv4 and conv5 take the maps of one GPU, conv3 those of both."""
    layers = [layer for layer in on_meta(nets.alexnet).features if isinstance(layer, torch.nn.Conv2d)]
    assert [layer.groups for layer in layers] == [1, 2, 1, 2, 2]


def test_response_norm_is_the_papers():
    """b_i = a_i / (k + alpha * sum of a_j^2 over the n = 5 maps around i)^beta: a sum, where torch takes the mean."""
    norm = nets.alexnet(groups=32, num_classes=1).features[2]
    torch.manual_seed(0)
    a = 100 * torch.rand(1, 9, 2, 2, dtype=torch.float64)
    expected = torch.empty_like(a)
    for i in range(9):
        around = a[:, max(0, i - 2) : min(9, i + 3)]
        expected[:, i] = a[:, i] / (2 + 1e-4 * (around**2).sum(1)) ** 0.75
    torch.testing.assert_close(norm(a), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("groups", [0, -2, 3, 64])
def test_groups_must_divide(groups):
    with pytest.raises(ValueError, match=f"groups must divide 96, 256 and 384 channels.*got {groups}"):
        nets.alexnet(groups=groups)
