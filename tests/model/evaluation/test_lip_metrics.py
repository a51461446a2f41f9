"""Known answers of the lip scores: closed forms, shifts that give themselves back, truth against truth."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.stats import norm

from model.errors import InputError
from model.evaluation.lip_metrics import (
    best_lag_frames,
    concordance,
    crps,
    lip_motion,
    lip_signals,
    pearson,
    shift_correlations,
    spread_error_ratio,
    spread_ratio,
    visible_lips,
)
from model.motion.face_points import LIP_CORNERS, LIPS_INNER, LIPS_OUTER, MOUTH
from model.motion.space import MotionSpace, load_motion_space
from tests.support.closeness import assert_close


@pytest.fixture(scope="module")
def space() -> MotionSpace:
    return load_motion_space()


def talk(frames: int = 75, seed: int = 0) -> NDArray[np.float64]:
    """A signal as smooth as speech."""
    return gaussian_filter1d(np.random.default_rng(seed).standard_normal(frames + 40), 2.0)[20:-20]


def test_truth_against_truth_is_ideal() -> None:
    truth = talk()
    assert pearson(truth, truth) == pytest.approx(1.0)
    assert concordance(truth, truth) == pytest.approx(1.0)
    assert best_lag_frames(truth, truth) == pytest.approx(0.0, abs=0.05)
    assert spread_ratio(truth, truth) == pytest.approx(1.0)
    assert crps([truth], truth) == 0.0


def test_concordance_asks_for_size_and_mean() -> None:
    truth = talk()
    truth = (truth - truth.mean()) / truth.std()
    assert pearson(0.5 * truth + 3, truth) == pytest.approx(1.0)
    assert concordance(truth + 1.0, truth) == pytest.approx(2 / 3)  # 2 / (1 + 1 + 1)
    assert concordance(0.5 * truth, truth) == pytest.approx(0.8)  # 2 * 0.5 / (1 + 0.25)
    assert concordance(-truth, truth) == pytest.approx(-1.0)


def test_a_still_mouth_follows_nothing() -> None:
    truth, still = talk(), np.full(75, 0.1)
    assert pearson(still, truth) == 0.0
    assert spread_ratio(still, truth) == pytest.approx(0.0)
    assert np.isnan(best_lag_frames(still, truth))
    assert np.isnan(spread_ratio(truth, still))


@pytest.mark.parametrize("lag", [-5, -1, 0, 3])
def test_a_shift_gives_itself_and_late_is_positive(lag: int) -> None:
    long = talk(100)
    truth, late = long[10:85], long[10 - lag : 85 - lag]
    assert best_lag_frames(late, truth) == pytest.approx(lag, abs=0.1)
    assert shift_correlations(late, truth)[8 + lag] == pytest.approx(1.0)


@pytest.mark.parametrize("lag", [-0.6, 0.3, 1.5])
def test_shifts_between_frames(lag: float) -> None:
    time = np.arange(75.0)
    truth = np.sin(2 * np.pi * time / 12) + 0.4 * np.cos(2 * np.pi * time / 19)
    late = np.sin(2 * np.pi * (time - lag) / 12) + 0.4 * np.cos(2 * np.pi * (time - lag) / 19)
    assert best_lag_frames(late, truth) == pytest.approx(lag, abs=0.05)


def test_crps_by_hand() -> None:
    assert crps([[0.0]], [0.7]) == pytest.approx(0.7)  # a point mass: the absolute error
    assert crps([[0.0], [1.0]], [2.0]) == pytest.approx(1.5 - 0.5)
    assert crps([[0.0], [1.0]], [0.0]) == pytest.approx(0.5 - 0.5)
    assert crps([[3.0], [0.0], [1.0]], [1.0]) == pytest.approx(1.0 - (1 + 2 + 3) / 3 / 2)


def test_crps_of_many_samples_is_the_gaussians() -> None:
    mean, sigma = 0.3, 0.5
    samples = mean + sigma * norm.ppf((np.arange(4000) + 0.5) / 4000)
    for truth in (0.3, 0.0, 1.7):
        z = (truth - mean) / sigma
        wanted = sigma * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))
        assert crps(samples[:, None], [truth]) == pytest.approx(wanted, abs=1e-3)


def test_crps_of_two_samples_is_not_biased() -> None:
    rng = np.random.default_rng(0)
    found = crps(rng.standard_normal((2, 100_000)), rng.standard_normal(100_000))
    assert found == pytest.approx(1 / np.sqrt(np.pi), abs=0.01)


def test_spread_over_error_is_one_when_calibrated() -> None:
    rng = np.random.default_rng(1)
    truth, samples = rng.standard_normal(20_000), rng.standard_normal((8, 20_000))
    assert spread_error_ratio(samples, truth) == pytest.approx(1.0, abs=0.02)
    too_sure = np.sqrt(9 / 8 * 0.25 / (1 + 0.25 / 8))
    assert spread_error_ratio(0.5 * samples, truth) == pytest.approx(too_sure, abs=0.02)
    assert np.isnan(spread_error_ratio(samples[:1], truth))


def test_motion_counts_where_asked() -> None:
    opening = np.concatenate([np.arange(10) * 0.01, np.full(10, 0.09)])
    assert lip_motion(opening) == pytest.approx(0.09 / 19 * 25)
    assert lip_motion(opening, np.arange(20) < 10) == pytest.approx(0.25)
    assert lip_motion(opening, np.arange(20) >= 10) == 0.0
    assert np.isnan(lip_motion(opening, np.arange(20) == 3))


def test_narrow_lips_pushed_forward_are_rounded(space: MotionSpace) -> None:
    displacement = np.zeros((len(MOUTH), 3), np.float32)
    for index in (*LIPS_OUTER, *LIPS_INNER):
        displacement[MOUTH.index(index)] = (-0.2 * space.template[index, 0], 0.0, 0.04)
    motion = np.zeros((2, 32), np.float32)
    motion[1, :16] = displacement.reshape(-1) @ space.encoder
    signals = lip_signals(motion, space)
    assert signals.opening[0] == signals.width[0] == 0.0
    assert signals.width[1] < -0.03
    assert signals.rounding[1] > signals.rounding[0] + 0.02
    assert lip_signals(-motion, space).rounding[1] < signals.rounding[0]


def test_visible_lips_at_rest_are_the_templates(space: MotionSpace) -> None:
    lips = visible_lips(np.zeros((3, 32), np.float32), space)
    assert lips.shape == (3, 20, 2)
    corners = space.template[list(LIP_CORNERS), :2]
    assert_close(lips[0, [0, 6]], corners)


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(InputError, match=r"\(3,\) and \(4,\)"):
        pearson(np.zeros(3), np.zeros(4))
    with pytest.raises(InputError, match=r"\(4,\) and \(4,\)"):
        crps(np.zeros(4), np.zeros(4))
    with pytest.raises(InputError, match="15 frames are too few"):
        best_lag_frames(np.zeros(15), np.zeros(15))
    with pytest.raises(InputError, match=r"\(4,\) and \(3,\)"):
        lip_motion(np.zeros(4), np.zeros(3))
