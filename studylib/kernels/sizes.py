"""Draws the sizes of cases that no kernel can be written for: primes, which no block and no tile divides."""

from __future__ import annotations

import numpy as np


def prime(rng: np.random.Generator, low: int, high: int, other_than: int = 0) -> int:
    """A prime from low to high, both of them included."""
    found = [
        n for n in range(max(low, 2), high + 1) if n != other_than and all(n % d for d in range(2, int(n**0.5) + 1))
    ]
    return int(rng.choice(found))


def number(rng: np.random.Generator, low: int, high: int, other_than: int = 0) -> int:
    """Any number from low to high, both of them included."""
    return int(rng.choice([n for n in range(low, high + 1) if n != other_than]))
