"""Windows for the speech encoder: labels stay with their sound, noise has its ratio, motion its frame."""

from __future__ import annotations

import numpy as np
import pytest

from model.speech.phonemes import INDEX, SILENCE_INDEX
from model.training.speech_data import (
    MixConfig,
    SpeechBank,
    SpeechItem,
    add_powers,
    draw_windows,
    mix_noise,
    plain_windows,
    speech_activity,
    speech_level,
)

COLUMNS, BANDS, FRAMES = 240, 80, 60


def _item(*, motion: bool = True, loud_band: bool = True) -> SpeechItem:
    """Column c says phoneme c // 4 % 45, loudest in the band of that number; frame f moves by f."""
    phonemes = (np.arange(COLUMNS) // 4 % len(INDEX)).astype(np.uint8)
    raw = np.full((COLUMNS, BANDS), -6.0, np.float16)
    if loud_band:
        raw[np.arange(COLUMNS), phonemes] = 1.0
    frames = np.repeat(np.arange(FRAMES, dtype=np.float32)[:, None], 3, 1)
    return SpeechItem(raw, phonemes, speech_activity(phonemes), 1.0, frames if motion else None)


def _bank(item: SpeechItem) -> SpeechBank:
    silent = np.full(COLUMNS, SILENCE_INDEX, np.uint8)
    hiss = SpeechItem(np.full((COLUMNS, BANDS), -3.0, np.float16), silent, np.zeros(COLUMNS, bool), -3.0 + np.log10(80))
    return SpeechBank([item], [_item(motion=False)], [hiss], [hiss])


def test_labels_and_motion_stay_with_their_sound() -> None:
    windows = plain_windows([_item()], 96, 20, np.random.default_rng(0))
    assert windows.mel.shape == (20, 96, BANDS) and windows.phonemes.shape == (20, 48)
    said = windows.mel[:, 1::2].argmax(-1)
    heard = windows.mel[:, 1::2].max(-1) > windows.mel[:, 1::2].min(-1)
    np.testing.assert_array_equal(said[heard], windows.phonemes[heard])
    assert (windows.phonemes[~heard] == SILENCE_INDEX).all()
    for row, motion in zip(windows.phonemes, windows.motion, strict=True):
        frame = np.flatnonzero(~np.isnan(motion[:, 0]))
        np.testing.assert_array_equal(motion[frame, 0] % len(INDEX), row[1::2][frame])


def test_a_shift_moves_the_sound_and_its_labels_but_not_the_face() -> None:
    mix = MixConfig(
        filmed_share=1.0, noise_share=0.0, mixed_share=0.0, shifted_share=1.0, shift_columns=4, popped_share=0.0
    )
    windows = draw_windows(_bank(_item()), 96, 60, mix, np.random.default_rng(1))
    offsets = set()
    for labels, motion in zip(windows.phonemes, windows.motion, strict=True):
        last = np.flatnonzero(~np.isnan(motion[:, 0]))[-1]
        if labels[-1] != SILENCE_INDEX and 2 < motion[last, 0] % 45 < 42 and last == len(motion) - 1:
            offsets.add(int(labels[-1]) - int(motion[last, 0] % 45))
    assert offsets == {-1, 0, 1}  # whole frames of up to 40 ms either way


def test_noise_alone_is_neither_phoneme_nor_voice() -> None:
    mix = MixConfig(filmed_share=0.0, noise_share=1.0)
    windows = draw_windows(_bank(_item()), 96, 8, mix, np.random.default_rng(2))
    assert (windows.phonemes == SILENCE_INDEX).all() and not windows.voice.any() and np.isnan(windows.motion).all()


def test_the_same_seed_draws_the_same_windows() -> None:
    bank = _bank(_item())
    a, b, c = (draw_windows(bank, 96, 6, MixConfig(), np.random.default_rng(s)) for s in (3, 3, 4))
    np.testing.assert_array_equal(a.mel, b.mel)
    assert not np.array_equal(a.mel, c.mel)


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 20.0])
def test_noise_is_mixed_at_its_ratio(snr_db: float) -> None:
    rng = np.random.default_rng(0)
    speech = rng.normal(-2.0, 0.3, (200, BANDS)).astype(np.float32)
    noise = _bank(_item()).noise[0]
    mixed = mix_noise(speech, speech_level(speech), noise, snr_db, rng)
    added = np.mean((10.0 ** mixed.astype(np.float64) - 10.0 ** speech.astype(np.float64)).sum(1))
    assert speech_level(speech) - np.log10(added) == pytest.approx(snr_db / 10, abs=0.05)


def test_powers_add() -> None:
    np.testing.assert_allclose(
        add_powers(np.float32([0.0, 1.0]), np.float32([0.0, -9.0])), [np.log10(2), 1.0], atol=1e-6
    )


def test_closures_are_speech_and_pauses_are_not() -> None:
    phonemes = np.full(100, SILENCE_INDEX, np.uint8)
    phonemes[10:20] = phonemes[30:40] = phonemes[70:80] = INDEX["aa"]
    active = speech_activity(phonemes)
    assert active[10:40].all() and active[70:80].all()
    assert not active[:10].any() and not active[40:70].any() and not active[80:].any()


def test_a_pop_long_before_makes_everything_quieter() -> None:
    bank = _bank(_item())
    plain = MixConfig(filmed_share=1.0, noise_share=0.0, mixed_share=0.0, shifted_share=0.0, popped_share=0.0)
    popped = MixConfig(filmed_share=1.0, noise_share=0.0, mixed_share=0.0, shifted_share=0.0, popped_share=1.0)
    a, b = (draw_windows(bank, 96, 16, mix, np.random.default_rng(7)) for mix in (plain, popped))
    assert a.mel.max() == pytest.approx(1.0) and b.mel.max() <= 1.0 and b.mel.mean() < a.mel.mean()
