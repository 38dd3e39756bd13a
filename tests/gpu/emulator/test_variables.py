"""Variables whose value or type depends on the path: set on some paths, carried through loops, kept in arrays."""

import numpy as np
import pytest
from numba import cuda, float64, int32

from studylib import gpu


def run(kernel, out, *args, threads=8):
    report = gpu.check(kernel, 1, threads, *args, out)
    assert report.ok, str(report)
    return out


def test_a_name_that_an_earlier_round_sets():
    @cuda.jit
    def kernel(a, out):
        s = 0.0
        for j in range(2):
            for i in range(a.size):
                if i + j > 0:
                    s += before * a[i]  # noqa: F821  set in the round before
                before = a[i]  # noqa: F841
        out[cuda.grid(1)] = s

    a = np.arange(1, 5, dtype=np.float32)
    expected = sum(x * y for x, y in zip([*a, *a][1:], [*a, *a], strict=False))
    assert (run(kernel, np.zeros(8), a) == expected).all()


def test_a_name_that_no_round_has_set_yet():
    @cuda.jit
    def kernel(a, out):
        s = 0.0
        for i in range(a.size):
            s += before * a[i]  # noqa: F821  not set in the first round
            before = a[i]  # noqa: F841
        out[cuda.grid(1)] = s

    (finding,) = gpu.check(kernel, 1, 8, np.ones(4), np.zeros(8)).findings
    assert finding.kind == "uninitialised-read" and finding.line == kernel.py_func.__code__.co_firstlineno + 4
    assert finding.message == "before is used before anything is assigned to it"


def test_a_name_that_nothing_sets():
    @cuda.jit
    def kernel(out):
        for i in range(3):
            while i < total:  # noqa: F821  that is what is tested
                out[i] = 1
        if cuda.grid(1) > 9:
            total = 1  # noqa: F841

    (finding,) = gpu.check(kernel, 1, 8, np.zeros(8)).findings
    assert finding.kind == "uninitialised-read" and "total" in finding.message


@cuda.jit(device=True)
def forgets(x):
    if x > 5:
        y = x
    return y


def test_a_name_that_a_device_function_sets_on_some_paths():
    @cuda.jit
    def kernel(out):
        i = cuda.grid(1)
        for _ in range(2):
            out[i] = forgets(i + 6)
        if i > 2:
            out[i] = forgets(i)

    (finding,) = gpu.check(kernel, 1, 8, np.zeros(8)).findings
    assert finding.message == "y has no value in thread 3 of block 0: its path sets none"


def test_a_name_set_on_the_paths_that_read_it():
    @cuda.jit
    def kernel(out):
        i = cuda.grid(1)
        if i > 3:
            x = i * 2
        if i > 4:
            out[i] = x
        while i > 5:
            x = 1
            break
        if i > 3:
            out[i] += x

    np.testing.assert_array_equal(run(kernel, np.zeros(8)), [0, 0, 0, 0, 8, 20, 13, 15])


def test_the_type_is_that_of_all_paths_also_where_one_is_taken():
    @cuda.jit
    def kernel(a, wide, out):
        i = cuda.grid(1)
        x = a[i]
        if wide:
            x = 2.5 * a[i]  # float64
        out[i] = x * x

    a = np.full(8, 0.1, np.float32)
    assert (run(kernel, np.zeros(8), a, False) == float(a[0]) ** 2).all()
    narrow = a[0] * a[0]
    assert float(narrow) != float(a[0]) ** 2


def test_a_variable_keeps_its_own_type_within_a_branch():
    @cuda.jit
    def kernel(a, out):
        i = cuda.grid(1)
        x = 0.5
        if i % 2:
            x = a[i]
            out[i] = x * x  # float32 here, though x is float64 below
        else:
            out[i] = x

    a = np.full(8, 0.1, np.float32)
    assert (run(kernel, np.zeros(8), a)[1::2] == a[0] * a[0]).all()


def test_integers_meet_as_numba_makes_them():
    @cuda.jit
    def kernel(small, out):
        i = cuda.grid(1)
        out[i, 0] = small[i] + small[i]  # 64 bits
        out[i, 1] = -small[i]  # 8 bits, then widened
        out[i, 2] = small[i] << 3

    out = run(kernel, np.zeros((8, 3)), np.full(8, 200, np.uint8))
    assert (out == [400, 56, 1600]).all()


def test_tuples_meet_element_by_element():
    @cuda.jit
    def kernel(out):
        i = cuda.grid(1)
        p = (i, 1.5)
        if i % 2:
            p = (0.25, i)
        q, r = p
        out[i] = q + 10 * r

    np.testing.assert_array_equal(run(kernel, np.zeros(4), threads=4), [15, 10.25, 17, 30.25])


def test_rows_that_differ_between_threads():
    @cuda.jit
    def kernel(m, out):
        i = cuda.grid(1)
        row = m[i]
        if i % 2:
            row = m[0]
        cube = m
        out[i] = row[1] + cube[-1][0]

    m = np.arange(8.0).reshape(4, 2)
    np.testing.assert_array_equal(run(kernel, np.zeros(4), m, threads=4), m[[0, 0, 2, 0], 1] + m[-1, 0])


def test_local_arrays_belong_to_a_thread_and_a_call():
    @cuda.jit
    def kernel(out):
        scratch = cuda.local.array((2, 3), float64)
        i = cuda.grid(1)
        for a in range(2):
            for b in range(3):
                scratch[a, b] = i * (a + b)
        scratch[i % 2, 1] += 100
        row = scratch[(i + 1) % 2]
        out[i] = scratch[i % 2, i % 3] + row[2]

    expected = []
    for i in range(8):
        scratch = [[i * (a + b) for b in range(3)] for a in range(2)]
        scratch[i % 2][1] += 100
        expected.append(scratch[i % 2][i % 3] + scratch[(i + 1) % 2][2])
    np.testing.assert_array_equal(run(kernel, np.zeros(8)), expected)


def test_a_value_read_from_a_local_array_stays():
    @cuda.jit
    def kernel(out):
        scratch = cuda.local.array(2, float64)
        scratch[0] = 3
        before = scratch[0]
        scratch[0] = 5
        out[cuda.grid(1)] = before + 10 * scratch[0]

    assert (run(kernel, np.zeros(8)) == 53).all()


@cuda.jit(device=True)
def counted(x):
    memory = cuda.shared.array(1, int32)
    memory[0] = x
    return memory[0]


def test_shared_arrays_of_a_device_function():
    @cuda.jit
    def kernel(out):
        if cuda.threadIdx.x == 0:
            out[cuda.blockIdx.x] = counted(cuda.blockIdx.x) + counted(5)

    out = np.zeros(3)
    assert gpu.check(kernel, 3, 32, out).ok
    np.testing.assert_array_equal(out, [5, 6, 7])


@pytest.mark.parametrize("wanted", (True, False))
def test_a_branch_on_a_constant_is_pruned(wanted):
    @cuda.jit
    def kernel(out):
        x = 3
        if not wanted:
            x = 2.5
        out[cuda.grid(1)] = x / 2 if wanted else x // 2

    assert (run(kernel, np.zeros(8)) == (1.5 if wanted else 1)).all()


def test_a_name_that_nothing_sets_where_no_thread_comes():
    @cuda.jit
    def kernel(out):
        if cuda.grid(1) > 100:
            for i in range(3):
                out[i] = total  # noqa: F821  that is what is tested
        elif cuda.grid(1) > 200:
            total = 1  # noqa: F841

    (finding,) = gpu.check(kernel, 1, 8, np.zeros(8)).findings
    assert finding.kind == "uninitialised-read" and "total" in finding.message


def test_and_or_and_comparisons_stop_where_python_does():
    @cuda.jit
    def kernel(a, out):
        i = cuda.grid(1)
        out[i, 0] = 1 if i > 1 and i < a.size and a[i] > 2 else 0
        out[i, 1] = 1 if i <= 1 or i >= a.size or a[i] < 4 else 0
        out[i, 2] = 1 if i < a.size <= a[i] + 2 else 0
        out[i, 3] = i > 1 and i - 2 and 7

    a = np.arange(5.0)
    expected = []
    for i in range(8):
        inside = i < 5
        row = [inside and i > 1 and a[i] > 2, i <= 1 or not inside or a[i] < 4, inside and a[i] + 2 >= 5]
        expected.append([*map(float, row), 0 if i <= 1 else i - 2 and 7])
    np.testing.assert_array_equal(run(kernel, np.zeros((8, 4)), a), expected)


def test_out_of_bounds_of_an_idle_thread_is_none():
    @cuda.jit
    def kernel(a, out):
        i = cuda.grid(1)
        if i < a.size and a[i] > 2:
            out[i] = a[i + 1] if i + 1 < a.size else -1

    a = np.arange(5.0)
    np.testing.assert_array_equal(run(kernel, np.zeros(8), a), [0, 0, 0, 4, -1, 0, 0, 0])
