"""The streaming log-mel: chunking changes nothing, the future changes no past, silence stays silent."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from whisper.audio import mel_filters

from model.errors import ConfigError, InputError
from model.speech.log_mel import (
    HOP_SAMPLES,
    MAX_FLOOR_LOG10,
    SILENCE,
    WINDOW_SAMPLES,
    LogMel,
    LogMelState,
)

LOG_MEL = LogMel()
BANKS = (LOG_MEL, LogMel(128))


def speechlike(num_samples: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.arange(num_samples) / 16_000
    tone = np.sin(2 * np.pi * 180 * t) * (0.3 + 0.3 * np.sin(2 * np.pi * 3 * t))
    return (tone + rng.normal(0, 0.01, num_samples)).astype(np.float32)


@pytest.mark.parametrize("log_mel", BANKS, ids=["80", "128"])
@settings(max_examples=25, deadline=None)
@given(packets=st.lists(st.one_of(st.just(0), st.just(1), st.integers(0, 1500)), min_size=1, max_size=14))
def test_any_packet_sizes_give_the_same_bits(log_mel: LogMel, packets: list[int]) -> None:
    audio = speechlike(sum(packets))
    whole = log_mel.push(audio, LogMelState())
    assert whole.shape == (len(audio) // HOP_SAMPLES, log_mel.num_bands)
    state, parts, start = LogMelState(), [], 0
    for packet in packets:
        parts.append(log_mel.push(audio[start : start + packet], state))
        start += packet
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("log_mel", BANKS, ids=["80", "128"])
def test_sample_by_sample_and_in_long_pieces_are_the_same_bits(log_mel: LogMel) -> None:
    audio = speechlike(25 * 16_000)  # longer than what is computed at once
    whole, state = log_mel.push(audio, LogMelState()), LogMelState()
    singles = [log_mel.push(audio[i : i + 1], state) for i in range(3000)]
    rest = [log_mel.push(part, state) for part in np.split(audio[3000:], [7, 350_001])]
    np.testing.assert_array_equal(np.concatenate([*singles, *rest]), whole)


@pytest.mark.parametrize("log_mel", BANKS, ids=["80", "128"])
def test_band_powers_are_those_of_whisper(log_mel: LogMel) -> None:
    audio = speechlike(8000)
    padded = torch.from_numpy(np.concatenate([np.zeros(WINDOW_SAMPLES - HOP_SAMPLES, np.float32), audio]))
    window = torch.hann_window(WINDOW_SAMPLES)
    spectrum = torch.stft(padded, WINDOW_SAMPLES, HOP_SAMPLES, window=window, center=False, return_complex=True)
    mel = mel_filters("cpu", log_mel.num_bands) @ spectrum.abs() ** 2
    wanted = torch.clamp(mel, min=1e-10).log10().T.numpy()
    np.testing.assert_allclose(log_mel.push_raw(audio, LogMelState()), wanted, atol=1e-3)


def test_other_numbers_of_bands_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"\(80, 128\), got 64"):
        LogMel(64)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.array([0.1, np.nan, 0.1], np.float32), r"NaN or infinity \(1 of 3 samples\)"),
        (np.array([0.1, np.inf, -np.inf], np.float32), r"NaN or infinity \(2 of 3 samples\)"),
        (np.array([0.1, -32768.0], np.float32), "audio reaches 32768: scale it"),
        (np.zeros(160, np.int16), "int16"),
        (np.zeros((160, 1), np.float32), r"\(160, 1\)"),
    ],
)
def test_refused_audio_disturbs_nothing(bad: np.ndarray, message: str) -> None:
    audio, state = speechlike(2000), LogMelState()
    before = LOG_MEL.push(audio[:900], state)
    with pytest.raises(InputError, match=message):
        LOG_MEL.push(bad, state)
    found = np.concatenate([before, LOG_MEL.push(audio[900:], state)])
    np.testing.assert_array_equal(found, LOG_MEL.push(audio, LogMelState()))


def test_the_maximum_halves_in_ten_seconds_and_a_constant_offset_leaves_with_it() -> None:
    state = LogMelState()
    LOG_MEL.push(np.full(16_000, 0.5, np.float32), state)
    loud = state.maximum
    assert loud > MAX_FLOOR_LOG10 + 1.0
    LOG_MEL.push(np.zeros(16_000 + WINDOW_SAMPLES, np.float32), state)  # the step down sounds once more
    after = state.maximum
    LOG_MEL.push(np.zeros(160_000, np.float32), state)
    assert after - state.maximum == pytest.approx(np.log10(2.0), rel=1e-6)
    LOG_MEL.push(np.zeros(200 * 16_000, np.float32), state)
    assert state.maximum == MAX_FLOOR_LOG10


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
