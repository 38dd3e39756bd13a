"""What a judging process may use, and which wall protects what on which system.

No text of a submission runs, on any system: its file is read once and never imported. The first wall,
`studylib.grading.submission` and `studylib.grading.vetting`, is plain Python and stands everywhere: only syntax that
the emulator and Numba-CUDA share goes on, constants are computed node by node and are numbers, and no name of Python's
own is bound. What goes on is walked by the emulator, in a process with the limits below, which puts the verdict
together. Hostile files were written against it by the hundred; they and what came of them are in the tests
(`tests/grading/hunted.py`).

The second wall is for Numba, which evaluates parts of what it compiles. On Linux the compiler works in a process of its
own behind the fence (`studylib.grading.fence`): it can read Python's own folders and studylib, write nothing, start
nothing, reach no other process and no network; only PTX or an error's text comes back, and is checked
(`studylib.grading.compile_apart`). ptxas reads the PTX in a third process, which can become nothing else and writes
into its own folder only. A compiler that is taken over can lie about the one stage "compiles" of its own kernel. It is
a copy of the judging process, so what that holds, the inputs and the exercise's solution, it can see, and it could put
that into its one answer, an error's text, which stands on the page of its own kernel. Before Linux 5.13 Landlock is
missing: files of the same user can then be read and written by a compiler that has been taken over. On other processors
than x86-64 and ARM64 seccomp is missing.

On macOS there is no compiler to protect: "compiles" is skipped, the first wall and the limits stand, but macOS does not limit
memory. On Windows `study grade` does not run; `study check` judges in a process of its own with a limit of time alone, and the
compiler works in that process: the first wall is all there is, and the work judged is one's own.

A kernel that is given to `studylib.check(name, kernel)` is a live function of one's own notebook. Its text has run there
before anybody looks at it, so it is vetted and judged there, without a process of its own.
On a GPU "measured" launches the kernel on the card, through Numba, in the process that judges, after all other stages are
decided: there too only the first wall stands.
"""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

try:
    import resource
except ImportError:  # Windows: only the time is limited there
    resource = None  # type: ignore[assignment]

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What a process may use. seconds: of computing. memory, output: bytes; memory beyond what Python takes itself."""

    seconds: float = 20
    memory: int = 4096 * MIB
    output: int = 64 * MIB
    files: int = 256

    @property
    def patience(self) -> float:
        """Seconds in all: on a busy machine a process waits as well, and a verdict must not depend on that."""
        return 4 * self.seconds


JUDGE = Limits()
COMPILE = Limits()


def limit(limits: Limits) -> None:
    """Sets the limits for this process; does nothing where the system has none.

    When the time is over the system sends SIGXCPU, and a few seconds later SIGKILL.
    """
    if resource is None:
        return
    seconds = int(limits.seconds)
    for name, soft, hard in (
        ("RLIMIT_AS", mapped() + limits.memory, mapped() + limits.memory),
        ("RLIMIT_CPU", seconds, seconds + 3),
        ("RLIMIT_FSIZE", limits.output, limits.output),
        ("RLIMIT_NOFILE", limits.files, limits.files),
        ("RLIMIT_CORE", 0, 0),
    ):
        kind = getattr(resource, name)
        most = resource.getrlimit(kind)[1]
        if most != resource.RLIM_INFINITY:
            soft, hard = min(soft, most), min(hard, most)
        with contextlib.suppress(ValueError, OSError):  # macOS refuses some of them
            resource.setrlimit(kind, (soft, hard))


def ended(status: int, limits: Limits) -> str:
    """Why a process that said nothing has ended: its exit status, or minus the number of the signal."""
    if status in (-9, -24):  # SIGKILL and SIGXCPU, which is what the limits send
        used = f"{limits.seconds:g} s of computing or {limits.patience:g} s in all"
        return f"was stopped after {used}: is there a loop that never ends?"
    if status < 0:
        return f"was ended by the system (signal {-status})"
    return f"ended Python while it was running (exit status {status})"


def mapped() -> int:
    """Bytes of memory that this process has mapped."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return 0 if sys.platform == "linux" else 64 << 30


def readable() -> tuple[str, ...]:
    """What the compiler reads: Python's own folders and studylib."""
    roots = [Path(__file__).parents[1], sys.prefix, sys.base_prefix, Path(os.__file__).parent]
    return tuple({os.path.realpath(str(root)) for root in roots} | {os.devnull, "/dev/urandom"})


def warm_up() -> None:
    """Loads what an exercise needs, so that a process begins with it and the fence does not stand around its import."""
    import numpy
    from numba import cuda, float32

    cuda.jit(lambda out: None)
    numpy.zeros(1, str(float32))
