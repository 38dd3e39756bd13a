"""Atomic operations on a vector of addresses: each lane in turn, with the value that it found before its own."""

from __future__ import annotations

import numpy as np

_UFUNCS: dict[str, np.ufunc] = {
    "add": np.add,
    "sub": np.subtract,
    "max": np.maximum,
    "min": np.minimum,
    "and_": np.bitwise_and,
    "or_": np.bitwise_or,
    "xor": np.bitwise_xor,
}
OPERATIONS = frozenset([*_UFUNCS, "exch", "cas"])
_INTEGERS = ["i4", "u4", "i8", "u8"]
_MANY = 16  # addresses hit more often than this are worked off one by one


def check_dtype(operation: str, dtype: np.dtype) -> None:
    """Raises TypeError where Numba has no such atomic operation on arrays of this type."""
    floats = ["f4", "f8"] if operation in ("add", "sub", "max", "min") else []
    allowed = [np.dtype(t) for t in _INTEGERS + floats]
    if dtype not in allowed:
        names = ", ".join(d.name for d in allowed)
        raise TypeError(f"cuda.atomic.{operation} works on arrays of {names}, not of {dtype.name}")


def apply(operation: str, data: np.ndarray, cells: np.ndarray, operands: list[np.ndarray], needs_old: bool):
    """Does the operation at `cells` of `data`, lane after lane; returns the old values, or None if not needed.

    data, cells and operands are vectors; the operands have the type of the data.
    """
    if operation == "cas":
        return _compare_and_swap(data, cells, *operands)
    (values,) = operands
    if operation in ("max", "min") and data.dtype.kind == "f":
        # A NaN operand changes nothing, a NaN in memory stays: the GPU replaces only what compares smaller (larger).
        values = np.where(np.isnan(values), -np.inf if operation == "max" else np.inf, values).astype(data.dtype)
    if operation != "exch" and not needs_old:
        _UFUNCS[operation].at(data, cells, values)
        return None
    return _with_old_values(operation, data, cells, values)


class _Groups:
    """The lanes sorted by address: which address each has, and its rank among the lanes of that address."""

    def __init__(self, cells: np.ndarray):
        self.order = np.argsort(cells, kind="stable")
        ordered = cells[self.order]
        new = np.ones(len(cells), bool)
        new[1:] = ordered[1:] != ordered[:-1]
        self.starts = np.flatnonzero(new)
        self.cells = ordered[self.starts]
        self.counts = np.diff(np.append(self.starts, len(cells)))
        self.group = np.cumsum(new) - 1
        self.rank = np.arange(len(cells)) - self.starts[self.group]


def _with_old_values(operation: str, data: np.ndarray, cells: np.ndarray, values: np.ndarray) -> np.ndarray:
    groups = _Groups(cells)
    ordered = values[groups.order]
    old = np.empty(len(cells), data.dtype)
    few = groups.counts <= _MANY
    if few.any():
        lanes = np.flatnonzero(few[groups.group])
        row = (np.cumsum(few) - 1)[groups.group[lanes]]
        steps = np.zeros((int(few.sum()), int(groups.counts[few].max()) + 1), data.dtype)
        steps[:, 0] = data[groups.cells[few]]
        steps[row, groups.rank[lanes] + 1] = ordered[lanes]
        done = _run(operation, steps)
        old[lanes] = done[row, groups.rank[lanes]]
        data[groups.cells[few]] = done[np.arange(len(done)), groups.counts[few]]
    for number in np.flatnonzero(~few):
        start, cell = groups.starts[number], groups.cells[number]
        end = start + groups.counts[number]
        done = _run(operation, np.concatenate([data[cell : cell + 1], ordered[start:end]])[None])[0]
        old[start:end] = done[:-1]
        data[cell] = done[-1]
    result = np.empty_like(old)
    result[groups.order] = old
    return result


def _run(operation: str, steps: np.ndarray) -> np.ndarray:
    # (addresses, 1 + lanes): the value in memory, then what each lane brings; out: the value after each.
    if operation == "exch":
        return steps
    return _UFUNCS[operation].accumulate(steps, axis=1, dtype=steps.dtype)


def _compare_and_swap(data: np.ndarray, cells: np.ndarray, expected: np.ndarray, new: np.ndarray) -> np.ndarray:
    groups = _Groups(cells)
    by_rank = np.argsort(groups.rank, kind="stable")
    ends = np.cumsum(np.bincount(groups.rank))
    old = np.empty(len(cells), data.dtype)
    first = 0
    for end in ends:
        lanes = groups.order[by_rank[first:end]]  # one lane for each address
        at = cells[lanes]
        old[lanes] = data[at]
        data[at] = np.where(old[lanes] == expected[lanes], new[lanes], old[lanes])
        first = end
    return old
