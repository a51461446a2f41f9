"""The assistant's socket at the front, with a made-up worker."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any, cast

from stream_server.avatar_folders import Catalogue
from stream_server.config import ServerConfig
from stream_server.front import speak_socket
from stream_server.front.admission import Admission
from stream_server.front.context import Context
from stream_server.front.principals import LOCAL, Principals
from stream_server.front.rate_limit import RateLimit
from stream_server.front.worker_client import WorkerPool
from tests.stream_server.test_front import FakeWorker


class Silent(FakeWorker):
    """Takes a stream's connection, and says nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.timeout_s = 0.05
        self.hung_up = False

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        def close() -> None:
            self.hung_up = True

        return asyncio.StreamReader(), cast(Any, SimpleNamespace(write=lambda _data: None, close=close))


class Socket:
    """An assistant that opens a session."""

    def __init__(self) -> None:
        self.state = SimpleNamespace(caller=LOCAL)
        self.client = None
        self.told: list[dict[str, Any]] = []
        self.closed: list[int] = []

    async def receive_text(self) -> str:
        return json.dumps({"type": "start"})

    async def send_text(self, text: str) -> None:
        self.told.append(json.loads(text))

    async def close(self, code: int, _reason: str) -> None:
        self.closed.append(code)


def test_a_worker_that_says_nothing_does_not_hold_up_everybody_else() -> None:
    """Admission waits for the session that is being opened; it waited for ever, and no other session was opened."""

    async def run() -> None:
        worker, socket, config = Silent(), Socket(), ServerConfig()
        catalogue, admission = Catalogue.find(None, None, None), Admission(4)
        context = Context(config, WorkerPool([worker]), Principals(None), admission, RateLimit(60), catalogue)
        async with asyncio.timeout(10):
            await speak_socket._serve(context, cast(Any, socket))
        assert [(event["code"], event["fatal"]) for event in socket.told] == [("not-ready", True)]
        assert socket.closed == [1013]
        assert worker.hung_up
        assert not admission.lock.locked()

    asyncio.run(run())
