"""GoogLeNet against Table 1 of arXiv 1409.4842: operations as printed, weights as its filter counts give them."""

import pytest
import torch
from torch import nn

from studylib import costs, nets
from studylib.nets.googlenet import ROWS, Inception

# module: pixels a side, input channels, output channels, weights, multiply-adds in millions, and what Table 1 prints
TABLE = {
    "3a": (28, 192, 256, 163_328, "128.05", "128"),
    "4a": (14, 480, 512, 375_552, "73.61", "73"),
    "4b": (14, 512, 512, 448_512, "87.91", "88"),
    "4c": (14, 512, 512, 509_440, "99.85", "100"),
    "4e": (14, 528, 832, 867_328, "170.00", "170"),
    "5a": (7, 832, 832, 1_042_432, "51.08", "54"),
    "5b": (7, 832, 1024, 1_442_816, "70.70", "71"),
}


@pytest.mark.parametrize("name", TABLE)
def test_a_row_of_the_table(name, on_meta):
    pixels, in_channels, out_channels, weights, millions, printed = TABLE[name]
    counted = costs.count(on_meta(Inception, in_channels, *ROWS[name]), (in_channels, pixels, pixels))
    assert counted.weights == weights
    assert f"{counted.macs / 1e6:.2f}" == millions
    # The table rounds or truncates; its 54M for 5a is an erratum.
    assert (printed in (f"{counted.macs / 1e6:.0f}", str(counted.macs // 10**6))) == (name != "5a")
    assert sum(ROWS[name][index] for index in (0, 2, 4, 5)) == out_channels


def test_the_whole_net_has_the_tables_modules(on_meta):
    counted = costs.count(on_meta(nets.googlenet))
    for name, (pixels, _, _, weights, millions, _) in TABLE.items():
        rows = [row for row in counted.rows if row.name.startswith(f"features.inception_{name}.")]
        assert sum(row.weights for row in rows) == weights
        assert f"{sum(row.macs for row in rows) / 1e6:.2f}" == millions
        convolutions = [row.output_shape for row in rows if row.type == "Conv2d"]
        assert len(convolutions) == sum(row.type == "ReLU" for row in rows) == 6
        assert {shape[1:] for shape in convolutions} == {(pixels, pixels)}
    assert counted.rows[-1].weights == 1_024_000  # printed 1000K: the table's K is 1024


def test_the_map_sizes(on_meta):
    rows = costs.count(on_meta(nets.googlenet)).rows
    pools = [row.output_shape for row in rows if ".pool" in row.name and ".branch" not in row.name]
    assert pools == [(64, 56, 56), (192, 28, 28), (480, 14, 14), (832, 7, 7)]


def test_branches_are_concatenated_in_the_tables_order():
    torch.manual_seed(0)
    module = Inception(6, 2, 3, 4, 1, 3, 5)
    x = torch.rand(2, 6, 8, 8)
    parts = [module.branch1(x), module.branch3(x), module.branch5(x), module.branch_pool(x)]
    assert [part.shape[1] for part in parts] == [2, 4, 3, 5]
    assert torch.equal(module(x), torch.cat(parts, 1))
    kernels = [layer.kernel_size for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    assert kernels == [(1, 1), (1, 1), (3, 3), (1, 1), (5, 5), (1, 1)]


@pytest.mark.parametrize(
    ("stem", "weights", "macs", "millions"),
    [("conv", 9_408, 118_013_952, "118.0"), ("separable", 2_712, 34_019_328, "34.0")],
)
def test_the_first_row(stem, weights, macs, millions, on_meta):
    """Table 1 prints 2.7K parameters and 34M operations, which only the separable one has."""
    counted = costs.count(on_meta(nets.googlenet, stem=stem))
    rows = [row for row in counted.rows if row.name.startswith("features.conv1.")]
    assert sum(row.weights for row in rows) == weights
    assert sum(row.macs for row in rows) == macs
    assert f"{macs / 1e6:.1f}" == millions
    assert rows[-1].output_shape == (64, 112, 112)


def test_runs():
    torch.manual_seed(0)
    net = nets.googlenet(num_classes=3).eval()
    with torch.no_grad():
        assert net(torch.rand(1, 3, 224, 224)).shape == (1, 3)


def test_another_stem():
    with pytest.raises(ValueError, match="stem must be.*got 'depthwise'"):
        nets.googlenet(stem="depthwise")
