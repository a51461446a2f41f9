"""Damage keeps length and time, does what it says, and a quarter of the draws do nothing."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model.data.sound_damage import Damage, Reverb, apply_damage, opus_round_trip, random_damage
from model.errors import ConfigError, InputError

RATE = 16_000


def bursts(seconds: float = 2.0, seed: int = 0) -> NDArray[np.float32]:
    """Noise of 0.5-6 kHz in syllables."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.normal(size=int(seconds * RATE)))
    hz = np.fft.rfftfreq(int(seconds * RATE), 1 / RATE)
    noise = np.fft.irfft(spectrum * ((hz > 500) & (hz < 6000)), int(seconds * RATE))
    noise *= np.clip(np.sin(2 * np.pi * 2.5 * np.arange(len(noise)) / RATE), 0, 1)
    return (0.5 * noise / np.abs(noise).max()).astype(np.float32)


def lag_samples(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> int:
    size = 2 * len(wanted)
    cross = np.fft.irfft(np.fft.rfft(found - found.mean(), size) * np.conj(np.fft.rfft(wanted, size)), size)
    lag = int(cross.argmax())
    return lag - size if lag > len(wanted) else lag


def power_db(audio: NDArray[np.float32], low_hz: float, high_hz: float) -> float:
    spectrum = np.abs(np.fft.rfft(audio.astype(np.float64))) ** 2
    hz = np.fft.rfftfreq(len(audio), 1 / RATE)
    return float(10 * np.log10(spectrum[(hz >= low_hz) & (hz < high_hz)].sum() + 1e-20))


@pytest.mark.parametrize("kbps", [16, 20, 24, 32])
@pytest.mark.parametrize("samples", [20_000, 20_001, 19_999, 320])
def test_opus_gives_back_every_sample_in_its_place(kbps: int, samples: int) -> None:
    audio = bursts()[7_000 : 7_000 + samples]  # ends within a burst
    heard = opus_round_trip(audio, kbps)
    assert heard.shape == audio.shape and heard.dtype == np.float32
    if samples > 10_000:
        assert abs(lag_samples(heard, audio)) <= 1  # its high-pass advances the phase by a fraction of a sample
        found, wanted = (np.convolve(x**2, np.hanning(161), "same")[::16] for x in (heard, audio))
        assert np.corrcoef(found, wanted)[0, 1] > 0.9 and found[-60:].sum() > 0.5 * wanted[-60:].sum()


def test_a_higher_bit_rate_is_nearer_the_original() -> None:
    audio = bursts()
    errors = [np.mean((opus_round_trip(audio, kbps) - audio) ** 2) for kbps in (16, 32, 96)]
    assert errors[0] > errors[1] > errors[2]


def test_reverberation_follows_the_direct_sound_at_the_ratio_and_decays_in_time() -> None:
    impulse = np.zeros(RATE, np.float32)
    impulse[100] = 0.5
    room = Reverb(t60_s=0.4, direct_to_reverberant_db=6.0, brightness_hz=5000.0, seed=3)
    response = apply_damage(impulse, Damage(reverb=room)).astype(np.float64)
    assert not np.abs(response[:100]).max() > 1e-9  # nothing before the direct sound
    assert response.argmax() == 100
    tail = response[101:]
    assert 10 * np.log10(response[100] ** 2 / np.sum(tail**2)) == pytest.approx(6.0, abs=0.1)
    decay = np.cumsum(tail[::-1] ** 2)[::-1]  # Schroeder's backward integration
    early, late = (10 * np.log10(decay[int(t * RATE)] / decay[0]) for t in (0.05, 0.25))
    assert 60.0 * 0.2 / (early - late) == pytest.approx(0.4, rel=0.15)


def test_a_telephone_passes_its_band_only_and_delays_nothing() -> None:
    rng = np.random.default_rng(0)
    audio = (0.1 * rng.normal(size=RATE)).astype(np.float32)
    heard = apply_damage(audio, Damage(band_hz=(300.0, 3400.0)))
    assert power_db(heard, 600, 2500) == pytest.approx(power_db(audio, 600, 2500), abs=0.2)
    assert power_db(heard, 0, 120) < power_db(audio, 0, 120) - 20
    assert power_db(heard, 6000, 8000) < power_db(audio, 6000, 8000) - 15
    assert lag_samples(heard, audio) == 0


def test_hum_offset_and_gain_have_their_sizes() -> None:
    quiet = np.zeros(RATE, np.float32)
    hum = apply_damage(quiet, Damage(hum_hz=50.0, hum_level=0.02))
    assert np.sqrt(np.mean(hum**2)) == pytest.approx(0.02, rel=1e-3)
    assert power_db(hum, 45, 55) > power_db(hum, 90, 110) > power_db(hum, 170, 8000)
    assert apply_damage(quiet, Damage(dc_offset=0.04)).mean() == pytest.approx(0.04, rel=1e-6)
    audio = bursts()
    np.testing.assert_allclose(apply_damage(audio, Damage(gain_db=-6.0)), audio * 10**-0.3, atol=1e-6)
    assert np.abs(apply_damage(audio, Damage(gain_db=40.0))).max() == 1  # a converter stops at full scale


def test_hard_clipping_flattens_what_passes_and_nothing_else() -> None:
    audio = bursts()
    heard = apply_damage(audio, Damage(clipping="hard", clip_drive_db=6.0))
    limit = 0.5 * 10**-0.3
    np.testing.assert_allclose(heard, audio.clip(-limit, limit), atol=1e-6)
    soft = apply_damage(audio, Damage(clipping="soft", clip_drive_db=6.0))
    assert np.abs(soft).max() < limit and (np.abs(soft) <= np.abs(audio) + 1e-7).all()


def test_converters_have_their_steps() -> None:
    audio = bursts()
    coarse = apply_damage(audio, Damage(converter="8 bit"))
    assert len(np.unique(coarse)) <= 255 and np.abs(coarse - audio).max() <= 0.5 / 127 + 1e-6
    companded = apply_damage(audio, Damage(converter="mu-law"))
    assert len(np.unique(companded)) <= 255
    quiet = np.abs(audio) < 0.01
    assert np.abs(companded - audio)[quiet].max() < 0.2 * np.abs(coarse - audio)[quiet].max()


def test_a_quarter_of_the_draws_leave_the_sound_alone() -> None:
    rng = np.random.default_rng(0)
    draws = [random_damage(rng) for _ in range(800)]
    assert 0.2 < np.mean([draw == Damage() for draw in draws]) < 0.31
    audio = bursts()
    np.testing.assert_array_equal(apply_damage(audio, Damage()), audio)
    used = [
        any(draw.reverb is not None for draw in draws),
        any(draw.band_hz is not None for draw in draws),
        {draw.clipping for draw in draws} == {"", "soft", "hard"},
        {draw.converter for draw in draws} == {"", "8 bit", "mu-law"},
        {draw.opus_kbps for draw in draws} == {0, 16, 20, 24, 32},
        any(draw.hum_level for draw in draws) and any(draw.dc_offset for draw in draws),
    ]
    assert all(used), used


def test_every_draw_keeps_length_time_and_range_and_is_repeatable() -> None:
    audio = bursts(1.0)
    envelope = np.convolve(audio.astype(np.float64) ** 2, np.hanning(321), "same")[::16]
    rng = np.random.default_rng(2)
    for _ in range(60):
        damage = random_damage(rng)
        heard = apply_damage(audio, damage)
        assert heard.shape == audio.shape and heard.dtype == np.float32
        assert np.isfinite(heard).all() and np.abs(heard).max() <= 1
        np.testing.assert_array_equal(heard, apply_damage(audio, damage))
        if damage.reverb is None and not damage.hum_level:
            assert abs(lag_samples(heard, audio)) <= 1, damage
        elif damage.reverb is None:
            found = np.convolve(heard.astype(np.float64) ** 2, np.hanning(321), "same")[::16]
            assert np.corrcoef(found, envelope)[0, 1] > 0.3, damage


def test_empty_sound_stays_empty() -> None:
    assert apply_damage(np.zeros(0, np.float32), Damage(gain_db=3.0)).shape == (0,)


def test_what_is_not_mono_or_not_finite_is_refused() -> None:
    for audio in (np.zeros((2, 100), np.float32), np.full(100, np.inf, np.float32)):
        with pytest.raises(InputError, match="mono and finite"):
            apply_damage(audio, Damage(gain_db=1.0))


@pytest.mark.parametrize("bad", [{"band_hz": (500.0, 300.0)}, {"opus_kbps": 2}])
def test_impossible_chains_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        Damage(**bad)  # type: ignore[arg-type]
