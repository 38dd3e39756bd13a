"""Week 4 has TVM, kymatio and torch in one process: whichever comes first, all work, and TVM has the threads set."""

import os
import subprocess
import sys

import pytest

USE = """
import numpy as np

n = 8
left, right = np.arange(2 * n * n, dtype=np.float32).reshape(2, n, n)
assert np.array_equal((torch.from_numpy(left) @ torch.from_numpy(right)).numpy(), left @ right)

from tvm import s_tir, te

A, B = (te.placeholder((n, n), "float32", name=name) for name in "AB")
k = te.reduce_axis((0, n), name="k")
C = te.compute((n, n), lambda i, j: te.sum(A[i, k] * B[k, j], axis=k), name="C")
function = te.create_prim_func([A, B, C]).with_attr("global_symbol", "main")
schedule = s_tir.Schedule(tvm.IRModule({"main": function}))
schedule.parallel(schedule.get_loops(schedule.get_sblock("C"))[0])
arrays = [tvm.runtime.tensor(array, tvm.cpu(0)) for array in (left, right, np.zeros_like(left))]
tvm.compile(schedule.mod, target="llvm")["main"](*arrays)
assert np.array_equal(arrays[2].numpy(), left @ right)

assert kymatio.Scattering2D(J=2, shape=(16, 16), L=8)(np.ones((16, 16))).shape == (81, 4, 4)
print(tvm.runtime.num_threads())
"""


@pytest.mark.parametrize(("order", "threads"), [("torch, tvm, kymatio", 2), ("tvm, kymatio, torch", 1)])
def test_imports_in_either_order(order, threads):
    command = [sys.executable, "-c", f"import {order}\n{USE}"]
    environment = os.environ | {"TVM_NUM_THREADS": str(threads)}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    expected = min(threads, os.cpu_count() or 1)  # left unset, TVM may well take one on a machine of two
    assert (ran.returncode, ran.stdout) == (0, f"{expected}\n"), ran.stderr
