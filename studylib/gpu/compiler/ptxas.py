"""Finds ptxas, NVIDIA's assembler, runs it on PTX and reads its report; finds source lines in PTX."""

import functools
import importlib.metadata
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

PACKAGES = ("numba-cuda", "nvidia-cuda-nvcc", "nvidia-nvvm", "nvidia-cuda-nvrtc")


class NotAvailable(RuntimeError):
    """The compiler is not installed, or its parts do not fit together; the message says what to do."""


class Refused(Exception):
    """ptxas does not take the PTX; the message is its report."""


class Usage(NamedTuple):
    """Registers per thread; bytes of shared memory per block; bytes of local and spilled memory per thread."""

    registers: int
    shared_bytes: int
    local_bytes: int
    spill_bytes: int


@functools.cache
def find() -> Path:
    """The ptxas of the installed package, never one of the system: its release has to match NVVM's.

    Raises NotAvailable where the compiler packages are missing.
    """
    if sys.platform == "darwin":
        raise NotAvailable(
            "gpu.compile needs NVIDIA's compiler, which does not exist for macOS. gpu.check and running kernels in "
            "the emulator need nothing of it; to compile, use Linux, Windows or a hosted notebook."
        )
    missing = [name for name in PACKAGES if _version(name) is None]
    if missing:
        raise NotAvailable(
            f"gpu.compile needs the packages {', '.join(PACKAGES)}; not installed: {', '.join(missing)}. "
            f"In the repository run: pip install -c constraints.txt {' '.join(missing)}"
        )
    files = importlib.metadata.files("nvidia-cuda-nvcc") or []
    found = [Path(str(file.locate())) for file in files if file.name in ("ptxas", "ptxas.exe")]
    if not found or not found[0].is_file():
        raise NotAvailable("nvidia-cuda-nvcc lacks its ptxas; run: pip install --force-reinstall nvidia-cuda-nvcc")
    return found[0]


def release() -> str:
    """The release of the compiler, such as "13.0.88"."""
    return _version("nvidia-cuda-nvcc") or ""


def run(command: list[str], folder: Path) -> tuple[int, str]:
    """Runs ptxas in a folder; its exit status and its report."""
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, errors="replace")
    return done.returncode, done.stderr


def assemble(
    ptx: str,
    cc: tuple[int, int],
    max_registers: int | None = None,
    run: Callable[[list[str], Path], tuple[int, str]] = run,
) -> Usage:
    """Assemble `ptx` for compute capability `cc` and return what ptxas reports.

    run: runs a command in a folder and gives its exit status and its report.
    Raises Refused if ptxas does not take it, NotAvailable if it does not know the PTX version or `cc`.
    """
    command = [str(find()), "--verbose", f"--gpu-name=sm_{cc[0]}{cc[1]}", "kernel.ptx", "--output-file=kernel.cubin"]
    if max_registers:
        command.append(f"--maxrregcount={max_registers}")
    with tempfile.TemporaryDirectory(prefix="ptxas-") as folder:
        Path(folder, "kernel.ptx").write_text(ptx, encoding="utf-8")
        status, report = run(command, Path(folder))
    report = report.strip()
    if status:
        if re.search(r"Unsupported \.version|is not defined for option 'gpu-name'", report):
            raise NotAvailable(_mismatch(report))
        raise Refused(report)

    def total(pattern: str) -> int:
        return sum(map(int, re.findall(pattern, report)))

    return Usage(
        registers=total(r"Used (\d+) registers"),
        shared_bytes=total(r"(\d+) bytes smem"),
        local_bytes=total(r"(\d+) bytes stack frame"),
        spill_bytes=total(r"(\d+) bytes spill (?:stores|loads)"),
    )


def float64_lines(ptx: str) -> tuple[tuple[str, int], ...]:
    """Source positions (file, line) whose PTX computes in, or converts from or to, double precision; sorted.

    Loads, stores and moves do not count. Instructions to which the compiler gave no line stand at line 0.
    """
    computes = r"\s*(?:@!?%p\d+\s+)?(?!ld\b|st\b|mov\b|selp\b)[a-z][\w.:]*\.f64\b"
    return tuple(sorted(positions(ptx, computes)))


def positions(ptx: str, pattern: str) -> set[tuple[str, int]]:
    """The source positions (file, line) of the PTX lines that begin with `pattern`."""
    # Numba puts the current folder in front of names such as <ipython-input-3-...>.
    named = r'^\s*\.file\s+(\d+)\s+"(?:.*[/\\](?=<))?([^"]*)"'
    files = dict(re.findall(named, ptx, re.MULTILINE))
    at, found = ("", 0), set()
    for text in ptx.splitlines():
        if moved := re.match(r"\s*\.loc\s+(\d+)\s+(\d+)(?:.*\binlined_at\s+(\d+)\s+(\d+))?", text):
            at = files.get(moved[1], ""), int(moved[2])
            # Code inlined from Numba's own modules belongs to the line of the kernel that calls it.
            if moved[3] and is_numba(at[0]):
                at = files.get(moved[3], ""), int(moved[4])
        elif re.match(pattern, text):
            found.add(at)
    return found


def is_numba(file: str) -> bool:
    """Whether `file` is one of Numba's own modules."""
    return bool(re.search(r"[/\\]numba[/\\]cuda[/\\]", file))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _mismatch(report: str) -> str:
    installed = "\n".join(f"    {name} {_version(name)}" for name in PACKAGES[1:])
    return (
        f"NVVM and ptxas are of different CUDA releases: {report.splitlines()[0]}\n"
        f"Installed:\n{installed}\nAll of them have to be of one release; in the repository run: "
        f"pip install -c constraints.txt --force-reinstall {' '.join(PACKAGES[1:])}"
    )
