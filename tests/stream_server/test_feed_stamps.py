"""Pictures are stamped with when their turn came, whatever the playout delay did meanwhile."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from stream_server.media.encoder_trial import EncoderChoice
from stream_server.media.video_encoder import kind_named
from stream_server.worker.egress import Picture
from stream_server.worker.feed import Feed, FeedTrack

MS = 1_000_000
GREY = np.full((96, 64), 90, np.uint8)


def stamps(turns_ns: list[int]) -> list[int]:
    """Time stamps (90 kHz) of pictures whose turns were then."""

    async def run() -> list[int]:
        feed = Feed(EncoderChoice((), ("VP8",), {"VP8": (kind_named("libvpx"),)}), fps=25, bitrate_bps=300_000)
        track = FeedTrack("video", lambda: None)
        feed.add(track, None)
        found = []
        for index, turn_ns in enumerate(turns_ns):
            feed.on_picture(Picture(index, GREY, None, turn_ns))
            async with asyncio.timeout(20):
                found.append((await track.recv()).pts)
        await feed.close()
        return [int(pts or 0) for pts in found]

    return asyncio.run(run())


@pytest.mark.parametrize("spacing_ms", [40, 39, 50], ids=["still", "falling", "rising"])
def test_stamps_go_with_the_clock_when_the_playout_delay_moves(spacing_ms: int) -> None:
    found = stamps([10_000 * MS + index * spacing_ms * MS for index in range(6)])
    assert found == [index * spacing_ms * 90 for index in range(6)]


def test_no_two_pictures_have_the_same_stamp() -> None:
    """The last picture goes out again when a viewer joins, and a clock may step back by less than a frame."""
    assert stamps([500 * MS, 500 * MS, 499 * MS, 540 * MS]) == [0, 1, 2, 3600]
