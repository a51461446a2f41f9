"""Sync on the model's own lips: shifts put in are found, and silence is not judged."""

from __future__ import annotations

import numpy as np
import pytest

from model.data.av_sync import expected_opening, measure_sync, shift_audio, shifted_correlation
from tests.support.made_speech import made_speech

FRAMES = 100


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """Four seconds of speech-like sound."""
    return (made_speech(FRAMES / 25) * 32767).astype(np.int16)


@pytest.mark.parametrize("shift", [-5, 2, *(pytest.param(shift, marks=pytest.mark.nightly) for shift in (-2, 0, 5))])
def test_shifts_are_found(speech: np.ndarray, shift: int) -> None:
    opening, _ = expected_opening(speech, FRAMES)
    late = measure_sync(opening, shift_audio(speech, -shift))
    assert late.judged
    assert late.offset_frames == shift
    assert late.lag_frames == pytest.approx(shift, abs=0.5)


def test_silence_is_not_judged() -> None:
    opening = np.abs(np.sin(np.arange(FRAMES) / 3)).astype(np.float32)
    result = measure_sync(opening, np.zeros(FRAMES * 640, np.int16))
    assert not result.judged
    assert result.speech_frames == 0


def test_shifting_moves_whole_frames_and_pads_silence() -> None:
    audio = np.arange(5 * 640, dtype=np.int16)
    np.testing.assert_array_equal(shift_audio(audio, 2)[: 3 * 640], audio[2 * 640 :])
    assert not shift_audio(audio, 2)[3 * 640 :].any()
    np.testing.assert_array_equal(shift_audio(audio, -1)[640:], audio[: 4 * 640])
    np.testing.assert_array_equal(shift_audio(audio, 0), audio)


def test_correlation_of_a_shifted_copy_is_one() -> None:
    signal = np.random.default_rng(0).normal(size=80).astype(np.float32)
    assert shifted_correlation(signal[3:], signal[:-3], 3) == pytest.approx(1.0)
    assert shifted_correlation(signal[:-3], signal[3:], -3) == pytest.approx(1.0)
    assert shifted_correlation(np.zeros(80, np.float32), signal, 0) == 0.0
