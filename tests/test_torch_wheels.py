"""Where torch comes from: the choice, and what uv and pip do about it with made-up wheels from indexes on 127.0.0.1."""

import base64
import functools
import hashlib
import http.server
import json
import os
import platform
import shutil
import socket
import subprocess
import threading
import zipfile
from pathlib import Path
from urllib.parse import quote

import pytest
import uv
import yaml

import bootstrap

ROOT = Path(__file__).resolve().parents[1]
MACHINE = platform.machine()
pytestmark = pytest.mark.skipif(not bootstrap.LINUX, reason="elsewhere PyPI has one torch, for the CPU")


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """An empty environment, made once."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([*bootstrap.find_python(), "-m", "venv", str(folder)], check=True)
    return folder


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course without an environment, on a machine without a driver, where nothing is asked for."""
    folder = tmp_path / "course"
    folder.mkdir()
    venv = folder / ".venv"
    for name, value in {
        "ROOT": folder,
        "VENV": venv,
        "BIN": venv / "bin",
        "PYTHON": venv / "bin" / "python",
        "STAMP": venv / "installed-for",
        "PATIENCE": 30,  # a busy machine's answer is one too; the test of silence has its own
    }.items():
        monkeypatch.setattr(bootstrap, name, value)
    (folder / "pyproject.toml").write_text("")
    (folder / "constraints.txt").write_text("torch==2.14.1\ntorchvision==0.29.1\ncublas==13.0\ntool==1.0\n")
    monkeypatch.setattr(bootstrap, "has_driver", lambda: False)
    monkeypatch.setattr(bootstrap, "fetch_data", lambda: None)
    monkeypatch.delenv("TORCH", raising=False)
    return folder


def hold(version):
    """Make .venv look as if it held this torch."""
    (bootstrap.VENV / "lib" / "python3.12" / "site-packages" / f"torch-{version}.dist-info").mkdir(parents=True)


@pytest.mark.parametrize(
    ("asked", "held", "driver", "lacks", "torch", "probed"),
    [
        ("", None, False, "", "cpu", True),
        ("", None, True, "", "cuda", False),
        ("", None, False, "no answer", "cuda", True),
        ("cpu", None, True, "", "cpu", True),
        ("cuda", None, False, "", "cuda", False),
        # What is there stays, whatever the driver, until the other is asked for.
        ("", "2.14.1", False, "", "cuda", False),
        ("", "2.14.1+cpu", True, "", "cpu", False),
        ("", "2.13.0+cpu", False, "no answer", "cpu", False),
        ("cuda", "2.14.1+cpu", False, "", "cuda", False),
        ("cpu", "2.14.1", True, "", "cpu", True),
        ("cpu", "2.14.1", True, "no answer", "cuda", True),
        ("cpu", "2.14.1+cpu", True, "no answer", "cpu", False),
    ],
)
def test_the_choice(course, monkeypatch, capsys, asked, held, driver, lacks, torch, probed):
    probes = []
    monkeypatch.setenv("TORCH", asked)
    monkeypatch.setattr(bootstrap, "has_driver", lambda: driver)
    monkeypatch.setattr(bootstrap, "ask_cpu_index", lambda version: probes.append(version) or lacks)
    if held:
        hold(held)
    assert bootstrap.choose_torch() == torch
    assert probes == ["2.14.1"] * probed
    said = "PyTorch's index for the CPU gives no torch (no answer): taking PyPI's, with CUDA's libraries\n"
    out = capsys.readouterr().out
    assert out.endswith(said) and out.count("\n") == 1 if probed and lacks else out == ""


def test_another_word_is_refused(course, monkeypatch, capsys):
    monkeypatch.setenv("TORCH", "gpu")
    assert bootstrap.main(["setup"]) == 1
    assert capsys.readouterr().err == "bootstrap: TORCH is 'gpu', expected cpu or cuda\n"


@pytest.mark.parametrize(("asked", "said"), [("", ""), ("cpu", ""), ("cuda", "PyPI has no torch with CUDA")])
def test_elsewhere_than_on_linux_pypi_has_the_one_for_the_cpu(course, monkeypatch, capsys, asked, said):
    monkeypatch.setattr(bootstrap, "LINUX", False)
    monkeypatch.setenv("TORCH", asked)
    hold("2.14.1")
    assert bootstrap.choose_torch() == bootstrap.held_torch() == "cpu"
    assert bootstrap.calls("cpu") == bootstrap.calls("cuda")
    out = capsys.readouterr().out
    assert said in out and bool(out) == bool(said)


@pytest.mark.parametrize(
    ("program", "found"),
    [
        ("echo 'GPU 0: NVIDIA H100 (UUID: GPU-1)'", True),
        ("echo 'No devices found.'", False),
        ("echo 'GPU 0: lost'; exit 9", False),
        (None, False),
    ],
)
def test_a_driver_is_what_names_a_card(tmp_path, monkeypatch, program, found):
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    monkeypatch.setattr(bootstrap.shutil, "which", functools.partial(bootstrap.shutil.which, path=str(tmp_path)))
    if program:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    assert bootstrap.has_driver() == found


class Index(http.server.SimpleHTTPRequestHandler):
    """A package index of two: /cpu as PyTorch's and /pypi as PyPI's; notes what it is asked for."""

    asked: list[str]
    folder: Path
    address: str

    def do_GET(self):
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def index(tmp_path, environment, monkeypatch):
    """Both indexes with made-up wheels: torch for the CPU alone there, and here one that needs a library of CUDA's."""
    folder = tmp_path / "index"
    needs = ["cublas==13.0; sys_platform == 'linux'"]
    for where, tag, libraries in (("cpu", "+cpu", []), ("pypi", "", needs)):
        wheel(folder / where, "torch", f"2.14.1{tag}", libraries, f"linux_{MACHINE}")
        wheel(folder / where, "torchvision", f"0.29.1{tag}", ["torch==2.14.1"], f"linux_{MACHINE}")
    wheel(folder / "pypi", "cublas", "13.0")
    wheel(folder / "pypi", "tool", "1.0", ["torch>=2", "torchvision"])
    program = f"import os, sys\nos.execv({uv.find_uv_bin()!r}, ['uv', *sys.argv[1:]])\n"
    wheel(folder / "pypi", "uv", "1.0", files={"uv/__init__.py": "", "uv/__main__.py": program})
    handler = type("Noted", (Index,), {"asked": [], "folder": folder})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        handler.address = f"http://127.0.0.1:{server.server_port}"
        for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
            monkeypatch.delenv(name)
        for name, value in {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_CACHE_DIR": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_INDEX_URL": f"{handler.address}/pypi",
            "UV_NO_CONFIG": "1",
            "UV_NO_CACHE": "1",
            "UV_DEFAULT_INDEX": f"{handler.address}/pypi",
            "NO_PROXY": "127.0.0.1",
        }.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(bootstrap, "run", functools.partial(run, bootstrap.run, environment))
        monkeypatch.setattr(bootstrap, "CPU_INDEX", f"{handler.address}/cpu")
        monkeypatch.setattr(bootstrap, "calls", functools.partial(calls, bootstrap.calls))
        yield handler
        server.shutdown()


def run(real, environment, command, show=None):
    """Runs a command as bootstrap does, but for making an environment, which takes ten times as long as a copy."""
    if "venv" in command:
        return 0, [str(shutil.copytree(environment, command[-1], symlinks=True))]
    return real(command, show)


def calls(real, *arguments):
    """What bootstrap asks for, with a package of the index in place of the course itself."""
    return [["tool" if word.startswith(".[") else word for word in call if word != "-e"] for call in real(*arguments)]


def wheel(index, name, version, needs=(), system="any", files=None):
    """Put a wheel of a few lines into an index."""
    record = f"{name}-{version}.dist-info"
    metadata = [
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}",
        *(f"Requires-Dist: {need}" for need in needs),
    ]
    contents = dict(files or {f"{name}/__init__.py": ""})
    contents[f"{record}/METADATA"] = "\n".join(metadata) + "\n"
    contents[f"{record}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-{system}\n"
    )
    hashes = {path: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()) for path, text in contents.items()}
    lines = [f"{path},sha256={digest.decode().rstrip('=')}," for path, digest in hashes.items()]
    contents[f"{record}/RECORD"] = "\n".join([*lines, f"{record}/RECORD,,"]) + "\n"
    folder = index / name
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}-{version}-py3-none-{system}.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for path, text in contents.items():
            archive.writestr(path, text)
    with (folder / "index.html").open("a") as page:
        page.write(f'<a href="{quote(file.name)}">{file.name}</a><br>\n')


def installed():
    """What .venv holds, by its own pip."""
    listed = subprocess.check_output([str(bootstrap.PYTHON), "-m", "pip", "list", "--format=json"])
    return {row["name"]: row["version"] for row in json.loads(listed) if row["name"] not in ("pip", "setuptools", "uv")}


CPU = {"torch": "2.14.1+cpu", "torchvision": "0.29.1+cpu", "tool": "1.0"}
CUDA = {"torch": "2.14.1", "torchvision": "0.29.1", "tool": "1.0", "cublas": "13.0"}


@pytest.mark.parametrize("client", ["uv", "pip"])
def test_without_a_driver_torch_comes_from_pytorch_s_index_and_all_else_from_pypi(course, index, monkeypatch, client):
    if client == "pip":
        monkeypatch.setattr(bootstrap, "bring_uv", lambda: False)
    assert bootstrap.main(["setup"]) == 0
    assert installed() == CPU
    assert not [path for path in index.asked if path.startswith("/pypi/torch") and path.endswith(".whl")]
    assert not [path for path in index.asked if path.startswith("/cpu/") and "torch" not in path]
    asked = len(index.asked)
    assert bootstrap.main(["setup"]) == 0 and len(index.asked) == asked  # nothing is asked for again


def test_the_other_torch_is_taken_when_it_is_asked_for_and_then_stays(course, index, monkeypatch, capsys):
    assert bootstrap.main(["setup"]) == 0
    for asked, held in (("cuda", CUDA), ("", CUDA), ("cpu", CPU), ("", CPU)):
        monkeypatch.setenv("TORCH", asked)
        capsys.readouterr()
        assert bootstrap.main(["setup"]) == 0
        assert installed() == held
        assert (f"making .venv anew for TORCH={asked}" in capsys.readouterr().out) == bool(asked)


def test_a_newer_lock_keeps_the_kind(course, index, monkeypatch):
    assert bootstrap.main(["setup"]) == 0
    monkeypatch.setattr(bootstrap, "has_driver", lambda: True)
    for where, tag in (("cpu", "+cpu"), ("pypi", "")):
        wheel(index.folder / where, "torch", f"2.15.0{tag}", [], f"linux_{MACHINE}")
        wheel(index.folder / where, "torchvision", f"0.30.0{tag}", ["torch==2.15.0"], f"linux_{MACHINE}")
    pins = (course / "constraints.txt").read_text().replace("2.14.1", "2.15.0").replace("0.29.1", "0.30.0")
    (course / "constraints.txt").write_text(pins)
    assert bootstrap.main(["setup"]) == 0
    assert installed() == {"torch": "2.15.0+cpu", "torchvision": "0.30.0+cpu", "tool": "1.0"}


@pytest.fixture
def nowhere():
    """The address of a port that is taken and where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken, f"http://127.0.0.1:{taken.getsockname()[1]}/cpu"


def test_what_the_index_lacks_is_said(course, index, nowhere, monkeypatch):
    assert bootstrap.ask_cpu_index("2.14.1") == ""
    assert bootstrap.ask_cpu_index("2.14") == f"no torch 2.14 for {MACHINE}"
    monkeypatch.setattr(bootstrap.platform, "machine", lambda: "s390x")
    assert bootstrap.ask_cpu_index("2.14.1") == "no torch 2.14.1 for s390x"
    monkeypatch.setattr(bootstrap, "CPU_INDEX", f"{index.address}/elsewhere")
    assert bootstrap.ask_cpu_index("2.14.1") == "File not found"
    taken, address = nowhere
    monkeypatch.setattr(bootstrap, "CPU_INDEX", address)
    assert "Connection refused" in bootstrap.ask_cpu_index("2.14.1")
    taken.listen()  # and never answers
    monkeypatch.setattr(bootstrap, "PATIENCE", 0.3)
    assert bootstrap.ask_cpu_index("2.14.1") == "no answer in 0.3 s"


@pytest.mark.parametrize("client", ["uv", "pip"])
def test_where_that_index_does_not_answer_it_is_one_line_and_pypi_s(
    course, index, nowhere, monkeypatch, capsys, client
):
    if client == "pip":
        monkeypatch.setattr(bootstrap, "bring_uv", lambda: False)
    monkeypatch.setattr(bootstrap, "CPU_INDEX", nowhere[1])
    assert bootstrap.main(["setup"]) == 0
    assert installed() == CUDA
    line = "PyTorch's index for the CPU gives no torch ([Errno 111] Connection refused): taking PyPI's"
    assert capsys.readouterr().out.count(line) == 1
    asked = len(index.asked)
    assert bootstrap.main(["setup"]) == 0 and len(index.asked) == asked
    assert capsys.readouterr().out == ""  # said once
    monkeypatch.setenv("TORCH", "cpu")  # asked for by name it is looked for again, and what is there stays
    assert bootstrap.main(["setup"]) == 0 and len(index.asked) == asked
    assert capsys.readouterr().out.count(line) == 1 and installed() == CUDA


def test_conda_s_list_takes_the_wheels_for_the_cpu(course, index):
    """pip, as conda and Binder call it, with the addresses of the two indexes in place of the real ones."""
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    (lines,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    lines = [line.replace("https://download.pytorch.org/whl/cpu", bootstrap.CPU_INDEX) for line in lines]
    lines = ["tool" if line.startswith("-e ") else line for line in lines]
    assert bootstrap.CPU_INDEX in "".join(lines)
    (course / "requirements.txt").write_text("\n".join(lines))
    bootstrap.make_venv()
    done = bootstrap.run([bootstrap.PYTHON, "-m", "pip", "install", "-r", "requirements.txt"], show=None)
    assert done[0] == 0, done[1]
    assert installed() == CPU
