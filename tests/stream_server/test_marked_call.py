"""A real call with the shipped avatar: its picture carries the label and the invisible mark, and says so."""

from __future__ import annotations

import asyncio

import aioice.ice
import numpy as np
import pytest
from numpy.typing import NDArray

from model.provenance.invisible import PUBLIC_KEY
from model.provenance.mark_search import detect, mean_luma
from stream_server.events import ReadyEvent
from tests.stream_server.real_peer import RealPeer, offer_loopback
from tests.stream_server.server_process import ServerProcess

INSTANCE = 40_961


def lumas_of_a_call(server: ServerProcess, frames: int) -> tuple[list[NDArray[np.uint8]], ReadyEvent]:
    async def run() -> tuple[list[NDArray[np.uint8]], ReadyEvent]:
        async with RealPeer(server.url) as peer:
            peer.keep_lumas = True
            await peer.call()
            await peer.until(lambda: len(peer.lumas) >= frames, timeout_s=40)
            ready = peer.events[0]
            assert isinstance(ready, ReadyEvent)
            return peer.lumas[-frames:], ready

    return asyncio.run(run())


@pytest.mark.parametrize("marked", [True, pytest.param(False, marks=pytest.mark.nightly)])
def test_a_call_carries_the_marks_it_says(marked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", aioice.ice.get_host_addresses)
    offer_loopback()
    options = ("--instance-id", str(INSTANCE)) if marked else ("--no-invisible-mark", "--no-visible-mark")
    with ServerProcess("--steps", "1", *options, pipeline=None) as server:
        lumas, ready = lumas_of_a_call(server, 50)
    assert (ready.visible_mark, ready.invisible_mark) == (marked, marked)
    found = detect(mean_luma(lumas[-25:]), key=PUBLIC_KEY)
    assert (found.payload is not None and found.payload.instance == INSTANCE) == marked
    if not marked:
        assert found.payload is None
