"""From where a submission's inputs are drawn: a key that only the grader has, so that no file can be made to fit them."""

from __future__ import annotations

import hmac
import secrets
from contextvars import ContextVar
from pathlib import Path

import numpy as np

from studylib import files
from studylib.errors import StudyError
from studylib.files import EXERCISES

OWN = EXERCISES / ".study.seed"  # of this clone, for `study check`
BYTES = 32
_place: ContextVar[Path] = ContextVar("place", default=OWN)


def keep_in(path: Path = OWN) -> None:
    """Takes the key from this file from now on, and in every process that is forked after."""
    _place.set(path)


def key() -> bytes:
    """The key in its file; makes both if there is none. Raises StudyError for a file that holds something else."""
    path = _place.get()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        files.create(path, secrets.token_hex(BYTES) + "\n")
    found = path.read_text(encoding="ascii", errors="replace").strip()
    if len(found) != 2 * BYTES or set(found) - set("0123456789abcdef"):
        raise StudyError(
            f"{path} does not hold a key of {2 * BYTES} hexadecimal digits: delete it, and a new one is made"
        )
    return bytes.fromhex(found)


def draws(digest: str) -> np.random.Generator:
    """What a submission's inputs and sizes are drawn from: the same for the same text and key."""
    return np.random.default_rng(int.from_bytes(hmac.digest(key(), digest.encode(), "sha256"), "big"))
