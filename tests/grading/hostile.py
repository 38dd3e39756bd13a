"""Texts that do what they should not where they are run, with what they did; the last lines of a right file."""

TELL = """
import os

def tell(words):
    for fd in range(3, 64):
        try:
            os.write(fd, words)
        except OSError:
            pass

"""
HOSTILE = {
    "endless": ("while True:\n    pass\n", "never ends"),
    "leaves": ("import os\nos._exit(0)\n", "ended Python"),
    "exits": ("raise SystemExit(0)\n", "SystemExit"),
    "forks": ("import os\nwhile True:\n    os.fork()\n", "start a process"),
    "hungry": ("held = bytearray(100 * 2**30)\n", "memory"),
    "talkative": ("while True:\n    print('x' * 1000)\n", "output"),
    "patches_numpy": ("import numpy\nnumpy.allclose = lambda *a, **k: True\n", "changes numpy.allclose"),
    "patches_studylib": (
        "import studylib.grading.judge as v\nv.judge = lambda *a, **k: None\n",
        "changes studylib.grading.judge.judge",
    ),
    "reads": ("open('../good/02_resnext_gpu1/transpose.py').read()\n", "not in its folder"),
    "lists": ("import os\nos.listdir('..')\n", "not its folder"),
    "writes": ("open('grades.csv', 'w').write('passed')\n", "write the file"),
    "deletes": ("import os\nos.remove('transpose.py')\n", "change files"),
    "starts": ("import subprocess\nsubprocess.run(['ls'])\n", "start a program"),
    "shell": ("import os\nos.system('ls')\n", "start a program"),
    "connects": ("import socket\nsocket.create_connection(('127.0.0.1', 80))\n", "network"),
    "calls_c": ("import ctypes\nctypes.CDLL(None).getpid()\n", "call C functions"),
    "kills": ("import os\nos.kill(os.getppid(), 9)\n", "send a signal"),
    "unlimited": ("import resource\nresource.setrlimit(resource.RLIMIT_CPU, (999, 999))\n", "limits"),
    "broken_import": ("import there_is_no_such_module\n", "ModuleNotFoundError"),
    "recursive": ("def f():\n    f()\n\n\nf()\n", "RecursionError"),
    "odd_error": ("class E(Exception):\n    def __str__(self):\n        raise E\n\n\nraise E\n", "E"),
    "syntax": ("def f(:\n", "SyntaxError"),
    "interrupts": ("raise KeyboardInterrupt\n", "KeyboardInterrupt"),
    # Its reason is half a character, which no file of UTF-8 can hold.
    "half": ("raise Exception('\\ud800')\n", "Exception"),
    "mark_up": ("raise Exception('<script>\\0\\x1b[2J')\n", "<script>"),
    # What it says to the grader through its pipe: JSON too deep to read, and more than can be held.
    "deep": (f"{TELL}tell(b'[' * 60_000)\nos._exit(0)\n", "ended Python"),
    "floods": (f"{TELL}while True:\n    tell(b'[' * 60_000)\n", "was stopped"),
}
SPAWNS = """
import time
from multiprocessing.util import spawnv_passfds
spawnv_passfds(b"/bin/sh", [b"sh", b"-c", b"touch ../mark"], [])
time.sleep(1)
"""
READS_BY_DESCRIPTOR = """
import json, os
here = os.open(".", os.O_RDONLY)
os.chdir(os.path.dirname(json.__file__))
os.open("../good/02_resnext_gpu1/transpose.py", os.O_RDONLY, dir_fd=here)
"""
UNHOOKS = """
import sys
frame = sys._getframe()
while "readable" not in frame.f_locals:
    frame = frame.f_back
for cell in frame.f_locals["end"].__closure__:
    if getattr(cell.cell_contents, "__name__", "") in ("_exit", "write"):
        cell.cell_contents = lambda *a: None
open("../mark", "w").close()
"""
# None of these asks an audit hook, or has undone it; each would leave a file `mark` beside the participants' folders.
UNHOOKED = {
    "spawns": (SPAWNS, "PermissionError"),
    "signals": ("import os, signal\nsignal.pidfd_send_signal(os.pidfd_open(os.getppid()), 9)\n", "PermissionError"),
    "owns": (
        "import fcntl, os\nfcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, os.getppid())\n",
        "PermissionError",
    ),
    "limits": (
        "import os, resource\nresource.prlimit(os.getppid(), resource.RLIMIT_CORE, (0, 0))\n",
        "PermissionError",
    ),
    "slows": ("import os\nos.setpriority(os.PRIO_PROCESS, os.getppid(), 19)\n", "PermissionError"),
    "pipes": ("import os\nos.mkfifo('../mark')\n", "PermissionError"),
    "makes": ("import os\nos.mknod('../mark')\n", "PermissionError"),
    "database": ("import sqlite3\nsqlite3.connect('../mark').execute('create table t(a)')\n", "unable to open"),
    "shared": ("import multiprocessing\nmultiprocessing.Semaphore()\n", "PermissionError"),
    "reads_by_descriptor": (READS_BY_DESCRIPTOR, "PermissionError"),
    "unhooks": (UNHOOKS, "ended Python"),
}
