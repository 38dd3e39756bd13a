"""Sectors and bank passes against theory."""

from math import gcd

import numpy as np
import pytest
from numba import cuda, float32, float64, int8

from studylib import gpu

STRIDES = (0, 1, 2, 4, 8, 16, 32, 33)
SIZE = 32 * 34
SIDE, PADDED = 32, 33


@cuda.jit
def strided(a, stride, offset, out):
    t = cuda.grid(1)
    out[t] = a[t * stride + offset]


def loads(report, array):
    (access,) = [a for a in report.accesses if a.array == array and a.op == "load"]
    return access


def sectors_in_theory(stride, offset, size):
    first, step = offset * size, stride * size
    if step > 32:
        return 32
    return (first + 31 * step + size - 1) // 32 - first // 32 + 1


@pytest.mark.parametrize("offset", (0, 1, 5, 8))
@pytest.mark.parametrize("dtype", (np.int8, np.float32, np.float64))
@pytest.mark.parametrize("stride", STRIDES)
def test_sectors(stride, dtype, offset):
    a, out = np.zeros(SIZE, dtype), np.zeros(32, dtype)
    access = loads(gpu.check(strided, 1, 32, a, stride, offset, out), "a")
    assert access.requests == 1
    assert access.sectors_per_request == sectors_in_theory(stride, offset, a.itemsize)


@pytest.mark.parametrize("stride, expected", [(-1, 4), (-2, 8), (-32, 32)])
def test_sectors_of_a_falling_index(stride, expected):
    a, out = np.zeros(SIZE, np.float32), np.zeros(32, np.float32)
    access = loads(gpu.check(strided, 1, 32, a, stride, -31 * stride, out), "a")
    assert access.sectors_per_request == expected


@cuda.jit
def banks_int8(stride, out):
    s = cuda.shared.array(SIZE, int8)
    t = cuda.grid(1)
    for k in range(SIZE):
        s[k] = 0
    cuda.syncthreads()
    out[t] = s[t * stride]


@cuda.jit
def banks_float32(stride, out):
    s = cuda.shared.array(SIZE, float32)
    t = cuda.grid(1)
    for k in range(SIZE):
        s[k] = 0
    cuda.syncthreads()
    out[t] = s[t * stride]


@cuda.jit
def banks_float64(stride, out):
    s = cuda.shared.array(SIZE, float64)
    t = cuda.grid(1)
    for k in range(SIZE):
        s[k] = 0
    cuda.syncthreads()
    out[t] = s[t * stride]


def passes_in_theory(stride, size):
    if size == 4:
        return gcd(stride, 32) if stride else 1
    if size == 8:  # half a warp at a time over 16 banks of 8 bytes
        return 2 * (gcd(stride, 16) if stride else 1)
    words = {lane * stride // 4 for lane in range(32)}
    return max(sum(word % 32 == bank for word in words) for bank in range(32))


@pytest.mark.parametrize("kernel, size", [(banks_int8, 1), (banks_float32, 4), (banks_float64, 8)])
@pytest.mark.parametrize("stride", STRIDES)
def test_bank_passes(stride, kernel, size):
    access = loads(gpu.check(kernel, 1, 32, stride, np.zeros(32, np.float32)), "s")
    assert access.requests == 1
    assert access.passes_per_request == passes_in_theory(stride, size)


def test_the_shared_arrays_of_all_blocks_begin_at_bank_0():
    @cuda.jit
    def kernel(out):
        s = cuda.shared.array(1025, int8)
        t = cuda.threadIdx.x
        for k in range(1025):
            s[k] = 0
        cuda.syncthreads()
        out[t] = s[t * 33 % 1025]

    expected = passes_in_theory(33, 1)
    assert loads(gpu.check(kernel, 1, 32, np.zeros(32, np.int8)), "s").passes_per_request == expected
    assert loads(gpu.check(kernel, 4, 32, np.zeros(32, np.int8)), "s").passes_per_request == expected


@pytest.mark.parametrize("stride, expected", [(-1, 1), (-2, 2), (-32, 32)])
def test_bank_passes_of_a_falling_index(stride, expected):
    @cuda.jit
    def kernel(stride, out):
        s = cuda.shared.array(SIZE, float32)
        t = cuda.grid(1)
        for k in range(SIZE):
            s[k] = 0
        cuda.syncthreads()
        out[t] = s[(t - 31) * stride]

    access = loads(gpu.check(kernel, 1, 32, stride, np.zeros(32, np.float32)), "s")
    assert access.passes_per_request == expected


@cuda.jit
def transpose_naive(a, out):
    x, y = cuda.grid(2)
    out[x, y] = a[y, x]


@cuda.jit
def transpose_tiled(a, out):
    tile = cuda.shared.array((SIDE, SIDE), float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    x, y = cuda.grid(2)
    tile[ty, tx] = a[y, x]
    cuda.syncthreads()
    out[cuda.blockIdx.x * SIDE + ty, cuda.blockIdx.y * SIDE + tx] = tile[tx, ty]


@cuda.jit
def transpose_padded(a, out):
    tile = cuda.shared.array((SIDE, PADDED), float32)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    x, y = cuda.grid(2)
    tile[ty, tx] = a[y, x]
    cuda.syncthreads()
    out[cuda.blockIdx.x * SIDE + ty, cuda.blockIdx.y * SIDE + tx] = tile[tx, ty]


@pytest.mark.parametrize(
    "kernel, store_sectors, tile_passes",
    [(transpose_naive, 32, None), (transpose_tiled, 4, 32), (transpose_padded, 4, 1)],
)
def test_transposes(kernel, store_sectors, tile_passes):
    a = np.arange(64 * 64, dtype=np.float32).reshape(64, 64)
    out = np.zeros_like(a)
    report = gpu.check(kernel, (2, 2), (32, 32), a, out)
    assert report.ok
    np.testing.assert_array_equal(out, a.T)
    assert loads(report, "a").sectors_per_request == 4
    (store,) = [x for x in report.accesses if x.array == "out"]
    assert (store.op, store.sectors_per_request, store.requests) == ("store", store_sectors, 128)
    assert (report.global_reads_per_thread, report.global_writes_per_thread) == (1, 1)
    if tile_passes:
        assert loads(report, "tile").passes_per_request == tile_passes


@cuda.jit
def irregular(a, where, out):
    t = cuda.grid(1)
    if t % 3:
        out[t] = a[where[t]]


@pytest.mark.parametrize("threads", (32, 48, 80, 200))
@pytest.mark.parametrize("dtype", (np.uint8, np.float32, np.float64))
def test_irregular_requests_of_partial_warps(threads, dtype):
    rng = np.random.default_rng(threads)
    where = rng.integers(0, 500, 2 * threads)
    a, out = np.zeros(500, dtype), np.zeros(2 * threads, dtype)
    access = loads(gpu.check(irregular, 2, threads, a, where, out), "a")
    expected = []
    for block in range(2):
        for first in range(0, threads, 32):
            lanes = [block * threads + t for t in range(first, min(first + 32, threads))]
            expected.append(len({where[t] * a.itemsize // 32 for t in lanes if t % 3}))
    assert access.requests == len(expected)
    assert access.sectors_per_request * access.requests == pytest.approx(sum(expected))


@cuda.jit
def rows(a, out):
    i, j = cuda.grid(2)
    row = a[i]
    out[i, j] = row[j]


def test_fortran_order_is_seen():
    a = np.arange(32 * 32, dtype=np.float32).reshape(32, 32)
    out = np.zeros_like(a)
    assert loads(gpu.check(rows, (1, 32), (32, 1), a, out), "a").sectors_per_request == 32
    np.testing.assert_array_equal(out, a)
    fortran = np.asfortranarray(a)
    out = np.zeros_like(a)
    assert loads(gpu.check(rows, (1, 32), (32, 1), fortran, out), "a").sectors_per_request == 4
    np.testing.assert_array_equal(out, a)


def test_a_view_of_a_device_array_is_not_aligned():
    a = cuda.to_device(np.arange(40, dtype=np.float32))
    out = np.zeros(32, np.float32)
    access = loads(gpu.check(strided, 1, 32, a[1:], 1, 0, out), "a")
    assert access.sectors_per_request == 5
    np.testing.assert_array_equal(out, np.arange(1, 33))


def test_atomics_count_as_read_and_write():
    @cuda.jit
    def add(out):
        cuda.atomic.add(out, cuda.grid(1) % 8, 1)

    report = gpu.check(add, 2, 64, np.zeros(8, np.int32))
    (access,) = report.accesses
    assert (access.op, access.requests, access.sectors_per_request) == ("atomic", 4, 1)
    assert (report.global_reads_per_thread, report.global_writes_per_thread) == (1, 1)


def test_reads_per_thread_are_those_of_the_busiest():
    @cuda.jit
    def triangle(a, out):
        t = cuda.grid(1)
        s = float32(0)
        for k in range(t):
            s += a[k]
        out[t] = s

    report = gpu.check(triangle, 1, 50, np.ones(50, np.float32), np.zeros(50, np.float32))
    assert (report.global_reads_per_thread, report.global_writes_per_thread) == (49, 1)
