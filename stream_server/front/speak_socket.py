"""`WS /v1/speak`: relays an assistant's socket to the worker that has its session."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stream_server.engine import protocol
from stream_server.errors import EngineLostError, ProtocolError
from stream_server.front.context import Context, caller_of
from stream_server.front.guard import SOCKET_PROTOCOL
from stream_server.front.schemas import ControlValues, Name
from stream_server.front.worker_client import WorkerClient

__all__ = ["SpeakStart", "speak_routes"]

log = logging.getLogger(__name__)

_START_TIMEOUT_S = 10.0
_MOST_MESSAGE = 1 << 20
_POLICY, _TRY_LATER, _BAD_DATA = 1008, 1013, 1003


class SpeakStart(BaseModel):
    """The first message. `session`: speak in one that is open (source `speech`); without it one is opened, and closed
    with the socket. `frames`: pictures and sound come as binary messages too."""

    model_config = ConfigDict(extra="forbid")
    type: Literal["start"]
    rate_hz: Literal[16000, 24000, 48000] = 24000
    session: Annotated[str, Field(max_length=64)] | None = None
    frames: Literal["jpeg", "mp4"] | None = None
    avatar: Name | None = None
    controls: ControlValues = ControlValues()
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None


def speak_routes(context: Context) -> APIRouter:
    """The route."""
    router = APIRouter()

    @router.websocket("/v1/speak")
    async def speak(socket: WebSocket) -> None:
        """PCM16 mono and JSON messages in; events, and if asked for pictures and sound, out."""
        offered = socket.headers.get("sec-websocket-protocol", "")
        await socket.accept(subprotocol=SOCKET_PROTOCOL if SOCKET_PROTOCOL in offered else None)
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await _serve(context, socket)

    return router


async def _serve(context: Context, socket: WebSocket) -> None:
    try:
        async with asyncio.timeout(_START_TIMEOUT_S):
            text = await socket.receive_text()
        start = SpeakStart.model_validate_json(text)
    except TimeoutError:
        return await _refuse(socket, _POLICY, "no-start", f"no start message within {_START_TIMEOUT_S:.0f} s")
    except KeyError:
        return await _refuse(socket, _BAD_DATA, "no-start", "the first message must be text: the start message")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "message"
        return await _refuse(socket, _POLICY, "bad-start", f"{where}: {first['msg']}")
    if caller_of(socket).room is not None:
        return await _refuse(socket, _POLICY, "other-room", "an invitation opens no assistant's socket")
    if start.session is not None:
        worker = context.pool.of_session(start.session)
        if worker is None:
            return await _refuse(socket, _POLICY, "no-such-session", f"there is no session {start.session!r}")
        return await _relay(socket, worker, _request(socket, start, None), None)
    if context.too_often(socket) is not None:
        return await _refuse(socket, _TRY_LATER, "too-many", "this caller opens sessions too fast")
    options = context.options("speech", start.avatar, start.controls, start.seed)
    if isinstance(options, Response):
        return await _refuse(socket, _POLICY, **_detail(options))
    await context.admission.lock.acquire()
    opened = asyncio.Event()
    try:
        status = await context.admit(None)
        if isinstance(status, Response):
            return await _refuse(socket, _TRY_LATER, **_detail(status))
        relay = asyncio.ensure_future(
            _relay(socket, context.pool.number(status["idlest"]), _request(socket, start, options), opened)
        )
        waiter = asyncio.ensure_future(opened.wait())
        await asyncio.wait((relay, waiter), return_when=asyncio.FIRST_COMPLETED)
        waiter.cancel()
    finally:
        context.admission.lock.release()
    await relay


def _request(socket: WebSocket, start: SpeakStart, options: dict[str, Any] | None) -> dict[str, Any]:
    values = {"id": start.session, "rate_hz": start.rate_hz, "frames": start.frames, "options": options}
    return {"type": "speak", "owner": caller_of(socket).owner} | values


async def _relay(
    socket: WebSocket, worker: WorkerClient, request: dict[str, Any], opened: asyncio.Event | None
) -> None:
    try:
        reader, writer = await worker.connect()
    except (OSError, TimeoutError):
        return await _refuse(socket, _TRY_LATER, "not-ready", "the media worker does not answer")
    try:
        writer.write(protocol.pack(request))
        async with asyncio.timeout(worker.timeout_s):  # others wait to be admitted
            answer, _blob = await protocol.read_message(reader)
        if opened is not None:
            opened.set()
        if answer["type"] == "problem":
            code = _TRY_LATER if answer["status"] == 503 else _POLICY
            return await _refuse(socket, code, str(answer["code"]), str(answer["detail"]))
        both = (asyncio.ensure_future(_inward(socket, writer)), asyncio.ensure_future(_outward(socket, reader)))
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)
    except TimeoutError:
        await _refuse(socket, _TRY_LATER, "not-ready", "the media worker does not answer")
    except (EngineLostError, ProtocolError, ConnectionError):
        await _refuse(socket, _TRY_LATER, "not-ready", "the media worker stopped")
    finally:
        writer.close()


async def _inward(socket: WebSocket, writer: asyncio.StreamWriter) -> None:
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        if (data := message.get("bytes")) is not None:
            writer.write(protocol.pack({"type": "binary"}, data[:_MOST_MESSAGE]))
        else:
            writer.write(protocol.pack({"type": "text", "text": str(message.get("text"))[: _MOST_MESSAGE // 8]}))
        await writer.drain()


async def _outward(socket: WebSocket, reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(EngineLostError):
        while True:
            body, blob = await protocol.read_message(reader)
            if body["type"] == "binary":
                await socket.send_bytes(blob)
            elif body["type"] == "text":
                await socket.send_text(body["text"])
            else:
                await socket.close(int(body["code"]), str(body["reason"]))
                return
    await socket.close(1001, "the server ended the session")


async def _refuse(socket: WebSocket, close_code: int, code: str, message: str) -> None:
    """Say why, as a fatal error event, and close."""
    event = {"v": 1, "type": "error", "code": code, "message": message, "fatal": True}
    await socket.send_text(json.dumps(event))
    await socket.close(close_code, code)


def _detail(response: Response) -> dict[str, str]:
    body = json.loads(bytes(response.body))
    return {"code": str(body["code"]), "message": str(body["detail"])}
