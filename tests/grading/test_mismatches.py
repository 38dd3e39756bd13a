"""A result may be off by its exercise's rounding bound, and by nothing more."""

import numpy as np
import pytest
import torch

from studylib.grading.judge import judge
from studylib.grading.mismatches import SMALLEST, close
from studylib.grading.runs import run
from studylib.kernels import load, names

MOVED = {"codebook_decode", "im2col", "mec_lower", "transpose", "vector_add"}


def cases(exercise):
    """(case, [(expected, bound)]) of an exercise, the inputs always the same."""
    for case in exercise.cases(np.random.default_rng(1)):
        yield case, list(zip(exercise.outputs(*case.inputs), exercise.bounds(*case.inputs), strict=True))


@pytest.mark.parametrize("name", names())
def test_just_beyond_the_bound_is_wrong_and_just_within_is_not(name):
    for _, outputs in cases(load(name)):
        for expected, bound in outputs:
            beyond = np.nextafter(
                (expected.astype(float) + 1.001 * (bound + SMALLEST)).astype(np.float32), np.float32(np.inf)
            )
            assert not close(beyond, expected, bound).any()
            assert close(expected, expected, bound).all()
            if name not in MOVED:
                assert close(expected.astype(float) + 0.999 * bound, expected, bound).all()


@pytest.mark.parametrize("name", names())
def test_the_solution_needs_at_most_half_of_the_bound(name):
    """But for one number in a thousand: a sum of four products can come near the greatest error that it may have."""
    exercise = load(name)
    for case, outputs in cases(exercise):
        for got, (expected, bound) in zip(run(exercise, exercise.kernel, case).outputs, outputs, strict=True):
            half = close(got, expected, np.asarray(bound) / 2 if np.any(bound) else 0)
            assert np.count_nonzero(~half) <= half.size // 1000 and close(got, expected, bound).all(), case.title


@pytest.mark.parametrize("name", names())
def test_another_order_of_the_sums_passes(name):
    exercise = load(name)
    for case, outputs in cases(exercise):
        found = exercise.torch_op(*(torch.from_numpy(v) if isinstance(v, np.ndarray) else v for v in case.inputs))
        for got, (expected, bound) in zip(found if isinstance(found, tuple) else (found,), outputs, strict=True):
            assert close(got.numpy(), expected, bound).all(), case.title


@pytest.mark.parametrize("name", names())
def test_a_relative_error_of_9e_5_is_wrong(name):
    wrong = [
        ~close(expected * np.float32(1 + 9e-5), expected, bound)
        for _, outputs in cases(load(name))
        for expected, bound in outputs
    ]
    assert any(found.any() for found in wrong)


def test_a_sum_of_two_is_exact(tmp_path):
    path = tmp_path / "vector_add.py"
    path.write_text(
        "from numba import cuda, float32\n\n\n@cuda.jit\ndef vector_add(a, b, out):\n    i = cuda.grid(1)\n"
        "    if i < out.size:\n        out[i] = (a[i] + b[i]) * float32(1.00009)\n"
    )
    verdict = judge("vector_add", path=path)
    assert verdict.stage("right").status == "failed"


def test_doubles_pass(tmp_path):
    path = tmp_path / "depthwise_conv3x3.py"
    text = load("depthwise_conv3x3").text.partition("\n\n# BEGIN GRADER\n")[0]
    path.write_text(text.replace("total = float32(0)", "total = 0.0"))
    assert judge("depthwise_conv3x3", path=path).stage("right").status == "passed"


def test_nan_is_wrong():
    assert not close(np.full(2, np.nan, np.float32), np.ones(2, np.float32), np.ones(2)).any()
    assert not close(np.full(2, np.nan, np.float32), np.ones(2, np.float32), 0).any()
