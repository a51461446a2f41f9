"""How the front asks the worker: one request and one answer per connection to a Unix socket.

Requests: {type: "create", sdp} · {type: "delete", id} · {type: "status"} · {type: "modules"} (for a test).
Answers: {type: "ok", ...} or {type: "problem", status, code, detail, retry_after_s?}.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import Any

from stream_server.engine import protocol
from stream_server.errors import EngineLostError, OfferError, ProtocolError, ServerBusyError, StreamServerError
from stream_server.worker.engine_client import EngineClient
from stream_server.worker.session_registry import SessionRegistry

__all__ = ["ControlServer"]

log = logging.getLogger(__name__)

_READ_TIMEOUT_S = 5.0


class ControlServer:
    """Answers the front."""

    def __init__(self, path: Path, registry: SessionRegistry, engine: EngineClient) -> None:
        self._path = path
        self._registry = registry
        self._engine = engine
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, os.fspath(self._path))
        os.chmod(self._path, 0o600)

    async def close(self) -> None:
        """Stop listening; idempotent."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request, _blob = await asyncio.wait_for(protocol.read_message(reader), _READ_TIMEOUT_S)
            writer.write(protocol.pack(await self._answer(request)))
            await asyncio.wait_for(writer.drain(), _READ_TIMEOUT_S)
        except (TimeoutError, EngineLostError, ProtocolError, ConnectionError) as error:
            log.warning("a control request failed: %s", error)
        finally:
            writer.close()

    async def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"type": "ok"} | await self._do(request)
        except ServerBusyError as error:
            return _problem(503, "busy", str(error)) | {"retry_after_s": error.retry_after_s}
        except EngineLostError as error:
            return _problem(503, "not-ready", str(error)) | {"retry_after_s": 2}
        except OfferError as error:
            return _problem(422, "bad-offer", str(error))
        except StreamServerError as error:
            return _problem(400, "bad-request", str(error))
        except Exception:  # the worker's loop: one request fails, the others go on
            log.exception("a control request failed")
            return _problem(500, "internal", "the request failed; see the server's log")

    async def _do(self, request: dict[str, Any]) -> dict[str, Any]:
        kind = request["type"]
        if kind == "create":
            session_id, sdp = await self._registry.create(str(request.get("sdp", "")))
            return {"id": session_id, "sdp": sdp}
        if kind == "delete":
            return {"closed": await self._registry.close(str(request.get("id", "")))}
        if kind == "status":
            return {"avatar": self._engine.avatar, "sessions": self._registry.count, "epoch": self._engine.epoch}
        if kind == "modules":
            return {"modules": sorted({name.partition(".")[0] for name in sys.modules})}
        raise ProtocolError(f"unknown request {kind!r}")


def _problem(status: int, code: str, detail: str) -> dict[str, Any]:
    return {"type": "problem", "status": status, "code": code, "detail": detail}
