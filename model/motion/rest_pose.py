"""The pose of a mouth that does not speak: lips at a wanted opening, whatever a face makes of the speaker's motion."""

from __future__ import annotations

from typing import Final

import numpy as np

from model.motion.retarget import Retarget
from model.motion.space import MOTION_SIZE, Motion, MotionSpace

LARGEST_REST_OPENING: Final = 0.008
"""Lip opening of a resting mouth at most, inter-ocular units: a hair, half a pixel of a picture of 256."""


def rest_pose(settled: Motion, space: MotionSpace) -> Motion:
    """Motion (32,) of a mouth that has come to rest, lips neither through each other nor apart."""
    settled = space.clamp(settled)
    wanted = float(np.clip(space.lip_opening(settled), 0.0, LARGEST_REST_OPENING))
    return _with_opening(settled, wanted, Retarget.identity(), space)


def rest_pose_on(rest: Motion, retarget: Retarget, space: MotionSpace) -> Motion:
    """The speaker's motion (32,) that shows a rest pose's lip opening on the face of `retarget`."""
    return _with_opening(rest, float(space.lip_opening(rest)), retarget, space)


def _with_opening(motion: Motion, opening: float, retarget: Retarget, space: MotionSpace) -> Motion:
    """The nearest motion whose lips are `opening` apart once retargeted."""
    effect = space.lip_opening(retarget(np.eye(MOTION_SIZE, dtype=np.float32)))  # of each number
    missing = opening - float(space.lip_opening(retarget(motion)))
    return np.asarray(motion + np.float32(missing) * effect / (effect @ effect), np.float32)
