"""Rows with known answers: truth itself, the truth too late, too small, still, and samples around it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from model.errors import InputError
from model.evaluation.closures import mouth_events
from model.evaluation.lip_rows import LIP_METRICS, Method, TrueClip, lip_table
from model.evaluation.tables import MetricTable
from model.motion.space import MotionSpace, load_motion_space
from model.speech.phonemes import INDEX

FRAMES = 75
LATE = 2
IDEAL = {"opening_r": 1, "opening_ccc": 1, "width_r": 1, "rounding_r": 1, "opening_spread": 1, "opening_lag": 0}
IDEAL |= {"opening_crps": 0, "lmd_iod": 0, "velocity_ratio": 1, "jerk_ratio": 1, "syllable_power": 1}


def motion(seed: int, frames: int = FRAMES) -> NDArray[np.float32]:
    out = np.zeros((frames, 32), np.float32)
    noise = np.random.default_rng(seed).standard_normal((frames + 20, 16))
    out[:, :16] = gaussian_filter1d(noise, 2.0, axis=0)[10:-10]
    return out


@pytest.fixture(scope="module")
def space() -> MotionSpace:
    return load_motion_space()


@pytest.fixture(scope="module")
def table(space: MotionSpace) -> MetricTable:
    long = [motion(seed, FRAMES + LATE) for seed in range(3)]
    labels = np.full(4 * FRAMES, INDEX["sil"], np.int64)
    labels[100:120], labels[120:160] = INDEX["b"], INDEX["ay"]
    clips = [TrueClip(f"clip{i}", m[LATE:], mouth_events(labels, FRAMES)) for i, m in enumerate(long[:2])]
    clips.append(TrueClip("unheard", long[2][LATE:], None))
    truth = [c.motion for c in clips]
    rng = np.random.default_rng(0)
    around = [[t + 0.3 * motion(int(rng.integers(1000)) + 10) for t in truth] for _ in range(4)]
    methods = {
        "late": Method([[m[:-LATE] for m in long]]),
        "half": Method([[0.5 * t for t in truth]]),
        "still": Method([[np.zeros_like(t) for t in truth]]),
        "samples": Method(around, samples=True),
        "one by one": Method(around),
    }
    return lip_table("rows", clips, methods, space, reference="late")


def test_truth_against_truth_is_ideal(table: MetricTable) -> None:
    for name, wanted in IDEAL.items():
        assert table.values["truth"][name] == pytest.approx(np.full(3, wanted), abs=1e-3), name
    assert table.truth == "truth" and table.methods[0] == "truth"


def test_late_motion_shows_as_its_lag(table: MetricTable) -> None:
    assert table.values["late"]["opening_lag"] == pytest.approx(np.full(3, LATE), abs=0.2)
    assert (table.values["late"]["opening_r"] < 0.9).all()


def test_half_the_size_follows_perfectly_and_is_seen_as_half(table: MetricTable) -> None:
    half = table.values["half"]
    assert half["opening_r"] == pytest.approx(np.ones(3))
    for name, wanted in {
        "opening_spread": 0.5,
        "velocity_ratio": 0.5,
        "jerk_ratio": 0.5,
        "syllable_power": 0.25,
    }.items():
        assert half[name] == pytest.approx(np.full(3, wanted), abs=1e-3), name
    assert table.pooled["half"]["closure_f1"] == table.pooled["truth"]["closure_f1"]


def test_a_still_mouth_gets_nothing(table: MetricTable) -> None:
    still = table.values["still"]
    assert not still["opening_r"].any() and not still["velocity_ratio"].any()
    assert np.isnan(still["opening_lag"]).all()
    assert table.pooled["still"]["closure_f1"] == 0.0


def test_only_samples_have_a_spread_and_are_worth_more_together(table: MetricTable) -> None:
    assert [m for m in table.methods if "spread_error" in table.values[m]] == ["samples"]
    assert (table.values["samples"]["opening_crps"] < table.values["one by one"]["opening_crps"]).all()
    assert table.values["samples"]["opening_r"] == pytest.approx(table.values["one by one"]["opening_r"])


def test_clips_without_phonemes_are_left_out_and_said(table: MetricTable) -> None:
    assert np.isnan(table.values["truth"]["closure_recall"]).tolist() == [False, False, True]
    assert table.notes == ("1 of 3 clips could not be aligned and count in no score of phonemes",)


def test_every_column_is_described_and_filled(table: MetricTable) -> None:
    filled = set(table.values["samples"]) | set(table.pooled["samples"]) | {"rounding_f1", "spreading_f1"}
    assert filled == {m.name for m in LIP_METRICS}  # no rounded sound was said here


def test_motion_must_fit_the_clips(space: MotionSpace) -> None:
    clip = TrueClip("a", motion(0), None)
    with pytest.raises(InputError, match="'short'"):
        lip_table("rows", [clip], {"short": Method([[motion(0)[:-1]]])}, space)
    with pytest.raises(InputError, match="no motion at all"):
        lip_table("rows", [clip], {"none": Method([])}, space)
