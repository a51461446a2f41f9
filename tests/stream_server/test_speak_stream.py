"""An assistant's stream holds a bounded number of messages, whatever its reader does."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stream_server.engine import protocol
from stream_server.errors import ProtocolError, RefusedError
from stream_server.events import ErrorEvent, Event, NoticeEvent, decode
from stream_server.media.speech_stream import Utterance
from stream_server.worker.place import Place
from stream_server.worker.speak_door import _Stream
from tests.stream_server.spoken import INTERRUPT, POSE, Spoken, StuckWriter, sound, text


class SlowMouth:
    """A speaker that has no room for any sound; notes what it is asked for."""

    room_ms = 0

    def __init__(self) -> None:
        self.begun: list[Utterance] = []
        self.pushed: list[str] = []
        self.interrupts = 0
        self.on_reported: Any = None

    def begin(self, name: str | None) -> Utterance:
        self.begun.append(Utterance(name or "unnamed"))
        return self.begun[-1]

    async def push(self, utterance: Utterance, samples: Any) -> None:
        await asyncio.Future()

    def finish(self, utterance: Utterance) -> None:
        utterance.closed = True

    def interrupt(self) -> None:
        self.interrupts += 1


class ReadyMouth(SlowMouth):
    """One that takes all."""

    async def push(self, utterance: Utterance, samples: Any) -> None:
        self.pushed.append(utterance.id)


def hear(speaker: SlowMouth, *messages: dict[str, Any] | bytes, done: list[dict[str, Any]] | None = None) -> None:
    """A stream's whole life: these messages, then the assistant is gone."""

    async def do(message: dict[str, Any]) -> None:
        if done is not None:
            done.append(message)

    async def run() -> None:
        reader = asyncio.StreamReader()
        place = SimpleNamespace(do=do, closed=asyncio.Event())
        stream = _Stream(cast(Any, place), cast(Any, speaker), 24_000, reader, cast(Any, StuckWriter()))
        running = asyncio.create_task(stream.run())
        for message in messages:
            sound = isinstance(message, bytes)
            body = {"type": "binary"} if sound else {"type": "text", "text": json.dumps(message)}
            reader.feed_data(protocol.pack(body, cast(bytes, message) if sound else b""))
        for _ in range(10 * len(messages)):  # it reads them all
            await asyncio.sleep(0)
        reader.feed_eof()
        await running

    async def in_time() -> None:
        async with asyncio.timeout(5.0):
            await run()

    asyncio.run(in_time())


def test_an_interrupt_overtakes_any_number_of_small_pieces() -> None:
    """It waited for the mouth once 256 pieces did: half a minute late for an assistant that sends 20 ms each."""
    speaker = SlowMouth()
    hear(speaker, *[bytes(960)] * 3000, {"type": "interrupt"})
    assert speaker.interrupts == 1


def test_an_interrupt_overtakes_a_control_that_takes_its_time() -> None:
    """It waited until the avatar was loaded. What was to be said after that is not said; a control is carried out."""
    speaker, done = SlowMouth(), list[dict[str, Any]]()

    async def run() -> None:
        loaded = asyncio.Event()

        async def do(message: dict[str, Any]) -> None:
            await loaded.wait()
            done.append(message)

        reader, place = asyncio.StreamReader(), SimpleNamespace(do=do, closed=asyncio.Event())
        stream = _Stream(cast(Any, place), cast(Any, speaker), 24_000, reader, cast(Any, StuckWriter()))
        running = asyncio.create_task(stream.run())
        say = text(type="say", text="No.", utterance="u")
        reader.feed_data(text(type="control", avatar="slow") + say * 80 + sound(960) + INTERRUPT + POSE)
        async with asyncio.timeout(5.0):
            for _ in range(100):
                await asyncio.sleep(0)
            assert (speaker.interrupts, done) == (1, [])
            told = [data.decode("utf-8", "replace") for data in list(stream._out._queue) if data is not None]  # type: ignore[attr-defined]
            assert sum("too many messages wait" in one for one in told) == 80 - 64
            assert sum("interrupted before its turn" in one for one in told) == 64
            assert sum('\\"utterance\\": \\"u\\"' in one for one in told) == 80
            loaded.set()
            reader.feed_eof()
            await running

    asyncio.run(run())
    assert [message["type"] for message in done] == ["control", "control"]
    assert not speaker.begun


def test_an_assistant_that_goes_away_leaves_no_open_utterance() -> None:
    """The next one could not use its id, and no event of any later utterance came."""
    speaker = SlowMouth()
    begin = {"type": "utterance.begin"}
    hear(speaker, begin | {"utterance": "a"}, bytes(960), begin | {"utterance": "b"}, bytes(960))
    assert [(utterance.id, utterance.closed) for utterance in speaker.begun] == [("a", True), ("b", True)]


def test_a_control_does_not_end_what_is_being_said() -> None:
    speaker = ReadyMouth()
    done: list[dict[str, Any]] = []
    control = {"type": "control", "controls": {"mood": "smile"}}
    say = {"type": "say", "text": "Yes."}
    begin = {"type": "utterance.begin", "utterance": "a"}
    hear(speaker, begin, bytes(960), control, bytes(960), say, bytes(960), done=done)
    assert speaker.pushed == ["a", "a", "a", "unnamed"]  # the third is the end's
    assert done == [control, say]


DEEP = "[" * 100_000


def test_messages_nested_too_deeply_are_refused() -> None:

    async def speak() -> list[str]:
        return await Spoken(protocol.pack({"type": "text", "text": DEEP})).read()

    refused = asyncio.run(speak())
    assert len(refused) == 1
    assert "must be JSON" in refused[0]
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


def test_an_interrupt_overtakes_sound_that_came_in_many_small_pieces() -> None:
    """It waited behind them until the mouth had said enough for the next one."""

    async def run() -> None:
        spoken = Spoken(*[sound(48_000)] * 30, *[sound(960)] * 500, INTERRUPT)
        assert not any("refused" in told for told in await spoken.read())
        assert not spoken.speaker._speech.utterances
        assert spoken.stream._sound.empty()

    asyncio.run(run())


def test_small_pieces_beyond_what_may_wait_are_refused_in_words() -> None:
    async def run() -> None:
        spoken = Spoken(*[sound(48_000)] * 30, *[sound(1)] * 9000)
        refused = [told for told in await spoken.read() if "refused" in told]
        assert len(refused) > 500
        assert "wait already: this sound was dropped; see speech.room" in refused[0]

    asyncio.run(run())


def test_who_reads_late_is_told_why_the_session_ended() -> None:
    async def run() -> None:
        spoken = Spoken()
        for _ in range(2000):
            spoken.stream.send({"type": "text", "text": "{}"})
        spoken.stream.send_event(ErrorEvent(code="model-failed", message="no more"))
        queued = [spoken.stream._out.get_nowait() for _ in range(spoken.stream._out.qsize())]
        assert queued[-1] is None
        assert [b"model-failed" in data for data in queued[-3:-1] if data is not None] == [True, True]
        assert len(queued) == 512

    asyncio.run(run())


def test_a_notice_names_the_utterance_that_will_not_be_said() -> None:
    async def run() -> list[str]:
        spoken = Spoken(text(type="say", text=" ", utterance="u7"), text(type="utterance.begin", utterance="x" * 65))
        return await spoken.read()

    told = [json.loads(message[message.index("{") :])["text"] for message in asyncio.run(run())]
    notices = [event for event in map(decode, told) if isinstance(event, NoticeEvent)]
    assert [(notice.code, notice.utterance) for notice in notices] == [("refused", "u7"), ("refused", "x" * 65)]

    emitted: list[NoticeEvent] = []

    async def refuse(_message: object) -> None:
        raise RefusedError("no")

    place = cast(Any, SimpleNamespace(emit=emitted.append, do=refuse))
    asyncio.run(Place._obey(place, {"type": "control", "controls": {}}))
    assert emitted == [NoticeEvent(code="refused", message="no")]
