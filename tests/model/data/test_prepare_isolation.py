"""Isolated workers: bounded submission, second attempts, recycling, nothing left behind."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from model.data.clip_types import Problem
from model.data.preparing.isolation import Failure, IsolatedPool
from model.errors import ConfigError, DataError
from tests.support import isolated_tasks


def pool(run: Callable, **options: object) -> IsolatedPool:
    return IsolatedPool(run, **({"workers": 1, "timeout_s": 30.0} | options))


def test_tasks_are_drawn_as_workers_get_free() -> None:
    drawn: list[int] = []
    endless = (drawn.append(n) or n for n in itertools.count())
    with pool(isolated_tasks.double, workers=2) as workers:
        results = workers.map(endless)
        first = dict(next(results) for _ in range(10))
        results.close()
    assert len(first) == 10 and all(result == 2 * n for n, result in first.items())
    assert len(drawn) <= 12


def test_every_instant_crash_is_told_and_no_other_task_is_lost() -> None:
    with pool(isolated_tasks.die_on_odd, workers=2) as workers:
        results = dict(workers.map(range(12)))
    assert {n: r for n, r in results.items() if n % 2 == 0} == {n: n for n in range(0, 12, 2)}
    dead = Failure(Problem.CRASHED, "the process was killed by SIGKILL (out of memory?), 2 times in a row")
    assert all(results[n] == dead for n in range(1, 12, 2))


def test_a_task_that_was_only_unlucky_gets_a_second_attempt(tmp_path: Path) -> None:
    with pool(isolated_tasks.die_the_first_time) as workers:
        assert list(workers.map([tmp_path / "mark"])) == [(tmp_path / "mark", "second")]


def test_a_process_that_dies_idle_costs_nothing() -> None:
    with pool(isolated_tasks.own_pid) as workers:
        ((_, pid),) = workers.map([0])
        os.kill(pid, signal.SIGKILL)
        ((_, other),) = workers.map([0])
        assert isinstance(other, int) and other != pid


def test_processes_are_replaced_after_so_many_tasks() -> None:
    with pool(isolated_tasks.own_pid, tasks_per_worker=2) as workers:
        pids = [pid for _, pid in workers.map(range(4))]
    assert pids[0] == pids[1] != pids[2] == pids[3]


def test_what_an_overdue_task_started_dies_with_it(tmp_path: Path) -> None:
    with pool(isolated_tasks.start_sleeper_and_hang, timeout_s=1.0) as workers:
        ((_, result),) = workers.map([tmp_path / "pid"])
    assert result == Failure(Problem.TIMED_OUT, "took longer than 1 s and was stopped")
    sleeper = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while subprocess.run(["ps", "-o", "stat=", "-p", str(sleeper)], capture_output=True).stdout.strip(b"\nZ "):
        assert time.monotonic() < deadline


def test_blas_gets_one_thread_and_ctrl_c_is_for_the_parent() -> None:
    with pool(isolated_tasks.surroundings) as workers:
        ((_, (threads, ignores_sigint)),) = workers.map([0])
    assert threads == "1" and ignores_sigint


def test_an_error_of_the_function_ends_the_map_with_one_line() -> None:
    with pool(isolated_tasks.fail) as workers, pytest.raises(DataError, match=r"^OSError: .*No space left on device"):
        list(workers.map([0]))


def test_a_function_that_cannot_be_sent_or_loaded_is_told() -> None:
    with pool(lambda task: task) as workers, pytest.raises(ConfigError, match="cannot be sent to a worker process"):
        list(workers.map([0]))
    with (
        pool(isolated_tasks.LoadsNowhere()) as workers,
        pytest.raises(DataError, match="cannot load the analysis: ImportError: no codec here"),
    ):
        list(workers.map([0]))
