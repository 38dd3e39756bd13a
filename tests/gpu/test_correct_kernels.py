"""Kernels that are right give the right result and no finding, launched as on a GPU and checked."""

import sys

import numpy as np
import pytest
from correct_kernels import launches
from numba import cuda

from studylib import gpu
from studylib.gpu.emulator import machine

NAMES = list(launches())


@pytest.fixture(params=NAMES)
def launch(request):
    return launches()[request.param]


def assert_results(args, expected):
    for number, value in expected.items():
        np.testing.assert_allclose(args[number], value, rtol=1e-5, atol=1e-6)


def test_launch(launch):
    kernel, grid, block, shared_bytes, args, expected = launch
    kernel[grid, block, 0, shared_bytes](*args)
    assert_results(args, expected)


@pytest.mark.parametrize("lanes", (1, 1 << 20), ids=("block by block", "all blocks at once"))
def test_check(launch, lanes, monkeypatch):
    monkeypatch.setattr(machine, "CHUNK", lanes)
    kernel, grid, block, shared_bytes, args, expected = launch
    report = gpu.check(kernel, grid, block, *args, dynamic_shared_bytes=shared_bytes)
    assert report.ok, str(report)
    assert report.accesses
    assert_results(args, expected)


@pytest.mark.skipif(sys.platform == "darwin", reason="NVIDIA's compiler does not exist for macOS")
def test_the_real_compiler_takes_them_too(launch):
    kernel, _, block, shared_bytes, args, _ = launch
    assert gpu.compile(kernel, *args, block=block, dynamic_shared_bytes=shared_bytes).registers


def test_device_arrays(launch):
    kernel, grid, block, shared_bytes, args, expected = launch
    on_device = [cuda.to_device(a) if isinstance(a, np.ndarray) else a for a in args]
    stream = cuda.stream()
    kernel[grid, block, stream, shared_bytes](*on_device)
    stream.synchronize()
    cuda.synchronize()
    assert_results([a.copy_to_host() if hasattr(a, "copy_to_host") else a for a in on_device], expected)
