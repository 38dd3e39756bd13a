"""What a name can hold besides a number: a value that only some lanes have set, or two that do not fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from studylib.gpu.language.typing_rules import cast

CONFLICT: Any = type("Conflict", (), {"__repr__": lambda self: "CONFLICT"})()  # of different kinds on different paths


@dataclass(eq=False)
class Partial:
    """A variable that only the lanes `lanes` (a bool vector) have set."""

    value: Any
    lanes: np.ndarray


def is_number(value) -> bool:
    """A uniform scalar or a vector with one element per lane."""
    return isinstance(value, np.generic | np.ndarray)


def convert(value, dtype):
    """The value in the type that the inference found: a dtype, a tuple of them, or None for anything else."""
    if isinstance(value, Partial):
        return Partial(convert(value.value, dtype), value.lanes)
    if isinstance(dtype, np.dtype):
        return cast(value, dtype)
    if isinstance(dtype, tuple):
        return tuple(convert(v, d) for v, d in zip(value, dtype, strict=True))
    return value
