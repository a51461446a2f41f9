"""Motion of prepared clips in the frozen space: one neutral face for all clips of a speaker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.data.grid import GridClip, load_clips
from model.face.measure import motion_from_points
from model.face.pose_free import align_to_template, image_to_head_axes, neutral_face
from model.motion.space import MotionSpace, load_motion_space


def load_motion(folder: Path, *, neutral_from: Path | None = None) -> dict[str, NDArray[np.float32]]:
    """Motion (T, 32) of every prepared clip of one speaker, by clip name.

    `neutral_from`: folder whose clips give the neutral face (default: `train` beside `folder` when it exists).
    """
    space = load_motion_space()
    source = neutral_from or (folder.parent / "train" if (folder.parent / "train").is_dir() else folder)
    neutral = speaker_neutral(load_clips(source), space)
    return {c.name: clip_motion(c, neutral, space) for c in load_clips(folder)}


def speaker_neutral(clips: list[GridClip], space: MotionSpace) -> NDArray[np.float32]:
    """(478, 3) neutral face of one speaker, inter-ocular units."""
    return neutral_face(np.concatenate([_aligned(c, space) for c in clips]))


def clip_motion(clip: GridClip, neutral: NDArray[np.float32], space: MotionSpace) -> NDArray[np.float32]:
    """Motion (T, 32) of one clip."""
    return motion_from_points(_aligned(clip, space), neutral, space)


def _aligned(clip: GridClip, space: MotionSpace) -> NDArray[np.float32]:
    return align_to_template(image_to_head_axes(clip.landmarks), space.template)
