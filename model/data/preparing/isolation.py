"""Run a function on many tasks in worker processes, so that a crash or a hang costs one task and nothing else.

Each worker is a spawned process with a pipe of its own. Pools that share one queue cannot tell whose task died:
`concurrent.futures` fails every task in flight, and Pebble 5.2.3 broke down ("Unexpected error within the Pool") in
two of three trials of 150 tasks that crash at once on a busy machine.

A task whose process dies is tried once more in a fresh one: memory damaged by the task before it, or the kernel's
out-of-memory killer, would else be taken for its own fault. A task that takes too long is not tried again.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar

from model.data.clip_types import Problem
from model.errors import ConfigError, DataError

__all__ = ["Failure", "IsolatedPool"]

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

TASKS_PER_WORKER = 500  # then a fresh process, against leaks in codecs and trackers
ATTEMPTS = 2
START_TIMEOUT_S = 300.0  # importing torch from a cold network file system takes minutes
EXIT_TIMEOUT_S = 5.0
THREAD_POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")

Reply = tuple[Literal["ready", "done", "raised"], Any]


@dataclass(frozen=True, slots=True)
class Failure:
    """A task whose process was lost."""

    problem: Problem  # CRASHED or TIMED_OUT
    message: str


class IsolatedPool(Generic[T, R]):
    """Worker processes that run `run(task)`. Close it, or use it in a `with` block."""

    def __init__(
        self,
        run: Callable[[T], R],
        *,
        workers: int,
        timeout_s: float,
        tasks_per_worker: int = TASKS_PER_WORKER,
    ) -> None:
        """Nothing starts before there are tasks.

        Args:
            run: Picklable by name. Its errors end the whole `map`.
            workers: Processes at a time.
            timeout_s: Longest time for one task; importing what `run` needs does not count.
            tasks_per_worker: After so many, a process is replaced.
        """
        if workers < 1 or timeout_s <= 0 or tasks_per_worker < 1:
            raise ConfigError(f"need workers >= 1 and a time limit > 0 s, got {workers} and {timeout_s} s")
        self._run = run
        self._workers = workers
        self._timeout_s = timeout_s
        self._tasks_per_worker = tasks_per_worker
        self._idle: list[_Worker[T, R]] = []
        self._busy: list[_Worker[T, R]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def map(self, tasks: Iterable[T]) -> Iterator[tuple[T, R | Failure]]:
        """Results in the order in which they come. A task is drawn from `tasks` only when a worker is free for it.

        Raises:
            DataError: `run` raised, or a worker could not start.
            ConfigError: `run` cannot be sent to another process.
        """
        waiting = iter(tasks)
        again: list[T] = []  # lost their process once
        try:
            while self._hand_out(again, waiting):
                for worker in self._wait():
                    task, result = worker.task, worker.collect(self._timeout_s)
                    if result is None:
                        continue  # it has only got ready
                    self._busy.remove(worker)
                    if not isinstance(result, Failure):
                        self._reuse(worker)
                        yield task, result[0]
                    elif result.problem is Problem.CRASHED and worker.attempt < ATTEMPTS:
                        again.append(task)
                    else:
                        yield task, result
        finally:
            for worker in self._busy:
                worker.kill()
            self._busy.clear()

    def close(self) -> None:
        """End the workers; those at work are killed."""
        for worker in (*self._idle, *self._busy):
            worker.kill()
        self._idle.clear()
        self._busy.clear()

    def _hand_out(self, again: list[T], waiting: Iterator[T]) -> bool:
        """Give every free worker a task; False when none is at work any more."""
        while len(self._busy) < self._workers:
            if again:
                worker = _Worker[T, R](self._run)  # never the heap that the crash may have come from
                task, attempt = again.pop(), ATTEMPTS
            else:
                found = next(((task,) for task in waiting), None)
                if found is None:
                    break
                worker = self._idle.pop() if self._idle else _Worker[T, R](self._run)
                task, attempt = found[0], 1
            self._busy.append(worker)
            worker.begin(task, attempt, self._timeout_s)
        return bool(self._busy)

    def _wait(self) -> list[_Worker[T, R]]:
        """Workers that have said something, have died, or are overdue."""
        now = time.monotonic()
        first_deadline = min(worker.deadline for worker in self._busy)
        ready = connection.wait([w.connection for w in self._busy], timeout=max(0.0, first_deadline - now))
        now = time.monotonic()
        return [w for w in self._busy if w.connection in ready or now >= w.deadline]

    def _reuse(self, worker: _Worker[T, R]) -> None:
        if worker.tasks_done < self._tasks_per_worker:
            self._idle.append(worker)
        else:
            worker.retire()


class _Worker(Generic[T, R]):
    """One process, at most one task."""

    task: T

    def __init__(self, run: Callable[[T], R]) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy locks held by other threads
        self.connection, theirs = context.Pipe()
        self.tasks_done = 0
        self.attempt = 0
        self.deadline = 0.0
        self._started = False
        self._killed = False
        self._process = context.Process(target=_serve, args=(theirs,), name="prepare-clip", daemon=True)
        self._process.start()
        theirs.close()
        try:
            self.connection.send(run)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            self.kill()
            raise ConfigError(f"the analysis cannot be sent to a worker process: {error}") from error
        except OSError:
            pass  # it died at once: `collect` sees that and says so

    def begin(self, task: T, attempt: int, timeout_s: float) -> None:
        """Hand over a task. Its clock runs from when the worker is ready."""
        self.task, self.attempt = task, attempt
        self.deadline = time.monotonic() + (timeout_s if self._started else START_TIMEOUT_S)
        with suppress(OSError):  # it died while idle: `collect` sees that, and the task gets its second attempt
            self.connection.send(task)

    def collect(self, timeout_s: float) -> tuple[R] | Failure | None:
        """The result in a tuple, why there is none, or None where the worker has only got ready."""
        if not self.connection.poll():
            return self._overdue(timeout_s)
        try:
            kind, value = self._receive()
        except (EOFError, OSError):
            return self._lost()
        if kind == "raised":
            self.kill()
            raise DataError(str(value))
        if kind == "ready":
            self._started = True
            self.deadline = time.monotonic() + timeout_s
            return None
        self.tasks_done += 1
        return (value,)

    def retire(self) -> None:
        """End an idle process in its own time."""
        self.connection.close()
        connection.wait([self._process.sentinel], timeout=EXIT_TIMEOUT_S)
        self.kill()

    def kill(self) -> None:
        """End the process and what it started, now. A second call does nothing."""
        if self._killed or self._process.pid is None:
            return
        self._killed = True
        self.connection.close()
        with suppress(ProcessLookupError):  # no group yet
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join(EXIT_TIMEOUT_S)  # a process stuck in a dead network file system cannot be waited for

    def _receive(self) -> Reply:
        reply: Reply = self.connection.recv()
        return reply

    def _overdue(self, timeout_s: float) -> Failure:
        self.kill()
        if not self._started:
            raise DataError(f"a worker process was not ready after {START_TIMEOUT_S:.0f} s: the machine is overloaded")
        return Failure(Problem.TIMED_OUT, f"took longer than {timeout_s:g} s and was stopped")

    def _lost(self) -> Failure:
        connection.wait([self._process.sentinel], timeout=EXIT_TIMEOUT_S)  # not reaped yet: its id stays taken
        self.kill()
        how = _exit_in_words(self._process.exitcode)
        if not self._started:
            raise DataError(f"a worker process could not start: it {how}; its own message stands above")
        return Failure(Problem.CRASHED, f"the process {how}, {self.attempt} times in a row")


def _exit_in_words(code: int | None) -> str:
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def _serve(pipe: connection.Connection) -> None:
    """The worker process: first the function comes down the pipe, then its tasks."""
    os.setsid()  # a group of its own: Ctrl-C does not reach it, and it can be killed with what it started
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for pool in THREAD_POOLS:
        os.environ[pool] = "1"  # before NumPy and torch load: there is a process per core already
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        run = pipe.recv()
    except Exception as error:  # importing the function may raise anything
        pipe.send(("raised", f"a worker process cannot load the analysis: {type(error).__name__}: {error}"))
        return
    pipe.send(("ready", None))
    with suppress(EOFError):
        while True:
            pipe.send(_reply(run, pipe.recv()))


def _reply(run: Callable[[Any], Any], task: Any) -> Reply:
    try:
        return "done", run(task)
    except Exception as error:  # a worker's loop; the parent ends the run with this line
        logger.exception("a task failed")
        return "raised", f"{type(error).__name__}: {error}"


def _die_with_parent() -> None:
    """A run that is killed outright takes its workers along."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.killpg(os.getpid(), signal.SIGKILL)
