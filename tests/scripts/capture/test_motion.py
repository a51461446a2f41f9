"""Motion of prepared clips as the invented head moves: which shape, which side, which way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip("mediapipe", reason="prepared clips are read in the project's environment, not in Blender's")

from model.data.features import ClipFeatures
from model.face.head_pose import HeadPose, Intrinsics
from model.motion.arkit import ARKIT_NAMES
from scripts.capture.draw import ClipMotion
from scripts.capture.errors import PlanError
from scripts.capture.motion import GAIN, main, read_motion, shape_names

FRAMES = 80
STILL = {"eyeBlinkLeft": 0.1, "eyeBlinkRight": 0.1}


def prepared_clip(key: str = "bclip", frames: int = FRAMES, yaw_deg: float = 0.0, **shapes: float) -> ClipFeatures:
    """A clip with constant coefficients in its second half; the head is turned there too."""
    late = np.arange(frames) >= frames // 2
    arkit = np.zeros((frames, 52), np.float32)
    for name, value in {**STILL, **shapes}.items():
        arkit[:, ARKIT_NAMES.index(name)] = np.where(late | (name in STILL and name not in shapes), value, 0)
    camera_from_head = np.diag([1.0, -1.0, -1.0])
    turns = Rotation.from_euler("y", np.where(late, yaw_deg, 0)[:, None], degrees=True).as_matrix()
    landmarks = np.zeros((frames, 478, 3), np.float32)
    landmarks[:, 263, 0] = 100
    landmarks[late, 14, 1] = 20
    rotation = camera_from_head @ turns
    return ClipFeatures(
        key=key,
        landmarks=landmarks,
        found=np.ones(frames, bool),
        scores=np.zeros((frames, 52), np.float32),
        pose=HeadPose(
            rotation,
            np.zeros((frames, 3)),
            rotation,
            np.zeros((frames, 3)),
            np.zeros(frames),
            Intrinsics(fx_px=500, fy_px=500, cx_px=144, cy_px=144),
        ),
        motion=np.zeros((frames, 32), np.float32),
        arkit=arkit,
        mouth_flow=np.zeros((frames, 78, 2), np.float32),
        mouth_flow_confidence=np.zeros((frames, 78), np.float32),
        audio=np.arange(frames * 640).astype(np.int16),
        crop=np.zeros((1, 2, 3), np.float32),
        meta={"words": [{"text": "bin", "start_frame": 5.0, "end_frame": 10.0}, _after_the_cut()]},
    )


def _after_the_cut() -> dict[str, str | float]:
    return {"text": "late", "start_frame": 76.0, "end_frame": 79.0}


def only(clip: ClipFeatures) -> ClipMotion:
    (motion,) = read_motion([clip])
    return motion


def end_of(motion: ClipMotion, name: str) -> float:
    return float(motion.weights[-1, shape_names().index(name)])


def test_shapes_go_to_their_side_with_a_gain() -> None:
    motion = only(prepared_clip(mouthSmileLeft=0.4, browInnerUp=0.2, jawOpen=1.0))
    assert end_of(motion, "mouthSmile_L") == pytest.approx(0.4 * GAIN)
    assert end_of(motion, "mouthSmile_R") == 0
    assert end_of(motion, "browInnerUp_L") == end_of(motion, "browInnerUp_R") == pytest.approx(0.2 * GAIN)
    assert end_of(motion, "jawOpen") == 1
    assert motion.weights.shape == (75, len(shape_names())) and motion.weights[0].max() == 0


def test_gaze_and_turns_keep_their_direction() -> None:
    motion = only(prepared_clip(yaw_deg=10, eyeLookOutLeft=0.5, eyeLookInRight=0.5))
    assert motion.gaze[-1, 0] > motion.gaze[0, 0] + 0.2  # to the subject's left
    assert np.degrees(motion.turn[-1] - motion.turn[0]) == pytest.approx((0, 10, 0), abs=0.1)
    up = only(prepared_clip(eyeLookUpLeft=0.4, eyeLookUpRight=0.4))
    assert up.gaze[-1, 1] > up.gaze[0, 1] + 0.1


def test_lids_at_rest_are_open_and_one_blink_closes_both() -> None:
    assert only(prepared_clip()).blink.max() == 0
    clip = prepared_clip()
    clip.arkit[30:34, ARKIT_NAMES.index("eyeBlinkLeft")] = 1.0
    blink = only(clip).blink
    assert blink[32] > 0.95 and blink[20] == blink[50] == 0


def test_lip_gap_is_over_the_width_of_the_eyes() -> None:
    gap = only(prepared_clip()).gap
    assert gap[0] == 0 and gap[-1] == pytest.approx(0.2)


def test_sound_and_words_end_with_the_last_frame() -> None:
    sound = only(prepared_clip()).sound
    assert len(sound.audio) == 48_000
    assert sound.words == (("bin", 0.2, 0.4),)


def test_short_clips_are_left_out() -> None:
    assert [m.name for m in read_motion([prepared_clip("short", 40), prepared_clip("long")])] == ["long"]
    with pytest.raises(PlanError, match="no prepared clip has 75 frames"):
        read_motion([prepared_clip("short", 40)])


def test_a_folder_without_clips_ends_in_one_line(
    head_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path), "--head", str(head_file), "--out", str(tmp_path / "m.npz")]) == 1
    assert "no prepared clips" in capsys.readouterr().err
    assert not (tmp_path / "m.npz").exists()
