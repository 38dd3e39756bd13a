"""What the tests of the nets share: nets without memory, and the comparison with torchvision's."""

import math

import pytest
import torch
from torch import nn


@pytest.fixture(autouse=True)
def one_thread():
    """The nets run on tiny images, where more threads only wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def on_meta():
    """build(constructor, ...): the net on torch's meta device, which allocates nothing."""

    def build(constructor, *args, **kwargs):
        with torch.device("meta"):
            return constructor(*args, **kwargs)

    return build


def filled(net):
    """The net on the CPU, with weights that keep the scale of what passes and statistics that are not the defaults."""
    torch.manual_seed(0)
    net = net.to_empty(device="cpu")
    for name, tensor in net.state_dict().items():
        if tensor.dim() > 1:
            tensor.normal_(std=math.sqrt(2 / tensor[0].numel()))
        elif name.endswith("num_batches_tracked"):
            tensor.zero_()
        elif name.endswith(("bias", "running_mean")):
            tensor.normal_(std=0.1)
        else:
            tensor.uniform_(0.5, 1.5)
    return net.eval()


@pytest.fixture
def assert_loads():
    """assert_loads(ours, theirs, size): the weights of torchvision's net load, and both compute the same."""

    def check(ours: nn.Module, theirs: nn.Module, size: int) -> None:
        theirs = filled(theirs)
        ours.load_state_dict(theirs.state_dict(), strict=True, assign=True)
        images = torch.rand(2, 3, size, size)
        with torch.no_grad():
            expected, computed = theirs(images), ours.eval()(images)
        # The inputs must tell in the outputs, else equality would mean nothing.
        assert (expected[0] - expected[1]).abs().max() > 1e-2
        assert (computed - expected).abs().max() <= 1e-5 * expected.abs().max()

    return check
