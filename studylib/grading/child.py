"""A process that runs a function under limits; what it writes to its pipe is all that comes back."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import time
import warnings
from collections.abc import Callable

from studylib.grading.isolation import Limits

CAN_FORK = hasattr(os, "fork")


class Child:
    """A copy of this process that runs `function(report)` and ends; `report` is where it writes its answer.

    leads: whether it leads a group of its own, with which all that it started is stopped; otherwise it is stopped with
    the group of this process.
    """

    def __init__(self, function: Callable[[int], None], limits: Limits, leads: bool = True):
        self.limits, self.answer, self.leads = limits, b"", leads
        self.until = time.monotonic() + limits.patience
        self.read, write = os.pipe()
        os.set_blocking(self.read, False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # a notebook has threads; the child uses none of them
            self.pid = os.fork()
        if self.pid == 0:
            try:
                if leads:
                    os.setsid()
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                signal.signal(signal.SIGXCPU, signal.SIG_DFL)
                gc.disable()
                # What the grader has open is none of a submission's business.
                os.closerange(3, write)
                os.closerange(write + 1, 4096)
                function(write)
            finally:
                os._exit(70)
        os.close(write)
        self.status: int | None = None

    def is_done(self) -> bool:
        """Looks after it: takes what it has said, stops it when its time is over."""
        self._listen()
        found, status = os.waitpid(self.pid, os.WNOHANG)
        if found:
            self.status = os.waitstatus_to_exitcode(status)
            self._listen()
            self._sweep()
            return True
        if time.monotonic() > self.until or len(self.answer) > self.limits.output:
            self.stop()
            return True
        return False

    def wait(self, meanwhile: Callable[[], None] = lambda: None) -> bytes:
        """Its answer, once it has ended; `meanwhile` is called again and again until then."""
        try:
            while not self.is_done():
                meanwhile()
                time.sleep(0.002)
        finally:
            if self.status is None:
                self.stop()
        return self.answer

    def _listen(self) -> None:
        # Who writes as fast as it is read would keep the grader here for ever.
        with contextlib.suppress(BlockingIOError):
            while len(self.answer) <= self.limits.output and (part := os.read(self.read, 1 << 16)):
                self.answer += part

    def stop(self) -> None:
        """Kills it and all that it started."""
        os.kill(self.pid, signal.SIGKILL)  # just begun, it has no group yet
        self._sweep()
        os.waitpid(self.pid, 0)
        self.status = -signal.SIGKILL

    def _sweep(self) -> None:
        if self.leads:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        os.close(self.read)


def write_all(report: int, answer: bytes) -> None:
    """Writes an answer to the pipe, however long it is, and ends the process."""
    os.set_blocking(report, True)
    with os.fdopen(report, "wb") as pipe:
        pipe.write(answer)
    os._exit(0)
