"""Contract tests: every private part of aiortc and aioice that the bridge touches is where it was."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path

import aioice.ice
import aiortc.codecs.h264 as h264
import aiortc.codecs.vpx as vpx
import aiortc.rtcrtpreceiver
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender
from aiortc.jitterbuffer import JitterBuffer
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack
from aiortc.rtp import RtcpPacket, RtcpSdesPacket, RtcpSrPacket

from stream_server.worker import aiortc_bridge
from stream_server.worker.packer import FramePacker


def in_a_loop(check: object) -> None:
    """Run `check(connection)` with a peer connection."""

    async def run() -> None:
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        try:
            check(connection)  # type: ignore[operator]
        finally:
            await connection.close()

    asyncio.run(run())


def test_the_jitter_buffer_is_called_as_we_expect() -> None:
    assert list(inspect.signature(JitterBuffer.add).parameters) == ["self", "packet"]
    source = inspect.getsource(aiortc.rtcrtpreceiver.RTCRtpReceiver._handle_rtp_packet)
    assert "pli_flag, encoded_frame = self.__jitter_buffer.add(packet)" in source
    assert "packet._data = depayload(codec, packet.payload)" in source


def test_packets_reach_the_tap() -> None:
    class FakePacket:
        sequence_number = 7
        _data = b"opus"

    def check(connection: RTCPeerConnection) -> None:
        receiver = connection.addTransceiver("audio").receiver
        taken: list[tuple[int, bytes]] = []
        aiortc_bridge.tap_audio_packets(receiver, lambda *packet: taken.append(packet))
        buffer = receiver._RTCRtpReceiver__jitter_buffer
        assert buffer.add(FakePacket()) == (False, None)
        assert taken == [(7, b"opus")]

    in_a_loop(check)


def test_the_stream_id_reaches_the_offer() -> None:
    async def run() -> str:
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        for track in (AudioStreamTrack(), VideoStreamTrack()):
            aiortc_bridge.set_media_stream_id(connection.addTrack(track), "avatar-1")
        offer = await connection.createOffer()
        await connection.close()
        return str(offer.sdp)

    assert asyncio.run(run()).count("a=msid:avatar-1 ") == 2


def test_the_encoder_has_a_place() -> None:
    def check(connection: RTCPeerConnection) -> None:
        sender = connection.addTrack(VideoStreamTrack())
        encoder = FramePacker(lambda: None, lambda bps: None)
        aiortc_bridge.use_encoder(sender, encoder)
        assert sender._RTCRtpSender__encoder is encoder
        with pytest.raises(AttributeError):
            aiortc_bridge.use_encoder(sender, encoder)

    in_a_loop(check)


def test_vp8_is_packetized() -> None:
    payloads = aiortc_bridge.packetize_vp8(bytes(3000), 5)
    assert len(payloads) == 3
    assert b"".join(vpx.VpxPayloadDescriptor.parse(payload)[1] for payload in payloads) == bytes(3000)


def test_h264_is_packetized() -> None:
    frame = b"".join(b"\0\0\0\1" + bytes([kind]) + bytes([7]) * count for kind, count in ((0x67, 20), (0x65, 3000)))
    payloads = aiortc_bridge.packetize_h264(frame)
    assert max(map(len, payloads)) <= h264.PACKET_MAX
    assert b"".join(h264.h264_depayload(payload) for payload in payloads) == frame


def test_the_negotiated_codec_is_known() -> None:
    async def run() -> list[str]:
        caller, answerer = (RTCPeerConnection(RTCConfiguration(iceServers=[])) for _ in range(2))
        caller.addTrack(VideoStreamTrack())
        await caller.setLocalDescription(await caller.createOffer())
        answerer.addTrack(VideoStreamTrack())
        (transceiver,) = answerer.getTransceivers()
        codecs = RTCRtpSender.getCapabilities("video").codecs
        transceiver.setCodecPreferences([codec for codec in codecs if codec.mimeType == "video/H264"])
        await answerer.setRemoteDescription(caller.localDescription)
        name = aiortc_bridge.negotiated_codec(transceiver)
        sent_with = [codec.name for codec in answerer._RTCPeerConnection__localRtp(transceiver).codecs]
        for connection in (caller, answerer):
            await connection.close()
        return [name, sent_with[0]]

    assert asyncio.run(run()) == ["H264", "H264"]


def test_loopback_is_offered_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", aioice.ice.get_host_addresses)
    aiortc_bridge.offer_host_addresses(loopback=True)
    assert aioice.ice.get_host_addresses(use_ipv4=True, use_ipv6=True)[0] == "127.0.0.1"
    assert "get_host_addresses(\n" in inspect.getsource(aioice.ice.Connection.gather_candidates)


def test_a_request_for_a_key_frame_is_taken_once() -> None:
    def check(connection: RTCPeerConnection) -> None:
        sender = connection.addTrack(VideoStreamTrack())
        assert not aiortc_bridge.take_key_frame_request(sender)
        sender._send_keyframe()  # what aiortc does on PLI and FIR
        assert aiortc_bridge.take_key_frame_request(sender)
        assert not aiortc_bridge.take_key_frame_request(sender)

    in_a_loop(check)


def test_a_report_tells_of_the_last_packet_that_left() -> None:
    source = inspect.getsource(RTCRtpSender)
    for name in ("ntp_timestamp", "rtp_timestamp", "packet_count", "octet_count"):
        assert f"{name}=self.__{name}" in source
    assert "self.__lsr = ((self.__ntp_timestamp) >> 16) & 0xFFFFFFFF" in source
    sent: list[bytes] = []

    class Transport:
        async def _send_rtp(self, data: bytes) -> None:
            sent.append(data)

    async def run() -> list[bool]:
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        sender = connection.addTrack(VideoStreamTrack())
        told = [await aiortc_bridge.send_report(sender)]
        sender._RTCRtpSender__transport = Transport()
        sender._RTCRtpSender__ntp_timestamp, sender._RTCRtpSender__rtp_timestamp = 7 << 32, 90_000
        sender._RTCRtpSender__packet_count = sender._RTCRtpSender__octet_count = 3
        told.append(await aiortc_bridge.send_report(sender))
        assert sender._RTCRtpSender__lsr == 7 << 16
        return told

    assert asyncio.run(run()) == [False, True]
    report, source_names = RtcpPacket.parse(sent[0])
    assert isinstance(report, RtcpSrPacket)
    assert isinstance(source_names, RtcpSdesPacket)
    info = report.sender_info
    assert (info.ntp_timestamp, info.rtp_timestamp, info.packet_count) == (7 << 32, 90_000, 3)


def test_private_parts_are_touched_in_the_bridge_only() -> None:
    """Name-mangled attributes of aiortc appear in one file of the server, and one of the measuring client."""
    package = Path(aiortc_bridge.__file__).parents[1]
    users = {path.name for path in package.rglob("*.py") if "_RTCRtp" in path.read_text()}
    assert users == {"aiortc_bridge.py", "taps.py"}


def test_only_checks_of_consent_ask_once() -> None:
    source = inspect.getsource(aioice.ice)
    assert source.count("retransmissions=0") == 1
    assert "retransmissions=0" in inspect.getsource(aioice.ice.Connection.query_consent)


def test_checks_of_consent_are_repeated_and_others_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int | None] = []

    async def request(_self: object, *_arguments: object, retransmissions: int | None = None) -> str:
        asked.append(retransmissions)
        return "answer"

    monkeypatch.setattr(aioice.ice.StunProtocol, "request", request)
    aiortc_bridge.repeat_consent_checks()
    aiortc_bridge.repeat_consent_checks()  # once is enough
    protocol = object.__new__(aioice.ice.StunProtocol)
    for wanted in (0, None, 4):
        answer = aioice.ice.StunProtocol.request(protocol, "message", "address", retransmissions=wanted)  # type: ignore[arg-type]
        assert asyncio.run(answer) == "answer"
    assert asked == [2, None, 4]
