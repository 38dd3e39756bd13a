"""Random control flow on the emulator against the same source run as Python, one thread after another."""

import os
from types import SimpleNamespace

import numpy as np
from hypothesis import HealthCheck, given, settings
from random_kernels import control_flow, define

from studylib import gpu

EXAMPLES = int(os.environ.get("STUDYLIB_EXAMPLES", "50"))
THREADS, BLOCK = 24, 8
settings_for_kernels = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES == 50,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def by_threads(source: str, a: list[int]) -> np.ndarray:
    """The result of the kernel as Python computes it, thread by thread."""
    out = np.zeros((THREADS, 4), np.int64)
    stub = SimpleNamespace(local=SimpleNamespace(array=lambda shape, dtype: [0] * shape))
    kernel = define(source, {"cuda": stub, "int64": None})["kernel"]
    for thread in range(THREADS):
        stub.grid = lambda dimensions, thread=thread: thread
        kernel(a, out)
    return out


@settings_for_kernels
@given(control_flow())
def test_equals_python(source):
    a = [(7 * t) % 11 - 3 for t in range(THREADS)]
    out = np.zeros((THREADS, 4), np.int64)
    kernel = define(source, {"int64": np.int64})["kernel"]
    report = gpu.check(kernel, THREADS // BLOCK, BLOCK, np.array(a), out)
    assert report.ok, f"{report.findings[0]}\n{source}"
    expected = by_threads(source, a)
    assert (out == expected).all(), f"{out - expected}\n{source}"
