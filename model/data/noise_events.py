"""Sounds of people and things in a room that are not speech: keys, breath, taps, crockery, doors, rustle, rain.

Made from the physics in brief: a struck body is a click and a few decaying modes, breath and cloth are noise shaped in
time and frequency. Every maker gives (samples,) of any level; `model.data.noises` sets it. Offline only: training data.
"""

from __future__ import annotations

import numpy as np

from model.data.noise_parts import (
    Array,
    add_at,
    band_gain,
    peaks_gain,
    ringing,
    shape_spectrum,
    shaped_noise,
    smooth_envelope,
    tilt_gain,
)
from model.speech.log_mel import SAMPLE_RATE

__all__ = ["breath", "clatter", "door", "keyboard", "rain", "rustle", "taps"]

_KEY_SAMPLES = SAMPLE_RATE // 8


def keyboard(samples: int, rng: np.random.Generator) -> Array:
    """Typing: bursts of words, each key a press and, 60-150 ms later, a quieter and brighter release.

    Spectra and lengths follow 171 recorded key sounds (Debian's `bucklespring`; none is used): press centroid
    1.5-2.6 kHz and 14-32 ms long at -20 dB, release 2.3-3.5 kHz and 11-23 ms.
    """
    made = np.zeros(samples)
    board_hz = float(rng.uniform(1100.0, 1900.0))
    rate_hz = float(rng.uniform(2.5, 11.0))
    release_level = float(rng.uniform(0.2, 0.8))
    time_s = float(rng.uniform(0.0, 0.3))
    while time_s * SAMPLE_RATE < samples:
        level = float(np.exp(rng.normal(0.0, 0.35)))
        start = int(time_s * SAMPLE_RATE)
        add_at(made, level * _key_sound(board_hz, 0.006, rng), start)
        held = int(rng.uniform(0.06, 0.15) * SAMPLE_RATE)
        add_at(made, level * release_level * _key_sound(board_hz * 1.5, 0.0044, rng), start + held)
        time_s += float(rng.gamma(4.0, 1.0 / (4.0 * rate_hz)))
        if rng.random() < 0.12:  # between words, or thinking
            time_s += float(rng.exponential(0.5))
    return made


def _key_sound(centre_hz: float, decay_s: float, rng: np.random.Generator) -> Array:
    """A click of plastic, the plate's modes, and a dull thump of the desk."""
    modes = 9
    frequencies_hz = np.clip(centre_hz * np.exp(rng.normal(0.15, 0.55, modes)), 350.0, 7200.0)
    decays_s = decay_s * np.exp(rng.normal(0.0, 0.4, modes)) * (centre_hz / frequencies_hz) ** 0.4
    body = ringing(_KEY_SAMPLES, frequencies_hz, decays_s, np.exp(rng.normal(0.0, 0.5, modes)), rng)
    time_s = np.arange(_KEY_SAMPLES) / SAMPLE_RATE
    click = shaped_noise(_KEY_SAMPLES, band_gain(700.0, 5000.0, order=1), rng) * np.exp(-time_s / (decay_s * 0.8))
    thump = ringing(_KEY_SAMPLES, rng.uniform(90.0, 220.0, 1), np.array([0.01]), np.array([0.2]), rng)
    attack = 1.0 - np.exp(-time_s / 0.0003)
    return attack * (body + rng.uniform(0.5, 2.0) * click + thump)


def breath(samples: int, rng: np.random.Generator) -> Array:
    """Breathing in and out through an open tract, or sighing ("hhh"); in is brighter and shorter than out."""
    made = np.zeros(samples)
    stretch = float(rng.uniform(0.9, 1.3))  # short tracts resonate higher
    sighs = rng.random() < 0.35
    time_s = float(rng.uniform(0.0, 0.4))
    while time_s * SAMPLE_RATE < samples:
        in_s = float(rng.uniform(0.35, 1.0))
        add_at(made, rng.uniform(0.4, 1.0) * _airflow(in_s, stretch * 1.15, 0.6, rng), int(time_s * SAMPLE_RATE))
        time_s += in_s + float(rng.uniform(0.05, 0.4))
        out_s = float(rng.uniform(0.8, 1.8) if sighs else rng.uniform(0.5, 1.3))
        level = float(rng.uniform(1.0, 2.0) if sighs else rng.uniform(0.3, 0.9))
        add_at(made, level * _airflow(out_s, stretch, 0.25, rng), int(time_s * SAMPLE_RATE))
        time_s += out_s + float(rng.uniform(0.2, 1.2))
    return made


def _airflow(seconds: float, stretch: float, peak_at: float, rng: np.random.Generator) -> Array:
    """One breath: turbulence coloured by the open mouth's resonances, swelling to a peak at `peak_at` of its length."""
    samples = int(seconds * SAMPLE_RATE)
    centres_hz = stretch * np.array([600.0, 1500.0, 2500.0, 3600.0]) * np.exp(rng.normal(0.0, 0.08, 4))
    resonances = peaks_gain(centres_hz.tolist(), [300.0, 350.0, 450.0, 600.0], base=float(rng.uniform(0.15, 0.4)))
    tilt = tilt_gain(float(rng.uniform(-4.0, 0.0)))
    noise = shaped_noise(samples, lambda hz: resonances(hz) * tilt(hz) * band_gain(150.0, 7000.0)(hz), rng)
    position = np.linspace(0.0, 1.0, samples)
    swell = np.where(position < peak_at, position / peak_at, (1.0 - position) / (1.0 - peak_at))
    return np.asarray(noise * np.sin(0.5 * np.pi * swell) ** 2 * smooth_envelope(samples, 12.0, 0.15, rng))


def taps(samples: int, rng: np.random.Generator) -> Array:
    """Fingers, pens or knuckles on a table: one body struck in groups."""
    made = np.zeros(samples)
    base_hz = float(np.exp(rng.uniform(np.log(150.0), np.log(1800.0))))
    ratios = np.sort(rng.uniform(1.0, 6.0, 6))
    time_s = float(rng.uniform(0.0, 0.5))
    while time_s * SAMPLE_RATE < samples:
        gap_s = float(rng.uniform(0.08, 0.5))
        for _ in range(int(rng.integers(1, 6))):
            strike = _struck(base_hz * ratios, float(rng.uniform(0.004, 0.02)), 0.15, rng)
            add_at(made, np.exp(rng.normal(0.0, 0.3)) * strike, int(time_s * SAMPLE_RATE))
            time_s += gap_s * float(np.exp(rng.normal(0.0, 0.08)))
        time_s += float(rng.exponential(0.6))
    return made


def clatter(samples: int, rng: np.random.Generator) -> Array:
    """Crockery and cutlery: bright bodies that ring long, in irregular heaps."""
    made = np.zeros(samples)
    bodies = [float(rng.uniform(900.0, 3500.0)) * np.sort(rng.uniform(1.0, 3.5, 5)) for _ in range(5)]
    time_s = float(rng.uniform(0.0, 0.4))
    while time_s * SAMPLE_RATE < samples:
        for _ in range(int(rng.integers(2, 10))):
            body = bodies[int(rng.integers(len(bodies)))]
            strike = _struck(np.minimum(body, 7500.0), float(rng.uniform(0.02, 0.12)), 0.5, rng)
            add_at(made, np.exp(rng.normal(0.0, 0.7)) * strike, int(time_s * SAMPLE_RATE))
            time_s += float(rng.exponential(0.08))
        time_s += float(rng.exponential(0.7))
    return made


def door(samples: int, rng: np.random.Generator) -> Array:
    """A door falls shut now and then: the latch's clicks, then a low thud with the room's rattle."""
    made = np.zeros(samples)
    time_s = float(rng.uniform(0.0, min(1.0, 0.4 * samples / SAMPLE_RATE)))
    while time_s * SAMPLE_RATE < samples:
        start = int(time_s * SAMPLE_RATE)
        thud = _struck(rng.uniform(45.0, 420.0, 8), float(rng.uniform(0.05, 0.12)), 0.8, rng)
        add_at(made, thud, start)
        for _ in range(int(rng.integers(1, 4))):
            latch = _struck(rng.uniform(700.0, 3500.0, 6), float(rng.uniform(0.005, 0.015)), 0.15, rng)
            offset_s = float(rng.uniform(-0.12, 0.15))
            add_at(made, rng.uniform(0.2, 0.6) * latch, start + int(offset_s * SAMPLE_RATE))
        time_s += float(rng.uniform(1.0, 3.5))
    return made


def _struck(modes_hz: Array, decay_s: float, seconds: float, rng: np.random.Generator) -> Array:
    """One blow on a body with these modes; high modes die sooner. Peak about 1."""
    samples = int(seconds * SAMPLE_RATE)
    decays_s = decay_s * (modes_hz.min() / modes_hz) ** 0.5 * np.exp(rng.normal(0.0, 0.2, len(modes_hz)))
    levels = np.exp(rng.normal(0.0, 0.6, len(modes_hz))) * (modes_hz.min() / modes_hz) ** 0.5
    body = ringing(samples, modes_hz, decays_s, levels, rng)
    time_s = np.arange(samples) / SAMPLE_RATE
    low_hz = float(modes_hz.min())
    contact = shaped_noise(samples, band_gain(low_hz, min(6.0 * low_hz, 7000.0), order=1), rng) * np.exp(
        -time_s / 0.003
    )
    fade = np.minimum(1.0, 5.0 * (1.0 - time_s / seconds))  # ends without a second click
    blow = (1.0 - np.exp(-time_s / 0.0004)) * fade * (body + 0.6 * contact)
    return np.asarray(blow / max(float(np.abs(blow).max()), 1e-9))


def rustle(samples: int, rng: np.random.Generator) -> Array:
    """Paper or cloth near the microphone: bright noise in crackling movements."""
    centre_hz = float(rng.uniform(1500.0, 4500.0))
    noise = shaped_noise(samples, band_gain(0.4 * centre_hz, 1.6 * centre_hz, order=1), rng)
    crackle = smooth_envelope(samples, float(rng.uniform(60.0, 200.0)), float(rng.uniform(0.6, 1.1)), rng)
    movement = smooth_envelope(samples, float(rng.uniform(1.0, 4.0)), 1.2, rng)
    return noise * crackle * movement


def rain(samples: int, rng: np.random.Generator) -> Array:
    """Drops, many and small, over the hiss of those farther away."""
    drops = np.zeros(samples)
    per_second = float(np.exp(rng.uniform(np.log(30.0), np.log(600.0))))
    count = int(rng.poisson(per_second * samples / SAMPLE_RATE))
    drops[rng.integers(0, samples, count)] = rng.exponential(1.0, count) * rng.choice([-1.0, 1.0], count)
    centre_hz = float(rng.uniform(1500.0, 5000.0))
    heard = shape_spectrum(drops, band_gain(0.5 * centre_hz, 1.5 * centre_hz, order=1))
    scale = float(np.sqrt(np.mean(heard**2)))
    hiss = shaped_noise(samples, band_gain(300.0, float(rng.uniform(3000.0, 7000.0)), order=1), rng)
    return heard / max(scale, 1e-9) + rng.uniform(0.3, 1.5) * hiss
