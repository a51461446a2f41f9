"""Sounds that are not speech, made by rule: to mix under speech, and to teach the encoder what leaves lips at rest.

Also `babble` (many talkers at once, from speech that is handed in) and `mix` (at a signal-to-noise ratio). Instrumental
music is in `model.data.music`. Offline only: training data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from model.data import noise_events
from model.data.noise_parts import (
    Array,
    add_at,
    at_rms_one,
    band_gain,
    peaks_gain,
    shaped_noise,
    smooth_envelope,
    tilt_gain,
)
from model.errors import InputError
from model.speech.log_mel import SAMPLE_RATE

__all__ = ["NOISE_KINDS", "active_rms", "babble", "mix", "random_noise"]

LOWEST_DBFS, HIGHEST_DBFS = -55.0, -15.0
"""RMS of a noise against full scale: a quiet room's to that of loud speech."""
MAX_PEAK = 0.99

_FLOOR_SHARE = 0.8  # of recordings with an audible room behind them
_ACTIVE_BLOCK = SAMPLE_RATE // 50
_ACTIVE_RANGE_DB = 30.0


def random_noise(kind: str, seconds: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """One noise of a kind in `NOISE_KINDS`: (round(seconds * 16000),), 16 kHz, peak below 1, RMS -55..-15 dB or less.

    Sparse sounds (taps, doors) are quieter on average than their drawn RMS where peaks would pass full scale.

    Raises:
        InputError: The kind is unknown, or `seconds` is not positive.
    """
    if kind not in _MAKERS:
        raise InputError(f"no noise is called {kind!r}; choose one of {', '.join(NOISE_KINDS)}")
    samples = _samples_of(seconds)
    made = at_rms_one(_MAKERS[kind](samples, rng))
    if rng.random() < _FLOOR_SHARE:  # the rest as behind a noise gate: digital silence between events
        made += _room(samples, rng) * 10.0 ** (rng.uniform(-60.0, -30.0) / 20.0)
    return _below_full_scale(made * 10.0 ** (rng.uniform(LOWEST_DBFS, HIGHEST_DBFS) / 20.0))


def babble(utterances: Sequence[NDArray[np.float32]], seconds: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Three to ten talkers at once: (round(seconds * 16000),), RMS about -26 dB, peak below 1.

    Each talker says one utterance again and again from a random point, all at levels within some 6 dB.

    Raises:
        InputError: No utterance is audible, or `seconds` is not positive.
    """
    samples = _samples_of(seconds)
    audible = [speech for speech in utterances if len(speech) and float(np.abs(speech).max()) > 0]
    if not audible:
        raise InputError(f"babble needs audible speech, got {len(utterances)} utterances and none with sound")
    made = np.zeros(samples)
    for _ in range(int(rng.integers(3, 11))):
        speech = audible[int(rng.integers(len(audible)))].astype(np.float64)
        looped = np.resize(np.roll(speech, -int(rng.integers(len(speech)))), samples)
        made += looped / active_rms(speech) * 10.0 ** (rng.uniform(-3.0, 3.0) / 20.0)
    return _below_full_scale(at_rms_one(made) * 0.05)


def mix(speech: NDArray[np.float32], noise: NDArray[np.float32], snr_db: float) -> NDArray[np.float32]:
    """Speech (N,) with noise (N,) under it, turned down together where the sum would pass full scale.

    The ratio is of the speech's level while someone talks (`active_rms`) to the noise's overall RMS. Silent speech or
    silent noise leaves the other as it is.

    Raises:
        InputError: The lengths differ.
    """
    if speech.shape != noise.shape:
        raise InputError(f"speech and noise must be equally long, got {speech.shape} and {noise.shape}")
    noise_rms = float(np.sqrt(np.mean(noise.astype(np.float64) ** 2))) if len(noise) else 0.0
    speech_rms = active_rms(speech)
    if noise_rms == 0 or speech_rms == 0:
        return _below_full_scale(speech.astype(np.float64) + noise)
    gain = speech_rms / noise_rms * 10.0 ** (-snr_db / 20.0)
    return _below_full_scale(speech.astype(np.float64) + gain * noise)


def active_rms(audio: NDArray[np.floating]) -> float:
    """RMS over the 20 ms blocks within 30 dB of the loudest: the level of speech without its pauses."""
    blocks = len(audio) // _ACTIVE_BLOCK
    if blocks == 0:
        return float(np.sqrt(np.mean(np.square(audio, dtype=np.float64)))) if len(audio) else 0.0
    cut = audio[: blocks * _ACTIVE_BLOCK].astype(np.float64).reshape(blocks, _ACTIVE_BLOCK)
    power = np.mean(cut**2, axis=1)
    return float(np.sqrt(power[power >= power.max() * 10.0 ** (-_ACTIVE_RANGE_DB / 10.0)].mean()))


def _coloured(samples: int, rng: np.random.Generator) -> Array:
    """From brown (-6 dB an octave) over pink and white to blue (+3)."""
    return shaped_noise(samples, tilt_gain(float(rng.uniform(-6.5, 3.0))), rng)


def _room(samples: int, rng: np.random.Generator) -> Array:
    """What a room sounds like when nobody speaks: low rumble that wanders slowly, a little hiss."""
    rumble = shaped_noise(samples, tilt_gain(float(rng.uniform(-9.0, -4.0))), rng)
    hiss = shaped_noise(samples, band_gain(500.0, 6000.0), rng)
    return rumble * smooth_envelope(samples, 0.7, 0.3, rng) + rng.uniform(0.02, 0.2) * hiss


def _hum(samples: int, rng: np.random.Generator) -> Array:
    """Mains hum and buzz: harmonics of 50 or 60 Hz, some louder than their neighbours."""
    time_s = np.arange(samples) / SAMPLE_RATE
    mains_hz = float(rng.choice([50.0, 60.0])) * float(rng.uniform(0.998, 1.002))
    orders = np.arange(1, int(rng.integers(4, 40)))
    levels = np.exp(rng.normal(0.0, 0.8, len(orders))) * orders ** -float(rng.uniform(0.5, 2.0))
    made = np.zeros(samples)
    for order, level in zip(orders, levels, strict=True):
        made += level * np.sin(2.0 * np.pi * mains_hz * order * time_s + rng.uniform(0.0, 2.0 * np.pi))
    return at_rms_one(made) + rng.uniform(0.01, 0.1) * shaped_noise(samples, tilt_gain(-3.0), rng)


def _fan(samples: int, rng: np.random.Generator) -> Array:
    """A fan or cooler: broad rushing air, tones at the blades' rate that waver a little."""
    rush = shaped_noise(samples, _fan_colour(rng), rng)
    blade_hz = float(rng.uniform(60.0, 400.0))
    speed = smooth_envelope(samples, 1.5, 0.004, rng)
    phase = 2.0 * np.pi * np.cumsum(blade_hz * speed) / SAMPLE_RATE
    tones = np.zeros(samples)
    for order in range(1, 6):
        tones += np.sin(order * phase + rng.uniform(0.0, 2.0 * np.pi)) * float(rng.uniform(0.2, 1.0)) / order
    swing = 1.0 + float(rng.uniform(0.0, 0.2)) * np.sin(phase / float(rng.integers(3, 9)))
    return rush * swing + float(rng.uniform(0.05, 0.5)) * at_rms_one(tones)


def _fan_colour(rng: np.random.Generator) -> Callable[[Array], Array]:
    tilt = tilt_gain(float(rng.uniform(-6.0, -2.0)))
    ducts = peaks_gain(rng.uniform(200.0, 3000.0, 3).tolist(), rng.uniform(200.0, 800.0, 3).tolist(), base=0.6)
    return lambda frequency_hz: tilt(frequency_hz) * ducts(frequency_hz)


def _clutter(samples: int, rng: np.random.Generator) -> Array:
    """Two or three other kinds at once, as in a kitchen or an office."""
    others = [kind for kind in _MAKERS if kind != "clutter"]
    made = np.zeros(samples)
    for kind in rng.choice(others, int(rng.integers(2, 4)), replace=False):
        add_at(made, at_rms_one(_MAKERS[str(kind)](samples, rng)) * float(rng.uniform(0.3, 1.0)), 0)
    return made


def _samples_of(seconds: float) -> int:
    samples = round(seconds * SAMPLE_RATE)
    if samples < 1:
        raise InputError(f"a noise must last at least one sample of 16 kHz, got {seconds} s")
    return samples


def _below_full_scale(audio: Array) -> NDArray[np.float32]:
    peak = float(np.abs(audio).max()) if len(audio) else 0.0
    return (audio * min(1.0, MAX_PEAK / peak) if peak > 0 else audio).astype(np.float32)


_MAKERS: Mapping[str, Callable[[int, np.random.Generator], Array]] = MappingProxyType(
    {
        "coloured": _coloured,
        "room": _room,
        "hum": _hum,
        "fan": _fan,
        "keyboard": noise_events.keyboard,
        "breath": noise_events.breath,
        "taps": noise_events.taps,
        "clatter": noise_events.clatter,
        "door": noise_events.door,
        "rustle": noise_events.rustle,
        "rain": noise_events.rain,
        "clutter": _clutter,
    }
)
NOISE_KINDS: tuple[str, ...] = tuple(_MAKERS)
