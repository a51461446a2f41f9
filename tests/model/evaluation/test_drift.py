"""Drift of made-up streams: none, a ramp, and a mouth that opens wider and wider."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from model.errors import InputError
from model.evaluation.drift import (
    Drift,
    boundary_ratios,
    drift_figures,
    head_poses,
    long_stream,
    mean_drift,
    measure_drift,
    stream_figures,
)
from model.motion.space import load_motion_space
from tests.support.made_speech import made_speech
from tests.support.small_drive import small_drive

LOOP = np.sin(2 * np.pi * np.arange(75) / 15)


def test_the_same_again_and_again_does_not_drift() -> None:
    found = measure_drift(np.tile(LOOP, 20), period_frames=75)
    assert found.periods == 20
    assert abs(found.mean_change_sd) < 1e-9 and abs(found.spread_change_sd) < 1e-9
    assert found.mean_error_sd < 1e-9


def test_a_step_up_each_period_is_found_in_deviations() -> None:
    signal = np.tile(LOOP, 20) + np.repeat(0.01 * np.arange(20), 75)
    found = measure_drift(signal, period_frames=75)
    assert found.mean_change_sd == pytest.approx(0.19 / signal.std())
    assert abs(found.spread_change_sd) < 1e-9


def test_growing_spread_is_told_from_a_moving_mean() -> None:
    signal = np.concatenate([LOOP * scale for scale in np.linspace(1.0, 0.5, 12)])
    found = measure_drift(signal, period_frames=75)
    assert found.spread_change_sd == pytest.approx(-0.5 * LOOP.std() / signal.std())
    assert abs(found.mean_change_sd) < 1e-9


def test_noise_stays_within_its_own_error() -> None:
    found = measure_drift(np.random.default_rng(0).standard_normal(15_000), period_frames=75)
    assert 0 < found.mean_error_sd < 0.05
    assert abs(found.mean_change_sd) < 4 * found.mean_error_sd


def test_one_drifting_code_is_the_worst_and_misses_the_goal() -> None:
    motion = np.zeros((20 * 75, 32), np.float32)
    motion[:, :16] = np.tile(LOOP, 20)[:, None]
    steady = drift_figures(motion[None], load_motion_space(), period_frames=75)
    assert not any(figure.missed for figure in steady.values())
    motion[:, 5] += np.repeat(0.02 * np.arange(20), 75).astype(np.float32)
    drifting = drift_figures(motion[None], load_motion_space(), period_frames=75)
    assert drifting["worst_code_mean_drift"].value == pytest.approx(0.38 / motion[:, 5].std(), rel=1e-4)
    assert drifting["worst_code_mean_drift"].missed


def test_a_stream_of_two_periods_is_too_short() -> None:
    with pytest.raises(InputError, match=r"3 periods.*\(150,\)"):
        measure_drift(np.tile(LOOP, 2), period_frames=75)


def smooth_points(frames: int, seed: int = 0) -> NDArray[np.float64]:
    """Two points (frames, 2, 2) that wander smoothly, alike at every place of a hop."""
    return gaussian_filter1d(np.random.default_rng(seed).standard_normal((frames, 2, 2)), 2.0, axis=0)


@pytest.mark.parametrize("hop_frames", [2, 3, 4])
def test_smooth_motion_joins_like_everything_else(hop_frames: int) -> None:
    ratios = boundary_ratios(smooth_points(60_000), hop_frames=hop_frames)
    assert {name: ratio == pytest.approx(1.0, abs=0.04) for name, ratio in ratios.items()} == dict.fromkeys(
        ("step", "turn", "jerk"), True
    )


@pytest.mark.parametrize("first_phase", [0, 1])
def test_a_jump_between_hops_is_found_where_hops_join(first_phase: int) -> None:
    points = smooth_points(60_000)
    hops = (np.arange(len(points)) + first_phase) // 2
    jumping = points + 0.1 * np.random.default_rng(1).standard_normal(hops.max() + 1)[hops, None, None]
    there = boundary_ratios(jumping, hop_frames=2, first_phase=first_phase)
    assert there["step"] > 1.1 and there["jerk"] > 1.3
    elsewhere = boundary_ratios(jumping, hop_frames=2, first_phase=1 - first_phase)
    assert elsewhere["step"] < 0.95 and elsewhere["jerk"] < 0.9


def test_a_hop_that_begins_with_a_kink_is_a_turn() -> None:
    points = smooth_points(60_000)
    points[1::2] += 0.1 * np.random.default_rng(1).standard_normal((30_000, 1, 1))
    assert boundary_ratios(points, hop_frames=2)["turn"] > 1.3


def test_hops_of_one_frame_have_no_inside() -> None:
    with pytest.raises(InputError, match="hops of 1"):
        boundary_ratios(smooth_points(50), hop_frames=1)


def test_sessions_that_drift_by_chance_drift_less_together() -> None:
    def drift(mean: float) -> Drift:
        return Drift(mean_change_sd=mean, mean_error_sd=0.0, spread_change_sd=0.0, spread_error_sd=0.0, periods=3)

    together = mean_drift([drift(0.3), drift(-0.1)])
    assert together.mean_change_sd == pytest.approx(0.1) and together.mean_error_sd == pytest.approx(0.2)
    with pytest.raises(InputError, match="two sessions"):
        mean_drift([drift(0.0)])


def test_heads_sway_each_by_its_own_seed() -> None:
    poses = head_poses(np.zeros((40, 2, 4), np.float32), [0.0] * 40, 0)
    assert poses.shape[1:] == (80, 3)
    assert np.ptp(poses, axis=1).min() > 0 and np.ptp(poses[:, 0, 0]) > 0


def test_a_stream_has_figures_of_all_that_may_drift() -> None:
    stream = long_stream(made_speech(3.0), small_drive(), seeds=(0, 1))
    assert stream.motion.shape == (2, 75, 32) and stream.latent_norm.shape == (2, 75)
    assert stream.poses_deg.shape[1:] == (75, 3)
    figures = stream_figures(stream, load_motion_space(), period_frames=25)
    signals = ("opening", "width", "worst_code", "latent_norm", "yaw", "pitch", "roll")
    drifts = {f"{signal}_{part}_drift" for signal in signals for part in ("mean", "spread")}
    alone = long_stream(made_speech(3.0), small_drive(), seeds=(1,))
    np.testing.assert_allclose(alone.motion[0], stream.motion[1], atol=1e-4)
    assert set(figures) == drifts | {f"boundary_{kind}_ratio" for kind in ("step", "turn", "jerk")}
