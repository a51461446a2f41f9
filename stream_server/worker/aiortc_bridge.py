"""Every private part of aiortc 1.16 and aioice 0.13 that we touch, each with a contract test.

- The audio receiver's jitter buffer is replaced: aiortc's own adds 79 ms, and 280 ms for ever after one lost
  packet. Ours takes the packets at the same place, after SRTP and depayloading, and decodes by itself.
- Senders of one peer get one media stream id, so that browsers play them in sync.
- The video sender's encoder is replaced by ours (see `media/video_encoder.py` for why); the packetizers are aiortc's.
- Which codec was negotiated is known to the transceiver only.
- Sender reports are sent more often than aiortc's one a second.
- Requests for key frames are taken from the sender: it forwards them to encoders of its own only.
- A peer connection that failed while an odd offer was taken in (a group that names no section) cannot be closed:
  its transports are stopped one by one.
- aioice asks once whether a peer is still there and waits half a second for the answer: six late ones in a row end a
  call over a slow line. Peers are asked three times within 3.5 s.
- aioice never offers 127.0.0.1 as a host candidate; a server bound to loopback needs exactly that.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import aioice.ice
import aiortc.codecs.h264 as h264
import aiortc.codecs.vpx as vpx
import ifaddr
from aiortc import RTCPeerConnection, RTCRtpReceiver, RTCRtpSender, RTCRtpTransceiver
from aiortc.codecs.base import Encoder
from aiortc.rtp import RtcpSdesPacket, RtcpSenderInfo, RtcpSourceInfo, RtcpSrPacket

__all__ = [
    "PacketTap",
    "close_connection",
    "negotiated_codec",
    "offer_host_addresses",
    "packetize_h264",
    "packetize_vp8",
    "repeat_consent_checks",
    "send_report",
    "set_media_stream_id",
    "take_key_frame_request",
    "tap_audio_packets",
    "use_encoder",
]

_CONSENT_REPEATS = 2  # after 0.5 and 1.5 s
_JITTER_BUFFER = "_RTCRtpReceiver__jitter_buffer"
_ENCODER = "_RTCRtpSender__encoder"
_KEY_FRAME = "_RTCRtpSender__force_keyframe"
_CLOSED = "_RTCPeerConnection__isClosed"
_SENDER = "_RTCRtpSender__"
_CNAME = 1  # RFC 3550, 6.5
PacketTap = Callable[[int, bytes], None]


class _TappedBuffer:
    """Stands where aiortc's jitter buffer stood; never hands a frame on, so aiortc decodes nothing."""

    def __init__(self, tap: PacketTap) -> None:
        self._tap = tap

    def add(self, packet: Any) -> tuple[bool, None]:
        """aiortc calls this with each RTP packet; `_data` is its depayloaded content."""
        self._tap(packet.sequence_number, packet._data)
        return False, None


def tap_audio_packets(receiver: RTCRtpReceiver, tap: PacketTap) -> None:
    """From now on `tap(sequence, payload)` gets the receiver's packets, on the loop's thread."""
    if not hasattr(receiver, _JITTER_BUFFER):
        raise AttributeError("aiortc's receiver has no jitter buffer where version 1.16 has one")
    setattr(receiver, _JITTER_BUFFER, _TappedBuffer(tap))


def set_media_stream_id(sender: RTCRtpSender, stream_id: str) -> None:
    """Name the media stream that this sender's track belongs to."""
    if not hasattr(sender, "_stream_id"):
        raise AttributeError("aiortc's sender has no _stream_id")
    sender._stream_id = stream_id


def use_encoder(sender: RTCRtpSender, encoder: Encoder) -> None:
    """Give a sender that has not begun its encoder; it asks aiortc for one only if it has none."""
    if getattr(sender, _ENCODER, sender) is not None:
        raise AttributeError("aiortc's sender has no empty place for an encoder where version 1.16 has one")
    setattr(sender, _ENCODER, encoder)


def take_key_frame_request(sender: RTCRtpSender) -> bool:
    """Whether the receiver asked for a key frame (PLI or FIR) since the last call."""
    wanted = bool(getattr(sender, _KEY_FRAME))
    if wanted:
        setattr(sender, _KEY_FRAME, False)
    return wanted


async def send_report(sender: RTCRtpSender) -> bool:
    """Send a sender report (RFC 3550, 6.4.1) of the last packet that left, as aiortc does; False if none has yet.

    A receiver fits a line through its last twenty: sent often, they follow a stream whose delay has changed.
    """
    values = {name: getattr(sender, _SENDER + name) for name in ("ntp_timestamp", "rtp_timestamp")}
    counts = {name: getattr(sender, _SENDER + name) for name in ("packet_count", "octet_count")}
    if not counts["packet_count"]:
        return False
    info = RtcpSenderInfo(**values, **{name: count & 0xFFFFFFFF for name, count in counts.items()})
    setattr(sender, _SENDER + "lsr", (values["ntp_timestamp"] >> 16) & 0xFFFFFFFF)
    setattr(sender, _SENDER + "lsr_time", time.time())
    cname = getattr(sender, _SENDER + "cname") or ""
    source = RtcpSourceInfo(ssrc=sender._ssrc, items=[(_CNAME, cname.encode())])
    await sender._send_rtcp([RtcpSrPacket(ssrc=sender._ssrc, sender_info=info), RtcpSdesPacket(chunks=[source])])
    return True


def packetize_vp8(data: bytes, picture_id: int) -> list[bytes]:
    """RTP payloads (RFC 7741) of one encoded frame."""
    return list(vpx.Vp8Encoder._packetize(data, picture_id))


def packetize_h264(data: bytes) -> list[bytes]:
    """RTP payloads (RFC 6184, packetization mode 1) of one encoded frame with start codes."""
    return list(h264.H264Encoder._packetize(h264.H264Encoder._split_bitstream(data)))


def negotiated_codec(transceiver: RTCRtpTransceiver) -> str:
    """Name of the codec that a transceiver's sender will use, once an answer is made: `VP8`, `H264`."""
    return str(transceiver._codecs[0].name)


async def close_connection(connection: RTCPeerConnection) -> None:
    """Close a connection, however far it was built; idempotent."""
    try:
        await connection.close()
    except AttributeError:  # a transceiver without a transport
        built: list[Any] = [transceiver.receiver for transceiver in connection.getTransceivers()]
        for transport in {part.transport for part in (*built, connection.sctp) if part is not None} - {None}:
            await transport.stop()
            await transport.transport.stop()
        closed = getattr(connection, _CLOSED)
        if not closed.done():  # or a second call would wait for ever
            closed.set_result(True)


def offer_host_addresses(*, loopback: bool) -> None:
    """Choose the host candidates of every peer of this process.

    With `loopback` 127.0.0.1 comes first, then the interfaces' own IPv4 addresses: a browser on this machine
    reaches one of them whatever it is willing to send from. Without it, aioice's own choice.
    """
    if not loopback:
        return
    if not hasattr(aioice.ice, "get_host_addresses"):
        raise AttributeError("aioice.ice has no get_host_addresses")
    aioice.ice.get_host_addresses = _loopback_first


def repeat_consent_checks() -> None:
    """Let every peer of this process repeat its checks of consent (RFC 7675, 5.1): a late answer is an answer."""
    if getattr(aioice.ice.StunProtocol.request, "repeats_consent", False):
        return
    request = aioice.ice.StunProtocol.request

    async def patient(*arguments: Any, **named: Any) -> Any:
        if named.get("retransmissions") == 0:  # what checks of consent ask for, and nothing else does
            named["retransmissions"] = _CONSENT_REPEATS
        return await request(*arguments, **named)

    patient.repeats_consent = True  # type: ignore[attr-defined]
    aioice.ice.StunProtocol.request = patient  # type: ignore[method-assign]


def _loopback_first(use_ipv4: bool, use_ipv6: bool) -> list[str]:  # noqa: ARG001 - aioice's signature
    addresses = ["127.0.0.1"]
    for adapter in ifaddr.get_adapters():
        addresses += [ip.ip for ip in adapter.ips if isinstance(ip.ip, str) and not ip.ip.startswith("127.")]
    return addresses
