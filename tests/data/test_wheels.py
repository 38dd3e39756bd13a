"""How the two wheels get here, with pip replaced: whole, checked, kept, never imported; what is read out of them."""

import hashlib
import io
import os
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from studylib.data import Dataset, DataUnavailable, cifar10, fetch, photographs, wheels
from studylib.data.__main__ import main

DATA = Path(__file__).parents[2] / "data"


def jpeg(side, colour):
    file = io.BytesIO()
    Image.fromarray(np.full((side, 2 * side, 3), colour, np.uint8)).save(file, "JPEG", quality=100)
    return file.getvalue()


def wheel_bytes():
    """A wheel with two photographs in it, one of each of two classes, and a module that must not run."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("foolbox/__init__.py", "raise SystemExit('imported')")
        archive.writestr("foolbox/data/imagenet_01_7.jpg", jpeg(64, (255, 0, 0)))
        archive.writestr("foolbox/data/imagenet_00_243.jpg", jpeg(300, (0, 0, 255)))
        archive.writestr("foolbox/data/cifar10_00_3.png", b"")
    return file.getvalue()


@pytest.fixture
def pip(monkeypatch):
    """pip brings what the list's last entry holds; the list also counts the calls."""
    made = wheel_bytes()
    wheel = wheels.PHOTOGRAPHS._replace(sha256=hashlib.sha256(made).hexdigest())
    monkeypatch.setattr(wheels, "PHOTOGRAPHS", wheel)
    brought = [made]

    def run(command, folder):
        assert command[:4] == [sys.executable, "-m", "pip", "download"] and command[-1] == "foolbox==3.3.4"
        assert "--no-deps" in command
        brought.append(brought[-1])
        if isinstance(brought[0], OSError):
            raise brought[0]
        (folder / wheel.file).write_bytes(brought[-1])

    monkeypatch.setattr(fetch, "run", run)
    return brought


def test_what_a_killed_process_left_is_cleared_away_after_an_hour(pip, tmp_path):
    (old := tmp_path / "wheels" / ".fetch-old").mkdir(parents=True)
    os.utime(old, (0, 0))
    wheels.opened(wheels.PHOTOGRAPHS, tmp_path).close()
    assert [path.name for path in (tmp_path / "wheels").iterdir()] == [wheels.PHOTOGRAPHS.file]


def test_fetched_once_and_read_without_import(pip, tmp_path, monkeypatch, capsys):
    x, y = photographs(tmp_path, side=28)
    assert "Fetching 20 labelled photographs of ImageNet (2 MB, at most 180 s) by pip ..." in capsys.readouterr().out
    assert x.shape == (2, 3, 28, 28) and x.dtype == torch.float32 and y.tolist() == [243, 7]
    assert x[0].mean((1, 2)).tolist() == pytest.approx([0, 0, 1], abs=0.02)
    assert "foolbox" not in sys.modules
    assert [path.name for path in (tmp_path / "wheels").iterdir()] == [wheels.PHOTOGRAPHS.file]

    def forbidden(*args, **kwargs):
        raise AssertionError("touched the network or started a process")

    for module, name in ((fetch, "run"), (socket, "socket"), (subprocess, "Popen")):
        monkeypatch.setattr(module, name, forbidden)
    assert torch.equal(photographs(tmp_path, side=28)[0], x)
    assert capsys.readouterr().out == ""


def test_the_middle_is_cut_out(pip, tmp_path, monkeypatch):
    """A photograph that is dark at both ends and light in the middle: only the middle is left."""
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[:, 32:96] = 255
    file, inside = io.BytesIO(), io.BytesIO()
    Image.fromarray(pixels).save(inside, "PNG")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("foolbox/data/imagenet_00_1.jpg", inside.getvalue())
    monkeypatch.setattr(
        wheels, "PHOTOGRAPHS", wheels.PHOTOGRAPHS._replace(sha256=hashlib.sha256(file.getvalue()).hexdigest())
    )
    pip.append(file.getvalue())
    x, _ = photographs(tmp_path, side=56)
    assert x.min() > 0.99


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: content[:-1] + b"!"])
def test_a_damaged_wheel_is_fetched_again(pip, tmp_path, damage, capsys):
    photographs(tmp_path)
    path = tmp_path / "wheels" / wheels.PHOTOGRAPHS.file
    good = path.read_bytes()
    path.write_bytes(damage(good))
    photographs(tmp_path)
    assert path.read_bytes() == good
    assert f"{path} is damaged or cut off: fetching it again" in capsys.readouterr().out


def test_another_file_than_the_known_one_is_refused(pip, tmp_path):
    pip.append(b"something else")
    with pytest.raises(DataUnavailable, match=r"could not be had: .*missing, or not of the known SHA-256"):
        photographs(tmp_path)
    assert list((tmp_path / "wheels").iterdir()) == []


def test_without_a_network_the_message_says_what_to_do(pip, tmp_path, capsys, monkeypatch):
    pip[0] = OSError("ERROR: no such host")
    with pytest.raises(DataUnavailable) as error:
        photographs(tmp_path)
    assert "not fetched (ERROR: no such host)" in str(error.value)
    assert f"run `python -m studylib.data --root {tmp_path}`" in str(error.value)
    assert list((tmp_path / "wheels").iterdir()) == []
    capsys.readouterr()
    monkeypatch.setattr(wheels, "WHEELS", (wheels.PHOTOGRAPHS,))
    monkeypatch.setattr("studylib.data.__main__._mnist", lambda root: "MNIST is there")
    assert main(["--root", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert said.out.startswith("MNIST is there\n") and said.err == f"{error.value}\n"


def test_the_command_fetches_the_wheels(pip, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(wheels, "WHEELS", (wheels.PHOTOGRAPHS,))
    monkeypatch.setattr("studylib.data.__main__._mnist", lambda root: "MNIST is there")
    assert main(["--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith(f"20 labelled photographs of ImageNet: in {tmp_path / 'wheels'}, checked\n")


def test_without_pip(tmp_path, monkeypatch):
    monkeypatch.setattr(wheels.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataUnavailable, match="pip is not installed"):
        photographs(tmp_path)


def test_ctrl_c_leaves_no_half_file(pip, tmp_path, monkeypatch):
    def interrupted(command, folder):
        (folder / wheels.PHOTOGRAPHS.file).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(fetch, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        photographs(tmp_path)
    assert list((tmp_path / "wheels").iterdir()) == []


def test_the_real_photographs():
    try:
        x, y = photographs(DATA)
    except DataUnavailable as error:
        if (DATA / "wheels" / wheels.PHOTOGRAPHS.file).exists() or "SHA-256" in str(error):
            raise
        pytest.skip(str(error))
    assert x.shape == (20, 3, 224, 224) and x.min() == 0 and x.max() == 1
    assert y.tolist() == [
        243, 559, 438, 990, 949, 853, 609, 609, 915, 455, 541, 630, 741, 471, 129, 99, 251, 22, 317, 305
    ]  # fmt: skip


class FakeCifar:
    """torchvision's CIFAR10 on a folder with one file: three training images and two test images."""

    def __init__(self, folder, train):
        if not os.path.exists(os.path.join(folder, fetch.CIFAR_FOLDER, "file")):
            raise RuntimeError("Dataset not found or corrupted.")
        n = 3 if train else 2
        self.data, self.targets = np.full((n, 32, 32, 3), 51, np.uint8), list(range(n))


@pytest.fixture
def torchvision(monkeypatch):
    import torchvision.datasets

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", FakeCifar)


def test_cifar10_is_fetched_once(torchvision, tmp_path, monkeypatch):
    asked = []

    def run(command, folder, seconds):
        asked.append((command[-1], seconds))
        (folder / fetch.CIFAR_FOLDER).mkdir()
        (folder / fetch.CIFAR_FOLDER / "file").touch()

    monkeypatch.setattr(fetch, "run", run)
    for _ in range(2):
        d = cifar10(tmp_path)
        assert isinstance(d, Dataset) and d.train_x.shape == (3, 3, 32, 32) and d.test_y.tolist() == [0, 1]
        assert torch.allclose(d.train_x, torch.tensor(0.2)) and d.train_y.dtype == torch.int64
    assert asked == [("CIFAR10", fetch.CIFAR_SECONDS)]


def test_cifar10_without_a_network(torchvision, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "TORCHVISION_DOWNLOAD", "import sys; sys.exit('error: no ' + sys.argv[1] + ' here')")
    with pytest.raises(DataUnavailable, match=r"could not be fetched \(error: no CIFAR10 here\)\. Only FAST = False"):
        cifar10(tmp_path)
