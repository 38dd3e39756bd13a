"""What holds for every constructor of `studylib.nets`."""

import pytest
import torch

from studylib import costs, nets

INPUT = {
    "xception": (3, 299, 299),
    "densenet_cifar": (3, 32, 32),
    "fractalnet": (3, 32, 32),
    "igc_cifar": (3, 32, 32),
    "regular_cifar": (3, 32, 32),
    "resnext29_cifar": (3, 32, 32),
    "mobilenet_v2_ssdlite": (3, 320, 320),
    "capsnet": (1, 28, 28),
    "lenet5": (1, 28, 28),
    "lenet_300_100": (1, 28, 28),
    "xnor_lenet": (1, 28, 28),
    "x_densenet": (3, 32, 32),
    **{f"shift_resnet{depth}": (3, 32, 32) for depth in (20, 56, 110)},
    **{f"resnet{depth}_cifar": (3, 32, 32) for depth in (20, 56, 110)},
}
# They end otherwise: in a capsule for each class, in a class for each pixel, in the boxes of six anchors.
OTHER_ENDS = {
    "capsnet": (7, 16),
    "deeplabv3": (7, 14, 14),
    "mobilenet_v2_deeplab": (7, 14, 14),
    "mobilenet_v2_ssdlite": (24, 1, 1),
    "pspnet": (7, 28, 28),
}


@pytest.mark.parametrize("name", sorted(OTHER_ENDS))
def test_nets_that_end_otherwise(name, on_meta):
    net = on_meta(getattr(nets, name), num_classes=7)
    assert all(tensor.is_meta for tensor in net.state_dict().values())
    counted = costs.count(net, INPUT.get(name, (3, 224, 224)))
    assert counted.unknown == ()
    assert [row.output_shape for row in counted.rows if row.output_shape][-1] == OTHER_ENDS[name]


@pytest.mark.parametrize("name", sorted(set(nets.__all__) - set(OTHER_ENDS)))
def test_builds_without_memory_and_counts_to_its_classes(name, on_meta):
    net = on_meta(getattr(nets, name), num_classes=7)
    assert all(tensor.is_meta for tensor in net.state_dict().values())
    counted = costs.count(net, INPUT.get(name, (3, 224, 224)))
    assert counted.unknown == ()
    assert counted.rows[-1].output_shape == (7,)
    assert counted.rows[-1].type == "Linear"
    assert all(row.output_shape for row in counted.rows), "a layer is held and never called"


@pytest.mark.parametrize("name", ["lenet_300_100", "lenet5"])
def test_the_digit_nets_learn_from_a_batch(name):
    """The larger nets are run in their own tests; these two are trained in a notebook."""
    torch.manual_seed(0)
    net = getattr(nets, name)()
    images, labels = torch.rand(10, 1, 28, 28), torch.arange(10)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    losses = []
    for _ in range(20):
        loss = torch.nn.functional.cross_entropy(net(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
