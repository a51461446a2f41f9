"""Head pose of every frame of a clip: a rigid mean face laid under its landmarks by Gauss-Newton.

Each landmark gives three residuals: its picture position (two) and the tracker's relative depth, which counts half.
The depth decides: with it the rotation error on the rendered capture is 1.0 degree (median, turns of +-25 degrees),
without it 1.3. Fitting the person's own shape as well makes it worse (shape and pitch explain each other), so the
mean face is used for everybody.

Rotation and translation go from head axes (x to the subject's left, y up, z out; centimetres of the mean face) to
camera axes (OpenCV: x right, y down, z forward).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.signal import savgol_filter
from scipy.spatial.transform import Rotation

from model.errors import InputError
from model.face.head_shape import STABLE, HeadShape, head_angles
from model.motion.face_points import RIGID

ASSUMED_DISTANCE_CM = 60.0
"""Where a camera of unknown focal length is taken to stand.

Landmarks do not tell it: their reprojection error is least at about 60 cm both for the capture (filmed from 72 cm) and
for GRID, because that is the view the tracker was trained to explain. The rotation hardly depends on it.
"""
DEPTH_SIGMA = 2.0  # standard deviation of a landmark's depth over that of its picture position
HUBER = 2.0  # residuals beyond this many pixels at 100 px between the eyes count linearly
MAX_ITERATIONS = 15
SMOOTHING_FRAMES = 21  # of 5 to 25, the one nearest to the rendered capture's true rotation
SMOOTHING_ORDER = 2

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Intrinsics:
    """A pinhole camera without distortion; pixel centres at +0.5."""

    fx_px: float
    fy_px: float
    cx_px: float
    cy_px: float
    estimated: bool = False

    def __post_init__(self) -> None:
        if not (self.fx_px > 0 and self.fy_px > 0):
            raise InputError(f"focal lengths must be positive, got {self.fx_px} and {self.fy_px} px")


@dataclass(frozen=True)
class HeadPose:
    """Pose of T frames: smoothed over the clip, and as each frame alone says."""

    rotation: Float64  # (T, 3, 3) smoothed
    translation: Float64  # (T, 3) cm, smoothed
    frame_rotation: Float64  # (T, 3, 3)
    frame_translation: Float64  # (T, 3) cm
    reprojection_px: Float64  # (T,) mean distance of stable landmarks from the mean face's
    intrinsics: Intrinsics

    @property
    def angles_deg(self) -> Float64:
        """(T, 3) smoothed yaw, pitch, roll (see `head_angles`)."""
        return np.degrees(head_angles(self.rotation))


def estimate_head_pose(
    landmarks_px: NDArray[np.float32],  # (T, 478, 3), no NaN
    shape: HeadShape,
    *,
    size: tuple[int, int],  # width, height of the picture
    intrinsics: Intrinsics | None = None,
) -> HeadPose:
    """Pose of every frame; the focal length is taken from `intrinsics`, or from an assumed distance of the subject.

    Raises:
        InputError: A frame has no landmarks.
    """
    if not np.isfinite(landmarks_px).all():
        raise InputError("landmarks hold NaN; fill the gaps or split the clip first")
    points = landmarks_px.astype(np.float64)
    camera = intrinsics or _assumed_intrinsics(points, shape, size)
    rotation, translation = _initial(points, shape, camera)
    rotation, translation, error = _refine(points, shape, camera, rotation, translation)
    smooth_rotation, smooth_translation = smooth_pose(rotation, translation)
    return HeadPose(smooth_rotation, smooth_translation, rotation, translation, error, camera)


def smooth_pose(rotation: Float64, translation: Float64) -> tuple[Float64, Float64]:
    """Local quadratic fit over `SMOOTHING_FRAMES` frames (Savitzky-Golay), without delay.

    Rotations are smoothed as rotation vectors about the clip's mean. Clips of up to three frames stay as they are.
    """
    frames = min(SMOOTHING_FRAMES, len(translation) - (len(translation) + 1) % 2)
    if frames <= SMOOTHING_ORDER + 1:
        return rotation, translation
    mean = Rotation.from_matrix(rotation).mean()
    local = (mean.inv() * Rotation.from_matrix(rotation)).as_rotvec()
    local = savgol_filter(local, frames, SMOOTHING_ORDER, axis=0)
    moved = savgol_filter(translation, frames, SMOOTHING_ORDER, axis=0)
    return np.asarray((mean * Rotation.from_rotvec(local)).as_matrix()), np.asarray(moved)


def _assumed_intrinsics(points: Float64, shape: HeadShape, size: tuple[int, int]) -> Intrinsics:
    """A camera at the assumed distance, its axis through the middle of the picture."""
    width, height = size
    spread_px = np.linalg.norm(points[:, RIGID] - points[:, RIGID].mean(1, keepdims=True), axis=2).mean()
    rigid = shape.neutral[list(RIGID)]
    spread_cm = np.linalg.norm(rigid - rigid.mean(0), axis=1).mean()
    focal = ASSUMED_DISTANCE_CM * float(spread_px / spread_cm)
    first = Intrinsics(fx_px=focal, fy_px=focal, cx_px=width / 2, cy_px=height / 2, estimated=True)
    every = max(1, len(points) // 25)
    _, translation = _initial(points[::every], shape, first)
    focal *= ASSUMED_DISTANCE_CM / float(np.median(translation[:, 2]))
    return replace(first, fx_px=focal, fy_px=focal)


def _initial(points: Float64, shape: HeadShape, camera: Intrinsics) -> tuple[Float64, Float64]:
    matrix = np.array([[camera.fx_px, 0, camera.cx_px], [0, camera.fy_px, camera.cy_px], [0, 0, 1.0]])
    model = shape.neutral[list(RIGID)].astype(np.float64)
    rotations, translations = [], []
    for frame in np.ascontiguousarray(points[:, RIGID, :2]):
        _, rotvec, translation = cv2.solvePnP(model, frame, matrix, np.zeros(4), flags=cv2.SOLVEPNP_SQPNP)
        rotations.append(cv2.Rodrigues(rotvec)[0])
        translations.append(translation.ravel())
    return np.array(rotations), np.array(translations)


def _refine(
    points: Float64, shape: HeadShape, camera: Intrinsics, rotation: Float64, translation: Float64
) -> tuple[Float64, Float64, Float64]:
    """Robust Gauss-Newton over all frames at once; returns rotation, translation and mean pixel error per frame."""
    stable = list(STABLE)
    model, seen = shape.neutral[stable].astype(np.float64), points[:, stable]
    depth = seen[..., 2] - seen[..., 2].mean(1, keepdims=True)
    unit_px = np.linalg.norm(points[:, 133, :2] - points[:, 362, :2], axis=1).mean() / 50  # 100 px between the eyes
    weight = np.array([1.0, 1.0, 1.0 / DEPTH_SIGMA])
    for _ in range(MAX_ITERATIONS):
        residual, jacobian = _linearise(seen, depth, model, camera, rotation, translation)
        residual, jacobian = residual * weight, jacobian * weight[:, None]
        size = np.sqrt((residual**2).sum(-1))
        robust = np.minimum(1.0, HUBER * unit_px / np.maximum(size, 1e-9))
        flat = (jacobian * robust[..., None, None]).reshape(len(seen), -1, 6)
        normal = flat.transpose(0, 2, 1) @ jacobian.reshape(len(seen), -1, 6)
        gradient = np.einsum("tni,tn->ti", flat, residual.reshape(len(seen), -1))
        step = np.linalg.solve(normal + 1e-9 * np.eye(6), gradient[..., None])[..., 0]
        rotation = Rotation.from_rotvec(step[:, :3]).as_matrix() @ rotation
        translation = translation + step[:, 3:]
        if np.abs(step[:, :3]).max() < 1e-5:
            break
    residual, _ = _linearise(seen, depth, model, camera, rotation, translation)
    return rotation, translation, np.linalg.norm(residual[..., :2], axis=2).mean(1)


def _linearise(
    seen: Float64, depth: Float64, model: Float64, camera: Intrinsics, rotation: Float64, translation: Float64
) -> tuple[Float64, Float64]:
    """Residuals (T, N, 3) and their derivatives (T, N, 3, 6) by a left rotation and a translation."""
    turned = np.einsum("tij,nj->tni", rotation, model)
    x, y, z = np.moveaxis(turned + translation[:, None], -1, 0)
    distance = translation[:, 2][:, None]
    found_depth = camera.fx_px * turned[..., 2] / distance
    found_depth = found_depth - found_depth.mean(1, keepdims=True)
    residual = np.stack(
        [
            seen[..., 0] - (camera.fx_px * x / z + camera.cx_px),
            seen[..., 1] - (camera.fy_px * y / z + camera.cy_px),
            depth - found_depth,
        ],
        -1,
    )
    spin = -_cross_matrices(turned)
    zero = np.zeros_like(z)
    u = np.stack([camera.fx_px / z, zero, -camera.fx_px * x / z**2], -1)
    v = np.stack([zero, camera.fy_px / z, -camera.fy_px * y / z**2], -1)
    by_depth = camera.fx_px / distance[..., None] * spin[..., 2, :]
    by_depth = by_depth - by_depth.mean(1, keepdims=True)
    far = np.stack([zero, zero, -found_depth / distance], -1)
    rows = [
        np.concatenate([np.einsum("tni,tnij->tnj", u, spin), u], -1),
        np.concatenate([np.einsum("tni,tnij->tnj", v, spin), v], -1),
        np.concatenate([by_depth, far], -1),
    ]
    return residual, np.stack(rows, 2)


def _cross_matrices(vectors: Float64) -> Float64:
    x, y, z = np.moveaxis(vectors, -1, 0)
    zero = np.zeros_like(x)
    rows = [np.stack([zero, -z, y], -1), np.stack([z, zero, -x], -1), np.stack([-y, x, zero], -1)]
    return np.stack(rows, -2)
