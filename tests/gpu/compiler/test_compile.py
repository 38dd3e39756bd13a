"""gpu.compile: what NVIDIA's compiler says of kernels, and how its refusals reach the reader."""

import inspect
import math
import sys
import threading

import numpy as np
import pytest
import torch
from numba import cuda, float32
from numba.cuda import dispatcher as numba_dispatcher

from studylib.gpu.compiler import compile as compiler
from studylib.gpu.compiler.compile import CompileError, compile
from studylib.gpu.compiler.occupancy import LIMITS
from studylib.gpu.device import device_array_like, to_device

needs_compiler = pytest.mark.skipif(sys.platform == "darwin", reason="NVIDIA's compiler does not exist for macOS")

T = 16
PADDED = T + 1
WEIGHTS = np.arange(9, dtype=np.float32)

vector = np.zeros(1024, np.float32)
image = np.zeros((64, 64), np.float32)
half = np.zeros(1024, np.float16)
whole = np.zeros(1024, np.int32)


@cuda.jit(device=True)
def square(x):
    return x * x


@cuda.jit(device=True)
def norm(x, y):
    return math.sqrt(square(x) + square(y))


@cuda.jit
def device_functions(a, b):
    i = cuda.grid(1)
    if i < b.size:
        b[i] = norm(a[i], b[i])


@cuda.jit
def tile(a, b):
    shared = cuda.shared.array((T, PADDED), float32)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    shared[y, x] = a[y, x]
    cuda.syncthreads()
    b[y, x] = shared[x, y]


@cuda.jit
def histogram(values, bins):
    i = cuda.grid(1)
    if i < values.size:
        cuda.atomic.add(bins, values[i] % bins.size, 1)
        cuda.atomic.max(bins, 0, values[i])
        cuda.atomic.cas(bins, 1, 2, 3)


@cuda.jit
def warp_sum(a, out):
    value = a[cuda.grid(1)]
    distance = 16
    while distance > 0:
        value += cuda.shfl_down_sync(0xFFFFFFFF, value, distance)
        distance //= 2
    if cuda.laneid == 0 and cuda.ballot_sync(0xFFFFFFFF, value > float32(0)) != 0:
        cuda.atomic.add(out, 0, value)


@cuda.jit
def functions(a, b):
    i = cuda.grid(1)
    b[i] = math.exp(a[i]) + math.sqrt(a[i]) + math.tanh(a[i]) + max(a[i], float32(0))


@cuda.jit
def from_half(a, b):
    i = cuda.grid(1)
    b[i] = float32(a[i]) * float32(2)


@cuda.jit
def to_half(a, b):
    i = cuda.grid(1)
    b[i] = a[i]


@cuda.jit
def constants(a, b):
    i = cuda.grid(1)
    weights = cuda.const.array_like(WEIGHTS)
    b[i] = a[i]
    for k in range(9):
        b[i] += weights[k] * a[i + k]


def plain(a, b, n):
    i = cuda.grid(1)
    if i < n:
        b[i] = -a[i]


KERNELS = [
    (device_functions, (vector, vector), 0),
    (tile, (image, image), 4 * T * PADDED),
    (histogram, (whole, whole), 0),
    (warp_sum, (vector, vector), 0),
    (functions, (vector, vector), 0),
    (from_half, (half, vector), 0),
    (to_half, (vector, half), 0),
    (constants, (vector, vector), 0),
    (plain, (vector, vector, 1024), 0),
]


@needs_compiler
@pytest.mark.parametrize("cc", [(7, 5), (9, 0), (12, 0)])
@pytest.mark.parametrize(
    ("kernel", "args", "shared_bytes"), KERNELS, ids=lambda value: getattr(value, "__name__", None)
)
def test_figures_of_kernels(kernel, args, shared_bytes, cc):
    compiled = compile(kernel, *args, cc=cc, block=128)
    assert 4 <= compiled.registers < 64
    assert compiled.shared_bytes == shared_bytes
    assert compiled.spill_bytes == 0
    assert not compiled.uses_float64
    assert 0 < compiled.occupancy <= 1


@needs_compiler
@pytest.mark.parametrize("cc", LIMITS)
def test_compiles_for_every_compute_capability(cc):
    compiled = compile(tile, image, image, cc=cc)
    assert f".target sm_{cc[0]}{cc[1]}\n" in compiled.ptx
    assert (compiled.cc, compiled.shared_bytes) == (cc, 4 * T * PADDED)


@needs_compiler
def test_local_array_is_local_memory():
    @cuda.jit
    def table(a, b):
        i = cuda.grid(1)
        local = cuda.local.array(64, float32)
        for k in range(64):
            local[(k * 7 + i) % 64] = a[k]
        b[i] = local[i % 64]

    assert compile(table, vector, vector).local_bytes == 256
    assert compile(tile, image, image).local_bytes == 0


@needs_compiler
def test_without_a_block_there_is_no_occupancy():
    compiled = compile(tile, image, image)
    assert (compiled.occupancy, compiled.blocks_per_sm, compiled.limited_by) == (None, None, None)


# ---- double precision ----


def line_of(kernel, mark):
    source, first = inspect.getsourcelines(getattr(kernel, "py_func", kernel))
    return first + next(i for i, text in enumerate(source) if f"# {mark}" in text)


@cuda.jit
def double_sum(a, b):
    i = cuda.grid(1)
    s = 0.0
    for k in range(4):
        s += a[i + k]  # adds doubles
    b[i] = s  # rounds


@cuda.jit
def float_sum(a, b):
    i = cuda.grid(1)
    s = float32(0)
    for k in range(4):
        s += a[i + k]
    b[i] = s


@cuda.jit
def scaled(a, b, factor):
    i = cuda.grid(1)
    b[i] = a[i] * factor  # multiplies


@cuda.jit
def copy(a, b):
    i = cuda.grid(1)
    b[i] = a[i]


@needs_compiler
@pytest.mark.parametrize("cc", [(7, 5), (9, 0), (12, 0)])
def test_names_the_lines_that_compute_in_double_precision(cc):
    compiled = compile(double_sum, vector, vector, cc=cc)
    assert compiled.uses_float64
    assert compiled.float64_lines == (
        (__file__, line_of(double_sum, "adds doubles")),
        (__file__, line_of(double_sum, "rounds")),
    )
    assert compile(float_sum, vector, vector, cc=cc).float64_lines == ()


@needs_compiler
def test_a_python_float_argument_is_double_precision():
    assert compile(scaled, vector, vector, 2.5).float64_lines == ((__file__, line_of(scaled, "multiplies")),)
    assert not compile(scaled, vector, vector, np.float32(2.5)).uses_float64


@needs_compiler
def test_moving_doubles_is_not_computing_with_them():
    doubles = np.zeros(8)
    assert not compile(copy, doubles, doubles).uses_float64
    assert compile(copy, vector, doubles).uses_float64


# ---- options and arguments ----


@cuda.jit
def many_values(a, b):
    i = cuda.grid(1)
    v = cuda.local.array(64, float32)
    for k in range(64):
        v[k] = a[i + 1024 * k]
    s = float32(0)
    for k in range(64):
        for j in range(64):
            s += v[k] * v[63 - j]
    b[i] = s


@needs_compiler
def test_max_registers_is_obeyed_and_spills():
    free = compile(many_values, vector, vector)
    tight = compile(cuda.jit(max_registers=32)(many_values.py_func), vector, vector)
    assert free.registers > 32 >= tight.registers
    assert free.spill_bytes == 0 < tight.spill_bytes


@needs_compiler
def test_fastmath_is_obeyed():
    def divide(a, b):
        i = cuda.grid(1)
        b[i] = a[i] / b[i]

    assert "div.rn.f32" in compile(divide, vector, vector).ptx
    assert "div.approx" in compile(cuda.jit(fastmath=True)(divide), vector, vector).ptx


@needs_compiler
def test_dynamic_shared_memory_counts():
    @cuda.jit
    def reverse(a):
        shared = cuda.shared.array(0, float32)
        i = cuda.threadIdx.x
        shared[i] = a[i]
        cuda.syncthreads()
        a[i] = shared[cuda.blockDim.x - 1 - i]

    compiled = compile(reverse, vector, block=128, dynamic_shared_bytes=48_000)
    assert compiled.shared_bytes == 48_000
    assert (compiled.blocks_per_sm, compiled.limited_by) == (3, "shared memory")


@needs_compiler
def test_only_the_types_of_arguments_matter():
    def body(*args):
        ptx = compile(scaled, *args, np.float32(1)).ptx
        return [line for line in ptx.splitlines() if line.startswith("\t") and "_Z" not in line]

    expected = body(vector, vector)
    assert len(expected) > 20
    assert body(torch.zeros(3), torch.zeros(5, requires_grad=True)) == expected
    assert body(to_device(vector), device_array_like(vector)) == expected
    assert body(np.zeros(0, np.float32), np.ones(7, np.float32)) == expected
    assert body(vector[::2], vector) != expected
    assert body(vector.astype(np.float64), vector) != expected


@needs_compiler
def test_read_only_and_transposed_arrays():
    fixed = image.copy()
    fixed.flags.writeable = False
    assert compile(tile, fixed, image.T).shared_bytes == 4 * T * PADDED


@needs_compiler
@pytest.mark.parametrize(
    "bad",
    [[1.0, 2.0], "text", None, {}, object(), np.ma.zeros(3), torch.zeros(3, dtype=torch.bfloat16)],
    ids=lambda value: type(value).__name__,
)
def test_arguments_that_no_kernel_takes(bad):
    with pytest.raises(TypeError, match=f"argument b is of type {type(bad).__name__}"):
        compile(copy, vector, bad)


@needs_compiler
def test_wrong_number_of_arguments():
    with pytest.raises(TypeError, match=r"copy takes 2 arguments \(a, b\), 3 given"):
        compile(copy, vector, vector, vector)


@needs_compiler
@pytest.mark.parametrize("thing", ["copy", 3, np.add, len])
def test_what_is_no_kernel(thing):
    with pytest.raises(TypeError, match="takes a @cuda.jit kernel"):
        compile(thing, vector)


def test_unknown_compute_capability_and_impossible_block():
    with pytest.raises(ValueError, match=r"cc=\(5, 0\)"):
        compile(copy, vector, vector, cc=(5, 0))
    with pytest.raises(ValueError, match="1 to 1024 threads"):
        compile(copy, vector, vector, block=2048)


# ---- the current device ----


@cuda.jit
def appends(a):
    a.append(norm(a[0], a[1]))


@needs_compiler
def test_numba_gets_its_current_device_back():
    before = numba_dispatcher.get_current_device
    compile(device_functions, vector, vector)
    assert numba_dispatcher.get_current_device is before
    with pytest.raises(CompileError):
        compile(appends, vector)
    assert numba_dispatcher.get_current_device is before


@needs_compiler
def test_only_the_compiling_thread_sees_the_pretended_device(monkeypatch):
    monkeypatch.setattr(numba_dispatcher, "get_current_device", lambda: "the real one")
    seen = []
    with compiler._pretend_device((8, 9)):
        other = threading.Thread(target=lambda: seen.append(numba_dispatcher.get_current_device()))
        other.start()
        other.join()
        assert numba_dispatcher.get_current_device().compute_capability == (8, 9)
    assert seen == ["the real one"]


@needs_compiler
def test_threads_compile_at_once():
    results = {}

    def work(cc):
        results[cc] = compile(device_functions, vector, vector, cc=cc)

    threads = [threading.Thread(target=work, args=(cc,)) for cc in LIMITS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {cc: f".target sm_{cc[0]}{cc[1]}\n" in compiled.ptx for cc, compiled in results.items()} == dict.fromkeys(
        LIMITS, True
    )


@needs_compiler
def test_launches_may_be_taken_over(monkeypatch):
    def taken_over(self, configuration):
        raise AssertionError("compile launched the kernel")

    monkeypatch.setattr(numba_dispatcher.CUDADispatcher, "__getitem__", taken_over)
    assert compile(tile, image, image).registers > 0
