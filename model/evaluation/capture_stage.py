"""A capture's sequences as films: its frames over an avatar's background, and the avatar before the same camera.

The way of `benchmarks/bench_field.py`: camera and head matrix of each frame go to the renderer as they are. Pictures
are 8-bit RGB before chroma subsampling and codec.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.audio_file import SAMPLE_RATE, read_audio
from model.data.capture import Capture, CaptureFrames
from model.errors import DataError, InputError
from model.radiance.camera import cam_to_canonical
from model.radiance.serving import AvatarRenderer

__all__ = ["FPS", "CaptureClip", "CaptureStage", "capture_clips"]

FPS: Final = 25
PAUSES: Final = ("sil", "sp")  # of GRID's alignments
HEAD_COVERAGE: Final = 127  # of 255: a pixel is the head's where its labels cover more than half of it

Frames = NDArray[np.uint8]  # (T, S, S, 3) RGB
Motion = NDArray[np.float32]  # (T, 32)


@dataclass(frozen=True, kw_only=True)
class CaptureClip:
    """One sequence of T frames: where they stand in the split, true motion, sound, and when words are spoken."""

    name: str
    rows: slice
    motion: Motion
    sound: NDArray[np.float32]  # 16 kHz, -1..1
    spoken: NDArray[np.bool_]  # (T,); all False where the capture names no words


class CaptureStage:
    """An avatar before the capture's camera, with the capture's head pose: made and real frames of one size."""

    def __init__(self, renderer: AvatarRenderer, frames: CaptureFrames) -> None:
        self.renderer = renderer
        self.frames = frames
        background = renderer.background
        self._behind = background.picture(renderer.size_px) / 255

    def made(self, rows: slice, motion: Motion) -> Frames:
        """The avatar in `motion` (T, 32), posed as in the T frames of `rows`.

        Raises:
            InputError: The numbers of frames differ.
        """
        wanted = range(*rows.indices(len(self.frames)))
        if len(motion) != len(wanted):
            raise InputError(f"need the motion of {len(wanted)} frames, got {len(motion)}")
        return np.stack([self._one(index, row) for index, row in zip(wanted, motion, strict=True)])

    def real(self, rows: slice) -> Frames:
        """The capture's frames over the avatar's background."""
        rgba = self.frames.rgba[rows].astype(np.float32) / 255
        return _to_bytes(rgba[..., :3] + (1 - rgba[..., 3:]) * self._behind)

    def head(self, rows: slice) -> NDArray[np.bool_]:
        """(T, S, S) where the real frames show the head: face, hair, neck and mouth by the capture's labels."""
        return np.asarray(self.frames.head[rows] > HEAD_COVERAGE)

    def _one(self, index: int, motion: NDArray[np.float32]) -> Frames:
        space = self.renderer.avatar.config.space
        camera = cam_to_canonical(self.frames.head_to_world[index], self.frames.cam_to_world[index], space)
        rotvec, size = self.frames.rotvec[index], self.renderer.size_px
        lens = None if self.frames.lens is None else self.frames.lens[index] * (size / self.frames.size_px)
        head = self.renderer.render_head_seen_by(motion, rotvec, camera, lens)
        under = self.renderer.underlay_at(rotvec, self.frames.head_to_world[index]).astype(np.float32) / 255
        return _to_bytes(head[..., :3] + (1 - head[..., 3:]) * under)


def capture_clips(capture: Capture, frames: CaptureFrames, first_frames: int | None = None) -> tuple[CaptureClip, ...]:
    """The capture's sequences, or the first frames of each.

    Raises:
        DataError: There are none, one is not at 25 fps, or its sound is missing or shorter than its pictures.
    """
    found = []
    for entry in capture.meta.get("sequences") or ():
        count = min(int(entry["count"]), first_frames or int(entry["count"]))
        rows = slice(int(entry["first_index"]), int(entry["first_index"]) + count)
        sound = read_audio(capture.root / entry["audio"])
        if entry["fps"] != FPS or len(frames.motion[rows]) != count or len(sound) < count * SAMPLE_RATE // FPS:
            raise DataError(
                f"sequence {entry['clip']} of {capture.root}: need {count} frames at {FPS} fps with sound, got "
                f"{len(frames.motion[rows])} frames at {entry['fps']} fps and {len(sound) / SAMPLE_RATE:.2f} s of sound"
            )
        found.append(
            CaptureClip(
                name=str(entry["clip"]),
                rows=rows,
                motion=frames.motion[rows],
                sound=sound,
                spoken=_spoken(entry.get("words") or (), count),
            )
        )
    if not found:
        raise DataError(f"the capture {capture.root} has no sequences with sound: nothing can be made from its sound")
    return tuple(found)


def _spoken(words: Sequence[Mapping[str, Any]], frames: int) -> NDArray[np.bool_]:
    """Frames whose middle lies inside a word."""
    middle = (np.arange(frames) + 0.5) / FPS
    inside = [(middle >= w["start"]) & (middle < w["end"]) for w in words if w["word"] not in PAUSES]
    return np.any(inside, axis=0) if inside else np.zeros(frames, np.bool_)


def _to_bytes(values: NDArray[np.floating]) -> Frames:
    return np.asarray(np.clip(np.rint(values * 255), 0, 255), np.uint8)
