"""`studylib.costs.count`: by hand, against torch's own counter, against torchvision's metadata, and with bad input."""

import math
import threading

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from studylib import costs, nets
from studylib.costs.operations import COUNTED, FREE


class Calls(nn.Module):
    """A container whose forward is `function(self, x)`."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.function(self, x)


def only_row(module, input_shape):
    (row,) = costs.count(module, input_shape).rows
    return row


# --- by hand ---


@pytest.mark.parametrize(
    ("layer", "input_shape", "params", "weights", "macs", "output_shape"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), (3, 6, 5), 224, 216, 216 * 30, (8, 6, 5)),
        (nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8, bias=False), (8, 6, 6), 72, 72, 72 * 9, (8, 3, 3)),
        (nn.Conv2d(4, 8, 3, dilation=2, groups=2), (4, 9, 9), 152, 144, 144 * 25, (8, 5, 5)),
        (nn.Conv1d(4, 6, 5), (4, 20), 126, 120, 120 * 16, (6, 16)),
        (nn.Conv3d(2, 3, 2), (2, 4, 4, 4), 51, 48, 48 * 27, (3, 3, 3, 3)),
        (nn.ConvTranspose2d(4, 3, 2, stride=2), (4, 5, 5), 51, 48, 48 * 25, (3, 10, 10)),
        (nn.Linear(20, 7), (20,), 147, 140, 140, (7,)),
        (nn.Linear(20, 7), (9, 20), 147, 140, 140 * 9, (9, 7)),
        (nn.BatchNorm2d(5), (5, 4, 4), 10, 0, 0, (5, 4, 4)),
        (nn.MaxPool2d(2), (5, 4, 4), 0, 0, 0, (5, 2, 2)),
    ],
)
def test_one_layer(layer, input_shape, params, weights, macs, output_shape):
    row = only_row(layer, input_shape)
    assert (row.params, row.weights, row.macs, row.output_shape) == (params, weights, macs, output_shape)
    assert row.type == type(layer).__name__


def test_totals_and_conventions():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 10)
    )
    counted = costs.count(net, (3, 8, 8))
    assert counted.params == 108 + 8 + 1450
    assert counted.params_no_bn == 108 + 1450
    assert counted.weights == 108 + 1440
    assert counted.buffers == 8
    assert counted.macs == 108 * 36 + 1440
    assert counted.macs_no_fc == 108 * 36
    assert counted.activation_bytes == 4 * (4 * 144 + 10)
    assert [row.name for row in counted.rows] == ["0", "1", "2", "3", "4"]
    assert counted.unknown == ()


def test_products_in_a_container_have_rows_of_their_own():
    """q @ k^T and its product with v, for 2 heads of 3 channels at 5 positions: 2 * 5 * 5 * 3 each."""

    def attend(self, x):
        x = self.norm(x)
        weights = (x @ x.transpose(-1, -2)).softmax(-1)
        return weights @ x

    counted = costs.count(Calls(attend, norm=nn.Identity()), (2, 5, 3))
    assert [(row.name, row.type, row.macs, row.output_shape) for row in counted.rows] == [
        ("norm", "Identity", 0, (2, 5, 3)),
        ("Calls", "bmm", 150, (2, 5, 5)),
        ("Calls", "bmm", 150, (2, 5, 3)),
    ]
    assert counted.macs == counted.macs_no_fc == 300


@pytest.mark.parametrize(
    ("product", "macs"),
    [
        (lambda x: x[0] @ x[0].T, 4 * 4 * 6),
        (lambda x: x[0] @ x[0, 0], 4 * 6),
        (lambda x: x[0, 0] @ x[0, 0], 6),
        (lambda x: torch.baddbmm(x[:, :, :4], x, x.transpose(1, 2), beta=2, alpha=3), 4 * 4 * 6),
        (lambda x: torch.einsum("bnc,bmc->bnm", x, x), 4 * 4 * 6),
    ],
)
def test_products_of_matrices_and_vectors(product, macs):
    """Of x with 4 rows and 6 columns."""
    assert costs.count(Calls(lambda self, x: product(x)), (4, 6)).macs == macs


def test_attention_counts_both_products():
    def attend(self, x):
        return functional.scaled_dot_product_attention(x, x[:, :, :7], x[:, :, :7])

    def fused(self, x):
        keys = x[:, :, :7]
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(x, keys, keys)[0]

    by_hand = 2 * (4 * 10 * 7 * 6)
    assert costs.count(Calls(attend), (4, 10, 6)).macs == by_hand
    assert costs.count(Calls(fused), (4, 10, 6)).macs == by_hand


def test_multihead_attention():
    """Positions n = 10, channels d = 6: four projections n d d and two products n n d; every parameter has a row."""
    layer = nn.MultiheadAttention(6, 2, batch_first=True)
    counted = costs.count(Calls(lambda self, x: self.layer(x, x, x)[0], layer=layer), (10, 6))
    assert counted.macs == 4 * 10 * 6 * 6 + 2 * 10 * 10 * 6
    assert counted.params == sum(p.numel() for p in layer.parameters()) == sum(row.params for row in counted.rows)


def test_lstm():
    """One step is 4 hidden (input + hidden) multiply-adds."""
    counted = costs.count(nn.LSTM(5, 7, batch_first=True), (11, 5))
    assert counted.macs == 11 * 4 * 7 * (5 + 7)
    assert counted.rows[0].output_shape == (11, 7)


def test_a_shared_layer_runs_twice_and_is_held_once():
    conv = nn.Conv2d(4, 4, 1, bias=False)
    counted = costs.count(nn.Sequential(conv, nn.ReLU(), conv), (4, 3, 3))
    assert counted.params == 16
    assert [(row.name, row.params, row.macs) for row in counted.rows] == [("0", 16, 144), ("1", 0, 0), ("0", 0, 144)]


def test_a_shared_parameter_is_held_once():
    net = nn.Sequential(nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False))
    net[1].weight = net[0].weight
    counted = costs.count(net, (6,))
    assert (counted.params, counted.macs) == (36, 72)
    assert [row.params for row in counted.rows] == [36, 0]


def test_parameters_that_no_call_uses_are_listed_last():
    net = Calls(lambda self, x: self.used(x) * self.scale, used=nn.Linear(3, 3), unused=nn.Linear(3, 5))
    net.scale = nn.Parameter(torch.ones(3))
    counted = costs.count(net, (3,))
    assert counted.params == 12 + 20 + 3
    last = counted.rows[-2:]
    assert {(row.name, row.params, row.macs, row.output_shape) for row in last} == {
        ("Calls", 3, 0, ()),
        ("unused", 20, 0, ()),
    }


def test_pruned_and_normalised_weights():
    pruned = prune.l1_unstructured(nn.Conv2d(3, 4, 3), "weight", 0.5)
    counted = costs.count(pruned, (3, 5, 5))
    assert (counted.params, counted.buffers, counted.macs) == (112, 108, 108 * 9)
    weight_norm = parametrizations.weight_norm(nn.Linear(4, 5))
    assert costs.count(weight_norm, (4,)).macs == 20
    assert costs.count(weight_norm, (4,)).macs_no_fc == 0


def test_only_a_leading_1_is_the_batch():
    """Windows that a net folds into the batch stay in the output shape."""
    net = Calls(lambda self, x: self.linear(x.reshape(4, 3, 5)), linear=nn.Linear(5, 2))
    assert costs.count(net, (12, 5)).rows[0].output_shape == (4, 3, 2)


# --- against torch's own counter ---


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.data())
def test_agrees_with_torchs_flop_counter(data):
    """torch.utils.flop_counter counts two operations a multiply-add, by formulas of its own, on real tensors."""
    draw = data.draw
    layers: list[nn.Module] = []
    channels = draw(st.integers(1, 4))
    shape = (channels, draw(st.integers(6, 9)), draw(st.integers(6, 9)))
    for _ in range(draw(st.integers(1, 4))):
        groups = draw(st.integers(1, 3))
        kind = draw(st.sampled_from([nn.Conv2d, nn.ConvTranspose2d]))
        out_channels = groups * draw(st.integers(1, 3))
        layers += [
            nn.Conv2d(channels, groups * 2, 1),
            kind(groups * 2, out_channels, 3, stride=draw(st.integers(1, 2)), padding=1, groups=groups),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
        ]
        channels = out_channels
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, 3)).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, *shape))
    assert 2 * costs.count(net, shape).macs == counter.get_total_flops()


# --- against torchvision's metadata ---


class OnMeta(TorchFunctionMode):
    """Builds a torchvision net without memory: parameters are made by torch.empty, and nobody fills them. (Some
    constructors compute their widths with tensors, so that not everything may be on the meta device.)"""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        if func is torch.empty:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


CLASSIFIERS = torchvision.models.list_models(module=torchvision.models)


def build_for(name, size):
    """The net that torchvision's metadata describe: the one that `weights=...` makes."""
    options = {"image_size": size} if name.startswith("vit_") else {}
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False
    if name == "googlenet":
        options["aux_logits"] = False  # its weights load without the auxiliary classifiers; inception_v3's with them
    with OnMeta():
        return torchvision.models.get_model(name, weights=None, **options)


def test_there_are_classifiers_to_compare():
    assert len(CLASSIFIERS) >= 80


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_agrees_with_torchvision(name):
    """Every classification net of torchvision, at every input size it has weights for: parameters to the last one,
    multiply-adds (which torchvision prints as GFLOPS) to the three decimals that it prints. No net is left out: none
    runs an operation that has no rule."""
    counted_at = {}
    for weights in torchvision.models.get_model_weights(name):
        (size,) = set(weights.transforms().crop_size)
        if size not in counted_at:
            counted_at[size] = costs.count(build_for(name, size), (3, size, size))
        counted = counted_at[size]
        assert counted.unknown == ()
        assert counted.params == weights.meta["num_params"]
        assert f"{counted.macs / 1e9:.3f}" == f"{weights.meta['_ops']:.3f}"
        assert sum(row.params for row in counted.rows) == counted.params
        assert sum(row.macs for row in counted.rows) == counted.macs
        assert counted.activation_bytes == sum(
            4 * math.prod(row.output_shape) for row in counted.rows if row.output_shape
        )


# --- what has no rule ---


def test_rules_name_operations_that_exist():
    for name in [*COUNTED, *FREE]:
        assert hasattr(torch.ops.aten, name) or hasattr(torch.ops.aten, name + "_"), name


def test_unknown_operation_in_a_layer():
    class Spectrum(nn.Module):
        def forward(self, x):
            return torch.fft.fft(x).real

    net = nn.Sequential(nn.Linear(8, 8), Spectrum())
    with pytest.warns(UserWarning, match="no rule for.*_fft"):
        counted = costs.count(net, (8,))
    (unknown,) = counted.unknown
    assert unknown.name == "1" and "_fft" in unknown.operator
    assert [row.macs for row in counted.rows] == [64, None]
    assert counted.macs == 64
    for shown in (str(counted), counted._repr_html_()):
        assert "at least 64" in shown and "unknown" in shown and "_fft" in shown


def test_unknown_operation_in_a_container():
    net = Calls(lambda self, x: self.last(torch.cdist(x, x)), last=nn.Linear(4, 2))
    with pytest.warns(UserWarning, match="_cdist_forward"):
        counted = costs.count(net, (4, 3))
    assert counted.rows[0].name == "Calls" and counted.rows[0].macs is None
    assert counted.macs == 4 * 4 * 2


def test_unknown_stays_unknown_beside_what_is_known():
    class Mixed(nn.Module):
        def forward(self, x):
            return torch.fft.fft(x @ x).real @ x

    with pytest.warns(UserWarning):
        assert only_row(Mixed(), (4, 4)).macs is None


@pytest.mark.parametrize("name", ["relu", "mm"])
def test_an_operation_of_another_library_is_unknown(name):
    """Even where its name is that of an operation with a rule."""

    @torch.library.custom_op(f"studylib_test::{name}", mutates_args=())
    def operation(x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    operation.register_fake(torch.empty_like)
    net = nn.Sequential(nn.Linear(3, 3), Calls(lambda self, x: operation(x)))
    with pytest.warns(UserWarning, match=f"no rule for studylib_test.{name}.default in 1"):
        counted = costs.count(net, (3,))
    assert [row.macs for row in counted.rows] == [9, None]


def test_torchvisions_deformable_convolution_is_unknown():
    offsets = nn.Conv2d(3, 18, 3, padding=1)
    deform = torchvision.ops.DeformConv2d(3, 4, 3, padding=1)
    net = Calls(lambda self, x: self.deform(x, self.offsets(x)), offsets=offsets, deform=deform)
    with pytest.warns(UserWarning, match="deform_conv2d"):
        counted = costs.count(net, (3, 8, 8))
    assert [row.macs for row in counted.rows] == [3 * 18 * 9 * 64, None]


# --- the caller's net is left alone ---


def test_the_net_is_left_as_it_was():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    net[1].eval()
    seen = []
    net[0].register_forward_hook(lambda *args: seen.append(args))
    net[2].register_forward_pre_hook(lambda *args: seen.append(args))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    identities = [id(p) for p in net.parameters()]
    costs.count(net, (3, 8, 8))
    assert [part.training for part in net] == [True, False, True]
    assert seen == []
    assert [len(part._forward_hooks) for part in net] == [1, 0, 0]
    assert [len(part._forward_pre_hooks) for part in net] == [0, 0, 1]
    assert identities == [id(p) for p in net.parameters()]
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert net(torch.zeros(2, 3, 8, 8)).device.type == "cpu" and len(seen) == 2


def test_a_hook_that_cannot_be_copied_is_no_obstacle():
    class Writer:
        def __init__(self):
            self.lock = threading.Lock()

        def write(self, *args):
            raise AssertionError("the caller's hook ran")

    net = nn.Linear(3, 3)
    net.register_forward_hook(Writer().write)
    assert costs.count(net, (3,)).macs == 9


def test_nothing_is_allocated():
    """Eight terabytes of weights, and as much for their gradients, count like any others."""
    counted = costs.count(nn.Linear(10**6, 2 * 10**6, bias=False, device="meta"), (10**6,))
    assert counted.params == counted.macs == 2 * 10**12


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_precision(dtype):
    assert costs.count(nn.Conv2d(3, 4, 3).to(dtype), (3, 5, 5)).macs == 972


def test_inside_the_callers_contexts():
    net = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5))
    with torch.inference_mode():
        assert costs.count(net, (4,)).macs == 20
    with torch.device("meta"):
        assert costs.count(net, (4,)).macs == 20


def test_tensors_made_during_the_pass():
    """A constant without a device is fine on a CPU, and so it is here."""
    assert costs.count(Calls(lambda self, x: x @ torch.ones(4, 3)), (2, 4)).macs == 24


# --- bad input ---


@pytest.mark.parametrize("module", [nets.resnet50, nn.Linear, "resnet50", None])
def test_not_a_module(module):
    with pytest.raises(TypeError, match=r"takes a torch\.nn\.Module.*got"):
        costs.count(module)


@pytest.mark.parametrize("shape", [(), (3, 0, 5), (3, -1), (3, 2.5), 224, "3", None, ((3, 4),)])
def test_not_a_shape(shape):
    with pytest.raises(ValueError, match=r"tuple of positive integers without the batch.*got"):
        costs.count(nn.Identity(), shape)


@pytest.mark.parametrize(
    ("shape", "place"),
    [
        ((1, 224, 224), r"features\.0 \(Conv2d\)"),
        ((3, 32, 32), r"features\.14 \(MaxPool2d\)"),
        ((3, 256, 256), r"classifier\.2 \(Linear\)"),
        ((1, 3, 224, 224), r"features\.0 \(Conv2d\)"),
    ],
)
def test_an_input_that_does_not_fit_says_where(shape, place):
    with torch.device("meta"):
        net = nets.alexnet()
    with pytest.raises(ValueError, match=place) as caught:
        costs.count(net, shape)
    assert str(shape) in str(caught.value) and "AlexNet" in str(caught.value)


def test_channels_that_batch_norm_does_not_have():
    with pytest.raises(ValueError, match=r"it fails in 1 \(BatchNorm2d\)"):
        costs.count(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(5)), (3, 4, 4))


@pytest.mark.parametrize(
    "forward",
    [
        lambda self, x: x if x.sum() > 0 else -x,
        lambda self, x: x * x.sum().item(),
        lambda self, x: x[x > 0],
        lambda self, x: torch.tensor(x.numpy()),
    ],
)
def test_control_flow_on_data(forward):
    net = nn.Sequential(nn.Linear(3, 3), Calls(forward))
    with pytest.raises(ValueError, match=r"1 \(Calls\) looks at the values of its data"):
        costs.count(net, (3,))


def test_a_tensor_that_is_not_registered():
    net = Calls(lambda self, x: x * self.constants[0], constants=[torch.ones(3)])
    with pytest.raises(ValueError, match="register_buffer"):
        costs.count(net, (3,))


def test_a_lazy_layer():
    with pytest.raises(ValueError, match="LazyLinear has no shape yet"):
        costs.count(nn.Sequential(nn.LazyLinear(3)), (4,))


# --- the table ---


def test_table():
    net = nn.Sequential(nn.Conv2d(3, 40, 3, bias=False), nn.Flatten(), nn.Linear(40 * 36, 10))
    counted = costs.count(net, (3, 8, 8))
    lines = str(counted).splitlines()
    assert lines[0].split() == ["layer", "type", "output", "params", "multiply-adds"]
    assert " ".join(lines[2].split()) == "0 Conv2d 40 x 6 x 6 1,080 38,880"
    assert " ".join(lines[6].split()) == "total 3 x 8 x 8 in 15,490 53,280"
    assert "at least" not in str(counted)
    assert repr(counted) == str(counted)


def test_html_table_scrolls_and_is_escaped():
    net = nn.Sequential()
    net.add_module("<b>", nn.Linear(3, 1000))
    shown = costs.count(net, (3,))._repr_html_()
    assert "&lt;b&gt;" in shown and "<b>" not in shown
    assert "4,000" in shown and "max-height" in shown and "overflow:auto" in shown
    assert shown.count("<tr>") == shown.count("</tr>") == 3
