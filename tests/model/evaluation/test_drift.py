"""Drift of made-up streams: none, a ramp, and a mouth that opens wider and wider."""

from __future__ import annotations

import numpy as np
import pytest

from model.errors import InputError
from model.evaluation.drift import drift_figures, measure_drift
from model.motion.space import load_motion_space

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
    steady = drift_figures(motion, load_motion_space(), period_frames=75)
    assert not any(figure.missed for figure in steady.values())
    motion[:, 5] += np.repeat(0.02 * np.arange(20), 75).astype(np.float32)
    drifting = drift_figures(motion, load_motion_space(), period_frames=75)
    assert drifting["worst_code_mean_drift"].value == pytest.approx(0.38 / motion[:, 5].std(), rel=1e-4)
    assert drifting["worst_code_mean_drift"].missed


def test_a_stream_of_two_periods_is_too_short() -> None:
    with pytest.raises(InputError, match=r"3 periods.*\(150,\)"):
        measure_drift(np.tile(LOOP, 2), period_frames=75)
