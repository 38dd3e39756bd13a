"""The scenes show what their classes say."""

import pytest
import torch

from studylib.data import Dataset, digits
from studylib.scenes import CLASSES, INK, digit_scenes


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
