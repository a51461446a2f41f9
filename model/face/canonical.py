"""Landmarks in canonical head space: the head's own motion, the camera and the tracker's habits taken out.

Each landmark is put back into space along its pixel's ray at the depth that the tracker gives it relative to the head,
turned into head axes by that frame's pose, and freed of the tracker's pose bias (`HeadShape.tracker_bias`). Lengths are
inter-ocular units of the mean face; `calibration` turns them into the speaker's own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.face.head_pose import HeadPose
from model.face.head_shape import STABLE, HeadShape

Points = NDArray[np.float32]  # (T, 478, 3): x to the subject's left, y up, z out of the face


def canonical_points(landmarks_px: NDArray[np.float32], pose: HeadPose, shape: HeadShape) -> Points:
    """(T, 478, 3) landmarks in head axes, inter-ocular units of the mean face.

    The pose of each frame alone is used, not the smoothed one: tracker jitter moves all landmarks of a frame together,
    and that frame's pose moves with them.
    """
    points = landmarks_px.astype(np.float64)
    stable = list(STABLE)
    camera, rotation, translation = pose.intrinsics, pose.frame_rotation, pose.frame_translation
    distance = translation[:, 2:]
    turned = np.einsum("tij,nj->tni", rotation, shape.neutral[stable].astype(np.float64))
    relative = points[..., 2] - points[:, stable, 2].mean(1, keepdims=True)
    depth = distance + turned[..., 2].mean(1, keepdims=True) + relative * distance / camera.fx_px
    x = (points[..., 0] - camera.cx_px) / camera.fx_px * depth
    y = (points[..., 1] - camera.cy_px) / camera.fy_px * depth
    seen = np.stack([x, y, depth], -1) - translation[:, None]
    head = np.einsum("tij,tni->tnj", rotation, seen) / shape.inter_ocular_cm
    return np.asarray(head - shape.tracker_bias(rotation), np.float32)
