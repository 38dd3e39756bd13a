"""How far a float32 result may lie from the exact one: the standard bounds, from which each exercise's follows.

Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition: sections 2.2 (the unit roundoff), 3.1 (n roundings
one after the other change a number by a factor of at most 1 + gamma(n); a sum of products of n pairs is, in any order,
wrong by at most gamma(n) times the sum of the absolute values) and 4.2 (the same for sums).
"""

from __future__ import annotations

from typing import Any

UNIT = 2.0**-24  # the greatest relative error of one float32 operation
# Of float32's exp, in roundings: CUDA's Programming Guide, Mathematical Functions, gives expf an error of at most 2
# units in the last place, NumPy's vectorised one has at most 3. A unit in the last place is two roundings.
EXP = 6


def gamma(roundings: Any) -> Any:
    """The relative error that so many roundings (a number or an array) make at most."""
    return roundings * UNIT / (1 - roundings * UNIT)
