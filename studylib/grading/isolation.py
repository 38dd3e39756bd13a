"""Imports a submitted file in a process of its own, under limits, to see that it imports and does nothing else.

The verdict does not depend on what happens here: the grader never runs the file (`studylib.grading.source`). What is
seen here is whether importing it fails, never ends, or tries what an exercise has no business to do. Two fences stand
around it: an audit hook, which names what was tried, and on Linux the kernel's own (`studylib.grading.fence`), for what no
audit event tells of. Not protected: Python's own folders and studylib, with its solutions, can be read; the process is a
copy of the grader, so code that undoes the hook can find in its memory what was graded before, and show some of
it in its author's own report; and it can claim to have been imported. Outside Linux, or with a kernel before 5.13, there
is only the hook, which code that knows Python well can undo, and, outside Linux, no limit to memory. There, grade
strangers' work as a user of its own, or in a container.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import runpy
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studylib.grading import fence

try:
    import resource
except ImportError:  # Windows: only the time is limited there
    resource = None  # type: ignore[assignment]

MIB = 1 << 20
BLOCKED = {
    "subprocess.Popen": "start a program",
    "os.system": "start a program",
    "os.exec": "start a program",
    "os.posix_spawn": "start a program",
    "os.spawn": "start a program",
    "os.startfile": "start a program",
    "os.fork": "start a process",
    "os.forkpty": "start a process",
    "pty.spawn": "start a process",
    "os.kill": "send a signal",
    "os.killpg": "send a signal",
    "signal.pthread_kill": "send a signal",
    "resource.setrlimit": "change its limits",
    "gc.get_objects": "search the grader's memory",
    "gc.get_referrers": "search the grader's memory",
    "gc.get_referents": "search the grader's memory",
    "sys.settrace": "trace the grader",
    "sys.setprofile": "trace the grader",
}
BLOCKED_KINDS = {
    "socket": "use the network",
    "ctypes": "call C functions",
    "shutil": "change files",
    "ftplib": "use the network",
    "http": "use the network",
    "urllib": "use the network",
}
CHANGES = {"remove", "rename", "rmdir", "mkdir", "chmod", "chown", "link", "symlink", "truncate", "utime", "setxattr"}
WATCHED = (
    "builtins",
    "math",
    "numpy",
    "numpy.linalg",
    "numpy.random",
    "numpy.testing",
    "numba",
    "numba.cuda",
    "os",
    "json",
)


@dataclass(frozen=True)
class Limits:
    """What a process may use. seconds: of computing. memory, output: bytes; memory beyond what Python takes itself."""

    seconds: float = 5
    memory: int = 1024 * MIB
    output: int = MIB
    files: int = 64

    @property
    def patience(self) -> float:
        """Seconds in all: on a busy machine a process waits as well, and a verdict must not depend on that."""
        return 4 * self.seconds


IMPORT = Limits()
JUDGE = Limits(seconds=20, memory=4096 * MIB, output=64 * MIB, files=256)
COMPILE = Limits(seconds=20, memory=4096 * MIB, output=64 * MIB, files=256)


def limit(limits: Limits) -> None:
    """Sets the limits for this process; does nothing where the system has none."""
    if resource is None:
        return
    seconds = int(limits.seconds) + 1
    for name, value in (
        ("RLIMIT_AS", _mapped() + limits.memory),
        ("RLIMIT_CPU", seconds),
        ("RLIMIT_FSIZE", limits.output),
        ("RLIMIT_NOFILE", limits.files),
        ("RLIMIT_CORE", 0),
    ):
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(ValueError, OSError):  # macOS refuses some of them
            resource.setrlimit(kind, (value, value))


def ended(status: int, limits: Limits) -> str:
    """Why a process that said nothing has ended: its exit status, or minus the number of the signal."""
    if status in (-9, -24):  # SIGKILL and SIGXCPU, which is what the limits send
        used = f"{limits.seconds:g} s of computing or {limits.patience:g} s in all"
        return f"was stopped after {used}: is there a loop that never ends?"
    if status < 0:
        return f"was ended by the system (signal {-status})"
    return f"ended Python while it was running (exit status {status})"


def _mapped() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return 0 if sys.platform == "linux" else 64 << 30


def import_file(path: Path, folder: Path, report: int, limits: Limits = IMPORT) -> None:
    """Imports a file and ends the process. What happened is written to the file descriptor `report`, as JSON.

    folder: the only folder besides Python's own that it may read. Call it in a child process: it does not return.
    """
    sys.dont_write_bytecode = True
    os.environ.clear()
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    printed = tempfile.TemporaryFile()  # noqa: SIM115  a file, whose size can be limited, and not a pipe
    for stream in (1, 2):
        os.dup2(printed.fileno(), stream)
    # The parent may have put something else in their place, as pytest does.
    sys.stdout = sys.stderr = open(1, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    before = _fingerprint()
    _close_network()
    end = _ending(report)
    limit(limits)
    readable = _readable(folder)
    fence.close(readable)
    sys.path[:] = [place for place in sys.path if _is_within(place, readable)]
    try:
        sys.addaudithook(_hook(readable, end))
        runpy.run_path(str(path), run_name="submission")
    except MemoryError:
        end(f"asked for more memory than {limits.memory // MIB:,} MiB")
    except SystemExit:
        end("ends the program (SystemExit)")
    except OSError as error:
        if error.errno == errno.EFBIG:
            end(f"wrote more than {limits.output // MIB} MiB of output")
        end(f"does not import: {_short(error)}")
    except BaseException as error:  # noqa: BLE001  whatever it is, it is the author's
        end(f"does not import: {_short(error)}")
    changed = [name for name, value in _fingerprint().items() if before.get(name, value) != value]
    end(f"changes {', '.join(sorted(changed)[:3])}" if changed else "")


def _short(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {str(error)[:300]}"
    except BaseException:  # noqa: BLE001  even its text may be hostile
        return type(error).__name__


def _ending(report: int) -> Callable[[str], Any]:
    # Bound here, so that a file which changes os or json does not change how it ends.
    write, leave, encode = os.write, os._exit, json.dumps

    def end(why: str) -> None:
        with contextlib.suppress(OSError):
            write(report, encode({"why": why}).encode())
        leave(0)

    return end


def _readable(folder: Path) -> tuple[str, ...]:
    roots = [folder, Path(__file__).parents[1], sys.prefix, sys.base_prefix, Path(os.__file__).parent]
    return tuple({os.path.realpath(str(root)) for root in roots} | {os.devnull, "/dev/urandom"})


def readable() -> tuple[str, ...]:
    """What the compiler reads: Python's own folders and studylib."""
    return _readable(Path(__file__).parents[1])


def _is_within(path: str | bytes | os.PathLike, roots: tuple[str, ...]) -> bool:
    found = os.path.realpath(os.fsdecode(path))
    return any(found == root or found.startswith(root + os.sep) for root in roots)


def _hook(readable: tuple[str, ...], end: Callable[[str], Any]) -> Callable[[str, tuple], None]:
    fsdecode = os.fsdecode
    blocked, kinds, changes = dict(BLOCKED), dict(BLOCKED_KINDS), frozenset(CHANGES)
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

    def is_readable(path) -> bool:
        return isinstance(path, int) or _is_within(path, readable)

    def hook(event: str, args: tuple) -> None:
        kind, _, name = event.partition(".")
        if event in blocked:
            end(f"tries to {blocked[event]} ({event})")
        elif kind in kinds:
            end(f"tries to {kinds[kind]} ({event})")
        elif kind == "os" and name in changes:
            end(f"tries to change files ({event})")
        elif event == "open" and not isinstance(args[0], int):
            mode, flags = args[1] or "", args[2] or 0
            if flags & writing or any(letter in mode for letter in "wax+"):
                end(f"tries to write the file {fsdecode(args[0])}")
            elif not is_readable(args[0]):
                end(f"tries to read {fsdecode(args[0])}, which is not in its folder")
        elif event in ("os.listdir", "os.scandir", "glob.glob", "os.chdir") and args[0] is not None:
            if event != "glob.glob" and not is_readable(args[0]):
                end(f"tries to look into {fsdecode(args[0])}, which is not its folder")
        elif event == "import" and args[1] is not None and not is_readable(args[1]):
            end(f"tries to load {args[1]}")

    return hook


def _fingerprint() -> dict[str, int]:
    """The identity of what well-known modules hold: whoever changes them changes this."""
    watched = [name for name in sys.modules if name in WATCHED or name.partition(".")[0] == "studylib"]
    return {
        f"{module}.{name}": id(value)
        for module in watched
        for name, value in list(vars(sys.modules[module]).items())
        if not name.startswith("__") and name != "_"
    }


def _close_network() -> None:
    """On Linux, a network of its own with nothing in it, where the system permits that."""
    if sys.platform != "linux":
        return
    import ctypes

    user, network = 0x10000000, 0x40000000
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).unshare(network if os.geteuid() == 0 else user | network)


def warm_up() -> None:
    """Loads what an exercise needs, so that the fence stands around the submission and not around Numba."""
    import numpy
    from numba import cuda, float32

    cuda.jit(lambda out: None)
    numpy.zeros(1, str(float32))


def main() -> None:
    """`python -m studylib.grading.isolation FILE`: imports it; what happened is on standard error's last line."""
    warm_up()
    path = Path(sys.argv[1])
    import_file(path, path.parent, os.dup(2))


if __name__ == "__main__":
    main()
