"""Moods show on brows and corners of the mouth, and leave the gap between the lips to speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.checkpoint import load_checkpoint
from model.errors import InputError
from model.motion.face_points import LIP_CORNERS, MOUTH
from model.motion.mood import (
    CLOSURE_SHARE,
    EASE_FRAMES,
    MOODS,
    NEUTRAL,
    RECIPES,
    RECOVERY_FRAMES,
    SEAM,
    Moods,
    MoodState,
    lip_gaps,
)
from model.motion.space import ASSET, MotionSpaceConfig, load_motion_space
from model.state import Controls
from tests.support.closeness import assert_close

SPACE = load_motion_space()
MOODS_OF_SPACE = Moods(SPACE)
BROWS = slice(16, 20)
EXPRESSIVE = MOODS[1:]


def shown(motion: np.ndarray, mood: str, strength: float = 1.0, *, speaking: float = 1.0) -> np.ndarray:
    """Motion (T, 32) under a mood that has long been there."""
    state, out = MoodState(), motion.copy()
    for _ in range(EASE_FRAMES):
        MOODS_OF_SPACE.add(np.full(32, -1.0, np.float32), mood, strength, state, speaking=0.0)
    for frame in out:
        MOODS_OF_SPACE.add(frame, mood, strength, state, speaking=speaking)
    return out


def corner_height(motion: np.ndarray) -> float:
    points = SPACE.mouth_displacement(motion)
    return float(np.mean([points[MOUTH.index(i), 1] for i in LIP_CORNERS]))


def speech(frames: int = 60) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.asarray(SPACE.clamp(np.pad(rng.normal(0, 1, (frames, 20)), ((0, 0), (0, 12)))), np.float32)


@pytest.mark.parametrize("mood", EXPRESSIVE)
def test_lips_are_as_far_apart_as_without(mood: str) -> None:
    motion = speech()
    made = shown(motion, mood)
    opening = SPACE.lip_opening(motion)
    assert np.abs(SPACE.lip_opening(made) - opening).max() < 0.02 * np.ptp(opening)
    gaps = motion[:, :16] @ lip_gaps(SPACE).T
    assert np.abs(made[:, :16] @ lip_gaps(SPACE).T - gaps).max() < 0.02 * np.ptp(gaps)
    assert np.abs(made[:, :16] - motion[:, :16]).max() > 0.1


def test_gaps_are_those_of_the_landmarks() -> None:
    motion = speech(3)
    points = SPACE.mouth_displacement(motion)
    wanted = [points[:, MOUTH.index(a), 1] - points[:, MOUTH.index(b), 1] for a, b in SEAM]
    assert_close(motion[:, :16] @ lip_gaps(SPACE).T, np.stack(wanted, 1))


def test_each_mood_looks_like_its_name() -> None:
    rest = np.zeros(32, np.float32)
    faces = {mood: shown(rest[None], mood, speaking=0.0)[0] for mood in MOODS}
    assert not faces[NEUTRAL].any()
    assert SPACE.lip_width(faces["smile"]) > 0.05 and corner_height(faces["smile"]) > 0.02
    assert corner_height(faces["sad"]) < -0.02
    assert (faces["sad"][[16, 18]] > faces["sad"][[17, 19]] + 0.2).all()  # inner brows up
    assert (faces["surprised"][BROWS] > 0.5).all() and (faces["surprised"][20:22] < -0.1).all()
    assert (faces["angry"][[16, 18]] < -0.3).all() and (faces["angry"][20:22] > 0.05).all()


def test_closed_lips_hold_the_mouth_back_in_speech_only_and_never_the_brows() -> None:
    shut, apart = np.zeros((8, 32), np.float32), np.zeros((8, 32), np.float32)
    apart[:, 0] = -3.0
    offset = MOODS_OF_SPACE.offset("smile")
    assert_close(shown(shut, "smile", speaking=0.0)[-1, :16], offset[:16])
    assert_close(shown(shut, "smile")[-1, :16], CLOSURE_SHARE * offset[:16])
    assert_close((shown(apart, "smile") - apart)[-1, :16], offset[:16])
    for motion in (shut, apart):
        assert_close((shown(motion, "smile") - motion)[-1, BROWS], offset[BROWS])


def test_the_mouth_comes_back_gently_after_a_closure() -> None:
    motion = np.zeros((12, 32), np.float32)
    motion[:, 0], motion[4, 0] = -3.0, 0.0
    share = (shown(motion, "smile") - motion)[:, 1] / MOODS_OF_SPACE.offset("smile")[1]
    assert_close(share[[3, 4, 4 + RECOVERY_FRAMES]], [1.0, CLOSURE_SHARE, 1.0])
    assert np.diff(share[4:]).max() <= (1 - CLOSURE_SHARE) / RECOVERY_FRAMES + 1e-5


def test_moods_ease_in_over_and_out() -> None:
    state, brows = MoodState(), []
    for mood in ["surprised"] * 15 + ["angry"] * 4 + [NEUTRAL] * 15:
        frame = np.zeros(32, np.float32)
        MOODS_OF_SPACE.add(frame, mood, 1.0, state, speaking=0.0)
        brows.append(frame[16])
    assert 0.0 < brows[0] < 0.1 < brows[4] < brows[EASE_FRAMES - 1] == brows[14]
    assert brows[-1] == 0.0 and brows[18] < brows[14]
    assert np.abs(np.diff(brows)).max() < 0.25 * brows[14]


def test_a_blink_still_shuts_and_strength_scales() -> None:
    blink = np.zeros((1, 32), np.float32)
    blink[:, 20:22] = 1.0
    for mood in EXPRESSIVE:
        assert_close(shown(blink, mood)[0, 20:22], [1.0, 1.0])
        full = shown(np.zeros((1, 32), np.float32), mood, speaking=0.0)
        assert_close(shown(np.zeros((1, 32), np.float32), mood, 0.5, speaking=0.0), 0.5 * full)


def test_what_cannot_be_asked_for_is_refused() -> None:
    with pytest.raises(InputError, match=r"no mood 'bored'; use one of: neutral, smile"):
        Controls(mood="bored")
    with pytest.raises(InputError, match=r"mood_strength must be 0..1, got 1.2"):
        Controls(mood_strength=1.2)
    with pytest.raises(InputError, match=r"head_motion must be 0..1, got -1"):
        Controls(head_motion=-1.0)


@pytest.mark.parametrize("mood", EXPRESSIVE)
def test_offsets_are_the_recipes_on_the_mean_face(mood: str, data_folder: Path) -> None:
    from model.face.ict_head import IctHead
    from model.face.measure import motion_from_points
    from model.face.pose_free import inter_ocular

    vertices = load_checkpoint(ASSET, kind="motion-space", config_cls=MotionSpaceConfig).tensors["ict_vertices"]
    head = IctHead.load(data_folder / "ict_facekit" / "ict_facekit.npz").subset(vertices.numpy().astype(np.int64))
    weights = [RECIPES[mood].get(n.removesuffix("_L").removesuffix("_R"), 0.0) for n in head.expression_names]
    size = inter_ocular(head.neutral)
    face = head.neutral + np.tensordot(np.array(weights, np.float32), head.expressions, 1)
    found = motion_from_points((face / size)[None], head.neutral / size, SPACE)[0]
    offset = MOODS_OF_SPACE.offset(mood)
    found[:16] -= np.linalg.pinv(lip_gaps(SPACE)) @ (lip_gaps(SPACE) @ found[:16])
    np.testing.assert_allclose(offset[:22], found[:22], atol=0.01)
