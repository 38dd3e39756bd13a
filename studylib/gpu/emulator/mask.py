"""Which threads are live: a Mask has one lane per thread of the blocks that run together."""

from __future__ import annotations

from functools import cached_property

import numpy as np


class Mask:
    """The lanes that take part in a statement; never changed once made."""

    def __init__(self, lanes: np.ndarray):
        self.lanes = lanes
        self.count = int(np.count_nonzero(lanes))
        self.any = self.count > 0
        self.full = self.count == lanes.size
        self.warps: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None  # the machine's view of it

    def where(self, condition: np.ndarray) -> Mask:
        """The lanes where the condition holds."""
        holds = Mask(self.lanes & condition)
        return self if holds.count == self.count else holds

    def split(self, condition: np.ndarray) -> tuple[Mask, Mask]:
        """The lanes where the condition holds, and the others."""
        holds = self.where(condition)
        if holds is self:
            return self, self.none
        return holds, Rest(self, holds) if holds.any else self

    def union(self, other: Mask) -> Mask:
        if not other.any:
            return self
        return Mask(self.lanes | other.lanes) if self.any else other

    def covers(self, other: Mask) -> bool:
        """Whether this mask, a part of the other, is all of it."""
        return self.count == other.count

    @cached_property
    def none(self) -> Mask:
        """The empty mask."""
        return Mask(np.zeros_like(self.lanes))

    @cached_property
    def indices(self) -> np.ndarray:
        """The numbers of the live lanes, rising."""
        return np.flatnonzero(self.lanes)

    def take(self, values) -> np.ndarray:
        """The live lanes' elements of a vector, or of a scalar that all share."""
        if np.ndim(values) == 0:
            return np.full(self.count, values)
        return values if self.full else values[self.lanes]


class Rest(Mask):
    """The lanes of a mask outside a part of it, worked out only where somebody asks for them."""

    def __init__(self, whole: Mask, part: Mask):
        self._whole, self._part = whole, part
        self.count = whole.count - part.count
        self.any, self.full, self.warps = self.count > 0, False, None

    @cached_property
    def lanes(self) -> np.ndarray:  # type: ignore[override]
        return self._whole.lanes & ~self._part.lanes
