"""Runs the course on every other promised Python of this machine: the lock gives each of them versions of its own.

For each, an environment from the lock (build/pythons/3.12, kept while the lock stays), and in it what meets the
packages most: compiling kernels (tests/gpu), every exercise against its solution, one notebook. Left out is what is
the same on every Python, such as the course's own commands and the pages, and the drawn kernels of tests/gpu, whose
hundreds of runs of the emulator would find the same again.
"""

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import bootstrap

KERNELS = sorted(path.stem for path in (ROOT / "studylib" / "kernels").glob("[0-9]*/*.py"))  # and no week's gaps
NOTEBOOK = "weeks/02_resnext_gpu1"  # the quickest
BIN = "Scripts" if os.name == "nt" else "bin"
PROGRAM = "python.exe" if os.name == "nt" else "python"


def others() -> list[tuple[int, int]]:
    """The promised Pythons but the one that runs this."""
    promised = [(3, minor) for minor in range(bootstrap.LOW[1], bootstrap.HIGH[1] + 1)]
    return [version for version in promised if version != sys.version_info[:2]]


def find(version: tuple[int, int]) -> str | None:
    """The Python of that version that uv knows (on PATH, in the registry, its own), else one of pyenv's."""
    name = "{}.{}".format(*version)
    command = [sys.executable, "-m", "uv", "python", "find", "--system", "--no-python-downloads", "--no-project", name]
    asked = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv", "versions")
    places = [asked.stdout.strip()] if asked.returncode == 0 else []
    places += sorted(str(path) for path in pyenv.glob(f"{name}.*/{'' if os.name == 'nt' else 'bin/'}{PROGRAM}"))
    return next((place for place in places if bootstrap.version_of([place]) == version), None)


def steps(folder: Path) -> list[list[str]]:
    """What is run in an environment."""
    python, study = str(folder / BIN / PROGRAM), str(folder / BIN / "study")
    pytest = [python, "-m", "pytest", "-q", "-rfEs", "-p", "no:cacheprovider"]
    return [
        [*pytest, "tests/gpu", "-m", "not hypothesis"],
        [study, "exercises", "check", *KERNELS],
        [*pytest, "--nbval", NOTEBOOK],
    ]


def make(folder: Path, python: str) -> bool:
    """Whether the folder holds the lock's environment; made anew unless its stamp, written last, says so."""
    torch = bootstrap.held_torch() or "cuda"  # as what runs this has it
    stamp, wanted = folder / "installed-for", f"{python} {torch} {bootstrap.wanted()}"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return True
    shutil.rmtree(folder, ignore_errors=True)
    uv = [sys.executable, "-m", "uv"]
    if not run([*uv, "venv", "--quiet", "--python", python, str(folder)]):
        return False
    install = [*uv, "pip", "install", "--quiet", "--python", str(folder / BIN / PROGRAM)]
    if not all(run(install + arguments) for arguments in bootstrap.calls(torch)):
        return False
    stamp.write_text(wanted, encoding="utf-8")
    return True


def run(command: list[str]) -> bool:
    """Whether a command of ROOT succeeds; its output is this program's."""
    inside = {"PATH": os.pathsep.join([str(Path(command[0]).parent), os.environ.get("PATH", "")])}
    left_out = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")
    environment = {name: value for name, value in os.environ.items() if name not in left_out} | inside
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0


def ran() -> str:
    """The line for the head of constraints.txt that says what was run: this Python and what it has installed."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "numba", "numba-cuda", "torch")]
    where = f"{platform.system()} {platform.machine()}"
    return f"{bootstrap.RAN}Python {platform.python_version()}, {', '.join(versions)}; {where}"


def main() -> int:
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for version in others():
        name = "{}.{}".format(*version)
        python = find(version)
        if python is None:
            print(f"SKIPPED Python {name}: it is not on this machine", flush=True)
            counts["skipped"] += 1
            continue
        folder = ROOT / "build" / "pythons" / name
        print(f"Python {name}: {python}", flush=True)
        if not make(folder, python):
            print(f"FAILED Python {name}: its environment can't be made from constraints.txt", flush=True)
            counts["failed"] += 1
            continue
        all_passed = True
        for step in steps(folder):
            what = " ".join([Path(step[0]).name, *step[1:]])
            passed = run(step)
            print(f"{'passed' if passed else 'FAILED'} Python {name}: {what}", flush=True)
            counts["passed" if passed else "failed"] += 1
            all_passed = all_passed and passed
        if all_passed:
            run([str(folder / BIN / PROGRAM), __file__, "--ran"])
    print(", ".join(f"{number} {word}" for word, number in counts.items() if number))
    return bool(counts["failed"])


if __name__ == "__main__":
    try:
        sys.exit(print(ran()) if sys.argv[1:] == ["--ran"] else main())
    except KeyboardInterrupt:
        sys.exit(130)
