"""The front's end of a worker's control socket."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from stream_server.engine import protocol
from stream_server.errors import EngineLostError, ProtocolError

__all__ = ["WorkerClient"]


class WorkerClient:
    """Asks one media worker; every request has a time limit."""

    def __init__(self, path: Path, *, timeout_s: float = 10.0) -> None:
        self._path = path
        self._timeout_s = timeout_s

    async def ask(self, kind: str, **values: Any) -> dict[str, Any]:
        """Send a request, return the answer; a worker that is away answers with a problem as well."""
        try:
            return await asyncio.wait_for(self._ask({"type": kind} | values), self._timeout_s)
        except (OSError, TimeoutError, EngineLostError, ProtocolError):
            detail = "the media worker does not answer; it is starting or has stopped"
            return {"type": "problem", "status": 503, "code": "not-ready", "detail": detail, "retry_after_s": 2}

    async def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        reader, writer = await asyncio.open_unix_connection(os.fspath(self._path))
        try:
            writer.write(protocol.pack(request))
            await writer.drain()
            answer, _blob = await protocol.read_message(reader)
            return answer
        finally:
            writer.close()
