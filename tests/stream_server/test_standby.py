"""The engine that stands by takes the dead one's place, and another stands by then; none is left at the end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.stream_server.server_process import ServerProcess

WAIT_S = 60.0


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


def is_idle(pid: int) -> bool:
    """Waits for its settings, with torch loaded."""
    reads = Path(f"/proc/{pid}/wchan").read_text()
    return "pipe" in reads and "libtorch" in Path(f"/proc/{pid}/maps").read_text()


def test_the_standby_takes_over_and_another_stands_by(server: ServerProcess) -> None:
    wait_for(lambda: has_standby(server) and is_idle(server.children()["standby"]))
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


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.nightly), signal.SIGKILL])
def test_none_is_left_at_the_end(number: signal.Signals) -> None:
    process = ServerProcess("--standby")
    try:
        wait_for(lambda: has_standby(process))
        standby = process.children()["standby"]
    finally:
        process.stop(number)
    wait_for(lambda: not has_memory(standby))
