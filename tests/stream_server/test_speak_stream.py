"""An assistant's stream holds a bounded number of messages, whatever its reader does."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stream_server.errors import ProtocolError, RefusedError
from stream_server.events import Event, NoticeEvent, decode
from stream_server.worker.place import Place
from stream_server.worker.speak_door import _Stream


class StuckWriter:
    """Takes one message and never drains."""

    def __init__(self) -> None:
        self.written = 0

    def write(self, data: bytes) -> None:
        self.written += len(data)

    async def drain(self) -> None:
        await asyncio.Future()


DEEP = "[" * 100_000


def test_messages_nested_too_deeply_are_refused() -> None:
    async def speak() -> None:
        speaker = SimpleNamespace(on_reported=None)
        stream = _Stream(cast(Any, None), cast(Any, speaker), 24_000, asyncio.StreamReader(), cast(Any, StuckWriter()))
        await stream._take_text(DEEP)

    with pytest.raises(RefusedError, match="must be JSON"):
        asyncio.run(speak())
    told: list[Event] = []
    Place._on_message(cast(Any, SimpleNamespace(emit=told.append)), DEEP)
    assert told == [NoticeEvent(code="bad-message", message="a message must be a JSON object with a type")]
    with pytest.raises(ProtocolError, match="nested too deeply"):
        decode(DEEP)


def test_pictures_are_dropped_first_and_then_messages() -> None:
    async def run() -> None:
        writer = StuckWriter()
        speaker = SimpleNamespace(on_reported=None, room_ms=1000)
        stream = _Stream(cast(Any, None), cast(Any, speaker), 24_000, asyncio.StreamReader(), cast(Any, writer))
        writing = asyncio.create_task(stream._write())
        sent = [stream.send_binary(bytes(1000)) for _ in range(400)]
        await asyncio.sleep(0)
        sent += [stream.send_binary(bytes(1000)) for _ in range(400)]
        assert 256 <= sum(sent) <= 260
        for _ in range(2000):
            stream.send({"type": "text", "text": "{}"})
        assert stream._out.qsize() == 512
        assert writer.written < 2000
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)

    asyncio.run(run())
