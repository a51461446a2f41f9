"""Functions that worker processes import and run, for the tests of isolation."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import threading
from pathlib import Path


def double(task: int) -> int:
    """Twice the number."""
    return 2 * task


def die_on_odd(task: int) -> int:
    """Dies at once on odd numbers."""
    if task % 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def die_the_first_time(mark: Path) -> str:
    """Dies unless it was here before."""
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGSEGV)
    return "second"


def own_pid(_task: int) -> int:
    """Which process this is."""
    return os.getpid()


def start_sleeper_and_hang(pid_file: Path) -> None:
    """Starts another program and never ends."""
    pid_file.write_text(str(subprocess.Popen(["sleep", "600"]).pid))
    threading.Event().wait()


def surroundings(_task: int) -> tuple[str, bool]:
    """Threads for BLAS, and whether Ctrl-C is ignored."""
    return os.environ["OMP_NUM_THREADS"], signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def fail(_task: int) -> None:
    """As on a full disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class LoadsNowhere:
    """A function whose module cannot be imported in the worker."""

    def __reduce__(self) -> tuple[object, tuple[()]]:
        return refuse_to_load, ()

    def __call__(self, task: int) -> int:
        return task


def refuse_to_load() -> None:
    """As an import that fails."""
    raise ImportError("no codec here")
