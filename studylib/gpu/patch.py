"""Sends launches of `@cuda.jit` kernels to the emulator where there is no GPU; with a GPU nothing is touched.

The choice is made once, at `import studylib.gpu`. STUDYLIB_GPU=emulator in the environment forces the emulator
on a machine with a GPU.
"""

from __future__ import annotations

import functools
import os
from typing import Any

from studylib.gpu import device
from studylib.gpu.emulator.launch import launch

VARIABLE = "STUDYLIB_GPU"
# The functions of numba.cuda that touch a device, and what replaces them.
HOST_FUNCTIONS = (
    "to_device",
    "device_array",
    "device_array_like",
    "pinned_array",
    "stream",
    "default_stream",
    "event",
    "event_elapsed_time",
    "synchronize",
)


class Launch:
    """A kernel with its launch configuration; calling it runs it on the emulator."""

    def __init__(self, kernel: Any, configuration: tuple):
        self.kernel = kernel
        self.griddim, self.blockdim, self.stream, self.sharedmem = (*configuration, 0, 0)[:4]

    def __call__(self, *args: Any) -> None:
        launch(self.kernel, self.griddim, self.blockdim, args, self.sharedmem or 0)


def _configured(kernel: Any, configuration: Any) -> Launch:
    """`kernel[grid, block, stream, dynamic shared bytes]`; the last two may be left out."""
    if not isinstance(configuration, tuple) or not 2 <= len(configuration) <= 4:
        raise ValueError("a launch needs the grid and the block: kernel[blocks, threads_per_block](...)")
    if getattr(kernel, "targetoptions", {}).get("device"):
        raise TypeError(f"{kernel.__name__} is a device function: only kernels can call it")
    return Launch(kernel, configuration)


def _without_signature(jit: Any) -> Any:
    @functools.wraps(jit)
    def checked(func_or_sig=None, *args: Any, **options: Any):
        if func_or_sig is not None and not callable(func_or_sig):
            raise TypeError(
                "types in the decorator make Numba compile at once, which needs a GPU: "
                "write @cuda.jit, or @cuda.jit(device=True), without them"
            )
        return jit(func_or_sig, *args, **options)

    return checked


def install() -> str:
    """Chooses between the GPU and the emulator and makes numba.cuda follow; returns `mode()`."""
    wanted = os.environ.get(VARIABLE, "")
    if wanted not in ("", "emulator"):
        raise ValueError(f"{VARIABLE} is {wanted!r}; it can be 'emulator', or be left unset")
    try:
        from numba import cuda
    except ImportError:
        return "emulator"  # kernels can still be given as plain functions
    simulated = not hasattr(cuda, "cudadrv") or bool(os.environ.get("NUMBA_ENABLE_CUDASIM", "0") != "0")
    if not wanted and not simulated and cuda.is_available():
        return "gpu"
    _kernel_class(simulated).__getitem__ = _configured
    for name in HOST_FUNCTIONS:
        setattr(cuda, name, getattr(device, name))
    if not hasattr(cuda.jit, "__wrapped__"):
        cuda.jit = _without_signature(cuda.jit)
    return "emulator"


def _kernel_class(simulated: bool) -> Any:
    if simulated:  # Numba's own simulator is on: its kernels go to this emulator too
        from numba.cuda.simulator.kernel import FakeCUDAKernel

        return FakeCUDAKernel
    from numba.cuda.dispatcher import CUDADispatcher

    return CUDADispatcher
