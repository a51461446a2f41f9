"""Motion codes to a head's parameters and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.errors import InputError
from model.face.flame_layout import build_flame_layout, ict_regions, load_mediapipe_vertices
from model.face.head_files import Embedding
from model.face.head_models import HeadModel
from model.face.head_motion import HeadMotion, MotionTolerance
from model.face.ict_head import IctHead
from model.motion.face_points import EYE_CORNERS_LEFT, EYE_CORNERS_RIGHT, LIPS_INNER, LIPS_OUTER, MOUTH
from model.motion.space import MotionSpace, MotionSpaceError, load_motion_space
from model.training.motion_space import CaptureMotion, ict_motion
from tests.support.closeness import assert_close
from tests.support.small_head import small_ict_head


@pytest.fixture(scope="module")
def space() -> MotionSpace:
    return load_motion_space()


@pytest.fixture(scope="module")
def small() -> HeadModel:
    return HeadModel(build_flame_layout(*small_ict_head()))


def with_landmarks(model: HeadModel, numbers: list[int]) -> HeadModel:
    """The same head with only these MediaPipe landmarks."""
    embedding = model.head.mediapipe
    assert embedding is not None and embedding.mediapipe is not None
    kept = np.flatnonzero(np.isin(embedding.mediapipe, numbers))
    part = Embedding(embedding.face[kept], embedding.barycentric[kept], embedding.mediapipe[kept])
    return HeadModel(replace(model.head, mediapipe=part))


def lips_only(model: HeadModel) -> HeadModel:
    return with_landmarks(model, [*LIPS_OUTER, *LIPS_INNER, *EYE_CORNERS_RIGHT, *EYE_CORNERS_LEFT])


def test_shown_motion_comes_back(small: HeadModel, space: MotionSpace) -> None:
    rng = np.random.default_rng(0)
    motion_of = HeadMotion(small, space, betas=rng.normal(size=small.num_betas))
    expression = rng.uniform(0.0, 0.5, (90, small.num_expressions))
    jaw = rng.uniform(0.0, 0.3, (90, 1)) * [1.0, 0.0, 0.0]
    shown = motion_of.to_motion(expression, jaw)
    assert shown.shape == (90, 32)
    assert np.abs(shown[:, 22:]).max() == 0  # gaze and reserve
    found = motion_of.from_motion(shown)
    assert np.abs(motion_of.to_motion(found.expression, found.jaw_pose) - shown).max() < 0.02


def test_rest_is_zero_both_ways(small: HeadModel, space: MotionSpace) -> None:
    motion_of = HeadMotion(small, space)
    assert np.abs(motion_of.to_motion(np.zeros((1, small.num_expressions)), np.zeros((1, 3)))).max() < 1e-6
    found = motion_of.from_motion(np.zeros((3, 32), np.float32))
    assert np.abs(found.expression).max() < 1e-6
    assert np.abs(found.jaw_pose).max() < 1e-6
    assert motion_of.from_motion(np.zeros((0, 32), np.float32)).jaw_pose.shape == (0, 3)


def test_opening_the_jaw_opens_the_lips(small: HeadModel, space: MotionSpace) -> None:
    motion_of = HeadMotion(small, space)
    jaw = np.linspace(0.0, 0.3, 5)[:, None] * [1.0, 0.0, 0.0]
    opening = space.lip_opening(motion_of.to_motion(np.zeros((5, small.num_expressions)), jaw))
    assert (np.diff(opening) > 0.02).all()
    found = motion_of.from_motion(motion_of.to_motion(np.zeros((5, small.num_expressions)), jaw))
    assert (np.diff(found.jaw_pose[:, 0]) > 0).all()


def test_each_frame_is_on_its_own(small: HeadModel, space: MotionSpace) -> None:
    motion = np.random.default_rng(1).normal(0.0, 0.3, (70, 32)).astype(np.float32)  # more than one chunk
    motion_of = HeadMotion(small, space)
    whole = motion_of.from_motion(motion)
    assert_close(motion_of.from_motion(motion[66:67]).expression[0], whole.expression[66], precision="float64")


def test_a_head_with_lips_only_carries_the_mouth(small: HeadModel, space: MotionSpace) -> None:
    lips = lips_only(small)
    motion_of = HeadMotion(lips, space)
    assert motion_of.carried.tolist() == [True] * 16 + [False] * 16
    jaw = np.array([[0.2, 0.0, 0.0]])
    zero = np.zeros((1, small.num_expressions))
    whole = space.lip_opening(HeadMotion(small, space).to_motion(zero, jaw))
    assert (
        abs(space.lip_opening(motion_of.to_motion(zero, jaw)) / whole - 1) < 0.25
    )  # this made-up jaw moves as no face does
    with pytest.raises(InputError, match="needs lips and eye corners"):
        HeadMotion(with_landmarks(small, list(MOUTH)), space)


def test_motion_of_another_width_is_refused(small: HeadModel, space: MotionSpace) -> None:
    with pytest.raises(MotionSpaceError):
        HeadMotion(small, space).from_motion(np.zeros((4, 31), np.float32))


def test_recorded_motion_on_the_real_head(data_folder: Path, space: MotionSpace) -> None:
    ict = IctHead.load(data_folder / "ict_facekit" / "ict_facekit.npz")
    vertices = load_mediapipe_vertices()
    capture = CaptureMotion.load(data_folder / "capture")
    motion = ict_motion(ict.subset(vertices), capture, space)[::5]
    model = HeadModel(build_flame_layout(ict, ict_regions(vertices)))
    motion_of = HeadMotion(model, space)
    found = motion_of.from_motion(motion)
    wrong = motion_of.to_motion(found.expression, found.jaw_pose)[:, :22] - motion[:, :22]
    assert np.sqrt((wrong[:, :16] ** 2).mean()) < 1e-3  # standard deviations of the codes
    assert np.abs(wrong).max() < 0.01
    assert found.jaw_pose[:, 0].max() < 0.45
    looser = motion_of.from_motion(motion, MotionTolerance(code=0.5))
    assert np.square(looser.expression).mean() < np.square(found.expression).mean()
    part = HeadMotion(lips_only(model), space).to_motion(found.expression, found.jaw_pose)
    assert np.corrcoef(space.lip_opening(part), space.lip_opening(motion))[0, 1] > 0.999
