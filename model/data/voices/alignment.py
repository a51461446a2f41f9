"""From a synthesiser's own phone times to one phoneme index per 10 ms, and its sound to 16 kHz."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.io import wavfile
from scipy.signal import resample_poly

from model.errors import DataError
from model.speech.log_mel import HOP_SAMPLES, SAMPLE_RATE
from model.speech.phonemes import INDEX

__all__ = ["give_closures", "label_columns", "read_speech", "to_speech_rate"]

_CLOSED: Final = frozenset("p b t d k g ch jh".split())
_FRAME_S: Final = 0.005
_CLOSURE_FALL: Final = 0.03
"""Power of a closure, over the peak of the phone before it, after pre-emphasis (which takes away the voice bar)."""
_CLOSURE_AFTER_SILENCE_S: Final = 0.05
_KEPT_S: Final = 0.01


def give_closures(starts: Sequence[tuple[str, float]], audio: NDArray[np.float32]) -> list[tuple[str, float]]:
    """Move the starts of stops and affricates from their bursts back to where the mouth closes.

    espeak-ng reports a stop when it bursts, so that its closure seems part of the phone before. Here the closure is
    what is quiet before the burst; after a pause it is taken to last 50 ms.

    Args:
        starts: Phoneme and its start in seconds, in order.
        audio: (samples,) at 16 kHz.
    """
    frame = round(_FRAME_S * SAMPLE_RATE)
    emphasised = np.diff(audio, prepend=0.0)[: len(audio) // frame * frame].reshape(-1, frame)
    power = np.square(emphasised, dtype=np.float64).mean(1)
    moved = list(starts)
    for i in range(1, len(moved)):
        (before, from_s), (name, burst_s) = moved[i - 1], starts[i]
        if name not in _CLOSED or burst_s - from_s <= _KEPT_S:
            continue
        if before == "sil":
            closed_s = burst_s - _CLOSURE_AFTER_SILENCE_S
        else:
            closed_s = _fall_s(power, from_s, burst_s)
        moved[i] = (name, max(closed_s, from_s + _KEPT_S))
    return moved


def _fall_s(power: NDArray[np.float64], from_s: float, burst_s: float) -> float:
    """When the phone that starts at `from_s` has become quiet before a burst; the burst itself when it never has."""
    first, last = round(from_s / _FRAME_S), round(burst_s / _FRAME_S)
    span = power[first:last]
    if not len(span):
        return burst_s
    loud = np.flatnonzero(span[:-1] > span.max() * _CLOSURE_FALL)  # the last frame may hold the burst's start
    return (first + int(loud[-1]) + 1) * _FRAME_S if len(loud) else burst_s


def label_columns(segments: Sequence[tuple[str, float]], samples: int) -> NDArray[np.int64]:
    """One phoneme index for each whole hop of `samples` at 16 kHz: the phone that sounds at the hop's middle.

    Args:
        segments: Phoneme and its end in seconds, in order; the first starts at 0, the last lasts to the end.
        samples: Length of the sound.
    """
    columns = samples // HOP_SAMPLES
    names = np.array([INDEX[name] for name, _ in segments], np.int64)
    ends_s = np.array([end_s for _, end_s in segments])
    middles_s = (np.arange(columns) + 0.5) * HOP_SAMPLES / SAMPLE_RATE
    return names[np.minimum(np.searchsorted(ends_s, middles_s, side="right"), len(names) - 1)]


def to_speech_rate(audio: NDArray[np.int16], rate_hz: int) -> NDArray[np.float32]:
    """16-bit sound (samples,) at any rate as (samples,) float32, -1..1, at 16 kHz, without delay."""
    ratio = Fraction(SAMPLE_RATE, rate_hz)
    scaled = audio.astype(np.float32) / 32768.0
    if ratio == 1:
        return scaled
    return np.asarray(resample_poly(scaled, ratio.numerator, ratio.denominator), np.float32)


def read_speech(path: Path) -> NDArray[np.float32]:
    """A synthesiser's 16-bit mono WAV file as `to_speech_rate` gives it; DataError when it is none."""
    try:
        rate_hz, audio = wavfile.read(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a WAV file ({error}); reinstall the synthesiser that wrote it") from error
    if audio.dtype != np.int16 or audio.ndim != 1 or not len(audio):
        raise DataError(f"{path}: wanted 16-bit mono sound, got {audio.dtype} of shape {audio.shape}")
    return to_speech_rate(audio, rate_hz)
