"""Scenes of handwritten digits with a class for every pixel: segmentation on real images, in a second, offline."""

import numpy as np
import torch
from torch import Tensor

from studylib.data import Dataset, digits

BACKGROUND = 0  # digit d has class 1 + d
CLASSES = 11
INK = 0.25  # the least grey value in [0, 1] that is a pixel of the digit, and not of the background
MOST_DRAWS = 1000  # of positions for one scene, before they are said not to fit


def digit_scenes(
    n_train: int,
    n_test: int,
    size: int = 24,
    per_scene: int = 3,
    seed: int = 0,
    source: Dataset | None = None,
) -> Dataset:
    """Scenes with `per_scene` digits at random places, none over another; a Dataset whose classes are maps.

    x: float32 (n, 1, size, size) in [0, 1]; y: int64 (n, size, size), 0 for background and 1 + d where the digit d
    has ink (a grey value of at least 0.25). Training scenes are made of the training images of `source` (default:
    `digits(seed)`, 8x8), test scenes of its test images; `mnist()` with size=84 gives the same in large.
    All arrangements without overlap are equally likely, and so are all images.
    Raises ValueError for no scenes or digits, and where the digits do not fit side by side.
    """
    source = digits(seed) if source is None else source
    if min(n_train, n_test, per_scene) < 1:
        raise ValueError(f"expected at least one scene and one digit, got {n_train=}, {n_test=}, {per_scene=}")
    rng = np.random.default_rng(seed)
    train = _scenes(source.train_x, source.train_y, n_train, size, per_scene, rng)
    return Dataset(*train, *_scenes(source.test_x, source.test_y, n_test, size, per_scene, rng))


def _scenes(x: Tensor, y: Tensor, n: int, size: int, per_scene: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    height, width = x.shape[2:]
    chosen = rng.integers(len(x), size=(n, per_scene))
    places = _places(n, size, per_scene, (height, width), rng)
    images, labels = x[:, 0].numpy(), y.numpy()
    scenes, classes = np.zeros((n, 1, size, size), np.float32), np.full((n, size, size), BACKGROUND, np.int64)
    for i in range(n):
        for index, (top, left) in zip(chosen[i], places[i], strict=True):
            rows, columns = slice(top, top + height), slice(left, left + width)
            scenes[i, 0, rows, columns] = images[index]
            classes[i, rows, columns] = np.where(images[index] >= INK, 1 + labels[index], BACKGROUND)
    return torch.from_numpy(scenes), torch.from_numpy(classes)


def _places(n: int, size: int, per_scene: int, box: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Corners (n, per_scene, 2) of boxes that lie apart; a scene whose boxes overlap is drawn again as a whole."""
    room = (size - box[0] + 1, size - box[1] + 1)
    places = np.zeros((n, per_scene, 2), np.int64)
    wrong = np.arange(n)
    first, second = np.triu_indices(per_scene, 1)
    for _ in range(MOST_DRAWS if min(room) > 0 else 0):
        places[wrong] = rng.integers(room, size=(len(wrong), per_scene, 2))
        distance = np.abs(places[wrong][:, first] - places[wrong][:, second])
        wrong = wrong[(distance < box).all(axis=2).any(axis=1)]
        if not len(wrong):
            return places
    raise ValueError(
        f"{per_scene} digits of {box[0]}x{box[1]} pixels do not fit side by side into {size}x{size}, or hardly: "
        "make the scene larger or the digits fewer"
    )
