"""The report: its values, its text, its HTML, and the trace behind the picture."""

import numpy as np
import pytest
from numba import cuda, float32

from studylib import gpu
from studylib.gpu.hardware import BANKS, SECTOR, WORD

T = 32


@cuda.jit(device=True)
def fetch(a, i):
    return a[i]


@cuda.jit
def kernel(a, out):
    tile = cuda.shared.array(T, float32)
    t = cuda.threadIdx.x
    i = cuda.grid(1)
    tile[t] = fetch(a, i) * a[i // 2]
    cuda.syncthreads()
    out[i] = tile[T - 1 - t]


FIRST = kernel.py_func.__code__.co_firstlineno
STORE_TILE, STORE_OUT = FIRST + 5, FIRST + 7
FETCH = fetch.py_func.__code__.co_firstlineno + 2


@pytest.fixture
def report():
    return gpu.check(kernel, 4, T, np.ones(4 * T, np.float32), np.zeros(4 * T, np.float32))


def test_accesses(report):
    rows = [
        (a.line, a.array, a.space, a.op, a.requests, a.sectors_per_request, a.passes_per_request)
        for a in report.accesses
    ]
    assert rows == [
        (FETCH, "a", "global", "load", 4, 4, None),
        (STORE_TILE, "tile", "shared", "store", 4, None, 1),
        (STORE_TILE, "a", "global", "load", 4, 2, None),
        (STORE_OUT, "out", "global", "store", 4, 4, None),
        (STORE_OUT, "tile", "shared", "load", 4, None, 1),
    ]
    columns = [a.column for a in report.accesses]
    source = report.accesses[2].source
    assert source[columns[2] - 1 :].startswith("a[i // 2]") and source[columns[1] - 1 :].startswith("tile[t] =")
    assert all(a.file == "test_report.py" for a in report.accesses)
    assert (report.global_reads_per_thread, report.global_writes_per_thread) == (2, 1)
    assert report.ok and (report.grid, report.block, report.kernel) == ((4,), (T,), "kernel")


def test_text(report):
    text = str(report)
    assert text.startswith("kernel, grid (4,), block (32,)\n\nNothing found.\n")
    assert "4.00 sectors  out[i] = tile[T - 1 - t]" in text and "1.00 pass  " in text
    assert "A thread reads global memory 2 times and writes it 1 time, at most." in text
    assert "No timings" in text


def test_html(report):
    html = report._repr_html_()
    assert html.count("<tr>") == 1 + len(report.accesses)
    assert "<code>out[i] = tile[T - 1 - t]</code>" in html and "Nothing found" in html and "No timings" in html

    @cuda.jit
    def bad(a):
        a[cuda.grid(1)] = 1 if cuda.grid(1) < 3 else 2  # <b>

    html = gpu.check(bad, 1, T, np.zeros(4))._repr_html_()
    assert "<b>out-of-bounds</b>, test_report.py, line" in html and "&lt; 3 else 2  # &lt;b&gt;" in html


def test_trace_of_a_warp(report):
    (request,) = report.trace(STORE_OUT, 2)[:1]
    assert (request.array, request.space, request.op, request.shape, request.itemsize) == (
        "tile",
        "shared",
        "load",
        (T,),
        4,
    )
    np.testing.assert_array_equal(request.elements, np.arange(T)[::-1])
    np.testing.assert_array_equal(request.addresses // WORD % BANKS, np.arange(T)[::-1])
    np.testing.assert_array_equal(request.lanes, np.arange(T))
    load, half, store = report.trace(FETCH, 2) + report.trace(STORE_TILE, 2)
    assert (load.array, half.array, store.array) == ("a", "a", "tile")
    np.testing.assert_array_equal(load.elements, 64 + np.arange(T))
    np.testing.assert_array_equal(half.elements, (64 + np.arange(T)) // 2)
    np.testing.assert_array_equal(half.addresses, half.elements * 4)
    assert half.column != load.column and report.trace(FIRST) == []
    with pytest.raises(ValueError, match="the launch has 4 warps, counted from 0; got 4"):
        report.trace(STORE_OUT, 4)


def test_trace_agrees_with_the_counts():
    @cuda.jit
    def odd(a, out):
        i, j = cuda.grid(2)
        if (i + j) % 3:
            out[i, j] = a[j, i] + a[i, j]

    a = np.arange(48 * 48, dtype=np.float64).reshape(48, 48)
    report = gpu.check(odd, (4, 3), (12, 16), np.asfortranarray(a), np.zeros((48, 48)))
    line = odd.py_func.__code__.co_firstlineno + 4
    for access in report.accesses:
        requests = [
            request
            for warp in range(12 * 6)
            for request in report.trace(line, warp)
            if (request.array, request.column) == (access.array, access.column)
        ]
        assert len(requests) == access.requests
        total = sum(len(set(request.addresses // SECTOR)) for request in requests)
        assert total == pytest.approx(access.sectors_per_request * access.requests)
    first = report.trace(line, 0)[0]
    i, j = first.threads % 12, first.threads // 12
    np.testing.assert_array_equal(first.elements, j * 48 + i)
    np.testing.assert_array_equal(first.addresses, (i * 48 + j) * 8)  # in Fortran order


def test_trace_shows_the_run_as_it_was(monkeypatch):
    @cuda.jit
    def follow(links, out):
        i = cuda.grid(1)
        out[i] = links[links[links[i]]]
        links[i] = 0

    monkeypatch.setattr("studylib.gpu.emulator.machine.CHUNK", 1)  # the second block comes after the first
    links = np.arange(64)[::-1].copy()
    on_device = cuda.to_device(links)
    report = gpu.check(follow, 2, 32, on_device, np.zeros(64))
    line = follow.py_func.__code__.co_firstlineno + 3
    first = [request.elements for request in report.trace(line, 0)[:3]]
    np.testing.assert_array_equal(first, [np.arange(32), links[:32], np.arange(32)])
    second = [request.elements for request in report.trace(line, 1)[:3]]
    np.testing.assert_array_equal(second, [np.arange(32, 64), links[32:], np.zeros(32)])
    assert not on_device.copy_to_host().any()


def test_trace_of_a_view_has_the_addresses_of_its_allocation():
    @cuda.jit
    def fill(a):
        a[cuda.grid(1)] = 1

    line = fill.py_func.__code__.co_firstlineno + 2
    a = cuda.to_device(np.zeros((40, 3), order="F"))
    (request,) = gpu.check(fill, 1, 32, a[3:, 1]).trace(line)
    np.testing.assert_array_equal(request.elements, np.arange(32))
    np.testing.assert_array_equal(request.addresses, 8 * np.arange(43, 75))
    b = cuda.to_device(np.zeros((40, 3)))
    (request,) = gpu.check(fill, 1, 32, b[3:, 1]).trace(line)
    np.testing.assert_array_equal(request.elements, np.arange(32))
    np.testing.assert_array_equal(request.addresses, 8 * (10 + 3 * np.arange(32)))


def test_trace_where_two_arguments_are_one_array():
    @cuda.jit
    def copy(a, b):
        i = cuda.grid(1)
        b[i] = 31 - i
        b[a[i]] = 0

    a = cuda.to_device(np.zeros(32, np.int64))
    request = gpu.check(copy, 1, 32, a, a).trace(copy.py_func.__code__.co_firstlineno + 4)[1]
    np.testing.assert_array_equal(request.elements, 31 - np.arange(32))


def test_trace_of_a_run_that_ended_early():
    @cuda.jit
    def beyond(a):
        i = cuda.grid(1)
        a[i] = 1
        a[i + 1] = 1

    report = gpu.check(beyond, 1, 32, np.zeros(32))
    line = beyond.py_func.__code__.co_firstlineno + 3
    assert len(report.trace(line)) == 1 and report.trace(line + 1) == []
