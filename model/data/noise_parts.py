"""What made-up sounds are built of: noise of a given colour, spectra shaped by a gain curve, ringing resonances."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len

from model.speech.log_mel import SAMPLE_RATE

Array = NDArray[np.float64]
GainCurve = Callable[[Array], Array]
"""Frequency in Hz (F,) to linear gain (F,)."""

_TAIL_SAMPLES = SAMPLE_RATE // 5  # silence after the sound, so that its end does not leak into its beginning


def shape_spectrum(audio: Array, gain_of: GainCurve) -> Array:
    """The sound (N,) through a filter without phase: nothing is delayed. `gain_of` must be real and >= 0."""
    size = next_fast_len(len(audio) + _TAIL_SAMPLES, real=True)
    spectrum = np.fft.rfft(audio, size)
    gain = gain_of(np.fft.rfftfreq(size, 1.0 / SAMPLE_RATE).astype(np.float64))
    shaped = np.fft.irfft(spectrum * gain, size)
    return np.asarray(shaped[: len(audio)])


def shaped_noise(samples: int, gain_of: GainCurve, rng: np.random.Generator) -> Array:
    """Gaussian noise (samples,) of the colour that `gain_of` says, at RMS 1."""
    return at_rms_one(shape_spectrum(rng.standard_normal(samples), gain_of))


def band_gain(low_hz: float, high_hz: float, order: int = 2) -> GainCurve:
    """Butterworth's magnitude, high-pass at `low_hz` and low-pass at `high_hz`; `low_hz` of 0 passes from 0 Hz."""

    def gain(frequency_hz: Array) -> Array:
        passed = 1.0 / np.sqrt(1.0 + (frequency_hz / high_hz) ** (2 * order))
        if low_hz > 0:
            ratio = (frequency_hz / low_hz) ** order
            passed = passed * ratio / np.sqrt(1.0 + ratio**2)
        return np.asarray(passed)

    return gain


def tilt_gain(db_per_octave: float, pivot_hz: float = 1000.0, floor_hz: float = 40.0) -> GainCurve:
    """Straight line over octaves through 0 dB at `pivot_hz`, level below `floor_hz`; 0 at 0 Hz."""

    def gain(frequency_hz: Array) -> Array:
        octaves = np.log2(np.maximum(frequency_hz, floor_hz) / pivot_hz)
        return np.asarray(10.0 ** (db_per_octave * octaves / 20.0) * (frequency_hz > 0))

    return gain


def peaks_gain(centres_hz: Sequence[float], widths_hz: Sequence[float], base: float = 0.1) -> GainCurve:
    """Resonances (Lorentzian, height 1) standing on `base`."""

    def gain(frequency_hz: Array) -> Array:
        total = np.full_like(frequency_hz, base)
        for centre_hz, width_hz in zip(centres_hz, widths_hz, strict=True):
            total += 1.0 / np.sqrt(1.0 + ((frequency_hz - centre_hz) / (width_hz / 2.0)) ** 2)
        return total

    return gain


def ringing(samples: int, frequencies_hz: Array, decays_s: Array, levels: Array, rng: np.random.Generator) -> Array:
    """Sum of decaying sines (samples,), each from a random phase: a struck body. Decay is to 1/e."""
    time_s = np.arange(samples) / SAMPLE_RATE
    phases = rng.uniform(0.0, 2.0 * np.pi, len(frequencies_hz))
    waves = np.sin(2.0 * np.pi * frequencies_hz[:, None] * time_s + phases[:, None])
    return np.asarray((levels[:, None] * np.exp(-time_s / decays_s[:, None]) * waves).sum(axis=0))


def smooth_envelope(samples: int, rate_hz: float, depth: float, rng: np.random.Generator) -> Array:
    """A level (samples,) that wanders around 1 at about `rate_hz`; `depth` in nepers, 0 keeps it at 1."""
    knots = max(2, int(samples * rate_hz / SAMPLE_RATE) + 2)
    values = rng.normal(0.0, depth, knots)
    return np.asarray(np.exp(np.interp(np.linspace(0.0, knots - 1.0, samples), np.arange(knots), values)))


def at_rms_one(audio: Array) -> Array:
    """Scaled to RMS 1; silence stays silence."""
    rms = float(np.sqrt(np.mean(audio**2))) if len(audio) else 0.0
    return audio / rms if rms > 0 else audio


def add_at(target: Array, sound: Array, start: int) -> None:
    """Add `sound` into `target` from sample `start` on, in place; what sticks out is cut off."""
    first, last = max(start, 0), min(start + len(sound), len(target))
    if first < last:
        target[first:last] += sound[first - start : last - start]
