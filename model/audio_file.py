"""Reading sound from any file that FFmpeg reads: 16 kHz mono float32, with clear words for what is not sound."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from model.errors import InputError

SAMPLE_RATE = 16_000
MIN_SAMPLES = 160


def read_audio(path: Path, *, rate_hz: int = SAMPLE_RATE) -> NDArray[np.float32]:
    """Mono samples at `rate_hz`, -1..1.

    Raises:
        InputError: The file is missing, empty, not sound, or shorter than 10 ms.
    """
    if not path.is_file():
        raise InputError(f"no such audio file: {path}")
    if path.stat().st_size == 0:
        raise InputError(f"audio file is empty (0 bytes): {path}")
    try:
        parts = _decode(path, rate_hz)
    except (av.FFmpegError, ValueError) as error:
        raise InputError(f"{path} is not readable as audio ({error})") from error
    samples = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    if len(samples) * SAMPLE_RATE < MIN_SAMPLES * rate_hz:
        raise InputError(f"{path} holds {len(samples)} samples of sound; at least 10 ms are needed")
    return np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0).clip(-1.0, 1.0)


def _decode(path: Path, rate_hz: int) -> list[NDArray[np.float32]]:
    with av.open(str(path)) as container:
        if not container.streams.audio:
            raise InputError(f"{path} has no audio stream")
        resampler = av.AudioResampler(format="flt", layout="mono", rate=rate_hz)
        parts: list[NDArray[np.float32]] = []
        for frame in container.decode(audio=0):
            parts += [f.to_ndarray().ravel().astype(np.float32) for f in resampler.resample(frame)]
        parts += [f.to_ndarray().ravel().astype(np.float32) for f in resampler.resample(None)]
    return parts
