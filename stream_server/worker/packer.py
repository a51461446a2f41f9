"""RTP payloads of frames that a feed has encoded once for all who watch, in the place of aiortc's encoders."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from aiortc import RTCRtpSender
from aiortc.codecs.base import Encoder
from av.frame import Frame
from av.packet import Packet

from stream_server.media.video_encoder import CLOCK_HZ, VideoCodec
from stream_server.worker import aiortc_bridge

__all__ = ["FramePacker"]

_PICTURE_IDS = 1 << 15


class FramePacker(Encoder):
    """Stands where a sender's encoder stood. `codec` is what was negotiated: set it before the first frame.

    `on_key_wanted` is called when the receiver asked for a key frame; `target_bitrate` is set by aiortc to what the
    receiver estimates its line to hold, and goes to `on_estimate`.
    """

    def __init__(self, on_key_wanted: Callable[[], None], on_estimate: Callable[[int], None]) -> None:
        self.sender: RTCRtpSender | None = None
        self.codec: VideoCodec = "VP8"
        self._on_key_wanted = on_key_wanted
        self._on_estimate = on_estimate
        self._picture_id = random.randrange(_PICTURE_IDS)

    @property
    def target_bitrate(self) -> int:
        """Bits per second; write-only in spirit."""
        return 0

    @target_bitrate.setter
    def target_bitrate(self, bps: int) -> None:
        self._on_estimate(bps)

    def encode(self, frame: Frame, force_keyframe: bool = False) -> tuple[list[bytes], int]:
        """Never called: tracks hand out packets."""
        raise NotImplementedError(f"got a bare {type(frame).__name__} (key frame: {force_keyframe})")

    def pack(self, packet: Packet[Any]) -> tuple[list[bytes], int]:
        """RTP payloads of one frame, and its RTP timestamp."""
        if self.sender is not None and aiortc_bridge.take_key_frame_request(self.sender):
            self._on_key_wanted()
        if packet.pts is None or packet.time_base is None:
            raise ValueError("a frame needs pts and time_base")
        return self._payloads(bytes(packet)), int(packet.pts * packet.time_base * CLOCK_HZ)

    def _payloads(self, data: bytes) -> list[bytes]:
        if self.codec == "H264":
            return aiortc_bridge.packetize_h264(data)
        self._picture_id = (self._picture_id + 1) % _PICTURE_IDS
        return aiortc_bridge.packetize_vp8(data, self._picture_id)
