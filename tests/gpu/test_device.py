"""Host code that works on a GPU works on the emulator: device arrays, streams, events."""

import math

import numpy as np
import pytest
from numba import cuda

from studylib.gpu.device import DeviceArray


@cuda.jit
def increase(a):
    i, j = cuda.grid(2)
    if i < a.shape[0] and j < a.shape[1]:
        a[i, j] += 1


def test_a_device_array_is_a_copy_that_kernels_change():
    host = np.arange(12, dtype=np.float32).reshape(3, 4)
    a = cuda.to_device(host)
    assert (a.shape, a.dtype, a.ndim, a.size, a.nbytes, len(a)) == ((3, 4), np.float32, 2, 12, 48, 3)
    increase[1, (4, 4)](a)
    assert host[0, 0] == 0
    np.testing.assert_array_equal(a.copy_to_host(), host + 1)
    np.testing.assert_array_equal(np.asarray(a), host + 1)
    target = np.zeros_like(host)
    assert a.copy_to_host(target) is target
    np.testing.assert_array_equal(target, host + 1)
    a.copy_to_device(host)
    np.testing.assert_array_equal(a.copy_to_host(), host)
    assert "DeviceArray(shape=(3, 4), dtype=float32)" in repr(a)


def test_wrong_shapes_and_types_are_refused():
    a = cuda.to_device(np.zeros((3, 4), np.float32))
    with pytest.raises(ValueError, match=r"the arrays differ: \(3, 4\) float32 and \(4, 3\) float32"):
        a.copy_to_device(np.zeros((4, 3), np.float32))
    with pytest.raises(ValueError, match="the arrays differ"):
        a.copy_to_host(np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"np\.ascontiguousarray"):
        cuda.to_device(np.zeros((4, 4))[:, ::2])
    with pytest.raises(ValueError, match="leave strides out"):
        cuda.device_array((3, 4), strides=(32, 8))


def test_a_device_array_is_no_numpy_array():
    a = cuda.to_device(np.zeros(3))
    assert not isinstance(a, np.ndarray)
    with pytest.raises(TypeError):
        a + 1


def test_new_arrays_hold_nothing_to_rely_on():
    a = cuda.device_array((2, 3), np.float32)
    assert np.isnan(a.copy_to_host()).all()
    assert (cuda.device_array(3, np.int32).copy_to_host() == 77).all()
    fortran = cuda.device_array_like(np.zeros((2, 3), order="F"))
    assert fortran.strides == (8, 16) and cuda.device_array_like(a).dtype == np.float32
    assert isinstance(cuda.pinned_array(3, np.int8), np.ndarray)


def test_views_share_the_memory():
    a = cuda.to_device(np.zeros((4, 6)))
    increase[1, (8, 8)](a[1:3])
    increase[1, (8, 8)](a.T)
    increase[1, (8, 8)](a.reshape(6, 4))
    increase[1, (8, 8)](a[:, 2:4])
    expected = np.full((4, 6), 2.0)
    expected[1:3] += 1
    expected[:, 2:4] += 1
    np.testing.assert_array_equal(a.copy_to_host(), expected)
    assert a[1, 2] == 4 and a.ravel().shape == (24,)
    a[0] = 5
    assert a[0, 0] == 5
    np.testing.assert_array_equal(a.view(np.int64).copy_to_host(), a.copy_to_host().view(np.int64))
    with pytest.raises(ValueError, match="negative or odd strides"):
        increase[1, (8, 8)](a[::-1])


def test_streams_and_events():
    stream, start, end = cuda.stream(), cuda.event(), cuda.event(timing=True)
    with stream.auto_synchronize():
        a = cuda.to_device(np.zeros((2, 2)), stream=stream)
        start.record(stream)
        increase[1, (2, 2), stream](a)
        end.record(stream)
        host = a.copy_to_host(stream=stream)
    end.wait(stream)
    end.synchronize()
    stream.synchronize()
    cuda.default_stream().synchronize()
    cuda.synchronize()
    assert end.query() and (host == 1).all()
    assert math.isnan(cuda.event_elapsed_time(start, end)), "the emulator measures no time"


def test_to_device_reuses_what_is_there():
    a = cuda.to_device(np.zeros(3))
    assert cuda.to_device(a) is a
    assert cuda.to_device(np.ones(3), to=a) is a
    np.testing.assert_array_equal(a.copy_to_host(), np.ones(3))
    assert isinstance(a, DeviceArray)
