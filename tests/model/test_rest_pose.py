"""A resting mouth: lips neither through each other nor apart, on whatever face shows it."""

from __future__ import annotations

import numpy as np
import pytest

from model.motion.rest_pose import LARGEST_REST_OPENING, rest_pose, rest_pose_on
from model.motion.retarget import Retarget
from model.motion.space import load_motion_space

SPACE = load_motion_space()


@pytest.mark.parametrize(("jaw", "wanted"), [(0.5, 0.0), (-2.0, LARGEST_REST_OPENING), (-0.14, None)])
def test_lips_are_shut_or_a_hair_apart(jaw: float, wanted: float | None) -> None:
    settled = np.zeros(32, np.float32)
    settled[[0, 5]] = jaw, 1.5
    rest = rest_pose(settled, SPACE)
    opening = float(SPACE.lip_opening(settled)) if wanted is None else wanted
    assert float(SPACE.lip_opening(rest)) == pytest.approx(opening, abs=1e-5)
    assert rest[5] == pytest.approx(1.5, abs=0.2)  # the rest of the pose stays


def test_another_face_shows_the_same_opening() -> None:
    rng = np.random.default_rng(0)
    retarget = Retarget((np.eye(20) * 1.4 + rng.normal(0, 0.1, (20, 20))).astype(np.float32))
    rest = np.pad(rng.normal(0, 0.5, 20), (0, 12)).astype(np.float32)
    rest = rest_pose(rest, SPACE)
    shown = retarget(rest_pose_on(rest, retarget, SPACE))
    assert float(SPACE.lip_opening(shown)) == pytest.approx(float(SPACE.lip_opening(rest)), abs=1e-5)
    np.testing.assert_allclose(rest_pose_on(rest, Retarget.identity(), SPACE), rest, atol=1e-5)
