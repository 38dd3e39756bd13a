"""Has the Linux kernel hold a submission in, because Python's audit events do not tell of everything that Python can do.

`_posixsubprocess.fork_exec`, `signal.pidfd_send_signal`, `resource.prlimit`, `os.mkfifo`, `sqlite3`, an interpreter within
the interpreter: none of them asks an audit hook, and each could start a process, end the grader or write into its results.
Landlock (Linux 5.13) leaves nothing of the files but reading a few folders; seccomp refuses the system calls that start
programs or reach other processes. Elsewhere `close` does nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterable

# Libraries that Python's own modules are linked with.
LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")

# Landlock's system calls have the same numbers everywhere.
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
EXECUTE, READ_FILE, READ_DIR = 1 << 0, 1 << 2, 1 << 3
RIGHTS = (13, 14, 15, 15, 16)  # how many rights to files each version of Landlock knows
SCOPES = 3  # abstract sockets and signals

# System calls that are refused: (x86_64, aarch64); None where there is no such call.
REFUSED: dict[str, tuple[int | None, int]] = {
    "execve": (59, 221),
    "execveat": (322, 281),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "pidfd_getfd": (438, 438),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "setrlimit": (160, 164),
    "setpriority": (141, 140),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setattr": (314, 274),
    "sched_setaffinity": (203, 122),
    "socket": (41, 198),
    "unshare": (272, 97),
    "setns": (308, 268),
    "chroot": (161, 51),
    "mount": (165, 40),
    "umount2": (166, 39),
    "bpf": (321, 280),
    "clock_settime": (227, 112),
    "settimeofday": (164, 170),
    "io_uring_setup": (425, 425),
    # What Landlock leaves: the properties of files.
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
}
ONLY_X86 = (57, 58, 90, 92, 94, 132, 235, 261)  # fork, vfork, chmod, chown, lchown, utime, utimes, futimesat
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, name in seccomp
CLONE, CLONE3, PRLIMIT, FCNTL = (56, 220), (435, 435), (302, 261), (72, 25)
CLONE_THREAD, F_SETOWN, F_SETOWN_EX = 0x10000, 8, 15

# The instructions of seccomp's filters, as linux/filter.h has them.
LOAD, IF_EQUAL, IF_AT_LEAST, IF_ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000, 0x80000000
NUMBER, MACHINE, ARGUMENTS = 0, 4, 16  # where a filter finds them
SET_NO_NEW_PRIVS, SET_SECCOMP, FILTER = 38, 22, 2


def close(readable: Iterable[str], program: str = "", writable: str = "") -> None:
    """From here on this process can read below the paths `readable`, and neither write files nor reach other processes.

    program: the one program that it may then become. writable: a folder below which it may do as it likes.
    """
    if sys.platform != "linux":
        return
    c = ctypes.CDLL(None, use_errno=True)
    if c.prctl(SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        _files(c, [*readable, *LIBRARIES], program, writable)
        _calls(c, bool(program))


def landlock_version() -> int:
    """What this system has of Landlock, less than 1 if nothing."""
    return ctypes.CDLL(None).syscall(CREATE_RULESET, None, ctypes.c_size_t(0), 1) if sys.platform == "linux" else 0


def _files(c: ctypes.CDLL, readable: list[str], program: str, writable: str) -> None:
    version = landlock_version()
    if version < 1:
        return
    rights = (1 << RIGHTS[min(version, len(RIGHTS)) - 1]) - 1
    # The rights that need a rule from now on: to files, to the network (seccomp has that), beyond this process.
    attributes = struct.pack("QQQ", rights, 0, SCOPES)[: 8 if version < 4 else 16 if version < 6 else 24]
    rules = c.syscall(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if rules < 0:
        return
    read = READ_FILE | READ_DIR | (EXECUTE if program else 0)  # a program's libraries are executed with it
    allowances = [(path, read) for path in readable]
    allowances += [(path, right) for path, right in ((program, EXECUTE | READ_FILE), (writable, rights)) if path]
    for path, right in allowances:
        with contextlib.suppress(OSError):  # not every system has every folder
            place = os.open(path, os.O_PATH)
            allowed = right if os.path.isdir(path) else right & (EXECUTE | READ_FILE)
            c.syscall(ADD_RULE, rules, 1, struct.pack("=Qi", allowed, place), 0)
            os.close(place)
    c.syscall(RESTRICT_SELF, rules, 0)
    os.close(rules)


def _calls(c: ctypes.CDLL, becomes_program: bool) -> None:
    if platform.machine() not in MACHINES:
        return
    program = b"".join(struct.pack("=HBBI", *step) for step in _filter(*MACHINES[platform.machine()], becomes_program))
    held = ctypes.create_string_buffer(program, len(program))
    c.prctl(SET_SECCOMP, FILTER, struct.pack("HP", len(program) // 8, ctypes.addressof(held)), 0, 0)


def _filter(column: int, machine: int, becomes_program: bool) -> list[tuple[int, int, int, int]]:
    """Instructions: (operation, steps to skip if it holds, steps to skip if not, operand)."""
    refuse, allow = (RETURN, 0, 0, REFUSE | errno.EPERM), (RETURN, 0, 0, ALLOW)
    steps = [(LOAD, 0, 0, MACHINE), (IF_EQUAL, 1, 0, machine), (RETURN, 0, 0, KILL), (LOAD, 0, 0, NUMBER)]
    if column == 0:
        steps += [(IF_AT_LEAST, 0, 1, 1 << 30), refuse]  # the same calls by other numbers
    refused = [pair[column] for name, pair in REFUSED.items() if not (becomes_program and name == "execve")]
    for number in [*refused, *(ONLY_X86 if column == 0 else ())]:
        if number is not None:
            steps += [(IF_EQUAL, 0, 1, number), refuse]
    # The C library then uses clone, whose flags can be seen here.
    steps += [(IF_EQUAL, 0, 1, CLONE3[column]), (RETURN, 0, 0, REFUSE | errno.ENOSYS)]
    # A thread is no process.
    steps += [(IF_EQUAL, 0, 4, CLONE[column]), (LOAD, 0, 0, ARGUMENTS), (IF_ANY_BIT, 1, 0, CLONE_THREAD), refuse, allow]
    # Limits may be read; for new ones the third argument, an address in two halves, is not 0.
    steps += [(IF_EQUAL, 0, 6, PRLIMIT[column]), (LOAD, 0, 0, ARGUMENTS + 16), (IF_EQUAL, 0, 2, 0)]
    steps += [(LOAD, 0, 0, ARGUMENTS + 20), (IF_EQUAL, 1, 0, 0), refuse, allow]
    # An owner of a file descriptor is sent signals.
    steps += [(IF_EQUAL, 0, 5, FCNTL[column]), (LOAD, 0, 0, ARGUMENTS + 8), (IF_EQUAL, 1, 0, F_SETOWN)]
    return [*steps, (IF_EQUAL, 0, 1, F_SETOWN_EX), refuse, allow, allow]
