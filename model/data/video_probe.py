"""What a video file is, told from its header, its first picture and its first seconds of time stamps."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.buffer import Buffer
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from model.data.clip_types import ClipError, Problem
from model.data.video_file import open_media, picture_stream, read_packets, sound_stream

Transfer = Literal["sdr", "pq", "hlg"]

PROBED_PACKETS = 250
UNEVEN_SHARE = 0.01  # of the gaps between pictures: with more uneven ones the rate counts as variable
_TRANSFERS: dict[int, Transfer] = {16: "pq", 18: "hlg"}  # ITU-T H.273, TransferCharacteristics


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoInfo:
    """A video file. Times in seconds on the file's own clock; None where the file does not tell."""

    container: str
    codec: str
    coded_width: int
    coded_height: int
    pixel_aspect: Fraction  # width of a stored pixel over its height
    width: int  # upright and with square pixels (never enlarged), before any limit on size
    height: int
    rotation_deg: int  # clockwise turn that makes it upright: 0, 90, 180 or 270
    is_mirrored: bool  # left and right (after the turn) are exchanged in the stored picture
    is_interlaced: bool
    average_fps: float
    nominal_fps: float
    is_variable_rate: bool
    bit_depth: int
    transfer: Transfer
    duration_s: float | None  # of the picture, as declared
    frames: int | None
    has_audio: bool
    audio_codec: str = ""
    audio_rate: int = 0
    audio_channels: int = 0
    audio_start_s: float | None = None
    audio_duration_s: float | None = None


def probe_video(path: Path) -> VideoInfo:
    """Describe a file. Decodes one picture and reads at most `PROBED_PACKETS` time stamps.

    Raises:
        ClipError: The file is missing, empty, not a video, without its index, or no picture can be decoded.
    """
    with open_media(path) as container:
        stream = picture_stream(container, path)
        stream.codec_context.thread_count = 1
        frame, times = _first_frame(container, stream)
        if frame is None:
            text = f"{path} breaks off or is damaged: no picture can be decoded; copy or record it again"
            raise ClipError(Problem.TRUNCATED, text)
        return _describe(container, stream, frame, times)


def is_uneven(times: Sequence[float], *, tick_s: float = 0.001, allowed: int = 0) -> bool:
    """Whether pictures shown at `times` (seconds, rising) have a variable rate.

    Args:
        times: Presentation times.
        tick_s: Resolution of the file's clock; rounding to it is no variation.
        allowed: Gaps that are excused (pictures lost to damage).
    """
    gaps = np.diff(np.asarray(times))
    if len(gaps) < 2:
        return False
    middle = float(np.median(gaps))
    uneven = int(np.count_nonzero(np.abs(gaps - middle) > 0.25 * middle + tick_s))
    return uneven > max(UNEVEN_SHARE * len(gaps), 2 * allowed)


def orientation(frame: VideoFrame) -> tuple[int, bool]:
    """Clockwise turn to the upright picture in degrees, and whether it is mirrored after that turn.

    Read from the display matrix of ISO/IEC 14496-12: x' = a x + c y, y' = b x + d y, y pointing down.
    """
    side_data = cast("dict[str, Buffer]", frame.side_data)
    raw = side_data.get("DISPLAYMATRIX")
    if raw is None:
        return 0, False
    a, b, _, c, d = np.frombuffer(bytes(raw), np.int32)[:5].tolist()
    mirrored = a * d - b * c < 0
    if mirrored:
        a, c = -a, -c  # undo a flip of left and right, done last
    if abs(b) > abs(a):
        return (90 if b > 0 else 270), mirrored
    return (180 if a < 0 else 0), mirrored


def _first_frame(container: InputContainer, stream: VideoStream) -> tuple[VideoFrame | None, list[float]]:
    """The first picture that decodes, and the presentation times of the first packets in order."""
    first: VideoFrame | None = None
    times: list[float] = []
    for packet in itertools.islice(read_packets(container, stream, lambda: None), PROBED_PACKETS):
        if packet.pts is not None and packet.time_base is not None:
            times.append(float(packet.pts * packet.time_base))
        if first is None:
            try:
                first = next(iter(stream.decode(packet)), None)
            except av.FFmpegError:
                continue
    times.sort()
    return first, times[: -min(16, len(times) // 4) or None]  # the last few may still have earlier ones to come


def _describe(container: InputContainer, stream: VideoStream, frame: VideoFrame, times: list[float]) -> VideoInfo:
    turn, mirrored = orientation(frame)
    aspect = stream.sample_aspect_ratio or Fraction(1)
    if not Fraction(1, 8) <= aspect <= 8:
        aspect = Fraction(1)  # a nonsense header
    width, height = square_pixels(frame.width, frame.height, aspect)
    measured = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else 0.0
    sound = sound_stream(container)
    return VideoInfo(
        container=container.format.name,
        codec=stream.codec_context.name,
        coded_width=frame.width,
        coded_height=frame.height,
        pixel_aspect=aspect,
        width=height if turn in (90, 270) else width,
        height=width if turn in (90, 270) else height,
        rotation_deg=turn,
        is_mirrored=mirrored,
        is_interlaced=frame.interlaced_frame,
        average_fps=float(stream.average_rate or 0) or measured,
        nominal_fps=float(stream.guessed_rate or 0) or measured,
        is_variable_rate=is_uneven(times, tick_s=_tick(stream)),
        bit_depth=max((c.bits for c in frame.format.components), default=8),
        transfer=_TRANSFERS.get(frame.color_trc, "sdr"),
        duration_s=_duration(container, stream),
        frames=stream.frames or None,
        has_audio=sound is not None,
        audio_codec=sound.codec_context.name if sound else "",
        audio_rate=sound.codec_context.sample_rate or 0 if sound else 0,
        audio_channels=sound.codec_context.channels or 0 if sound else 0,
        audio_start_s=None if sound is None or sound.start_time is None else sound.start_time * _tick(sound),
        audio_duration_s=_duration(container, sound) if sound else None,
    )


def square_pixels(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """Size with square pixels, shrinking the longer-sampled side so that nothing is enlarged."""
    if aspect >= 1:
        return width, max(1, round(height / aspect))
    return max(1, round(width * aspect)), height


def _tick(stream: VideoStream | AudioStream) -> float:
    return float(stream.time_base or Fraction(1, 1000))


def _duration(container: InputContainer, stream: VideoStream | AudioStream) -> float | None:
    known = [stream.duration * _tick(stream)] if stream.duration else []
    known += [container.duration / av.time_base] if container.duration else []
    return min(known, default=None)
