"""What a machine needs for the course, looked at one by one; each finding says what to do."""

import importlib.metadata
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from studylib.course import claims

GB = 1e9
LEFT = 2  # GB that a meeting with data, pages and outputs may take beside what is installed
LAB_SECONDS = 90  # ten times what it takes on an idle machine
DRIVER_PROGRAM = ("nvidia-smi", "/usr/lib/wsl/lib/nvidia-smi")  # under WSL it may not be on PATH
INSTALL = "remove .venv/installed-for and run make lab (or: python bootstrap.py lab)"
# Where the pinned versions are all there, the same versions again mend a damaged file at most.
BEYOND_PINS = (
    "the versions are the pinned ones, so installing them again does not help unless a file is damaged: run git pull "
    "and make lab for newer pins; else remove .venv and run make lab with a Python that constraints.txt names as run "
    "(make lab PYTHON=python3.11); if it stays, report it with these lines"
)


@dataclass(frozen=True)
class Finding:
    """What was looked at, what was found, what to do. level: "ok" (nothing to do), "note" (the course works without), or "problem"."""

    level: str
    what: str
    found: str
    do: str = ""

    def __str__(self) -> str:
        step = "" if self.level == "ok" else f"\n         do: {self.do}"
        return f"{self.level:8s} {self.what}: {self.found}{step}"


def findings(root: Path) -> Iterator[Finding]:
    """Each check in turn, the quick ones first; a check that breaks down is a finding too."""
    for check in CHECKS:
        try:
            yield check(root)
        except Exception as error:  # noqa: BLE001 - whatever a broken package raises when it is imported
            found = f"{type(error).__name__}: {error}"
            yield Finding("problem", check.__name__, found, f"mend what the message names, or {_reinstall(root)}")


def python(root: Path) -> Finding:
    allowed = SpecifierSet(
        tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    )
    version = ".".join(map(str, sys.version_info[:3]))
    if version not in allowed:
        do = "install one of these, remove .venv and run make lab"
        return Finding("problem", "Python", f"{version}, expected {allowed}", do)
    return Finding("ok", "Python", f"{version} ({sys.executable})")


def packages(root: Path) -> Finding:
    """What is installed against constraints.txt; a pin that nothing here needs, as a tool of the tests, may be absent."""
    wrong, count, needed = [], 0, needed_by("course")
    for line in (root / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        try:
            pin = Requirement(line)
        except InvalidRequirement as error:
            return Finding("problem", "packages", f"constraints.txt: {line!r} ({error})", "git restore constraints.txt")
        if pin.marker is not None and not pin.marker.evaluate():
            continue
        installed = _version(pin.name)
        if installed is None and canonicalize_name(pin.name) not in needed:
            continue
        count += 1
        if installed is None or installed not in pin.specifier:
            wrong.append(f"{pin.name} {installed or 'missing'} (pinned {pin.specifier})")
    if wrong:
        shown = ", ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        return Finding("problem", "packages", shown, INSTALL)
    return Finding("ok", "packages", f"{count} as in constraints.txt")


def needed_by(*extras: str) -> set[str]:
    """Names of all packages that the course with these extras needs, as the installed ones say what each needs."""
    seen: set[tuple[str, str]] = set()
    todo = [Requirement(f"studylib[{','.join(extras)}]")]
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras} - {extra for known, extra in seen if known == name}:
            seen.add((name, extra))
            with suppress(importlib.metadata.PackageNotFoundError):
                needs = map(Requirement, importlib.metadata.requires(name) or ())
                todo += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})]
    return {name for name, _ in seen}


def torch(root: Path) -> Finding:
    """Which torch there is, of the two that Linux has; torchvision must be of the same."""
    versions = [_version(name) or "missing" for name in ("torch", "torchvision")]
    for_cpu = ["+cpu" in version for version in versions]
    if "missing" in versions or for_cpu[0] != for_cpu[1]:
        found = "torch {}, torchvision {}".format(*versions)
        return Finding("problem", "torch", found, "remove .venv and run make lab: it takes both from one place")
    if sys.platform != "linux" or for_cpu[0] == (_card() is None):
        return Finding("ok", "torch", versions[0])
    if for_cpu[0]:
        found = f"{versions[0]} lacks CUDA's libraries: study bench cannot use the NVIDIA card"
        return Finding("note", "torch", found, "TORCH=cuda make lab makes .venv anew with them")
    found = f"{versions[0]} with CUDA's libraries, 4 GB that nothing uses without an NVIDIA driver"
    do = (
        "nothing, or where download.pytorch.org can be reached: TORCH=cpu make lab, which makes .venv anew without them"
    )
    return Finding("note", "torch", found, do)


def _reinstall(root: Path) -> str:
    """What to do about packages that don't work: the pins again only where what is installed is something else."""
    with suppress(OSError):
        if packages(root).level == "ok":
            return BEYOND_PINS
    return INSTALL


def git(root: Path) -> Finding:
    try:
        name = claims.git_name(root)
        if claims.is_shallow(root):
            return Finding("note", "git", "a clone without its history: no claim can lapse", "git fetch --unshallow")
    except ValueError as error:
        return Finding("note", "git", str(error), "needed for study claim; the notebooks run without")
    return Finding("ok", "git", f"you are {name}")


def gpu(root: Path) -> Finding:
    """The card and its driver, or the emulator; the driver has to be of the toolkit's CUDA release or a later one."""
    from studylib import gpu

    forced = os.environ.get("STUDYLIB_GPU") == "emulator"
    card = _card()
    if card is None:
        return Finding(
            "ok", "GPU", "none with a driver; kernels run on the emulator, which checks them and has no times"
        )
    if gpu.mode() == "gpu":
        toolkit, driver = _release("nvidia-cuda-nvcc"), card.cuda
        if toolkit and driver and driver < toolkit:
            return Finding(
                "problem", "GPU", f"{card.name}: its driver takes CUDA {_dotted(driver)}, the toolkit writes {_dotted(toolkit)}",
                "update the driver (nvidia.com/drivers); until then: export STUDYLIB_GPU=emulator",
            )  # fmt: skip
        return Finding("ok", "GPU", f"{card.name}, driver {card.driver}, CUDA {_dotted(driver)}")
    if forced:
        return Finding("note", "GPU", f"{card.name}, not used: STUDYLIB_GPU=emulator is set", "unset STUDYLIB_GPU")
    return Finding(
        "problem", "GPU", f"{card.name} with driver {card.driver}, but Numba cannot use it; kernels run on the emulator",
        f"python -m numba -s shows why under __CUDA Information__; if packages are missing or do not work: {_reinstall(root)}",
    )  # fmt: skip


def toolkit(root: Path) -> Finding:
    """Compiles a kernel with NVIDIA's compiler, which needs no GPU: parts of two CUDA releases show here."""
    import numpy as np

    from studylib import gpu

    def kernel(out: np.ndarray) -> None:
        out[0] = 1.0

    try:
        compiled = gpu.compile(kernel, np.zeros(1, np.float32))
    except gpu.NotAvailable as error:
        level = "note" if sys.platform == "darwin" else "problem"
        do = "the emulator needs none of it" if sys.platform == "darwin" else _reinstall(root)
        return Finding(level, "CUDA toolkit", " ".join(str(error).split()), do)
    except gpu.CompileError as error:
        return Finding("problem", "CUDA toolkit", f"does not compile a kernel of one line: {error}", _reinstall(root))
    return Finding("ok", "CUDA toolkit", f"{compiled.release} compiles for sm_{compiled.cc[0]}{compiled.cc[1]}")


def data(root: Path) -> Finding:
    """MNIST, for which digits can stand in, and the photographs and weights, for which nothing can."""
    from studylib.data import fetch, wheels

    folder = root / "data"
    lacking = []
    if missing := sorted(fetch.SHA256.keys() - fetch.intact_files(folder / "mnist").keys()):
        lacking.append(f"MNIST ({', '.join(missing)}), whose place scikit-learn's digits take")
    lacking += [f"{wheel.what} ({wheel.file})" for wheel in wheels.WHEELS if not wheels.is_here(wheel, folder)]
    if lacking:
        found = f"missing or damaged in {folder}: {'; '.join(lacking)}"
        return Finding("note", "data", found, f"with a network: python -m studylib.data --root {folder}")
    return Finding("ok", "data", f"MNIST, {', '.join(wheel.what for wheel in wheels.WHEELS)}: in {folder}, checked")


def disk(root: Path) -> Finding:
    free = shutil.disk_usage(root).free / GB
    if free < LEFT:
        return Finding("problem", "disk", f"{free:.1f} GB free, {LEFT} wanted", "make clean, or make room elsewhere")
    return Finding("ok", "disk", f"{free:.0f} GB free")


def jupyterlab(root: Path) -> Finding:
    """Starts the server as make lab does, without a browser and with all of its own files in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="study-doctor-", ignore_cleanup_errors=True) as folder:
        began, log = time.monotonic(), Path(folder, "log")
        with log.open("wb") as output:
            port = _free_port()
            server = subprocess.Popen(
                _lab_command(root, port), env=_lab_environment(folder), stdout=output, stderr=output
            )
        try:
            while server.poll() is None and time.monotonic() - began < LAB_SECONDS:
                if version := _lab_version(port):
                    return Finding("ok", "JupyterLab", f"{_version('jupyterlab')} starts (server {version})")
                time.sleep(0.2)
        finally:
            server.terminate()
            with suppress(subprocess.TimeoutExpired):
                server.wait(10)
            if server.poll() is None:
                server.kill()
                server.wait()
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        reason = lines[-1] if lines else "it printed nothing"
        return Finding("problem", "JupyterLab", f"does not answer: {reason}", _reinstall(root))


def _lab_command(root: Path, port: int) -> list[str]:
    options = [
        "--no-browser",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--IdentityProvider.token=doctor",
        "--log-level=WARN",
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.append("--allow-root")
    return [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={root}", *options]


def _lab_environment(folder: str) -> dict[str, str]:
    places = {f"JUPYTER_{name}_DIR": str(Path(folder, name.lower())) for name in ("CONFIG", "DATA", "RUNTIME")}
    return os.environ | places


def _lab_version(port: int) -> str:
    """The server's answer, or nothing while it gives none."""
    with suppress(OSError, ValueError), urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=5) as answer:
        return json.load(answer).get("version", "")
    return ""


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@dataclass(frozen=True)
class _Card:
    name: str
    driver: str
    cuda: tuple[int, ...]  # the newest release that the driver takes


def _card() -> _Card | None:
    """The first NVIDIA card, as its driver's own program names it; None where there is no driver, or no card."""
    program = next((found for name in DRIVER_PROGRAM if (found := shutil.which(name))), None)
    if program is None:
        return None
    query = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    asked = subprocess.run(query, capture_output=True, encoding="utf-8", errors="replace", timeout=60, check=False)
    if asked.returncode or "," not in asked.stdout:
        return None
    name, driver = asked.stdout.splitlines()[0].rsplit(",", 1)
    shown = subprocess.run([program], capture_output=True, encoding="utf-8", errors="replace", timeout=60, check=False)
    release = re.search(r"CUDA Version: *([\d.]+)", shown.stdout)
    return _Card(name.strip(), driver.strip(), _numbers(release[1]) if release else ())


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _release(package: str) -> tuple[int, ...]:
    """Major and minor of a package, such as (13, 0)."""
    return _numbers(_version(package) or "")[:2]


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdecimal())


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers)) or "unknown"


CHECKS: tuple[Callable[[Path], Finding], ...] = (python, packages, torch, git, gpu, toolkit, data, disk, jupyterlab)
