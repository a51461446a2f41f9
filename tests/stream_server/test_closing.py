"""What comes while a session closes, or just after, leaves nothing behind and nobody waiting."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from stream_server.config import ServerConfig
from stream_server.engine import protocol
from stream_server.errors import ConflictError, EngineLostError, NotFoundError, ServerBusyError
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


def test_a_viewer_that_is_closed_twice_in_one_moment_is_closed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection ended while its DELETE came: the log had an exception that nobody was told of."""

    async def answer(_peer: PeerSink, _sdp: str) -> str:
        return "v=0"

    monkeypatch.setattr(PeerSink, "answer", answer)

    async def run() -> None:
        lost: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: lost.append(context))
        sessions = registry()
        place = await sessions.open("me", SessionOptions(avatar="default"))
        viewer_id, _ = await sessions.watch(place, "v=0")
        place.viewers[viewer_id]._hooks.on_end("closed")
        await sessions.forget_viewer(viewer_id, "me")
        await settled()
        gc.collect()
        assert lost == []
        await sessions.close(place.session.id, "me")

    asyncio.run(run())


def test_a_worker_takes_no_more_sessions_than_it_may_while_avatars_are_loaded() -> None:
    async def run() -> list[type | None]:
        sessions = registry()
        go_on = asyncio.Event()

        async def request(_kind: str, **_values: Any) -> None:
            await go_on.wait()

        cast(Any, sessions._engine).request = request
        most = ServerConfig().sessions_per_worker
        coming = [asyncio.create_task(sessions.open("me", SessionOptions(avatar="other"))) for _ in range(most + 1)]
        await settled()
        go_on.set()
        await asyncio.gather(*coming, return_exceptions=True)
        assert sessions.count == most
        errors = [None if (error := task.exception()) is None else type(error) for task in coming]
        for task in coming:
            if task.exception() is None:
                await sessions.close(task.result().session.id, "me")
        return errors

    errors = asyncio.run(run())
    assert errors[-1] is ServerBusyError
    assert set(errors[:-1]) == {None}


def test_an_engine_that_goes_while_an_avatar_is_loaded_is_missed_in_words() -> None:
    async def run() -> None:
        sessions = registry()

        async def request(_kind: str, **_values: Any) -> None:
            sessions._engine.avatar = None

        cast(Any, sessions._engine).request = request
        with pytest.raises(EngineLostError):
            await sessions.open("me", SessionOptions(avatar="other"))

    asyncio.run(run())
