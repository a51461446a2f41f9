"""The notes of a clip that was read: what was unusual about it, with the numbers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from model.data.clip_types import Note
from model.data.video_audio import Sound
from model.data.video_frames import FPS, DecodeLog
from model.data.video_probe import VideoInfo

NOTED_S = 0.08  # two frames: codecs pad, so sound that begins or ends this near to the picture is nothing unusual
_TRANSFER_NAMES = {"pq": "PQ", "hlg": "HLG"}


def picture_notes(info: VideoInfo, log: DecodeLog, size: tuple[int, int], frames: int) -> Iterator[str]:
    """Notes on the picture; `size` is the width and height given, `frames` how many at 25 fps."""
    if info.rotation_deg or info.is_mirrored:
        parts = [f"{info.rotation_deg} degrees"] if info.rotation_deg else []
        yield _note(Note.ROTATED, ", ".join(parts + ["mirrored"] * info.is_mirrored))
    if info.is_variable_rate:
        gaps = np.diff(log.times_s)
        yield _note(
            Note.VARIABLE_FRAME_RATE,
            f"{1 / gaps.max():.4g} to {1 / gaps.min():.4g}, mean {info.average_fps:.4g} frames per second",
        )
    elif abs(info.average_fps - FPS) > 0.02:
        yield _note(Note.FRAME_RATE, f"{info.average_fps:.4g} frames per second")
    if info.transfer != "sdr":
        yield _note(Note.HIGH_DYNAMIC_RANGE, _TRANSFER_NAMES[info.transfer])
    if info.is_interlaced:
        yield str(Note.INTERLACED)
    if size != (info.width, info.height) or info.pixel_aspect != 1:
        shape = "" if info.pixel_aspect == 1 else f", pixels {float(info.pixel_aspect):.4g} times as wide as high,"
        yield _note(Note.RESIZED, f"{info.coded_width} x {info.coded_height}{shape} to {size[0]} x {size[1]}")
    if log.damaged:
        yield _note(Note.DAMAGED_FRAMES, f"{log.damaged} of {max(log.decoded, info.frames or 0)}")
    if log.is_cut:
        whole = f" of {info.duration_s:.4g}" if info.duration_s else ""
        yield _note(Note.CUT_SHORT, f"{frames / FPS:.4g}{whole} s")


def sound_notes(sound: Sound | None, log: DecodeLog, frames: int) -> Iterator[str]:
    """Notes on where sound and picture do not cover each other."""
    if sound is None:
        return
    end_s = frames / FPS
    if sound.start_s > NOTED_S:
        yield _note(Note.AUDIO_LATE, f"by {sound.start_s:.2f} s")
    if end_s - sound.end_s > NOTED_S:
        yield _note(Note.AUDIO_SHORTER, f"{sound.end_s:.2f} of {end_s:.2f} s")
    before_s, after_s = -sound.start_s, sound.end_s - end_s
    if before_s > NOTED_S:
        yield _note(Note.AUDIO_LONGER, f"{before_s:.2f} s before the first picture")
    if after_s > NOTED_S and not log.is_cut:
        yield _note(Note.AUDIO_LONGER, f"{after_s:.2f} s behind the last picture")


def _note(note: Note, numbers: str) -> str:
    return f"{note} ({numbers})"
