"""I420 pictures to VP8 or H.264 at a constant rate, by an encoder of FFmpeg's, in the place of aiortc's own encoders.

aiortc's VP8 runs libvpx's denoiser at full strength, which smears small changes between frames (8 px blocks of the time
code flip in up to a tenth of all frames, and lips are small as well); rendered pictures have no noise. It is also
rebuilt, with a key frame, whenever the receiver's estimate moves by a tenth; these keep their rate. All are set up for
conversation: a frame comes out for each that goes in, and key frames come on request only.
"""

from __future__ import annotations

import fractions
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import av
import numpy as np
from av.codec.hwaccel import HWAccel
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame
from numpy.typing import NDArray

__all__ = ["CLOCK_HZ", "KINDS", "VIDEO_TIME_BASE", "EncoderKind", "PictureEncoder", "VideoCodec", "kind_named"]

CLOCK_HZ = 90_000
VIDEO_TIME_BASE = fractions.Fraction(1, CLOCK_HZ)
_FPS = 25
_KEY_FRAMES_ON_REQUEST = 3000  # frames

VideoCodec = Literal["VP8", "H264"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderKind:
    """One of FFmpeg's encoders and how it is set up. `pix_fmt` is what it takes, `device` the hardware that FFmpeg must
    open for it (None: it opens its own, or needs none), `options` follow from the bits per second."""

    name: str
    codec: VideoCodec
    options: Callable[[int], Mapping[str, str]]
    hardware: bool = False
    pix_fmt: str = "yuv420p"
    device: str | None = None


def _libvpx(bps: int) -> Mapping[str, str]:
    return {
        "deadline": "realtime",
        "cpu-used": "-6",
        "lag-in-frames": "0",
        "minrate": str(bps),
        "maxrate": str(bps),
        "bufsize": str(bps),  # one second
        "undershoot-pct": "100",
        "overshoot-pct": "15",
    }


def _x264(bps: int) -> Mapping[str, str]:
    return {
        "preset": "veryfast",
        "tune": "zerolatency",
        "profile": "baseline",
        "level": "3.1",
        "forced-idr": "1",
        "maxrate": str(bps),
        "bufsize": str(bps),
        "x264-params": "scenecut=0:sliced-threads=0",
    }


def _openh264(bps: int) -> Mapping[str, str]:
    return {
        "profile": "constrained_baseline",
        "rc_mode": "bitrate",
        "allow_skip_frames": "0",
        "maxrate": str(bps * 3 // 2),
    }


def _nvenc(bps: int) -> Mapping[str, str]:
    return {
        "preset": "p3",
        "tune": "ull",
        "profile": "baseline",
        "rc": "cbr",
        "zerolatency": "1",
        "delay": "0",
        "forced-idr": "1",
        "maxrate": str(bps),
        "bufsize": str(bps),
    }


def _qsv(bps: int) -> Mapping[str, str]:
    return {
        "preset": "veryfast",
        "profile": "baseline",
        "async_depth": "1",
        "forced_idr": "1",
        "maxrate": str(bps),
        "bufsize": str(bps),
    }


def _vaapi(bps: int) -> Mapping[str, str]:
    return {
        "profile": "constrained_baseline",
        "rc_mode": "CBR",
        "async_depth": "1",
        "maxrate": str(bps),
        "bufsize": str(bps),
    }


def _videotoolbox(_bps: int) -> Mapping[str, str]:
    return {"profile": "constrained_baseline", "level": "3.1", "realtime": "1", "allow_sw": "0", "prio_speed": "1"}


KINDS = (
    EncoderKind(name="libvpx", codec="VP8", options=_libvpx),
    EncoderKind(name="h264_nvenc", codec="H264", options=_nvenc, hardware=True),
    EncoderKind(name="h264_qsv", codec="H264", options=_qsv, hardware=True, pix_fmt="nv12"),
    EncoderKind(name="h264_vaapi", codec="H264", options=_vaapi, hardware=True, pix_fmt="nv12", device="vaapi"),
    EncoderKind(name="h264_videotoolbox", codec="H264", options=_videotoolbox, hardware=True),
    EncoderKind(name="libx264", codec="H264", options=_x264),
    EncoderKind(name="libopenh264", codec="H264", options=_openh264),
)
"""What is tried, for the codecs that browsers take in calls."""


def kind_named(name: str) -> EncoderKind:
    """The kind that FFmpeg calls so.

    Raises:
        KeyError: None of ours.
    """
    return {kind.name: kind for kind in KINDS}[name]


class PictureEncoder:
    """One stream of pictures of one size. Slow: call it in a thread, one call at a time."""

    def __init__(self, kind: EncoderKind, bitrate_bps: int) -> None:
        self.kind = kind
        self.bitrate_bps = bitrate_bps
        self._codec: VideoCodecContext | None = None

    def encode(self, image: NDArray[np.uint8], pts: int, *, key_frame: bool) -> bytes:
        """One frame (size * 3 // 2, size) at `pts` (90 kHz); empty if the encoder dropped it.

        Raises:
            av.FFmpegError, ValueError: The encoder cannot be had, or failed.
        """
        frame = VideoFrame.from_ndarray(image, format="yuv420p")
        if self.kind.pix_fmt != "yuv420p":
            frame = frame.reformat(format=self.kind.pix_fmt)
        frame.pts, frame.time_base = pts, VIDEO_TIME_BASE
        codec = self._codec
        if codec is None or (codec.width, codec.height) != (frame.width, frame.height):
            codec = self._codec = self._open(frame.width, frame.height)
        if key_frame:
            frame.pict_type = PictureType.I
        return b"".join(bytes(packet) for packet in codec.encode(frame))

    def close(self) -> None:
        """Give the encoder's memory back; idempotent."""
        self._codec = None

    def _open(self, width: int, height: int) -> VideoCodecContext:
        kind = self.kind
        hardware = None if kind.device is None else HWAccel(kind.device)
        codec: Any = av.CodecContext.create(kind.name, "w", hardware)
        codec.width = width
        codec.height = height
        codec.pix_fmt = kind.pix_fmt
        codec.bit_rate = self.bitrate_bps
        codec.time_base = VIDEO_TIME_BASE
        codec.framerate = fractions.Fraction(_FPS)
        codec.gop_size = _KEY_FRAMES_ON_REQUEST
        codec.max_b_frames = 0
        codec.thread_count = 1
        if kind.name == "libvpx":
            codec.qmin, codec.qmax = 2, 56
        codec.options = dict(kind.options(self.bitrate_bps))
        made: VideoCodecContext = codec
        return made
