"""Pictures of a video in order of time, and the nearest of them for each point of the 25 fps grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from model.data.video_file import open_media, picture_stream, read_packets

FPS = 25
MAX_SOURCE_FPS = 1000  # more pictures per second of the longest clip than this are not decoded
_TIE_S = 1e-6  # two pictures this nearly as close as each other: the earlier is shown


@dataclass(slots=True)
class DecodeLog:
    """What one pass over the pictures met. Complete once the pass is."""

    first_s: float = 0.0  # time of the first picture on the file's own clock
    times_s: list[float] = field(default_factory=list)  # of all pictures, from the first
    decoded: int = 0
    damaged: int = 0  # pictures that were lost or concealed
    interlaced: bool = False
    is_cut: bool = False  # the limit was reached before the end
    nominal_gap_s: float = 1 / FPS

    @property
    def gap_s(self) -> float:
        """Usual time between two pictures."""
        return float(np.median(np.diff(self.times_s))) if len(self.times_s) > 1 else self.nominal_gap_s

    @property
    def shown_s(self) -> float:
        """Time from the first picture to the end of the last."""
        return self.times_s[-1] + self.gap_s if self.times_s else 0.0

    @property
    def mean_fps(self) -> float:
        """Pictures per second over the whole clip."""
        span = self.times_s[-1] if self.times_s else 0.0
        return (len(self.times_s) - 1) / span if span > 0 else 0.0

    def count_damaged(self) -> None:
        """One more picture lost or concealed."""
        self.damaged += 1


def read_pictures(path: Path, log: DecodeLog, *, threads: int = 1) -> Iterator[tuple[float, VideoFrame]]:
    """All pictures with their time in seconds from the first, rising; those that go back in time are dropped.

    Damage is counted in `log` and passed over.

    Raises:
        ClipError: The file cannot be opened, or holds no moving picture.
    """
    with open_media(path) as container:
        stream = picture_stream(container, path)
        stream.codec_context.thread_count = threads
        rate = float(stream.average_rate or stream.guessed_rate or FPS)
        log.nominal_gap_s = 1 / rate if rate > 0 else 1 / FPS
        for packet in read_packets(container, stream, log.count_damaged):
            for frame in _decode(stream, packet, log.count_damaged):
                log.decoded += 1
                time_s = _time(frame, stream, log)
                if log.times_s and time_s <= log.times_s[-1]:
                    continue
                log.damaged += frame.is_corrupt
                log.interlaced |= frame.interlaced_frame
                log.times_s.append(time_s)
                yield time_s, frame


def on_grid(pictures: Iterator[tuple[float, VideoFrame]], log: DecodeLog, max_frames: int) -> Iterator[VideoFrame]:
    """Frame k is the picture nearest to k / 25 s (the earlier of two equally near), from 0 to the end of the last.

    The count is the shown time in frames, rounded, and at most `max_frames`.
    """
    held: tuple[float, VideoFrame] | None = None
    k = 0
    for time_s, frame in pictures:
        if held is not None:
            middle_s = (held[0] + time_s) / 2
            while k < max_frames and k / FPS <= middle_s + _TIE_S:
                yield held[1]
                k += 1
        held = time_s, frame
        goes_on = k >= max_frames and round(log.shown_s * FPS) > max_frames  # with this picture's own time
        if goes_on or log.decoded > max_frames * MAX_SOURCE_FPS // FPS:
            log.is_cut = True
            return
    total = round(log.shown_s * FPS)
    log.is_cut = total > max_frames
    while held is not None and k < min(total, max_frames):
        yield held[1]
        k += 1


def _decode(stream: VideoStream, packet: av.Packet[Any], failed: Callable[[], None]) -> list[VideoFrame]:
    try:
        return stream.decode(packet)
    except EOFError:  # flushed twice: the file was picked up again behind a read error
        return []
    except av.FFmpegError:
        failed()
        return []


def _time(frame: VideoFrame, stream: VideoStream, log: DecodeLog) -> float:
    """Seconds from the first picture; where a file gives no time, the usual gap after the one before."""
    ticks = frame.pts if frame.pts is not None else frame.dts
    base = frame.time_base or stream.time_base
    if ticks is None or base is None:
        return log.shown_s
    absolute_s = ticks * base.numerator / base.denominator
    if not log.times_s:
        log.first_s = absolute_s
    return absolute_s - log.first_s
