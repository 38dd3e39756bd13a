"""Kernels that NVIDIA's compiler rejects: the error names the place and the reason, and nothing of ours."""

import inspect
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest
from numba import cuda, float32, int32

from studylib.gpu.compiler.compile import CompileError, compile

needs_compiler = pytest.mark.skipif(sys.platform == "darwin", reason="NVIDIA's compiler does not exist for macOS")

T = 16

vector = np.zeros(1024, np.float32)
half = np.zeros(1024, np.float16)


def line_of(kernel, mark):
    source, first = inspect.getsourcelines(getattr(kernel, "py_func", kernel))
    return first + next(i for i, text in enumerate(source) if f"# {mark}" in text)


@cuda.jit
def shape_is_an_expression(a):
    t = cuda.shared.array((T, T + 1), float32)  # rejected
    t[0, 0] = a[0]
    a[0] = t[0, 0]


@cuda.jit
def unknown_name(a):
    a[0] = undefined(a[1])  # rejected  # noqa: F821


@cuda.jit
def text_in_array(a):
    v = cuda.grid(1)
    a[v] = v + "s"  # rejected


@cuda.jit
def method_of_array(a):
    a.append(3)  # rejected


@cuda.jit
def imports(a):
    import os  # rejected

    a[0] = os.getpid()


@cuda.jit
def no_such_intrinsic(a):
    a[0] = cuda.shfl_sideways(a[1])  # rejected


@cuda.jit
def multiplies_halves(a):
    a[0] = a[1] * a[2]  # rejected


@cuda.jit
def returns_a_value(a):  # rejected
    return a[0]


@cuda.jit
def too_much_shared(a):  # rejected
    t = cuda.shared.array(16384, int32)
    t[cuda.threadIdx.x] = 1
    cuda.syncthreads()
    a[0] = t[3]


@cuda.jit(device=True)
def wrong_inside(x):
    return x + "s"  # rejected


@cuda.jit
def wrong_in_device_function(a):
    a[0] = wrong_inside(a[1])


REJECTED = [
    (shape_is_an_expression, vector, r"write TILE_COLUMNS = T \+ 1"),
    (unknown_name, vector, "NameError: name 'undefined' is not defined"),
    (text_in_array, vector, r"add\(int64, Literal\[str\]\(s\)\)"),
    (method_of_array, vector, "Unknown attribute 'append'"),
    (imports, vector, "IMPORT_NAME"),
    (no_such_intrinsic, vector, "shfl_sideways"),
    (multiplies_halves, half, "compute in float32"),
    (returns_a_value, vector, "void return type"),
    (too_much_shared, vector, "function 'too_much_shared' uses too much shared data"),
]


@needs_compiler
@pytest.mark.parametrize(("kernel", "arg", "reason"), REJECTED, ids=lambda value: getattr(value, "__name__", None))
def test_a_rejected_kernel_names_place_and_reason(kernel, arg, reason):
    with pytest.raises(CompileError, match=reason) as caught:
        compile(kernel, arg)
    error = caught.value
    assert (error.file, error.line) == (__file__, line_of(kernel, "rejected"))
    assert f"{Path(__file__).name}, line {error.line}: " in str(error).splitlines()[0]


@needs_compiler
def test_a_fault_in_a_device_function_is_named_there():
    with pytest.raises(CompileError) as caught:
        compile(wrong_in_device_function, vector)
    assert caught.value.line == line_of(wrong_inside, "rejected")


@needs_compiler
def test_a_rejection_shows_no_frames_of_the_compiler():
    with pytest.raises(CompileError) as caught:
        compile(unknown_name, vector)
    frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert frames == ["test_a_rejection_shows_no_frames_of_the_compiler", "compile"]
    shown = "".join(traceback.format_exception(caught.value))
    assert "site-packages" not in shown and "another exception" not in shown
    assert caught.value._render_traceback_() == [f"CompileError: {caught.value}"]
