"""Head poses and cameras."""

from __future__ import annotations

import numpy as np
import pytest

from model.errors import ConfigError
from model.radiance.camera import (
    CameraConfig,
    CanonicalSpace,
    HeadPose,
    NeckConfig,
    cam_to_canonical,
    head_matrix,
    pose_matrix,
    rotation_matrix,
    rotation_vector,
)


def test_rotation_vector_inverts_the_pose() -> None:
    matrix = pose_matrix(HeadPose(yaw_deg=20, pitch_deg=-10, roll_deg=5))
    np.testing.assert_allclose(rotation_matrix(rotation_vector(matrix)), matrix, atol=1e-12)


def test_yaw_turns_the_nose_to_the_subjects_left() -> None:
    nose = pose_matrix(HeadPose(yaw_deg=20)) @ np.array([0.0, 0.0, 1.0])
    assert nose[0] > 0.3


def test_pitch_looks_down_and_roll_tilts_to_the_subjects_right() -> None:
    assert (pose_matrix(HeadPose(pitch_deg=10)) @ np.array([0.0, 0.0, 1.0]))[1] < 0
    assert (pose_matrix(HeadPose(roll_deg=10)) @ np.array([0.0, 1.0, 0.0]))[0] < 0


def test_rest_pose_is_the_identity(camera: CameraConfig) -> None:
    np.testing.assert_array_equal(head_matrix(HeadPose().rotation_vector(), NeckConfig()), np.eye(4))
    space = CanonicalSpace()
    matrix = cam_to_canonical(np.eye(4), camera.matrix(), space)
    np.testing.assert_allclose(space.to_head(matrix[:, 3]), [0, 0, 72], atol=1e-4)
    np.testing.assert_allclose(matrix[:, 2], [0, 0, -1], atol=1e-6)


def test_joints_share_the_whole_rotation() -> None:
    rotvec = np.array([0.1, -0.3, 0.05])
    np.testing.assert_allclose(head_matrix(rotvec, NeckConfig())[:3, :3], rotation_matrix(rotvec), atol=1e-12)


def test_shares_must_sum_to_one() -> None:
    with pytest.raises(ConfigError, match=r"0\.5"):
        NeckConfig(share_low=0.5)


def test_intrinsics_scale_with_the_picture(camera: CameraConfig) -> None:
    assert camera.intrinsics(64) == (120.0, 120.0, 32.0, 32.0)
