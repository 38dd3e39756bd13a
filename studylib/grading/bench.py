"""`study bench`: times kernels on a GPU against torch's operators and against what the card can copy and compute."""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from studylib import files, gpu, kernels
from studylib.errors import StudyError
from studylib.grading.identity import digest_of
from studylib.grading.mismatches import close
from studylib.kernels import Exercise

WARM_UP, REPEATS = 3, 21
COPIED = 1 << 28  # bytes that are copied to see what the memory can do
MATRIX = 4096  # rows of the product that shows what the arithmetic units can do


@dataclass(frozen=True)
class Measured:
    """Medians on one card. seconds: of the kernel and of torch's operator. bytes, operations: what the work needs.

    copy: bytes a second that a copy moves, read and written. peak: float32 operations a second of torch's matrix product
    without tensor cores.
    """

    exercise: str
    code: str
    seconds: float
    torch_seconds: float
    bytes: int
    operations: int
    copy: float
    peak: float

    @property
    def bandwidth_share(self) -> float:
        """Of the measured copy bandwidth, 0 to 1."""
        return self.bytes / self.seconds / self.copy

    def __str__(self) -> str:
        rate = f"{self.bytes / self.seconds / 1e9:,.0f} GB/s"
        if self.operations:
            rate += f", {self.operations / self.seconds / 1e9:,.0f} GFLOP/s"
        return (
            f"{self.seconds * 1e6:,.1f} µs, {rate}, {self.bandwidth_share:.0%} of the copy bandwidth; "
            f"torch needs {self.torch_seconds * 1e6:,.1f} µs"
        )


def measure(exercise: Exercise, kernel=None) -> Measured:
    """Times a kernel on the GPU at the size that fills a card.

    Raises StudyError if there is no GPU or the result is not torch's.
    """
    import torch
    from numba import cuda

    if gpu.mode() != "gpu":
        raise StudyError("there is no GPU here, or STUDYLIB_GPU=emulator is set; time is measured on a card")
    kernel = kernel or exercise.kernel
    inputs = exercise.bench(np.random.default_rng(0))
    on_card = [torch.from_numpy(v).cuda() if isinstance(v, np.ndarray) else v for v in inputs]
    wanted = exact(exercise, on_card)
    results = [torch.full_like(tensor, 77).contiguous() for tensor in wanted]
    arguments = [cuda.as_cuda_array(v) if isinstance(v, torch.Tensor) else v for v in (*on_card, *results)]
    seconds = _seconds(lambda: exercise.launch(kernel, *arguments))
    for got, expected, bound in zip(results, wanted, exercise.bounds(*inputs), strict=True):
        if not close(got.cpu().numpy(), expected.cpu().numpy(), bound).all():
            raise StudyError(f"{exercise.name} at full size differs from torch's operator on this card")
    moved, operations = exercise.work(*inputs)
    return Measured(
        exercise.name,
        digest_of(kernel),
        seconds,
        _seconds(lambda: exercise.torch_op(*on_card)),
        moved,
        operations,
        *ceilings(),
    )


def exact(exercise: Exercise, inputs: list) -> tuple:
    """What torch's operator makes of tensors in double precision, rounded to float32 at the end: always a tuple."""
    import torch

    doubled = [v.double() if isinstance(v, torch.Tensor) and v.is_floating_point() else v for v in inputs]
    found = exercise.torch_op(*doubled)
    found = found if isinstance(found, tuple) else (found,)
    return tuple(tensor.float() if tensor.is_floating_point() else tensor for tensor in found)


def _seconds(work: Callable[[], Any]) -> float:
    """The median time of `work` on the card, by events, after a warm-up."""
    import torch

    for _ in range(WARM_UP):
        work()
    times = []
    for _ in range(REPEATS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e3)
    return statistics.median(times)


def ceilings() -> tuple[float, float]:
    """(bytes a second of a copy, read and written; float32 operations a second of a product), measured on this card."""
    import torch

    a = torch.empty(COPIED // 4, device="cuda")
    b = torch.empty_like(a)
    m = torch.randn(MATRIX, MATRIX, device="cuda")
    torch.backends.cuda.matmul.allow_tf32 = False
    return 2 * COPIED / _seconds(lambda: b.copy_(a)), 2 * MATRIX**3 / _seconds(lambda: m @ m)


def main(names: list[str], out: Path) -> str:
    """Measures and writes `out`/kernels-CARD.json; without a GPU, shows what lies there. Returns what to print."""
    chosen = kernels.find(names)
    if gpu.mode() != "gpu":
        shown = "\n\n".join(show(path) for path in sorted(out.glob("kernels-*.json")))
        return f"No GPU here, so nothing is measured. {'Measured before:' if shown else 'Nothing was measured before.'}\n{shown}"
    from tqdm import tqdm

    rows = [measure(kernels.load(name)) for name in tqdm(chosen, unit="kernel")]
    machine = _machine()
    path = out / f"kernels-{machine['card'].lower().replace(' ', '-')}.json"
    out.mkdir(parents=True, exist_ok=True)
    before = json.loads(path.read_text(encoding="utf-8"))["kernels"] if path.exists() else {}
    data = machine | {"kernels": before | {row.exercise: asdict(row) for row in rows}}
    files.replace(path, json.dumps(data, indent=1) + "\n")
    return f"{show(path)}\nwrote {path}"


def _machine() -> dict[str, Any]:
    import numba
    import torch
    from numba import cuda

    return {
        "card": torch.cuda.get_device_name(),
        "driver": _driver(),
        "cuda": ".".join(map(str, cuda.runtime.get_version())),
        "torch": torch.__version__,
        "numba": numba.__version__,
        "python": platform.python_version(),
    }


def _driver() -> str:
    """The driver's version as nvidia-smi, which comes with it, says; "unknown" where that is not on PATH."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"


def load_results(path: Path) -> tuple[str, list[Measured]]:
    """(the card, its rows) of a file that `study bench` wrote; raises StudyError for any other."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return data["card"], [Measured(**row) for row in data["kernels"].values()]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise StudyError(f"{path} is not a file of `study bench`") from None


def show(path: Path) -> str:
    """A measured file as a table; kernels that have changed since are marked."""
    card, rows = load_results(path)
    table = Table(title=card, title_justify="left", box=None)
    for heading in ("kernel", "µs", "torch µs", "torch / ours", "GB/s", "of copy", "GFLOP/s"):
        table.add_column(heading, justify="left" if heading == "kernel" else "right")
    for row in rows:
        known = row.exercise in kernels.names() and digest_of(kernels.load(row.exercise).kernel) == row.code
        table.add_row(
            row.exercise + ("" if known else " (an older version)"),
            f"{row.seconds * 1e6:,.1f}",
            f"{row.torch_seconds * 1e6:,.1f}",
            f"{row.torch_seconds / row.seconds:.2f}",
            f"{row.bytes / row.seconds / 1e9:,.0f}",
            f"{row.bandwidth_share:.0%}",
            f"{row.operations / row.seconds / 1e9:,.0f}" if row.operations else "",
        )
    console = Console(width=120)
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip()
