"""What MEC's smaller buffer costs or saves in time on this machine's CPU, beside im2col and torch's conv2d.

`python -m benchmarks.mec` runs the layers of `studylib.mec.LAYERS` (recalled, not verified against the paper), one
image in float32, in one run: the buffers as a formula, as the size of the array and as the measured peak of what NumPy
allocates, and the times as ratios to im2col's, on one core and on all. Every answer is compared with conv2d's. Prints
what it found and writes it to benchmarks/results/.
"""

import os
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

# OpenMP's threads, which are Numba's and torch's, otherwise spin for a while after their work, on the cores that BLAS
# then waits for: on two cores MEC took up to four times as long. OpenMP reads it when it is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numba
import numpy as np
import torch
import torch.nn.functional as F
import typer
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from benchmarks import machine
from studylib import mec

ROUNDS = 7  # each program runs once a round, so that a busy moment of the machine hits all of them
PROGRAMS = ("im2col", "MEC", "Solution A", "Solution B", "conv2d")
OTHERS = tuple(program for program in PROGRAMS if program != "im2col")
SMALL_CHANGE = 50_000  # bytes of Python's own objects


class Buffer(NamedTuple):
    """One lowered matrix in bytes: by the formula, of the array, and the peak of a convolution less its output."""

    formula: int
    array: int
    peak: int


class Measured(NamedTuple):
    """A layer: im2col's and MEC's buffer, and for a number of cores the seconds of each program."""

    layer: mec.Layer
    im2col: Buffer
    mec: Buffer
    seconds: dict[int, dict[str, float]]


def main() -> None:
    """Measure bytes and times of MEC, im2col and conv2d, and write benchmarks/results/."""
    described = machine.describe("numpy", "numba", "torch")
    cores = sorted({1, os.cpu_count() or 1})
    measured = [measure(layer, cores) for layer in tqdm(mec.LAYERS, file=sys.stdout, unit="layer")]
    text = report(measured, described)
    print(text)
    print(f"written: benchmarks/results/{machine.write('mec', text).name}")


def measure(layer: mec.Layer, cores: list[int]) -> Measured:
    """Bytes and times of one layer, after its answers have been compared."""
    rng = np.random.default_rng(0)
    x, kernel = (rng.standard_normal(shape, dtype=np.float32) for shape in (layer.image, layer.kernel))
    stride = (layer.stride, layer.stride)
    calls = programs(x, kernel, stride)
    with using(1):
        check(calls)  # and everything is compiled
        lowered = mec.im2col(x, kernel.shape[:2], stride), mec.lower(x, kernel.shape[1], layer.stride)
        buffers = []
        for name, elements, array in zip(PROGRAMS, (mec.im2col_elements, mec.mec_elements), lowered, strict=False):
            formula = x.itemsize * elements(x.shape, kernel.shape, stride)
            buffers.append(Buffer(formula, array.nbytes, peak(calls[name])))
            if not formula == array.nbytes <= buffers[-1].peak < formula + SMALL_CHANGE:
                raise RuntimeError(f"{layer.name}, {name}: expected a buffer of {formula} bytes, found {buffers[-1]}")
    del lowered
    return Measured(layer, buffers[0], buffers[1], {count: fastest(calls, count) for count in cores})


def programs(x: np.ndarray, kernel: np.ndarray, stride: tuple[int, int]) -> dict[str, Callable[[], np.ndarray]]:
    """Each program as a call; all return (batch, height, width, out_channels). conv2d has its own layout ready."""
    image = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous()
    weight = torch.from_numpy(kernel).permute(3, 2, 0, 1).contiguous()
    return {
        "im2col": lambda: mec.im2col_conv2d(x, kernel, stride),
        "MEC": lambda: mec.mec_conv2d(x, kernel, stride),
        "Solution A": lambda: mec.solution_a(x, kernel, stride),
        "Solution B": lambda: mec.solution_b(x, kernel, stride),
        "conv2d": lambda: F.conv2d(image, weight, stride=stride).numpy().transpose(0, 2, 3, 1),
    }


def check(calls: dict[str, Callable[[], np.ndarray]]) -> None:
    """Raises AssertionError unless all programs give conv2d's answer, to single precision."""
    expected = calls["conv2d"]()
    for name, call in calls.items():
        np.testing.assert_allclose(call(), expected, rtol=0, atol=1e-4 * np.abs(expected).max(), err_msg=name)


def peak(call: Callable[[], np.ndarray]) -> int:
    """Most bytes that NumPy has allocated at a time during the call, less its result."""
    tracemalloc.start()
    try:
        out = call()
        return tracemalloc.get_traced_memory()[1] - out.nbytes
    finally:
        tracemalloc.stop()


def fastest(calls: dict[str, Callable[[], np.ndarray]], cores: int) -> dict[str, float]:
    """Seconds of each program's fastest run, on so many cores."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    with using(cores), torch.inference_mode():
        for turn in range(ROUNDS + 1):
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                if turn:  # the first round warms up
                    seconds[name].append(time.perf_counter() - start)
    return {name: min(values) for name, values in seconds.items()}


@contextmanager
def using(cores: int) -> Iterator[None]:
    """BLAS, Numba and torch on so many cores each."""
    numba.set_num_threads(cores)
    torch.set_num_threads(cores)
    with threadpool_limits(cores):
        yield


def report(measured: list[Measured], described: str) -> str:
    """The figures as a Markdown page; described: the machine."""
    about = (
        "The layers are recalled from the paper's benchmark and not verified. One image, float32. MEC and im2col are "
        "`mec_conv2d` and `im2col_conv2d` of `studylib/mec.py`, Solutions A and B its `solution_a` and `solution_b`; "
        "conv2d is torch's, on arrays in its own layout. All answers agree."
    )
    about_bytes = (
        "The buffer in MB: by the formula, and the measured peak of what NumPy allocates during the convolution, less "
        f"the output. The arrays' sizes are the formulas' exactly, and no peak is {SMALL_CHANGE // 1000} kB above. "
        "BLAS's own work space and torch's memory are not seen by `tracemalloc`."
    )
    about_times = (
        f"Milliseconds of im2col, and the others' time when im2col's is 1 (fastest of {ROUNDS} runs, the programs in "
        "turn). Ratios hold for this machine and this run."
    )
    lines = [
        "# MEC beside im2col and conv2d on the CPU",
        "",
        described,
        "",
        about,
        "",
        "## Bytes",
        "",
        about_bytes,
        "",
        "| layer | input | kernel | stride | im2col | peak | MEC | peak | im2col / MEC |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
        *map(_bytes, measured),
    ]
    for cores in measured[0].seconds:
        several = ""
        if cores > 1:
            several = " The cores wait for each other: with a load above, read this table as noise."
            several += f" OMP_WAIT_POLICY is {os.environ['OMP_WAIT_POLICY']}."
        lines += [
            "",
            f"## Time on {cores} {'core' if cores == 1 else 'cores'}",
            "",
            about_times + several,
            "",
            f"| layer | im2col, ms | {' | '.join(OTHERS)} |",
            f"|---|---:|{'---:|' * len(OTHERS)}",
            *(_times(m, cores) for m in measured),
            "",
            _verdict(measured, cores),
        ]
    return "\n".join(lines) + "\n"


def _bytes(m: Measured) -> str:
    layer = m.layer
    figures = (m.im2col.formula, m.im2col.peak, m.mec.formula, m.mec.peak)
    return (
        f"| {layer.name} | {layer.height}x{layer.width}x{layer.channels} "
        f"| {layer.kernel_height}x{layer.kernel_width}x{layer.out_channels} | {layer.stride} "
        f"| {' | '.join(f'{figure / 1e6:.2f}' for figure in figures)} | {m.im2col.formula / m.mec.formula:.2f} |"
    )


def _times(m: Measured, cores: int) -> str:
    seconds = m.seconds[cores]
    ratios = " | ".join(f"{seconds[name] / seconds['im2col']:.2f}" for name in OTHERS)
    return f"| {m.layer.name} | {1000 * seconds['im2col']:.1f} | {ratios} |"


def _verdict(measured: list[Measured], cores: int) -> str:
    faster = [m.layer.name for m in measured if m.seconds[cores]["MEC"] < m.seconds[cores]["im2col"]]
    ahead = [m.layer.name for m in measured if m.seconds[cores]["MEC"] < m.seconds[cores]["conv2d"]]
    return (
        f"MEC's buffer is the smaller one in all {len(measured)} layers. It is faster than im2col in {len(faster)} of "
        f"them ({', '.join(faster) or 'none'}), and faster than conv2d in {len(ahead)} ({', '.join(ahead) or 'none'})."
    )


if __name__ == "__main__":
    typer.run(main)
