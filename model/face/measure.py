"""Landmarks to the 32 numbers of the motion space (offline: data sets, avatar making, evaluation)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model.motion.face_points import (
    BROWS,
    EYE_CORNERS_LEFT,
    EYE_CORNERS_RIGHT,
    IRIS_LEFT,
    IRIS_RIGHT,
    LIDS_LEFT,
    LIDS_RIGHT,
    MOUTH,
)

if TYPE_CHECKING:
    from model.motion.space import MotionSpace

BROW_UNITS = 10.0  # brows are counted in tenths of the inter-ocular distance
EYE_RADIUS_EYE_WIDTHS = 0.43  # eyeball radius over the distance between the eye's corners (adult anatomy)


def motion_from_points(
    aligned: NDArray[np.float32], neutral: NDArray[np.float32], space: MotionSpace
) -> NDArray[np.float32]:
    """Motion (T, 32) of aligned points (T, 478, 3), both in inter-ocular units, against a neutral (478, 3)."""
    delta = aligned - neutral
    out = np.zeros((len(aligned), 32), np.float32)
    out[:, :16] = delta[:, list(MOUTH)].reshape(len(delta), -1) @ space.encoder
    out[:, 16:20] = brow_codes(delta)
    out[:, 20:22] = lid_codes(aligned, neutral)
    out[:, 22:24] = gaze_codes(aligned, neutral)
    return out


def brow_codes(delta: NDArray[np.float32]) -> NDArray[np.float32]:
    """Upward displacement of the four brow parts, (T, 4), tenths of the inter-ocular distance."""
    up = np.stack([delta[:, list(points), 1].mean(1) for points in BROWS.values()], 1)
    return np.asarray(up * BROW_UNITS, np.float32)


def lid_codes(aligned: NDArray[np.float32], neutral: NDArray[np.float32]) -> NDArray[np.float32]:
    """Lid closure (T, 2), left and right: 0 as in the neutral face, 1 closed."""
    columns = []
    for lids, corners in ((LIDS_LEFT, EYE_CORNERS_LEFT), (LIDS_RIGHT, EYE_CORNERS_RIGHT)):
        openness = _eye_openness(aligned, lids, corners)
        rest = _eye_openness(neutral[None], lids, corners)[0]
        columns.append(1.0 - openness / max(rest, 1e-3))
    return np.asarray(np.clip(np.stack(columns, 1), -0.5, 1.0), np.float32)


def gaze_codes(aligned: NDArray[np.float32], neutral: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean gaze of both eyes against the neutral face, (T, 2): yaw to the subject's left, pitch up, rad."""
    angles = []
    for iris, corners in ((IRIS_LEFT, EYE_CORNERS_LEFT), (IRIS_RIGHT, EYE_CORNERS_RIGHT)):
        width = np.linalg.norm(neutral[corners[0]] - neutral[corners[1]])
        radius = EYE_RADIUS_EYE_WIDTHS * float(width)
        offset = aligned[:, iris] - aligned[:, list(corners)].mean(1)
        offset = offset - (neutral[iris] - neutral[list(corners)].mean(0))
        angles.append(np.arcsin(np.clip(offset[:, :2] / radius, -0.9, 0.9)))
    return np.asarray(np.mean(angles, axis=0), np.float32)


def _eye_openness(
    points: NDArray[np.float32], lids: tuple[tuple[int, int], ...], corners: tuple[int, int]
) -> NDArray[np.float32]:
    width = np.linalg.norm(points[:, corners[0]] - points[:, corners[1]], axis=1)
    gaps = np.mean([points[:, a, 1] - points[:, b, 1] for a, b in lids], axis=0)
    return np.asarray(gaps / width, np.float32)
