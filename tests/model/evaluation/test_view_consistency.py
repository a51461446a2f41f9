"""Views of one motion: known displacements, and truly rendered views as the floor."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from model.errors import InputError
from model.evaluation.view_consistency import (
    LIPS,
    VIEW_METRICS,
    lip_motion_distance,
    lip_opening_r,
    lip_place_distance,
    view_scores,
    yaw_error_deg,
)
from model.motion.face_points import LOWER_LIP_INNER
from model.motion.space import load_motion_space
from tests.support.closeness import assert_close

FRAMES = 25


def _speaking() -> np.ndarray:
    points = np.repeat(load_motion_space().template[None], FRAMES, 0).astype(np.float32)
    points[:, LOWER_LIP_INNER, 1] -= 0.1 * (1 + np.sin(np.arange(FRAMES)))
    return points


def _turned(yaw_deg: float) -> np.ndarray:
    """Rotations of a head turned by yaw, in OpenCV axes."""
    turn = Rotation.from_euler("y", yaw_deg, degrees=True).as_matrix()
    return np.repeat((np.diag([1.0, -1.0, -1.0]) @ turn)[None], FRAMES, 0)


def test_equal_views_agree_wherever_the_head_is() -> None:
    points = _speaking()
    shifted = points + np.array([0.2, -0.1, 0.3], np.float32)
    for measure in (lip_place_distance, lip_motion_distance):
        assert_close(measure(shifted, points), np.zeros(FRAMES), precision="float32")
    assert lip_opening_r(shifted, points) == pytest.approx(1)


def test_one_misplaced_point_counts_as_it_should_and_only_for_place() -> None:
    """Moved by d, one of n points lies d (n-1)/n off, the others d/n by the mean's shift: 2 d (n-1)/n^2 on average."""
    points = _speaking()
    wrong = points.copy()
    wrong[:, LIPS[0], 0] += 0.4
    count = len(LIPS)
    assert_close(lip_place_distance(wrong, points), np.full(FRAMES, 0.8 * (count - 1) / count**2), precision="float32")
    assert_close(lip_motion_distance(wrong, points), np.zeros(FRAMES), precision="float32")


def test_a_view_that_moves_less_shows_in_motion_and_place() -> None:
    points = _speaking()
    still = np.repeat(points.mean(0, keepdims=True), FRAMES, 0)
    moved = np.abs(points[:, LOWER_LIP_INNER, 1] - points[:, LOWER_LIP_INNER, 1].mean())
    count = len(LIPS)
    wanted = moved * 2 * (count - 1) / count**2
    assert_close(lip_motion_distance(still, points), wanted, precision="float32")
    assert np.isnan(lip_opening_r(still, points))


def test_yaw_is_held_against_what_was_asked() -> None:
    assert_close(yaw_error_deg(_turned(20), _turned(0), 20), np.zeros(FRAMES))
    assert_close(yaw_error_deg(_turned(17), _turned(-1), 20), np.full(FRAMES, 2.0))
    assert_close(yaw_error_deg(_turned(-20), _turned(0), 20), np.full(FRAMES, 40.0))


def test_scores_of_all_views_against_the_frontal_one() -> None:
    points = _speaking()
    views = {-20.0: points, 0.0: points, 20.0: points}
    rotations = {yaw: _turned(yaw) for yaw in views}
    embeddings = {yaw: np.tile([np.cos(np.radians(yaw)), np.sin(np.radians(yaw))], (FRAMES, 1)) for yaw in views}
    scores = view_scores(views, rotations, embeddings)
    assert set(scores) == {-20.0, 20.0}
    for row in scores.values():
        assert set(row) == {m.name for m in VIEW_METRICS}
        assert row["view_identity"] == pytest.approx(np.cos(np.radians(20)))
        assert row["view_yaw_error"] == pytest.approx(0, abs=1e-9) and row["view_opening_r"] == pytest.approx(1)
    assert "view_identity" not in view_scores(views, rotations)[20.0]


def test_views_that_do_not_fit_are_refused() -> None:
    points = _speaking()
    lost = points.copy()
    lost[3] = np.nan
    for match, call in {
        r"\(25, 478, 3\) and \(24, 478, 3\)": lambda: lip_place_distance(points, points[1:]),
        "without lip landmarks": lambda: lip_motion_distance(points, lost),
        r"\(25, 3, 3\) and \(24, 3, 3\)": lambda: yaw_error_deg(_turned(0), _turned(0)[1:], 0),
        "needs the frontal view": lambda: view_scores({10.0: points, 20.0: points}, {10.0: points, 20.0: points}),
        "got 0, 20; 0$": lambda: view_scores({0.0: points, 20.0: points}, {0.0: _turned(0)}),
    }.items():
        with pytest.raises(InputError, match=match):
            call()


@pytest.mark.nightly
def test_truly_rendered_views_are_the_floor(data_folder: Path) -> None:
    """Twelve expressions seen from five sides: what tracker and network lose by themselves."""
    from model.data.capture import Capture
    from model.evaluation.identity import FaceEmbedder, align_faces, five_points
    from model.face.canonical import canonical_points
    from model.face.head_pose import estimate_head_pose
    from model.face.head_shape import load_head_shape
    from model.training.capture_faces import capture_faces
    from model.training.face_analysis import landmark_head

    capture, shape = Capture.open(data_folder / "capture"), load_head_shape()
    head = landmark_head(data_folder / "ict_facekit" / "ict_facekit.npz")
    faces = capture_faces(capture, "novel", head, data_folder / "weights" / "face_landmarker.task")
    pose = estimate_head_pose(faces.landmarks_px, shape, size=faces.size, intrinsics=faces.intrinsics)
    points = canonical_points(faces.landmarks_px, pose, shape)
    pictures = [cv2.imread(str(capture.root / capture.meta["frames"][row]["file"])) for row in faces.rows]
    aligned = align_faces(np.stack(pictures)[..., ::-1], five_points(faces.landmarks_px))
    embedder = FaceEmbedder(data_folder / "weights" / "mobilefacenet" / "MobileFaceNet.onnx")
    embeddings = embedder.embed(aligned)
    by_yaw = {-yaw: faces.rows % 5 == (faces.rows[0] + i) % 5 for i, yaw in enumerate((-20.0, -10.0, 0.0, 10.0, 20.0))}
    scores = view_scores(
        {yaw: points[rows] for yaw, rows in by_yaw.items()},
        {yaw: pose.frame_rotation[rows] for yaw, rows in by_yaw.items()},
        {yaw: embeddings[rows] for yaw, rows in by_yaw.items()},
    )
    for yaw, row in scores.items():
        far = abs(yaw) == 20
        assert row["view_lip_place"] < (0.02 if far else 0.013)
        assert row["view_lip_motion"] <= row["view_lip_place"]
        assert row["view_opening_r"] > 0.97 and row["view_yaw_error"] < 1.5
        assert row["view_identity"] > (0.85 if far else 0.92)
