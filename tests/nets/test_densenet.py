"""DenseNet against Tables 1 and 2 of arXiv 1608.06993, the authors' repository, and torchvision."""

import pytest
import torch
import torchvision

from studylib import costs, nets
from studylib.nets.densenet import DenseLayer, recomputing


@pytest.mark.parametrize(
    ("depth", "growth_rate", "bc", "classes", "params", "printed"),
    [
        (40, 12, False, 10, 1_019_722, "1.0"),
        (100, 12, False, 10, 6_979_642, "7.0"),
        (100, 12, True, 10, 769_162, "0.8"),
        (100, 12, True, 100, 800_032, "0.8"),
        (250, 24, True, 10, 15_324_406, "15.3"),
        (40, 36, True, 10, 1_542_682, "1.5"),
        (40, 60, True, 10, 4_261_690, "4.3"),
    ],
)
def test_cifar(depth, growth_rate, bc, classes, params, printed, on_meta):
    net = on_meta(nets.densenet_cifar, depth, growth_rate, bc, 0.5 if bc else 1.0, classes)
    counted = costs.count(net, (3, 32, 32))
    assert counted.params == params
    assert f"{params / 1e6:.1f}" == printed
    convolutions = [row for row in counted.rows if row.type in ("Conv2d", "Linear")]
    assert len(convolutions) == depth
    pools = [row.output_shape[1] for row in counted.rows if row.name.endswith("pool")]
    assert pools == [16, 8, 1]


def test_cifar_multiply_adds(on_meta):
    assert f"{costs.count(on_meta(nets.densenet_cifar), (3, 32, 32)).macs / 1e6:.1f}" == "287.9"


@pytest.mark.parametrize(
    ("name", "params", "billions"),
    [("densenet121", 7_978_856, "2.834"), ("densenet169", 14_149_480, "3.360"), ("densenet264", 33_337_704, "5.752")],
)
def test_imagenet(name, params, billions, on_meta):
    counted = costs.count(on_meta(getattr(nets, name)))
    assert counted.params == params
    assert f"{counted.macs / 1e9:.3f}" == billions


@pytest.mark.parametrize("name", ["densenet121", "densenet161", "densenet169", "densenet201"])
def test_torchvisions_weights_load(name, on_meta, assert_loads):
    assert_loads(on_meta(getattr(nets, name)), on_meta(getattr(torchvision.models, name)), 64)


@pytest.mark.parametrize("bottleneck", [True, False])
def test_a_layer_passes_its_input_on(bottleneck):
    torch.manual_seed(0)
    x = torch.rand(2, 5, 4, 4)
    out = DenseLayer(5, 3, bottleneck).eval()(x)
    assert out.shape == (2, 8, 4, 4) and torch.equal(out[:, :5], x)


@pytest.mark.parametrize("bottleneck", [True, False])
def test_recomputing_saves_memory_and_changes_no_gradient(bottleneck):
    """Saved for the backward pass: half of the bytes or little more, and the same gradients to the last bit."""
    torch.manual_seed(0)
    net = nets.densenet_cifar(40 if bottleneck else 22, 4, bottleneck, 1.0)
    x = torch.rand(2, 3, 16, 16)

    def step(net):
        saved = {}

        def keep(tensor):
            saved[tensor.untyped_storage().data_ptr()] = (tensor.untyped_storage().nbytes(), tensor)
            return tensor

        net.zero_grad()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = net(x).square().sum()
        size = sum(nbytes for nbytes, _ in saved.values())
        loss.backward()
        return size, [p.grad.clone() for p in net.parameters()]

    naive, plain = step(net)
    thrifty, again = step(recomputing(net))
    assert thrifty < naive * (0.5 if bottleneck else 0.6)
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


@pytest.mark.parametrize(
    ("bottleneck", "compression", "stem"), [(True, 0.5, 24), (True, 1.0, 16), (False, 0.5, 16), (False, 1.0, 16)]
)
def test_the_first_convolution(bottleneck, compression, stem, on_meta):
    net = on_meta(nets.densenet_cifar, 40, 12, bottleneck, compression)
    assert net.features.conv0.out_channels == stem


def test_compression_rounds_down(on_meta):
    """24 + 6 layers of 12 = 96 maps, of which theta = 0.3 keeps floor(28.8)."""
    net = on_meta(nets.densenet_cifar, 40, 12, True, 0.3)
    assert net.features.transition1.conv.out_channels == 28


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"depth": 41}, r"depth must be 4 \+ 6n with bottleneck=True.*got 41"),
        ({"depth": 42, "bottleneck": False}, r"depth must be 4 \+ 3n with bottleneck=False.*got 42"),
        ({"depth": 4}, "depth must be"),
        ({"depth": -2}, "depth must be"),
        ({"growth_rate": 0}, "growth_rate must be at least 1, got 0"),
        ({"compression": 0}, "compression must be above 0 and at most 1, got 0"),
        ({"compression": 1.5}, "compression must be above 0 and at most 1, got 1.5"),
        ({"compression": 0.001}, "compression 0.001 leaves none of"),
    ],
)
def test_bad_knobs(knobs, message):
    with pytest.raises(ValueError, match=message):
        nets.densenet_cifar(**knobs)
