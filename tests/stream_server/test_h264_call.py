"""A server whose encoder is H.264: for callers who take it; others get VP8 of the same session at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import aioice.ice
import numpy as np
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription

from tests.stream_server.real_peer import RealPeer, offer_loopback
from tests.stream_server.server_calls import client
from tests.stream_server.server_process import ServerProcess


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess("--timecode", "--size", "128", "--max-sessions", "2", "--encoder", "libx264") as process:
        yield process


@pytest.fixture(autouse=True)
def _loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", aioice.ice.get_host_addresses)
    offer_loopback()


def first_codec(sdp: str) -> str:
    """What an answer says the picture is sent as."""
    lines = sdp.partition("m=video")[2].splitlines()
    number = lines[0].split()[2]
    return next(line.split()[1].partition("/")[0] for line in lines if line.startswith(f"a=rtpmap:{number} "))


def watch_only(peer: RealPeer, mime_type: str) -> None:
    """A player that takes one codec."""
    peer.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    peer.connection.addTransceiver("audio", "recvonly")
    picture = peer.connection.addTransceiver("video", "recvonly")
    codecs = RTCRtpSender.getCapabilities("video").codecs
    picture.setCodecPreferences([codec for codec in codecs if codec.mimeType == mime_type])
    peer.collect_tracks()


def test_a_caller_gets_h264_and_a_viewer_of_vp8_sees_the_same(server: ServerProcess) -> None:
    async def run() -> None:
        async with RealPeer(server.url) as caller, RealPeer(server.url) as viewer, client(server) as http:
            await caller.call()
            assert first_codec(caller.connection.remoteDescription.sdp) == "H264"
            await viewer.connection.close()
            watch_only(viewer, "video/VP8")
            await viewer.connection.setLocalDescription(await viewer.connection.createOffer())
            headers = {"Content-Type": "application/sdp"}
            offer = viewer.connection.localDescription.sdp
            answer = await http.post(f"/whep/{caller.session}", content=offer, headers=headers)
            assert (answer.status_code, first_codec(answer.text)) == (201, "VP8")
            await viewer.connection.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
            for peer in (caller, viewer):
                await peer.until(lambda peer=peer: len(peer.codes) >= 60)  # type: ignore[misc]
                codes = [code for code in peer.codes if code is not None]
                assert len(codes) >= 0.98 * len(peer.codes)
                assert np.all(np.diff(codes) >= 0)
                assert np.ptp(peer.mouths[20:]) > 5
            assert set(caller.codes) & set(viewer.codes)
            await caller.hang_up()

    asyncio.run(run())
