"""Another voice, the same times: formants and pitch move as told, nothing else does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import solve_toeplitz
from scipy.signal import lfilter

from model.errors import ConfigError, InputError

pytest.importorskip("pyworld", reason="pip install pyworld 'setuptools<81'", exc_type=ImportError)

from model.audio_file import read_audio
from model.data.revoice import VoiceAnalysis, VoiceChange, analyse, random_change, revoice

RATE = 16_000
FORMANTS_HZ = (600.0, 1500.0, 2500.0, 3600.0)


def vowels(seconds: float = 2.0, f0_hz: float = 112.0) -> NDArray[np.float32]:
    """A pulse train through four resonances, swelling five times a second: an adult man's uh-uh-uh."""
    time_s = np.arange(int(seconds * RATE)) / RATE
    melody_hz = f0_hz * np.exp(0.1 * np.sin(2 * np.pi * 1.3 * time_s))
    cycles = np.cumsum(melody_hz) / RATE
    sound = np.diff(np.floor(cycles), prepend=0.0) + np.random.default_rng(0).normal(0, 1e-3, len(time_s))
    for centre_hz in FORMANTS_HZ:
        radius = np.exp(-np.pi * 90.0 / RATE)
        sound = lfilter([1.0], [1.0, -2 * radius * np.cos(2 * np.pi * centre_hz / RATE), radius**2], sound)
    sound *= 0.05 + np.clip(np.sin(2 * np.pi * 2.5 * time_s), 0, 1) ** 2
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


@pytest.fixture(scope="module")
def analysis() -> VoiceAnalysis:
    return analyse(vowels())


def formants_hz(audio: NDArray[np.float32]) -> NDArray[np.float64]:
    """Resonances by linear prediction of order 12: poles of a bandwidth below 500 Hz."""
    sound = np.diff(audio.astype(np.float64)) * np.hanning(len(audio) - 1)
    lags = np.correlate(sound, sound, "full")[len(sound) - 1 :][:13]
    lags[0] *= 1.0001
    roots = np.roots(np.concatenate([[1.0], -solve_toeplitz(lags[:12], lags[1:13])]))
    found = roots[(roots.imag > 0) & (-np.log(np.abs(roots)) * RATE / np.pi < 500.0)]
    return np.sort(np.angle(found) * RATE / (2 * np.pi))


def pitch_hz(audio: NDArray[np.float32]) -> float:
    """Frequency of the highest peak of the autocorrelation between 60 and 500 Hz, over the loudest 0.3 s."""
    power = np.convolve(audio.astype(np.float64) ** 2, np.ones(4800), "valid")
    part = audio[int(power.argmax()) :][:4800].astype(np.float64)
    lags = np.correlate(part, part, "full")[len(part) - 1 :]
    shortest, longest = RATE // 500, RATE // 60
    return RATE / (shortest + int(lags[shortest:longest].argmax()))


def envelope_lag_ms(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> int:
    """Where the energy envelopes, one value a millisecond, agree best; positive: `found` is late."""
    a, b = (np.sqrt(np.convolve(x.astype(np.float64) ** 2, np.hanning(161), "same")[::16]) for x in (found, wanted))
    cross = np.correlate(a - a.mean(), b - b.mean(), "full")
    return int(cross.argmax()) - (len(b) - 1)


@pytest.mark.parametrize("scale", [0.85, 1.0, 1.2, 1.33])
def test_formants_move_by_the_scale(analysis: VoiceAnalysis, scale: float) -> None:
    before = formants_hz(vowels())
    after = formants_hz(revoice(analysis, VoiceChange(formant_scale=scale)))
    for centre_hz in FORMANTS_HZ[1:]:  # the first lies between two harmonics
        assert np.abs(before - centre_hz).min() < 0.04 * centre_hz
        assert np.abs(after - scale * centre_hz).min() < 0.06 * scale * centre_hz


def test_a_longer_tract_leaves_no_hole_above_the_recorded_band() -> None:
    hiss = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    spectrum = np.abs(np.fft.rfft(revoice(analyse(hiss), VoiceChange(formant_scale=0.8)))) ** 2
    hz = np.fft.rfftfreq(RATE, 1 / RATE)
    high, middle = (spectrum[(hz > low) & (hz < low + 800)].mean() for low in (7000, 4000))
    assert abs(10 * np.log10(high / middle)) < 3


@pytest.mark.parametrize("f0_hz", [75.0, 112.0, 200.0, 340.0])
def test_pitch_goes_where_it_is_sent(analysis: VoiceAnalysis, f0_hz: float) -> None:
    found = pitch_hz(revoice(analysis, VoiceChange(mean_f0_hz=f0_hz, f0_range_scale=0.0)))
    assert abs(found / f0_hz - 1) < 0.03


def test_a_wider_melody_swings_wider(analysis: VoiceAnalysis) -> None:
    def swing(f0_range_scale: float) -> float:
        again = analyse(revoice(analysis, VoiceChange(f0_range_scale=f0_range_scale))).f0_hz
        return float(np.std(np.log(again[again > 0])))

    assert swing(0.0) < 0.02
    assert 1.6 < swing(2.0) / swing(1.0) < 2.4


def test_breath_fills_the_valleys_between_harmonics(analysis: VoiceAnalysis) -> None:
    def mean_aperiodicity(breathiness: float) -> float:
        again = analyse(revoice(analysis, VoiceChange(breathiness=breathiness)))
        return float(again.aperiodicity[again.f0_hz > 0].mean())

    assert mean_aperiodicity(0.8) > mean_aperiodicity(0.0) + 0.1


def test_a_darker_tilt_takes_treble_away(analysis: VoiceAnalysis) -> None:
    def treble_share(tilt_db: float) -> float:
        spectrum = np.abs(np.fft.rfft(revoice(analysis, VoiceChange(tilt_db_per_octave=tilt_db)))) ** 2
        return float(spectrum[len(spectrum) // 4 :].sum() / spectrum.sum())

    assert treble_share(-6.0) < 0.5 * treble_share(0.0) < 0.5 * treble_share(4.0)


@pytest.mark.parametrize("extra", [0, 1, 79, 81])
def test_times_and_loudness_stay(extra: int) -> None:
    audio = vowels()[: RATE + extra]
    rng = np.random.default_rng(extra)
    for _ in range(4):
        spoken = revoice(analyse(audio), random_change(rng))
        assert spoken.shape == audio.shape and spoken.dtype == np.float32
        assert np.abs(spoken).max() <= 1
        assert abs(envelope_lag_ms(spoken, audio)) < 5
        assert np.sqrt(np.mean(spoken**2)) == pytest.approx(np.sqrt(np.mean(audio**2)), rel=0.15)


def test_times_of_recorded_speech_stay(data_folder: Path) -> None:
    rng = np.random.default_rng(1)
    lags = []
    for path in sorted((data_folder / "grid_s1" / "train").glob("*.mp4"))[:3]:
        audio = read_audio(path)
        analysis = analyse(audio)
        lags += [envelope_lag_ms(revoice(analysis, random_change(rng)), audio) for _ in range(3)]
    assert abs(np.median(lags)) <= 2 and max(map(abs, lags)) < 8, lags


def test_the_same_change_gives_the_same_sound(analysis: VoiceAnalysis) -> None:
    change = random_change(np.random.default_rng(5))
    assert change == random_change(np.random.default_rng(5))
    np.testing.assert_array_equal(revoice(analysis, change), revoice(analysis, change))


def test_drawn_voices_span_men_women_and_children_with_pitch_to_match() -> None:
    rng = np.random.default_rng(0)
    voices = [random_change(rng) for _ in range(400)]
    scales = np.array([voice.formant_scale for voice in voices])
    f0_hz = np.array([voice.mean_f0_hz for voice in voices])
    assert scales.min() < 0.85 and scales.max() > 1.3
    assert f0_hz.min() >= 70 and f0_hz.max() <= 350
    assert np.median(f0_hz[scales > 1.25]) > 200 > 130 > np.median(f0_hz[scales < 1.0])


def test_silence_stays_silent() -> None:
    assert not revoice(analyse(np.zeros(RATE, np.float32)), VoiceChange()).any()


@pytest.mark.parametrize(
    "audio", [np.zeros(1000, np.float32), np.zeros((2, RATE), np.float32), np.full(RATE, np.nan, np.float32)]
)
def test_what_cannot_be_analysed_is_refused(audio: NDArray[np.float32]) -> None:
    with pytest.raises(InputError, match="re-voice"):
        analyse(audio)


@pytest.mark.parametrize("bad", [{"formant_scale": 3.0}, {"mean_f0_hz": 20.0}, {"breathiness": 1.5}])
def test_impossible_voices_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        VoiceChange(**bad)  # type: ignore[arg-type]
