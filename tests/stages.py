"""Runs everything that CI runs, stage after stage, and says where the time went; `make test` starts it."""

import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTEST = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider"]
NBVAL = [*PYTEST, "--nbval", "weeks"]
STUDY = str(Path(sys.executable).with_name("study"))
STAGES: list[tuple[str, list[str], dict[str, str]]] = [
    ("lint", [sys.executable, "-m", "ruff", "check", "."], {}),
    ("types", [sys.executable, "-m", "mypy"], {}),
    ("unit tests", [*PYTEST, "tests", "-m", "not browser", "-n", "2"], {}),
    ("notebooks reproduce", NBVAL, {}),
    # torch without vector instructions rounds in other places, as another processor does.
    ("... on another machine", NBVAL, {"ATEN_CPU_CAPABILITY": "default"}),
    ("study run", [STUDY, "run"], {}),
    ("browser", [*PYTEST, "tests/browser"], {}),
]
COUNTED = re.compile(r"(\d+) (passed|failed|skipped|xfailed|xpassed|errors?)")


def run(command: list[str], variables: dict[str, str]) -> tuple[int, str]:
    """Run a stage, its output shown as it comes: (exit status, last line)."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    last = ""
    assert process.stdout is not None
    try:
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line if line.strip() else last
        return process.wait(), last
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def main(set_up: float) -> int:
    times, failed, counts = {"set-up": set_up}, [], Counter()
    for name, command, variables in STAGES:
        print(f"\n===== {name} =====", flush=True)
        began = time.perf_counter()
        status, last = run(command, variables)
        times[name] = time.perf_counter() - began
        counted = {word.removesuffix("s"): int(number) for number, word in COUNTED.findall(last)}
        counts.update(counted or {"failed" if status else "passed": 1})
        if status:
            failed.append(name)
        print(f"----- {name}: {'failed' if status else 'passed'} in {times[name]:.0f} s", flush=True)
    print("\nwhere the time went")
    for name, seconds in [*times.items(), ("together", sum(times.values()))]:
        print(f"{seconds:7.0f} s  {name}{'   FAILED' if name in failed else ''}")
    if failed:
        print(f"failed: {', '.join(failed)}")
    order = ("failed", "error", "passed", "skipped", "xfailed", "xpassed")
    words = ", ".join(f"{counts[word]} {word}" for word in order if counts[word])
    print(f"===== {words} in {sum(times.values()):.2f}s =====")
    return bool(failed)


if __name__ == "__main__":
    try:
        sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 0.0))
    except KeyboardInterrupt:
        print("\nstopped")
        sys.exit(130)
