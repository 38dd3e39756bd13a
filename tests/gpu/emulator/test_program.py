"""A kernel's types are found once for all launches that have them, and anew where what they depend on differs."""

import numpy as np
import pytest
from numba import cuda

from studylib import gpu
from studylib.gpu.emulator.inference import Inference

FACTOR = 2
TABLE = np.array([10, 20, 30, 40])


@cuda.jit(device=True)
def doubled(x):
    return 2 * x


@cuda.jit(device=True)
def halved(x):
    return x / 2


change = doubled


@cuda.jit
def scaled(a, out):
    t = cuda.threadIdx.x
    out[t] = a[t] * FACTOR + TABLE[t]


@cuda.jit
def changed(a, out):
    t = cuda.threadIdx.x
    out[t] = change(a[t])


def offset_by(offset):
    @cuda.jit
    def kernel(a, out):
        t = cuda.threadIdx.x
        out[t] = a[t] + offset

    return kernel


@pytest.fixture
def inferences(monkeypatch):
    """How often a kernel's types were found."""
    found, run = [], Inference.run

    def counted(self):
        found.append(self.frame.source.name)
        run(self)

    monkeypatch.setattr(Inference, "run", counted)
    return found


def launched(kernel, a, dtype=float):
    out = np.zeros(4, dtype)
    kernel[1, 4](np.asarray(a), out)
    return out.tolist()


def test_types_are_found_once(inferences):
    kernel = offset_by(1)
    for _ in range(3):
        assert launched(kernel, [0, 1, 2, 3]) == [1, 2, 3, 4]
    assert gpu.check(kernel, 1, 4, np.arange(4), np.zeros(4)).ok
    assert inferences == ["kernel"]
    launched(kernel, [0.0, 1, 2, 3])
    launched(kernel, [0, 1, 2, 3], dtype=int)
    assert len(inferences) == 3


def test_a_constant_that_has_changed_counts(monkeypatch):
    assert launched(scaled, [1, 2, 3, 4]) == [12, 24, 36, 48]
    monkeypatch.setitem(globals(), "FACTOR", 2.5)
    assert launched(scaled, [1, 2, 3, 4]) == [12.5, 25, 37.5, 50]
    monkeypatch.setitem(globals(), "FACTOR", 2)
    assert launched(scaled, [1, 2, 3, 4]) == [12, 24, 36, 48]


def test_a_constant_array_is_read_at_each_launch(monkeypatch):
    assert launched(scaled, [1, 2, 3, 4]) == [12, 24, 36, 48]
    monkeypatch.setitem(globals(), "TABLE", np.array([0.5, 0, 0, 0]))
    assert launched(scaled, [1, 2, 3, 4]) == [2.5, 4, 6, 8]
    TABLE[0] = 7.5
    assert launched(scaled, [1, 2, 3, 4]) == [9.5, 4, 6, 8]


def test_a_device_function_that_was_replaced_counts(monkeypatch):
    assert launched(changed, [1, 2, 3, 4]) == [2, 4, 6, 8]
    monkeypatch.setitem(globals(), "change", halved)
    assert launched(changed, [1, 2, 3, 4]) == [0.5, 1, 1.5, 2]


def test_kernels_of_one_code_keep_their_own_constants():
    one, half = offset_by(1), offset_by(0.5)
    for _ in range(2):
        assert launched(one, [0, 1, 2, 3]) == [1, 2, 3, 4]
        assert launched(half, [0, 1, 2, 3]) == [0.5, 1.5, 2.5, 3.5]


def test_two_arrays_and_one_array_twice_are_told_apart():
    @cuda.jit
    def kernel(a, b, out):
        t = cuda.threadIdx.x
        b[t] = a[t] + 1
        out[t] = a[t]

    a, b, out = (cuda.to_device(np.zeros(4)) for _ in range(3))
    kernel[1, 4](a, b, out)
    assert out.copy_to_host().tolist() == [0, 0, 0, 0]
    kernel[1, 4](a, a, out)
    assert out.copy_to_host().tolist() == [1, 1, 1, 1]
    report = gpu.check(kernel, 1, 4, a, b, out)
    assert {access.array for access in report.accesses} == {"a", "b", "out"}


def test_an_error_of_the_types_comes_at_each_launch():
    @cuda.jit
    def kernel(a, out):
        out[0] = a.sum()

    for _ in range(2):
        with pytest.raises(gpu.Unsupported, match="the attribute a.sum is not supported"):
            launched(kernel, [1.0])
