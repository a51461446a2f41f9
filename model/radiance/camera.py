"""Cameras and head poses: how the HEAD turns before a still camera.

World and head-local axes: x to the subject's left, y up, z out of the face (right-handed). Cameras have OpenCV axes
(x right, y down, z forward); pixel centres at +0.5. `R = Ry(yaw) Rx(pitch) Rz(roll)`; yaw > 0 turns to the subject's
left, pitch > 0 looks down, roll > 0 tilts the top of the head to the subject's right. NumPy only; float64 inside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.errors import ConfigError

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadPose:
    """Rotation of the head in degrees; zero looks into the frontal camera."""

    yaw_deg: float = 0.0
    pitch_deg: float = 0.0
    roll_deg: float = 0.0

    def rotation_vector(self) -> Matrix:
        """(3,) radians."""
        return rotation_vector(pose_matrix(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class NeckConfig:
    """Two pivots (head-local units) that share the head's rotation; the shares sum to 1."""

    pivot_low: tuple[float, float, float] = (0.0, -12.5, -2.5)
    pivot_high: tuple[float, float, float] = (0.0, -2.5, -0.5)
    share_low: float = 0.42
    share_high: float = 0.58

    def __post_init__(self) -> None:
        if not math.isclose(self.share_low + self.share_high, 1.0, abs_tol=1e-6):
            raise ConfigError(f"neck shares must sum to 1, got {self.share_low} + {self.share_high}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraConfig:
    """A pinhole camera for a picture of `size_px` squared pixels."""

    size_px: int
    fx_px: float
    fy_px: float
    cx_px: float
    cy_px: float
    cam_to_world: tuple[tuple[float, float, float, float], ...]  # 3 or 4 rows

    def __post_init__(self) -> None:
        if self.size_px < 1 or self.fx_px <= 0 or self.fy_px <= 0:
            raise ConfigError(f"camera needs a positive size and focal length, got {self.size_px}, {self.fx_px}")

    def matrix(self) -> Matrix:
        """`cam_to_world` (4, 4)."""
        matrix = np.eye(4)
        matrix[:3] = np.asarray(self.cam_to_world, np.float64)[:3]
        return matrix

    def intrinsics(self, size_px: int) -> tuple[float, float, float, float]:
        """`fx, fy, cx, cy` in pixels of a picture of another size."""
        ratio = size_px / self.size_px
        return self.fx_px * ratio, self.fy_px * ratio, self.cx_px * ratio, self.cy_px * ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class CanonicalSpace:
    """`canonical = (head_local - centre) / scale`, inside [-1, 1]^3."""

    centre: tuple[float, float, float] = (0.0, 1.0, -1.0)
    scale: float = 17.0

    def from_head(self, points: NDArray[np.floating]) -> Matrix:
        """(..., 3) head-local to canonical."""
        return np.asarray((np.asarray(points, np.float64) - np.asarray(self.centre)) / self.scale, np.float64)

    def to_head(self, points: NDArray[np.floating]) -> Matrix:
        """(..., 3) canonical to head-local."""
        return np.asarray(np.asarray(points, np.float64) * self.scale + np.asarray(self.centre), np.float64)


def rotation_matrix(vector: NDArray[np.floating]) -> Matrix:
    """Rodrigues: a rotation vector (3,) in radians to (3, 3)."""
    vector = np.asarray(vector, np.float64)
    angle = float(np.linalg.norm(vector))
    x, y, z = vector
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    if angle < 1e-8:
        return np.asarray(np.eye(3) + cross, np.float64)
    turned = np.eye(3) + math.sin(angle) / angle * cross + (1 - math.cos(angle)) / angle**2 * cross @ cross
    return np.asarray(turned, np.float64)


def rotation_vector(matrix: NDArray[np.floating]) -> Matrix:
    """(3, 3) to a rotation vector (3,); angles below pi."""
    skew = np.array([matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]])
    sine = float(np.linalg.norm(skew)) / 2
    angle = math.atan2(sine, (float(np.trace(matrix)) - 1) / 2)
    return np.asarray(skew / 2 if sine < 1e-9 else skew * (angle / (2 * sine)), np.float64)


def pose_matrix(pose: HeadPose) -> Matrix:
    """`Ry(yaw) Rx(pitch) Rz(roll)` (3, 3)."""
    yaw, pitch, roll = np.deg2rad([pose.yaw_deg, pose.pitch_deg, pose.roll_deg])
    turn = rotation_matrix(np.array([0.0, yaw, 0.0]))
    nod = rotation_matrix(np.array([pitch, 0.0, 0.0]))
    return turn @ nod @ rotation_matrix(np.array([0.0, 0.0, roll]))


def head_matrix(rotvec: NDArray[np.floating], neck: NeckConfig) -> Matrix:
    """Head-local to world (4, 4): the two neck joints share the rotation vector."""
    low = _rotation_about(neck.pivot_low, neck.share_low * np.asarray(rotvec))
    return low @ _rotation_about(neck.pivot_high, neck.share_high * np.asarray(rotvec))


def cam_to_canonical(head_to_world: Matrix, cam_to_world: Matrix, space: CanonicalSpace) -> NDArray[np.float32]:
    """(3, 4) float32: orthonormal rotation of camera axes, and the camera's place in canonical space."""
    local = np.linalg.inv(head_to_world) @ cam_to_world
    local[:3, 3] = space.from_head(local[:3, 3])
    return np.ascontiguousarray(local[:3], np.float32)


def _rotation_about(pivot: tuple[float, float, float], vector: NDArray[np.floating]) -> Matrix:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation_matrix(vector)
    matrix[:3, 3] = np.asarray(pivot) - matrix[:3, :3] @ np.asarray(pivot)
    return matrix
