"""`receptive_field`: against the literature, against gradients, and with what it cannot do."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from studylib import nets
from studylib.costs import receptive_field
from studylib.nets.mobilenet import ROWS

META = torch.device("meta")


def build(constructor, *args, **kwargs):
    with META:
        return constructor(*args, **kwargs)


def by_gradient(net, pixels):
    """First input row, last input row and jump of an output position in the middle, from the gradient: the input
    positions on which it really depends. `net` has no biases and positive weights, so that no two paths cancel."""
    for parameter in net.parameters():
        nn.init.ones_(parameter)
    rows = []
    for shift in (0, 1):
        x = torch.ones(1, 1, pixels, 1, dtype=torch.float64, requires_grad=True)
        out = net.double()(x)
        middle = out.shape[2] // 2 + shift
        out[0, :, middle].sum().backward()
        seen = x.grad[0, 0, :, 0].nonzero().flatten()
        rows.append((int(seen[0]), int(seen[-1]), middle))
    (first, last, middle), (next_first, _, _) = rows
    return first, last, next_first - first, middle


@st.composite
def windows(draw):
    """A convolution or average pooling along one axis that keeps enough of 300 pixels."""
    kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 2))
    padding = draw(st.integers(0, kernel // 2))
    if draw(st.booleans()):
        return nn.AvgPool2d((kernel, 1), (stride, 1), (padding, 0))
    dilation = draw(st.integers(1, 3))
    return nn.Conv2d(1, 1, (kernel, 1), (stride, 1), (padding, 0), (dilation, 1), bias=False)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(windows(), min_size=1, max_size=5))
def test_chain_agrees_with_the_gradient(layers):
    net = nn.Sequential(*layers)
    field = receptive_field(net)
    first, last, jump, middle = by_gradient(net, 300)
    assert field.size[0] == last - first + 1
    assert field.stride[0] == jump
    assert field.start[0] == first - middle * jump
    assert (field.size[1], field.stride[1], field.start[1]) == (1, 1, 0)


class Calls(nn.Module):
    """A container whose forward is `function(self, x)`."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.function(self, x)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 3), st.booleans())
def test_branches_agree_with_the_gradient(left, right, dilation, concatenate):
    """Two strided branches with kernels of any size, whose centres differ where one is even, added or concatenated."""

    def conv(kernel, stride, padding=0, dilation=1, channels=1):
        return nn.Conv2d(channels, 1, (kernel, 1), (stride, 1), (padding, 0), (dilation, 1), bias=False)

    def join(self, x):
        a, b = self.a(x), self.b(x)
        return self.after(torch.cat([a, b], 1) if concatenate else a + b)

    branches = Calls(
        join,
        a=conv(left, 2, (left - 1) // 2),
        b=nn.Sequential(conv(right, 2, (right - 1) * dilation // 2, dilation), nn.ReLU()),
        after=conv(2, 1, channels=2 if concatenate else 1),
    )
    net = nn.Sequential(conv(3, 2, 1), branches)
    field = receptive_field(net)
    first, last, jump, middle = by_gradient(net, 300)
    assert field.size[0] == last - first + 1
    assert field.stride[0] == jump
    assert field.start[0] == first - middle * jump


def by_hand(layers):
    """Size and jump along a chain of (kernel, stride), by the usual recurrence."""
    size = jump = 1
    for kernel, stride in layers:
        size += (kernel - 1) * jump
        jump *= stride
    return size, jump


def bottlenecks(stride_first):
    """The 3x3 and strided 1x1 convolutions of ResNet-50's four stages."""
    stages = [(3, 1), (4, 2), (6, 2), (3, 2)]
    for blocks, stride in stages:
        for block in range(blocks):
            step = stride if block == 0 else 1
            yield from [(1, step), (3, 1)] if stride_first else [(3, step)]


def test_the_published_nets():
    vgg = [*[(3, 1)] * 2, (2, 2), *[(3, 1)] * 2, (2, 2), *([*[(3, 1)] * 3, (2, 2)] * 3)]
    features = build(nets.vgg16).features
    assert by_hand(vgg) == (212, 32) == (receptive_field(features).size[0], receptive_field(features).stride[0])
    before_pool = receptive_field(features[:-1])
    assert by_hand(vgg[:-1]) == (196, 16) == (before_pool.size[0], before_pool.stride[0])

    alexnet = [(11, 4), (3, 2), (5, 1), (3, 2), (3, 1), (3, 1), (3, 1), (3, 2)]
    field = receptive_field(build(nets.alexnet).features)
    assert by_hand(alexnet) == (195, 32) == (field.size[0], field.stride[0])

    mobilenet = [(3, 2), *((3, stride) for _, _, stride in ROWS)]
    field = receptive_field(build(nets.mobilenet_v1))
    assert by_hand(mobilenet) == (315, 32) == (field.size[0], field.stride[0])


@pytest.mark.parametrize(("stride_in", "size"), [("3x3", 427), ("1x1", 483)])
def test_resnet50(stride_in, size):
    """A stride taken before the 3x3 doubles what the 3x3 adds: 483 pixels against 427."""
    field = receptive_field(build(nets.resnet50, stride_in))
    stem = [(7, 2), (3, 2)]
    assert by_hand([*stem, *bottlenecks(stride_in == "1x1")]) == (size, 32)
    assert field.size == (size, size) and field.stride == (32, 32)
    assert field.whole_input_from == "avgpool"


def test_densenet_sees_along_its_deepest_path():
    field = receptive_field(build(nets.densenet121))
    chain = [(7, 2), (3, 2)]
    for number, depth in enumerate((6, 12, 24, 16)):
        chain += [*[(3, 1)] * depth, *([(2, 2)] if number < 3 else [])]
    assert field.size[0] == by_hand(chain)[0]


@pytest.mark.parametrize(("rate", "size"), [(6, 13), (12, 25), (18, 37)])
def test_deeplabs_rates(rate, size):
    """DeepLabV3's atrous 3x3 convolutions (arXiv 1706.05587), padded to keep the map's size."""
    field = receptive_field(nn.Conv2d(1, 1, 3, padding=rate, dilation=rate))
    assert (field.size, field.stride, field.start) == ((size, size), (1, 1), (-rate, -rate))


def test_deeplabs_pyramid_sees_what_its_largest_branch_sees():
    """Atrous pyramid with image pooling: 37 pixels through the windows, and by the pooling everything."""

    def forward(self, x):
        return torch.cat([self.a(x), self.b(x), functional.relu(self.image(x)) * self.a(x)], 1)

    parts = {"a": nn.Conv2d(4, 4, 3, padding=6, dilation=6), "b": nn.Conv2d(4, 4, 3, padding=18, dilation=18)}
    image = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1))
    field = receptive_field(Calls(forward, image=image, **parts))
    assert field.size == (37, 37) and field.whole_input_from == "image.0"


def test_a_global_branch_has_no_stride_of_its_own():
    """Squeeze-and-excitation after a strided convolution: one factor a channel, at every position of the other map."""
    squeeze = nn.Sequential(nn.Conv2d(4, 4, 9, stride=4), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1), nn.Sigmoid())
    net = Calls(lambda self, x: self.conv(x) * self.squeeze(x), conv=nn.Conv2d(4, 4, 3, padding=1), squeeze=squeeze)
    field = receptive_field(net)
    assert (field.size, field.stride, field.whole_input_from) == ((3, 3), (1, 1), "squeeze.1")


def test_axes_may_differ():
    field = receptive_field(nn.Sequential(nn.Conv2d(1, 1, (1, 7), padding=(0, 3)), nn.MaxPool2d((3, 1), (2, 1))))
    assert (field.size, field.stride, field.start) == ((3, 7), (2, 1), (0, -3))
    volume = receptive_field(nn.Conv3d(1, 1, (1, 3, 5)))
    assert volume.size == (1, 3, 5)
    assert receptive_field(nn.Sequential(nn.Conv1d(1, 1, 4), nn.AvgPool1d(3))).size == (6,)


@pytest.mark.parametrize(("kernel", "start"), [(3, -2), (4, -3)])
def test_padding_by_name(kernel, start):
    """ "same" pads less before than after where the kernel is even: torch's own rule, seen through its gradient."""
    same = nn.Conv2d(1, 1, (kernel, 1), padding="same", dilation=(2, 1), bias=False)
    field = receptive_field(same)
    first, last, _, middle = by_gradient(same, 60)
    assert (field.start[0], field.size[0]) == (first - middle, last - first + 1) == (start, 2 * kernel - 1)
    assert receptive_field(nn.Conv2d(1, 1, kernel, padding="valid")).start == (0, 0)


@pytest.mark.parametrize(
    ("constructor", "size", "layer"),
    [(nets.lenet_300_100, 1, "0"), (nets.lenet5, 16, "4"), (nets.vgg16, 212, "flatten"), (nets.googlenet, 715, "pool")],
)
def test_layers_that_see_everything_are_named(constructor, size, layer):
    field = receptive_field(build(constructor))
    assert field.size == (size, size) and field.whole_input_from == layer


def test_the_net_is_left_as_it_was():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    before = str(net.state_dict())
    receptive_field(net)
    assert net.training and str(net.state_dict()) == before and set(dict(net.named_modules())) == {"", "0", "1"}


# --- what it cannot do ---


def test_not_a_module():
    with pytest.raises(TypeError, match=r"takes a torch\.nn\.Module, got"):
        receptive_field(nets.resnet50)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (nn.Sequential(nn.ReLU(), nn.Upsample(scale_factor=2)), r"no rule for 1 \(Upsample\)"),
        (nn.Sequential(nn.ConvTranspose2d(1, 1, 2, 2)), r"no rule for 0 \(ConvTranspose2d\)"),
        (nn.Sequential(nn.MultiheadAttention(4, 2)), r"no rule for 0 \(MultiheadAttention\)"),
        (Calls(lambda self, x: torch.roll(x, 1), layer=nn.Identity()), r"no rule for roll"),
        (Calls(lambda self, x: self.layer(x)[:, :, 3:], layer=nn.Identity()), r"no rule for getitem"),
    ],
)
def test_a_layer_without_a_rule_is_named(net, message):
    with pytest.raises(ValueError, match=message):
        receptive_field(net)


def test_control_flow_on_data():
    with pytest.raises(ValueError, match="Calls depends on the values or sizes of its data"):
        receptive_field(Calls(lambda self, x: self.layer(x) if x.sum() > 0 else x, layer=nn.ReLU()))


def test_branches_of_different_strides():
    net = Calls(lambda self, x: self.a(x) + self.b(x), a=nn.MaxPool2d(2), b=nn.Conv2d(1, 1, 1))
    with pytest.raises(ValueError, match=r"different strides \(2, 2\) and \(1, 1\) meet in add"):
        receptive_field(net)


def test_layers_of_different_dimensions():
    with pytest.raises(ValueError, match=r"mixes layers of \[1, 2\] dimensions"):
        receptive_field(nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv1d(1, 1, 3)))


def test_an_output_that_ignores_the_input():
    with pytest.raises(ValueError, match="no output that depends on its input"):
        receptive_field(Calls(lambda self, x: self.size, layer=nn.Identity(), size=3))
