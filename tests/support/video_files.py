"""Small video files for tests, made with PyAV: pictures that tell their time, sound that clicks on it.

The middle of each picture is grey: its level is the picture's own number (`level`), so that a test can read off which
source picture a frame shows. The top left corner holds a white marker. Sound is silence with a click (a 2 ms burst)
at each of `clicks_s`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

CLOCK = 90_000  # ticks per second of pictures' times
SOUND_RATE = 48_000
CLICK_SAMPLES = SOUND_RATE // 500


@dataclass(frozen=True, kw_only=True)
class Picture:
    """How pictures are stored."""

    width: int = 64
    height: int = 48
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    options: tuple[tuple[str, str], ...] = (("qp", "4"), ("preset", "ultrafast"), ("g", "12"))
    turn_deg: int = 0  # counter-clockwise, written into the display matrix
    mirrored: bool = False
    aspect: Fraction = Fraction(1)
    matrix: int = 2  # ITU-T H.273 codes; 2 is "unspecified"
    primaries: int = 2
    transfer: int = 2
    full_range: bool = False


@dataclass(frozen=True, kw_only=True)
class Sound:
    """How sound is stored."""

    start_s: float = 0.0
    duration_s: float = 3.0
    clicks_s: tuple[float, ...] = (0.5, 1.0, 2.0)  # on the picture's clock
    codec: str = "aac"
    channels: str = "mono"


def level(number: int) -> int:
    """Grey level 0..255 that stands for a picture's number; the same again every 52 pictures, 4 apart."""
    return 24 + 4 * (number % 52)


def number_of(frame: NDArray[np.uint8]) -> int:
    """Number (modulo 52) of the picture that an RGB frame shows."""
    height, width = frame.shape[:2]
    middle = frame[height // 2 - 4 : height // 2 + 4, width // 2 - 4 : width // 2 + 4]
    return round((float(middle.mean()) - 24) / 4)


def grey_picture(number: int, picture: Picture) -> VideoFrame:
    """A numbered picture with its marker, in RGB."""
    pixels = np.full((picture.height, picture.width, 3), level(number), np.uint8)
    pixels[: picture.height // 4, : picture.width // 4] = 255
    return VideoFrame.from_ndarray(pixels, format="rgb24")


def even_times(count: int, fps: float | Fraction) -> list[float]:
    """Times in seconds of `count` pictures at a constant rate."""
    return [float(k / fps) for k in range(count)]


def write_video(
    path: Path,
    times_s: Sequence[float],
    *,
    picture: Picture | None = None,
    sound: Sound | None = None,
    draw: Callable[[int, Picture], VideoFrame] = grey_picture,
    muxer_options: dict[str, str] | None = None,
) -> Path:
    """Write numbered pictures shown at `times_s`, and sound if wanted; returns `path`."""
    picture = picture or Picture()
    with av.open(str(path), "w", options=muxer_options or {}) as container:
        stream = _picture_stream(container, picture, times_s)
        track = None if sound is None else container.add_stream(sound.codec, rate=SOUND_RATE, layout=sound.channels)
        pieces = [] if sound is None else list(_sound_frames(sound))
        for number, time_s in enumerate(times_s):
            frame = draw(number, picture)
            if frame.format.name != picture.pix_fmt:
                # BT.709 only when said so: swscale's own default is BT.601
                matrix = picture.matrix if picture.matrix in (1, 9) else 5
                target_range = 2 if picture.full_range else 1
                frame = frame.reformat(
                    format=picture.pix_fmt, dst_colorspace=matrix, dst_color_range=target_range, threads=1
                )
            frame.pts, frame.time_base = round(time_s * CLOCK), Fraction(1, CLOCK)
            _tag(frame, picture)
            container.mux(stream.encode(frame))
            while track is not None and pieces and pieces[0].time <= time_s:
                container.mux(track.encode(pieces.pop(0)))
        container.mux(stream.encode(None))
        if track is not None:
            for piece in pieces:
                container.mux(track.encode(piece))
            container.mux(track.encode(None))
    return path


def write_sound(path: Path, sound: Sound) -> Path:
    """Write sound alone; returns `path`."""
    with av.open(str(path), "w") as container:
        track = container.add_stream(sound.codec, rate=SOUND_RATE, layout=sound.channels)
        for piece in _sound_frames(sound):
            container.mux(track.encode(piece))
        container.mux(track.encode(None))
    return path


def click_times(samples: NDArray[np.int16], rate_hz: int = 16_000) -> list[float]:
    """Seconds at which each click of a sound begins (where it first reaches a quarter of its height)."""
    loud = np.flatnonzero(np.abs(samples.astype(np.float64)) > 4000)
    starts = loud[np.diff(loud, prepend=-rate_hz) > rate_hz // 50]
    return [float(start) / rate_hz for start in starts]


def _picture_stream(container: av.container.OutputContainer, picture: Picture, times_s: Sequence[float]):
    rate = Fraction(len(times_s) - 1) / Fraction(max(times_s[-1], 1e-3)).limit_denominator(10_000)
    stream = container.add_stream(
        picture.codec, rate=(rate or Fraction(25)).limit_denominator(1001), options=dict(picture.options)
    )
    stream.width, stream.height, stream.pix_fmt = picture.width, picture.height, picture.pix_fmt
    stream.codec_context.time_base = Fraction(1, 25 if picture.codec == "mpeg4" else CLOCK)
    if picture.aspect != 1:
        stream.codec_context.sample_aspect_ratio = picture.aspect
    context = stream.codec_context
    context.colorspace, context.color_primaries, context.color_trc = picture.matrix, picture.primaries, picture.transfer
    context.color_range = 2 if picture.full_range else 1
    if picture.turn_deg or picture.mirrored:
        stream.set_display_rotation(picture.turn_deg, hflip=picture.mirrored)
    return stream


def _tag(frame: VideoFrame, picture: Picture) -> None:
    frame.colorspace, frame.color_primaries, frame.color_trc = picture.matrix, picture.primaries, picture.transfer
    frame.color_range = 2 if picture.full_range else 1


def _sound_frames(sound: Sound):
    samples = np.zeros(round(sound.duration_s * SOUND_RATE), np.int16)
    burst = (16_000 * np.sign(np.sin(2 * np.pi * 3000 * np.arange(CLICK_SAMPLES) / SOUND_RATE + 0.1))).astype(np.int16)
    for click_s in sound.clicks_s:
        first = round((click_s - sound.start_s) * SOUND_RATE)
        if 0 <= first < len(samples) - CLICK_SAMPLES:
            samples[first : first + CLICK_SAMPLES] = burst
    channels = 2 if sound.channels == "stereo" else 1
    for first in range(0, len(samples), 1024):
        piece = np.repeat(samples[first : first + 1024], channels)[None]
        frame = av.AudioFrame.from_ndarray(piece, format="s16", layout=sound.channels)
        frame.sample_rate = SOUND_RATE
        frame.pts = first + round(sound.start_s * SOUND_RATE)
        frame.time_base = Fraction(1, SOUND_RATE)
        yield frame
