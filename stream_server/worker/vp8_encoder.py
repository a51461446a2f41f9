"""VP8 at a constant rate for rendered pictures, in the place of aiortc's encoder.

aiortc's own runs libvpx's denoiser at full strength, which smears small changes between frames (8 px blocks of
the time code flip in up to a tenth of all frames, and lips are small as well); rendered pictures have no noise.
It is also rebuilt, with a key frame, whenever the receiver's estimate moves by a tenth; this one keeps its rate.
"""

from __future__ import annotations

import fractions
import random
from typing import Any

import av
from aiortc.codecs.base import Encoder
from av import VideoFrame
from av.frame import Frame
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType

from stream_server.worker import aiortc_bridge

__all__ = ["Vp8Encoder"]

_CLOCK_HZ = 90_000
_PICTURE_IDS = 1 << 15


class Vp8Encoder(Encoder):
    """One stream's encoder. Called on the executor's threads, one call at a time."""

    def __init__(self, bitrate_bps: int) -> None:
        self._bitrate_bps = bitrate_bps
        self._codec: VideoCodecContext | None = None
        self._picture_id = random.randrange(_PICTURE_IDS)

    def encode(self, frame: Frame, force_keyframe: bool = False) -> tuple[list[bytes], int]:
        """RTP payloads of an I420 frame, and its RTP timestamp."""
        assert isinstance(frame, VideoFrame)
        codec = self._codec
        if codec is None or (codec.width, codec.height) != (frame.width, frame.height):
            codec = self._codec = self._open(frame.width, frame.height)
        if force_keyframe:
            frame.pict_type = PictureType.I
        data = b"".join(bytes(packet) for packet in codec.encode(frame))
        return self._payloads(data), _timestamp(frame.pts, frame.time_base)

    def pack(self, packet: Packet[Any]) -> tuple[list[bytes], int]:
        """RTP payloads of a packet that is already encoded."""
        return self._payloads(bytes(packet)), _timestamp(packet.pts, packet.time_base)

    def _payloads(self, data: bytes) -> list[bytes]:
        payloads = aiortc_bridge.packetize_vp8(data, self._picture_id)
        self._picture_id = (self._picture_id + 1) % _PICTURE_IDS
        return payloads

    def _open(self, width: int, height: int) -> VideoCodecContext:
        codec = av.CodecContext.create("libvpx", "w")
        codec.width = width
        codec.height = height
        codec.pix_fmt = "yuv420p"
        codec.bit_rate = self._bitrate_bps
        codec.time_base = fractions.Fraction(1, _CLOCK_HZ)
        codec.framerate = fractions.Fraction(25)
        codec.gop_size = 3000  # key frames come on request only
        codec.qmin = 2
        codec.qmax = 56
        codec.thread_count = 1
        rate = str(self._bitrate_bps)
        codec.options = {
            "deadline": "realtime",
            "cpu-used": "-6",
            "lag-in-frames": "0",
            "minrate": rate,
            "maxrate": rate,
            "bufsize": rate,  # one second
            "undershoot-pct": "100",
            "overshoot-pct": "15",
        }
        return codec


def _timestamp(pts: int | None, time_base: fractions.Fraction | None) -> int:
    if pts is None or time_base is None:
        raise ValueError("a frame needs pts and time_base")
    return int(pts * time_base * _CLOCK_HZ)
