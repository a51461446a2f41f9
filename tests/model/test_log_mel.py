"""The streaming log-mel: chunking changes nothing, the future changes no past, silence stays silent."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.speech.log_mel import HOP_SAMPLES, MAX_FLOOR_LOG10, SILENCE, LogMel, LogMelState

LOG_MEL = LogMel()


def speechlike(num_samples: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.arange(num_samples) / 16_000
    tone = np.sin(2 * np.pi * 180 * t) * (0.3 + 0.3 * np.sin(2 * np.pi * 3 * t))
    return (tone + rng.normal(0, 0.01, num_samples)).astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(packets=st.lists(st.integers(1, 1500), min_size=1, max_size=12))
def test_any_packet_sizes_give_the_same_columns(packets: list[int]) -> None:
    audio = speechlike(sum(packets))
    whole = LOG_MEL.push(audio, LogMelState())
    state, parts, start = LogMelState(), [], 0
    for packet in packets:
        parts.append(LOG_MEL.push(audio[start : start + packet], state))
        start += packet
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_later_sound_changes_no_earlier_column() -> None:
    audio = speechlike(8000)
    changed = audio.copy()
    changed[4800:] = 0.9
    before = LOG_MEL.push(audio, LogMelState())[: 4800 // HOP_SAMPLES]
    after = LOG_MEL.push(changed, LogMelState())[: 4800 // HOP_SAMPLES]
    np.testing.assert_array_equal(before, after)


def test_one_column_per_hop_from_the_first_sample_on() -> None:
    assert len(LOG_MEL.push(np.zeros(HOP_SAMPLES, np.float32), LogMelState())) == 1
    assert len(LOG_MEL.push(np.zeros(HOP_SAMPLES - 1, np.float32), LogMelState())) == 0


def test_silence_is_at_the_bottom_and_faint_noise_is_not_amplified() -> None:
    silent = LOG_MEL.push(np.zeros(16_000, np.float32), LogMelState())
    assert silent.max() == pytest.approx(SILENCE)
    rng = np.random.default_rng(1)
    state = LogMelState()
    LOG_MEL.push(rng.normal(0, 1e-4, 16_000).astype(np.float32), state)
    assert state.maximum == MAX_FLOOR_LOG10


def test_level_hardly_matters_once_speech_was_heard() -> None:
    audio = speechlike(48_000)
    loud = LOG_MEL.push(audio, LogMelState())[100:]
    quiet = LOG_MEL.push(audio * 0.25, LogMelState())[100:]
    assert np.abs(loud - quiet).max() < 0.02
