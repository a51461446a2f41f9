"""Progress of long runs: a bar on terminals, sparse plain lines elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from stream_server.commands import progress
from stream_server.commands.progress import ClipProgress, duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "unknown time"),
        (0.0, "0 s"),
        (59.0, "59 s"),
        (90.0, "2 min"),
        (3599.0, "1 h 00 min"),
        (11_100.0, "3 h 05 min"),
        (187_000.0, "2 d 4 h"),
    ],
)
def test_lengths_of_time_read_at_a_glance(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


def test_a_terminal_gets_a_bar_with_rate_time_left_and_rejects() -> None:
    screen = io.StringIO()
    with ClipProgress("preparing", Console(file=screen, force_terminal=True, width=120)) as show:
        show(30, 120, 4, 42.25, 128.0)
    for part in ("preparing", "30/120", "42.2 clips/min", "2 min left", "4 rejected"):
        assert part in screen.getvalue()


def test_a_log_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with ClipProgress("preparing", Console(file=log, width=120)) as show:
        show(1, 9, 0, 60.0, 8.0)
        now += progress.LINE_EVERY_S
        show(2, 9, 1, 4.0, 105.0)
        show(3, 9, 1, 6.0, 60.0)
    assert log.getvalue().splitlines() == ["preparing: 2 of 9 clips, 4.0 clips/min, 2 min left, 1 rejected"]
