"""Which machine a benchmark ran on, and the file under its name that keeps what was measured."""

import os
import platform
import re
import subprocess
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path

from studylib import files

RESULTS = Path(__file__).parent / "results"


def describe(*packages: str) -> str:
    """One line: processor, number of CPUs, Python, the versions of `packages`, system, date, and the load right now."""
    versions = "".join(f", {name} {version(name)}" for name in packages)
    load = f" Load before the run: {os.getloadavg()[0]:.1f}." if hasattr(os, "getloadavg") else ""
    return (
        f"{cpu_name()}, {os.cpu_count()} CPUs; Python {platform.python_version()}{versions}; {platform.system()}; "
        f"{date.today()}.{load}"
    )


def cpu_name() -> str:
    """The processor as its maker calls it."""
    name = platform.processor()
    if sys.platform == "linux":
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        name = found[1] if found else name
    elif sys.platform == "darwin":
        name = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=True
        ).stdout.strip()
    return name or platform.machine()


def write(benchmark: str, text: str) -> Path:
    """Keep `text` under the processor's name, so that runs on other machines stand beside it."""
    slug = re.sub(r"\W+", "-", cpu_name().lower()).strip("-")
    path = RESULTS / f"{benchmark}-{slug}.md"
    files.replace(path, text)
    return path
