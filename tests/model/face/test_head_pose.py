"""Head pose and canonical points on landmarks made from known poses: what goes in must come out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from model.errors import InputError
from model.evaluation.faces import rotation_errors_deg, still_jitter_deg
from model.face.canonical import canonical_points
from model.face.head_pose import Intrinsics, estimate_head_pose, smooth_pose
from model.face.head_shape import OPENCV_FROM_HEAD, HeadShape, head_angles, load_head_shape

CAMERA = Intrinsics(fx_px=600.0, fy_px=600.0, cx_px=160.0, cy_px=150.0)
SIZE = (320, 300)


@pytest.fixture(scope="module")
def shape() -> HeadShape:
    return load_head_shape()


@pytest.fixture(scope="module")
def unbiased(shape: HeadShape) -> HeadShape:
    return dataclasses.replace(shape, pose_bias=np.zeros_like(shape.pose_bias))


def rotations(frames: int) -> NDArray[np.float64]:
    time = np.arange(frames) / 25
    angles = np.stack([20 * np.sin(1.3 * time), 8 * np.sin(0.9 * time + 1), 5 * np.cos(0.7 * time)], 1)
    return OPENCV_FROM_HEAD @ Rotation.from_euler("YXZ", angles, degrees=True).as_matrix()


def project(
    points_cm: NDArray[np.float64], rotation: NDArray[np.float64], distance_cm: float = 65.0
) -> NDArray[np.float32]:
    """Landmarks as the tracker gives them: pixels, depth in pixels about the head's middle."""
    seen = np.einsum("tij,tnj->tni", rotation, points_cm) + np.array([1.5, -0.5, distance_cm])
    x = CAMERA.fx_px * seen[..., 0] / seen[..., 2] + CAMERA.cx_px
    y = CAMERA.fy_px * seen[..., 1] / seen[..., 2] + CAMERA.cy_px
    z = CAMERA.fx_px * (seen[..., 2] - distance_cm) / distance_cm
    return np.stack([x, y, z], -1).astype(np.float32)


def test_a_known_pose_is_found(shape: HeadShape) -> None:
    true = rotations(40)
    landmarks = project(np.broadcast_to(shape.neutral, (40, 478, 3)).astype(np.float64), true)
    pose = estimate_head_pose(landmarks, shape, size=SIZE, intrinsics=CAMERA)
    assert rotation_errors_deg(pose.frame_rotation, true).max() < 0.01
    np.testing.assert_allclose(pose.frame_translation, np.tile([1.5, -0.5, 65.0], (40, 1)), atol=0.02)
    assert pose.reprojection_px.max() < 0.01
    assert rotation_errors_deg(pose.rotation, true).max() < 1.0


def test_an_unknown_focal_length_hardly_turns_the_head(shape: HeadShape) -> None:
    true = rotations(30)
    landmarks = project(np.broadcast_to(shape.neutral, (30, 478, 3)).astype(np.float64), true, 90.0)
    pose = estimate_head_pose(landmarks, shape, size=SIZE)
    assert pose.intrinsics.estimated
    assert np.median(pose.frame_translation[:, 2]) == pytest.approx(60.0, rel=0.05)
    assert np.median(rotation_errors_deg(pose.frame_rotation, true)) < 2.0


def test_an_open_mouth_does_not_turn_the_head(shape: HeadShape) -> None:
    jaw = shape.expressions[shape.expression_names.index("jawOpen")]
    points = np.stack([shape.neutral, shape.neutral + 0.8 * jaw]).astype(np.float64)
    pose = estimate_head_pose(project(points, np.repeat(rotations(1), 2, 0)), shape, size=SIZE, intrinsics=CAMERA)
    assert rotation_errors_deg(pose.frame_rotation[:1], pose.frame_rotation[1:])[0] < 1.0


def test_canonical_points_undo_pose_and_camera(unbiased: HeadShape) -> None:
    true = rotations(25)
    jaw = unbiased.expressions[unbiased.expression_names.index("jawOpen")]
    opening = np.linspace(0, 0.6, 25)[:, None, None]
    points = unbiased.neutral + opening * jaw
    landmarks = project(points.astype(np.float64), true)
    pose = estimate_head_pose(landmarks, unbiased, size=SIZE, intrinsics=CAMERA)
    found = canonical_points(landmarks, pose, unbiased)
    np.testing.assert_allclose(found[..., :2], (points / unbiased.inter_ocular_cm)[..., :2], atol=0.05)


def test_the_tracker_bias_is_taken_out(shape: HeadShape) -> None:
    true = rotations(20)
    crooked = shape.neutral + shape.tracker_bias(true) * shape.inter_ocular_cm
    landmarks = project(crooked.astype(np.float64), true)
    pose = estimate_head_pose(landmarks, shape, size=SIZE, intrinsics=CAMERA)
    pose = dataclasses.replace(pose, frame_rotation=true)  # as if the pose were exact
    wrong = canonical_points(landmarks, pose, shape) - shape.neutral / shape.inter_ocular_cm
    assert np.abs(wrong - wrong.mean(0)).max() < 0.03


def test_angles_have_the_documented_signs() -> None:
    left = OPENCV_FROM_HEAD @ Rotation.from_euler("y", 10, degrees=True).as_matrix()
    down = OPENCV_FROM_HEAD @ Rotation.from_euler("x", 10, degrees=True).as_matrix()
    np.testing.assert_allclose(np.degrees(head_angles(left)), [10, 0, 0], atol=1e-9)
    np.testing.assert_allclose(np.degrees(head_angles(down)), [0, 10, 0], atol=1e-9)


def test_smoothing_has_no_delay_and_no_say_on_short_clips() -> None:
    time = np.arange(75) / 25
    slow = OPENCV_FROM_HEAD @ Rotation.from_rotvec(np.stack([0.02 * time**2, 0.05 * time, 0 * time], 1)).as_matrix()
    moved = np.stack([time, time**2, 60 + time], 1)
    rotation, translation = smooth_pose(slow, moved)
    assert rotation_errors_deg(rotation, slow).max() < 0.05
    np.testing.assert_allclose(translation, moved, atol=1e-9)
    for frames in (1, 2, 3):
        np.testing.assert_array_equal(smooth_pose(slow[:frames], moved[:frames])[0], slow[:frames])
        np.testing.assert_array_equal(smooth_pose(slow[:frames], moved[:frames])[1], moved[:frames])


def test_jitter_is_what_was_added() -> None:
    noise = np.random.default_rng(0).normal(0, 0.2, (400, 3))
    found = still_jitter_deg(Rotation.from_rotvec(np.radians(noise)).as_matrix())
    assert found == pytest.approx(0.2 * 3**0.5, rel=0.15)  # a quadratic over 13 frames takes up little of it
    spin = Rotation.from_rotvec(np.radians(np.outer(np.arange(100), [0.0, 1.0, 0.0])))
    assert np.isnan(still_jitter_deg(spin.as_matrix()))


def test_missing_landmarks_are_refused(shape: HeadShape) -> None:
    with pytest.raises(InputError, match="NaN"):
        estimate_head_pose(np.full((2, 478, 3), np.nan, np.float32), shape, size=SIZE)
    with pytest.raises(InputError, match="-5"):
        Intrinsics(fx_px=-5, fy_px=1, cx_px=0, cy_px=0)
