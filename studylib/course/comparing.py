"""The check below a gap in a notebook: compares what came out with what should, and says what was got and expected."""

import sys
from typing import Any

import numpy as np


def expect(got: Any, expected: Any, within: float = 0.0) -> None:
    """Raises AssertionError unless `got` is `expected`: numbers, arrays and tensors of one shape, to `within`.

    Its text says what was got and expected, and of arrays the first place at which they differ. Anything else is compared
    with ==.
    """
    __tracebackhide__ = True  # the reader's own line is what matters
    if got is None or got is Ellipsis:
        raise AssertionError(f"got nothing yet, expected {_shown(expected)}: is the gap filled?")
    if not _is_numeric(expected):
        if got != expected:
            raise AssertionError(f"got {_shown(got)}, expected {_shown(expected)}")
        return
    if not _is_numeric(got):
        raise AssertionError(f"got {_shown(got)}, expected {_shown(expected)}")
    mine, theirs = _array(got), _array(expected)
    if mine.shape != theirs.shape:
        raise AssertionError(f"got shape {mine.shape}, expected {theirs.shape}")
    with np.errstate(invalid="ignore"):
        wrong = ~((mine == theirs) | (np.abs(mine.astype(complex) - theirs) <= within))
    if not wrong.any():
        return
    place = tuple(int(i) for i in np.argwhere(wrong)[0])
    where = f" at {place}" if place else ""
    several = f" ({wrong.sum()} of {wrong.size} elements differ)" if wrong.size > 1 else ""
    raise AssertionError(f"got {mine[place]}{where}, expected {theirs[place]}{several}")


def _is_numeric(value: Any) -> bool:
    return _array(value).dtype.kind in "biufc"


def _array(value: Any) -> np.ndarray:
    if (torch := sys.modules.get("torch")) and isinstance(value, torch.Tensor):
        return value.detach().cpu().numpy()
    try:
        return np.asarray(value)
    except ValueError:  # lists of different lengths
        return np.asarray(value, dtype=object)


def _shown(value: Any) -> str:
    if _is_numeric(value) and _array(value).size > 8:
        return f"numbers of shape {_array(value).shape}"
    text = str(_array(value).tolist() if _is_numeric(value) else value)
    return text if len(text) <= 200 else text[:200] + "..."
