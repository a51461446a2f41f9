"""A speaker's neutral face and gain, so that motion 0 is lips just closed and one unit is the same for everybody.

Trackers leave a gap between closed lips that differs from face to face; subtracting the speaker's own closed face
removes it. The gain turns the mean face's inter-ocular units into the speaker's own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.face.measure import motion_from_points
from model.face.pose_free import inter_ocular
from model.motion.face_points import LOWER_LIP_INNER, UPPER_LIP_INNER
from model.motion.space import MotionSpace

CLOSED_QUANTILE = 0.05
CLOSED_TOLERANCE = 0.012  # inter-ocular units above the closed level that still count as closed
MIN_CLOSED_FRAMES = 3


@dataclass(frozen=True)
class SpeakerCalibration:
    """What is subtracted from, and multiplied onto, a speaker's canonical points."""

    neutral: NDArray[np.float32]  # (478, 3) closed, resting face; inter-ocular units of the mean face
    gain: float  # mean face's inter-ocular distance over the speaker's

    def motion(self, points: NDArray[np.float32], space: MotionSpace) -> NDArray[np.float32]:
        """Motion (T, 32) of canonical points (T, 478, 3)."""
        return motion_from_points(points * np.float32(self.gain), self.neutral * np.float32(self.gain), space)


def calibrate_speaker(points: NDArray[np.float32]) -> SpeakerCalibration:
    """From all canonical points (T, 478, 3) of one speaker.

    The neutral face is the median of the stiller half of the frames whose lips are within `CLOSED_TOLERANCE` of the
    closed level (the 5th percentile of the inner-lip gap).

    Raises:
        InputError: There is no frame.
    """
    if not len(points):
        raise InputError("no frame to calibrate a speaker on")
    gap = points[:, UPPER_LIP_INNER, 1] - points[:, LOWER_LIP_INNER, 1]
    level = float(np.quantile(gap, CLOSED_QUANTILE))
    closed = np.flatnonzero(gap <= level + CLOSED_TOLERANCE)
    if len(closed) < MIN_CLOSED_FRAMES:
        closed = np.argsort(gap)[:MIN_CLOSED_FRAMES]
    speed = np.abs(np.gradient(gap)) if len(gap) > 1 else np.zeros(1)
    still = closed[speed[closed] <= np.median(speed[closed])]
    neutral = np.median(points[still], axis=0).astype(np.float32)
    return SpeakerCalibration(neutral, 1.0 / inter_ocular(neutral))
