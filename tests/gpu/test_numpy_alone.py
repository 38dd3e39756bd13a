"""Installed without extras, the package brings NumPy and nothing else: the emulator and its checks work."""

import os
import subprocess
import tomllib
import venv
from pathlib import Path

import numpy
import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
KERNEL = """
import numpy as np
from studylib import gpu

def add_one(out, n):
    i = cuda.grid(1)
    if i < n:
        out[i] += 1

assert gpu.mode() == "emulator"
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Runs code in an environment of its own that holds NumPy and, by its path, studylib."""
    folder = tmp_path_factory.mktemp("alone") / "venv"
    venv.create(folder, symlinks=True, with_pip=False)
    (packages,) = folder.glob("[Ll]ib/**/site-packages")
    here = Path(numpy.__file__).parents[1]
    for path in [*here.glob("numpy"), *here.glob("numpy.libs"), *here.glob("numpy-*")]:
        (packages / path.name).symlink_to(path)
    (packages / "studylib.pth").write_text(str(ROOT))
    program = folder / ("Scripts" if os.name == "nt" else "bin") / "python"

    def run(*arguments):
        command = [str(program), "-I", *arguments]
        return subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", check=False)

    return run


def test_the_package_itself_requires_numpy_alone():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert [Requirement(line).name for line in project["dependencies"]] == ["numpy"]


def test_a_kernel_is_checked_and_what_is_wrong_is_named(python, tmp_path):
    (tmp_path / "add.py").write_text(KERNEL + """
out = np.zeros(40, np.float32)
assert gpu.check(add_one, 2, 32, out, 40).ok and (out == 1).all()
report = gpu.check(add_one, 2, 32, out, 41)
print([finding.kind for finding in report.findings], report.findings[0].line)
print(report)
""")  # fmt: skip
    done = python(str(tmp_path / "add.py"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("['out-of-bounds'] 8\n")


def test_the_compiler_says_which_packages_it_lacks(python):
    done = python("-c", KERNEL + """
try:
    gpu.compile(add_one, np.zeros(1, np.float32), 1)
except gpu.NotAvailable as error:
    print(error)
""")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "does not exist for macOS" in done.stdout or "not installed: numba-cuda, nvidia-cuda-nvcc" in done.stdout


def test_the_command_says_what_to_install(python):
    done = python("-m", "studylib", "doctor")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == (
        "study: typer is missing; in the repository run: pip install -c constraints.txt -e '.[course,site]'\n"
    )
