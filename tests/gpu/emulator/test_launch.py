"""Launches: what arguments and configurations are taken, and what is said of those that are not."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from textwrap import dedent

import numpy as np
import pytest
from numba import cuda, float32, int32

from studylib import gpu
from studylib.gpu.emulator import memory


@cuda.jit
def double(a, out):
    i = cuda.grid(1)
    if i < a.size:
        out[i] = a[i] * 2


@cuda.jit
def scaled(a, factor, out):
    i = cuda.grid(1)
    if i < a.size:
        out[i] = a[i] * factor


@cuda.jit
def rows(a, out):
    i, j = cuda.grid(2)
    if i < a.shape[0] and j < a.shape[1]:
        out[i, j] = a[i, j]


@cuda.jit(device=True)
def device_function(x):
    return x


def floats(n=10):
    return np.arange(n, dtype=np.float32)


def launch_finding(*args, **options):
    report = gpu.check(*args, **options)
    (finding,) = report.findings
    assert finding.kind == "launch" and not report.accesses
    assert str(report) and report._repr_html_()
    return finding


BAD_ARGUMENTS = [
    ([1.0, 2.0], TypeError, r"out of double is a list; .*np\.asarray"),
    ("text", TypeError, "is a str"),
    (None, TypeError, "is a NoneType"),
    (1j, TypeError, "is a complex"),
    (np.zeros(10, complex), TypeError, "has the type complex128"),
    (np.zeros(10, object), TypeError, "has the type object"),
    (np.zeros(10, ">f4"), TypeError, "has the type >f4"),
    (np.ma.array([1.0], mask=[True]), TypeError, r"is a masked array.*np\.ma\.filled"),
    (np.zeros((1,) * 5), TypeError, "has 5 dimensions; 1 to 4"),
    (np.zeros(()), TypeError, "has 0 dimensions; 1 to 4"),
    (np.zeros(20)[::2], ValueError, r"not contiguous .*np\.ascontiguousarray"),
]


@pytest.mark.parametrize("argument, error, message", BAD_ARGUMENTS, ids=lambda v: str(type(v).__name__))
def test_bad_arguments(argument, error, message):
    with pytest.raises(error, match=message):
        double[1, 32](floats(), argument)
    assert launch_finding(double, 1, 32, floats(), argument).line == double.py_func.__code__.co_firstlineno


def test_a_pandas_column_is_named_with_what_to_do():
    class Series:
        def __len__(self):
            return 10

    with pytest.raises(TypeError, match=r"is a Series; .*np\.asarray"):
        double[1, 32](Series(), floats())


BAD_CONFIGURATIONS = [
    (0, 32, ValueError, "number of blocks along an axis is 1 to"),
    ((1, 0), 32, ValueError, "number of blocks"),
    (1, 0, ValueError, "number of threads"),
    (1, 2048, ValueError, "number of threads along an axis is 1 to 1,024"),
    (1, (32, 64), ValueError, "2,048 threads per block; the limit is 1,024"),
    (1, (1, 1, 128), ValueError, "1 to 64"),
    ((1, 70_000), 32, ValueError, "1 to 65,535"),
    (1.5, 32, TypeError, "must be an integer or a tuple of 1 to 3 integers, got 1.5"),
    ((1, 1, 1, 1), 32, TypeError, "tuple of 1 to 3"),
    ((), 32, TypeError, "tuple of 1 to 3"),
]


@pytest.mark.parametrize("grid, block, error, message", BAD_CONFIGURATIONS)
def test_bad_configurations(grid, block, error, message):
    with pytest.raises(error, match=message):
        double[grid, block](floats(), floats())
    launch_finding(double, grid, block, floats(), floats())


def test_wrong_number_of_arguments():
    with pytest.raises(TypeError, match=r"double takes 2 arguments \(a, out\), got 1"):
        double[1, 32](floats())
    assert "got 3" in launch_finding(double, 1, 32, 1, 2, 3).message


def test_a_launch_needs_grid_and_block():
    for configuration in (1, (1,), (1, 2, 3, 4, 5)):
        with pytest.raises(ValueError, match="a launch needs the grid and the block"):
            double[configuration]
    with pytest.raises(TypeError, match="device_function is a device function"):
        device_function[1, 32]
    with pytest.raises(TypeError, match="a kernel is a function with @cuda.jit, got int"):
        gpu.check(5, 1, 32)


def test_types_in_the_decorator_are_refused():
    with pytest.raises(TypeError, match="types in the decorator"):
        cuda.jit("void(float32[:])")


def test_scalars_keep_their_types():
    for factor, kind in ((2, "f8"), (2.5, "f8"), (np.float32(2.5), "f4"), (True, "f4"), (np.int8(3), "f4")):
        a = floats() / 3
        out = np.zeros(10)
        scaled[1, 32](a, factor, out)
        np.testing.assert_array_equal(out, (a.astype(kind) * np.dtype(kind).type(factor)).astype("f8"))


def test_a_tuple_argument():
    @cuda.jit
    def kernel(sizes, out):
        out[0] = sizes[0] * sizes[1]

    out = np.zeros(1)
    kernel[1, 1]((3, 4), out)
    assert out[0] == 12


def test_a_read_only_array_can_be_read_and_not_written():
    a, out = floats(), np.zeros(10, np.float32)
    a.flags.writeable = False
    double[1, 32](a, out)
    np.testing.assert_array_equal(out, 2 * a)
    with pytest.raises(gpu.Unsupported, match="a is global or read-only|out is global or read-only"):
        double[1, 32](out, a)


def test_fortran_order_and_empty_arrays():
    a = np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4))
    out = np.zeros((3, 4), np.float32, order="F")
    rows[(1, 1), (4, 4)](a, out)
    np.testing.assert_array_equal(out, a)
    empty = np.zeros(0, np.float32)
    double[1, 32](empty, empty.copy())
    rows[(1, 1), (4, 4)](np.zeros((0, 4)), np.zeros((0, 4)))
    report = gpu.check(double, 1, 32, empty, empty)
    assert report.ok and not report.accesses

    @cuda.jit
    def reads(a, out):
        out[cuda.grid(1)] = a[cuda.grid(1)]

    assert gpu.check(reads, 1, 32, empty, floats(32)).findings[0].kind == "out-of-bounds"


def test_each_host_array_is_copied_as_to_a_gpu():
    a = floats()

    @cuda.jit
    def kernel(source, target):
        i = cuda.grid(1)
        target[i] = source[9 - i] + 1

    kernel[1, 10](a, a)  # two copies on the device: no aliasing, and the one that is written comes back
    np.testing.assert_array_equal(a, np.arange(10)[::-1] + 1)
    on_device = cuda.to_device(floats())
    assert gpu.check(kernel, 1, 10, on_device, on_device).findings[0].kind == "race"


def test_overlapping_host_arrays_come_back_in_the_order_of_the_arguments():
    # As on a GPU: the copy of the last argument is copied back last, also if the kernel has not changed it.
    @cuda.jit
    def kernel(target, source):
        i = cuda.grid(1)
        target[i] = source[9 - i] + 1

    a = floats()
    kernel[1, 10](a, a)
    np.testing.assert_array_equal(a, floats())
    b = floats(15)
    kernel[1, 10](b[:10], b[5:])
    np.testing.assert_array_equal(b, [*np.arange(15, 10, -1), *range(5, 15)])


def test_a_failed_run_leaves_host_arrays_alone_and_says_what_of_the_rest():
    @cuda.jit
    def kernel(a, b):
        i = cuda.grid(1)
        a[i] = 1
        b[i] = 1
        a[i + 5] = 1

    a, b = np.zeros(8), cuda.to_device(np.zeros(8))
    with pytest.raises(gpu.KernelError, match=r"a\[8\] is outside its shape \(8,\), in thread 3 of block 0") as caught:
        kernel[1, 8](a, b)
    assert not a.any()
    (note,) = caught.value.__notes__
    assert "NumPy arrays are as they were before the launch" in note and "device arrays b may be partly" in note
    gpu.check(kernel, 1, 8, a, b)
    assert not a.any()


def test_an_interrupted_run_leaves_host_arrays_alone(monkeypatch):
    def interrupted(self, machine, indices, mask, site):
        raise KeyboardInterrupt

    @cuda.jit
    def kernel(a):
        a[cuda.grid(1)] = 1
        for _ in range(3):
            a[cuda.grid(1)] += 1

    a = np.zeros(8)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt) as caught:
        patched.setattr(memory.Array, "load", interrupted)
        kernel[1, 8](a)
    assert "did not finish" in caught.value.__notes__[0] and not a.any()
    kernel[1, 8](a)
    assert (a == 4).all()


def test_a_lambda_is_no_kernel():
    kernel = cuda.jit(lambda a: None)
    with pytest.raises(ValueError, match="a lambda cannot be a kernel"):
        kernel[1, 1](floats())


def test_a_kernel_without_source():
    namespace = {"cuda": cuda}
    exec("@cuda.jit\ndef kernel(a):\n    a[0] = 1", namespace)  # noqa: S102  as in the Python prompt
    with pytest.raises(
        ValueError, match="the source of kernel .* cannot be found.*notebook cell, not in the Python prompt"
    ):
        namespace["kernel"][1, 1](floats())


def test_a_file_that_changed_after_its_import(tmp_path, monkeypatch):
    path = tmp_path / "edited_kernels.py"
    path.write_text("from numba import cuda\n@cuda.jit\ndef kernel(a):\n    a[0] = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import edited_kernels

    path.write_text("from numba import cuda\n@cuda.jit\ndef kernel(a):\n    a[0] = a[1]\n")
    with pytest.raises(ValueError, match="has changed since it was loaded"):
        edited_kernels.kernel[1, 1](floats())


def test_a_kernel_in_a_notebook_cell():
    cell = """
        import numpy as np
        from numba import cuda
        from studylib import gpu

        @cuda.jit
        def kernel(a):
            a[cuda.grid(1)] = 7

        a = np.zeros(8)
        kernel[1, 8](a)
        print(a.sum(), gpu.check(kernel, 2, 8, a).findings[0].file)
    """
    program = f"""
        from IPython.core.interactiveshell import InteractiveShell
        InteractiveShell.instance().run_cell({dedent(cell)!r}, store_history=True)
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(program)], check=False, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.split() == ["56.0", "notebook", "cell"], done.stdout + done.stderr


def test_threads_do_not_disturb_each_other():
    @cuda.jit
    def kernel(a, factor, out):
        s = cuda.shared.array(64, float32)
        t = cuda.threadIdx.x
        s[t] = a[cuda.grid(1)]
        cuda.syncthreads()
        v = float32(0)
        for k in range(64):
            v += s[k] * factor
        out[cuda.grid(1)] = v

    a = np.ones(6400, np.float32)

    def work(factor):
        for _ in range(5):
            out = np.zeros(6400, np.float32)
            report = gpu.check(kernel, 100, 64, a, factor, out)
            assert report.ok and report.global_reads_per_thread == 1
            assert (out == 64 * factor).all()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, (1, 2, 3)))


def test_print(capsys):
    @cuda.jit
    def kernel(a):
        i = cuda.grid(1)
        if i % 2:
            print("thread", i, a[i], i > 1)

    kernel[1, 4](floats())
    assert capsys.readouterr().out == "thread 1 1.0 False\nthread 3 3.0 True\n"
    kernel[100, 64](floats(6400))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1001 and lines[-1].startswith("... more than 1,000 lines")


def test_dynamic_shared_memory():
    @cuda.jit
    def reverse(a):
        s = cuda.shared.array(0, int32)
        t = cuda.threadIdx.x
        s[t] = a[t]
        cuda.syncthreads()
        a[t] = s[cuda.blockDim.x - 1 - t]

    a = np.arange(40, dtype=np.int32)
    reverse[1, 40, 0, 160](a)
    np.testing.assert_array_equal(a, np.arange(40)[::-1])
    report = gpu.check(reverse, 1, 40, a, dynamic_shared_bytes=100)
    assert report.findings[0].kind == "out-of-bounds"
    report = gpu.check(reverse, 1, 40, a, dynamic_shared_bytes=50_000)
    assert report.findings[0].kind == "shared-memory-limit"
