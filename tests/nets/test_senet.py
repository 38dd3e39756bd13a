"""SENet against the tables of arXiv 1709.01507v4, and what a squeeze and an excitation do."""

import pytest
import torch
from torch import nn

from studylib import costs, nets
from studylib.nets.senet import SqueezeExcitation, excite


@pytest.mark.parametrize(
    ("reduction", "params", "printed"), [(2, 45_676_584, "45.7"), (16, 28_071_976, "28.1"), (32, 26_814_504, "26.8")]
)
def test_table_10(reduction, params, printed, on_meta):
    counted = costs.count(on_meta(nets.se_resnet50, reduction))
    assert counted.params == params and f"{params / 1e6:.1f}" == printed
    # Section 4: 2/r times the sum over stages of N_s C_s^2, without biases.
    added = 2 * (3 * 256**2 + 4 * 512**2 + 6 * 1024**2 + 3 * 2048**2) // reduction
    assert params == costs.count(on_meta(nets.resnet50)).params + added


@pytest.mark.parametrize(
    ("name", "billions"),
    [("se_resnet50", "3.860"), ("se_resnet101", "7.575"), ("se_resnet152", "11.289"), ("se_resnext50_32x4d", "4.233")],
)
def test_multiply_adds(name, billions, on_meta):
    assert f"{costs.count(on_meta(getattr(nets, name))).macs / 1e9:.3f}" == billions


def test_one_stage_left_out(on_meta):
    """Section 4: 2.51 million more, and 0.94 without the last stage."""
    plain = costs.count(on_meta(nets.resnet50)).params
    assert costs.count(on_meta(nets.se_resnet50)).params - plain == 2_514_944
    without = excite(on_meta(nets.resnet50), 16, (2, 3, 4))
    assert costs.count(without.to("meta")).params - plain == 942_080


def test_fully_connected_sizes_of_table_1(on_meta):
    net = on_meta(nets.se_resnet50)
    parts = [part for part in net.modules() if isinstance(part, SqueezeExcitation)]
    sizes = [(part.reduce.out_features, part.expand.out_features) for part in parts]
    assert sizes == [(16, 256)] * 3 + [(32, 512)] * 4 + [(64, 1024)] * 6 + [(128, 2048)] * 3


def test_gates():
    torch.manual_seed(0)
    part = SqueezeExcitation(32, 4)
    x = torch.randn(3, 32, 5, 7)
    gates = part.gates(x)
    assert gates.shape == (3, 32) and (gates > 0).all() and (gates < 1).all()
    assert torch.allclose(part(x), x * gates[..., None, None])
    order = torch.randperm(35)
    permuted = x.flatten(2)[:, :, order].view_as(x)
    assert torch.allclose(part.gates(permuted), gates, atol=1e-6)
    nn.init.zeros_(part.expand.weight)
    assert torch.allclose(part(x), x / 2)


def test_formula_and_gradient():
    torch.manual_seed(0)
    part = SqueezeExcitation(6, 2).double()
    x = torch.randn(2, 6, 3, 3, dtype=torch.float64, requires_grad=True)
    z = x.mean((2, 3))
    s = torch.sigmoid(torch.relu(z @ part.reduce.weight.T) @ part.expand.weight.T)
    assert torch.allclose(part(x), x * s[..., None, None])
    assert torch.autograd.gradcheck(part, (x,))


def test_it_stands_before_the_sum():
    """With gates of one half a block adds half of what it did; its identity is as it was."""
    torch.manual_seed(0)
    plain, net = nets.resnet50().eval(), nets.resnet50().eval()
    net.load_state_dict(plain.state_dict())
    for part in excite(net, 16).modules():
        if isinstance(part, SqueezeExcitation):
            nn.init.zeros_(part.expand.weight)
    block, excited = plain.layer1[1], net.layer1[1].eval()
    x = torch.rand(1, 256, 4, 4) * 5
    with torch.no_grad():
        branch = block.bn3(block.conv3(block.relu(block.bn2(block.conv2(block.relu(block.bn1(block.conv1(x))))))))
        assert torch.allclose(excited(x), torch.relu(x + branch / 2), atol=1e-5)


@pytest.mark.parametrize("reduction", [0, 33])
def test_refuses(reduction):
    with pytest.raises(ValueError, match=f"reduction must be from 1 to the 32 channels, got {reduction}"):
        SqueezeExcitation(32, reduction)
