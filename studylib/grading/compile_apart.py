"""The second wall: the real compiler works in a process of its own, behind the fence.

Numba evaluates parts of what it compiles. Should a text get through the first wall and take the compiler over, all that it can
do is to lie in the one answer that comes back: PTX, or the text of an error. ptxas then reads the PTX in a second process,
which can execute nothing else and write nowhere but into its own folder. Registers and occupancy are reckoned here.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from studylib import gpu
from studylib.gpu.compiler import ptxas
from studylib.gpu.compiler.compile import assembled, to_ptx
from studylib.gpu.compiler.compiled import Compiled
from studylib.grading import fence, isolation
from studylib.grading.child import CAN_FORK, Child, write_all
from studylib.grading.isolation import COMPILE, ended

LONGEST_ERROR = 10_000  # characters
LONGEST_PTX = 16 << 20


class CompilerEnded(ValueError):
    """The compiler's process gave no answer that can be used; the message says how it ended."""


def compile_apart(
    kernel: Any, *args: Any, cc: tuple[int, int], block: int | tuple[int, ...], dynamic_shared_bytes: int
) -> Compiled:
    """gpu.compile behind the fence; where there is no fork, which is Windows, here.

    Raises what gpu.compile raises, and CompilerEnded.
    """
    if not CAN_FORK:
        return gpu.compile(kernel, *args, cc=cc, block=block, dynamic_shared_bytes=dynamic_shared_bytes)
    ptxas.find()

    def run(report: int) -> None:
        isolation.limit(COMPILE)
        fence.close(isolation.readable())
        try:
            answer = {"ptx": to_ptx(kernel, *args, cc=cc)}
        except gpu.CompileError as error:
            answer = {"error": str(error)[:LONGEST_ERROR]}
        except (TypeError, ValueError, MemoryError, RecursionError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"[:LONGEST_ERROR]}
        write_all(report, json.dumps(answer).encode())

    child = Child(run, COMPILE, leads=False)
    answer = child.wait()
    ptx = _ptx(answer, child.status or 0, kernel)
    return assembled(kernel, ptx, cc=cc, block=block, dynamic_shared_bytes=dynamic_shared_bytes, run_ptxas=_run_ptxas)


def _ptx(answer: bytes, status: int, kernel: Any) -> str:
    """The PTX of an answer that may be anything; raises CompileError for one that is an error's text."""
    if not answer:
        raise CompilerEnded(f"the compiler {ended(status, COMPILE)}")
    try:
        said = json.loads(answer)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict) or len(said) != 1:
        raise CompilerEnded("the compiler's answer cannot be read")
    ((kind, text),) = said.items()
    if kind == "error" and isinstance(text, str) and len(text) <= LONGEST_ERROR:
        code = kernel.py_func.__code__
        raise gpu.CompileError(text, code.co_filename, code.co_firstlineno)
    if kind != "ptx" or not isinstance(text, str) or len(text) > LONGEST_PTX:
        raise CompilerEnded("the compiler's answer is neither PTX nor an error")
    if not text.isascii() or ".version" not in text or ".entry" not in text:
        raise CompilerEnded("what the compiler gave is not the PTX of a kernel")
    return text


def _run_ptxas(command: list[str], folder: Path) -> tuple[int, str]:
    """Exit status and report of ptxas, which can do nothing but read the PTX in its folder and write there."""

    def run(report: int) -> None:
        os.chdir(folder)
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, 0)
        os.dup2(nowhere, 1)
        os.set_blocking(report, True)
        os.dup2(report, 2)
        isolation.limit(COMPILE)
        fence.close([], program=command[0], writable=str(folder))
        os.execve(command[0], command, {"TMPDIR": str(folder)})

    child = Child(run, COMPILE, leads=False)
    report = child.wait().decode(errors="replace")
    if child.status is None or child.status < 0:
        raise CompilerEnded(f"ptxas {ended(child.status or 0, COMPILE)}")
    return child.status, report
