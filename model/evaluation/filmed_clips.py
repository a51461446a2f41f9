"""Prepared clips of a filmed person as films for the reconstruction protocol: what an avatar from video is held to.

The clips were not trained on. Head pose and lens are tracked, frame by frame; motion is by the person's own
calibration, which comes from the clips that the avatar was trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from model.avatar import AvatarConfig
from model.data.capture import CaptureFrames, join_frames
from model.data.features import ClipFeatures, from_sample, iterate_clips
from model.data.preparing import read_shards
from model.errors import DataError
from model.evaluation.capture_stage import PAUSES, CaptureClip
from model.face.calibration import SpeakerCalibration, calibrate_speaker
from model.face.head_shape import load_head_shape
from model.motion.space import load_motion_space
from model.training.video_frames import VideoStage, clip_frames

__all__ = ["filmed_clips", "filmed_stage"]


def filmed_stage(config: AvatarConfig, calibrate_on: Path, held_out: Sequence[str] = ()) -> VideoStage:
    """How an avatar made from video stands before its camera.

    Args:
        calibrate_on: The prepared clips it was made from.
        held_out: Keys of those among them that were not trained on.
    """
    shape = load_head_shape()
    points = [clip.points(shape) for clip in iterate_clips(calibrate_on) if clip.key not in held_out]
    calibration: SpeakerCalibration = calibrate_speaker(np.concatenate(points))
    return VideoStage(config.camera, config.neck, config.rest_pose, calibration, config.camera.matrix())


def filmed_clips(
    prepared: Path, stage: VideoStage, keys: Sequence[str] = (), first_frames: int | None = None
) -> tuple[CaptureFrames, tuple[CaptureClip, ...]]:
    """Frames and clips of a folder made by `prepare --pictures`: those of `keys`, or all.

    Raises:
        DataError: A clip is not there, or was prepared without pictures.
    """
    shape, space = load_head_shape(), load_motion_space()
    parts: list[CaptureFrames] = []
    clips: list[CaptureClip] = []
    start = 0
    for sample in read_shards(prepared):
        if keys and sample.key not in keys:
            continue
        features = from_sample(sample)
        motion = stage.calibration.motion(features.points(shape), space)
        count = min(len(motion), first_frames or len(motion))
        parts.append(clip_frames(sample, features, motion, stage, np.arange(count), len(parts), space))
        clips.append(
            CaptureClip(
                name=sample.key,
                rows=slice(start, start + count),
                motion=motion[:count],
                sound=features.sound,
                spoken=_spoken(features)[:count],
            )
        )
        start += count
    missing = sorted(set(keys) - {clip.name for clip in clips})
    if missing or not clips:
        raise DataError(f"{prepared} has no clip {', '.join(missing) or 'at all'}")
    return join_frames(parts), tuple(clips)


def _spoken(features: ClipFeatures) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    middle = np.arange(len(features.motion)) + 0.5
    inside = [(middle >= w.start_frame) & (middle < w.end_frame) for w in features.words if w.text not in PAUSES]
    return np.any(inside, axis=0) if inside else np.zeros(len(middle), np.bool_)
