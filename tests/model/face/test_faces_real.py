"""Golden figures of face reading on a rendered capture: pose, lips and jaw against exact truth.

All splits are in benchmarks/results/faces_capture.json, by `nerf-lipsync evaluate faces`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.evaluation.faces import rotation_errors_deg
from model.face.arkit_fit import fit_arkit
from model.face.calibration import calibrate_speaker
from model.face.canonical import canonical_points
from model.face.head_pose import estimate_head_pose
from model.face.head_shape import load_head_shape
from model.face.temporal_filter import filter_points
from model.motion.arkit import ARKIT_NAMES, arkit_from_ict
from model.motion.face_points import LIPS_INNER, LIPS_OUTER
from model.motion.space import load_motion_space
from model.training.capture_faces import CaptureFaces
from model.training.capture_pairs import capture_motion
from tests.support.tracked_faces import tracked_capture


@pytest.fixture(scope="module")
def faces(data_folder: Path) -> CaptureFaces:
    return tracked_capture(data_folder, "sequence")


def test_pose_lips_and_jaw_on_a_rendered_clip(faces: CaptureFaces, data_folder: Path) -> None:
    shape, space = load_head_shape(), load_motion_space()
    pose = estimate_head_pose(faces.landmarks_px, shape, size=faces.size, intrinsics=faces.intrinsics)
    assert np.median(rotation_errors_deg(pose.frame_rotation, faces.true_rotation)) <= 1.5
    points = canonical_points(faces.landmarks_px, pose, shape)
    points = np.concatenate([filter_points(points[i : i + 75]) for i in range(0, len(points), 75)])
    calibration = calibrate_speaker(points)
    truth = capture_motion(data_folder / "ict_facekit" / "ict_facekit.npz", data_folder / "capture")[faces.rows]
    opening = space.lip_opening(calibration.motion(points, space))
    assert np.corrcoef(opening, space.lip_opening(truth))[0, 1] >= 0.97
    jaw = ARKIT_NAMES.index("jawOpen")
    wanted = arkit_from_ict(faces.coefficients, faces.coefficient_names)[:, jaw]
    assert np.corrcoef(fit_arkit(points, calibration, shape)[:, jaw], wanted)[0, 1] >= 0.9


def test_lip_landmarks_lie_where_the_mesh_puts_them(faces: CaptureFaces) -> None:
    lips = [*LIPS_OUTER, *LIPS_INNER]
    true = faces.true_landmarks_px
    wrong = np.linalg.norm(faces.landmarks_px[:, lips, :2] - true[:, lips], axis=2).mean(1)
    eyes = np.linalg.norm(true[:, [33, 133]].mean(1) - true[:, [362, 263]].mean(1), axis=1)
    assert (wrong / eyes).mean() <= 0.02
