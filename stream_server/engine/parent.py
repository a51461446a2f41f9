"""A child process ends with its parent, whatever ends the parent."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

__all__ = ["die_with_parent", "ignore_terminal_interrupt", "name_process", "prefer_real_time"]

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel for SIGTERM when the parent dies; leave at once if it already has."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent_pid:
        raise SystemExit("the server that started this process is gone")


def ignore_terminal_interrupt() -> None:
    """Ctrl-C reaches the whole process group; the supervisor alone decides what to do with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def prefer_real_time(nice: int) -> None:
    """Go before ordinary processes where the system allows it: a late frame is a lost frame."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, min(nice, os.getpriority(os.PRIO_PROCESS, 0)))


def name_process(name: str) -> None:
    """What `ps -o comm` and `top` show, of at most 15 characters, where the system allows it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(name)
