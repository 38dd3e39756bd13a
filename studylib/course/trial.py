"""Tries a gap in a notebook's kernel: its cell and check run unfilled in a copy of the process, so that nothing stays.

`gap_proof` executes a week once; before each gap it inserts a cell that calls `trial`.
"""

import io
import json
import os
import select
import signal
import sys
from typing import Any, NamedTuple

SECONDS = 300  # a kernel's copy that hangs, such as on a lock of a thread that was not copied, ends here
HANGS = "no answer"


class Outcome(NamedTuple):
    """What an unfilled gap led to: the name and text of the error in its own cell, and of the one in its check."""

    cell: str = ""
    check: str = ""


def cell(unfilled: str, check: str) -> str:
    """The code of the cell to insert; its printed output is for `outcome`. It adds no name to the notebook."""
    return f"__import__({__name__!r}, fromlist=['_']).trial({unfilled!r}, {check!r})"


def outcome(printed: str) -> Outcome:
    return Outcome(*json.loads(printed))


def trial(unfilled: str, check: str) -> None:
    """Run the two cells in a copy of this kernel and print what came of it."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        _answer(write, unfilled, check)
    os.close(write)
    answer, open_ = b"", True
    while open_ and select.select([read], [], [], SECONDS)[0]:
        part = os.read(read, 65536)
        answer, open_ = answer + part, bool(part)
    os.close(read)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print(answer.decode() if answer and not open_ else json.dumps([HANGS, HANGS]))


def _answer(write: int, unfilled: str, check: str) -> None:
    """In the copy: run, send what came of it, and end without what a process does at its end."""
    try:
        sys.stdout = sys.stderr = io.StringIO()
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(1)  # the threads of OpenMP are not in the copy
        errors = [_error(unfilled), _error(check)]
        os.write(write, json.dumps(errors).encode())
    finally:
        os._exit(0)


def _error(code: str) -> str:
    """Run a cell as the notebook does; the error as "Name: text", empty where there is none."""
    from IPython import get_ipython

    shell: Any = get_ipython()
    shell.showtraceback = lambda *_, **__: None
    result = shell.run_cell(code, store_history=False, silent=True)
    error = result.error_before_exec or result.error_in_exec
    return f"{type(error).__name__}: {error}" if error else ""
