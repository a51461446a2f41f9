"""The licence-free head in FLAME's layout: it must move as ICT-FaceKit does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.errors import DataError
from model.face.flame_layout import (
    JAW,
    LEFT_EYE,
    MULTI_PIE,
    FaceRegions,
    build_flame_layout,
    ict_regions,
    jaw_motion,
    load_mediapipe_vertices,
    sphere_centre,
)
from model.face.head_files import write_head
from model.face.head_models import HeadModel, load_head_model
from model.face.ict_head import IctHead
from tests.support.closeness import assert_close
from tests.support.small_head import JAW_ANGLE_RAD, JAW_CENTRE, small_ict_head

METRES = 0.01


@pytest.fixture(scope="module", params=["small", "real"])
def built(request: pytest.FixtureRequest) -> tuple[IctHead, FaceRegions, HeadModel]:
    if request.param == "small":
        ict, regions = small_ict_head()
    else:
        data: Path = request.getfixturevalue("data_folder")
        ict = IctHead.load(data / "ict_facekit" / "ict_facekit.npz")
        regions = ict_regions(load_mediapipe_vertices())
    return ict, regions, HeadModel(build_flame_layout(ict, regions))


def pose(value: list[float]) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.float32)


def jaw_angle(ict: IctHead, regions: FaceRegions) -> float:
    opened = ict.expression_basis(["jawOpen"])[0].astype(np.float64)
    return jaw_motion(ict.neutral.astype(np.float64), opened, regions.lower_teeth).angle


def vertices(model: HeadModel, **parts: torch.Tensor) -> NDArray[np.float32]:
    return model.forward(**parts).vertices[0].numpy()


def test_jaw_axis_of_a_known_rotation() -> None:
    ict, regions = small_ict_head()
    opened = ict.expression_basis(["jawOpen"])[0].astype(np.float64)
    found = jaw_motion(ict.neutral.astype(np.float64), opened, regions.lower_teeth)
    assert abs(found.angle - JAW_ANGLE_RAD) < 1e-5
    assert np.abs(found.centre - JAW_CENTRE).max() < 1e-4
    with pytest.raises(DataError, match="lower teeth turn by"):
        jaw_motion(ict.neutral.astype(np.float64), 0 * opened, regions.lower_teeth)


def test_identity_and_expression_are_ict_s(built: tuple[IctHead, FaceRegions, HeadModel]) -> None:
    ict, _, model = built
    identity = np.random.default_rng(2).normal(size=model.num_betas).astype(np.float32)
    weights = np.random.default_rng(3).uniform(0.0, 0.6, model.num_expressions).astype(np.float32)
    basis = ict.expression_basis(model.expression_names)
    wanted = ict.shape(identity.tolist()) + np.tensordot(weights, basis, 1)
    found = vertices(model, betas=torch.from_numpy(identity)[None], expression=torch.from_numpy(weights)[None])
    assert np.abs(found - METRES * wanted).max() < 1e-6
    assert "jawOpen" not in model.expression_names
    assert len(model.expression_names) == len(ict.expression_names) - 1


def test_the_jaw_joint_alone_gives_jaw_open(built: tuple[IctHead, FaceRegions, HeadModel]) -> None:
    ict, regions, model = built
    angle = jaw_angle(ict, regions)
    opened = METRES * ict.expression_basis(["jawOpen"])[0]
    for share, tolerance_m in ((0.0, 1e-6), (0.5, 3e-3), (1.0, 1e-6)):  # between the ends arc and chord differ
        found = vertices(model, jaw_pose=pose([share * angle, 0.0, 0.0]))
        assert np.abs(found - METRES * ict.neutral - share * opened).max() < tolerance_m


def test_jaw_rotation_opens_the_mouth_downward(built: tuple[IctHead, FaceRegions, HeadModel]) -> None:
    _, _, model = built
    closed = model.forward().landmarks[0]
    opened = model.forward(jaw_pose=pose([0.25, 0.0, 0.0])).landmarks[0]
    moved = (opened - closed).numpy()
    assert moved[14, 1] < -0.008  # lower inner lip, metres
    assert moved[152, 1] < -0.01  # chin
    assert abs(moved[13, 1]) < 0.3 * abs(moved[14, 1])  # upper inner lip
    assert np.abs(moved[[33, 133, 362, 263, 10]]).max() < 1e-3  # eye corners, forehead


def test_landmarks_lie_where_ict_puts_them(built: tuple[IctHead, FaceRegions, HeadModel]) -> None:
    ict, regions, model = built
    assert_close(model.forward().landmarks[0], METRES * ict.neutral[regions.mediapipe])
    assert_close(model.forward(landmarks="ibug68").landmarks[0], METRES * ict.neutral[regions.ibug])


def test_weights_and_joints(built: tuple[IctHead, FaceRegions, HeadModel]) -> None:
    ict, regions, model = built
    head = model.head
    assert np.abs(head.weights.sum(1) - 1).max() < 1e-6
    assert head.weights.min() >= 0
    assert head.weights[regions.lower_teeth, JAW].min() > 0.9
    assert (head.weights[regions.left_eyeball, LEFT_EYE] == 1).all()
    assert np.abs(head.joint_regressor.sum(1) - 1).max() < 1e-4
    joints = head.joint_regressor @ head.v_template
    centre = sphere_centre(ict.neutral[regions.left_eyeball].astype(np.float64))
    assert np.abs(joints[LEFT_EYE] - METRES * centre).max() < 1e-5
    wider = head.joint_regressor @ (1.1 * head.v_template)
    assert np.abs(wider - 1.1 * joints).max() < 1e-5  # joints follow the identity


def test_the_neck_turns_the_whole_face_and_leaves_the_collar(data_folder: Path) -> None:
    ict = IctHead.load(data_folder / "ict_facekit" / "ict_facekit.npz")
    model = HeadModel(build_flame_layout(ict, ict_regions(load_mediapipe_vertices())))
    rest, turned = vertices(model), vertices(model, neck_pose=pose([0.0, 0.4, 0.0]))
    face = [MULTI_PIE[i] for i in (8, 30, 36, 45, 51, 57)]  # chin, nose, eyes, lips: one rigid body
    before, after = rest[face], turned[face]
    assert_close(
        np.linalg.norm(after[:, None] - after[None], axis=2), np.linalg.norm(before[:, None] - before[None], axis=2)
    )
    assert after[1, 0] - before[1, 0] > 0.03  # to the subject's left
    collar = rest[:, 1] < -0.17
    assert np.abs(turned - rest)[collar].max() < 2e-3


def test_the_contour_slides_to_the_outline_of_the_far_side(data_folder: Path) -> None:
    ict = IctHead.load(data_folder / "ict_facekit" / "ict_facekit.npz")
    model = HeadModel(build_flame_layout(ict, ict_regions(load_mediapipe_vertices())))
    for yaw_deg, far in ((30, slice(11, 17)), (-30, slice(0, 6))):
        found = model.forward(neck_pose=pose([0.0, np.deg2rad(yaw_deg), 0.0]), landmarks="ibug68")
        skin = found.vertices[0, :9409].numpy()
        frontal = skin[np.array(MULTI_PIE)[far]]
        reach = [_reach(skin, point, 1 if yaw_deg > 0 else -1) for point in found.landmarks[0, far].numpy()]
        frontal_reach = [_reach(skin, point, 1 if yaw_deg > 0 else -1) for point in frontal]
        assert np.mean(reach) < 2e-3  # metres
        assert np.mean(frontal_reach) > 5e-3  # where the contour would be if it stayed


def _reach(skin: NDArray[np.float32], point: NDArray[np.float32], side: int) -> float:
    """How far the outline at a point's height is beyond the point."""
    level = side * skin[np.abs(skin[:, 1] - point[1]) < 0.003, 0]
    return float(level.max() - side * point[0])


def test_written_and_read_again_it_is_the_same(tmp_path: Path) -> None:
    ict, regions = small_ict_head()
    head = build_flame_layout(ict, regions)
    written = write_head(tmp_path, head)
    assert {path.name for path in written} >= {"head.npz", "about.json", "mediapipe.npz", "contour.npz"}
    again = load_head_model(tmp_path)
    parts = {"expression": torch.full((1, 13), 0.2), "jaw_pose": pose([0.2, 0.0, 0.0])}
    assert_close(again.forward(**parts).vertices, HeadModel(head).forward(**parts).vertices)
    assert again.expression_names == head.about.expression_names
    assert "MIT" in again.head.about.licence
    (tmp_path / "head.npz").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"head\.npz is not an npz"):
        load_head_model(tmp_path)
    with pytest.raises(DataError, match=r"no head model in .*head-model"):
        load_head_model(tmp_path / "nowhere")
