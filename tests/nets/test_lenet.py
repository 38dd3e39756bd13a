"""LeNet-300-100 and LeNet-5 against the counts of Deep Compression (arXiv 1510.00149) and of Caffe's LeNet."""

from studylib import costs, nets


def test_lenet_300_100(on_meta):
    counted = costs.count(on_meta(nets.lenet_300_100), (1, 28, 28))
    assert [row.weights for row in counted.rows if row.weights] == [235_200, 30_000, 1_000]
    assert counted.weights == counted.macs == 266_200
    assert counted.params == 266_610
    assert counted.macs_no_fc == 0


def test_lenet5(on_meta):
    counted = costs.count(on_meta(nets.lenet5), (1, 28, 28))
    assert [row.weights for row in counted.rows if row.weights] == [500, 25_000, 400_000, 5_000]
    assert counted.params == 430_500 + 580
    assert [row.output_shape for row in counted.rows[:4]] == [(20, 24, 24), (20, 12, 12), (50, 8, 8), (50, 4, 4)]
