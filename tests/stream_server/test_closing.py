"""What comes while a session closes, or just after, leaves nothing behind and nobody waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from stream_server.config import ServerConfig
from stream_server.engine import protocol
from stream_server.errors import ConflictError, NotFoundError
from stream_server.media.encoder_trial import Trial, rank
from stream_server.media.media_clock import MediaClock
from stream_server.media.speech_stream import SpeechStream
from stream_server.media.video_encoder import kind_named
from stream_server.voices import SpokenSound
from stream_server.worker import speak_door, speaker
from stream_server.worker.session_options import SessionOptions
from stream_server.worker.session_registry import SessionRegistry
from stream_server.worker.sinks.peer import PeerSink
from stream_server.worker.speak_door import SpeakDoor
from stream_server.worker.speaker import Speaker

AVATAR = {"id": "default", "size": 128, "fps": 25, "hop_samples": 1280, "hop_frames": 2, "lookahead_frames": 2}


def registry() -> SessionRegistry:
    """With an engine that takes everything and answers nothing."""
    nothing = lambda *_, **__: None  # noqa: E731
    engine = SimpleNamespace(
        avatar=AVATAR | {"step_ms": 10.0}, attach=nothing, open=nothing, close_stream=nothing, submit=nothing
    )
    return SessionRegistry(ServerConfig(), cast(Any, engine), rank([Trial(kind_named("libvpx"))]))


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def drained() -> None:
    """Of a socket that takes everything at once."""


def left_over() -> set[str]:
    """Tasks beside this one."""
    return {task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()}}


class Talker:
    """A voice that never comes to an end."""

    def __init__(self) -> None:
        self.said: list[str] = []

    async def speak(self, text: str) -> AsyncIterator[SpokenSound]:
        self.said.append(text)
        while True:
            yield SpokenSound(np.zeros(48_000, np.int16), 48_000)


def test_a_speaker_that_closes_does_not_begin_the_next_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """It did, and nobody ended that one: a voice and its program stayed for as long as the worker."""
    talker = Talker()
    monkeypatch.setattr(speaker, "choose_voice", lambda *_: talker)

    async def run() -> None:
        session = SimpleNamespace(speech=SpeechStream(MediaClock(48_000)), id="s", emit=lambda _: None)
        made = Speaker(cast(Any, session), ServerConfig())
        made.say("one", None, None)
        made.say("two", None, None)
        await settled()
        assert talker.said == ["one"]
        await made.close()
        await settled()
        assert talker.said == ["one"]
        assert left_over() == set()
        with pytest.raises(ConflictError, match="has ended"):
            made.say("three", None, None)

    asyncio.run(run())


def test_an_assistant_is_let_go_when_its_session_is_closed_by_somebody_else() -> None:
    """Its socket stayed open, and what it went on to say was taken and never heard."""

    async def run() -> None:
        sessions = registry()
        place = await sessions.open("me", SessionOptions(avatar="default", source="speech"))
        place.start()
        reader = asyncio.StreamReader()
        writer = SimpleNamespace(write=lambda _data: None, drain=drained)
        request = {"owner": "me", "id": place.session.id, "rate_hz": 48_000, "frames": None, "options": None}
        door = SpeakDoor(sessions, cast(Any, None))
        serving = asyncio.create_task(door.serve(request, reader, cast(Any, writer)))
        await settled()
        reader.feed_data(protocol.pack({"type": "binary"}, bytes(960)))
        await settled()
        assert not serving.done()
        await sessions.close(place.session.id, "me")
        await settled()
        assert serving.done()
        assert left_over() == set()

    asyncio.run(run())


def test_a_session_whose_pictures_cannot_be_encoded_is_closed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any) -> None:
        raise ValueError("this FFmpeg has no libx264")

    monkeypatch.setattr(speak_door, "SocketMedia", missing)

    async def run() -> None:
        sessions = registry()
        options: dict[str, Any] = {"avatar": "default", "controls": {}, "seed": None}
        request = {"owner": "me", "id": None, "rate_hz": 48_000, "frames": "mp4", "options": options}
        writer = SimpleNamespace(write=lambda _data: None, drain=drained)
        with pytest.raises(ValueError, match="libx264"):
            await SpeakDoor(sessions, cast(Any, None)).serve(request, asyncio.StreamReader(), cast(Any, writer))
        assert sessions.count == 0

    asyncio.run(run())


def test_who_resumes_a_session_that_closes_meanwhile_is_told_and_leaves_no_peer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answering, closed = asyncio.Event(), []

    async def answer(_peer: PeerSink, _sdp: str) -> str:
        await answering.wait()
        return "v=0"

    async def close(peer: PeerSink) -> None:
        closed.append(peer)
        await real_close(peer)

    real_close = PeerSink.close
    monkeypatch.setattr(PeerSink, "answer", answer)
    monkeypatch.setattr(PeerSink, "close", close)

    async def run() -> None:
        sessions = registry()
        place = await sessions.open("me", SessionOptions(avatar="default"))
        place.start()
        coming = asyncio.create_task(sessions.resume(place.session.id, "me", place.resume_token, "v=0"))
        await settled()
        await sessions.close(place.session.id, "me")
        answering.set()
        with pytest.raises(NotFoundError, match="ended"):
            await coming
        assert len(closed) == 1
        assert left_over() == set()

    asyncio.run(run())
