"""Run, check, draw and compile Numba-CUDA kernels, on a machine with or without a GPU.

    from numba import cuda
    from studylib import gpu          # launches go to the GPU where there is one, else to the emulator

    kernel[grid, block](a, b)         # plain Numba
    gpu.check(kernel, grid, block, a, b)      # the emulator with every check on
    gpu.compile(kernel, a, b, block=block)    # registers and occupancy, from NVIDIA's compiler

STUDYLIB_GPU=emulator in the environment forces the emulator on a machine with a GPU. What the emulator counts is
exact for the source and says nothing about time.

The rooms, each of which imports only from those before it: findings, hardware, device; language (source and types);
emulator (runs a kernel) and compiler (NVIDIA's); checks (watch a run); report (text and pictures); check and patch.
"""

from __future__ import annotations

from studylib.gpu import patch as _patch
from studylib.gpu.check import check
from studylib.gpu.compiler.compile import CompileError, compile
from studylib.gpu.compiler.ptxas import NotAvailable
from studylib.gpu.findings import Finding, KernelError, Unsupported
from studylib.gpu.report.report import Access, Report

__all__ = [
    "Access",
    "CompileError",
    "Finding",
    "KernelError",
    "NotAvailable",
    "Report",
    "Unsupported",
    "check",
    "compile",
    "mode",
]

_mode = _patch.install()


def mode() -> str:
    """Where `kernel[grid, block](...)` runs: 'gpu' or 'emulator'."""
    return _mode
