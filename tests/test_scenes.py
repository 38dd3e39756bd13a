"""The scenes show what their classes say, and mIoU is the benchmark's."""

import math

import pytest
import torch

from studylib.data import Dataset, digits
from studylib.scenes import CLASSES, INK, confusion, digit_scenes, iou, mean_iou


def test_shapes_and_seed():
    d = digit_scenes(30, 20)
    for x, y, n in [(d.train_x, d.train_y, 30), (d.test_x, d.test_y, 20)]:
        assert x.shape == (n, 1, 24, 24) and x.dtype == torch.float32 and x.min() == 0 and 0.9 < x.max() <= 1
        assert y.shape == (n, 24, 24) and y.dtype == torch.int64 and set(y.unique().tolist()) <= set(range(CLASSES))
    assert set(d.train_y.unique().tolist()) == set(range(CLASSES))
    assert all(torch.equal(a, b) for a, b in zip(d, digit_scenes(30, 20, source=digits(0)), strict=True))
    assert not torch.equal(d.train_x, digit_scenes(30, 20, seed=1).train_x)


def stamps():
    """Images of 3x4 pixels that say which they are: all of one grey value of their own, at least 0.3; two are faint."""
    train, test = torch.arange(10), torch.arange(10, 20)
    images = (0.3 + torch.arange(20) / 50).reshape(20, 1, 1, 1).expand(20, 1, 3, 4).clone()
    images[0], images[10] = INK - 0.01, INK
    return Dataset(images[train], train % 10, images[test], test % 10)


@pytest.mark.parametrize("per_scene", [1, 4])
def test_scenes_show_what_their_classes_say(per_scene):
    d = digit_scenes(200, 100, size=14, per_scene=per_scene, source=stamps())
    for x, y, images, labels in [(d.train_x, d.train_y, *stamps()[:2]), (d.test_x, d.test_y, *stamps()[2:])]:
        grey_to_class = {
            round(float(image.max()), 4): 1 + int(label) for image, label in zip(images, labels, strict=True)
        }
        for scene, classes in zip(x[:, 0], y, strict=True):
            # Digits side by side fill their boxes, each of 12 pixels, whole: none lies over another.
            assert int((scene > 0).sum()) == 12 * per_scene
            for grey in scene.unique().tolist():
                here = classes[scene == grey].unique().tolist()
                assert here == [grey_to_class[round(grey, 4)] if grey >= INK else 0]


def test_training_and_test_scenes_share_no_image_and_use_all():
    d = digit_scenes(100, 100, size=14, per_scene=2, source=stamps())
    train, test = (set(x[x > 0].unique().tolist()) for x in (d.train_x, d.test_x))
    assert len(train) == len(test) == 10 and not train & test


def test_places_reach_every_border_evenly():
    d = digit_scenes(4000, 1, size=6, per_scene=1, source=stamps())
    tops = (d.train_x[:, 0] > 0).any(2).int().argmax(1)
    shares = torch.bincount(tops, minlength=4) / 4000
    # A share of 1/4 of 4000 draws: standard deviation 0.007.
    assert len(shares) == 4 and (shares - 0.25).abs().max() < 0.03


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"n_train": 0}, "at least one scene and one digit, got n_train=0"),
        ({"per_scene": 0}, "per_scene=0"),
        ({"size": 7}, "3 digits of 8x8 pixels do not fit side by side into 7x7"),
        ({"per_scene": 10}, "10 digits of 8x8 pixels do not fit side by side into 24x24"),
    ],
)
def test_scenes_that_cannot_be_made(knobs, message):
    with pytest.raises(ValueError, match=message):
        digit_scenes(**({"n_train": 2, "n_test": 2} | knobs))


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
    parts = sum(confusion(p, y) for p, y in zip(predicted.split(2), d.train_y.split(2), strict=True))
    assert torch.equal(parts, confusion(predicted, d.train_y))
    assert mean_iou(confusion(d.train_y, d.train_y)) == 1
    assert mean_iou(parts) < 0.2
    everywhere = mean_iou(confusion(torch.zeros_like(d.train_y), d.train_y))
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
        confusion(predicted, target)


def test_no_pixels():
    with pytest.raises(ValueError, match="no pixels"):
        mean_iou(torch.zeros(3, 3, dtype=torch.int64))
