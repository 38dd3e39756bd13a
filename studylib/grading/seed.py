"""From where a submission's inputs are drawn: a key that only the grader has, so that no file can be made to fit them."""

from __future__ import annotations

import hmac
import os
import secrets
from contextvars import ContextVar
from pathlib import Path

import numpy as np

from studylib.kernels.stubs import EXERCISES

OWN = EXERCISES / ".study.seed"  # of this clone, for `study check`
BYTES = 32
_place: ContextVar[Path] = ContextVar("place", default=OWN)


def keep_in(path: Path = OWN) -> None:
    """Takes the key from this file from now on, and in every process that is forked after."""
    _place.set(path)


def key() -> bytes:
    """The key in its file; makes both if there is none. Raises ValueError for a file that holds something else."""
    path = _place.get()
    if not path.exists():
        _make(path)
    found = path.read_text(encoding="ascii", errors="replace").strip()
    if len(found) != 2 * BYTES or set(found) - set("0123456789abcdef"):
        raise ValueError(
            f"{path} does not hold a key of {2 * BYTES} hexadecimal digits: delete it, and a new one is made"
        )
    return bytes.fromhex(found)


def _make(path: Path) -> None:
    """Writes a key as a whole or not at all; where two begin at once, the first one's stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(secrets.token_hex(BYTES) + "\n", encoding="ascii")
    beside.chmod(0o600)
    try:
        os.link(beside, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        os.replace(beside, path)
    beside.unlink(missing_ok=True)


def draws(digest: str) -> np.random.Generator:
    """What a submission's inputs and sizes are drawn from: the same for the same text and key."""
    return np.random.default_rng(int.from_bytes(hmac.digest(key(), digest.encode(), "sha256"), "big"))
