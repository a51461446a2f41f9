"""What comes to a session in one moment: its loops end when they are told to, and no change of controls is lost."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

from stream_server.config import ServerConfig
from stream_server.worker.session import AvatarSession
from stream_server.worker.session_registry import SessionRegistry


@pytest.mark.parametrize("frame_first", [True, False])
def test_an_end_that_comes_with_a_frame_is_not_lost(frame_first: bool) -> None:
    """It was, one time in some hundred calls: the loop went on, and the caller's DELETE was never answered."""

    async def run() -> None:
        session = SimpleNamespace(
            frames=SimpleNamespace(has=lambda _index: False), _frame_arrived=asyncio.Event(), now_ns=time.monotonic_ns
        )

        async def show() -> None:
            while True:
                await AvatarSession.wait_for_frame(session, 0, 5.0)  # type: ignore[arg-type]

        task = asyncio.create_task(show())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        acts = [session._frame_arrived.set, task.cancel]
        for act in acts if frame_first else reversed(acts):
            act()
        done, _ = await asyncio.wait([task], timeout=2.0)
        assert done == {task}
        assert task.cancelled()

    asyncio.run(run())


class Registry(SessionRegistry):
    """With places that are nothing but names."""

    def __init__(self) -> None:
        super().__init__(ServerConfig(), engine=None, encoders=None)  # type: ignore[arg-type]
        self.totals: Any = SimpleNamespace(closed=SimpleNamespace(add=lambda _counters: None))

    def put(self, name: str, room: str | None = None) -> None:
        async def close() -> None:
            pass

        place: Any = SimpleNamespace(
            session=SimpleNamespace(id=name, tally=lambda: SimpleNamespace(line=str)),
            log=SimpleNamespace(info=lambda *_: None),
            owner="me",
            viewers={},
            main=None,
            room=None,
            close=close,
            published_as=None,
        )
        self._places[name] = place
        if room is not None:
            self.rooms.join(room, place)


def test_a_cluster_hears_at_once_that_a_session_is_over() -> None:
    """A call of Serve's that outlived its session made the next callers' replica look fuller than it was."""

    async def run() -> None:
        registry = Registry()
        for name, room in (("a", None), ("b", None), ("first", "room"), ("second", "room")):
            registry.put(name, room)
        assert await registry.is_over("never", None, 0.0)
        assert not await registry.is_over("a", None, 0.0)
        loop = asyncio.get_running_loop()
        alone = loop.create_task(registry.is_over("a", None, 60.0))
        roomful = loop.create_task(registry.is_over("first", "room", 60.0))
        begun_s = loop.time()
        for name in ("b", "a", "first"):
            await registry.close(name, "me")
        assert await alone
        assert not roomful.done()  # the second one is there yet, and no call of its own holds it
        await registry.close("second", "me")
        assert await roomful
        assert loop.time() - begun_s < 1.0

    asyncio.run(run())
