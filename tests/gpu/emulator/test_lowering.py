"""What runs is what was typed: each operation gives the type for which it was lowered, and nothing is lowered twice."""

from unittest.mock import patch

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from numba import cuda
from random_kernels import control_flow, define, typing_body
from test_typing import NAMES, SAMPLES, inputs, sources

from studylib.gpu.emulator import launch, lowering, operations
from studylib.gpu.language.values import Partial, is_number

some = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def type_of(value):
    if isinstance(value, Partial):
        return type_of(value.value)
    if isinstance(value, tuple):
        return tuple(type_of(part) for part in value)
    return value.dtype if is_number(value) else None


class Watched(operations.Operations):
    """Operations that look at the type of each value that they give."""

    seen = 0

    def lower(self, node):
        operation = super().lower(node)
        if id(node) not in self.typed.values:
            return operation
        wanted = self.typed.values[id(node)]

        def watched(frame, mask):
            value = operation(frame, mask)
            assert type_of(value) == wanted, f"{type_of(value)} instead of {wanted} in line {node.lineno}"
            Watched.seen += 1
            return value

        return operation if isinstance(operation, operations.Constant) else watched


watched = patch.object(lowering, "Operations", Watched)


@some
@given(typing_body())
def test_types_hold_in_a_run(body):
    on_gpu, _ = sources(body)
    before = Watched.seen
    with watched:
        launch.launch(define(on_gpu, NAMES)["kernel"], 1, SAMPLES, (*inputs(), np.zeros((6, SAMPLES)), 0))
    assert Watched.seen > before


@some
@given(control_flow())
def test_types_hold_where_paths_meet(source):
    kernel = define(source, {"int64": np.int64})["kernel"]
    with watched:
        launch.launch(kernel, 3, 8, (np.arange(24) % 11 - 3, np.zeros((24, 4), np.int64)))


def test_a_kernel_is_lowered_once(monkeypatch):
    lowered, init = [], lowering.Lowering.__init__

    def counted(self, typed):
        lowered.append(typed.source.name)
        init(self, typed)

    monkeypatch.setattr(lowering.Lowering, "__init__", counted)

    @cuda.jit(device=True)
    def twice(x):
        return 2 * x

    @cuda.jit
    def kernel(a):
        a[cuda.grid(1)] = twice(a[cuda.grid(1)])

    a = np.ones(4)
    for _ in range(3):
        kernel[1, 4](a)
    assert a.tolist() == [8] * 4 and lowered == ["twice", "kernel"]
    kernel[1, 4](np.ones(4, np.float32))
    assert lowered == ["twice", "kernel"] * 2


def test_what_is_never_reached_is_not_lowered():
    @cuda.jit
    def kernel(a):
        if 1 > 2:  # noqa: PLR0133
            a[0] = a.nothing
        a[0] = 3
        return
        a[0] = 4

    a = np.zeros(1)
    kernel[1, 1](a)
    assert a[0] == 3
