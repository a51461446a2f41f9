"""Mel cepstra as SyncNet hears them: the defaults of the package python_speech_features (J. Lyons, release 0.6).

That package is not kept up any more and SyncNet's figures hang on its details, so that its definition stands here:
pre-emphasis 0.97; windows of 400 samples every 160 without taper, the last one padded with zeros; power spectrum of 512
points over 512; 26 triangles whose corners are floor(513 f / 16000) for f evenly spaced in mel = 2595 log10(1 + f /
700) from 0 to 8000 Hz; natural logarithm; orthonormal DCT-II; 13 coefficients, lifted by 1 + 11 sin(pi n / 22); the
first one replaced by the logarithm of the window's total power.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct

from model.errors import InputError

__all__ = ["COEFFICIENTS", "HOP_SAMPLES", "mfcc"]

SAMPLE_RATE = 16_000
WINDOW_SAMPLES = 400
HOP_SAMPLES = 160
FFT_POINTS = 512
BANDS = 26
COEFFICIENTS = 13
PRE_EMPHASIS = 0.97
LIFTER = 22
Values = NDArray[np.float64]


def mfcc(audio: NDArray[np.int16]) -> Values:
    """(columns, 13) of 16 kHz sound (samples,), as 16-bit integers: the first coefficient depends on that scale.

    There are 1 + ceil((samples - 400) / 160) columns, at least one.

    Raises:
        InputError: The sound is empty, or not (samples,) int16.
    """
    if audio.ndim != 1 or audio.dtype != np.int16 or not len(audio):
        raise InputError(f"need sound (samples,) int16 at 16 kHz, got {audio.shape} {audio.dtype}")
    power = np.square(np.abs(np.fft.rfft(_windows(audio), FFT_POINTS))) / FFT_POINTS
    bands = np.log(_above_zero(power @ _triangles().T))
    cepstra: Values = dct(bands, type=2, axis=1, norm="ortho")[:, :COEFFICIENTS]
    cepstra *= 1 + LIFTER / 2 * np.sin(np.pi * np.arange(COEFFICIENTS) / LIFTER)
    cepstra[:, 0] = np.log(_above_zero(power.sum(1)))
    return cepstra


def _windows(audio: NDArray[np.int16]) -> Values:
    """(columns, 400) of the pre-emphasised sound."""
    signal = audio.astype(np.float64)
    signal[1:] -= PRE_EMPHASIS * audio[:-1]
    columns = 1 + max(0, -(-(len(signal) - WINDOW_SAMPLES) // HOP_SAMPLES))
    signal = np.pad(signal, (0, (columns - 1) * HOP_SAMPLES + WINDOW_SAMPLES - len(signal)))
    return np.lib.stride_tricks.sliding_window_view(signal, WINDOW_SAMPLES)[::HOP_SAMPLES]


@cache
def _triangles() -> Values:
    """(26, 257) weights of the bands."""
    top_mel = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    corners_hz = 700 * (10 ** (np.linspace(0, top_mel, BANDS + 2) / 2595) - 1)
    corners = np.floor((FFT_POINTS + 1) * corners_hz / SAMPLE_RATE)
    weights = np.zeros((BANDS, FFT_POINTS // 2 + 1))
    points = np.arange(weights.shape[1])
    for row, (low, middle, high) in enumerate(zip(corners, corners[1:], corners[2:], strict=False)):
        rising, falling = (low <= points) & (points < middle), (middle <= points) & (points < high)
        weights[row, rising] = (points[rising] - low) / (middle - low)
        weights[row, falling] = (high - points[falling]) / (high - middle)
    return weights


def _above_zero(values: Values) -> Values:
    """Zeros replaced by the smallest step of a double."""
    return np.where(values == 0, np.finfo(np.float64).eps, values)
