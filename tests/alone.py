"""Runs each test file in a process of its own: a test that leans on what another file has imported or left fails here.

    python tests/alone.py [FILES] [OPTIONS OF PYTEST]

The processes are forked from one that has imported the packages of others, which takes seconds, and none of ours.
"""

import importlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Not TVM, which one test loads in an order of its own.
PACKAGES = ["numpy", "torch", "torchvision", "numba.cuda", "scipy.signal", "sklearn.datasets", "matplotlib.pyplot"]
PACKAGES += ["hypothesis", "nbformat", "jupytext", "papermill", "nbconvert", "nbval.plugin", "typer.testing", "jinja2"]
IMPORTED = "ignore::pytest.PytestAssertRewriteWarning"  # pytest's plugins, before it could see to their asserts
NO_TESTS = int(pytest.ExitCode.NO_TESTS_COLLECTED)


class Run(NamedTuple):
    file: str
    status: int
    seconds: float  # of the processor
    output: str


def warm() -> None:
    """Import the packages. Raises RuntimeError where one of them brought ours: then no file would be alone."""
    for name in PACKAGES:
        importlib.import_module(name)
    if ours := sorted(name for name in sys.modules if name.partition(".")[0] == "studylib"):
        raise RuntimeError(f"{', '.join(ours)} are imported before the tests")


def start(file: str, options: list[str], output: Path) -> int:
    """The id of a process that runs one file; it writes to `output`."""
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    status = 1
    try:
        log = os.open(output, os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1)
        os.dup2(log, 2)
        status = pytest.main([file, "-q", "-rfE", "-n", "0", "-p", "no:cacheprovider", "-W", IMPORTED, *options])
        sys.stdout.flush()
    finally:
        os._exit(status)


def run(files: list[str], options: list[str], processes: int = 2) -> Iterator[Run]:
    """Each file's run, as it ends."""
    with tempfile.TemporaryDirectory() as folder:
        waiting = list(enumerate(files))
        running: dict[int, tuple[str, Path]] = {}
        while waiting or running:
            while waiting and len(running) < processes:
                number, file = waiting.pop(0)
                output = Path(folder, f"{number}.log")
                running[start(file, options, output)] = file, output
            pid, status, used = os.wait4(-1, 0)
            file, output = running.pop(pid)
            text = output.read_text(encoding="utf-8", errors="replace")
            yield Run(file, os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, text)


def main(arguments: list[str]) -> int:
    given = [argument for argument in arguments if argument.endswith(".py")]
    options = [argument for argument in arguments if argument not in given]
    files = given or sorted(
        path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py") if "browser" not in path.parts
    )
    warm()
    failed = 0
    for done in run(files, options):
        fine = done.status in (0, NO_TESTS)
        failed += not fine
        last = next((line for line in reversed(done.output.splitlines()) if line.strip()), "it printed nothing")
        print(f"{'passed' if fine else 'FAILED'} {done.file}: {last} ({done.seconds:.1f} s of a processor)", flush=True)
        if not fine:
            print(done.output, flush=True)
    print(", ".join(f"{n} {word}" for n, word in ((failed, "failed"), (len(files) - failed, "passed")) if n))
    return bool(failed)


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # behind a shell's & it is ignored, and some tests send it
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
