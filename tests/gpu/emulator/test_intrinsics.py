"""What `cuda.*` functions compute: positions, bits, votes, shuffles, atomics, against plain Python."""

import math
from fractions import Fraction

import numpy as np
import pytest
from numba import cuda, float32, float64, int8, int32, int64, uint32
from random_kernels import define

from studylib import gpu

TABLE = np.arange(6, dtype=np.float32).reshape(2, 3)
NAMES = {"cuda": cuda, "float32": float32, "float64": float64, "int8": int8, "int32": int32, "int64": int64}
NAMES |= {"uint32": uint32, "math": math, "TABLE": TABLE}


def each_thread(expression: str, values: np.ndarray, result: str, threads: int | None = None) -> np.ndarray:
    """The expression of x = values[t] and the thread t, for one block of threads."""
    source = f"def kernel(values, out):\n    t = cuda.threadIdx.x\n    x = values[t]\n    out[t] = {expression}\n"
    out = np.zeros(len(values), result)
    report = gpu.check(cuda.jit(define(source, NAMES)["kernel"]), 1, threads or len(values), values, out)
    assert report.ok, str(report)
    return out


def test_positions():
    @cuda.jit
    def kernel(out):
        x, y, z = cuda.grid(3)
        i = (z * cuda.gridsize(3)[1] + y) * cuda.gridsize(3)[0] + x
        out[i, 0] = cuda.threadIdx.x + 10 * cuda.threadIdx.y + 100 * cuda.threadIdx.z
        out[i, 1] = cuda.blockIdx.x + 10 * cuda.blockIdx.y + 100 * cuda.blockIdx.z
        out[i, 2] = cuda.blockDim.x + 10 * cuda.blockDim.y + 100 * cuda.blockDim.z
        out[i, 3] = cuda.gridDim.x + 10 * cuda.gridDim.y + 100 * cuda.gridDim.z
        out[i, 4] = cuda.laneid + 100 * cuda.warpsize

    out = np.zeros((2 * 4 * 3 * 5 * 2 * 2, 5), np.int64)
    kernel[(2, 3, 2), (4, 5, 2)](out)
    expected = np.zeros_like(out)
    for bz in range(2):
        for by in range(3):
            for bx in range(2):
                for tz in range(2):
                    for ty in range(5):
                        for tx in range(4):
                            x, y, z = bx * 4 + tx, by * 5 + ty, bz * 2 + tz
                            lane = (tz * 5 + ty) * 4 + tx
                            row = [tx + 10 * ty + 100 * tz, bx + 10 * by + 100 * bz, 254, 232, lane % 32 + 3200]
                            expected[(z * 15 + y) * 8 + x] = row
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("dtype", ("i4", "u4", "i8", "u8"))
def test_bits(dtype):
    info = np.iinfo(dtype)
    values = np.array([0, 1, 2, 3, 12, 40, 255, 2**20, info.max, info.max - 1, info.min, info.min + 1], dtype)
    bits = info.bits
    words = [int(v) % 2**bits for v in values]
    np.testing.assert_array_equal(each_thread("cuda.popc(x)", values, "i8"), [w.bit_count() for w in words])
    np.testing.assert_array_equal(each_thread("cuda.clz(x)", values, "i8"), [bits - w.bit_length() for w in words])
    np.testing.assert_array_equal(each_thread("cuda.ffs(x)", values, "i8"), [(w & -w).bit_length() for w in words])
    width = 64 if dtype == "u8" else 32  # Numba has brev for uint32 and uint64
    turned = [int(f"{w % 2**width:0{width}b}"[::-1], 2) for w in words]
    np.testing.assert_array_equal(each_thread("cuda.brev(x)", values, "u8"), np.array(turned, "u8"))


def exact_fma(a, b, c, dtype):
    total = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    if dtype == np.float64:
        return float(total)  # Python rounds a fraction once
    low = np.float32(float(total))
    candidates = [np.nextafter(low, np.float32(-np.inf)), low, np.nextafter(low, np.float32(np.inf))]
    return min(candidates, key=lambda v: (abs(Fraction(float(v)) - total), int(np.float32(v).view(np.uint32)) & 1))


@pytest.mark.parametrize("dtype", (np.float32, np.float64))
def test_fma_rounds_once(dtype):
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=500).astype(dtype) for _ in range(2))
    c = (-a * b * (1 + rng.integers(-3, 4, 500) * np.finfo(dtype).eps)).astype(dtype)
    c[:100] = rng.normal(size=100) * 1e-7

    @cuda.jit
    def kernel(a, b, c, out):
        t = cuda.grid(1)
        out[t] = cuda.fma(a[t], b[t], c[t])

    out = np.zeros(500, dtype)
    kernel[1, 500](a, b, c, out)
    expected = [exact_fma(x, y, z, dtype) for x, y, z in zip(a, b, c, strict=True)]
    np.testing.assert_array_equal(out, np.array(expected, dtype))
    assert (out != a * b + c).any()


def test_select_casts_and_numbers():
    values = np.array([-2.5, -0.5, 0.5, 1.5, 2.5, 3.7], np.float32)
    np.testing.assert_array_equal(
        each_thread("cuda.selp(x > 0, x, float32(7))", values, "f4"), [7, 7, 0.5, 1.5, 2.5, values[5]]
    )
    np.testing.assert_array_equal(each_thread("int32(x)", values, "i4"), [-2, 0, 0, 1, 2, 3])
    np.testing.assert_array_equal(each_thread("int8(x * 100)", values[2:5], "i8"), [50, -106, -6])
    np.testing.assert_array_equal(each_thread("round(x)", values, "i8"), [-2, 0, 0, 2, 2, 4])
    np.testing.assert_array_equal(
        each_thread("round(x * 1.11, 1)", values, "f4"), np.float32([-2.8, -0.6, 0.6, 1.7, 2.8, 4.1])
    )
    np.testing.assert_array_equal(each_thread("2**-1 + 7 // 2", values, "f4"), [3.5] * 6)
    np.testing.assert_array_equal(each_thread("math.floor(x) + bool(x)", values, "f8"), np.floor(values) + 1)
    np.testing.assert_array_equal(
        each_thread("TABLE[t % 2, -1] + TABLE.shape[1] + len(TABLE) + TABLE.size", values, "f4"), [13, 16] * 3
    )
    np.testing.assert_array_equal(each_thread("(10, 20, 30)[t % 3] + (1, 2)[-1]", values, "i8"), [12, 22, 32] * 2)


def test_a_nan_loses_against_a_number():
    values = np.array([1.0, np.nan, -3.0], np.float32)
    np.testing.assert_array_equal(each_thread("max(x, float32(0))", values, "f4"), [1, 0, 0])
    np.testing.assert_array_equal(each_thread("min(float32(0), x)", values, "f4"), [0, 0, -3])


def test_float16_is_loaded_and_stored():
    values = np.array([0.1, 2.0, 65504.0, -1.5], np.float16)
    np.testing.assert_array_equal(each_thread("float32(x) * float32(2)", values, "f4"), values.astype("f4") * 2)
    np.testing.assert_array_equal(each_thread("x", values, "f2"), values)
    np.testing.assert_array_equal(each_thread("float64(x) / 3", values, "f2"), (values.astype("f8") / 3).astype("f2"))


@pytest.mark.parametrize("name", ["erf", "erfc", "gamma", "lgamma", "exp", "log", "tanh", "atan", "hypot", "degrees"])
def test_math(name):
    values = np.array([0.3, 1.0, 2.5, 4.0])
    argument = "x, 1.0" if name == "hypot" else "x"
    function = getattr(math, name)
    expected = [function(v, 1.0) if name == "hypot" else function(v) for v in values]
    np.testing.assert_allclose(each_thread(f"math.{name}({argument})", values, "f8"), expected, rtol=1e-14)


WARP = np.arange(40, 72, dtype=np.float32)
LANES = np.arange(32)


@pytest.mark.parametrize(
    "expression, expected",
    [
        ("cuda.shfl_sync(0xFFFFFFFF, x, 5)", WARP[[5] * 32]),
        ("cuda.shfl_sync(-1, x, t + 1)", WARP[(LANES + 1) % 32]),
        ("cuda.shfl_up_sync(0xFFFFFFFF, x, 3)", WARP[np.where(LANES < 3, LANES, LANES - 3)]),
        ("cuda.shfl_down_sync(0xFFFFFFFF, x, 3)", WARP[np.where(LANES > 28, LANES, LANES + 3)]),
        ("cuda.shfl_xor_sync(0xFFFFFFFF, x, 7)", WARP[LANES ^ 7]),
        ("cuda.ballot_sync(0xFFFFFFFF, t % 2)", np.full(32, np.uint32(0xAAAAAAAA).view(np.int32))),
        ("cuda.any_sync(0xFFFFFFFF, t == 9)", np.ones(32)),
        ("cuda.all_sync(0xFFFFFFFF, t == 9)", np.zeros(32)),
        ("cuda.all_sync(0xFFFFFFFF, t < 32)", np.ones(32)),
        ("cuda.syncthreads_count(int32(t > 5))", np.full(32, 26)),
        ("cuda.syncthreads_and(int32(t > 5))", np.zeros(32)),
        ("cuda.syncthreads_or(int32(t > 5))", np.ones(32)),
    ],
)
def test_warps(expression, expected):
    np.testing.assert_array_equal(each_thread(expression, WARP, "f8"), expected)


def test_votes_and_shuffles_stay_within_a_warp_and_a_block():
    @cuda.jit
    def kernel(out):
        t, i = cuda.threadIdx.x, cuda.grid(1)
        low = t % 32 < 8
        if low:
            out[i, 0] = cuda.ballot_sync(0xFF, i % 3 == 0)
            out[i, 1] = cuda.shfl_sync(0xFF, i, 2)
        out[i, 2] = cuda.syncthreads_count(int32(i % 2 + cuda.blockIdx.x > 1))

    out = np.zeros((3 * 40, 3), np.int64)
    report = gpu.check(kernel, 3, 40, out)
    assert report.ok, str(report)
    for i in range(120):
        first = i // 40 * 40 + i % 40 // 32 * 32
        if i - first < 8:
            assert out[i, 0] == sum(1 << k for k in range(8) if (first + k) % 3 == 0)
            assert out[i, 1] == first + 2
        assert out[i, 2] == (0, 20, 40)[i // 40]


def test_each_group_of_lanes_gives_a_mask_of_its_own():
    @cuda.jit
    def kernel(out):
        t = cuda.threadIdx.x
        members = 0xFF << (t // 8 * 8)
        out[t, 0] = cuda.ballot_sync(members, t % 3 == 0) & 0xFFFFFFFF
        out[t, 1] = cuda.all_sync(members, t < 20) + 2 * cuda.any_sync(members, t == 9)
        out[t, 2] = cuda.shfl_sync(members, t, t // 8 * 8 + 3)
        cuda.syncwarp(members)

    out = np.zeros((32, 3), np.int64)
    report = gpu.check(kernel, 1, 32, out)
    assert report.ok, str(report)
    for t in range(32):
        group = range(t // 8 * 8, t // 8 * 8 + 8)
        assert out[t, 0] == sum(1 << k for k in group if k % 3 == 0)
        assert out[t, 1] == all(k < 20 for k in group) + 2 * (9 in group)
        assert out[t, 2] == group[3]


def test_groups_of_lanes_that_do_not_fit():
    def kernel(low, source):
        @cuda.jit
        def shuffles(out):
            t = cuda.threadIdx.x
            out[t] = cuda.shfl_sync(low if t < 16 else 0xFFFF0000, t, (t + source) % 32)

        return shuffles

    for low, source, message in (
        (0xFFFFFFFF, 0, "with a member mask, but thread 16 of block 0, which it names, gives another one"),
        (0xFFFF, 16, "reads from lane 16, which does not take part"),
    ):
        findings = gpu.check(kernel(low, source), 1, 32, np.zeros(32, np.int64)).findings
        assert {f.kind for f in findings} == {"shuffle"} and message in findings[0].message, findings


def test_threads_that_have_returned_are_not_waited_for():
    @cuda.jit
    def kernel(out):
        t = cuda.threadIdx.x
        if t >= 20:
            return
        cuda.syncwarp()
        out[t] = cuda.ballot_sync(0xFFFFFFFF, t < 40) + cuda.any_sync(0xFFFFFFFF, t == 25)

    out = np.zeros(32, np.int64)
    assert gpu.check(kernel, 1, 32, out).ok
    np.testing.assert_array_equal(out, [2**20 - 1] * 20 + [0] * 12)


def test_a_barrier_says_why_a_thread_is_missing():
    @cuda.jit
    def returns(out):
        if cuda.threadIdx.x == 7:
            return
        cuda.syncthreads()

    @cuda.jit
    def passes(out):
        if cuda.threadIdx.x != 7:
            cuda.syncthreads()

    for kernel, why in ((returns, "has returned before"), (passes, "takes a path without it")):
        (finding,) = gpu.check(kernel, 2, 32, np.zeros(1)).findings
        assert finding.message == (
            f"cuda.syncthreads is reached by 31 of the 32 threads of the block: thread 7 of block 0 {why}"
        )


OPERATIONS = {
    "add": lambda old, new: old + new,
    "sub": lambda old, new: old - new,
    "max": max,
    "min": min,
    "and_": lambda old, new: old & new,
    "or_": lambda old, new: old | new,
    "xor": lambda old, new: old ^ new,
    "exch": lambda old, new: new,
}


CASES = [(o, d) for o in OPERATIONS for d in ("i4", "u8", "f4") if d != "f4" or o in ("add", "sub", "max", "min")]


@pytest.mark.parametrize("cells", (1, 3, 40, 3000))
@pytest.mark.parametrize("operation, dtype", CASES)
def test_atomics_return_exact_old_values(operation, dtype, cells):
    source = (
        "def kernel(values, where, memory, old):\n    t = cuda.grid(1)\n    if t % 5:\n"
        f"        old[t] = cuda.atomic.{operation}(memory, where[t], values[t])\n"
        f"        cuda.atomic.{operation}(memory, where[t] + {cells}, values[t])\n"
    )
    if operation == "exch":
        source = "\n".join(source.splitlines()[:-1]) + "\n"
    rng = np.random.default_rng(cells)
    n = 700
    values, where = rng.integers(0, 100, n).astype(dtype), rng.integers(0, cells, n)
    memory, old = rng.integers(0, 100, 2 * cells).astype(dtype), np.zeros(n, dtype)
    expected_memory, expected_old = memory.copy(), old.copy()
    for t in range(n):
        if t % 5:
            for at in (where[t], where[t] + cells)[: 1 if operation == "exch" else 2]:
                found = expected_memory[at]
                expected_old[t] = found if at < cells else expected_old[t]
                with np.errstate(over="ignore"):
                    expected_memory[at] = OPERATIONS[operation](found, values[t])
    report = gpu.check(cuda.jit(define(source, NAMES)["kernel"]), 7, 100, values, where, memory, old)
    assert report.ok, str(report)
    np.testing.assert_array_equal(memory, expected_memory)
    np.testing.assert_array_equal(old, expected_old)


def test_compare_and_swap():
    @cuda.jit
    def kernel(memory, won):
        t = cuda.grid(1)
        if cuda.atomic.cas(memory, t % 3, 0, t + 1) == 0:
            won[t] = 1

    memory, won = np.zeros(3, np.int32), np.zeros(64, np.int32)
    kernel[2, 32](memory, won)
    np.testing.assert_array_equal(memory, [1, 2, 3])
    np.testing.assert_array_equal(np.flatnonzero(won), [0, 1, 2])


def test_atomic_maximum_and_nan():
    @cuda.jit
    def kernel(memory, values, old):
        t = cuda.grid(1)
        old[t] = cuda.atomic.max(memory, t, values[t])

    memory = np.array([1, np.nan, 5], np.float32)
    kernel[1, 3](memory, np.array([np.nan, 3, 7], np.float32), np.zeros(3, np.float32))
    np.testing.assert_array_equal(memory, [1, np.nan, 7])


def test_constant_memory():
    @cuda.jit
    def kernel(out):
        c = cuda.const.array_like(TABLE)
        t = cuda.grid(1)
        out[t] = c[t // 3, t % 3]

    out = np.zeros(6, np.float32)
    assert gpu.check(kernel, 1, 6, out).ok
    np.testing.assert_array_equal(out, TABLE.ravel())
