"""The camera: a pinhole 72 units from the head, still or orbiting about a point in the face."""

from __future__ import annotations

from typing import Final

import numpy as np

from scripts.capture.shapes import Array

DISTANCE: Final = 72.0
HALF_VIEW: Final = 19.0  # half of the width seen at DISTANCE
TARGET: Final = (0.0, 0.2, 0.0)
FOV_DEG: Final = float(np.degrees(2 * np.arctan(HALF_VIEW / DISTANCE)))
_OPENCV_FROM_OPENGL: Final = np.diag([1.0, -1.0, -1.0, 1.0])


def focal_px(size_px: int) -> float:
    """Focal length of a picture of this size."""
    return DISTANCE / HALF_VIEW * size_px / 2


def camera_matrix(yaw_deg: float, pitch_deg: float = 0.0) -> Array:
    """Camera to world (4, 4), OpenCV axes. Yaw > 0: towards the subject's left; pitch > 0: from above."""
    return opengl_camera_matrix(yaw_deg, pitch_deg) @ _OPENCV_FROM_OPENGL


def opengl_camera_matrix(yaw_deg: float, pitch_deg: float = 0.0) -> Array:
    """The same with Blender's axes: y up, looking along -z."""
    yaw, pitch = np.radians(yaw_deg), np.radians(pitch_deg)
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    tilt = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ tilt
    matrix[:3, 3] = np.array(TARGET) + matrix[:3, :3] @ np.array([0, 0, DISTANCE])
    return matrix


def project(points: Array, camera_to_world: Array, size_px: int) -> Array:
    """Pixels (P, 2) of world points (P, 3); the origin is the outer corner of the top-left pixel."""
    world_to_camera = np.linalg.inv(camera_to_world)
    seen = points @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
    return np.asarray(focal_px(size_px) * seen[:, :2] / seen[:, 2:] + size_px / 2)
