"""What `serve --cluster` does when Ray answers late, wrongly or not at all. Ray itself is made up."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray", reason="Ray is in the extra cluster: pip install 'nerf-lipsync[cluster]'")

from stream_server.cluster.door import Door
from stream_server.cluster.names import Home
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


def test_an_assistant_that_finds_no_agent_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The place on the replica, got from Serve before, was held for as long as the ingress lived."""
    from stream_server.cluster import view

    class Call:
        cancelled = False

        async def __anext__(self) -> Home:
            return Home("0123456789ab", "abcd1234")

        def cancel(self) -> None:
            self.cancelled = True

    call = Call()
    handle = SimpleNamespace(hold=SimpleNamespace(remote=lambda _ingress: call))
    monkeypatch.setattr(view, "find_agent", lambda _node: None)
    monkeypatch.setattr(view.RayView, "_handle", lambda *_: handle)
    seen = view.RayView("ba9876543210", "http://127.0.0.1:1", Door(Path(), "ba9876543210", 1), ServerConfig())
    answer = asyncio.run(seen.speak(None, {"type": "speak", "id": None, "options": {"avatar": "default"}}))
    assert isinstance(answer, dict)
    assert answer["type"] == "problem"
    assert call.cancelled


def test_an_agent_that_dies_while_the_cluster_gets_ready_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is started again; the command ended the whole cluster with a traceback."""
    from ray.exceptions import RayActorError

    from stream_server.cluster import run

    def died(*_: object, **__: object) -> None:
        raise RayActorError

    agent = SimpleNamespace(about=SimpleNamespace(remote=lambda: None))
    monkeypatch.setattr(run, "_agents", list)
    monkeypatch.setattr(run.ray, "get", died)
    assert not run._announce(ServerConfig(), agent)
