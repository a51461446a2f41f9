"""Causal streaming log-mel: 80 bands, 25 ms window, 10 ms hop, the same numbers however the audio is cut.

Whisper normalises by the clip's own maximum, which a stream does not know and which amplifies silence. Here a running
maximum with an absolute floor takes its place, in training and in serving alike; a column is normalised once, when it
arrives, and never revised. Column i sees samples [160 i - 240, 160 i + 160).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
WINDOW_SAMPLES = 400
HOP_SAMPLES = 160
RANGE_LOG10 = 8.0
MAX_FLOOR_LOG10 = -1.0
"""The running maximum never falls below this: quieter sound is treated as silence, not amplified."""
HALF_LIFE_S = 10.0
SILENCE = -1.0
"""Value of a normalised band at the bottom of its range."""

_DECAY_PER_COLUMN = np.log10(2.0) / HALF_LIFE_S * HOP_SAMPLES / SAMPLE_RATE
_LOOKBACK_SAMPLES = WINDOW_SAMPLES - HOP_SAMPLES


@dataclass
class LogMelState:
    """What a session remembers: the last 15 ms of audio, samples short of a hop, and the running maximum."""

    tail: NDArray[np.float32] = field(default_factory=lambda: np.zeros(_LOOKBACK_SAMPLES, np.float32))
    maximum: float = MAX_FLOOR_LOG10


class LogMel:
    """Turns audio into normalised columns. Holds constants only; the state is the caller's."""

    def __init__(self, num_bands: int = 80) -> None:
        from whisper.audio import mel_filters

        self.num_bands = num_bands
        self._filters = mel_filters("cpu", num_bands).numpy().astype(np.float32)
        self._window = np.hanning(WINDOW_SAMPLES + 1)[:-1].astype(np.float32)

    def push(self, audio: NDArray[np.float32], state: LogMelState) -> NDArray[np.float32]:
        """Columns (n, num_bands) in about -1..1 that `audio` (samples, -1..1) completes; changes `state`."""
        raw = self.push_raw(audio, state)
        return self.normalise(raw, state)

    def push_raw(self, audio: NDArray[np.float32], state: LogMelState) -> NDArray[np.float32]:
        """log10 band powers (n, num_bands) without normalisation; advances the audio part of the state."""
        samples = np.concatenate([state.tail, audio.astype(np.float32, copy=False)])
        count = (len(samples) - _LOOKBACK_SAMPLES) // HOP_SAMPLES
        state.tail = samples[count * HOP_SAMPLES :].copy()
        if count <= 0:
            return np.zeros((0, self.num_bands), np.float32)
        strided = np.lib.stride_tricks.sliding_window_view(samples, WINDOW_SAMPLES)
        frames = strided[: (count - 1) * HOP_SAMPLES + 1 : HOP_SAMPLES] * self._window
        power = np.abs(np.fft.rfft(frames, axis=1)).astype(np.float32) ** 2
        mel = np.stack([self._filters @ row for row in power])  # row by row: the same bits for any cut
        return np.asarray(np.log10(np.maximum(mel, 1e-10)), np.float32)

    def normalise(self, raw: NDArray[np.float32], state: LogMelState) -> NDArray[np.float32]:
        """Scale raw columns by the running maximum; advances that part of the state."""
        out = np.empty_like(raw)
        for i, column in enumerate(raw):
            state.maximum = max(float(column.max()), state.maximum - _DECAY_PER_COLUMN, MAX_FLOOR_LOG10)
            out[i] = np.maximum(column, state.maximum - RANGE_LOG10) - state.maximum
        return out / (RANGE_LOG10 / 2) + 1.0
