"""What a measuring caller says, and the microphone that says it on the real clock."""

from __future__ import annotations

import asyncio
import fractions
import os
import time
import wave
from pathlib import Path

import av
import numpy as np
from aiortc.mediastreams import MediaStreamTrack
from av import AudioFrame
from numpy.typing import NDArray

from stream_server.bench.errors import BenchError
from stream_server.media.opus import BLOCK_SAMPLES, RATE_HZ

__all__ = ["Microphone", "made_voice", "read_voice", "write_voice"]

_LEAST_SECONDS = 2.0


def made_voice(seconds: float = 31.0) -> NDArray[np.int16]:
    """Synthetic speech, mono at 48 kHz; the same sound every time."""
    from stream_server.bench.made_speech import made_speech

    return _to_int16(made_speech(seconds, rate_hz=RATE_HZ))


def read_voice(path: Path) -> NDArray[np.int16]:
    """Any sound file as mono at 48 kHz.

    Raises:
        BenchError: It cannot be read, or is shorter than two seconds.
    """
    resampler = av.AudioResampler("s16", "mono", RATE_HZ)
    try:
        with av.open(os.fspath(path)) as container:
            frames = [out for frame in container.decode(audio=0) for out in resampler.resample(frame)]
        frames += resampler.resample(None)
    except (OSError, av.FFmpegError, IndexError) as error:
        raise BenchError(f"cannot read sound from {path}: {error}") from error
    samples = np.concatenate([frame.to_ndarray().ravel() for frame in frames] or [np.zeros(0)]).astype(np.int16)
    if len(samples) < _LEAST_SECONDS * RATE_HZ:
        raise BenchError(f"{path} lasts {len(samples) / RATE_HZ:.2f} s; at least {_LEAST_SECONDS:g} s are needed")
    return samples


def write_voice(path: Path, samples: NDArray[np.int16]) -> None:
    """Mono 48 kHz WAV."""
    with wave.open(os.fspath(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(samples.astype("<i2").tobytes())


class Microphone(MediaStreamTrack):
    """`samples` over and over in packets of 20 ms; a packet is handed over when its last sample has sounded.

    Sample `s` sounds at `start_ns + s / 48 kHz` (monotonic clock); `start_ns` is None before the first packet is asked
    for. `late_ns` holds how much later than due each packet left: the measuring machine's own lateness.
    """

    kind = "audio"

    def __init__(self, samples: NDArray[np.int16]) -> None:
        super().__init__()
        self._samples = samples[: len(samples) // BLOCK_SAMPLES * BLOCK_SAMPLES]
        self._packet = 0
        self.start_ns: int | None = None
        self.late_ns: list[int] = []

    async def recv(self) -> AudioFrame:
        """The next packet, at its time."""
        if self.start_ns is None:
            self.start_ns = time.monotonic_ns()
        due_ns = self.start_ns + (self._packet + 1) * BLOCK_SAMPLES * 1_000_000_000 // RATE_HZ
        if (left_ns := due_ns - time.monotonic_ns()) > 0:
            await asyncio.sleep(left_ns / 1e9)
        self.late_ns.append(time.monotonic_ns() - due_ns)
        at = self._packet * BLOCK_SAMPLES % len(self._samples)
        frame = AudioFrame.from_ndarray(self._samples[np.newaxis, at : at + BLOCK_SAMPLES], format="s16", layout="mono")
        frame.sample_rate, frame.pts = RATE_HZ, self._packet * BLOCK_SAMPLES
        frame.time_base = fractions.Fraction(1, RATE_HZ)
        self._packet += 1
        return frame

    def sent(self) -> NDArray[np.int16]:
        """Everything sent so far, from sample 0 on."""
        count = self._packet * BLOCK_SAMPLES
        return np.tile(self._samples, -(-count // len(self._samples)))[:count]


def _to_int16(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    return (np.clip(samples, -1.0, 1.0) * 32767).astype(np.int16)
