"""Answers a node's front in the place of a media worker: opens sessions where Ray Serve says, and sends what concerns
a session to the node that its id names.

The front speaks to it as to a worker (`stream_server.worker.control`), over a Unix socket. No Ray is needed here: a
`View` is the cluster.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from stream_server.cluster.names import Home
from stream_server.engine import protocol
from stream_server.errors import EngineLostError, ProtocolError

__all__ = ["Answer", "Gate", "SpeechLine", "View", "away", "no_session"]

log = logging.getLogger(__name__)

Answer = dict[str, Any]
_READ_TIMEOUT_S = 5.0


class SpeechLine(Protocol):
    """An assistant's stream to a worker on some node."""

    def __aiter__(self) -> AsyncIterator[protocol.Message]: ...

    def push(self, body: Mapping[str, Any], blob: bytes) -> None:
        """Send a message inward; in order."""

    async def close(self) -> None:
        """End it; idempotent."""


class View(Protocol):
    """The cluster as a gate sees it. Nothing here raises: problems are answers."""

    async def place(self, request: Mapping[str, Any]) -> Answer:
        """Open a session on the replica that Serve chooses, and hold its place until it ends."""

    async def ask(self, home: Home, request: Mapping[str, Any]) -> Answer:
        """Ask a worker. A problem `no-such-session` where its replica or node is known to be gone."""

    async def statuses(self) -> dict[Home, Answer]:
        """Of all workers that answer."""

    async def ingresses(self) -> list[str]:
        """URLs of the fronts of living nodes."""

    async def speak(self, home: Home | None, request: Mapping[str, Any]) -> SpeechLine | Answer:
        """An assistant's stream, in a session that is open or (home None) in one that opens; or a problem."""


def away(detail: str = "no avatar worker answers; they are starting, or have stopped") -> Answer:
    """A problem that goes away by itself."""
    return {"type": "problem", "status": 503, "code": "not-ready", "detail": detail, "retry_after_s": 2}


def no_session(session_id: str) -> Answer:
    """Neither here nor elsewhere."""
    detail = f"there is no session {session_id[:40]!r}"
    return {"type": "problem", "status": 404, "code": "no-such-session", "detail": detail}


class Gate:
    """Serves one front. `places` is how many sessions a replica holds."""

    def __init__(self, path: Path, view: View, places: int) -> None:
        self._path = path
        self._view = view
        self._places = places

    async def run(self) -> None:
        """Listen until cancelled."""
        self._path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._serve, os.fspath(self._path))
        os.chmod(self._path, 0o600)
        async with server:
            await server.serve_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_READ_TIMEOUT_S):
                request, _blob = await protocol.read_message(reader)
            if request["type"] == "speak":
                await self._speak(request, reader, writer)
                return
            writer.write(protocol.pack(await self.answer(request)))
            async with asyncio.timeout(_READ_TIMEOUT_S):
                await writer.drain()
        except (TimeoutError, EngineLostError, ProtocolError, ConnectionError) as error:
            log.warning("a front's request failed: %s", error)
        finally:
            writer.close()

    async def answer(self, request: Mapping[str, Any]) -> Answer:
        """The answer to one request of the front."""
        try:
            return await self._answer(request)
        except Exception:  # the gate's loop: one request fails, the others go on
            log.exception("a request to the cluster failed")
            detail = "the cluster failed to answer; see the node's log"
            return {"type": "problem", "status": 500, "code": "internal", "detail": detail}

    async def _answer(self, request: Mapping[str, Any]) -> Answer:
        match request["type"]:
            case "status":
                return await self._status()
            case "create":
                return await self._with_ingresses(await self._open(request, request.get("room")))
            case "publish":
                return await self._open(request, _broadcast(request))
            case "watch" if request.get("room") is not None:
                room = str(request["room"])
                home = await self._find_room(_broadcast(request))
                return await self._view.ask(home, request) if home is not None else no_session(room)
            case "resume":
                return await self._with_ingresses(await self._resume(request))
        return await self._by_id(request)

    async def _resume(self, request: Mapping[str, Any]) -> Answer:
        """A caller who comes back has lost the session's node; if it does not answer us either, it is gone for both."""
        answer = await self._by_id(request)
        return no_session(str(request["id"])) if answer.get("code") == "not-ready" else answer

    async def _by_id(self, request: Mapping[str, Any]) -> Answer:
        session_id = str(request["id"])
        home = Home.of_session(session_id)
        return no_session(session_id) if home is None else await self._view.ask(home, request)

    async def _open(self, request: Mapping[str, Any], room: str | None) -> Answer:
        """Those who are in one room are on one worker: who comes second goes where the first is."""
        home = await self._find_room(room) if room is not None else None
        return await self._view.place(request) if home is None else await self._view.ask(home, request)

    async def _find_room(self, room: str) -> Home | None:
        found = [home for home, status in (await self._view.statuses()).items() if room in status["rooms"]]
        return found[0] if found else None

    async def _with_ingresses(self, answer: Answer) -> Answer:
        return answer | {"ingresses": await self._view.ingresses()} if answer["type"] == "ok" else answer

    async def _status(self) -> Answer:
        """Of the whole: one worker's account of the avatar, all sessions, and the places there are now."""
        statuses = await self._view.statuses()
        loaded = [status for status in statuses.values() if status["avatar"] is not None]
        if not loaded:
            return away()
        replicas = {(home.node, home.replica) for home, status in statuses.items() if status["avatar"] is not None}
        return loaded[0] | {
            "sessions": sum(status["sessions"] for status in statuses.values()),
            "busy_ms_per_hop": max(status["busy_ms_per_hop"] for status in loaded),
            "limit": self._places * len(replicas),
            "idlest": 0,
        }

    async def _speak(
        self, request: Mapping[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        home = None
        if request.get("id") is not None:
            home = Home.of_session(str(request["id"]))
            if home is None:
                writer.write(protocol.pack(no_session(str(request["id"]))))
                return
        line = await self._view.speak(home, request)
        if isinstance(line, dict):
            writer.write(protocol.pack(line))
            await writer.drain()
            return
        both = (asyncio.ensure_future(_inward(reader, line)), asyncio.ensure_future(_outward(line, writer)))
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            await line.close()


def _broadcast(request: Mapping[str, Any]) -> str:
    """A WHIP room as `status` lists it: its owner's own."""
    return f"{request['owner']}/{request['room']}"


async def _inward(reader: asyncio.StreamReader, line: SpeechLine) -> None:
    while True:
        body, blob = await protocol.read_message(reader)
        line.push(body, blob)


async def _outward(line: SpeechLine, writer: asyncio.StreamWriter) -> None:
    async for body, blob in line:
        writer.write(protocol.pack(body, blob))
        await writer.drain()
