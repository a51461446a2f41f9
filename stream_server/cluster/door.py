"""A node's own workers, as other nodes reach them through the node's agent: by the sockets in the node's folder."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from stream_server.cluster.gate import Answer, away, no_session
from stream_server.cluster.names import Home
from stream_server.cluster.processes import living_replicas
from stream_server.engine import protocol
from stream_server.errors import EngineLostError, ProtocolError
from stream_server.front.worker_client import WorkerClient

__all__ = ["Door"]


class Door:
    """Asks the workers of one node. `workers` is how many media workers a replica has."""

    def __init__(self, folder: Path, node: str, workers: int) -> None:
        self._folder = folder
        self._node = node
        self._workers = workers
        self._lines: dict[str, asyncio.StreamWriter | None] = {}  # None: it is being made

    def client(self, home: Home) -> WorkerClient | None:
        """A worker's control socket; None: its replica is gone."""
        replica = self._folder / home.replica
        if home.worker >= self._workers or replica not in living_replicas(self._folder):
            return None
        return WorkerClient(replica / f"worker-{home.worker}.sock")

    async def ask(self, home: Home, request: Mapping[str, Any]) -> Answer:
        """A worker's answer; `no-such-session` if its replica is gone."""
        client = self.client(home)
        if client is None:
            return no_session(str(request.get("id", "")))
        values = dict(request)
        return await client.ask(str(values.pop("type")), **values)

    async def statuses(self) -> dict[Home, Answer]:
        """Of this node's workers that answer."""
        homes = [
            Home(self._node, replica.name, number)
            for replica in living_replicas(self._folder)
            for number in range(self._workers)
        ]
        answers = await asyncio.gather(*(self.ask(home, {"type": "status"}) for home in homes))
        return {home: answer for home, answer in zip(homes, answers, strict=True) if answer["type"] == "ok"}

    async def listen(self, line: str, home: Home, request: Mapping[str, Any]) -> AsyncIterator[protocol.Message]:
        """An assistant's stream outward; what is pushed under the same name of a line goes inward."""
        client = self.client(home)
        if client is None:
            yield no_session(str(request.get("id", ""))), b""
            return
        writer = None
        self._lines[line] = None
        try:
            try:
                reader, writer = await client.connect()
            except (OSError, TimeoutError):
                yield away(), b""
                return
            if line not in self._lines:  # hung up meanwhile
                return
            self._lines[line] = writer
            writer.write(protocol.pack(dict(request)))
            with contextlib.suppress(EngineLostError, ProtocolError, ConnectionError):
                while True:
                    yield await protocol.read_message(reader)
        finally:
            self._lines.pop(line, None)
            if writer is not None:
                writer.close()

    def push(self, line: str, body: Mapping[str, Any], blob: bytes) -> None:
        """A message inward; passed over if the line has ended."""
        writer = self._lines.get(line)
        if writer is not None:
            writer.write(protocol.pack(dict(body), blob))

    def hang_up(self, line: str) -> None:
        """End a line; idempotent."""
        writer = self._lines.pop(line, None)
        if writer is not None:
            writer.close()
