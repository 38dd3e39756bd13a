"""What the emulator says is English: one is singular, and whatever else is plural."""

import numpy as np
import pytest
from numba import cuda

from studylib import gpu


@cuda.jit
def one(out):
    out[cuda.grid(1)] = 1


def test_a_launch_with_too_many_arguments():
    (finding,) = gpu.check(one, 1, 1, np.zeros(1), np.zeros(1)).findings
    assert finding.message == "one takes 1 argument (out), got 2"


def test_a_compilation_with_too_many_arguments():
    with pytest.raises(TypeError, match=r"one takes 1 argument \(out\), 2 given"):
        gpu.compile(one, np.zeros(1), np.zeros(1))


def test_a_warp_that_is_not_there():
    with pytest.raises(ValueError, match="the launch has 1 warp, counted from 0; got 1"):
        gpu.check(one, 1, 1, np.zeros(1)).plot(line=12, warp=1)
