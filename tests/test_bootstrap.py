"""bootstrap.py starts under any Python, does only what is missing, and every failure is one line that helps."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

import bootstrap

ROOT = Path(__file__).resolve().parents[1]
SOURCE = (ROOT / "bootstrap.py").read_text(encoding="utf-8")


@pytest.fixture
def course(tmp_path, monkeypatch):
    """An empty course for the module: nothing is installed, and no command is run unless a test says how."""
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    venv = tmp_path / ".venv"
    for name, value in {
        "ROOT": tmp_path,
        "VENV": venv,
        "BIN": venv / "bin",
        "PYTHON": venv / "bin" / "python",
        "STAMP": venv / "installed-for",
    }.items():
        monkeypatch.setattr(bootstrap, name, value)
    monkeypatch.setattr(bootstrap, "run", lambda command, **_: pytest.fail(f"ran {command}"))
    monkeypatch.setattr(bootstrap, "LINUX", True)
    monkeypatch.setattr(bootstrap, "has_driver", lambda: True)
    monkeypatch.delenv("TORCH", raising=False)
    return tmp_path


def pretend_python(monkeypatch, version=(3, 12)):
    bootstrap.PYTHON.parent.mkdir(parents=True, exist_ok=True)
    bootstrap.PYTHON.touch()
    monkeypatch.setattr(bootstrap, "version_of", lambda command: version if Path(command[0]).exists() else None)


def pretend_torch(version):
    (bootstrap.VENV / "lib" / "python3.12" / "site-packages" / f"torch-{version}.dist-info").mkdir(parents=True)


def pretend_run(monkeypatch, answers):
    """Commands are not run: the first key found in a command gives (status, lines); returns what was asked for."""
    asked = []

    def run(command, show=None):
        asked.append(" ".join(str(word) for word in command))
        return next((answer for key, answer in answers.items() if key in asked[-1]), (0, []))

    monkeypatch.setattr(bootstrap, "run", run)
    return asked


def free_space(monkeypatch, gigabytes):
    usage = namedtuple("usage", "total used free")(0, 0, int(gigabytes * 1e9))
    monkeypatch.setattr(bootstrap.shutil, "disk_usage", lambda path: usage)


def test_it_parses_under_python_3_8_and_imports_the_standard_library_only():
    tree = ast.parse(SOURCE, feature_version=(3, 8))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= set(sys.stdlib_module_names)
    calls = {node.func.attr for node in ast.walk(tree) if isinstance(node, ast.Call) and hasattr(node.func, "attr")}
    assert not calls & {"removeprefix", "removesuffix", "is_relative_to", "readlink", "hardlink_to", "with_stem"}


def test_make_knows_every_command_that_help_names():
    commands = {line.split()[1] for line in bootstrap.HELP.splitlines() if line.startswith("make ")}
    targets = re.search(r"^COMMANDS := (.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    assert commands | {"help"} == set(targets)


def test_without_a_command_it_prints_the_help(capsys):
    assert bootstrap.main([]) == 0
    assert bootstrap.HELP in capsys.readouterr().out


def test_an_unknown_command_is_answered_with_those_there_are(capsys):
    assert bootstrap.main(["labs"]) == 1
    assert capsys.readouterr().err.startswith("bootstrap: there is no command 'labs'; there are lab, test")


def test_a_second_run_installs_nothing(course, monkeypatch):
    pretend_python(monkeypatch)
    pretend_torch("2.14.1")
    bootstrap.STAMP.write_text(bootstrap.wanted())
    for name in ("mnist", "wheels"):
        (course / "data" / name).mkdir(parents=True)
        (course / "data" / name / "files").touch()
    assert bootstrap.main(["setup"]) == 0  # `course` fails the test on any command


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_change_of_what_decides_it_installs_again(course, monkeypatch, name):
    pretend_python(monkeypatch)
    pretend_torch("2.14.1")
    bootstrap.STAMP.write_text(bootstrap.wanted())
    assert bootstrap.is_installed("cuda", bootstrap.ALL)
    with (course / name).open("a") as file:
        file.write("# changed\n")
    assert not bootstrap.is_installed("cuda", bootstrap.ALL)
    asked = pretend_run(monkeypatch, {})
    bootstrap.install("cuda", bootstrap.ALL)
    client = f"-m uv pip install --compile-bytecode --python {bootstrap.PYTHON}"
    assert asked[-1].endswith(f"{client} -c constraints.txt -e .[course,site,test]")
    assert bootstrap.is_installed("cuda", bootstrap.ALL)


def test_a_participant_gets_no_test_tools_until_something_needs_them(course, monkeypatch):
    pretend_python(monkeypatch)
    pretend_torch("2.14.1")
    monkeypatch.setattr(bootstrap, "start", lambda command: 0)
    asked = pretend_run(monkeypatch, {})
    for command, installed in (("lab", "course"), ("weeks", None), ("test", "course,site,test"), ("lab", None)):
        asked.clear()
        assert bootstrap.main([command]) == 0
        extras = [line.rpartition(" -e ")[2] for line in asked if "--compile-bytecode" in line]
        assert extras == ([f".[{installed}]"] if installed else []), command


def test_an_interrupted_installation_is_taken_up_again(course, monkeypatch):
    pretend_python(monkeypatch)
    bootstrap.STAMP.write_text("an older state")

    def interrupted(command, show=None):
        if "--compile-bytecode" in command:
            raise KeyboardInterrupt
        return 0, []

    monkeypatch.setattr(bootstrap, "run", interrupted)
    free_space(monkeypatch, 100)
    assert bootstrap.main(["setup"]) == 130
    assert not bootstrap.STAMP.exists()
    pretend_run(monkeypatch, {})
    assert bootstrap.main(["setup"]) == 0 and bootstrap.STAMP.read_text() == bootstrap.wanted()


def test_without_uv_pip_installs_the_same(course, monkeypatch):
    pretend_python(monkeypatch)
    asked = pretend_run(
        monkeypatch, {"-m uv": (1, ["No module named uv"]), "--quiet": (1, ["no wheel for this system"])}
    )
    free_space(monkeypatch, 100)
    bootstrap.install("cpu", bootstrap.COURSE)
    torch, torchvision = bootstrap.pinned("torch"), bootstrap.pinned("torchvision")
    index = f"--index-url {bootstrap.CPU_INDEX}"
    assert asked[-2].endswith(f"-m pip install --no-deps {index} torch=={torch}+cpu torchvision=={torchvision}")
    assert asked[-1].endswith("-m pip install -c constraints.txt -e .[course]")


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"-m venv": (1, ["ensurepip is not available."])}, "sudo apt install python3-venv"),
        ({"-m venv": (1, ["No space left on device"])}, "making .venv failed: No space left on device"),
        ({"--quiet": (1, ["Max retries exceeded", "no matching"]), "-m uv": (1, [])}, "is the network up?"),
        ({"--compile": (2, ["error: Failed to fetch", "  Caused by: dns error"])}, "is the network up?"),
        ({"--compile": (2, ["error: No space left on device"])}, "the disk is full; .venv takes 3 GB"),
        ({"--compile": (1, ["no version of torch==9"])}, "installing failed: see the line above"),
    ],
)
def test_a_failure_is_one_line_and_leaves_no_stamp(course, monkeypatch, capsys, answers, message):
    monkeypatch.setattr(bootstrap, "find_python", lambda: [sys.executable])
    pretend_run(monkeypatch, answers)
    free_space(monkeypatch, 100)
    assert bootstrap.main(["setup"]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("bootstrap: ") and message in captured.err
    assert captured.err.count("\n") == 1 and not bootstrap.STAMP.exists()


def test_the_last_line_of_the_client_is_shown(course, monkeypatch, capsys):
    pretend_run(monkeypatch, {"--compile": (2, ["error: Failed to fetch", "  Caused by: dns error: no such host", ""])})
    monkeypatch.setattr(bootstrap, "find_python", lambda: [sys.executable])
    free_space(monkeypatch, 100)
    bootstrap.main(["setup"])
    assert "Caused by: dns error: no such host" in capsys.readouterr().out


@pytest.mark.parametrize(("torch", "needed"), [("cpu", 5), ("cuda", 9)])
def test_too_little_space_is_said_before_anything_is_made(course, monkeypatch, capsys, torch, needed):
    monkeypatch.setattr(bootstrap, "ask_cpu_index", lambda version: "")
    monkeypatch.setenv("TORCH", torch)
    free_space(monkeypatch, 3.2)
    assert bootstrap.main(["lab"]) == 1
    said = f"bootstrap: 3.2 GB are free here, {needed} are needed (torch with its libraries)\n"
    assert capsys.readouterr().err == said
    assert not bootstrap.VENV.exists()


def test_what_a_cut_off_run_left_counts_as_space(course, monkeypatch):
    pretend_python(monkeypatch)
    pretend_run(monkeypatch, {})
    free_space(monkeypatch, 8.9)
    with (bootstrap.VENV / "torch").open("wb") as file:
        file.truncate(200_000_000)  # a hole: takes no space on the disk
    assert bootstrap.main(["setup"]) == 0


@pytest.mark.parametrize("version", [None, (3, 10), (3, 14)])
def test_a_broken_or_wrong_venv_is_made_anew(course, monkeypatch, capsys, version):
    pretend_python(monkeypatch, version)
    (bootstrap.VENV / "half").touch()
    monkeypatch.setattr(bootstrap, "find_python", lambda: ["a-python"])
    asked = pretend_run(monkeypatch, {})
    bootstrap.make_venv()
    assert asked == [f"a-python -m venv {bootstrap.VENV}"]
    assert not (bootstrap.VENV / "half").exists()
    assert ".venv is unfinished or broken" in capsys.readouterr().out


def test_another_python_is_looked_for_newest_first(monkeypatch):
    versions = {"/this": (3, 8), "/bin/python3.13": None, "/bin/python3.12": (3, 12), "/bin/python3.11": (3, 11)}
    monkeypatch.setattr(bootstrap.sys, "_base_executable", "/this", raising=False)
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: name if name == "/this" else f"/bin/{name}")
    monkeypatch.setattr(bootstrap, "version_of", lambda command: versions.get(command[0]))
    assert bootstrap.find_python() == ["/bin/python3.12"]
    versions["/this"] = (3, 11)
    assert bootstrap.find_python() == ["/this"]


def test_no_python_to_be_found_is_said_with_what_to_do(monkeypatch):
    monkeypatch.setattr(bootstrap, "version_of", lambda command: (3, 9))
    with pytest.raises(bootstrap.Failure, match=r"Python 3\.11 to 3\.13 is needed and none is on PATH .*python\.org"):
        bootstrap.find_python()


def test_version_of_a_command_that_is_none():
    assert bootstrap.version_of([sys.executable]) == sys.version_info[:2]
    assert bootstrap.version_of(["no-such-python"]) is None


@pytest.mark.parametrize("there", [None, "mnist", "wheels"])
def test_data_that_cannot_be_had_is_a_warning(course, monkeypatch, capsys, there):
    if there:
        (course / "data" / there).mkdir(parents=True)
        (course / "data" / there / "files").touch()
    pretend_run(monkeypatch, {"studylib.data": (1, ["20 photographs could not be had"])})
    bootstrap.fetch_data()
    assert "warning: not all of the data (20 photographs could not be had)" in capsys.readouterr().out


def test_jupyterlab_opens_on_the_first_page_made_anew(course, monkeypatch):
    started, asked = [], pretend_run(monkeypatch, {})
    monkeypatch.setattr(bootstrap, "start", lambda command: started.append(command) or 0)
    extension = course / bootstrap.LAB_EXTENSION
    shutil.copytree(ROOT / bootstrap.LAB_EXTENSION, extension)
    bootstrap.lab(["--no-browser"])
    assert asked == [f"{bootstrap.BIN / 'study'} front"]
    assert "--LabApp.default_url=/lab/tree/weeks/START.md" in started[-1] and started[-1][-1] == "--no-browser"
    share = bootstrap.VENV / "share" / "jupyter"
    assert json.loads((share / "lab" / "settings" / "overrides.json").read_text()) == bootstrap.LAB_SETTINGS
    (extension / "static" / "course.js").write_text("newer")
    bootstrap.lab([])
    assert (share / "labextensions" / "study-course" / "static" / "course.js").read_text() == "newer"
    assert ("--allow-root" in started[-1]) == (hasattr(os, "geteuid") and os.geteuid() == 0)


def test_without_a_first_page_jupyterlab_opens_on_the_first_week_or_the_readme(course, monkeypatch, capsys):
    started = []
    pretend_run(monkeypatch, {"study front": (1, ["study: group.toml is not valid TOML"])})
    monkeypatch.setattr(bootstrap, "start", lambda command: started.append(command) or 0)
    bootstrap.lab([])
    assert "--LabApp.default_url=/lab/tree/README.md" in started[-1]
    assert "warning: no first page (study: group.toml is not valid TOML)" in capsys.readouterr().out
    (course / "weeks" / "01_a").mkdir(parents=True)
    (course / "weeks" / "01_a" / "01_a.ipynb").touch()
    bootstrap.lab([])
    assert "--LabApp.default_url=/lab/tree/weeks/01_a/01_a.ipynb" in started[-1]


def test_clean_leaves_venv_and_data(course):
    for name in (".venv", "data", "build", ".mypy_cache", "weeks/01_a/.ipynb_checkpoints", "tests/__pycache__"):
        (course / name).mkdir(parents=True)
    assert not bootstrap.main(["clean"])
    assert sorted(p.name for p in course.rglob("*") if p.is_dir()) == [".venv", "01_a", "data", "tests", "weeks"]


def test_an_unreachable_index_is_one_line_for_real(tmp_path):
    """The real commands, with a package index where nobody listens."""
    for name in ("bootstrap.py", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "UV_"))}
    nowhere = {
        "TORCH": "cuda",
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_CACHE_DIR": "1",
    }
    command = [sys.executable, "bootstrap.py", "lab"]
    done = subprocess.run(
        command, cwd=tmp_path, env=kept | nowhere, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert done.stderr == "bootstrap: fetching uv failed: is the network up? Then run the same command again\n"
    assert "making .venv" in done.stdout and not (tmp_path / ".venv" / "installed-for").exists()


@pytest.mark.skipif(os.name == "nt", reason="PowerShell is no login shell")
def test_a_terminal_in_jupyterlab_started_without_one_finds_study(course, monkeypatch):
    """In a login shell, whose profile sets PATH anew, `study` would not be found."""
    terminals = pytest.importorskip("jupyter_server_terminals.app")
    (bootstrap.BIN).mkdir(parents=True)
    (bootstrap.BIN / "study").write_text("#!/bin/sh\n")
    (bootstrap.BIN / "study").chmod(0o755)
    (course / ".profile").write_text("PATH=/usr/bin:/bin\n")
    asked = []
    monkeypatch.setattr(bootstrap, "run", lambda command, **_: (1, ["no page"]))
    monkeypatch.setattr(bootstrap, "start", lambda command: asked.extend(map(str, command)))
    monkeypatch.setenv("SHELL", shutil.which("sh"))
    bootstrap.lab([])
    server = pytest.importorskip("jupyter_server.serverapp").ServerApp()
    server.parse_command_line([option for option in asked[3:] if option.startswith("--ServerApp")])
    app = terminals.TerminalsExtensionApp()
    app.serverapp = server
    monkeypatch.setattr(terminals.sys.stdout, "isatty", lambda: False)
    app.initialize_configurables()
    command = [*app.terminal_manager.shell_command, "-c", "command -v study"]
    environment = bootstrap.environment() | {"HOME": str(course)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(bootstrap.BIN / "study")


@pytest.mark.parametrize(("after", "kept"), [("numpy==1\n", True), ("numpy==2\n", False)])
def test_the_lock_keeps_what_was_run_only_while_every_pin_stays(after, kept):
    ran = bootstrap.RAN + "Python 3.12.1, numpy 1; Linux x86_64"
    head = bootstrap.head_of_lock(f"# old words\n{ran}\nnumpy==1\n", after)
    assert head.startswith(bootstrap.LOCK_HEAD) and "old words" not in head
    assert (ran in head.splitlines()) == kept and ("# (none yet)" in head) != kept


def test_what_a_stopped_fetching_left_is_not_taken_for_the_data(course, monkeypatch):
    (course / "data" / "mnist" / ".fetch-abc").mkdir(parents=True)
    (course / "data" / "wheels" / "photographs").mkdir(parents=True)
    asked = pretend_run(monkeypatch, {})
    bootstrap.fetch_data()
    assert any("studylib.data" in command for command in asked)
