"""An assistant's stream that is read without a server: what it is sent, and what it answers."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

from stream_server.config import ServerConfig
from stream_server.engine import protocol
from stream_server.errors import EngineLostError
from stream_server.media.media_clock import MediaClock
from stream_server.media.speech_stream import SpeechStream
from stream_server.worker.messages import carry_out
from stream_server.worker.speak_door import _Stream
from stream_server.worker.speaker import Speaker


class StuckWriter:
    """Takes one message and never drains."""

    def __init__(self) -> None:
        self.written = 0

    def write(self, data: bytes) -> None:
        self.written += len(data)

    async def drain(self) -> None:
        await asyncio.Future()


class Spoken:
    """A session whose sound nobody takes away, and a stream to it that has been sent `messages`."""

    def __init__(self, *messages: bytes) -> None:
        speech = SpeechStream(MediaClock(48_000))
        session: Any = SimpleNamespace(speech=speech, id="s", emit=None)
        session.interrupt = lambda: len(speech.interrupt(0, 0))
        self.speaker = Speaker(session, ServerConfig())
        self.reader = asyncio.StreamReader()
        for message in messages:
            self.reader.feed_data(message)
        self.reader.feed_eof()
        place: Any = SimpleNamespace(session=session, speaker=self.speaker, closed=asyncio.Event())
        place.do = lambda message: carry_out(place, message)
        self.stream = _Stream(cast(Any, place), self.speaker, 48_000, self.reader, cast(Any, StuckWriter()))

    async def read(self) -> list[str]:
        """Take all that was sent, beside what pushes it on; the messages that went out."""
        beside = [asyncio.create_task(loop) for loop in (self.stream._carry_out(), self.stream._push())]
        try:
            async with asyncio.timeout(10):
                with suppress(EngineLostError):  # the end of what was sent
                    await self.stream._read()
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
        queued = [self.stream._out.get_nowait() for _ in range(self.stream._out.qsize())]
        return [data.decode("utf-8", "replace") for data in queued if data is not None]


def sound(count: int) -> bytes:
    return protocol.pack({"type": "binary"}, bytes(2 * count))


INTERRUPT = protocol.pack({"type": "text", "text": '{"type": "interrupt"}'})


def text(**message: str) -> bytes:
    return protocol.pack({"type": "text", "text": json.dumps(message)})


POSE = protocol.pack({"type": "text", "text": '{"type": "control", "controls": {"yaw_deg": 5}}'})
