"""EfficientNet-Lite0: its counts, the two paddings, and, with its weights, twenty real photographs."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from studylib import costs, nets
from studylib.data import DataUnavailable, photographs, wheels
from studylib.nets.efficientnet_lite import PaddedConv, prepared

DATA = Path(__file__).parents[2] / "data"


def test_counts(on_meta):
    counted = costs.count(on_meta(nets.efficientnet_lite0))
    assert counted.params == 4_652_008
    assert f"{counted.macs / 1e6:.2f}" == "385.19" and f"{counted.macs_no_fc / 1e6:.2f}" == "383.91"
    depthwise = [row for row in counted.rows if "depthwise.conv" in row.name]
    assert len(depthwise) == 16
    assert [row.output_shape[1] for row in depthwise] == [112, 56, 56, 28, 28] + [14] * 6 + [7] * 5


@pytest.mark.parametrize("side", [7, 8])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_paddings(side, kernel, stride):
    """Both give ceil(side / stride) pixels; at stride 1 they agree, at stride 2 on even sides "same" is one on."""
    torch.manual_seed(0)
    same, symmetric = (PaddedConv(2, 3, kernel, stride, 1, which) for which in (True, False))
    symmetric.load_state_dict(same.state_dict())
    x = torch.rand(1, 2, side, side)
    out = same(x)
    assert out.shape == symmetric(x).shape == (1, 3, -(-side // stride), -(-side // stride))
    differs = stride == 2 and side % 2 == 0 and kernel > 1
    assert torch.allclose(out, symmetric(x), atol=1e-6) != differs
    if differs:
        shifted = F.pad(x, (kernel // 2 - 1, kernel // 2) * 2)
        assert torch.allclose(out, F.conv2d(shifted, same.weight, stride=2), atol=1e-6)


def test_prepared():
    assert prepared(torch.tensor([0.0, 1.0])).tolist() == [-127 / 128, 1.0]


def test_refuses():
    with pytest.raises(ValueError, match="padding must be one of same, symmetric, got 'valid'"):
        nets.efficientnet_lite0(padding="valid")
    with pytest.raises(ValueError, match="weights are for 1000 classes, got num_classes = 7"):
        nets.efficientnet_lite0(DATA, num_classes=7)


@pytest.mark.parametrize(("padding", "top1", "top5"), [("same", 18, 19), ("symmetric", 14, 19)])
def test_twenty_photographs(padding, top1, top5):
    """The net sees 18 of 20, as known; with the other padding four fewer, and no shape says so."""
    try:
        (x, y), net = photographs(DATA), nets.efficientnet_lite0(DATA, padding)
    except DataUnavailable as error:
        if any((DATA / "wheels" / wheel.file).exists() for wheel in wheels.WHEELS) or "SHA-256" in str(error):
            raise
        pytest.skip(str(error))
    with torch.no_grad():
        logits = net(prepared(x))
    assert (logits.argmax(1) == y).sum() == top1
    assert (logits.topk(5, 1).indices == y[:, None]).any(1).sum() == top5
