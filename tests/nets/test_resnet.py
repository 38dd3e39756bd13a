"""ResNet-50, 101 and 152 against arXiv 1512.03385, 1611.05431 and torchvision."""

import pytest
import torchvision

from studylib import costs, nets
from studylib.nets.resnet import Bottleneck


@pytest.mark.parametrize(
    ("stride_in", "macs", "billions"), [("3x3", 4_089_184_256, "4.089"), ("1x1", 3_857_973_248, "3.858")]
)
def test_resnet50(stride_in, macs, billions, on_meta):
    """ResNeXt and torchvision have the stride in the 3x3, SENet's 3.86 (arXiv 1709.01507) is with it in the 1x1."""
    counted = costs.count(on_meta(nets.resnet50, stride_in=stride_in))
    assert counted.params == 25_557_032
    assert counted.buffers == 53_120
    assert counted.macs == macs and f"{macs / 1e9:.3f}" == billions


@pytest.mark.parametrize("name", ["resnet50", "resnet101", "resnet152"])
def test_torchvisions_weights_load(name, on_meta, assert_loads):
    assert_loads(on_meta(getattr(nets, name)), on_meta(getattr(torchvision.models, name)), 64)


def test_where_the_stride_is(on_meta):
    for stride_in, strides in (("1x1", [(2, 2), (1, 1)]), ("3x3", [(1, 1), (2, 2)])):
        block = on_meta(nets.resnet50, stride_in).layer2[0]
        assert [block.conv1.stride, block.conv2.stride] == strides
        assert block.downsample[0].stride == (2, 2)


def test_bottleneck_of_the_paper():
    """Equation 4 of arXiv 1611.05431 with one path of width 64: 256*64 + 9*64*64 + 64*256 = 69,632 weights."""
    assert costs.count(Bottleneck(256, 64, 1, "3x3"), (256, 56, 56)).weights == 69_632


def test_another_place_for_the_stride():
    with pytest.raises(ValueError, match='stride_in must be "3x3" or "1x1", got \'2x2\''):
        nets.resnet50(stride_in="2x2")
