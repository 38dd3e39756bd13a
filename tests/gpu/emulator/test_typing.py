"""Types and values on the emulator against Numba's: its CPU compilation for values, its CUDA typing for types."""

import math
import os
import warnings
from types import SimpleNamespace
from unittest.mock import patch

import numba
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from random_kernels import ARGUMENTS, define, typing_body

from studylib.gpu.emulator import inference, launch
from studylib.gpu.language.source import Source

FULL = "STUDYLIB_EXAMPLES" in os.environ
EXAMPLES = int(os.environ.get("STUDYLIB_EXAMPLES", "8"))
NAMES = {"math": math, "float32": numba.float32, "float64": numba.float64, "int32": numba.int32, "uint8": numba.uint8}


@numba.njit
def largest(a, b):
    """What max is on the GPU, where a NaN loses against a number; on the CPU it depends on the order."""
    found = max(a, b)
    if a != a:  # noqa: PLR0124  NaN
        found = b
    elif b != b:  # noqa: PLR0124
        found = a
    return found


@numba.njit
def smallest(a, b):
    """What min is on the GPU."""
    found = min(a, b)
    if a != a:  # noqa: PLR0124  NaN
        found = b
    elif b != b:  # noqa: PLR0124
        found = a
    return found


SAMPLES = 32
RESULTS = ("y0", "y1", "y2")


def kernels(examples: int):
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=not FULL,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def inputs() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    whole = rng.integers(-5, 12, SAMPLES)
    arrays = [rng.normal(0, 3, SAMPLES), rng.normal(0, 3, SAMPLES), whole, rng.permutation(whole)]
    arrays += [rng.integers(0, 250, SAMPLES), rng.integers(0, 9, SAMPLES)]
    return [a.astype(t) for a, t in zip(arrays, ARGUMENTS.values(), strict=True)]


def sources(body: list[str]) -> tuple[str, str]:
    """The same statements as a CUDA kernel and as a loop for the CPU."""
    names = ", ".join([f"{x}s" for x in ARGUMENTS] + ["out", "whole"])
    lines = [f"{x} = {x}s[t]" for x in ARGUMENTS] + body
    # A sum with a literal shows whether a result was a float32, a float64 or an integer.
    for number, y in enumerate(RESULTS):
        lines += [f"out[{number}, t] = {y}", f"out[{number + 3}, t] = {y} / 3", f"z{number} = {y}"]
    on_gpu = [f"def kernel({names}):", "    t = cuda.grid(1)", *("    " + line for line in lines)]
    on_cpu = [f"def kernel({names}):", f"    for t in range({SAMPLES}):", *("        " + line for line in lines)]
    return "\n".join(on_gpu) + "\n", "\n".join(on_cpu) + "\n"


@kernels(EXAMPLES)
@given(typing_body())
def test_values_equal_numba_on_the_cpu(body):
    on_gpu, on_cpu = sources(body)
    compiled = numba.njit(error_model="numpy")(define(on_cpu, NAMES | {"max": largest, "min": smallest})["kernel"])
    expected, got = np.zeros((2, 6, SAMPLES))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled(*inputs(), expected, 0)
    launch.launch(define(on_gpu, NAMES)["kernel"], 1, SAMPLES, (*inputs(), got, 0))
    np.testing.assert_array_equal(got, expected, err_msg=on_gpu)


def inferred(source: str) -> dict[str, str]:
    """The type that the emulator gives each name that is assigned once."""
    function = define(source, NAMES)["kernel"]
    parsed = Source(function)
    grid = launch.make_grid(1, SAMPLES)
    arguments = launch.bind(parsed, (*inputs(), np.zeros((6, SAMPLES)), 0))
    run = inference.Inference(grid, parsed, {a.name: a.typed for a in arguments}, plain_calls=True)
    with np.errstate(all="ignore"):
        run.run()
    return {name: run.frame.variables[name].dtype.name for name in ("z0", "z1", "z2")}


def typed_by_numba(source: str) -> dict[str, str]:
    compiler = pytest.importorskip("numba.cuda.compiler")
    from numba import cuda, typeof, types

    function = define(source, {**NAMES, "cuda": cuda})["kernel"]
    signature = tuple(typeof(a) for a in inputs()) + (typeof(np.zeros((6, SAMPLES))), types.int64)
    device = SimpleNamespace(compute_capability=(8, 0))
    with patch("numba.cuda.dispatcher.get_current_device", lambda: device, create=True):
        compiled = compiler.compile_cuda(function, types.void, signature, cc=(8, 0))
    found = compiled.type_annotation.typemap
    return {name: str(types.unliteral(found[name])) for name in ("z0", "z1", "z2")}


@kernels(EXAMPLES if FULL else 3 * EXAMPLES)
@given(typing_body())
def test_types_equal_numba_cuda(body):
    on_gpu, _ = sources(body)
    assert inferred(on_gpu) == typed_by_numba(on_gpu), on_gpu


@pytest.mark.parametrize(
    "constant", ["(3 or x0)", "(0 or x3)", "(0 and x0)", "(2 and x3)", "(x3 or 0 or x4)", "(x3 and 2 and x4)"]
)
def test_a_constant_beside_and_or_or_decides_the_type_as_in_numba(constant):
    # Python or Numba drops one side, and with it its type: y0 is then an integer, and 5 % 0 is 0 and not a NaN.
    body = ["y0 = 0", "y1 = x3 - x3", "y2 = 5", f"y0 = {constant} * y1", "y2 = y2 % y0"]
    on_gpu, on_cpu = sources(body)
    compiled = numba.njit(error_model="numpy")(define(on_cpu, NAMES)["kernel"])
    expected, got = np.zeros((2, 6, SAMPLES))
    compiled(*inputs(), expected, 0)
    launch.launch(define(on_gpu, NAMES)["kernel"], 1, SAMPLES, (*inputs(), got, 0))
    np.testing.assert_array_equal(got, expected)
    assert inferred(on_gpu) == typed_by_numba(on_gpu)


@pytest.mark.parametrize(
    "value",
    [
        *("(x0 or x5) and (not x2)", "(x0 and x5) or (not x2)", "(x0 or x5) or (not x2)", "x4 and (x0 or x5)"),
        *("(x0 or (x5 and x3)) and x2", "(x0 or (x5 or x3)) and x2", "((x0 or x5) and x3) or x2"),
        *("((x0 and x5) or x3) and x2", "(x5 or 0.5) and x4", "(x5 and 0.5) or x4", "(0.5 or x0) and x5"),
        *("x1 if (-3 or x0) > 1 else x5", "x1 if (0 or x0) > 1 else x5", "x1 if (2 and 0) > 1 else x5"),
    ],
)
def test_only_what_can_be_the_value_of_and_and_or_counts(value):
    on_gpu, _ = sources(["y0 = x4", "y1 = x4", "y2 = 0", f"y1 = {value}"])
    assert inferred(on_gpu) == typed_by_numba(on_gpu)


def test_and_and_or_within_each_other_are_typed_once_each():
    # Were each walked twice, 40 of them would take years.
    value = "x5"
    for number in range(40):
        value = f"(x4 {('and', 'or')[number % 2]} {value}) {('or', 'and')[number % 2]} x3"
    on_gpu, _ = sources(["y0 = x4", "y1 = x4", "y2 = 0", f"y1 = {value}"])
    assert inferred(on_gpu)["z1"] == "int64"


CHOICE = "y1 = x1 if {} else x5"  # float32 and uint32: which of them counts shows in the type


@pytest.mark.parametrize(
    "body",
    [
        [CHOICE.format(test)]
        for test in [
            *("y2 > 1", "not y2", "(not y2) > 3", "-y2 > 1", "y2", "3 > 1", "(7 + -1.25) > 1", "(1 > 0) > y2"),
            *("1 < y2 < 3", "1 < y2 < x5", "x5 < y2 < 3", "y2 and x0", "x0 and y2", "(y2 > 1) or x0 > 1"),
        ]
    ]
    + [
        ["if x5 > 3:", "    y2 = 0", CHOICE.format("y2 > 1")],
        ["if x5 > 3:", "    y2 = 0", "else:", "    y2 = 0", CHOICE.format("y2 > 1")],
        ["if 1 > 2:", "    y2 = 5", CHOICE.format("y2 > 1")],
        ["if y2 > 2:", "    y2 = 5", CHOICE.format("y2 > 1")],
        ["if y2 > 1:", "    y1 = x1"],
        ["for i in range(3):", "    " + CHOICE.format("y2 > 1")],
        ["for i in range(3):", "    " + CHOICE.format("y2 > 1"), "    y2 = 0"],
        ["for i in range(3):", "    y2 = 4", "    " + CHOICE.format("y2 > 1")],
        [
            "for i in range(3):",
            "    if x5 > 2:",
            "        y2 = 5",
            "        continue",
            "    " + CHOICE.format("y2 > 1"),
        ],
        ["for i in range(3):", "    if x5 > 2:", "        y2 = 5", "        break", CHOICE.format("y2 > 1")],
        ["while y2 > 1:", "    y1 = x1"],
        ["while y2 > 1:", "    y1 = x1", "    y2 = 0"],
        ["y0 = y2", "y2 = 3", CHOICE.format("y0 > 1")],
        ["y0 = y2 if x5 > 2 else y2", CHOICE.format("y0 > 1")],
        ["y2 += 1", CHOICE.format("y2 > 3")],
        ["y2 = 1 - 2", CHOICE.format("y2 > 1")],
        ["y2 = min(1, 2)", CHOICE.format("y2 > 3")],
        ["y1 = y2 and x1"],
        ["y1 = x5 and y2 and x1"],
        ["y1 = y2 or x1"],
    ],
    ids=" ".join,
)
def test_an_arm_that_numba_prunes_does_not_count(body):
    on_gpu, _ = sources(["y0 = x4", "y1 = x4", "y2 = 0", *body])
    assert inferred(on_gpu) == typed_by_numba(on_gpu)


@pytest.mark.parametrize(
    "body",
    [
        [
            "for i in range(2):",
            "    if x0 > y2:",
            "        y0 = x5",
            "    else:",
            "        y2 *= x4",
            "        y2 += x3",
        ],
        ["for i in range(2):", "    y0 = -y2 // 2", "    y2 = y2 * x4 + x3"],
        # Numba goes on after a loop before it knows what the loop's end brings back to its start.
        [
            *("for i in range(2):", "    for j in range(2):", "        y1 = x2", "    if x0 > 1:"),
            *("        y0 = x5 - ((2 + y1) // y1)", "        y1 = x3 + (x5 if x0 > 2 else min((x2 + x4), (y1 + x4)))"),
        ],
        ["for i in range(2):", "    for j in range(2):", "        y2 = y2 * x5", "    y1 = y2", "    y2 = x2"],
    ],
    ids=" ".join,
)
def test_a_type_of_an_earlier_round_is_not_forgotten(body):
    # uint64 in the first round and int64 in the second are a float64 for Numba.
    on_gpu, _ = sources(["y0 = x4", "y1 = x4", "y2 = x5", *body])
    assert inferred(on_gpu) == typed_by_numba(on_gpu)


def test_a_name_that_only_a_loop_sets_is_typed_after_it():
    def kernel(n, out):
        for i in range(n):
            for _ in range(n):
                late = i * 2.5
            total = late + 1
        out[0] = total + late

    out = np.zeros(1)
    launch.launch(kernel, 1, 1, (3, out))
    assert out[0] == 11.0


def test_minus_an_unsigned_integer_whose_other_choice_is_pruned():
    on_gpu, on_cpu = sources(["y0 = x4", "y1 = x4", "y2 = 0", "y1 = -(y2 if y2 > 1 else x5)"])
    expected, got = np.zeros((2, 6, SAMPLES))
    numba.njit(error_model="numpy")(define(on_cpu, NAMES)["kernel"])(*inputs(), expected, 0)
    launch.launch(define(on_gpu, NAMES)["kernel"], 1, SAMPLES, (*inputs(), got, 0))
    np.testing.assert_array_equal(got, expected)


RANGES = {"i1": (-(2**15), 2**15 - 1), "u1": (0, 2**16 - 1)}  # the GPU converts to 16 bits and takes eight of them


@pytest.mark.parametrize("integer", ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"))
@pytest.mark.parametrize("real", ("f4", "f8"))
def test_a_float_beyond_an_integer_type_is_cut_to_its_range(real, integer):
    # By the table of cvt in NVIDIA's PTX manual; a processor wraps or gives the smallest integer.
    def kernel(values, out):
        out[0, numba.cuda.grid(1)] = values[numba.cuda.grid(1)]

    inf = np.inf
    values = np.array([-inf, -1e30, -70000.5, -300.9, -1.5, -0.5, 0, 0.99, 127.5, 300.7, 70000.5, 1e30, inf], real)
    out = np.zeros((1, len(values)), integer)
    launch.launch(kernel, 1, len(values), (values, out))
    info = np.iinfo(integer)
    low, high = RANGES.get(integer, (info.min, info.max))
    bits = 2 ** (8 * info.dtype.itemsize)
    expected = [low if v < low else high if v > high else int(v) for v in values]
    assert [int(v) % bits for v in out[0]] == [v % bits for v in expected]


@pytest.mark.parametrize("real, integer, expected", [("f4", "i4", 0), ("f8", "i4", -(2**31)), ("f4", "u8", 2**63)])
def test_nan_as_an_integer(real, integer, expected):
    def kernel(values, out):
        out[0] = values[0]

    out = np.ones(1, integer)
    launch.launch(kernel, 1, 1, (np.array([np.nan], real), out))
    assert out[0] == expected


def test_true_division_of_a_signed_by_a_large_unsigned_integer():
    def kernel(a, b, out):
        out[0] = a[0] / b[0]
        out[1] = b[0] / a[0]

    out = np.zeros(2)
    launch.launch(kernel, 1, 1, (np.array([-6]), np.array([2**63 + 2**62], np.uint64), out))
    np.testing.assert_array_equal(out, [-6 / (2**63 + 2**62), (2**63 + 2**62) / -6])


def test_gamma_functions_at_their_poles():
    def kernel(x, out):
        i = numba.cuda.grid(1)
        out[0, i] = math.gamma(x[i])
        out[1, i] = math.lgamma(x[i])

    out = np.zeros((2, 6))
    launch.launch(kernel, 1, 6, (np.array([0.0, -0.0, -1, -1e30, -np.inf, 200]), out))
    inf, nan = np.inf, np.nan
    np.testing.assert_array_equal(out[0], [inf, -inf, nan, nan, nan, inf])
    np.testing.assert_array_equal(out[1], [inf, inf, inf, inf, inf, math.lgamma(200)])
