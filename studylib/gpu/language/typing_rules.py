"""Numba's typing rules for numbers: which type an operation has, and what it computes.

A value of a kernel is a NumPy scalar while it is the same in all threads, or a vector with one element per
thread. The rules are those of Numba-CUDA and differ from NumPy's: integers are computed in 64 bits, signed
if either side is; a float literal is float64; float32 with an integer of 16 bits or fewer (not uint16) stays
float32, with a wider one it is float64.
"""

from __future__ import annotations

import ast
from functools import lru_cache

import numpy as np

BOOL, INT32, INT64, UINT64 = (np.dtype(t) for t in ("?", "i4", "i8", "u8"))
FLOAT16, FLOAT32, FLOAT64 = (np.dtype(t) for t in ("f2", "f4", "f8"))
SMALL = frozenset(np.dtype(t) for t in ("?", "i1", "u1", "i2"))  # integers that Numba takes to fit a float32
DTYPES = frozenset(np.dtype(t) for t in ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"])

BINARY = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.true_divide,
    ast.FloorDiv: np.floor_divide,
    ast.Mod: np.remainder,
    ast.BitAnd: np.bitwise_and,
    ast.BitOr: np.bitwise_or,
    ast.BitXor: np.bitwise_xor,
    ast.LShift: np.left_shift,
    ast.RShift: np.right_shift,
}
COMPARE = {
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
}
BITWISE = (ast.BitAnd, ast.BitOr, ast.BitXor)
SHIFTS = (ast.LShift, ast.RShift)


class Literal(np.int64):
    """An integer that Numba knows while compiling; arithmetic with it gives a plain int64."""


def constant(value):
    """A Python constant as a value of the kernel; raises TypeError for what a kernel cannot hold."""
    if isinstance(value, bool | np.bool_):
        return np.bool_(value)
    if isinstance(value, np.generic) and value.dtype in DTYPES:
        return value
    if isinstance(value, int):
        if -(2**63) <= value < 2**63:
            return Literal(value)
        if value < 2**64:
            return np.uint64(value)
        raise TypeError(f"the integer {value} needs more than 64 bits")
    if isinstance(value, float):
        return np.float64(value)
    if isinstance(value, tuple):
        return tuple(constant(v) for v in value)
    raise TypeError(f"a kernel cannot hold a {type(value).__name__}")


def as_dtype(kind) -> np.dtype | None:
    """The dtype that a NumPy type, a dtype or a Numba type (float32, numba.types.int8) stands for, else None."""
    if isinstance(kind, np.dtype):
        return kind if kind in DTYPES else None
    if isinstance(kind, type):
        found = np.dtype(kind) if issubclass(kind, np.generic) else None
        return found if found in DTYPES else None
    if type(kind).__module__.startswith("numba"):
        name = {"boolean": "bool"}.get(str(kind), str(kind))
        return next((d for d in DTYPES if d.name == name), None)
    return None


def cast(value, dtype: np.dtype):
    """The value in another type, as a cast in a kernel does it; unchanged if it has the type already."""
    if value.dtype == dtype:
        return value
    return _integer_of_float(value, dtype) if value.dtype.kind == "f" and dtype.kind in "iu" else value.astype(dtype)


def _integer_of_float(value, dtype: np.dtype):
    # The GPU cuts to the range of the type; NumPy does what the processor does. Numba converts to 16 bits where the
    # type has 8, and keeps the lower half.
    info = np.iinfo(dtype)
    if value.size == 0 or (value.min() > info.min and value.max() < info.max):
        return value.astype(dtype)
    wide = np.dtype(f"{dtype.kind}2") if dtype.itemsize == 1 else dtype
    info = np.iinfo(wide)
    low, high = value <= info.min, value >= float(info.max)
    result = np.where(low | high | np.isnan(value), 0, value).astype(wide)
    result = np.where(low, wide.type(info.min), np.where(high, wide.type(info.max), result))
    if value.dtype == FLOAT64 or wide.itemsize == 8:  # else a NaN gives 0
        top_bit = np.array(1 << (8 * wide.itemsize - 1), np.uint64).astype(wide)
        result = np.where(np.isnan(value), top_bit, result)
    return result.astype(dtype)[()]


def truth(value):
    """The value as a condition: anything but 0 is true."""
    return value if value.dtype == BOOL else value != 0


def unify(a: np.dtype, b: np.dtype) -> np.dtype:
    """The type of a variable that is `a` on one path and `b` on another."""
    return a if a == b else np.promote_types(a, b)


def _no_float16(*dtypes: np.dtype) -> None:
    if FLOAT16 in dtypes:
        raise TypeError("float16 values are only loaded and stored here: convert them with float32(x) first")


def float_of(*dtypes: np.dtype) -> np.dtype:
    """The float type that holds all of them: float32 if each is a float32 or a small integer."""
    _no_float16(*dtypes)
    return FLOAT32 if all(d == FLOAT32 or d in SMALL for d in dtypes) else FLOAT64


def integer_of(*dtypes: np.dtype) -> np.dtype:
    """The 64-bit type in which integers of these types are computed."""
    return UINT64 if all(d.kind == "u" for d in dtypes) else INT64


@lru_cache(maxsize=1024)
def rule(name: str, a: np.dtype, b: np.dtype):
    """The NumPy function for an operator and the type that its operands are cast to."""
    operator = getattr(ast, name)
    _no_float16(a, b)
    function = BINARY[operator]
    if "f" in (a.kind, b.kind):
        if operator in BITWISE + SHIFTS:
            raise TypeError(f"bit operations need integers, got {a.name} and {b.name}")
        common = float_of(a, b)
    elif operator is ast.Div:
        common = FLOAT64
    elif operator in BITWISE and a == b == BOOL:
        common = BOOL
    elif operator in SHIFTS:
        common = integer_of(a)
    else:
        common = integer_of(a, b)
    return function, common


def result(function, common: np.dtype) -> np.dtype:
    """The type of what a function of `rule` gives."""
    return function(np.ones(0, common), np.ones(0, common)).dtype


def binary(operator: type[ast.operator], a, b):
    """`a operator b` with Numba's types; raises TypeError where Numba has no such operation."""
    if operator is ast.Pow:
        return power(a, b)
    if operator not in BINARY:
        raise TypeError(f"the operator {operator.__name__} does not exist for numbers")
    function, common = rule(operator.__name__, a.dtype, b.dtype)
    return function(cast(a, common), cast(b, common))


def compare(operator: type[ast.cmpop], a, b):
    """`a operator b` as a bool; signed and unsigned integers compare by value."""
    _no_float16(a.dtype, b.dtype)
    return COMPARE[operator](a, b)


def unary(operator: type[ast.unaryop], a):
    """`-a`, `+a`, `~a` or `not a` with Numba's types; integers are changed first and widened then."""
    if operator is ast.Not:
        return np.logical_not(truth(a))
    if operator is ast.Invert:
        if a.dtype.kind == "f":
            raise TypeError("~ needs an integer")
        return np.logical_not(a) if a.dtype == BOOL else cast(np.invert(a), integer_of(a.dtype))
    _no_float16(a.dtype)
    if a.dtype == BOOL:
        a = cast(a, INT64)
    changed = np.negative(a) if operator is ast.USub else a
    return changed if a.dtype.kind == "f" else cast(changed, integer_of(a.dtype))


def power(a, b):
    """`a ** b`: an integer for two integers, float32 for float32 with any integer."""
    _no_float16(a.dtype, b.dtype)
    if BOOL in (a.dtype, b.dtype):
        raise TypeError("** needs numbers, got a bool")
    if "f" not in (a.dtype.kind, b.dtype.kind):
        common = integer_of(a.dtype, b.dtype)
        return _integer_power(cast(a, common), cast(b, common))
    if b.dtype.kind == "f":
        common = float_of(a.dtype, b.dtype)
        return np.power(cast(a, common), cast(b, common))
    if isinstance(b, Literal) and abs(b) < 0x10000:
        return _literal_power(a, int(b))
    return np.power(a, cast(b, a.dtype))


def _literal_power(a, exponent: int):
    # Numba writes a literal exponent out as products; np.power would round differently.
    result, square, left = None, a, abs(exponent)
    while left:
        if left & 1:
            result = square if result is None else square * result
        left >>= 1
        if left:
            square = square * square
    if result is None:
        return np.ones_like(a)[()]
    return cast(a.dtype.type(1) / result, a.dtype) if exponent < 0 else result


def _integer_power(a, b):
    if b.dtype == UINT64 or np.all(b >= 0):
        return np.power(a, b)
    positive = np.power(a, np.maximum(b, 0))
    odd = (b & 1).astype(bool)
    inverse = np.where(a == 1, 1, np.where(a == -1, np.where(odd, -1, 1), 0))
    inverse = np.where(a == 0, np.iinfo(np.int64).min, inverse)  # 1 / 0, as Numba's division gives it
    return np.where(b < 0, inverse, positive)[()]


def absolute(a):
    """`abs(a)`, in the type of `a`."""
    _no_float16(a.dtype)
    if a.dtype == BOOL:
        raise TypeError("abs() needs a number, got a bool")
    return np.abs(a)


def rounded(a, digits=None):
    """`round(a)`: the nearest int64, halves to even; `round(a, digits)`: a float of the type of `a`."""
    _no_float16(a.dtype)
    if digits is None:
        return cast(np.rint(a), INT64) if a.dtype.kind == "f" else cast(a, INT64)
    if a.dtype.kind != "f" or digits.dtype.kind == "f":
        raise TypeError("round(x, digits) needs a float and an integer")
    scale = np.float64(10.0) ** np.abs(digits)
    shifted = np.where(digits >= 0, a * scale, a / scale)
    whole = np.rint(shifted)
    result = np.where(np.isfinite(shifted), np.where(digits >= 0, whole / scale, whole * scale), a)
    return result.astype(a.dtype)[()]


def to_int(a):
    """`int(a)`: integers keep their type, as in Numba."""
    return a if a.dtype.kind in "iu" else cast(a, INT64)


def to_float(a):
    """`float(a)`: float32 stays float32, as in Numba."""
    if a.dtype == BOOL:
        raise TypeError("float() of a bool does not exist in a kernel; write float32(x)")
    return a if a.dtype.kind == "f" else cast(a, FLOAT64)


def extreme(values, smallest: bool):
    """`min(...)` or `max(...)` in the common type; a NaN loses against a number, as on the GPU."""
    dtypes = [v.dtype for v in values]
    _no_float16(*dtypes)
    if BOOL in dtypes:
        raise TypeError("min() and max() need numbers, got a bool")
    result = values[0]
    for value in values[1:]:
        common = unify(result.dtype, value.dtype)
        result = (np.fmin if smallest else np.fmax)(cast(result, common), cast(value, common))
    return result


def range_dtype(dtypes: list[np.dtype]) -> np.dtype:
    """The type of the variable of `for i in range(...)`."""
    if any(d.kind == "f" for d in dtypes):
        raise TypeError("range() needs integers, got " + " and ".join(d.name for d in dtypes))
    if all(d.kind == "u" for d in dtypes):
        return UINT64
    if UINT64 in dtypes or (BOOL in dtypes and len(set(dtypes)) > 1):
        raise TypeError("range() of mixed types is not supported: convert them with int64(x)")
    return INT64 if any(d.itemsize == 8 or d == np.dtype("u4") for d in dtypes) else INT32
