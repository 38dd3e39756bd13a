"""What the emulator says is English: one is singular, and whatever else is plural."""

import numpy as np
import pytest
from numba import cuda

from studylib import gpu
from studylib.gpu.findings import counted


@cuda.jit
def one(out):
    out[cuda.grid(1)] = 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((0, "element"), "0 elements"),
        ((1, "element"), "1 element"),
        ((1024, "element"), "1,024 elements"),
        ((1, "index", "indices"), "1 index"),
        ((2, "index", "indices"), "2 indices"),
    ],
)
def test_a_number_with_its_noun(arguments, said):
    assert counted(*arguments) == said


def test_a_launch_with_too_many_arguments():
    (finding,) = gpu.check(one, 1, 1, np.zeros(1), np.zeros(1)).findings
    assert finding.message == "one takes 1 argument (out), got 2"


def test_a_compilation_with_too_many_arguments():
    with pytest.raises(TypeError, match=r"one takes 1 argument \(out\), 2 given"):
        gpu.compile(one, np.zeros(1), np.zeros(1))


def test_a_warp_that_is_not_there():
    with pytest.raises(ValueError, match="the launch has 1 warp, counted from 0; got 1"):
        gpu.check(one, 1, 1, np.zeros(1)).plot(line=13, warp=1)
