"""The images of the course: shapes, ranges, splits and pairs."""

from pathlib import Path

import numpy as np
import pytest
import torch

from studylib.data import Dataset, DataUnavailable, digits, fetch, mnist, mnist_or_digits, same_different

DATA = Path(__file__).parents[2] / "data"


def check_contract(d, shape, classes):
    for x, y in [(d.train_x, d.train_y), (d.test_x, d.test_y)]:
        assert x.dtype == torch.float32 and y.dtype == torch.int64
        assert x.shape == (len(y), *shape) and y.shape == (len(x),)
        assert x.min() >= 0 and x.max() <= 1
        assert set(y.tolist()) == set(range(classes))


def test_digits():
    d = digits()
    check_contract(d, (1, 8, 8), 10)
    assert (len(d.train_x), len(d.test_x)) == (1347, 450)
    assert d.train_x.max() == 1 and torch.equal(d.train_x * 16, (d.train_x * 16).round())
    counts = torch.bincount(d.test_y) / torch.bincount(torch.cat([d.train_y, d.test_y]))
    assert (counts - 0.25).abs().max() < 0.005  # a quarter of each class
    assert all(torch.equal(a, b) for a, b in zip(d, digits(0), strict=True))
    assert not torch.equal(d.test_y, digits(1).test_y)


def labelled(n_train, n_test, classes=10):
    """Images that say which they are: [index, class] / 1000, training images from 0, test images from 500."""

    def part(start, n):
        index = torch.arange(start, start + n)
        y = index % classes
        return torch.stack([index, y], dim=1).reshape(n, 1, 1, 2).float() / 1000, y

    return Dataset(*part(0, n_train), *part(500, n_test))


def test_same_different_pairs_tell_the_truth_and_share_no_image():
    d = same_different(301, 100, seed=3, source=labelled(60, 30))
    for x, y, n in [(d.train_x, d.train_y, 301), (d.test_x, d.test_y, 100)]:
        assert x.shape == (n, 2, 1, 2) and y.shape == (n,) and y.dtype == torch.int64
        index, shown = (x * 1000).round().int().unbind(-1)
        assert y.sum() == n // 2
        assert torch.equal((shown[:, 0] == shown[:, 1]).flatten(), y.bool())
        assert torch.equal(shown, index % 10)
        assert (index[:, 0] != index[:, 1]).all()
    assert (d.train_x[..., 0] < 0.5).all() and (d.test_x[..., 0] >= 0.5).all()
    assert 0 < d.train_y[:20].sum() < 20  # shuffled


def test_same_different_by_default_pairs_the_digits_and_follows_its_seed():
    d = same_different(64, 32, seed=1)
    check_contract(d, (2, 8, 8), 2)
    assert all(torch.equal(a, b) for a, b in zip(d, same_different(64, 32, seed=1, source=digits(1)), strict=True))
    assert not torch.equal(d.train_x, same_different(64, 32, seed=2, source=digits(1)).train_x)


def test_one_image_of_a_pair_says_nothing_about_the_answer_though_classes_are_unequal():
    source = labelled(60, 30)
    kept = (source.train_y != 0) | (torch.arange(60) < 20)  # class 0 has two images, the others six
    d = same_different(40_000, 10, source=source._replace(train_x=source.train_x[kept], train_y=source.train_y[kept]))
    shown = (d.train_x[..., 1] * 1000).round().long().reshape(-1, 2)
    for channel in (0, 1):
        for answer in (0, 1):
            share = torch.bincount(shown[d.train_y == answer, channel]) / 20_000
            # 20,000 draws at 1/10: standard deviation 0.0021
            assert (share - 0.1).abs().max() < 0.01


@pytest.mark.parametrize(
    ("n", "source", "message"),
    [
        (1, labelled(60, 30), "1 pairs from 10 classes of which the smallest has 6"),
        (8, labelled(60, 30, classes=1), "from 1 classes"),
        (8, labelled(15, 30), "the smallest has 1 images"),
        (8, labelled(0, 30), "from 0 classes"),
    ],
)
def test_pairs_that_cannot_be_made(n, source, message):
    with pytest.raises(ValueError, match=message):
        same_different(n, 8, source=source)


def test_notebooks_get_the_enlarged_digits_where_there_is_no_mnist_and_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fetch, "SOURCES", {})
    d = mnist_or_digits(tmp_path)
    check_contract(d, (1, 28, 28), 10)
    assert (len(d.train_x), len(d.test_x)) == (1347, 450)
    small = digits()
    assert torch.equal(d.train_y, small.train_y)
    # Bilinear, pixel centres at (i + 0.5) / n of the width: the same written with np.interp along each side.
    centres = (np.arange(28) + 0.5) * 8 / 28 - 0.5
    enlarge = np.stack([np.interp(centres, np.arange(8), one) for one in np.eye(8)], axis=1)
    expected = enlarge @ small.test_x.numpy().astype(float) @ enlarge.T
    np.testing.assert_allclose(d.test_x.numpy(), expected, rtol=0, atol=1e-6)
    out = capsys.readouterr().out
    assert out.startswith("scikit-learn's digits in place of MNIST, 1,347 training and 450 test images: ")
    assert out.count("\n") == 1


def test_the_real_mnist():
    try:
        d = mnist(DATA)
    except DataUnavailable as error:
        # Skipped where nothing could be had, never where files are there or came and are not the known ones.
        if any(DATA.glob("mnist/*-ubyte")) or "SHA-256" in str(error):
            raise
        pytest.skip(str(error))
    check_contract(d, (1, 28, 28), 10)
    assert (len(d.train_x), len(d.test_x)) == (60_000, 10_000)
    assert torch.bincount(d.train_y).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert d.train_y[:5].tolist() == [5, 0, 4, 1, 9]
    assert round(d.train_x.double().mean().item(), 4) == 0.1307
    assert round(d.train_x.double().std().item(), 4) == 0.3081
    assert d.train_x.max() == 1
