"""VGG-16 against arXiv 1409.1556 and torchvision."""

import torchvision

from studylib import costs, nets


def test_counts(on_meta):
    counted = costs.count(on_meta(nets.vgg16))
    assert counted.params == 138_357_544
    assert counted.weights == 138_344_128  # arXiv 1510.00149, Table 5: 138M
    assert f"{counted.macs / 1e9:.2f}" == "15.47"
    assert sum(row.type == "Conv2d" for row in counted.rows) == 13


def test_torchvisions_weights_load(on_meta, assert_loads):
    assert_loads(on_meta(nets.vgg16), on_meta(torchvision.models.vgg16, init_weights=False), 224)
