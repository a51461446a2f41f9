"""A session's loops end when they are told to, whatever else happens in that moment."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest

from stream_server.worker.session import AvatarSession


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
