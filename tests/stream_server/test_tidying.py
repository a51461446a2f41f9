"""Garbage is collected when no call is held up by it, or when enough has come together."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stream_server.worker.tidying import MOST_LEFT, TIDY_S, Tidier


class Timed:
    """A loop that calls when it is told that time went by."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []

    def call_later(self, delay_s: float, call: Any) -> None:
        assert delay_s == TIDY_S
        self.waiting.append(call)

    def pass_by(self) -> None:
        waiting, self.waiting = self.waiting, []
        for call in waiting:
            call()


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Timed:
    loop = Timed()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    return loop


def test_without_calls_it_is_done_once_for_all_that_ended(loop: Timed) -> None:
    collected: list[int] = []
    tidier = Tidier(lambda: 0, lambda: collected.append(1) or 0)  # type: ignore[func-returns-value]
    for _ in range(3):
        tidier.session_ended()
    assert collected == []
    loop.pass_by()
    assert collected == [1]


def test_beside_calls_it_waits_for_an_idle_moment_or_for_several(loop: Timed) -> None:
    collected: list[int] = []
    running = 1
    tidier = Tidier(lambda: running, lambda: collected.append(1) or 0)  # type: ignore[func-returns-value]

    def end(count: int) -> int:
        for _ in range(count):
            tidier.session_ended()
            loop.pass_by()
        return len(collected)

    assert end(MOST_LEFT - 1) == 0
    assert end(1) == 1
    assert end(MOST_LEFT - 1) == 1
    running = 0
    assert end(1) == 2
    running = 1
    assert end(MOST_LEFT - 1) == 2
