"""Processor time and memory of a process and all its descendants, from /proc (Linux)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from stream_server.bench.errors import BenchError

__all__ = ["ProcessUsage", "TreeUsage", "descendants", "process_usages", "tree_usage"]

_PROC = Path("/proc")
_PARENT, _USER, _SYSTEM = 1, 11, 12  # places after the name in /proc/PID/stat, from 0


@dataclass(frozen=True, slots=True)
class TreeUsage:
    """Processor seconds since the processes began; memory in bytes, shared pages divided among their users."""

    processes: int
    cpu_s: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    """One process: `role` is the last part of the module or program it runs. Memory is what it wrote itself and its
    part of shared memory: pages of mapped files come and go, and count less the more processes map them."""

    role: str
    pid: int
    cpu_s: float
    memory_bytes: int
    descriptors: int
    threads: int


def process_usages(pid: int) -> list[ProcessUsage]:
    """`pid` and its descendants one by one, in order of their numbers.

    Raises:
        BenchError: There is no such process.
    """
    found = []
    for one in sorted(descendants(pid)):
        try:
            words = (_PROC / str(one) / "cmdline").read_bytes().decode(errors="replace").split("\0")
            descriptors = len(os.listdir(_PROC / str(one) / "fd"))
            threads = len(os.listdir(_PROC / str(one) / "task"))
        except OSError:  # it ended meanwhile
            continue
        fields = _stat(one)
        ticks = int(fields[_USER]) + int(fields[_SYSTEM]) if fields else 0
        module = words[words.index("-m") + 1] if "-m" in words[:-1] else words[0].rpartition("/")[2]
        role = module.rpartition(".")[2]
        cpu_s = ticks / os.sysconf("SC_CLK_TCK")
        found.append(ProcessUsage(role, one, cpu_s, _memory_bytes(one, "Pss_Anon", "Pss_Shmem"), descriptors, threads))
    return found


def tree_usage(pid: int) -> TreeUsage:
    """Usage of `pid` and its descendants now. Those that ended meanwhile count no more.

    Raises:
        BenchError: There is no such process.
    """
    pids = descendants(pid)
    ticks = 0
    for one in pids:
        fields = _stat(one)
        ticks += int(fields[_USER]) + int(fields[_SYSTEM]) if fields else 0
    return TreeUsage(len(pids), ticks / os.sysconf("SC_CLK_TCK"), sum(_memory_bytes(one) for one in pids))


def descendants(pid: int) -> list[int]:
    """`pid` and everything it started, directly or not.

    Raises:
        BenchError: There is no such process.
    """
    parents = {}
    for folder in _PROC.iterdir():
        if folder.name.isdigit() and (fields := _stat(int(folder.name))):
            parents[int(folder.name)] = int(fields[_PARENT])
    if pid not in parents:
        raise BenchError(f"there is no process {pid}: has the server ended?")
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def _stat(pid: int) -> list[str]:
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _memory_bytes(pid: int, *names: str) -> int:
    """Sum of these lines of smaps_rollup, by default of all memory (PSS)."""
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:  # ended, or another user's
        return 0
    wanted = names or ("Pss",)
    return sum(int(line.split()[1]) * 1024 for line in lines if line.partition(":")[0] in wanted)
