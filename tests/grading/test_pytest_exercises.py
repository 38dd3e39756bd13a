"""`pytest exercises/` shows each stage as an item."""

import subprocess
import sys

import pytest

from studylib.kernels import load
from studylib.kernels.stubs import stub


@pytest.fixture
def pytest_on(tmp_path, solved):
    path = tmp_path / "exercises" / "02_resnext_gpu1" / "transpose.py"
    path.parent.mkdir(parents=True)
    (path.parent / "notes.py").write_text("raise SystemExit")

    def run(text, *options):
        path.write_text(text)
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", "exercises", *options]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


def test_stages_are_items(pytest_on, solved):
    done = pytest_on(solved, "-v")
    assert done.returncode == 0 and "6 passed, 1 skipped" in done.stdout
    assert "transpose.py::right PASSED" in done.stdout and "no GPU here" in done.stdout
    done = pytest_on(stub(load("transpose")))
    assert (
        done.returncode == 0
        and "7 skipped" in done.stdout
        and "passed" not in done.stdout
        and "not attempted" in done.stdout
    )


def test_a_failure_is_the_verdicts_text(pytest_on, solved):
    done = pytest_on(solved.replace("cuda.syncthreads()", "pass"), "-k", "transpose and safe")
    assert done.returncode == 1 and "6 deselected" in done.stdout
    assert "transpose is not safe:" in done.stdout and "race" in done.stdout
    assert "Traceback" not in done.stdout and "pytest_exercises.py" not in done.stdout.partition("short test")[0]
