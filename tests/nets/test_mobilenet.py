"""MobileNet v1 against the tables of arXiv 1704.04861."""

import pytest
import torch

from studylib import costs, nets
from studylib.nets.mobilenet import ROWS, FullConv, SeparableConv


def millions(number, digits=2):
    return f"{number / 1e6:.{digits}f}"


@pytest.mark.parametrize(
    ("width", "pixels", "macs", "params"),
    [
        (1.0, 224, "568.74", 4_231_976),
        (0.75, 224, "325.40", 2_585_560),
        (0.25, 224, "41.03", 470_072),
        (1.0, 192, "418.12", 4_231_976),
    ],
)
def test_tables_6_and_7(width, pixels, macs, params, on_meta):
    counted = costs.count(on_meta(nets.mobilenet_v1, width=width), (3, pixels, pixels))
    assert millions(counted.macs) == macs
    assert counted.params == params


def test_table_2(on_meta):
    """Where multiply-adds and weights sit. Batch norm and the last bias are not in it. The paper prints 1.19% for the
    3x3 convolution's multiply-adds: digits swapped, for the column has to add up to 100."""
    counted = costs.count(on_meta(nets.mobilenet_v1))
    assert (counted.macs, counted.weights) == (568_740_352, 4_209_088)
    kinds = {"1x1": ".pointwise", "depthwise": ".depthwise", "3x3": ".conv", "fc": "classifier"}
    macs = {kind: sum(row.macs for row in counted.rows if row.name.endswith(end)) for kind, end in kinds.items()}
    weights = {kind: sum(row.weights for row in counted.rows if row.name.endswith(end)) for kind, end in kinds.items()}
    assert sum(macs.values()) == counted.macs and sum(weights.values()) == counted.weights
    assert macs["3x3"] == 10_838_016
    assert {kind: f"{100 * part / counted.macs:.2f}" for kind, part in macs.items()} == {
        "1x1": "94.86",
        "depthwise": "3.06",
        "3x3": "1.91",
        "fc": "0.18",
    }
    assert {kind: f"{100 * part / counted.weights:.2f}" for kind, part in weights.items()} == {
        "1x1": "74.59",
        "depthwise": "1.06",
        "3x3": "0.02",
        "fc": "24.33",
    }


@pytest.mark.parametrize(
    ("block", "channels", "pixels", "macs", "weights"),
    [
        (FullConv, 512, 14, "462.422", 2_359_296),
        (SeparableConv, 512, 14, "52.283", 266_752),
        (SeparableConv, 384, 14, "29.579", 150_912),
    ],
)
def test_table_3(block, channels, pixels, macs, weights, on_meta):
    counted = costs.count(on_meta(block, channels, channels), (channels, pixels, pixels))
    assert millions(counted.macs, 3) == macs
    assert counted.weights == weights


def test_table_4_full_convolutions(on_meta):
    counted = costs.count(on_meta(nets.mobilenet_v1, separable=False))
    assert millions(counted.macs) == "4867.29"
    assert millions(counted.params) == "29.29"


def test_shallow_leaves_out_the_five_middle_blocks(on_meta):
    """Table 5's net: each of the five costs what Table 3's separable layer costs."""
    full, shallow = costs.count(on_meta(nets.mobilenet_v1)), costs.count(on_meta(nets.mobilenet_v1, shallow=True))
    assert full.macs - shallow.macs == 5 * 14 * 14 * (9 * 512 + 512 * 512)
    assert full.weights - shallow.weights == 5 * 266_752


def test_28_layers_and_their_maps(on_meta):
    rows = costs.count(on_meta(nets.mobilenet_v1)).rows
    layers = [row for row in rows if row.type in ("Conv2d", "Linear")]
    assert len(layers) == 28
    assert [row.output_shape[1] for row in layers if row.name.endswith("depthwise")] == (
        [112, 56, 56, 28, 28, 14] + [14] * 5 + [7, 7]
    )
    assert len(ROWS) == 13


def test_the_ratio_of_equation_7():
    """Separable over dense: 1/N + 1/9, exactly."""
    for in_channels, out_channels in ((8, 16), (16, 5)):
        full = costs.count(FullConv(in_channels, out_channels), (in_channels, 6, 6)).macs
        separable = costs.count(SeparableConv(in_channels, out_channels), (in_channels, 6, 6)).macs
        assert separable * 9 * out_channels == full * (9 + out_channels)


def test_width_rounds_down_every_layer(on_meta):
    net = on_meta(nets.mobilenet_v1, width=0.35)
    outs = [part.out_channels for part in net.modules() if isinstance(part, torch.nn.Conv2d)]
    assert outs[:5] == [11, 11, 22, 22, 44] and net.classifier.in_features == 358


def test_runs():
    torch.manual_seed(0)
    with torch.no_grad():
        assert nets.mobilenet_v1(width=0.25, num_classes=3).eval()(torch.rand(1, 3, 64, 64)).shape == (1, 3)


@pytest.mark.parametrize("width", [0, -1.0, 0.03, float("nan")])
def test_a_width_without_channels(width):
    with pytest.raises(ValueError, match="width must leave.*got"):
        nets.mobilenet_v1(width=width)
