"""Runs everything that CI runs, stage after stage, and says where the time went; `make test` starts it."""

import os
import re
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PYTEST = (
    sys.executable,
    "-m",
    "pytest",
    "-q",
    "-rfEs",
    "-p",
    "no:cacheprovider",
    "--durations=20",
    "--durations-min=2",
)
RUFF = (sys.executable, "-m", "ruff")
# Named by weeks, or not at all, the notebooks would be executed for their gaps, which `another machine` tries.
KERNELS = sorted(path.stem for path in (ROOT / "studylib" / "kernels").glob("[0-9]*/*.py"))
STUDY = str(Path(sys.executable).with_name("study"))
COUNTED = re.compile(r"(\d+) (passed|failed|skipped|xfailed|xpassed|errors?)")
BROKEN = re.compile(r"(FAILED|ERROR) ")  # how pytest's summary begins the line of a test
SLOW = re.compile(r"\s*(\d+\.\d+)s (call|setup|teardown) +(\S.*)")  # how pytest lists a test that took long
SHOWN = 20  # of the slowest
ORDER = ("failed", "error", "passed", "skipped", "xfailed", "xpassed")


class Stage(NamedTuple):
    name: str
    command: tuple[str, ...]
    variables: tuple[tuple[str, str], ...] = ()


# Two stages of a row run at a time, one for each core, and who is done first takes the next one: so what takes long
# comes first, and the types, which one core checks in half a minute, fill the end. The unit tests take both cores
# themselves. Nothing else executes the notebooks: each is run once against what is stored, and once with another seed,
# where only its assertions can fail.
ROWS = [
    [
        Stage("format", (*RUFF, "format", "--check", ".")),
        Stage("lint", (*RUFF, "check", ".")),
    ],
    # worksteal: the worker that is done first takes from the other's queue.
    [
        Stage(
            "unit tests",
            (*PYTEST, "tests", "-m", "not browser", "-p", "no:nbval", "-n", "2", "--dist", "worksteal"),
            (("OMP_NUM_THREADS", "1"),),  # of torch and NumPy: with two workers there is a core for one each
        )
    ],
    [
        Stage(
            "another machine",
            (sys.executable, "tests/another_machine.py"),
            (("ATEN_CPU_CAPABILITY", "default"),),
        ),
        Stage("other Pythons", (sys.executable, "tests/pythons.py")),
        Stage("notebooks", (*PYTEST, "--nbval", "weeks")),
        Stage("browser", (*PYTEST, "tests/browser", "-p", "no:nbval")),
        Stage("exercises", (STUDY, "exercises", "check", *KERNELS)),
        Stage("types", (sys.executable, "-m", "mypy")),
    ],
]


class Result(NamedTuple):
    name: str
    status: int
    seconds: float
    last: str  # of the lines that it printed
    broken: list[str]  # the lines that name a failed test
    slow: list[tuple[float, str]]  # the seconds and names of the slowest tests


def run(stage: Stage) -> Result:
    """Run a stage; its output is shown as it comes, each line with the stage's name."""
    began, last = time.perf_counter(), ""
    broken: list[str] = []
    slow: list[tuple[float, str]] = []
    environment = os.environ | {"PYTHONUNBUFFERED": "1"} | dict(stage.variables)
    with subprocess.Popen(
        stage.command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            print(f"{stage.name} | {line}", end="", flush=True)
            last = line if line.strip() else last
            if BROKEN.match(line):
                broken.append(line.rstrip())
            if found := SLOW.fullmatch(line.rstrip()):
                slow.append((float(found[1]), found[3] if found[2] == "call" else f"{found[3]} ({found[2]})"))
    seconds = time.perf_counter() - began
    print(f"{stage.name} | {'FAILED' if process.returncode else 'passed'} in {seconds:.0f} s", flush=True)
    return Result(stage.name, process.returncode, seconds, last, broken, slow)


def count(results: list[Result]) -> str:
    """How many tests passed and failed, in pytest's words; a stage without tests counts as one."""
    counts: Counter[str] = Counter()
    for result in results:
        found = {word.removesuffix("s"): int(number) for number, word in COUNTED.findall(result.last)}
        if result.status and not found.keys() & {"failed", "error"}:
            found["failed"] = 1
        counts.update(found or {"passed": 1})
    return ", ".join(f"{counts[word]} {word}" for word in ORDER if counts[word])


def main(set_up: float) -> int:
    results: list[Result] = []
    table = [(set_up, "set-up")]
    for row in ROWS:
        print(f"\n===== {', '.join(stage.name for stage in row)} =====", flush=True)
        began = time.perf_counter()
        with ThreadPoolExecutor(2) as pool:
            done = list(pool.map(run, row))
        table.append((time.perf_counter() - began, ", ".join(f"{r.name} {r.seconds:.0f}" for r in done)))
        results += done
    print("\nwhere the time went (stages on one line ran two at a time)")
    for seconds, names in table:
        print(f"{seconds:7.0f} s  {names}")
    if slow := sorted((entry for result in results for entry in result.slow), reverse=True)[:SHOWN]:
        print("the slowest tests and cells")
        for seconds, name in slow:
            print(f"{seconds:7.0f} s  {name}")
    if failed := [result.name for result in results if result.status]:
        print(f"failed stages: {', '.join(failed)}")
        for result in results:
            for line in result.broken:
                print(f"{result.name} | {line}")
    print(f"===== {count(results)} in {sum(seconds for seconds, _ in table):.2f}s =====")
    return bool(failed)


if __name__ == "__main__":
    try:
        sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 0.0))
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        sys.exit(130)
