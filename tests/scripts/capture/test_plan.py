"""Plans: what is chosen, that it is balanced and within range, and that files keep it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scripts.capture.draw import (
    ClipMotion,
    Pose,
    choose_moments,
    choose_sequences,
    draw_plan,
    farthest_points,
    neutral_moments,
)
from scripts.capture.errors import PlanError
from scripts.capture.head import HeadMesh, HeadRig, load_head
from scripts.capture.person import BASE, IDENTITY_WEIGHTS, coefficient_names
from scripts.capture.plan import (
    CLIP_FRAMES,
    HELD_OUT,
    ORBIT_PITCH_DEG,
    ORBIT_YAW_DEG,
    SPLITS,
    ClipSound,
    Expression,
    Plan,
    orbit_plan,
    select_frames,
    sharpened_blink,
)
from scripts.capture.plan_file import DEFAULT_PLAN, load_plan, plan_of_capture, save_plan

MOTION_SHAPES = ("jawOpen", "mouthPucker", "browInnerUp_L", "browInnerUp_R")


@pytest.fixture(scope="module")
def default() -> Plan:
    return load_plan(DEFAULT_PLAN)


@pytest.fixture(scope="module")
def ict_mesh(data_folder: Path) -> HeadMesh:
    return load_head(data_folder / "ict_facekit" / "ict_facekit.npz")


def made_clips(count: int, rng: np.random.Generator) -> list[ClipMotion]:
    return [
        ClipMotion(
            name=f"{'bps'[i % 3]}clip{i}",
            weights=rng.random((CLIP_FRAMES, len(MOTION_SHAPES))) * (0.2 + 0.05 * i),
            blink=np.zeros(CLIP_FRAMES),
            gaze=rng.normal(size=(CLIP_FRAMES, 2)) * 0.05,
            turn=rng.normal(size=(CLIP_FRAMES, 3)) * 0.02,
            gap=rng.random(CLIP_FRAMES),
            sound=ClipSound(np.zeros(48_000, np.int16), ()),
        )
        for i in range(count)
    ]


def test_default_plan_is_the_whole_capture(default: Plan) -> None:
    counts = {split: len(default.of_splits((split,))) for split in SPLITS}
    assert counts == {"train": 1000, "sequence": 225, "novel": 60, "orbit": 240}
    assert {len(sound.audio) for sound in default.sounds.values()} == {48_000}
    turns = np.degrees([f.head_rotvec for f in default.of_splits(("train",))])
    assert 20 < np.abs(turns[:, 1]).max() < 27  # stills turn by up to 25 degrees
    coefficients = np.array([f.coefficients for f in default.frames])
    assert coefficients.min() >= 0 and coefficients.max() <= 1


def test_default_plan_is_that_of_the_capture(default: Plan, data_folder: Path) -> None:
    truth = plan_of_capture(data_folder / "capture")
    assert truth.frames == default.frames and truth.coefficient_names == default.coefficient_names
    for clip, sound in truth.sounds.items():
        np.testing.assert_array_equal(sound.audio, default.sounds[clip].audio)
        assert sound.words == default.sounds[clip].words


@pytest.mark.parametrize(("part", "splits"), [("stills", {"train"}), ("orbit", {"orbit"}), ("all", set(SPLITS))])
def test_parts_and_limit(default: Plan, part: str, splits: set[str]) -> None:
    chosen = select_frames(default, part, limit=3)
    assert {f.split for f in chosen} == splits
    assert len(chosen) == 3 * len(splits)
    assert [f.index for f in chosen[:3]] == [0, 1, 2]


def test_orbit_moves_the_camera_over_expressions_that_training_sees(default: Plan) -> None:
    stills = default.of_splits(("train",))
    orbit = orbit_plan(stills)
    assert orbit == orbit_plan(stills)
    assert len({f.notes["still"] for f in orbit}) == len(orbit) == 240
    assert max(int(str(f.notes["still"])) for f in orbit) < len(stills) - HELD_OUT
    yaws, pitches = np.array([(f.cam_yaw_deg, f.cam_pitch_deg) for f in orbit]).T
    for angles, limit in ((yaws, ORBIT_YAW_DEG), (pitches, ORBIT_PITCH_DEG)):
        assert np.abs(angles).max() <= limit
        assert angles.min() < -0.9 * limit and angles.max() > 0.9 * limit
    for frame in orbit:
        assert frame.head_rotvec == (0, 0, 0)
        assert frame.coefficients == stills[int(str(frame.notes["still"]))].coefficients


def test_orbit_of_few_stills(default: Plan) -> None:
    assert len(orbit_plan(default.of_splits(("train",))[:5])) == 5


def test_lids_follow_the_gaze(default: Plan) -> None:
    names = default.coefficient_names
    face = Expression(names)
    face.look(np.radians(17.5), -np.radians(25))
    value = dict(zip(names, face.rounded(), strict=True))
    assert value["eyeLookOut_L"] == value["eyeLookIn_R"] == 0.5
    assert value["eyeLookDown_L"] == value["eyeLookDown_R"] == 1
    assert value["eyeLookIn_L"] == value["eyeLookOut_R"] == value["eyeLookUp_L"] == 0
    face.look(-0.1, 0.1)
    value = dict(zip(names, face.rounded(), strict=True))
    assert value["eyeLookOut_L"] == value["eyeLookDown_L"] == 0 and value["eyeLookIn_L"] > 0


def test_expressions_start_relaxed_and_stay_in_range(default: Plan) -> None:
    names = default.coefficient_names
    face = Expression(names)
    assert {n: v for n, v in zip(names, face.rounded(), strict=True) if v} == BASE
    face.close_eyes(0.5)
    assert dict(zip(names, face.rounded(), strict=True))["eyeBlink_L"] == 0.55
    face.add(mouthSmile=2)
    assert max(face.rounded()) == 1


@pytest.mark.parametrize(("amount", "shown"), [(0.0, 0.0), (0.4, 0.0), (0.64, 0.5), (0.9, 1.0)])
def test_half_closed_lids_are_shown_open(amount: float, shown: float) -> None:
    assert sharpened_blink(amount) == pytest.approx(shown, abs=1e-9)


def test_pose_angles_are_what_the_labels_say() -> None:
    rotvec = Pose(30, 0, 0).rotvec()
    assert rotvec == pytest.approx((0, np.radians(30), 0), abs=1e-5)
    assert Pose(0, 10, 0).rotvec()[0] > 0  # pitch > 0 looks down
    gaze = Pose(20, 8, 0).countered_gaze()
    assert gaze[0] < 0 < gaze[1]  # the eyes stay on the camera


def test_farthest_points_are_distinct_and_spread() -> None:
    line = np.linspace(0, 1, 101)[:, None]
    assert farthest_points(line, 3, 50) == [50, 0, 100]
    assert len(set(farthest_points(np.random.default_rng(0).random((60, 4)), 60, 7))) == 60


def test_any_prefix_of_the_stills_is_balanced() -> None:
    rng = np.random.default_rng(1)
    movement, gap = rng.normal(size=(2000, 6)), rng.random(2000)
    neutral = neutral_moments(movement, gap)
    assert gap[neutral].max() < np.percentile(gap, 22)
    chosen = choose_moments(movement, neutral, 1000, rng)
    kinds = np.array([kind for kind, _ in chosen])
    shares = {"fps": 0.56, "random": 0.23, "closed": 0.15, "acted": 0.06}
    for prefix in (100, 300, 1000):
        for kind, share in shares.items():
            assert (kinds[:prefix] == kind).mean() == pytest.approx(share, abs=0.02)
    farthest = [row for kind, row in chosen if kind == "fps"]
    random = [row for kind, row in chosen if kind == "random"]
    assert not set(farthest) & set(random)
    assert {row for kind, row in chosen if kind == "closed"} <= set(neutral.tolist())


def test_sequences_are_lively_and_of_different_letters() -> None:
    clips = made_clips(12, np.random.default_rng(2))
    chosen = choose_sequences(clips)
    assert len({c.name[0] for c in chosen}) == 3
    assert [c.name for c in chosen] == ["sclip8", "pclip7", "bclip6"]  # 9 to 11 are livelier, and left out
    with pytest.raises(PlanError, match="6 clips of 75 frames; a plan needs 7"):
        choose_sequences(clips[:6])


def test_drawn_plan_is_complete_and_repeatable(ict_mesh: HeadMesh) -> None:
    rig = HeadRig(ict_mesh, IDENTITY_WEIGHTS)
    names = coefficient_names(tuple(ict_mesh.expressions))
    clips = made_clips(10, np.random.default_rng(3))
    plan = draw_plan(clips, MOTION_SHAPES, rig, names, stills=120)
    again = draw_plan(clips, MOTION_SHAPES, rig, names, stills=120)
    assert plan.frames == again.frames
    counts = {split: len(plan.of_splits((split,))) for split in SPLITS}
    assert counts == {"train": 120, "sequence": 225, "novel": 60, "orbit": 120}
    held = set(plan.sounds)
    assert not {f.notes.get("clip") for f in plan.of_splits(("train",))} & held
    angles = np.array([f.notes["yaw_pitch_roll_deg"] for f in plan.of_splits(("train",))])
    assert (np.abs(angles).max(0) <= (25, 12, 8)).all() and np.abs(angles[:, 0]).max() > 15
    assert {f.cam_yaw_deg for f in plan.of_splits(("novel",))} == {-20, -10, 0, 10, 20}
    with pytest.raises(PlanError, match="525 frames beside the sequences; 600 stills"):
        draw_plan(clips, MOTION_SHAPES, rig, names, stills=600)


def test_files_keep_a_plan(small_plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "plan.npz"
    save_plan(path, small_plan)
    assert list(tmp_path.iterdir()) == [path]
    back = load_plan(path)
    assert back.frames == small_plan.frames and back.coefficient_names == small_plan.coefficient_names
    assert back.sounds["made"].words == small_plan.sounds["made"].words
    np.testing.assert_array_equal(back.sounds["made"].audio, small_plan.sounds["made"].audio)


def test_bad_plans_are_named(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"cannot read plan .*none.npz: No such file"):
        load_plan(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("not an archive")
    with pytest.raises(PlanError, match="no capture plan"):
        load_plan(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", data=np.zeros(3))
    with pytest.raises(PlanError, match=r"python -m scripts\.capture\.motion"):
        load_plan(tmp_path / "other.npz")
    with pytest.raises(PlanError, match="cannot read the capture"):
        plan_of_capture(tmp_path)
