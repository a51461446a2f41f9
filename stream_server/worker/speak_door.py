"""The assistant's door: PCM and messages in, events and (if asked for) pictures and sound out, as one stream.

The front relays a WebSocket: its text messages arrive as {type: "text", text}, its binary ones as {type: "binary"}
with a blob; the same two go back, and {type: "close", code, reason} ends it. See docs/api.md for what they hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import Any

import numpy as np

from stream_server.engine import protocol
from stream_server.errors import (
    ConflictError,
    EngineLostError,
    RefusedError,
    StreamServerError,
)
from stream_server.events import ErrorEvent, Event, NoticeEvent, encode
from stream_server.json_text import read_json
from stream_server.media.speech_stream import Utterance
from stream_server.worker.engine_client import EngineClient
from stream_server.worker.messages import refusal
from stream_server.worker.place import Place
from stream_server.worker.problems import answer_error
from stream_server.worker.session_options import SessionOptions
from stream_server.worker.session_registry import SessionRegistry
from stream_server.worker.sinks.socket_media import SocketMedia
from stream_server.worker.speaker import Speaker, UpSampler

__all__ = ["SpeakDoor"]

log = logging.getLogger(__name__)

RATES_HZ = (16_000, 24_000, 48_000)
_WAITING_IN = 1 << 13  # pieces of sound, of 10 ms each if they fill the next limit at 16 kHz
_WAITING_TEXTS = 64
_MOST_WAITING_SOUND = 1 << 22  # bytes
_WAITING_OUT = 512
_LAST_MESSAGES = 3  # an error, the closing of the socket, the end
_LAST_WORDS_S = 1.0
_ROOM_EVERY_S = 1.0


class SpeakDoor:
    """Serves assistants one stream each."""

    def __init__(self, registry: SessionRegistry, engine: EngineClient) -> None:
        self._registry = registry
        self._engine = engine

    async def serve(self, request: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until either side ends. `request` holds owner, options, and id (of a session that is open) or None."""
        try:
            place, ours = await self._place(request)
        except Exception as error:
            writer.write(protocol.pack(answer_error(error)))
            await writer.drain()
            return
        assert place.speaker is not None
        stream = _Stream(place, place.speaker, int(request["rate_hz"]), reader, writer)
        media: SocketMedia | None = None
        place.speaker.attached = True
        place.listeners.append(stream.send_event)
        try:
            if request["frames"]:
                media = SocketMedia(request["frames"], stream.send_binary, place.session.avatar)
                place.egress.attach(media)
            stream.send({"type": "ok", "id": place.session.id})
            if ours:
                place.start()
            for event in place.greeting():
                stream.send_event(event)
            await stream.run()
        finally:
            place.speaker.attached = False
            with contextlib.suppress(ValueError):
                place.listeners.remove(stream.send_event)
            if media is not None:
                place.egress.detach(media)
                await media.close()
            if ours:
                with contextlib.suppress(StreamServerError):
                    await self._registry.close(place.session.id, place.owner)

    async def _place(self, request: dict[str, Any]) -> tuple[Place, bool]:
        owner = str(request["owner"])
        if request.get("id") is not None:
            place = self._registry.find(str(request["id"]), owner)
            if place.speaker is None:
                raise ConflictError("this session speaks with a microphone's sound; open one with source 'speech'")
            if place.speaker.attached:
                raise ConflictError("an assistant speaks in this session already")
            return place, False
        values = request["options"]
        options = SessionOptions(
            source="speech", avatar=values["avatar"], controls=values["controls"], seed=values["seed"]
        )
        return await self._registry.open(owner, options), True


class _Stream:
    """One assistant: reads without waiting for mouth or engine, so that an interrupt overtakes all before it."""

    def __init__(
        self,
        place: Place,
        speaker: Speaker,
        rate_hz: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._place = place
        self._speaker = speaker
        self._rate_hz = rate_hz
        self._reader = reader
        self._writer = writer
        self._sound: asyncio.Queue[tuple[Utterance, bytes | None]] = asyncio.Queue()  # bounded where sound comes in
        self._asked: asyncio.Queue[bytes | dict[str, Any]] = asyncio.Queue()  # bounded likewise
        self._waiting_texts = 0
        self._out: asyncio.Queue[bytes | None] = asyncio.Queue(_WAITING_OUT)
        self._waiting_bytes = 0
        self._pushed_bytes = 0
        self._utterance: Utterance | None = None
        self._begun: list[Utterance] = []
        self._sampler = UpSampler(rate_hz)
        speaker.on_reported = self._reported

    async def run(self) -> None:
        """Read, push and write until one of them ends, or the session does."""
        loops = (self._read(), self._carry_out(), self._push(), self._write(), self._tell_room())
        tasks = [asyncio.create_task(loop) for loop in loops]
        tasks.append(asyncio.create_task(self._end_with_session()))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(result, Exception) and not isinstance(result, EngineLostError | ConnectionError):
                    log.error("a speak stream failed", exc_info=result)
            for utterance in self._begun:  # what has come is said, and others' turn comes after it
                if not utterance.closed:
                    self._speaker.finish(utterance)

    def send(self, body: dict[str, Any], blob: bytes = b"") -> None:
        """Queue a message; what an assistant does not read is dropped when 512 wait."""
        if not self._out.full():
            self._out.put_nowait(protocol.pack(body, blob))

    def send_event(self, event: Event) -> None:
        """Queue an event; a fatal one ends the stream after it, and is told whatever waits."""
        fatal = isinstance(event, ErrorEvent) and event.fatal
        while fatal and self._out.qsize() > _WAITING_OUT - _LAST_MESSAGES:
            self._out.get_nowait()
        self.send({"type": "text", "text": encode(event)})
        if isinstance(event, ErrorEvent) and event.fatal:
            self.end(1011, event.code)

    def send_binary(self, data: bytes) -> bool:
        """Queue a picture or sound; False if it was dropped."""
        if self._out.qsize() > _WAITING_OUT // 2:
            return False
        self.send({"type": "binary"}, data)
        return True

    def end(self, code: int, reason: str) -> None:
        """Close the WebSocket after what is queued."""
        self.send({"type": "close", "code": code, "reason": reason[:100]})
        if not self._out.full():
            self._out.put_nowait(None)

    async def _end_with_session(self) -> None:
        """Say that the session was closed (hung up, deleted, its caller lost), and end; who reads nothing, too."""
        await self._place.closed.wait()
        self.end(1000, "session-ended")
        await asyncio.sleep(_LAST_WORDS_S)

    async def _write(self) -> None:
        while (data := await self._out.get()) is not None:
            self._writer.write(data)
            await self._writer.drain()

    async def _read(self) -> None:
        """Take in what comes; what came before the end is done before it."""
        try:
            await self._take_in()
        except EngineLostError:
            await self._asked_is_done()
            raise
        await self._asked_is_done()

    async def _take_in(self) -> None:
        """An interrupt overtakes all that waits, even a control that loads an avatar."""
        while (read := await protocol.read_message(self._reader))[0]["type"] != "close":
            try:
                asked = self._sound_of(read[1]) if read[0]["type"] == "binary" else _message_of(read[0])
            except StreamServerError as error:
                self.send_event(NoticeEvent(code="refused", message=str(error)))
                continue
            if isinstance(asked, dict) and asked.get("type") == "interrupt":
                try:
                    self._interrupt()
                except StreamServerError as error:
                    self.send_event(refusal(asked, error))
            elif isinstance(asked, dict) and self._waiting_texts >= _WAITING_TEXTS:
                self.send_event(refusal(asked, RefusedError("too many messages wait already: this one was dropped")))
            else:
                self._waiting_texts += isinstance(asked, dict)
                self._asked.put_nowait(asked)
                await asyncio.sleep(0)  # it is carried out, unless one before it takes its time

    async def _asked_is_done(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._asked.join()

    async def _carry_out(self) -> None:
        """What was asked, in order."""
        while True:
            asked = await self._asked.get()
            try:
                if isinstance(asked, bytes):
                    self._take_sound(asked)
                else:
                    self._waiting_texts -= 1
                    await self._obey(asked)
            except StreamServerError as error:
                self.send_event(refusal({} if isinstance(asked, bytes) else asked, error))
            finally:
                self._asked.task_done()

    def _sound_of(self, blob: bytes) -> bytes:
        if len(blob) % 2:
            raise RefusedError(f"sound is 16-bit samples; got {len(blob)} bytes, an odd number")
        if self._waiting_bytes > _MOST_WAITING_SOUND or self._sound.qsize() + self._asked.qsize() >= _WAITING_IN:
            raise RefusedError(f"{self._waiting_bytes} bytes wait already: this sound was dropped; see speech.room")
        self._waiting_bytes += len(blob)
        return blob

    def _take_sound(self, blob: bytes) -> None:
        if self._utterance is None:
            self._utterance = self._begin(None)
        self._utterance.coming += 1
        self._sound.put_nowait((self._utterance, blob))

    def _interrupt(self) -> None:
        """Stop speaking, and forget what was to be said; controls that wait are carried out all the same."""
        waiting = []
        while not self._asked.empty():
            waiting.append(self._asked.get_nowait())
            self._asked.task_done()
        for asked in waiting:
            if isinstance(asked, dict) and asked.get("type") == "control":
                self._asked.put_nowait(asked)
            elif isinstance(asked, dict) and asked.get("type") in ("say", "utterance.begin"):
                self.send_event(refusal(asked, RefusedError("interrupted before its turn came")))
        self._waiting_texts = self._asked.qsize()
        self._utterance = None
        self._forget_sound()
        self._speaker.interrupt()

    async def _obey(self, message: dict[str, Any]) -> None:
        kind = message.get("type")
        if kind == "utterance.begin":
            self._end_utterance()
            name = message.get("utterance")
            if name is not None and (not isinstance(name, str) or not 0 < len(name) <= 64):
                raise RefusedError("utterance must be a string of 1 to 64 characters")
            self._utterance = self._begin(name)
        elif kind == "utterance.end":
            self._end_utterance()
        else:
            if kind == "say":  # a text is an utterance of its own; a control is not
                self._end_utterance()
            await self._place.do(message)

    def _begin(self, name: str | None) -> Utterance:
        utterance = self._speaker.begin(name)
        self._begun = [*(old for old in self._begun if not old.closed), utterance]
        return utterance

    def _end_utterance(self) -> None:
        if self._utterance is not None:
            self._utterance.coming += 1
            self._sound.put_nowait((self._utterance, None))
            self._utterance = None

    def _forget_sound(self) -> None:
        while not self._sound.empty():
            self._sound.get_nowait()
        self._waiting_bytes = self._pushed_bytes = 0
        self._sampler = UpSampler(self._rate_hz)

    async def _push(self) -> None:
        while True:
            utterance, blob = await self._sound.get()
            if blob is None:
                await self._speaker.push(utterance, self._sampler.flush())
                self._sampler = UpSampler(self._rate_hz)
                self._speaker.finish(utterance)
                continue
            self._waiting_bytes -= len(blob)
            self._pushed_bytes = len(blob)
            await self._speaker.push(utterance, self._sampler.push(np.frombuffer(blob, "<i2").astype(np.int16)))
            utterance.coming -= 1
            self._pushed_bytes = 0

    async def _tell_room(self) -> None:
        """How much more may be sent before it is held back; well-behaved senders look at it."""
        while True:
            waiting_ms = (self._waiting_bytes + self._pushed_bytes) * 500 // self._rate_hz
            room = {"v": 1, "type": "speech.room", "room_ms": max(0, self._speaker.room_ms - waiting_ms)}
            self.send({"type": "text", "text": json.dumps(room)})
            await asyncio.sleep(_ROOM_EVERY_S)

    def _reported(self, utterance: str, played_ms: Any) -> None:
        report = {"v": 1, "type": "playback.reported", "utterance": utterance, "played_ms": played_ms}
        self.send({"type": "text", "text": json.dumps(report)})


def _message_of(body: dict[str, Any]) -> dict[str, Any]:
    try:
        message = read_json(str(body.get("text", "")))
    except ValueError:
        raise RefusedError("a text message must be JSON; sound is sent as binary messages") from None
    if not isinstance(message, dict):
        raise RefusedError(f"a message must be an object, got {type(message).__name__}")
    return message
