"""What the emulator does not run it names, with file, line and source, before anything is written."""

import math
import re

import numpy as np
import pytest
from numba import cuda, float32, int32
from random_kernels import define

from studylib import gpu

T = 8
TABLE = np.arange(6.0).reshape(2, 3)
NAMES = {"cuda": cuda, "float32": float32, "int32": int32, "math": math, "np": np, "T": T, "TABLE": TABLE}


@cuda.jit(device=True)
def sometimes(x):
    if x > 1:
        return x


@cuda.jit(device=True)
def itself(x):
    return itself(x - 1)


@cuda.jit(device=True)
def starred(*x):
    return x[0]


@cuda.jit(device=True)
def plus(x, y):
    return x + y


@cuda.jit(device=True)
def row(m):
    return m[0]


@cuda.jit(device=True)
def declared(n):
    s = cuda.local.array(2, float32)
    s[0] = n
    return s


def plain(x):
    return x


NAMES |= {"row": row, "declared": declared}
NAMES |= {"sometimes": sometimes, "itself": itself, "starred": starred, "plus": plus, "plain": plain}

# (statement, part of the message); a is a float32 vector, m a float32 matrix, h a float16 vector, n an int, t the thread
CONSTRUCTS = [
    ("x = [1, 2]", "a list is not supported"),
    ("x = {1: 2}", "a dict is not supported"),
    ("x = [v for v in (1, 2)]", "a comprehension is not supported"),
    ("x = lambda v: v", "lambda is not supported"),
    ("x = f'{n}'", "an f-string is not supported"),
    ("x = 'text'", None),
    ("x = None", "constant None is not supported"),
    ("x = 1j", "constant 1j is not supported"),
    ("x = 2**70", "constant 1180591620717411303424 is not supported"),
    ("x = T ** 70000000000000000000", "constant 70000000000000000000 is not supported"),
    ("x = int(1, 2)", "wrong number of arguments"),
    ("x = min(n)", "wrong number of arguments"),
    ("x = float32(1, 2)", "float32 takes one argument"),
    ("x = math.atan2(1.0)", "math.atan2 takes 2 arguments in a kernel, got 1"),
    ("x: int = 3", "an annotated assignment is not supported"),
    ("if (x := n) > 1: a[0] = x", "an assignment in an expression"),
    ("def inner(v): return v", "a function inside a kernel"),
    ("with a: pass", "with is not supported"),
    ("assert n > 1", "assert is not supported"),
    ("raise ValueError", "raise is not supported"),
    ("del n", "del is not supported"),
    ("import math", "import is not supported"),
    ("global T", "global is not supported"),
    ("try:\n        pass\n    finally:\n        pass", "try is not supported"),
    ("for v in a: pass", "a for loop runs over range"),
    ("for v in (1, 2.5): a[0] = v", "must have one type"),
    ("for v in (1, 2): x = cuda.local.array(v, float32)", "the shape v is not a constant"),
    ("for v in range(2.5): pass", "range() needs integers"),
    ("for v in range(3):\n        pass\n    else:\n        pass", "else after a loop"),
    ("while n > 1:\n        n -= 1\n    else:\n        pass", "else after a loop"),
    ("for v in enumerate((1, 2)): pass", "a kernel cannot call enumerate"),
    ("a[0] = sum((1, 2))", "a kernel cannot call sum"),
    ("a[0] = np.sqrt(2.0)", "a kernel cannot call np.sqrt"),
    ("a[0] = math.gcd(2, 4)", "a kernel cannot call math.gcd"),
    ("a[0] = plain(1)", "plain is a plain function"),
    ("a[0] = sometimes(n)", "returns a value on some paths only"),
    ("a[0] = itself(n)", "itself calls itself"),
    ("a[0] = starred(n)", "takes *args"),
    ("a[0] = plus(n)", "plus takes 2 arguments (x, y) in order, got 1"),
    ("a[0] = plus(n, y=2)", "plus takes 2 arguments"),
    ("a[0] = missing", "the name missing is not defined"),
    ("a[0] = a.T[0]", "the attribute a.T is not supported"),
    ("a[0] = a", "only a number can be stored, in one element"),
    ("a[0] = n[0]", "n is a number"),
    ("x = m[0, :]", "slices are not supported"),
    ("x = a[1:3]", "slices are not supported"),
    ("m[0] = 1.0", "only a number can be stored, in one element"),
    ("a[0, 0] = 1.0", "a has 1 dimension and is used with 2 indices"),
    ("TABLE[0, 0] = 1.0", "TABLE is constant or read-only"),
    ("x, y = 1, 2, 3", "3 values cannot be unpacked into 2 names"),
    ("x, y = n", "only a tuple can be unpacked"),
    ("x = (1, 2.5)[n]", "must have one type"),
    ("x = 1.0\n    if n > 1:\n        x = a\n    a[0] = x", "x is of a different kind depending on the path"),
    ("x = n is n", "in and is are not supported"),
    ("x = n in (1, 2)", "in and is are not supported"),
    ("x = 1.5 & n", "bit operations need integers"),
    ("x = ~(n / 2)", "~ needs an integer"),
    ("a[0] = h[0] * 2", "float16 values are only loaded and stored"),
    ("a[0] = -h[0]", "float16 values are only loaded and stored"),
    ("a[0] = min(h[0], h[1])", "float16 values are only loaded and stored"),
    ("a[0] = math.sqrt(h[0])", "float16 values are only loaded and stored"),
    ("a[0] = n if h[0] < 1 else 2", "float16 values are only loaded and stored"),
    ("a[0] = abs(n > 1)", "got a bool"),
    ("return n", "a kernel cannot return a value"),
    ("s = cuda.shared.array(T + 1, float32)", "the shape T + 1 is not a constant"),
    ("s = cuda.shared.array(n, float32)", "the shape n is not a constant"),
    ("s = cuda.local.array(a.size, float32)", "the shape a.size is not a constant"),
    ("s = cuda.shared.array(8, n)", "n is no type that an array can have"),
    ("s = cuda.shared.array(8)", "takes a shape and a dtype"),
    ("s = cuda.local.array(0, float32)", "not possible here"),
    ("x = cuda.grid(n)", "takes the constant 1, 2 or 3"),
    ("x = cuda.grid(4)", "takes the constant 1, 2 or 3"),
    ("cuda.nanosleep(5)", "cuda.nanosleep is not supported by the emulator; it has all_sync"),
    ("x = cuda.activemask()", "cuda.activemask is not supported"),
    ("x = cuda.blockIdx.w", "cuda.blockIdx.w is not supported"),
    ("x = cuda.syncthreads_count(n > 1)", "takes an integer as predicate, got bool; write int32(...)"),
    ("x = cuda.shfl_sync(0xFFFFFFFF, n > 1, 0)", "moves int32, int64, float32 and float64"),
    ("x = cuda.shfl_sync(0xFFFFFFFF, n)", "takes 3 arguments"),
    ("x = cuda.popc(2.5)", "takes an integer of 32 or 64 bits"),
    ("x = cuda.fma(1, 2, 3)", "cuda.fma takes three floats"),
    ("a[0] = row(m)[0]", "row returns an array that is not one of its arguments"),
    ("a[0] = declared(n)[0]", "declared returns an array that is not one of its arguments"),
    ("x = cuda.selp(n, 2, 3)", "cuda.selp takes a bool first, got int64"),
    ("x = cuda.selp(n > 1, 2, 2.5)", "two values of one type"),
    ("cuda.atomic.add(h, 0, 1)", "cuda.atomic.add works on arrays of int32"),
    ("cuda.atomic.and_(a, 0, 1)", "cuda.atomic.and_ works on arrays of int32"),
    ("cuda.atomic.add(m, 0, 1)", "m has 2 dimensions, and is indexed with 1"),
    ("cuda.atomic.add(TABLE, (0, 0), 1)", "atomics work in global and shared memory"),
    ("cuda.atomic.add(a, 0)", "takes 3 arguments"),
]


@pytest.mark.parametrize("statement, message", CONSTRUCTS, ids=[s for s, _ in CONSTRUCTS])
def test_construct(statement, message):
    source = (
        f"def kernel(a, m, h, n):\n    t = cuda.grid(1)\n    a[t] = 1\n    if n == 77:\n        pass\n    {statement}\n"
    )
    if "'text'" in statement:
        source += "    a[0] = x\n"
    kernel = cuda.jit(define(source, NAMES)["kernel"])
    a = np.zeros(32, np.float32)
    args = (a, np.zeros((2, 2), np.float32), np.zeros(2, np.float16), 5)
    report = gpu.check(kernel, 1, 32, *args)
    (finding,) = report.findings
    assert finding.kind == "unsupported"
    assert message is None or message in finding.message
    if finding.file == "notebook cell":  # else it is in a device function of this file
        assert finding.line >= 6 and finding.source == source.splitlines()[finding.line - 1]
    with pytest.raises(gpu.Unsupported, match=re.escape(f"{finding.file}:{finding.line}: unsupported")):
        kernel[1, 32](*args)
    assert not a.any()


INDICES = [("1.5", "float64; divide with //"), ("t / 2", "float64"), ("t > 1", "bool"), ("(0, 1.5)", "float64")]


@pytest.mark.parametrize("index, message", INDICES)
def test_an_index_is_an_integer_also_where_no_thread_comes(index, message):
    source = f"def kernel(a, m):\n    t = cuda.grid(1)\n    if t > 1000:\n        {'m' if '(' in index else 'a'}[{index}] = 1\n"
    kernel = cuda.jit(define(source, NAMES)["kernel"])
    (finding,) = gpu.check(kernel, 1, 32, np.zeros(32), np.zeros((2, 2))).findings
    assert (finding.kind, finding.line) == ("index-type", 4) and message in finding.message


def test_different_arrays_in_different_threads():
    @cuda.jit
    def kernel(a, b):
        t = cuda.grid(1)
        chosen = a
        if t % 2:
            chosen = b
        chosen[t] = 1

    a = np.zeros(32)
    (finding,) = gpu.check(kernel, 1, 32, a, np.zeros(32)).findings
    assert finding.kind == "unsupported" and "different arrays in different threads" in finding.message
    assert not a.any()


def test_a_kernel_with_keyword_only_arguments():
    def kernel(a, *, n):
        a[0] = n

    (finding,) = gpu.check(kernel, 1, 1, np.zeros(1)).findings
    assert finding.kind == "launch" and "keyword-only" in finding.message
