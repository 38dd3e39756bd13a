"""A compiler that is missing, or whose parts do not fit together, is recognised and the message says what to do."""

import subprocess
import sys

import numpy as np
import pytest
from numba import cuda

from studylib.gpu.compiler import ptxas
from studylib.gpu.compiler.compile import NotAvailable, compile

needs_compiler = pytest.mark.skipif(sys.platform == "darwin", reason="NVIDIA's compiler does not exist for macOS")

vector = np.zeros(1024, np.float32)


@cuda.jit
def copy(a, b):
    i = cuda.grid(1)
    b[i] = a[i]


@needs_compiler
def test_ptx_of_a_newer_release_is_recognised():
    ptx = compile(copy, vector, vector).ptx
    newer = ptx.replace(".version ", ".version 9", 1)
    with pytest.raises(NotAvailable, match=r"different CUDA releases(.|\n)*nvidia-nvvm \d(.|\n)*constraints.txt"):
        ptxas.assemble(newer, (8, 0))


@needs_compiler
def test_a_compute_capability_that_ptxas_does_not_know():
    with pytest.raises(NotAvailable, match="sm_60"):
        ptxas.assemble(compile(copy, vector, vector).ptx, (6, 0))


@pytest.fixture
def fresh_search():
    ptxas.find.cache_clear()
    yield
    ptxas.find.cache_clear()


def test_macos_is_told_what_works_there(monkeypatch, fresh_search):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(NotAvailable, match="macOS.*gpu.check"):
        compile(copy, vector, vector)


@needs_compiler
def test_missing_packages_are_named(monkeypatch, fresh_search):
    monkeypatch.setattr(ptxas, "PACKAGES", ("numba-cuda", "no-such-package"))
    with pytest.raises(NotAvailable, match="pip install -c constraints.txt no-such-package"):
        compile(copy, vector, vector)


@needs_compiler
def test_the_simulator_is_no_compiler(monkeypatch):
    program = (
        "from numba import cuda\n"
        "from studylib.gpu.compiler import compile as compiler\n"
        "@cuda.jit\ndef k(a): a[0] = 1\n"
        "try: compiler.compile(k, 1)\n"
        "except compiler.NotAvailable as error: print(error)\n"
    )
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "1")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert "unset NUMBA_ENABLE_CUDASIM" in done.stdout


def test_lines_of_a_cell_in_ipython():
    ptx = '\t.loc\t1 5 1\n\tadd.f64 \t%fd1, %fd2, %fd3;\n\t.file\t1 "/home/ana/<ipython-input-3-5d2f>"\n'
    assert ptxas.float64_lines(ptx) == (("<ipython-input-3-5d2f>", 5),)
