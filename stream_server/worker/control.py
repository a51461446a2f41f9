"""How the front asks a worker: one request and one answer per connection to a Unix socket.

Requests carry `owner`, the caller they are for. {type: "create", sdp, options, room?} · {type: "resume", id, token,
sdp} · {type: "do", id, message} (see `messages.py`) · {type: "info", id} · {type: "delete", id} ·
{type: "publish", room, sdp, options} · {type: "watch", sdp, id? or room?} · {type: "forget", id} ·
{type: "over", id, room?, within_s} (answers as soon as the session and its room are gone, or then) ·
{type: "status", metrics?} · {type: "speak", ...} (the connection goes on as a stream, see `speak_door.py`).
Answers: {type: "ok", ...} or {type: "problem", status, code, detail, retry_after_s?}.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Any

from stream_server.engine import protocol
from stream_server.errors import EngineLostError, NotFoundError, ProtocolError
from stream_server.worker.engine_client import EngineClient
from stream_server.worker.place import Place
from stream_server.worker.problems import answer_error
from stream_server.worker.session_options import SessionOptions
from stream_server.worker.session_registry import SessionRegistry
from stream_server.worker.speak_door import SpeakDoor

__all__ = ["ControlServer"]

log = logging.getLogger(__name__)

_READ_TIMEOUT_S = 5.0


class ControlServer:
    """Answers the front."""

    def __init__(self, path: Path, registry: SessionRegistry, engine: EngineClient) -> None:
        self._path = path
        self._registry = registry
        self._engine = engine
        self._speak = SpeakDoor(registry, engine)
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
            async with asyncio.timeout(_READ_TIMEOUT_S):
                request, _blob = await protocol.read_message(reader)
            if request["type"] == "speak":
                await self._speak.serve(request, reader, writer)
                return
            writer.write(protocol.pack(await self._answer(request)))
            async with asyncio.timeout(_READ_TIMEOUT_S):
                await writer.drain()
        except (TimeoutError, EngineLostError, ProtocolError, ConnectionError) as error:
            log.warning("a control request failed: %s", error)
        finally:
            writer.close()

    async def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"type": "ok"} | await self._do(request)
        except Exception as error:  # the worker's loop: one request fails, the others go on
            return answer_error(error)

    async def _do(self, request: dict[str, Any]) -> dict[str, Any]:
        registry, kind = self._registry, request["type"]
        if kind == "status":
            return self._status(metrics=bool(request.get("metrics")))
        if kind == "over":
            return {"over": await registry.is_over(request["id"], request.get("room"), float(request["within_s"]))}
        owner = str(request["owner"])
        match kind:
            case "create":
                options = session_options(request["options"])
                return _opened(*await registry.call(str(request["sdp"]), owner, options, request.get("room")))
            case "resume":
                answer = await registry.resume(request["id"], owner, str(request["token"]), str(request["sdp"]))
                return _opened(*answer)
            case "publish":
                options = session_options(request["options"])
                return _opened(*await registry.publish(str(request["room"]), str(request["sdp"]), owner, options))
            case "watch":
                viewer_id, sdp = await registry.watch(self._watched(request, owner), str(request["sdp"]))
                return {"id": viewer_id, "sdp": sdp}
            case "do":
                return await registry.find(request["id"], owner).do(request["message"])
            case "info":
                return _info(registry.find(request["id"], owner))
            case "delete":
                await registry.close(request["id"], owner)
                return {}
            case "forget":
                await registry.forget_viewer(request["id"], owner)
                return {}
        raise ProtocolError(f"unknown request {kind!r}")

    def _watched(self, request: dict[str, Any], owner: str) -> Place:
        if request.get("room") is None:
            return self._registry.find(request["id"], owner)
        place = self._registry.publisher(request["room"], owner)
        if place is None:
            raise NotFoundError(f"nobody publishes in room {str(request['room'])[:40]!r}")
        return place

    def _status(self, *, metrics: bool) -> dict[str, Any]:
        status = {
            "avatar": self._engine.avatar,
            "sessions": self._registry.count,
            "peers": self._registry.peers,
            "rooms": self._registry.room_names(),
            "epoch": self._engine.epoch,
            "stuck_s": round(self._engine.stuck_s, 1),
            "busy_ms_per_hop": round(self._engine.busy_ms_per_hop, 2),
        }
        return status | ({"metrics": self._registry.metrics()} if metrics else {})


def session_options(values: dict[str, Any]) -> SessionOptions:
    """What the front has checked, as options."""
    return SessionOptions(
        source=values["source"], avatar=values["avatar"], controls=values["controls"], seed=values["seed"]
    )


def _opened(place: Place, sdp: str) -> dict[str, Any]:
    session = place.session
    return {"id": session.id, "sdp": sdp, "resume_token": place.resume_token, "avatar": session.shown_avatar}


def _info(place: Place) -> dict[str, Any]:
    session = place.session
    return {
        "id": session.id,
        "avatar": session.shown_avatar,
        "source": session.source,
        "seed": session.seed,
        "controls": session.controls,
        "viewers": len(place.viewers),
        "running": session.running,
        "algorithmic_ms": session.algorithmic_ms,
        "recorded": place.recorded,
    }
