"""Speech-like sound without any file: a voice with pitch and breath, gliding formants, stops and hisses.

A voice activity detector and the speech encoder take it for speech; it says nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter, resample_poly

RATE_HZ = 16_000
BLOCK = 80  # samples in which the vocal tract stands still
VOWELS_HZ = (
    (730, 1090, 2440, 3400),
    (270, 2290, 3010, 3600),
    (300, 870, 2240, 3300),
    (530, 1840, 2480, 3500),
    (570, 840, 2410, 3300),
    (660, 1720, 2410, 3500),
)
BANDWIDTHS_HZ = (60, 90, 120, 175)
CONSONANTS = ((0.03, 0.0), (0.25, 0.0), (0.02, 0.25))
"""Loudness of the voice and of a hiss: a stop, a nasal, a fricative."""
Array = NDArray[np.float64]


def made_speech(seconds: float, *, rate_hz: int = RATE_HZ, seed: int = 2, level: float = 0.3) -> NDArray[np.float32]:
    """(samples,) phrases of three to seven syllables with pauses, peak `level`; equal seeds give equal sound."""
    rng = np.random.default_rng(seed)
    count = round(seconds * RATE_HZ)
    formants, voice, hiss = _gestures(-(-count // BLOCK), rng)
    source = _glottis(count, rng)
    out = np.zeros(count)
    memory = [np.zeros(2) for _ in BANDWIDTHS_HZ]
    for block in range(len(voice)):
        part = slice(block * BLOCK, min(count, (block + 1) * BLOCK))
        sound = source[part] * voice[block]
        for i, (centre, width) in enumerate(zip(formants[block], BANDWIDTHS_HZ, strict=True)):
            radius = np.exp(-np.pi * width / RATE_HZ)
            poles = [1.0, -2 * radius * np.cos(2 * np.pi * centre / RATE_HZ), radius**2]
            sound, memory[i] = lfilter([sum(poles)], poles, sound, zi=memory[i])
        out[part] = sound + rng.normal(0, 0.02, len(sound)) * hiss[block]
    out = out * level / np.abs(out).max() + rng.normal(0, 3e-4, count)
    return np.asarray(resample_poly(out, rate_hz, RATE_HZ) if rate_hz != RATE_HZ else out, np.float32)


def _gestures(blocks: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Formants (blocks, 4), loudness of voice and of hiss (blocks,)."""
    formants, voice, hiss = np.tile(np.array(VOWELS_HZ[0], float), (blocks, 1)), np.zeros(blocks), np.zeros(blocks)
    at, now = round(0.1 * RATE_HZ / BLOCK), formants[0]
    while at < blocks:
        for _ in range(int(rng.integers(3, 8))):
            vowel = np.array(VOWELS_HZ[int(rng.integers(len(VOWELS_HZ)))], float)
            length = round(0.2 * rng.uniform(0.7, 1.3) * RATE_HZ / BLOCK)
            stop, onset = min(at + length, blocks), min(at + length // 5, blocks)
            glide = np.clip(np.linspace(0, 3, length), 0, 1)[: stop - at, None]
            formants[at:stop] = now * (1 - glide) + vowel * glide
            loud, noisy = CONSONANTS[int(rng.integers(len(CONSONANTS)))]
            voice[at:onset], hiss[at:onset], voice[onset:stop] = loud, noisy, 1.0
            at, now = stop, vowel
        at += round(rng.uniform(0.15, 0.4) * RATE_HZ / BLOCK)
    return formants, np.convolve(voice, np.ones(5) / 5, "same"), np.convolve(hiss, np.ones(3) / 3, "same")


def _glottis(count: int, rng: np.random.Generator) -> Array:
    """Airflow through the larynx at about 115 Hz, with breath."""
    knots = np.arange(count // 4000 + 2) * 4000
    pitch_hz = np.interp(np.arange(count), knots, 115 * np.exp(rng.normal(0, 0.12, len(knots))))
    phase = np.cumsum(pitch_hz * (1 + rng.normal(0, 0.005, count))) / RATE_HZ % 1.0
    flow = np.where(phase < 0.6, np.sin(np.pi * phase / 0.6) ** 2, 0.0)
    return np.asarray(np.diff(flow, prepend=0.0) * 20 + rng.normal(0, 0.1, count) * (1 + flow))
