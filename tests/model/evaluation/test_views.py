"""Head turns, slow turns and mouths of an avatar: each measure sees the fault that it is for, and only that."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.avatar import load_avatar
from model.data.capture import Capture
from model.errors import ConfigError, DataError
from model.evaluation.views import Views, ViewsEvaluation, held_out_frames
from model.evaluation.views_capture import CaptureViews, head_turn_figures, held_out_views
from model.evaluation.views_clips import known_pose
from model.evaluation.views_motion import SlowTurn, still_figures, turn_figures
from model.evaluation.views_mouth import TrackedViews, closed_lip_figures, landmark_figures, open_mouth_figures
from model.evaluation.views_sheet import sheet
from model.face.head_shape import head_angles
from model.radiance.serving import AvatarRenderer

SIZE = 64


def views(yaw_deg: list[float]) -> CaptureViews:
    """Textured frames that are rendered perfectly; the mouth's inside is a square of 20 pixels."""
    count = len(yaw_deg)
    real = np.random.default_rng(0).integers(40, 200, (count, SIZE, SIZE, 3), np.uint8)
    mask = np.zeros((count, SIZE, SIZE), np.bool_)
    mask[:, 20:40, 20:40] = True
    exact = np.random.default_rng(1).uniform(10, 50, (count, 68, 2)).astype(np.float32)
    return CaptureViews(
        made=real.copy(),
        real=real,
        head=np.ones_like(mask),
        mouth=mask,
        interior=mask.astype(np.float32),
        yaw_deg=np.array(yaw_deg),
        exact_px=exact,
    )


def landmarks(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(2).uniform(10, 50, (count, 478, 3)).astype(np.float32)


def test_a_turned_bin_is_held_against_the_frontal_one() -> None:
    given = views([-2, 3, -17])
    noise = np.where(np.indices((SIZE, SIZE)).sum(0) % 2, 1, -1)[..., None]
    given.made[:2] = given.real[:2] + noise
    given.made[2] = given.real[2] + 2 * noise
    figures = head_turn_figures(given)
    drop = figures["turn_head_psnr_drop_15_20deg"]
    assert drop.value == pytest.approx(20 * np.log10(2), abs=1e-3) and drop.missed
    assert figures["turn_head_psnr_0_5deg"].n == 2
    assert "turn_head_psnr_5_10deg" not in figures


def test_without_a_frontal_frame_there_is_no_drop() -> None:
    with pytest.raises(DataError, match="less than 5 degrees"):
        head_turn_figures(views([12, 17]))


def test_landmark_error_is_percent_of_the_inter_ocular_distance_and_lost_faces_are_counted() -> None:
    given, real = views([0, 0, 0]), landmarks(3)
    given.exact_px[:, [36, 39]] = (10, 20)
    given.exact_px[:, [42, 45]] = (60, 20)
    made = real + np.array([1, 0, 0], np.float32)
    made[2] = np.nan
    figures = landmark_figures(TrackedViews(given, made, real))
    assert figures["landmark_error"].value == pytest.approx(2, abs=1e-3)
    assert figures["landmark_error_lips"].value == pytest.approx(2, abs=1e-3)
    assert figures["landmark_frames_lost"].value == 1


def test_a_gap_in_closed_lips_is_seen_as_darker_pixels() -> None:
    given = views([0])
    given.interior[:] = 0
    given.real[:] = 120
    given.made[:] = 120
    given.made[0, 28:30, 20:40] = 10
    points = landmarks(1)
    figures = closed_lip_figures(TrackedViews(given, points, points))
    assert figures["closed_darker_pixels"].value == pytest.approx(10)
    assert figures["closed_brighter_pixels"].value == 0
    assert figures["closed_gap_added_p95"].value == 0
    assert open_mouth_figures(given) == {}


def test_blurred_teeth_lose_sharpness() -> None:
    given = views([0])
    assert open_mouth_figures(given)["open_sharpness"].value == 1
    given.made[:] = (given.real.astype(np.float32) * 0.5 + 60).astype(np.uint8)
    assert open_mouth_figures(given)["open_sharpness"].value == pytest.approx(0.25, abs=0.02)


def test_a_smooth_turn_has_no_pop_and_a_flash_has() -> None:
    x = np.arange(SIZE)
    frames = np.stack([np.tile(120 + 60 * np.sin((x - 0.3 * i) / 6), (SIZE, 1)) for i in range(6)])
    rgb = np.repeat(np.rint(frames).astype(np.uint8)[..., None], 3, -1)
    head = np.ones(rgb.shape[:3], np.bool_)
    head[:, :, :4] = head[:, :, -4:] = False
    turn = SlowTurn(np.linspace(-1, 1, 6), rgb, head)
    assert turn_figures(turn)["turn_largest_pop"].value < 1
    rgb[3, 20:40, 20:40] = 255
    flashed = turn_figures(turn)
    assert flashed["turn_largest_pop"].value > 8
    assert flashed["turn_largest_pop_at"].value == pytest.approx(0.2, abs=0.05) or flashed["turn_change_rms"].value > 5


def test_the_shipped_avatar_holds_still_and_its_known_pose_has_the_turn() -> None:
    renderer = AvatarRenderer(load_avatar(), size_px=SIZE)
    assert still_figures(renderer, 4)["still_differing_frames"].value == 0
    front, side = (known_pose(renderer, yaw, 1).rotation for yaw in (0, 20))
    assert np.degrees(head_angles(side) - head_angles(front))[0, 0] == pytest.approx(20, abs=1e-3)


def test_provenance_says_what_was_held_out() -> None:
    config = load_avatar().config
    said = replace(config, provenance="a capture; 940 frames of `train` (the last 60 held out)")
    assert held_out_frames(said) == 60
    assert held_out_frames(replace(config, provenance="a capture; 940 frames")) == 0


def test_a_capture_without_its_head_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ICT-FaceKit"):
        ViewsEvaluation(face_landmarker=tmp_path, capture=tmp_path)


def test_the_sheet_shows_truth_rendering_difference_and_turn() -> None:
    given = views([-9, 0, 9])
    turn = SlowTurn(np.zeros(2), given.real[:2], given.mouth[:2])
    shown = sheet(Views(figures={}, data="", turn=turn, held_out=given))
    assert shown.shape == (4 * SIZE, 6 * SIZE, 3)
    assert (shown[2 * SIZE : 3 * SIZE, : 3 * SIZE] == 128).all()


@pytest.mark.skipif("NERF_LIPSYNC_DATA" not in os.environ, reason="needs the rendered capture")
def test_the_last_frames_of_a_capture_are_read_with_their_own_truth() -> None:
    capture = Capture.open(Path(os.environ["NERF_LIPSYNC_DATA"]) / "capture")
    renderer = AvatarRenderer(load_avatar(), size_px=SIZE)
    motion = np.zeros((len(capture.meta["frames"]), 32), np.float32)
    found = held_out_views(capture, motion, renderer, 2)
    entries = [capture.meta["frames"][row] for row in capture.rows("train")[-2:]]
    assert found.yaw_deg == pytest.approx([e["yaw_pitch_roll_deg"][0] for e in entries], abs=0.02)
    assert found.made.shape == found.real.shape == (2, SIZE, SIZE, 3)
    with pytest.raises(DataError, match="cannot be held out"):
        held_out_views(capture, motion, renderer, 10_000)
