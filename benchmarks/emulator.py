"""How much faster the emulator is than the other ways to run a Numba-CUDA kernel without a GPU.

`python -m benchmarks.emulator` times, in one run and on one machine, Numba's own simulator, a per-thread run in
plain Python and the emulator without and with its checks, prints ratios and writes them to benchmarks/results/.
The simulator takes minutes for the larger kernels; unless `--full` is given it runs as many blocks as fit into a few
seconds and the rest is extrapolated: all blocks of these kernels do the same work.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import typer
from tqdm import tqdm

from benchmarks import machine, per_thread
from benchmarks.kernels import CASES, Case

os.environ["STUDYLIB_GPU"] = "emulator"  # also on a machine with a GPU
from studylib import gpu

SIMULATOR_SECONDS = 8.0  # what the simulator may take a kernel, without --full
# Times faster than the simulator: the geometric mean of all kernels, and the one launch that is small.
GOAL_PLAIN, GOAL_CHECKED, GOAL_SMALL = 5000, 3000, 600
SMALL = "vector_add_1000"


class Timing(NamedTuple):
    """Seconds for one launch; the simulator's are None where it cannot run the kernel."""

    case: Case
    simulator: float | None
    simulated_blocks: int
    python: float
    plain: float
    checked: float


def main(full: bool = typer.Option(False, help="Run every block in Numba's simulator; takes many minutes.")) -> None:
    """Time the emulator against Numba's simulator and plain Python, and write benchmarks/results/."""
    timings = []
    described = machine.describe("numpy", "numba")
    with tqdm(total=4 * len(CASES), file=sys.stdout) as bar:
        for name, case in CASES.items():
            bar.set_description(case.title)
            simulator, blocks = time_simulator(name, case.blocks, full)
            bar.update()
            python = time_launch(case, per_thread.launch, repeats=1)
            bar.update()
            plain = time_launch(case, emulate)
            bar.update()
            checked = time_launch(case, check)
            bar.update()
            timings.append(Timing(case, simulator, blocks, python, plain, checked))
    text = report(timings, described)
    print(text)
    print(f"written: benchmarks/results/{machine.write('emulator', text).name}")


def emulate(kernel, grid, block, *args) -> None:
    """A launch as a participant writes it; studylib.gpu sends it to the emulator."""
    kernel[grid, block](*args)


def check(kernel, grid, block, *args) -> None:
    """The same with every check; a finding would be a fault of the emulator."""
    report = gpu.check(kernel, grid, block, *args)
    assert report.ok, report


def time_launch(case: Case, launch: Callable[..., None], repeats: int = 5) -> float:
    """Median seconds of `repeats` launches after one that warms up and whose result is compared with NumPy's."""
    seconds = []
    for turn in range(repeats + 1 if repeats > 1 else 1):
        arguments = case.arguments()
        start = time.perf_counter()
        launch(case.kernel, case.grid, case.block, *arguments)
        seconds.append(time.perf_counter() - start)
        if turn == 0:
            np.testing.assert_allclose(arguments[-1], case.answer(*arguments[:-1]), rtol=1e-4)
    return statistics.median(seconds[1:] or seconds)


def time_simulator(name: str, blocks: int, full: bool) -> tuple[float | None, int]:
    """Seconds that Numba's simulator takes for all blocks of a kernel, and the number of blocks that were run."""
    ran, seconds = _simulate(name, blocks if full else 1)
    if ran and not full:
        ran, seconds = _simulate(name, max(1, min(blocks, int(SIMULATOR_SECONDS / seconds))))
    return (seconds * blocks / ran if ran else None), ran


def _simulate(name: str, blocks: int) -> tuple[int, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.kernels", name, str(blocks)],
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    if "has no attribute 'shfl" in done.stderr:
        return 0, 0.0
    if done.returncode:
        raise RuntimeError(f"Numba's simulator failed on {name}:\n{done.stderr}")
    ran, seconds = done.stdout.split()
    return int(ran), float(seconds)


def report(timings: list[Timing], described: str) -> str:
    """The timings as a Markdown page; described: the machine."""
    figures = (
        "Milliseconds a launch (median of 5 after a warm-up; Python and simulator: one run), and how many times "
        "faster the emulator is than the simulator and than Python. Ratios hold for this machine and this run."
    )
    lines = [
        "# Emulator against Numba's simulator and plain Python",
        "",
        described,
        "",
        figures,
        "",
        "| kernel | simulator | Python | emulator | checked | sim / emulator | sim / checked | Python / emulator |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        *map(_row, timings),
        "",
        *(_note(t) for t in timings if t.simulated_blocks != t.case.blocks),
        "",
        *_goals(timings),
    ]
    return "\n".join(lines) + "\n"


def _row(t: Timing) -> str:
    simulator, by_plain, by_checked = "not supported", "-", "-"
    if t.simulator:
        simulator = _ms(t.simulator) + (" *" if t.simulated_blocks < t.case.blocks else "")
        by_plain, by_checked = f"{t.simulator / t.plain:,.0f}", f"{t.simulator / t.checked:,.0f}"
    return (
        f"| {t.case.title} | {simulator} | {_ms(t.python)} | {_ms(t.plain)} | {_ms(t.checked)} "
        f"| {by_plain} | {by_checked} | {t.python / t.plain:,.0f} |"
    )


def _note(t: Timing) -> str:
    if t.simulator is None:
        return f"- {t.case.title}: Numba's simulator has no warp shuffles."
    return f"- \\* {t.case.title}: extrapolated from {t.simulated_blocks} of {t.case.blocks} blocks."


def _goals(timings: list[Timing]) -> list[str]:
    compared = [(t.case, t.simulator / t.plain, t.simulator / t.checked) for t in timings if t.simulator]
    plain = statistics.geometric_mean(times for _, times, _ in compared)
    checked = statistics.geometric_mean(times for _, _, times in compared)
    small = next(times for case, times, _ in compared if case is CASES[SMALL])
    reached = [
        (f"Geometric mean of the {len(compared)} kernels, plain", plain, GOAL_PLAIN),
        ("The same, checked", checked, GOAL_CHECKED),
        (f"{CASES[SMALL].title}, plain", small, GOAL_SMALL),
    ]
    return [
        f"- {what}: {times:,.0f}x the simulator's speed; to reach: {goal:,}x{'' if times >= goal else ' (missed)'}."
        for what, times, goal in reached
    ]


def _ms(seconds: float) -> str:
    ms = seconds * 1000
    return f"{ms:,.0f}" if ms >= 100 else f"{ms:.1f}"


if __name__ == "__main__":
    typer.run(main)
