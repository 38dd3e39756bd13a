"""The functions of `math` that a kernel can call, on vectors, with Numba's result types."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from studylib.gpu.language.typing_rules import FLOAT32, FLOAT64, INT32, INT64, cast, float_of
from studylib.words import counted

_UNARY: dict[Callable, Callable] = {
    math.acos: np.arccos,
    math.acosh: np.arccosh,
    math.asin: np.arcsin,
    math.asinh: np.arcsinh,
    math.atan: np.arctan,
    math.atanh: np.arctanh,
    math.ceil: np.ceil,
    math.cos: np.cos,
    math.cosh: np.cosh,
    math.degrees: np.degrees,
    math.exp: np.exp,
    math.exp2: np.exp2,
    math.expm1: np.expm1,
    math.fabs: np.abs,
    math.floor: np.floor,
    math.log: np.log,
    math.log10: np.log10,
    math.log1p: np.log1p,
    math.log2: np.log2,
    math.radians: np.radians,
    math.sin: np.sin,
    math.sinh: np.sinh,
    math.sqrt: np.sqrt,
    math.tan: np.tan,
    math.tanh: np.tanh,
    math.trunc: np.trunc,
}
_TESTS: dict[Callable, Callable] = {math.isnan: np.isnan, math.isinf: np.isinf, math.isfinite: np.isfinite}
_BINARY: dict[Callable, Callable] = {
    math.atan2: np.arctan2,
    math.copysign: np.copysign,
    math.fmod: np.fmod,
    math.hypot: np.hypot,
}


def _by_element(function: Callable[[float], float]) -> Callable:
    def guarded(x: float) -> float:
        try:
            return function(x)
        except OverflowError:
            return math.copysign(math.inf, x)
        except ValueError:  # at a pole
            if function is math.lgamma:
                return math.inf
            return math.copysign(math.inf, x) if x == 0 else math.nan

    def apply(values):
        return np.vectorize(guarded, otypes=[np.float64])(values).astype(values.dtype)[()]

    return apply


for _function in (math.erf, math.erfc, math.gamma, math.lgamma):  # NumPy has none of these
    _UNARY[_function] = _by_element(_function)

FUNCTIONS = frozenset([*_UNARY, *_TESTS, *_BINARY, math.pow])


def apply(function: Callable, arguments: list):
    """`function(*arguments)` for a function of FUNCTIONS; raises TypeError for arguments that Numba refuses."""
    name = f"math.{function.__name__}"
    expected = 2 if function in _BINARY or function is math.pow else 1
    if len(arguments) != expected:
        raise TypeError(f"{name} takes {counted(expected, 'argument')} in a kernel, got {len(arguments)}")
    if function is math.pow:
        return _pow(*arguments)
    if function in _BINARY:
        a, b = arguments
        common = _binary_dtype(function, a.dtype, b.dtype)
        return _BINARY[function](cast(a, common), cast(b, common))
    (a,) = arguments
    if function in _TESTS:
        return _TESTS[function](a)
    return _UNARY[function](a if a.dtype.kind == "f" and float_of(a.dtype) else cast(a, FLOAT64))


def fma(a, b, c):
    """`a * b + c`, rounded once."""
    common = float_of(a.dtype, b.dtype, c.dtype)
    a, b, c = (cast(v, FLOAT64) for v in (a, b, c))
    if common == FLOAT32:  # the product is exact in float64
        return cast(_to_odd(*_two_sum(a * b, c)), FLOAT32)
    # Boldo and Melquiond, Emulation of FMA and correctly rounded sums, 2008
    high, low = _two_product(a, b)
    sum_high, sum_low = _two_sum(c, low)
    top, rest = _two_sum(high, sum_high)
    result = top + _to_odd(*_two_sum(sum_low, rest))
    return np.where(np.isfinite(result), result, a * b + c)[()]


def _two_sum(a, b):
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _two_product(a, b):
    def split(x):
        high = x * 134217729.0  # 2**27 + 1
        high = high - (high - x)
        return high, x - high

    product = a * b
    (a_high, a_low), (b_high, b_low) = split(a), split(b)
    return product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


def _to_odd(total, error):
    # Of the two floats around an inexact sum the one with an odd last bit: rounding it again then rounds right.
    even = np.asarray(total).view(np.int64) & 1 == 0
    moved = np.nextafter(total, np.where(error > 0, np.inf, -np.inf))
    return np.where(even & (error != 0) & np.isfinite(error), moved, total)[()]


def _binary_dtype(function: Callable, a: np.dtype, b: np.dtype) -> np.dtype:
    common = float_of(a, b)
    if function in (math.atan2, math.hypot) and "f" not in (a.kind, b.kind):
        return FLOAT64
    return common


def _pow(a, b):
    types = {a.dtype, b.dtype}
    if not types <= {INT32, INT64, FLOAT32, FLOAT64, np.dtype("u4"), np.dtype("u8")}:
        raise TypeError("math.pow needs floats or integers of 32 or 64 bits: convert its arguments")
    result = FLOAT32 if a.dtype == FLOAT32 and b.dtype in (FLOAT32, INT32) else FLOAT64
    return np.power(cast(a, result), cast(b, result))
