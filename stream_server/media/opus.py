"""Opus packets to 48 kHz mono, concealment of lost ones, and 48 kHz to 16 kHz.

Concealment here is simple: the last block again, fading to silence over three blocks. `libopus.py` does better where
the library can be called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import av
import numpy as np
from av.audio.frame import AudioFrame
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

__all__ = ["BLOCK_SAMPLES", "RATE_HZ", "Concealer", "Downsampler", "FadingDecoder", "OpusDecoder", "SoundDecoder"]

RATE_HZ = 48_000
BLOCK_SAMPLES = 960  # 20 ms
_FADE = (0.7, 0.35, 0.1)
_FACTOR = 3
_TAPS = 97


class SoundDecoder(Protocol):
    """Packets to blocks of 48 kHz mono, one stream."""

    def decode(self, payload: bytes) -> NDArray[np.int16] | None:
        """Samples of one packet, or None if it is broken."""
        ...

    def conceal(self, following: bytes | None) -> NDArray[np.int16]:
        """20 ms in the place of a lost packet; `following` is the packet after it, if that one is here."""
        ...


class OpusDecoder:
    """One stream's decoder. A packet that cannot be decoded counts as lost."""

    def __init__(self) -> None:
        self._codec = av.CodecContext.create("libopus", "r")
        self._codec.format = "s16"
        self._codec.layout = "stereo"
        self._codec.sample_rate = RATE_HZ

    def decode(self, payload: bytes) -> NDArray[np.int16] | None:
        """Mono samples of one packet, or None if it is broken."""
        try:
            frames = self._codec.decode(av.Packet(payload))
        except av.FFmpegError:
            return None
        blocks = [_to_mono(frame) for frame in frames]
        return np.concatenate(blocks) if blocks else None


class Concealer:
    """Makes up for blocks that never came."""

    def __init__(self, block_samples: int = BLOCK_SAMPLES) -> None:
        self._last = np.zeros(block_samples, np.int16)
        self._missed = 0

    def good(self, block: NDArray[np.int16]) -> None:
        """Remember a block that did come."""
        self._last = block
        self._missed = 0

    def conceal(self) -> NDArray[np.int16]:
        """The block to play instead of a lost one."""
        start = _FADE[self._missed - 1] if 0 < self._missed <= len(_FADE) else float(self._missed == 0)
        end = _FADE[self._missed] if self._missed < len(_FADE) else 0.0
        self._missed += 1
        if start == 0.0:
            return np.zeros_like(self._last)
        gain = np.linspace(start, end, len(self._last), dtype=np.float32)
        return (self._last * gain).astype(np.int16)


class FadingDecoder:
    """A decoder whose losses are covered by fading the last block."""

    def __init__(self, decode: Callable[[bytes], NDArray[np.int16] | None]) -> None:
        self._decode = decode
        self._concealer = Concealer()

    def decode(self, payload: bytes) -> NDArray[np.int16] | None:
        """Samples of one packet, or None if it is broken."""
        samples = self._decode(payload)
        if samples is not None:
            self._concealer.good(samples)
        return samples

    def conceal(self, following: bytes | None) -> NDArray[np.int16]:  # noqa: ARG002 - makes nothing of it
        """The last block, fainter each time."""
        return self._concealer.conceal()


class Downsampler:
    """48 kHz to 16 kHz by a linear-phase low-pass (97 taps, cut off at 7.6 kHz; delays by 1 ms).

    Every third sample of the filtered stream, so `n` samples in give `n / 3` out when n divides by three.
    """

    def __init__(self) -> None:
        middle = np.arange(_TAPS) - (_TAPS - 1) / 2
        cutoff = 7600.0 / RATE_HZ
        taps = 2 * cutoff * np.sinc(2 * cutoff * middle) * np.blackman(_TAPS)
        self._taps = (taps / taps.sum()).astype(np.float32)
        self._history = np.zeros(_TAPS - 1, np.float32)

    def push(self, samples: NDArray[np.int16]) -> NDArray[np.float32]:
        """Mono int16 at 48 kHz in, float32 -1..1 at 16 kHz out."""
        if len(samples) % _FACTOR:
            raise ValueError(f"need a multiple of {_FACTOR} samples, got {len(samples)}")
        stream = np.concatenate([self._history, samples.astype(np.float32) * np.float32(1 / 32768)])
        self._history = stream[len(stream) - (_TAPS - 1) :]
        if not len(samples):
            return np.zeros(0, np.float32)
        windows = sliding_window_view(stream, _TAPS)[::_FACTOR]
        return np.asarray(windows @ self._taps, dtype=np.float32)


def _to_mono(frame: AudioFrame) -> NDArray[np.int16]:
    channels = len(frame.layout.channels)
    samples = frame.to_ndarray().reshape(-1, channels).astype(np.int32)
    return np.asarray(samples.sum(axis=1) // channels, dtype=np.int16)
