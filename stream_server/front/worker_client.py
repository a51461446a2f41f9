"""The front's end of the workers' control sockets."""

from __future__ import annotations

import asyncio
import os
import zlib
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from stream_server.engine import protocol
from stream_server.errors import EngineLostError, ProtocolError

__all__ = ["GatePool", "WorkerClient", "WorkerPool"]

STATUS_TIMEOUT_S = 5.0
"""Of a count of sessions, which a worker has at hand: admission holds its lock for it, and every new call waits."""

_AWAY = {
    "type": "problem",
    "status": 503,
    "code": "not-ready",
    "detail": "the media worker does not answer; it is starting or has stopped",
    "retry_after_s": 2,
}


class WorkerClient:
    """Asks one media worker; every request has a time limit."""

    def __init__(self, path: Path, *, timeout_s: float = 20.0) -> None:
        self._path = path
        self.timeout_s = timeout_s

    async def ask(self, kind: str, **values: Any) -> dict[str, Any]:
        """Send a request, return the answer; a worker that is away answers with a problem as well."""
        timeout_s = min(self.timeout_s, STATUS_TIMEOUT_S) if kind == "status" else self.timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                return await self._ask({"type": kind} | values)
        except (OSError, TimeoutError, EngineLostError, ProtocolError):
            return dict(_AWAY)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection for a stream.

        Raises:
            OSError, TimeoutError: The worker is away.
        """
        async with asyncio.timeout(self.timeout_s):
            return await asyncio.open_unix_connection(os.fspath(self._path))

    async def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        reader, writer = await asyncio.open_unix_connection(os.fspath(self._path))
        try:
            writer.write(protocol.pack(request))
            await writer.drain()
            answer, _blob = await protocol.read_message(reader)
            return answer
        finally:
            writer.close()


class WorkerPool:
    """All workers. Sessions name theirs in their id; rooms have theirs by name; the rest goes where least is."""

    def __init__(self, clients: Sequence[WorkerClient]) -> None:
        self._clients = list(clients)

    def of_session(self, session_id: str) -> WorkerClient | None:
        """The worker of a session or viewer; None: no worker gave out such an id."""
        number, dash, _rest = session_id.partition("-")
        if not dash or not number.isascii() or not number.isdigit() or len(number) > 3:
            return None
        return self._clients[int(number)] if int(number) < len(self._clients) else None

    def of_room(self, room: str) -> WorkerClient:
        """The worker where all of a room are."""
        return self._clients[zlib.crc32(room.encode()) % len(self._clients)]

    def ask_all(self, kind: str, **values: Any) -> list[Coroutine[Any, Any, dict[str, Any]]]:
        """The same request to every worker, in order."""
        return [client.ask(kind, **values) for client in self._clients]

    async def status(self) -> dict[str, Any]:
        """Of the server: the first worker's, with all sessions; `idlest` is the number of the least loaded worker with
        an engine."""
        answers = await asyncio.gather(*self.ask_all("status"))
        good = [(a["peers"], i, a) for i, a in enumerate(answers) if a["type"] == "ok"]
        if not good:
            return answers[0]
        loaded = [entry for entry in good if entry[2]["avatar"] is not None] or good
        first = dict(loaded[0][2])
        first["sessions"] = sum(answer["sessions"] for _, _, answer in good)
        first["busy_ms_per_hop"] = max(answer["busy_ms_per_hop"] for _, _, answer in good)
        first["idlest"] = min(loaded, key=lambda entry: entry[:2])[1]
        return first

    def number(self, index: int) -> WorkerClient:
        """A worker by number."""
        return self._clients[index]


class GatePool(WorkerPool):
    """In a cluster: the node's gate stands for all workers, and knows by a session's id where it is."""

    def of_session(self, session_id: str) -> WorkerClient | None:  # noqa: ARG002 - the base class's signature
        """The gate."""
        return self._clients[0]
