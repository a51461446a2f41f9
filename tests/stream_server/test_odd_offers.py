"""Offers with a line missing or garbled: answered or refused in words, never an unknown error, nothing left open."""

from __future__ import annotations

import asyncio
import gc
import os
from collections import Counter
from collections.abc import Iterator

import aioice.ice
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection

from stream_server.errors import OfferError
from stream_server.events import ReadyEvent
from stream_server.worker.offers import MOST_CANDIDATES, checked_offer
from stream_server.worker.sinks.peer import PeerHooks, PeerSink
from tests.stream_server.real_peer import offer_loopback

READY = ReadyEvent(session="s", avatar="a", size=128, fps=25, algorithmic_ms=140.0)


@pytest.fixture(autouse=True)
def _loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", aioice.ice.get_host_addresses)
    offer_loopback()


async def good_offer(*kinds: str) -> list[str]:
    """Lines of an offer with these sections and a data channel."""
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    connection.createDataChannel("events")
    for kind in kinds:
        connection.addTransceiver(kind)
    await connection.setLocalDescription(await connection.createOffer())
    lines = connection.localDescription.sdp.splitlines()
    await connection.close()
    return list(lines)


async def outcome(lines: list[str]) -> str:
    """`answered`, or what the refusal begins with; everything else is an error of the test."""
    hooks = PeerHooks(lambda: None, lambda state: None, lambda: (READY,), lambda text: None)
    peer = PeerSink("x", hooks)
    try:
        async with asyncio.timeout(10):
            await peer.answer("\r\n".join(lines) + "\r\n")
        return "answered"
    except OfferError as error:
        return str(error).split(":")[0]
    finally:
        async with asyncio.timeout(10):
            await peer.close()
        async with asyncio.timeout(10):
            await peer.close()


def mutations(lines: list[str], every: int) -> Iterator[list[str]]:
    """Without a line, and with a word of it changed in three ways; of every so-maniest line."""
    for number, line in enumerate(lines):
        if number % every:
            continue
        before, after = lines[:number], lines[number + 1 :]
        yield before + after
        words = line.split(" ")
        for place, new in ((0, "ü"), (len(words) - 1, ""), (len(words) // 2, "99999999999999")):
            yield [*before, " ".join([*words[:place], new, *words[place + 1 :]]), *after]


@pytest.mark.slow
@pytest.mark.parametrize(("every", "least"), [(4, 12), pytest.param(1, 50, marks=pytest.mark.nightly)])
def test_no_garbled_line_is_an_unknown_error_or_leaves_a_socket(every: int, least: int) -> None:
    async def run() -> Counter[str]:
        lines = await good_offer("audio", "video")
        assert await outcome(lines) == "answered"
        return Counter([await outcome(changed) for changed in mutations(lines, every)])

    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    outcomes = asyncio.run(run())
    gc.collect()
    assert outcomes["answered"] > least
    assert outcomes["cannot answer this offer"] > least
    assert len(os.listdir("/proc/self/fd")) <= before + 2


@pytest.mark.parametrize("kinds", [(), ("audio",), ("video",), ("audio", "audio"), ("audio", "video", "video")])
def test_other_sections_than_one_of_each_are_refused(kinds: tuple[str, ...]) -> None:
    async def run() -> str:
        return await outcome(await good_offer(*kinds))

    assert asyncio.run(run()).startswith("the offer needs one audio and one video section, got ")


def test_an_offer_with_unknown_codecs_only_is_refused() -> None:
    async def run() -> str:
        lines = await good_offer("audio", "video")
        text = (
            "\r\n".join(lines).replace("opus/48000/2", "speex/16000").replace("VP8/", "AV9/").replace("H264/", "H299/")
        )
        for known in ("PCMU/8000", "PCMA/8000", "G722/8000"):
            text = text.replace(known, "nellymoser/8000")
        return await outcome(text.split("\r\n"))

    assert asyncio.run(run()) == "cannot answer this offer"


def test_impossible_candidates_are_not_tried() -> None:
    def line(address: str, port: str) -> str:
        return f"a=candidate:1 1 udp 2130706431 {address} {port} typ host\r\n"

    good = line("192.0.2.7", "5000")
    odd = [line(*pair) for pair in (("192.0.2.7", "0"), ("192.0.2.7", "65536"), ("192.0.2.7", "ü"), ("::", "5000"))]
    odd += [line("evil.example", "5000"), line("224.0.0.1", "5000"), "a=candidate:1 1 udp\r\n"]
    assert checked_offer("v=0\r\n" + good + "".join(odd)) == "v=0\r\n" + good
    with pytest.raises(OfferError, match="has 21 candidates"):
        checked_offer(good * (MOST_CANDIDATES + 1))
