"""When packets came, taken before aiortc's own buffers: the private parts of aiortc 1.16 that measuring touches.

An aiortc client shows a picture one frame (40 ms at 25 fps) after its last packet came, because it learns only from
the next frame's first packet that a frame is complete, and plays sound 80 ms late (280 ms for ever after one lost
packet). A measurement must not contain either, so moments are noted here, where packets come out of SRTP.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiortc import RTCRtpReceiver
from aiortc.clock import datetime_from_ntp
from aiortc.rtp import RtcpSrPacket

__all__ = ["SenderReport", "SoundPacket", "SoundTap", "VideoTap", "tap_reports"]

_JITTER_BUFFER = "_RTCRtpReceiver__jitter_buffer"
_HANDLE_REPORT = "_handle_rtcp_packet"
_NACKS = "_RTCRtpReceiver__nack_generator"
_ASK_AGAIN_S = 0.05
_SEQUENCES_KEPT = 4096


@dataclass(frozen=True, slots=True)
class SoundPacket:
    """One packet of sound: its RTP timestamp (48 kHz), when it came, and what it holds (Opus)."""

    timestamp: int
    arrived_ns: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class SenderReport:
    """The sender says: RTP `timestamp` belongs to its wall-clock time `wall_s`."""

    wall_s: float
    timestamp: int


def tap_reports(receiver: RTCRtpReceiver) -> list[SenderReport]:
    """A list that grows with each sender report of the receiver's stream."""
    reports: list[SenderReport] = []
    handle: Callable[[Any], Awaitable[None]] = _private(receiver, _HANDLE_REPORT)

    async def note(packet: Any) -> None:
        if isinstance(packet, RtcpSrPacket):
            wall_s = datetime_from_ntp(packet.sender_info.ntp_timestamp).timestamp()
            reports.append(SenderReport(wall_s, packet.sender_info.rtp_timestamp))
        await handle(packet)

    setattr(receiver, _HANDLE_REPORT, note)
    return reports


class SoundTap:
    """Collects a receiver's sound packets; aiortc decodes none of them."""

    def __init__(self, receiver: RTCRtpReceiver) -> None:
        self.packets: list[SoundPacket] = []
        _private(receiver, _JITTER_BUFFER)
        setattr(receiver, _JITTER_BUFFER, self)

    def add(self, packet: Any) -> tuple[bool, None]:
        """aiortc calls this with each RTP packet."""
        self.packets.append(SoundPacket(packet.timestamp, time.monotonic_ns(), bytes(packet._data)))
        return False, None


@dataclass
class VideoTap:
    """Notes when each frame's packets came, and lets aiortc assemble and decode them."""

    receiver: RTCRtpReceiver
    arrived_ns: dict[int, int] = field(default_factory=dict)
    bytes_received: int = 0
    packets: int = 0
    origin: int | None = None
    _seen: dict[int, None] = field(default_factory=dict)
    _ssrc: int | None = None

    def __post_init__(self) -> None:
        self._buffer = _private(self.receiver, _JITTER_BUFFER)
        setattr(self.receiver, _JITTER_BUFFER, self)

    def add(self, packet: Any) -> tuple[bool, Any]:
        """aiortc calls this with each RTP packet, retransmitted ones already unwrapped."""
        self._ssrc = packet.ssrc
        self.bytes_received += len(packet.payload)
        if packet.sequence_number not in self._seen:
            self.packets += 1
            self._seen[packet.sequence_number] = None
            if len(self._seen) > _SEQUENCES_KEPT:
                del self._seen[next(iter(self._seen))]
            self.arrived_ns[packet.timestamp] = time.monotonic_ns()
        lost_picture, frame = self._buffer.add(packet)
        if frame is not None and self.origin is None:
            self.origin = frame.timestamp
        return lost_picture, frame

    def timestamp(self, pts: int) -> int:
        """RTP timestamp of a decoded frame; aiortc counts from the first one it assembled."""
        assert self.origin is not None
        return (self.origin + pts) & 0xFFFFFFFF

    async def keep_asking(self) -> None:
        """Ask again for missing packets as browsers do; aiortc asks again only when the next one is lost."""
        nacks = _private(self.receiver, _NACKS)
        while True:
            await asyncio.sleep(_ASK_AGAIN_S)
            if nacks.missing and self._ssrc is not None:
                await self.receiver._send_rtcp_nack(self._ssrc, sorted(nacks.missing))


def _private(receiver: RTCRtpReceiver, name: str) -> Any:
    if not hasattr(receiver, name):
        raise AttributeError(f"aiortc's receiver has no {name} where version 1.16 has one")
    return getattr(receiver, name)
