"""Which of GPU and emulator launches go to, and that the emulator needs NumPy alone."""

import os
import subprocess
import sys
from textwrap import dedent

import pytest

from studylib import gpu


def run(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", dedent(program)],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **environment},
    )
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


def test_mode_of_this_machine():
    from numba import cuda

    assert gpu.mode() == ("gpu" if cuda.is_available() and not os.environ.get("STUDYLIB_GPU") else "emulator")


def test_the_emulator_needs_numpy_alone(tmp_path):
    kernels = tmp_path / "plain_kernels.py"
    kernels.write_text(
        dedent("""
        def double(x):
            return x * 2

        def kernel(a, out):
            i = cuda.grid(1)
            if i < a.size:
                out[i] = double(a[i])
        """)
    )
    program = f"""
        import sys

        class Blocked:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in ("numba", "torch", "matplotlib", "scipy"):
                    raise ImportError(f"{{name}} is blocked")

        sys.meta_path.insert(0, Blocked())
        sys.path.insert(0, {str(tmp_path)!r})
        import numpy as np
        from plain_kernels import kernel
        from studylib import gpu

        a, out = np.arange(70.0), np.zeros(70)
        report = gpu.check(kernel, 3, 32, a, out)
        assert report.ok and (out == 2 * a).all(), str(report)
        print(gpu.mode(), "numba" in sys.modules, "torch" in sys.modules)
    """
    assert run(program) == "emulator False False"


PRETEND_GPU = """
    from numba import cuda
    cuda.is_available = lambda: True
    before = cuda.to_device
    from studylib import gpu
    print(gpu.mode(), cuda.to_device is before)
"""


def test_with_a_gpu_nothing_is_touched():
    assert run(PRETEND_GPU, STUDYLIB_GPU="") == "gpu True"


def test_the_environment_forces_the_emulator():
    assert run(PRETEND_GPU, STUDYLIB_GPU="emulator") == "emulator False"


def test_an_unknown_value_is_refused():
    assert "STUDYLIB_GPU is 'gpu'; it can be 'emulator'" in run("import studylib.gpu", STUDYLIB_GPU="gpu")


def test_kernels_of_numbas_simulator_run_on_the_emulator(tmp_path):
    (tmp_path / "simulated.py").write_text(
        dedent("""
        from numba import cuda

        @cuda.jit
        def kernel(a):
            a[cuda.grid(1)] = cuda.popc(7)
        """)
    )
    program = f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        import numpy as np
        from studylib import gpu
        from simulated import kernel
        a = np.zeros(4)
        kernel[1, 4](a)
        print(gpu.mode(), a.sum(), gpu.check(kernel, 1, 4, a).ok)
    """
    assert run(program, NUMBA_ENABLE_CUDASIM="1") == "emulator 12.0 True"


def test_compile_is_the_real_compiler():
    pytest.importorskip("numba.cuda")
    with pytest.raises(TypeError, match="gpu.compile got 5"):
        gpu.compile(5)
