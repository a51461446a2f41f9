"""VP8 at a constant rate for rendered pictures, encoded once for all who watch, in the place of aiortc's encoder.

aiortc's own runs libvpx's denoiser at full strength, which smears small changes between frames (8 px blocks of
the time code flip in up to a tenth of all frames, and lips are small as well); rendered pictures have no noise.
It is also rebuilt, with a key frame, whenever the receiver's estimate moves by a tenth; this one keeps its rate.
"""

from __future__ import annotations

import fractions
import random
from collections.abc import Callable
from typing import Any

import av
import numpy as np
from aiortc import RTCRtpSender
from aiortc.codecs.base import Encoder
from av import VideoFrame
from av.frame import Frame
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from numpy.typing import NDArray

from stream_server.worker import aiortc_bridge

__all__ = ["VIDEO_TIME_BASE", "Vp8Codec", "Vp8Packer"]

CLOCK_HZ = 90_000
VIDEO_TIME_BASE = fractions.Fraction(1, CLOCK_HZ)
_PICTURE_IDS = 1 << 15


class Vp8Codec:
    """I420 pictures to VP8 frames. Slow: call it in a thread, one call at a time."""

    def __init__(self, bitrate_bps: int) -> None:
        self.bitrate_bps = bitrate_bps
        self._codec: VideoCodecContext | None = None

    def encode(self, image: NDArray[np.uint8], pts: int, *, key_frame: bool) -> bytes:
        """One frame (size * 3 // 2, size) at `pts` (90 kHz); empty if the encoder dropped it."""
        frame = VideoFrame.from_ndarray(image, format="yuv420p")
        frame.pts, frame.time_base = pts, VIDEO_TIME_BASE
        codec = self._codec
        if codec is None or (codec.width, codec.height) != (frame.width, frame.height):
            codec = self._codec = self._open(frame.width, frame.height)
        if key_frame:
            frame.pict_type = PictureType.I
        return b"".join(bytes(packet) for packet in codec.encode(frame))

    def _open(self, width: int, height: int) -> VideoCodecContext:
        codec = av.CodecContext.create("libvpx", "w")
        codec.width = width
        codec.height = height
        codec.pix_fmt = "yuv420p"
        codec.bit_rate = self.bitrate_bps
        codec.time_base = VIDEO_TIME_BASE
        codec.framerate = fractions.Fraction(25)
        codec.gop_size = 3000  # key frames come on request only
        codec.qmin = 2
        codec.qmax = 56
        codec.thread_count = 1
        rate = str(self.bitrate_bps)
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


class Vp8Packer(Encoder):
    """Stands where a sender's encoder stood: makes RTP payloads of frames that are encoded already.

    `on_key_wanted` is called when the receiver asked for a key frame; `target_bitrate` is set by aiortc to what the
    receiver estimates its line to hold, and goes to `on_estimate`.
    """

    def __init__(self, on_key_wanted: Callable[[], None], on_estimate: Callable[[int], None]) -> None:
        self.sender: RTCRtpSender | None = None
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
        """RTP payloads of one VP8 frame, and its RTP timestamp."""
        if self.sender is not None and aiortc_bridge.take_key_frame_request(self.sender):
            self._on_key_wanted()
        if packet.pts is None or packet.time_base is None:
            raise ValueError("a frame needs pts and time_base")
        payloads = aiortc_bridge.packetize_vp8(bytes(packet), self._picture_id)
        self._picture_id = (self._picture_id + 1) % _PICTURE_IDS
        return payloads, int(packet.pts * packet.time_base * CLOCK_HZ)
