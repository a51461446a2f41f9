"""Who may come in, at which bitrate, with which avatars in memory: the rules, on made-up clocks."""

from __future__ import annotations

import asyncio
import fractions
import socket
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.engine.avatar_shelf import AvatarShelf
from stream_server.engine.streams import KEPT_HOPS, Stream
from stream_server.front.admission import Admission, capacity
from stream_server.front.rate_limit import RateLimit
from stream_server.media.encoder_trial import EncoderChoice
from stream_server.media.video_encoder import kind_named
from stream_server.worker.feed import Feed, FeedTrack
from stream_server.worker.ladder import Ladder
from stream_server.worker.port_range import PortRangeLoop
from stream_server.worker.sinks.peer import PeerHooks, PeerSink

AVATAR = {"hop_frames": 2, "fps": 25, "step_ms": 20.0}
TIME_BASE = fractions.Fraction(1, 90_000)


@dataclass
class Held:
    """An avatar, as far as the shelf looks at it."""

    name: str
    size_bytes: int = 100


@pytest.mark.parametrize(("busy_ms", "sessions"), [(0.0, 3), (10.0, 6), (64.0, 1), (500.0, 1), (0.5, 128)])
def test_capacity_follows_the_time_a_hop_takes(busy_ms: float, sessions: int) -> None:
    assert capacity(AVATAR, busy_ms) == sessions


def test_who_comes_back_with_a_ticket_comes_in_first() -> None:
    now = [0.0]
    admission = Admission(1, now_s=lambda: now[0])
    assert admission.decide(0, 1, None) is None
    first = admission.decide(1, 1, None)
    assert first is not None
    now[0] = 5.0
    first = admission.decide(1, 1, first.ticket)
    second = admission.decide(1, 1, None)
    assert first is not None
    assert second is not None
    assert (first.position, second.position) == (1, 2)
    now[0] = 8.0
    assert admission.decide(0, 1, None) is not None  # a place is free, but it is the first one's
    assert admission.decide(0, 1, first.ticket) is None
    now[0] = 9.0
    assert admission.decide(0, 1, second.ticket) is None


def test_who_does_not_come_back_holds_up_nobody() -> None:
    now = [0.0]
    admission = Admission(1, now_s=lambda: now[0])
    assert admission.decide(1, 1, None) is not None
    assert admission.decide(0, 1, None) is None
    waiting = admission.decide(1, 1, None)
    assert waiting is not None
    assert admission.decide(1, 1, waiting.ticket) is not None
    now[0] = 60.0
    assert admission.decide(0, 1, None) is None


@given(st.lists(st.floats(0, 20), min_size=1, max_size=200))
def test_nobody_gets_more_than_the_rate(gaps: list[float]) -> None:
    now = [0.0]
    limit = RateLimit(30, now_s=lambda: now[0])
    let_in = 0
    for gap in gaps:
        now[0] += gap
        wait_s = limit.take("me")
        let_in += wait_s is None
        assert wait_s is None or 1 <= wait_s <= 2
    assert let_in <= 30 / 4 + now[0] * 0.5 + 1
    assert limit.take("someone else") is None


def test_the_shelf_lets_the_least_used_go() -> None:
    loads: list[str] = []

    def load(name: str) -> Held:
        loads.append(name)
        return Held(name)

    shelf = AvatarShelf("first", Held("first"), load, limit_bytes=300)
    for name in ("a", "b", "a", "c"):
        shelf.require(name)
    assert loads == ["a", "b", "c"]
    assert set(shelf.ids()) == {"first", "a", "c"}
    assert shelf.get("b") is None
    shelf.require("b")
    assert set(shelf.ids()) == {"first", "c", "b"}


def test_an_avatar_larger_than_the_limit_is_held_alone() -> None:
    shelf = AvatarShelf("first", Held("first"), lambda name: Held(name, 10_000), limit_bytes=50)
    assert shelf.require("huge").name == "huge"
    assert shelf.ids() == ["first", "huge"]


@dataclass
class Counting:
    """A state that counts the hops it has taken in."""

    heard: int = 0
    shown: str = "a"

    interrupted: bool = False

    def snapshot(self) -> Counting:
        return Counting(self.heard, self.shown)

    def interrupt(self) -> None:
        self.interrupted = True


def stream_after(hops: int, first: int = 0) -> Stream:
    stream = Stream(0, 0, None, rewindable=True, next_hop=first)
    stream.begin(Counting())
    for hop in range(first, first + hops):
        stream.keep(hop)
        stream.state.heard += 1
    return stream


@pytest.mark.parametrize("back", range(KEPT_HOPS + 1))
def test_a_stream_goes_back_to_before_a_hop(back: int) -> None:
    stream = stream_after(30)
    stream.state.shown = "b"
    assert stream.rewind(1, 30 - back)
    assert (stream.state.heard, stream.generation, stream.next_hop) == (30 - back, 1, 30 - back)
    assert stream.state.shown == "b"  # another avatar since then stays
    assert stream.state.interrupted
    stream.keep(30 - back)
    stream.state.heard += 1
    assert stream.rewind(2, 30 - back)
    assert stream.state.heard == 30 - back


def test_a_stream_does_not_go_where_it_was_not() -> None:
    assert not stream_after(30).rewind(1, 30 - KEPT_HOPS - 1)
    assert not stream_after(3).rewind(1, 4)


def test_a_viewer_goes_down_soon_and_up_slowly() -> None:
    ladder, rungs = Ladder(), {0: 700_000, 1: 350_000, 2: 175_000}

    def hear(bps: int, start_s: float, seconds: float) -> list[tuple[float, int]]:
        times = [start_s + i * 0.25 for i in range(int(seconds * 4))]
        moves = [(at, ladder.observe(bps, rungs.__getitem__, at)) for at in times]
        return [(round(at - start_s, 2), rung) for at, rung in moves if rung is not None]

    assert hear(200_000, 1.0, 6) == []  # an estimate begins low whatever the line
    assert hear(300_000, 7.0, 1) == []
    assert hear(800_000, 8.0, 1) == []
    assert hear(300_000, 9.0, 3) == [(2.0, 1)]
    assert hear(1_000_000, 12.0, 9) == []
    assert hear(1_000_000, 21.0, 4) == [(1.0, 0)]


def test_a_track_goes_on_in_time_when_its_feed_changes() -> None:
    async def run() -> list[Any]:
        gaps: list[int] = []
        track = FeedTrack("video", lambda: gaps.append(1), capacity=3)
        for index in range(2):
            track.put("one", b"x", 90_000 + index * 3600, TIME_BASE)
        track.put("two", b"y", 9_000_000, TIME_BASE)
        pts = [(await track.recv()).pts for _ in range(3)]
        for index in range(4):
            track.put("two", b"y", 9_000_000 + index * 3600, TIME_BASE)
        track.stop()
        return [pts, gaps]

    pts, gaps = asyncio.run(run())
    assert pts[0] == 0
    assert pts[1] == 3600
    assert 0 <= pts[2] < 9_000  # by the clock, not by the other feed's position
    assert gaps == [1]


def test_a_slow_viewer_stays_down_when_it_is_shown_another_feed() -> None:
    """In a room of two it was sent the full rate again when the other one came, and never less."""

    async def run() -> list[bool]:
        def nothing(*_: object) -> None:
            pass

        peer = PeerSink("s", PeerHooks(nothing, nothing, list, nothing))
        choice = EncoderChoice((), ("VP8",), {"VP8": (kind_named("libvpx"),)})
        one, two = (Feed(choice, fps=25, bitrate_bps=700_000) for _ in range(2))
        peer._connected = True
        peer.show(one)
        peer._ladder.rung = 2  # as its estimates asked for
        one.move(peer._video, 2)
        peer.show(two)
        found = [peer._video in rung.viewers for rung in two._rungs]
        for feed in (one, two):
            await feed.close()
        await peer.close()
        return found

    assert asyncio.run(run()) == [False, False, True]


class Ear(asyncio.DatagramProtocol):
    """Remembers what it hears."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def datagram_received(self, data: bytes, _address: Any) -> None:
        self.heard.append(data)


def test_ports_come_from_the_range_and_run_out_with_a_word() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        first = taken.getsockname()[1]
        loop = PortRangeLoop(range(first, first + 1))
        try:
            with pytest.raises(OSError, match="widen --udp-ports"):
                loop.run_until_complete(loop.create_datagram_endpoint(Ear, local_addr=("127.0.0.1", 0)))
            taken.close()
            transport, _ = loop.run_until_complete(loop.create_datagram_endpoint(Ear, local_addr=("127.0.0.1", 0)))
            assert transport.get_extra_info("sockname")[1] == first
            transport.close()
            loop.run_until_complete(asyncio.sleep(0))
        finally:
            loop.close()


def test_a_local_loop_hears_this_machine_only() -> None:
    loop = PortRangeLoop(None, local_only=True)
    try:
        transport, ear = loop.run_until_complete(loop.create_datagram_endpoint(Ear, local_addr=("127.0.0.1", 0)))
        ear.datagram_received(b"near", ("127.0.0.1", 5000))
        ear.datagram_received(b"far", ("203.0.113.9", 5000))
        assert ear.heard == [b"near"]
        transport.close()
        loop.run_until_complete(asyncio.sleep(0))
    finally:
        loop.close()
