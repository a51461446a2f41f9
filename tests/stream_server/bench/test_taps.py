"""The private parts of aiortc that measuring hangs on are where they were."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiortc import RTCPeerConnection, RTCRtpReceiver
from aiortc.rtp import RtcpSenderInfo, RtcpSrPacket, RtpPacket

from stream_server.bench.taps import SoundTap, VideoTap, tap_reports


def with_receiver(kind: str, use: Callable[[RTCRtpReceiver], Awaitable[None]]) -> None:
    async def run() -> None:
        connection = RTCPeerConnection()
        try:
            await use(connection.addTransceiver(kind, "recvonly").receiver)
        finally:
            await connection.close()

    asyncio.run(run())


def packet(sequence: int, timestamp: int, data: bytes = b"x" * 10) -> Any:
    made = RtpPacket(payload_type=97, sequence_number=sequence, timestamp=timestamp, payload=data)
    made._data = data  # type: ignore[attr-defined]
    return made


def test_frames_keep_the_moment_of_their_last_packet_and_their_timestamp() -> None:
    async def use(receiver: RTCRtpReceiver) -> None:
        tap = VideoTap(receiver)
        assert tap.add(packet(1, 2**32 - 3600))[1] is None
        first = tap.arrived_ns[2**32 - 3600]
        tap.add(packet(2, 2**32 - 3600))
        assert tap.arrived_ns[2**32 - 3600] > first
        noted = tap.arrived_ns[2**32 - 3600]
        tap.add(packet(2, 2**32 - 3600))  # a duplicate brings nothing new
        assert tap.arrived_ns[2**32 - 3600] == noted
        assert tap.packets == 2
        _, frame = tap.add(packet(3, 0))  # aiortc learns only now that the frame before is whole
        assert frame.timestamp == 2**32 - 3600
        assert tap.timestamp(0) == 2**32 - 3600
        assert tap.timestamp(3600) == 0
        assert tap.bytes_received == 40

    with_receiver("video", use)


def test_sound_is_noted_and_not_decoded() -> None:
    async def use(receiver: RTCRtpReceiver) -> None:
        tap = SoundTap(receiver)
        assert [tap.add(packet(n, 960 * n, bytes([n])))[1] for n in range(6)] == [None] * 6
        assert [one.timestamp for one in tap.packets] == [0, 960, 1920, 2880, 3840, 4800]
        assert tap.packets[3].payload == b"\x03"
        await receiver._handle_rtp_packet(packet(9, 0), arrival_time_ms=0)  # what the transport calls still exists

    with_receiver("audio", use)


def test_sender_reports_are_noted_and_passed_on() -> None:
    async def use(receiver: RTCRtpReceiver) -> None:
        reports = tap_reports(receiver)
        wall_s = 1_790_000_000.5
        ntp = int((wall_s + 2_208_988_800) * 2**32)
        info = RtcpSenderInfo(ntp_timestamp=ntp, rtp_timestamp=1234, packet_count=7, octet_count=70)
        await receiver._handle_rtcp_packet(RtcpSrPacket(ssrc=5, sender_info=info))
        assert reports[0].timestamp == 1234
        assert reports[0].wall_s == pytest.approx(wall_s, abs=1e-3)
        assert (await receiver.getStats())[f"remote-outbound-rtp_{id(receiver)}"].packetsSent == 7

    with_receiver("video", use)
