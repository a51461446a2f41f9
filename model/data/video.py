"""Reading any video as prepared features need it: upright RGB at 25 fps, 16 kHz mono sound on the same clock.

Frame k is shown at k / 25 s from the first picture and owns samples [640 k, 640 (k + 1)). Pictures are decoded when
asked for, as often as asked: only clips that fit `ReadSettings.keep_bytes` stay in memory.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from model.data.clip_types import ClipError, ClipSource, Problem
from model.data.video_audio import SAMPLE_RATE, no_sound, read_sound
from model.data.video_file import last_packet_s, open_media
from model.data.video_frames import FPS, DecodeLog, on_grid, read_pictures
from model.data.video_notes import picture_notes, sound_notes
from model.data.video_picture import PictureMaker, limited_size
from model.data.video_probe import VideoInfo, is_uneven, probe_video
from model.errors import ConfigError

__all__ = [
    "FPS",
    "SAMPLES_PER_FRAME",
    "SAMPLE_RATE",
    "ReadSettings",
    "VideoClip",
    "VideoInfo",
    "probe_video",
    "read_video",
]

SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
BROKEN_OFF = 0.9  # a clip with less than this share of its declared length (and BROKEN_OFF_S missing) is truncated
BROKEN_OFF_S = 0.5
MAX_DAMAGED = 0.5  # share of lost pictures from which on a clip is refused


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSettings:
    """Limits of `read_video`."""

    max_side_px: int = 720  # longer pictures are scaled down while decoding
    max_seconds: float = 600.0  # longer clips are cut, with a note
    min_seconds: float = 1.0
    min_fps: float = 10.0
    need_audio: bool = True  # without a track: refuse, or give silence
    keep_bytes: int = 256 * 2**20  # a clip whose pictures fit is decoded once and kept
    decode_threads: int = 1

    def __post_init__(self) -> None:
        if self.max_side_px < 16:
            raise ConfigError(f"max_side_px must be at least 16, got {self.max_side_px}")
        if not 0 < self.min_seconds <= self.max_seconds:
            raise ConfigError(f"need 0 < min_seconds <= max_seconds, got {self.min_seconds}, {self.max_seconds}")
        if self.decode_threads < 1 or self.keep_bytes < 0:
            raise ConfigError(
                f"need decode_threads >= 1 and keep_bytes >= 0, got {self.decode_threads}, {self.keep_bytes}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoClip:
    """A clip that was found good. Plain values: it can be sent to another process."""

    path: Path
    info: VideoInfo  # rates and counts as measured
    settings: ReadSettings
    width: int  # of `frames()`, in pixels
    height: int
    frame_count: int
    audio: NDArray[np.int16]  # (640 * frame_count,), 16 kHz mono
    notes: tuple[str, ...] = ()  # `Note` values, with numbers in parentheses
    kept: tuple[NDArray[np.uint8], ...] = field(default=(), repr=False)  # all frames, or none

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.frame_count / FPS

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[NDArray[np.uint8]]:
        """Frames `start` to `stop` (exclusive; all by default), (height, width, 3) RGB. Read them, do not write.

        May be called any number of times; a long clip is decoded anew by each call, from its beginning.

        Raises:
            ClipError: The file went away or changed since it was read.
        """
        stop = self.frame_count if stop is None else min(stop, self.frame_count)
        if self.kept:
            yield from self.kept[start:stop]
            return
        maker = PictureMaker(self.path, self.info, self.width, self.height)
        log = DecodeLog()
        pictures = read_pictures(self.path, log, threads=self.settings.decode_threads)
        given = start
        for pixels in _rgb(itertools.islice(on_grid(pictures, log, self.frame_count), start, stop), maker):
            yield pixels
            given += 1
        if given < stop:
            text = f"{self.path} gave {given} frames where {stop} were read before: it changed; start again"
            raise ClipError(Problem.TRUNCATED, text)


def read_video(source: ClipSource | Path, settings: ReadSettings | None = None) -> VideoClip:
    """Check a clip, bring its sound onto the picture's clock, and make its pictures readable.

    The video's own sound track is used; `ClipSource.audio` where it has none (its start counts as the first picture).

    Raises:
        ClipError: The clip cannot be used; `problem` says why in one word, the message in one line.
    """
    if isinstance(source, Path):
        source = ClipSource(key=source.stem, video=source)
    settings = settings or ReadSettings()
    path = source.video
    info = probe_video(path)
    sound_path = _find_sound(source, info, settings)
    width, height = limited_size(info, settings.max_side_px)
    log = DecodeLog()
    count, kept = _scan(path, PictureMaker(path, info, width, height), settings, log)
    _check(path, info, settings, log, count)
    sound = None
    if sound_path is not None:
        zero_s = log.first_s if sound_path == path else 0.0
        sound = read_sound(sound_path, zero_s=zero_s, samples=count * SAMPLES_PER_FRAME)
    measured = dataclasses.replace(
        info,
        average_fps=log.mean_fps,
        is_variable_rate=is_uneven(log.times_s, allowed=log.damaged),
        is_interlaced=log.interlaced,
        frames=info.frames if log.is_cut else len(log.times_s),
    )
    return VideoClip(
        path=path,
        info=measured,
        settings=settings,
        width=width,
        height=height,
        frame_count=count,
        audio=np.zeros(count * SAMPLES_PER_FRAME, np.int16) if sound is None else sound.samples,
        notes=(*picture_notes(measured, log, (width, height), count), *sound_notes(sound, log, count)),
        kept=kept,
    )


def _find_sound(source: ClipSource, info: VideoInfo, settings: ReadSettings) -> Path | None:
    if info.has_audio:
        return source.video
    if source.audio is not None:
        with open_media(source.audio, sound_only=True):
            return source.audio
    if settings.need_audio:
        raise no_sound(source.video)
    return None


def _scan(
    path: Path, maker: PictureMaker, settings: ReadSettings, log: DecodeLog
) -> tuple[int, tuple[NDArray[np.uint8], ...]]:
    """Decode every picture once: how many frames the clip has, and the frames themselves if they may be kept."""
    on_time = on_grid(read_pictures(path, log, threads=settings.decode_threads), log, int(settings.max_seconds * FPS))
    room = settings.keep_bytes // maker.frame_bytes
    if maker.info.duration_s and maker.info.duration_s * FPS > room + FPS:
        room = 0  # it will not fit
    kept = tuple(_rgb(itertools.islice(on_time, room), maker))
    more = sum(1 for _ in on_time)
    return len(kept) + more, () if more else kept


def _rgb(frames: Iterator[VideoFrame], maker: PictureMaker) -> Iterator[NDArray[np.uint8]]:
    """Convert each frame; one shown several times in a row is converted once."""
    last: VideoFrame | None = None
    pixels: NDArray[np.uint8]
    for frame in frames:
        if frame is not last:
            pixels = maker.rgb(frame)
            last = frame
        yield pixels


def _check(path: Path, info: VideoInfo, settings: ReadSettings, log: DecodeLog, count: int) -> None:
    """Refuse what is broken off, too damaged, too short or too slow."""
    whole_s = _whole_s(info)
    if not log.is_cut and _lacks(log.shown_s, whole_s) and not _ends_before_sound(path, info):
        text = f"{path} breaks off after {log.shown_s:.1f} of {whole_s:.1f} seconds; copy or record it again"
        raise ClipError(Problem.TRUNCATED, text)
    if log.damaged > MAX_DAMAGED * (log.decoded + log.damaged):
        text = f"{path} is damaged: {log.damaged} of {log.decoded + log.damaged} pictures cannot be decoded"
        raise ClipError(Problem.NOT_A_VIDEO, f"{text}; copy it again")
    if count < settings.min_seconds * FPS - 1e-6:
        text = f"{path} lasts {log.shown_s:.2f} seconds; at least {settings.min_seconds:g} are needed"
        raise ClipError(Problem.TOO_SHORT, text)
    if log.mean_fps < settings.min_fps - 0.01:
        text = f"{path} has {log.mean_fps:.1f} frames per second; lips need at least {settings.min_fps:g}, better {FPS}"
        raise ClipError(Problem.LOW_FRAME_RATE, text)


def _lacks(found_s: float, whole_s: float) -> bool:
    return found_s < min(BROKEN_OFF * whole_s, whole_s - BROKEN_OFF_S)


def _whole_s(info: VideoInfo) -> float:
    """Length of the picture that a file promises in its header; 0 where FFmpeg only estimates one."""
    if info.container == "avi" and info.frames and info.nominal_fps:
        return info.frames / info.nominal_fps
    return (info.duration_s or 0.0) if info.container.startswith(("mov", "matroska")) else 0.0


def _ends_before_sound(path: Path, info: VideoInfo) -> bool:
    """Whether the promised length is that of a longer sound track: Matroska states the longest one only."""
    return info.container.startswith("matroska") and not _lacks(last_packet_s(path), _whole_s(info))
