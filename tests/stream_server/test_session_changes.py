"""Changes of one session that are asked for at the same time: each holds, whichever takes longest."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stream_server.errors import EngineLostError, RefusedError
from stream_server.events import ErrorEvent, Event
from stream_server.worker.engine_client import StreamPort
from stream_server.worker.session import AvatarSession
from stream_server.worker.session_options import SessionOptions

AVATAR = {"id": "default", "size": 128, "fps": 25, "hop_samples": 1280, "hop_frames": 2, "lookahead_frames": 2}


class Engine:
    """Answers when it is told to, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.avatar = AVATAR | {"step_ms": 10.0}
        self.asked: list[dict[str, Any]] = []
        self.go_on = asyncio.Event()

    async def request(self, kind: str, **values: Any) -> None:
        self.asked.append({"type": kind} | values)
        await self.go_on.wait()
        if (values.get("controls") or {}).get("mood") == "wrong":
            raise RefusedError("there is no mood 'wrong'")


def session_on(engine: Engine) -> AvatarSession:
    nothing: Any = lambda *_: None  # noqa: E731
    options = SessionOptions(avatar="default", controls={"mood": "smile"})
    log = cast(Any, SimpleNamespace())
    return AvatarSession("s", cast(Any, engine), options, log=log, emit=nothing, on_end=nothing)


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_change_does_not_take_back_one_that_is_under_way() -> None:
    """The head sprang back to where it was, when a background took its time."""

    async def run() -> None:
        engine = Engine()
        session = session_on(engine)
        slow = asyncio.create_task(session.change({"background": "beach"}, None))
        await settled()
        quick = asyncio.create_task(session.change({"yaw_deg": 5.0}, None))
        await settled()
        engine.go_on.set()
        await asyncio.gather(slow, quick)
        wanted = {"mood": "smile", "background": "beach", "yaw_deg": 5.0}
        assert engine.asked[-1]["controls"] == wanted
        assert session.controls == wanted

    asyncio.run(run())


def test_a_change_that_was_refused_is_not_carried_by_the_next_one() -> None:
    async def run() -> None:
        engine = Engine()
        session = session_on(engine)
        wrong = asyncio.create_task(session.change({"mood": "wrong"}, None))
        await settled()
        right = asyncio.create_task(session.change({"yaw_deg": 5.0}, None))
        await settled()
        engine.go_on.set()
        with pytest.raises(RefusedError):
            await wrong
        await right
        assert session.controls == {"mood": "smile", "yaw_deg": 5.0}

    asyncio.run(run())


def test_values_that_newer_ones_overtake_are_not_asked_for() -> None:
    """Who turns the head oftener than the engine answers must not see it lag behind, ever more."""

    async def run() -> list[dict[str, Any]]:
        engine = Engine()
        session = session_on(engine)
        changes: list[dict[str, Any]] = [{"yaw_deg": float(turn)} for turn in range(6)]
        changes.insert(3, {"yaw_deg": 2.5, "idle": False})
        tasks = []
        for change in changes:
            tasks.append(asyncio.create_task(session.change(change, None)))
            await settled()
        tasks[4].cancel()
        engine.go_on.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert session.controls == {"mood": "smile", "yaw_deg": 5.0, "idle": False}
        return [asked["controls"] for asked in engine.asked]

    turns = [(asked["yaw_deg"], asked.get("idle")) for asked in asyncio.run(run())]
    assert turns == [(0.0, None), (2.5, False), (5.0, False)]


def test_an_avatar_that_is_being_loaded_holds_up_no_change_of_controls() -> None:
    async def run() -> None:
        engine = Engine()
        session = session_on(engine)
        loading = asyncio.create_task(session.change(None, "other"))
        steering = asyncio.create_task(session.change({"yaw_deg": 5.0}, None))
        await settled()
        assert [asked["type"] for asked in engine.asked] == ["load", "change"]
        engine.go_on.set()
        await asyncio.gather(loading, steering)
        assert session.shown_avatar == "other"

    asyncio.run(run())


def test_a_session_that_begins_while_the_engine_is_away_waits_no_longer_than_others() -> None:
    """It waited for as long as the worker lived."""

    class Away(Engine):
        def attach(self, *_: Any) -> None:
            pass

        def open(self, *_: Any, **__: Any) -> None:
            raise EngineLostError("no engine is connected")

        def close_stream(self, *_: Any) -> None:
            pass

    async def run() -> list[str]:
        now_ns, told = [10**12], list[Event]()
        log = cast(Any, SimpleNamespace(warning=lambda *_: None))
        session = AvatarSession(
            "s",
            cast(Any, Away()),
            SessionOptions(avatar="default"),
            log=log,
            emit=told.append,
            on_end=lambda: None,
            clock_ns=lambda: now_ns[0],
        )
        session.start()
        await settled()
        now_ns[0] += 19_000_000_000
        session._check_engine()
        assert told == []
        now_ns[0] += 2_000_000_000
        session._check_engine()
        await session.close()
        return [event.code for event in told if isinstance(event, ErrorEvent)]

    assert asyncio.run(run()) == ["engine-lost"]


def test_an_answer_that_a_session_cannot_take_ends_this_session_only() -> None:
    """It ended the worker's line to the engine, for some errors for good: no call had a model any more."""
    ports: list[StreamPort] = []

    class Open(Engine):
        def attach(self, _session: str, port: StreamPort) -> None:
            ports.append(port)

        def open(self, *_: Any, **__: Any) -> None:
            pass

        def close_stream(self, *_: Any) -> None:
            pass

    async def run() -> list[str]:
        told = list[Event]()
        log = cast(Any, SimpleNamespace(warning=lambda *_: None, exception=lambda *_: None))
        options = SessionOptions(avatar="default")
        session = AvatarSession("s", cast(Any, Open()), options, log=log, emit=told.append, on_end=lambda: None)
        session.start()
        await settled()
        ports[0].on_result(cast(Any, SimpleNamespace(generation=0, hop=None, last=True)))  # of a hop that never was
        assert told == []
        ports[0].on_result(cast(Any, None))
        await session.close()
        return [event.code for event in told if isinstance(event, ErrorEvent)]

    assert asyncio.run(run()) == ["internal"]
