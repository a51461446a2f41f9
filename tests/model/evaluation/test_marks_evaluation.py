"""Measuring the marks: attacks change what they say, intervals and tails are right, false alarms are counted."""

from __future__ import annotations

import numpy as np
import pytest

from model.errors import InputError
from model.evaluation.mark_alarms import alarm_figures, fit_tail, random_keys, score_unmarked
from model.evaluation.mark_attacks import ATTACKS, STRESSES, luma_of
from model.evaluation.marks import wilson_interval

ALL = {attack.name: attack for attack in (*ATTACKS, *STRESSES)}


def clip(frames: int = 4) -> list[np.ndarray]:
    y, x = np.mgrid[:96, :64]
    return [(120 + 50 * np.sin((x + i) / 9) * np.cos(y / 7)).astype(np.uint8) for i in range(frames)]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("none", (64, 64)),
        ("vp8_500k", (64, 64)),
        ("h264_1m", (64, 64)),
        ("rescale_75", (48, 48)),
        ("crop_10", (52, 52)),
        ("squeeze_to_4_3", (48, 64)),
        ("vp8_500k_darker_rescale_crop", (40, 40)),
    ],
)
def test_attacks_give_frames_of_their_size(name: str, shape: tuple[int, int]) -> None:
    attacked = ALL[name](clip())
    assert len(attacked) == 4
    assert {luma_of(frame).shape for frame in attacked} == {shape}


def test_brightness_is_scaled_from_black() -> None:
    frame = np.full((96, 64), 116, np.uint8)
    assert set(np.unique(luma_of(ALL["darker_20"]([frame])[0]))) == {96}
    assert set(np.unique(luma_of(ALL["brighter_20"]([frame])[0]))) == {136}


def test_codecs_lose_something_but_little() -> None:
    frames = clip()
    for name in ("vp8_500k", "h264_1m"):
        error = np.abs(np.stack(ALL[name](frames)).astype(int) - np.stack(frames))
        assert 0 < error.mean() < 4


def test_crop_keeps_luma_and_colour_together() -> None:
    frame = np.concatenate([np.tile(np.arange(64, dtype=np.uint8), (64, 1)), np.zeros((32, 64), np.uint8)])
    chroma = frame[64:].reshape(2, 32, 32)
    chroma[:] = np.arange(32, dtype=np.uint8)
    cropped = ALL["crop_25"]([frame])[0]
    assert (luma_of(cropped)[0] == np.arange(16, 48)).all()
    assert (cropped[32:].reshape(2, 16, 16)[1, 5] == np.arange(8, 24)).all()


def test_wilson_interval_is_the_published_one() -> None:
    low, high = wilson_interval(81, 263)  # Newcombe 1998, table I: 0.2553 to 0.3662
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert wilson_interval(10, 10)[1] == pytest.approx(1.0)


def test_tail_bounds_what_was_drawn() -> None:
    drawn = np.random.default_rng(0).exponential(0.5, 20_000)
    tail = fit_tail(drawn)
    assert tail.scale == pytest.approx(0.5, rel=0.15)
    assert tail.bound(8.0) >= np.exp(-16.0)
    gaussian = np.random.default_rng(1).normal(size=20_000)
    assert fit_tail(gaussian).bound(4.5) > 3.4e-6  # P(N(0, 1) > 4.5)
    with pytest.raises(InputError, match="1000"):
        fit_tail(drawn[:999])


def test_noise_is_no_mark() -> None:
    pictures = [np.random.default_rng(i).normal(128, 6, (96, 128)) for i in range(50)]
    found = score_unmarked(pictures, random_keys(20), decoded_keys=1)
    assert found.scores.shape == (50, 20)
    assert (found.decoded, found.passed) == (150, 0)
    figures = alarm_figures(found, "unmarked_noise")
    assert figures["unmarked_noise_rate_bound"].value < 1e-6
    assert not any(figure.missed for figure in figures.values())
