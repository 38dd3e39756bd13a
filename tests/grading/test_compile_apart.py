"""The second wall: a compiler that has been taken over can spoil one answer about one kernel, and nothing else."""

import contextlib
import ctypes
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from studylib import gpu
from studylib.grading import child, compile_apart, fence
from studylib.grading.isolation import COMPILE
from studylib.grading.judge import judge
from studylib.kernels import load

pytestmark = pytest.mark.skipif(not child.CAN_FORK, reason="without fork there is no second wall")
needs_landlock = pytest.mark.skipif(fence.landlock_version() < 1, reason="the system has no Landlock")


@pytest.fixture
def judged(tmp_path, monkeypatch, solved):
    """The verdict on a right kernel whose compiler does `act` before it compiles, or answers for it."""
    path = tmp_path / "transpose.py"
    path.write_text(solved)

    def run(act):
        real = compile_apart.to_ptx
        monkeypatch.setattr(compile_apart, "to_ptx", lambda *a, **k: act() or real(*a, **k))
        return judge("transpose", path=path)

    return run


def answers(report):
    """What writes the answer in the compiler's place."""

    def act():
        for fd in range(3, 64):
            with contextlib.suppress(OSError):
                os.write(fd, report)
        os._exit(0)

    return act


def test_the_compiler_says_what_it_says_in_one_process(solved, tmp_path):
    path = tmp_path / "transpose.py"
    path.write_text(solved)
    here, there = judge("transpose", load("transpose").kernel), judge("transpose", path=path)
    assert here.stage("compiles").status == "passed"
    assert there.stage("compiles") == here.stage("compiles")


def test_its_errors_show_the_line_by_the_files_name(solved, tmp_path):
    path = tmp_path / "b\u00e9n" / "transpose (1).py"
    path.parent.mkdir()
    path.write_text(solved.replace("a.shape[0]", "a.shape[2]"), encoding="utf-8")
    said = judge("transpose", path=path).stage("compiles")
    line = next(n for n, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if "a.shape[2]" in text)
    assert said.status == "failed" and f'File "transpose (1).py", line {line}' in said.text
    assert "a.shape[2]" in said.text and "<source missing" not in said.text and str(tmp_path) not in said.text


def act_on(tmp_path, port=0):
    """By name what the compiler does; where it is let, the kernel compiles after it as if nothing were."""
    parent, mark = os.getpid(), tmp_path / "mark"
    return {
        "write": lambda: mark.write_text(""),
        "make": lambda: os.mkfifo(mark),
        "remove": lambda: os.remove(tmp_path / "transpose.py"),
        "read": lambda: (tmp_path / "transpose.py").read_text() and None,
        "run": lambda: os.execve("/bin/sh", ["sh", "-c", f"touch {mark}"], {}),
        "fork": lambda: (os.fork() or os._exit(0)) and None,
        "signal": lambda: os.kill(parent, signal.SIGUSR1),
        "network": lambda: socket.create_connection(("127.0.0.1", port)).close(),
        "memory": lambda: len(bytearray(COMPILE.memory + (1 << 30))) and None,
    }


ACTS = ["write", "make", "remove", "read", "run", "fork", "signal", "network", "memory"]


@needs_landlock
@pytest.mark.parametrize("name", ACTS)
def test_what_is_taken_over_reaches_nothing(name, judged, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        verdict = judged(act_on(tmp_path, server.getsockname()[1])[name])
    assert verdict.stage("compiles").status == "failed", str(verdict)
    assert [verdict.stage(stage).status for stage in ("right", "safe", "budget")] == ["passed"] * 3
    assert not (tmp_path / "mark").exists() and (tmp_path / "transpose.py").exists()


@pytest.mark.parametrize("name", ["read", "fork", "network", "memory"])
def test_without_a_wall_the_same_acts_go_unseen(name, judged, tmp_path, monkeypatch):
    """Else the test above would pass without a wall as well."""
    monkeypatch.setattr(compile_apart.fence, "close", lambda *a, **k: None)
    monkeypatch.setattr(compile_apart.isolation, "limit", lambda *a: None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        verdict = judged(act_on(tmp_path, server.getsockname()[1])[name])
    assert verdict.stage("compiles").status == "passed", str(verdict)


FORGED = b'{"stages": [], "state": "passed", "passed": true}'
ANSWERS = [
    b"",
    b"[" * 60_000,
    b"\xff\xfe",
    b"null",
    b"[]",
    FORGED,
    b'{"ptx": 3}',
    b'{"ptx": ""}',
    b'{"ptx": ".version 8.0"}',
    b'{"ptx": ".version 8.0 .entry \\u00e9"}',
    b'{"ptx": ".version 8.0\\n.entry nonsense"}',
    b'{"error": ["x"]}',
    b'{"error": "' + b"x" * 20_000 + b'"}',
    b'{"ptx": "a", "error": "b"}',
]


@pytest.mark.parametrize("answer", ANSWERS, ids=range(len(ANSWERS)))
def test_an_answer_is_checked(answer, judged):
    verdict = judged(answers(answer))
    assert verdict.stage("compiles").status == "failed" and 0 < len(verdict.stage("compiles").text) < 1000
    assert [verdict.stage(stage).status for stage in ("right", "safe", "budget")] == ["passed"] * 3


def test_a_compiler_that_never_ends_is_stopped(judged, monkeypatch):
    monkeypatch.setattr(compile_apart, "COMPILE", compile_apart.isolation.Limits(seconds=1, memory=1 << 32))
    verdict = judged(lambda: time.sleep(100))
    assert "was stopped" in verdict.stage("compiles").text and verdict.stage("right").status == "passed"


def recurse():
    recurse()


@pytest.mark.parametrize(
    "act, words",
    [
        (lambda: ctypes.string_at(0), "signal 11"),
        (recurse, "RecursionError"),
        (lambda: dict[str, int]()["x"], "exit status 70"),
    ],
)
def test_one_that_crashes_is_a_failure_with_a_reason(act, words, judged):
    assert words in judged(act).stage("compiles").text


@needs_landlock
def test_the_assembler_can_be_nothing_else_and_write_nowhere_else(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "outside"
    inside.mkdir()
    script = f"echo x > mine; echo x > {outside}; read line < {Path(__file__)}; echo $line; cat mine"
    status, report = compile_apart._run_ptxas([os.path.realpath("/bin/sh"), "-c", script], inside)
    assert status and report.count("ermission denied") == 2 and "fork" in report, report
    assert (inside / "mine").exists() and not outside.exists()


def test_ptx_that_the_assembler_refuses_is_an_error():
    kernel = load("transpose").kernel
    with pytest.raises(gpu.CompileError):
        compile_apart.assembled(
            kernel, "nonsense", cc=(8, 0), block=32, dynamic_shared_bytes=0, run_ptxas=compile_apart._run_ptxas
        )
