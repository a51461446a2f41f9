"""Smoothing calms what trembles and spreads the step between hops; closures and syllables pass."""

from __future__ import annotations

import numpy as np
import pytest

from model.errors import ConfigError
from model.motion.smoothing import FPS, Smoother, SmoothingConfig, SmoothingState
from model.motion.space import load_motion_space
from tests.support.closeness import assert_close

SPACE = load_motion_space()
HOP = 2


def smoothed(motion: np.ndarray, strength: float = 1.0, config: SmoothingConfig | None = None) -> np.ndarray:
    smoother = Smoother(SPACE, config or SmoothingConfig(strength=strength))
    state = SmoothingState.start(motion[0], SPACE)
    return np.concatenate([smoother(motion[i : i + HOP], state) for i in range(0, len(motion), HOP)])


def opened(opening: np.ndarray) -> np.ndarray:
    """Motion (T, 32) with the given lip opening (T,), by the mouth codes that move it most."""
    effect = SPACE.lip_opening(np.eye(32, dtype=np.float32))
    return (opening[:, None] * effect / (effect @ effect)).astype(np.float32)


def rough(motion: np.ndarray) -> float:
    return float(np.abs(np.diff(motion[:, :16], n=3, axis=0)).mean())


@pytest.mark.parametrize("frame", [20, 21])
def test_a_closure_of_one_frame_keeps_its_depth(frame: int) -> None:
    opening = np.full(40, 0.15)
    opening[frame] = 0.0
    made = SPACE.lip_opening(smoothed(opened(opening)))
    assert 0.15 - made[frame] >= 0.97 * 0.15


@pytest.mark.parametrize("rate_hz", [2.5, 4.0])
def test_syllables_come_less_than_a_tenth_of_a_frame_late_and_as_large(rate_hz: float) -> None:
    frames = np.arange(200)
    opening = 0.11 + 0.1 * np.sin(2 * np.pi * rate_hz * frames / FPS)
    made = SPACE.lip_opening(smoothed(opened(opening)))
    wave = np.exp(-2j * np.pi * rate_hz * frames / FPS)
    gain = ((made - made.mean()) @ wave) / ((opening - opening.mean()) @ wave)
    assert 0.0 <= -np.angle(gain) / (2 * np.pi * rate_hz) * FPS < 0.1
    assert abs(gain) > 0.95


def test_a_trembling_mouth_is_calmed_and_a_still_one_left() -> None:
    rng = np.random.default_rng(0)
    still = np.repeat(opened(np.array([0.1])), 60, 0)
    trembling = still.copy()
    trembling[:, :16] += rng.normal(0, 0.03, (60, 16)).astype(np.float32)
    assert rough(smoothed(trembling)) < 0.85 * rough(trembling)
    assert_close(smoothed(still), still)


def test_the_step_into_a_hop_is_spread_over_it() -> None:
    steps = np.where(np.arange(60) % HOP == 0, 0.004, 0.003)  # rises faster from hop to hop than inside
    motion = opened(0.05 + np.cumsum(steps))
    made = np.diff(SPACE.lip_opening(smoothed(motion)))[20:]
    assert made[1::HOP].mean() / made[0::HOP].mean() < 1.1 < 4 / 3


def test_off_is_off_and_more_is_smoother() -> None:
    rng = np.random.default_rng(1)
    motion = opened(0.1 + rng.normal(0, 0.005, 80))
    assert smoothed(motion, 0.0) is not motion and np.array_equal(smoothed(motion, 0.0), motion)
    assert rough(smoothed(motion, 1.0)) < rough(smoothed(motion, 0.5)) < rough(motion)


def test_later_frames_and_other_sessions_change_nothing() -> None:
    rng = np.random.default_rng(2)
    motions = [opened(0.1 + rng.normal(0, 0.01, 20)) for _ in range(2)]
    smoother = Smoother(SPACE)
    states = [SmoothingState.start(m[0], SPACE) for m in motions]
    together = [[smoother(m[i : i + HOP], s) for m, s in zip(motions, states, strict=True)] for i in range(0, 20, HOP)]
    for row, motion in enumerate(motions):
        changed = motion.copy()
        changed[10:] = 0.0
        assert np.array_equal(np.concatenate([hop[row] for hop in together]), smoothed(motion))
        assert np.array_equal(smoothed(changed)[:10], smoothed(motion)[:10])


def test_impossible_options_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"smoothing must be 0..1, got 1.5"):
        SmoothingConfig(strength=1.5)
    with pytest.raises(ConfigError, match="must be positive"):
        SmoothingConfig(cutoff_hz=0.0)
    with pytest.raises(ConfigError, match="hop_share"):
        SmoothingConfig(hop_share=0.9)
