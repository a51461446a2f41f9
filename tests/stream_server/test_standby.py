"""The engine that stands by takes the dead one's place, and another stands by then; none is left at the end."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from stream_server.config import ServerConfig
from stream_server.serve import Supervisor
from stream_server.standby import LASTED_S, MOST_DEATHS, Standby
from tests.stream_server.server_process import START_S, ServerProcess

WAIT_S = START_S


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess("--standby", "--max-sessions", "1") as process:
        yield process


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)  # another process's state can only be asked for


def has_standby(server: ServerProcess) -> bool:
    return "standby" in server.children()


def has_memory(pid: int) -> bool:
    """Lives: a process that has ended and was not waited for has none."""
    try:
        return bool(Path(f"/proc/{pid}/maps").read_text())
    except OSError:
        return False


def is_ready(server: ServerProcess) -> bool:
    return httpx.get(f"{server.url}/readyz", trust_env=False, timeout=10).status_code == 200


def test_the_standby_takes_over_and_another_stands_by(server: ServerProcess) -> None:
    wait_for(server.standby_is_ready)
    before = server.children()
    os.kill(before["engine"], signal.SIGKILL)
    wait_for(lambda: server.children().get("engine") == before["standby"])
    wait_for(lambda: is_ready(server))
    wait_for(lambda: has_standby(server))
    assert server.children()["standby"] not in before.values()


@pytest.mark.nightly
def test_a_standby_that_died_is_not_missed(server: ServerProcess) -> None:
    wait_for(lambda: has_standby(server))
    before = server.children()
    os.kill(before["standby"], signal.SIGKILL)
    os.kill(before["engine"], signal.SIGKILL)
    wait_for(lambda: server.children().get("engine") not in (None, before["engine"], before["standby"]))
    wait_for(lambda: is_ready(server))


def test_a_standby_that_ended_by_itself_is_replaced_while_the_engine_lives(server: ServerProcess) -> None:
    wait_for(lambda: has_standby(server))
    before = server.children()
    os.kill(before["standby"], signal.SIGKILL)
    wait_for(lambda: server.children().get("standby") not in (None, before["standby"]))
    assert server.children()["engine"] == before["engine"]


class FakeProcess:
    """As `subprocess.Popen`, as far as it is looked at."""

    stdin = None

    def __init__(self) -> None:
        self.code: int | None = None
        self.waited = False

    def poll(self) -> int | None:
        return self.code

    def kill(self) -> None:
        self.code = -9

    def wait(self) -> None:
        self.waited = True


class Watched:
    """A `Standby` on a made-up clock."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.started: list[float] = []
        self.processes: list[FakeProcess] = []
        self.refusals = 0
        self.may_start = True
        self.standby = Standby(self._spawn, lambda: self.now_s)  # type: ignore[arg-type, return-value]
        self.standby.begin()

    def _spawn(self) -> FakeProcess:
        self.started.append(self.now_s)
        if self.refusals:
            self.refusals -= 1
            raise BlockingIOError("no process to be had")
        self.processes.append(FakeProcess())
        return self.processes[-1]

    def run(self, seconds: int, *, die_after_s: float | None = None) -> None:
        for _ in range(seconds):
            self.standby.look(lambda: self.may_start)
            self.now_s += 1.0
            if die_after_s is not None and self.started and self.now_s - self.started[-1] >= die_after_s:
                self.processes[-1].code = 1


def test_deaths_are_answered_ever_later_and_then_no_more() -> None:
    watched = Watched()
    watched.run(1000, die_after_s=1.0)
    gaps = np.diff(watched.started)
    assert gaps.tolist() == [4.0, 7.0, 13.0, 25.0]
    assert len(watched.processes) == MOST_DEATHS
    assert watched.standby.take() is None  # an engine starts without
    watched.run(10)
    assert len(watched.processes) == MOST_DEATHS + 1
    assert watched.standby.take() is watched.processes[-1]


def test_one_that_lasted_makes_the_earlier_deaths_forgotten() -> None:
    watched = Watched()
    watched.run(2000, die_after_s=LASTED_S)
    assert len(watched.processes) > MOST_DEATHS
    assert set(np.diff(watched.started)) == {LASTED_S + 3.0}


def test_it_waits_for_leave_and_a_failed_start_is_a_death() -> None:
    watched = Watched()
    watched.may_start = False
    watched.run(20)
    assert watched.started == []
    watched.may_start, watched.refusals = True, 1
    watched.run(5)
    assert (len(watched.started), len(watched.processes)) == (2, 1)
    watched.standby.end()
    assert watched.processes[0].waited
    watched.run(100)
    assert len(watched.processes) == 1


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.nightly), signal.SIGKILL])
def test_none_is_left_at_the_end(number: signal.Signals) -> None:
    process = ServerProcess("--standby")
    try:
        wait_for(lambda: has_standby(process))
        standby = process.children()["standby"]
    finally:
        process.stop(number)
    wait_for(lambda: not has_memory(standby))


def test_a_signal_that_comes_while_the_watch_begins_to_wait_ends_it(tmp_path: Path) -> None:
    """Its handler took a lock that the interrupted code held: Ctrl-C was never heard, and no second one either."""
    supervisor = Supervisor(ServerConfig(), None, tmp_path, roles=())

    def interrupted() -> None:
        with supervisor._stop._cond:  # type: ignore[attr-defined]  # as `wait` does, for some microseconds
            supervisor._on_signal(signal.SIGTERM, None)

    thread = threading.Thread(target=interrupted, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    assert supervisor.watch(lambda _: None) == 0
