"""mIoU is the benchmark's, by hand."""

import math

import pytest
import torch

from studylib.metrics import confusion, iou, mean_iou
from studylib.scenes import CLASSES, digit_scenes


def test_mean_iou_by_hand():
    target = torch.tensor([[0, 0, 0, 1], [1, 1, 2, 2]])
    predicted = torch.tensor([[0, 0, 1, 1], [1, 0, 2, 3]])
    matrix = confusion(predicted, target, 5)
    assert matrix.tolist() == [[2, 1, 0, 0, 0], [1, 2, 0, 0, 0], [0, 0, 1, 1, 0], [0] * 5, [0] * 5]
    scores = iou(matrix).tolist()
    # Class 3 is predicted and nowhere in the target: 0. Class 4 is in neither: left out.
    assert scores[:4] == [2 / 4, 2 / 4, 1 / 2, 0] and math.isnan(scores[4])
    assert mean_iou(matrix) == 1.5 / 4


def test_confusion_adds_over_batches_and_a_perfect_prediction_is_one():
    d = digit_scenes(6, 1)
    predicted = torch.randint(CLASSES, d.train_y.shape, generator=torch.Generator().manual_seed(0))
    parts = sum(confusion(p, y, CLASSES) for p, y in zip(predicted.split(2), d.train_y.split(2), strict=True))
    assert torch.equal(parts, confusion(predicted, d.train_y, CLASSES))
    assert mean_iou(confusion(d.train_y, d.train_y, CLASSES)) == 1
    assert mean_iou(parts) < 0.2
    everywhere = mean_iou(confusion(torch.zeros_like(d.train_y), d.train_y, CLASSES))
    assert everywhere == pytest.approx(float((d.train_y == 0).double().mean()) / len(d.train_y.unique()))


@pytest.mark.parametrize(
    ("predicted", "target", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(3, 2), r"maps of one shape, got \(2, 3\) and \(3, 2\)"),
        (torch.tensor([11]), torch.tensor([0]), "predicted has classes 11 to 11, expected 0 to 10"),
        (torch.tensor([0]), torch.tensor([-1]), "target has classes -1 to -1"),
    ],
)
def test_maps_that_do_not_fit(predicted, target, message):
    with pytest.raises(ValueError, match=message):
        confusion(predicted, target, CLASSES)


def test_no_pixels():
    with pytest.raises(ValueError, match="no pixels"):
        mean_iou(torch.zeros(3, 3, dtype=torch.int64))
