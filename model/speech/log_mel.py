"""Causal streaming log-mel: 80 or 128 bands, 25 ms window, 10 ms hop, the same bits however the audio is cut.

Whisper normalises by the clip's own maximum, which a stream does not know and which amplifies silence. Here a running
maximum with an absolute floor takes its place, in training and in serving alike; a column is normalised once, when it
arrives, and never revised. Column i sees samples [160 i - 240, 160 i + 160).

The filter bank is a sparse matrix: each number is the sum of a few products in a fixed order, whatever the number of
columns at once. A dense product through BLAS rounds differently for different numbers of columns.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from model.errors import ConfigError, InputError

SAMPLE_RATE = 16_000
WINDOW_SAMPLES = 400
HOP_SAMPLES = 160
BANDS = (80, 128)
"""Numbers of bands that Whisper's encoders know: 128 since large-v3."""
RANGE_LOG10 = 8.0
MAX_FLOOR_LOG10 = -1.0
"""The running maximum never falls below this: quieter sound is treated as silence, not amplified."""
HALF_LIFE_S = 10.0
SILENCE = -1.0
"""Value of a normalised band at the bottom of its range."""
LOUDEST = 16.0
"""Largest sample that is taken for sound, 24 dB above full scale; more is audio that was not scaled to -1..1."""

DECAY_PER_COLUMN = float(np.log10(2.0) / HALF_LIFE_S * HOP_SAMPLES / SAMPLE_RATE)
_LOOKBACK_SAMPLES = WINDOW_SAMPLES - HOP_SAMPLES
_BLOCK_COLUMNS = 2048  # at once, so that hours of audio need little memory


@dataclass
class LogMelState:
    """What a session remembers: the last 15 ms of audio, samples short of a hop, and the running maximum."""

    tail: NDArray[np.float32] = field(default_factory=lambda: np.zeros(_LOOKBACK_SAMPLES, np.float32))
    maximum: float = MAX_FLOOR_LOG10


def check_audio(audio: NDArray[np.float32]) -> None:
    """Refuse what would disturb a running maximum for ever.

    Raises:
        InputError: Not (samples,) of floating point, or not finite, or a sample is beyond +-LOUDEST.
    """
    if audio.ndim != 1 or not np.issubdtype(audio.dtype, np.floating):
        raise InputError(f"need audio (samples,) as floats in -1..1, got {audio.dtype} {audio.shape}")
    if not len(audio):
        return
    low, high = float(audio.min()), float(audio.max())  # NaN if there is one
    if not (np.isfinite(low) and np.isfinite(high)):
        count = np.count_nonzero(~np.isfinite(audio))
        raise InputError(f"audio holds NaN or infinity ({count} of {len(audio)} samples): replace them by 0")
    if max(-low, high) > LOUDEST:
        raise InputError(f"audio reaches {max(-low, high):.6g}: scale it to -1..1 (16-bit samples: divide by 32768)")


class LogMel:
    """Turns audio into normalised columns. Holds constants only; the state is the caller's.

    Raises:
        ConfigError: Whisper has no filter bank of that many bands.
    """

    def __init__(self, num_bands: int = 80) -> None:
        from scipy.sparse import csr_array
        from whisper.audio import mel_filters

        if num_bands not in BANDS:
            raise ConfigError(f"num_bands must be one of {BANDS}, got {num_bands}")
        self.num_bands = num_bands
        self._filters = csr_array(mel_filters("cpu", num_bands).numpy().astype(np.float32))
        self.window = np.hanning(WINDOW_SAMPLES + 1)[:-1].astype(np.float32)

    def filter_bank(self) -> NDArray[np.float32]:
        """(num_bands, 201): Whisper's mel filters over the bins of a window's power spectrum."""
        return np.asarray(self._filters.toarray(), np.float32)

    def push(self, audio: NDArray[np.float32], state: LogMelState) -> NDArray[np.float32]:
        """Columns (n, num_bands) in about -1..1 that `audio` (samples, -1..1) completes; changes `state`.

        Raises:
            InputError: `check_audio` refuses the audio; `state` is then as before.
        """
        raw = self.push_raw(audio, state)
        return self.normalise(raw, state)

    def push_raw(self, audio: NDArray[np.float32], state: LogMelState) -> NDArray[np.float32]:
        """log10 band powers (n, num_bands) without normalisation; advances the audio part of the state.

        Raises:
            InputError: As `push`.
        """
        check_audio(audio)
        samples = np.concatenate([state.tail, audio.astype(np.float32, copy=False)])
        count = (len(samples) - _LOOKBACK_SAMPLES) // HOP_SAMPLES
        state.tail = samples[count * HOP_SAMPLES :].copy()
        out = np.empty((count, self.num_bands), np.float32)
        for start in range(0, count, _BLOCK_COLUMNS):
            stop = min(start + _BLOCK_COLUMNS, count)
            out[start:stop] = self._block(samples[start * HOP_SAMPLES : stop * HOP_SAMPLES + _LOOKBACK_SAMPLES])
        return out

    def _block(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """log10 band powers of all windows of `samples`."""
        windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW_SAMPLES)[::HOP_SAMPLES]
        spectrum = np.fft.rfft(windows * self.window, axis=1)
        power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32, copy=False)
        mel = (self._filters @ power.T).T
        return np.asarray(np.log10(np.maximum(mel, np.float32(1e-10))), np.float32)

    def normalise(self, raw: NDArray[np.float32], state: LogMelState) -> NDArray[np.float32]:
        """Scale raw columns by the running maximum; advances that part of the state."""
        maxima = np.empty((len(raw), 1))  # float64
        for i, loudest in enumerate(raw.max(1, initial=-np.inf).tolist()):
            state.maximum = max(loudest, state.maximum - DECAY_PER_COLUMN, MAX_FLOOR_LOG10)
            maxima[i] = state.maximum
        scaled = np.maximum(raw, (maxima - RANGE_LOG10).astype(np.float32)) - maxima.astype(np.float32)
        return np.asarray(scaled / np.float32(RANGE_LOG10 / 2) + np.float32(1.0), np.float32)
