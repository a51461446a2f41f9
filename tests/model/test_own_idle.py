"""A person's own idle motion: what is found in tracks, what is kept in the folder, what a session makes of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.avatar import DEFAULT_AVATAR
from model.errors import CheckpointError, ConfigError
from model.motion.idle import BLINK_SHAPE, IdleMotion
from model.motion.own_idle import BLINK_FRAMES, IDLE_FILE, OwnIdle, OwnIdleConfig
from model.motion.space import GAZE_CODES, LID_CODES, MOTION_SIZE
from model.pipeline import AvatarPipeline
from model.training.own_idle import PersonTrack, blink_curves, own_idle, quiet_frames

SLOW_BLINK = (0.3, 0.7, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2)
MINUTE = 1500


def track(
    *,
    frames: int = MINUTE,
    blinks: tuple[int, ...] = (),
    gazes: tuple[tuple[float, float], ...] = ((0.0, 0.0),),
    sway_deg: float = 0.0,
    sway_hz: float = 1 / 3,
    speech: tuple[int, int] = (0, 0),
) -> PersonTrack:
    """A person who blinks at these frames, looks here and there for a second each, nods, and speaks in between."""
    rng = np.random.default_rng(0)
    motion = np.zeros((frames, MOTION_SIZE), np.float32)
    for start in blinks:
        motion[start : start + len(SLOW_BLINK), LID_CODES] = np.array(SLOW_BLINK)[:, None]
    motion[:, GAZE_CODES] = np.array([gazes[(k // 25) % len(gazes)] for k in range(frames)])
    angles = np.zeros((frames, 3))
    angles[:, 1] = sway_deg * np.sin(2 * np.pi * sway_hz * np.arange(frames) / 25)
    sound = rng.normal(0, 3.0, frames * 640)
    sound[speech[0] * 640 : speech[1] * 640] *= 1000
    return PersonTrack(motion, angles, sound)


def lids(idle: IdleMotion, minutes: int) -> NDArray[np.float64]:
    return np.array([idle.lid_closure(f) for f in range(minutes * MINUTE)])


def count(closure: NDArray[np.float64]) -> int:
    return int(((closure[1:] > 0.5) & (closure[:-1] <= 0.5)).sum())


def test_blinks_are_found_with_their_curve_and_closed_eyes_are_none() -> None:
    closure = np.zeros(400, np.float32)
    closure[100:108] = np.array(SLOW_BLINK) * 0.8
    closure[200:260] = 1.0  # asleep
    closure[-3:] = 0.9  # cut off
    (curve,) = blink_curves(closure)
    np.testing.assert_allclose(curve[:8], SLOW_BLINK, atol=1e-6)
    assert curve.shape == (BLINK_FRAMES,) and not curve[8:].any()


def test_speech_is_not_quiet_and_a_silent_video_is() -> None:
    spoken = track(frames=200, speech=(60, 120))
    quiet = quiet_frames(spoken.sound, 200)
    assert quiet[:58].all() and not quiet[62:118].any() and quiet[122:].all()
    assert quiet_frames(np.zeros(0), 50).all()


def test_rate_gaze_and_sway_are_the_persons() -> None:
    looks = ((0.05, 0.0), (-0.05, 0.02), (0.0, -0.03))
    calm = own_idle([track(blinks=(200, 900), gazes=looks, sway_deg=2.0)])
    lively = own_idle([track(blinks=tuple(range(50, 1450, 55)), gazes=looks, sway_deg=0.3)])
    assert calm.config.blinks == 2 and calm.config.blinks_per_minute == pytest.approx(9.5)
    assert lively.config.blinks == 26 and lively.config.blinks_per_minute == pytest.approx(21.5)
    assert calm.config.gaze_frames == pytest.approx(25, abs=2)
    assert np.abs(calm.gaze_rad - calm.gaze_rad.mean(0)).max() == pytest.approx(0.05, abs=0.02)
    sways = [np.ptp([IdleMotion(0, own=o).head_deg(f)[1] for f in range(750)]) for o in (calm, lively)]
    assert 1.5 < sways[0] < 6 and sways[0] > 4 * sways[1]
    strongest = calm.sway_hz[calm.sway_deg[1].argmax()]
    assert strongest == pytest.approx(1 / 3, abs=0.2)


def test_what_is_said_moves_neither_gaze_nor_sway() -> None:
    quiet = track(frames=400, gazes=((0.02, 0.0), (-0.02, 0.0)), sway_deg=0.5)
    loud = track(frames=400, gazes=((0.12, 0.1), (-0.12, 0.0)), sway_deg=9.0)
    both = PersonTrack(
        np.concatenate([quiet.motion, loud.motion]),
        np.concatenate([quiet.angles_deg, loud.angles_deg]),
        np.concatenate([quiet.sound, 1000 * loud.sound]),
    )
    found = own_idle([both])
    assert np.abs(found.gaze_rad).max() < 0.05 and found.sway_deg.sum(1).max() < 1.5


def test_who_never_stops_speaking_keeps_blinks_alone() -> None:
    found = own_idle([track(frames=500, blinks=(100,), sway_deg=5.0, gazes=((0.1, 0.0), (-0.1, 0.0)), speech=(0, 500))])
    assert found.config.blinks == 1 and found.config.quiet_seconds == 0
    assert not len(found.gaze_rad) and not len(found.sway_hz)
    np.testing.assert_array_equal(IdleMotion(1, own=found).head_deg(50), IdleMotion(1).head_deg(50))


@pytest.mark.parametrize("blinks", [(), (40,), tuple(range(30, 1480, 24))])
def test_blinks_come_at_human_rates_whatever_the_video_shows(blinks: tuple[int, ...]) -> None:
    own = own_idle([track(blinks=blinks)])
    for seed in (0, 7):
        closure = lids(IdleMotion(seed, own=own), 5)
        assert 6 <= count(closure) / 5 <= 28
        assert closure.min() >= 0 and closure.max() <= 1


def test_a_blink_has_the_persons_own_curve() -> None:
    own = own_idle([track(blinks=(200, 900))])
    closure = lids(IdleMotion(3, own=own), 1)
    start = int(np.flatnonzero(closure)[0])
    np.testing.assert_allclose(closure[start : start + 8], SLOW_BLINK, atol=1e-6)


def test_motion_depends_on_seed_and_frame_only() -> None:
    own = own_idle([track(blinks=(200, 900), gazes=((0.05, 0.0), (-0.05, 0.0), (0.0, 0.02)), sway_deg=1.0)])
    forward, backward = IdleMotion(11, own=own), IdleMotion(11, own=own)
    frames = range(0, 900, 7)
    there = [np.append(forward.motion(f), forward.head_deg(f)) for f in frames]
    back = [np.append(backward.motion(f), backward.head_deg(f)) for f in reversed(frames)]
    np.testing.assert_array_equal(there, back[::-1])
    other = IdleMotion(12, own=own)
    assert not np.array_equal(there, [np.append(other.motion(f), other.head_deg(f)) for f in frames])


def test_avatars_without_a_file_move_as_before(tmp_path: Path) -> None:
    assert OwnIdle.load(tmp_path) is None and OwnIdle.load(DEFAULT_AVATAR) is None
    idle = IdleMotion(5)
    closure = lids(idle, 1)
    start = int(np.flatnonzero(closure)[0])
    assert tuple(closure[start : start + 6]) == BLINK_SHAPE
    assert idle.config.blink_slot_frames == 90
    np.testing.assert_allclose(idle.head_deg(1000), [-0.2523483, -0.07377426, -0.28064904], atol=1e-6)


def test_a_session_uses_what_lies_in_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "me"
    shutil.copytree(DEFAULT_AVATAR, folder)
    own = own_idle([track(blinks=(200, 900), sway_deg=2.0)])
    own.save(folder)
    pipeline = AvatarPipeline.load(folder, size=64)
    state = pipeline.new_state(4)
    expected = IdleMotion(4, own=OwnIdle.load(folder))
    np.testing.assert_array_equal(state.idle.head_deg(333), expected.head_deg(333))
    assert not np.array_equal(state.idle.head_deg(333), IdleMotion(4).head_deg(333))
    other = pipeline.load_shown(DEFAULT_AVATAR)
    assert pipeline.new_state(4, shown=other).idle.own is None


@pytest.mark.parametrize("speech", [(0, 0), (0, 500)])
@pytest.mark.parametrize("blinks", [(), (100,)])
def test_what_was_seen_and_what_was_not_comes_back(
    tmp_path: Path, blinks: tuple[int, ...], speech: tuple[int, int]
) -> None:
    looks = ((0.05, 0.0), (-0.05, 0.02), (0.0, -0.03))
    own = own_idle([track(frames=500, blinks=blinks, gazes=looks, sway_deg=1.0, speech=speech)])
    own.save(tmp_path)
    again = OwnIdle.load(tmp_path)
    assert again is not None and again.config == own.config
    for name in ("blink_curves", "gaze_rad", "sway_hz", "sway_deg"):
        np.testing.assert_array_equal(getattr(again, name), getattr(own, name))
    assert (len(own.blink_curves), len(own.gaze_rad) > 0) == (len(blinks), speech == (0, 0))


def test_damaged_or_impossible_files_are_named(tmp_path: Path) -> None:
    (tmp_path / IDLE_FILE).write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match=IDLE_FILE):
        OwnIdle.load(tmp_path)
    with pytest.raises(ConfigError, match="blinks_per_minute"):
        OwnIdleConfig(blinks_per_minute=90, gaze_frames=40)
    config = OwnIdleConfig(blinks_per_minute=15, gaze_frames=40)
    nothing = np.zeros((0, BLINK_FRAMES), np.float32), np.zeros((0, 2), np.float32)
    with pytest.raises(ConfigError, match="sway"):
        OwnIdle(config, *nothing, np.ones(1, np.float32), np.full((3, 1), 30.0, np.float32))
