"""Motion of prepared clips in the frozen space: one calibration (neutral face and gain) for all clips of a speaker."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.data.features import ClipFeatures, clip_speakers, iterate_clips, load_clips
from model.face.calibration import SpeakerCalibration, calibrate_speaker
from model.face.head_shape import HeadShape, load_head_shape
from model.motion.space import MotionSpace, load_motion_space


def load_motion(folder: Path, *, neutral_from: Path | None = None) -> dict[str, NDArray[np.float32]]:
    """Motion (T, 32) of every prepared clip, by clip name.

    `neutral_from`: folder whose clips calibrate each speaker (default: `train` beside `folder` when it exists). A
    speaker who is not there is calibrated on `folder` itself.
    """
    space, shape = load_motion_space(), load_head_shape()
    source = neutral_from or (folder.parent / "train" if (folder.parent / "train").is_dir() else folder)
    clips = load_clips(folder)
    calibrations = calibrate_speakers(clips, shape)
    if source != folder:
        calibrations |= calibrate_speakers_of(source, shape, only={c.speaker for c in clips})
    return {c.key: clip_motion(c, calibrations[c.speaker], shape, space) for c in clips}


def calibrate_speakers(clips: Sequence[ClipFeatures], shape: HeadShape) -> dict[str, SpeakerCalibration]:
    """One calibration for each speaker, by speaker id."""
    points = defaultdict(list)
    for clip in clips:
        points[clip.speaker].append(clip.points(shape))
    return {speaker: calibrate_speaker(np.concatenate(parts)) for speaker, parts in points.items()}


def calibrate_speakers_of(
    folder: Path, shape: HeadShape, *, only: Collection[str] | None = None
) -> dict[str, SpeakerCalibration]:
    """The same of a prepared folder's speakers, or of some: with a speaker's points in memory until his last clip."""
    speakers = clip_speakers(folder)
    last = {speaker: place for place, speaker in enumerate(speakers) if only is None or speaker in only}
    if not last:
        return {}
    within = range(min(map(speakers.index, last)), max(last.values()) + 1)
    points = defaultdict(list)
    calibrations = {}
    for place, clip in zip(within, iterate_clips(folder, within), strict=True):
        if clip.speaker not in last:
            continue
        points[clip.speaker].append(clip.points(shape))
        if place == last[clip.speaker]:
            calibrations[clip.speaker] = calibrate_speaker(np.concatenate(points.pop(clip.speaker)))
    return calibrations


def clip_motion(
    clip: ClipFeatures, calibration: SpeakerCalibration, shape: HeadShape, space: MotionSpace
) -> NDArray[np.float32]:
    """Motion (T, 32) of one clip."""
    return calibration.motion(clip.points(shape), space)
