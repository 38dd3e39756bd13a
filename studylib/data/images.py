"""Real images as tensors: scikit-learn's digits, MNIST, pairs of digits, CIFAR-10, and twenty photographs of ImageNet."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

from studylib.data import fetch, wheels
from studylib.data.fetch import DataUnavailable


class Dataset(NamedTuple):
    """Images x: float32 (n, channels, height, width) in [0, 1]; classes y: int64 (n,)."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


def digits(seed: int = 0) -> Dataset:
    """scikit-learn's 1,797 handwritten digits, (1, 8, 8), of which a quarter of each class (450) is the test part.

    `seed` decides the split. Always there: the images are part of scikit-learn (a copy of the test part of
    "Optical Recognition of Handwritten Digits", UCI).
    """
    images, labels = load_digits(return_X_y=True)
    x = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    parts = train_test_split(x, labels.astype(np.int64), test_size=0.25, stratify=labels, random_state=seed)
    train_x, test_x, train_y, test_y = (torch.from_numpy(part) for part in parts)
    return Dataset(train_x, train_y, test_x, test_y)


def mnist(root: str | Path = "data") -> Dataset:
    """MNIST: 60,000 training and 10,000 test images, (1, 28, 28), from `root`/mnist, fetched there if need be.

    Every load checks the SHA-256 of the four files. A missing, cut-off or damaged file is fetched again, from
    torchvision's mirrors or else from an npm package; any number of processes may do so at once.
    Raises DataUnavailable where no source can be reached. Source: LeCun, Cortes and Burges.
    """
    files = fetch.mnist_files(Path(root) / "mnist")
    arrays = [_read_idx(files[name]) for name in fetch.SHA256]
    train_x, test_x = (torch.from_numpy(a[:, None]).to(torch.float32) / 255 for a in arrays[0::2])
    train_y, test_y = (torch.from_numpy(a.astype(np.int64)) for a in arrays[1::2])
    return Dataset(train_x, train_y, test_x, test_y)


def mnist_or_digits(root: str | Path = "data") -> Dataset:
    """MNIST, or where it cannot be had the digits enlarged to (1, 28, 28); prints one line that says which.

    What the notebooks use: a net made for MNIST runs on both, but only MNIST can be held against a paper.
    """
    try:
        data = mnist(root)
    except DataUnavailable as error:
        small = digits()
        train_x, test_x = (F.interpolate(x, size=(28, 28), mode="bilinear") for x in (small.train_x, small.test_x))
        data = Dataset(train_x, small.train_y, test_x, small.test_y)
        print(f"scikit-learn's digits in place of MNIST, {sizes(data)}: not what the papers used. {error}")
    else:
        print(f"MNIST, {sizes(data)}")
    return data


def cifar10(root: str | Path = "data") -> Dataset:
    """CIFAR-10: 50,000 training and 10,000 test photographs, (3, 32, 32), by torchvision from `root`/cifar10.

    170 MB are fetched where they are not there, so the notebooks ask for it only where FAST is False. Raises DataUnavailable
    where it cannot be had. Source: Krizhevsky, "Learning multiple layers of features from tiny images" (2009).
    """
    from torchvision.datasets import CIFAR10  # here, since importing torchvision takes seconds

    folder = Path(root) / "cifar10"

    def load() -> list[Tensor]:
        parts: list[Tensor] = []
        for train in (True, False):
            images = CIFAR10(str(folder), train=train)
            parts.append(torch.from_numpy(images.data).permute(0, 3, 1, 2).to(torch.float32) / 255)
            parts.append(torch.tensor(images.targets))
        return parts

    try:
        return Dataset(*load())
    except RuntimeError:  # torchvision's: not there, or not complete
        fetch.cifar10(folder)
        return Dataset(*load())


def photographs(root: str | Path = "data", side: int = 224) -> tuple[Tensor, Tensor]:
    """Twenty photographs of ImageNet with their classes: x float32 (20, 3, side, side) in [0, 1], y int64 (20,).

    They are the examples of foolbox 3.3.4 (Rauber et al., MIT licence), whose wheel is fetched to `root`/wheels and read
    there; the photographs belong to other people, so they are never part of this repository or of a stored output. Each is
    scaled until its shorter side has side / 0.875 pixels (bicubic), and the middle is cut out. y: 0 to 999, the number of
    torchvision's `weights.meta["categories"]`. Twenty are too few for an accuracy: one is 5 points.
    Raises DataUnavailable where the wheel cannot be had.
    """
    from PIL import Image  # here, as only this needs it

    found: list[tuple[np.ndarray, int]] = []
    with wheels.opened(wheels.PHOTOGRAPHS, root) as archive:
        for name in sorted(archive.namelist()):
            if labelled := re.fullmatch(r"foolbox/data/imagenet_\d\d_(\d+)\.jpg", name):
                with archive.open(name) as file, Image.open(file) as image:
                    found.append((_middle(image.convert("RGB"), side), int(labelled[1])))
    pixels = torch.from_numpy(np.stack([pixels for pixels, _ in found])).permute(0, 3, 1, 2)
    return pixels.to(torch.float32) / 255, torch.tensor([label for _, label in found])


def _middle(image: Any, side: int) -> np.ndarray:
    """The middle of a photograph: uint8 (side, side, 3)."""
    from PIL import Image

    scale = round(side / 0.875) / min(image.size)
    width, height = (round(length * scale) for length in image.size)
    left, top = (width - side) // 2, (height - side) // 2
    return np.asarray(
        image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + side, top + side))
    )


def same_different(n_train: int, n_test: int, seed: int = 0, source: Dataset | None = None) -> Dataset:
    """Pairs of images as two channels, (2, height, width); class 1 if both show the same digit, otherwise 0.

    Half of the pairs are of class 1. Training pairs come from the training images of `source` (default:
    `digits(seed)`), test pairs from its test images, so that no image is in both; no image is paired with itself.
    Classes are drawn uniformly, so one image alone says nothing about the answer, and of all logits of the form
    f(first) + g(second) the constant has the least expected cross-entropy (which is convex, and relabelling the
    ten classes changes nothing). Raises ValueError for fewer than two pairs.
    """
    source = digits(seed) if source is None else source
    rng = np.random.default_rng(seed)
    return Dataset(
        *_pairs(source.train_x, source.train_y, n_train, rng), *_pairs(source.test_x, source.test_y, n_test, rng)
    )


def _pairs(x: Tensor, y: Tensor, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    classes, counts = np.unique(y.numpy(), return_counts=True)
    if n < 2 or len(classes) < 2 or counts.min() < 2:
        raise ValueError(
            f"cannot make {n} pairs from {len(classes)} classes of which the smallest has "
            f"{counts.min(initial=len(y))} images: it takes at least 2 of each"
        )
    by_class, start = np.argsort(y.numpy(), kind="stable"), np.cumsum(counts) - counts
    same = rng.permutation(np.arange(n) < n // 2)
    class1 = rng.integers(len(classes), size=n)
    class2 = np.where(same, class1, (class1 + rng.integers(1, len(classes), size=n)) % len(classes))
    within1 = rng.integers(counts[class1])
    within2 = np.where(same, (within1 + rng.integers(1, counts[class1])) % counts[class1], rng.integers(counts[class2]))
    first, second = by_class[start[class1] + within1], by_class[start[class2] + within2]
    return torch.cat([x[first], x[second]], dim=1), torch.from_numpy(same.astype(np.int64))


def sizes(data: Dataset) -> str:
    """How many images of each part, in words."""
    return f"{len(data.train_x):,} training and {len(data.test_x):,} test images"


def _read_idx(content: bytes) -> np.ndarray:
    """Bytes of an idx file (unsigned bytes) as an array; the header is 0, 0, 8, rank and one big-endian int a size."""
    rank = content[3]
    shape = np.frombuffer(content, ">i4", count=rank, offset=4)
    return np.frombuffer(bytearray(content), np.uint8, count=math.prod(shape), offset=4 + 4 * rank).reshape(shape)
