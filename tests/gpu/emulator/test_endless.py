"""Which loop was running when somebody ended a launch from outside, as a limit on time does."""

import numpy as np
import pytest
from numba import cuda

from studylib import gpu  # noqa: F401  launches go to the emulator
from studylib.gpu.emulator.endless import still_running
from studylib.gpu.emulator.memory import Array


class EndedError(BaseException):
    """Like the end of a time limit: nothing on the way catches it."""


@cuda.jit
def a_for_within_a_while(a):
    while a[0] == 0:
        for i in range(1 << 40):
            a[1] = i


@cuda.jit
def a_for_of_its_own_for_each_thread(a):
    for i in range(cuda.threadIdx.x, 1 << 40):
        a[1] = i


@cuda.jit
def no_loop(a):
    a[1] = 1


@pytest.mark.parametrize(
    ("kernel", "line"),
    [
        (a_for_within_a_while, "while a[0] == 0:"),
        (a_for_of_its_own_for_each_thread, "for i in range(cuda.threadIdx.x, 1 << 40):"),
        (no_loop, ""),
    ],
)
def test_the_loop_that_was_running_is_named(kernel, line, monkeypatch):
    stores = 0

    def store(*_, **__):
        nonlocal stores
        stores += 1
        if stores > 3 or kernel is no_loop:
            raise EndedError

    monkeypatch.setattr(Array, "store", store)
    with pytest.raises(EndedError) as ended:
        kernel[1, 2](np.zeros(2))
    found = still_running(ended.value)
    assert (found.source.strip() if found else "") == line
    assert found is None or found.kind == "endless-loop"
