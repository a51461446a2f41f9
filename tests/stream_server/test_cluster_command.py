"""What `serve --cluster` does when Ray answers late, wrongly or not at all. Ray itself is made up."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("ray", reason="Ray is in the extra cluster: pip install 'nerf-lipsync[cluster]'")

from stream_server.cluster.settings import ClusterSettings
from stream_server.config import ServerConfig

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own


def test_a_signal_that_comes_while_the_watch_begins_to_wait_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its handler took a lock that the interrupted code held: Ctrl-C was never heard, and no second one either."""
    from stream_server.cluster import run

    handlers: dict[int, Callable[..., object]] = {}
    ended: list[bool] = []

    def interrupted(_config: object, _settings: object, stop: Any) -> int:
        with getattr(stop, "_cond", contextlib.nullcontext()):  # as `Event.wait` does, for some microseconds
            handlers[signal.SIGTERM](signal.SIGTERM, None)
        ended.append(stop.wait(0.0))
        return 0

    monkeypatch.setattr(run.signal, "signal", lambda number, handler: handlers.setdefault(number, handler))
    monkeypatch.setattr(run.ray, "init", lambda **_: None)
    monkeypatch.setattr(run.ray, "shutdown", lambda: None)
    monkeypatch.setattr(run, "_end_all", lambda: None)
    monkeypatch.setattr(run, "set_up_logging", lambda *_: None)
    monkeypatch.setattr(run, "_serve", interrupted)
    config = ServerConfig(max_sessions=2)
    thread = threading.Thread(target=run.run_cluster, args=(config, ClusterSettings()), daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    assert ended == [True]
