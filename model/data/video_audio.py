"""The sound of a clip on the picture's clock: 16 kHz mono, sample 0 at the first picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from numpy.typing import NDArray

from model.data.clip_types import ClipError, Problem
from model.data.video_file import open_media, read_packets, sound_stream

SAMPLE_RATE = 16_000
GAP_S = 0.05  # a jump in time between two pieces of sound from which on it is silence (or overlap), not jitter
_LISTEN_ON_S = 2.0  # how far behind the wanted end sound is still looked at, to say how long it is


@dataclass(frozen=True, slots=True)
class Sound:
    """Sound cut or padded to length; times in seconds from the first picture."""

    samples: NDArray[np.int16]  # 16 kHz mono
    start_s: float  # where the file's sound begins; negative when before the first picture
    end_s: float  # where it ends (at least, when it goes on far behind the wanted end)


def read_sound(path: Path, *, zero_s: float, samples: int) -> Sound:
    """Decode, mix to mono and resample; silence where the file has none. Placed to the nearest sample.

    Args:
        path: Video or sound file.
        zero_s: Time on the file's clock that sample 0 stands for.
        samples: How many samples to give.

    Raises:
        ClipError: The file has no sound track, or none of its sound can be decoded within the wanted time.
    """
    track = _Track(zero_s, samples)
    with open_media(path, sound_only=True) as container:
        stream = sound_stream(container)
        if stream is None:
            raise no_sound(path)
        for frame in _frames(container, stream):
            track.add(frame)
            if track.next_sample > samples + _LISTEN_ON_S * SAMPLE_RATE:
                break
    track.flush()
    if not track.placed:
        text = f"{path} has a sound track, but no sound of it falls within the picture; give a clip with speech"
        raise ClipError(Problem.NO_AUDIO, text)
    return Sound(track.samples, track.start_s, max(track.next_sample / SAMPLE_RATE, track.start_s))


def no_sound(path: Path) -> ClipError:
    """The refusal of a clip without a sound track."""
    return ClipError(Problem.NO_AUDIO, f"{path} has no sound track; give a clip with the speaker's voice")


class _Track:
    """Mono samples filled by pieces of sound at their times."""

    def __init__(self, zero_s: float, samples: int) -> None:
        self.samples: NDArray[np.int16] = np.zeros(samples, np.int16)
        self.start_s = 0.0
        self.next_sample = 0
        self.placed = 0  # samples that fell within
        self._zero_s = zero_s
        self._resampler: av.AudioResampler | None = None
        self._source: tuple[str, str, int] = ("", "", 0)
        self._expected_s = 0.0

    def add(self, frame: AudioFrame) -> None:
        source = (frame.format.name, frame.layout.name, frame.sample_rate)
        time_s = self._expected_s if frame.time is None else frame.time - self._zero_s
        if self._resampler is None or source != self._source or abs(time_s - self._expected_s) > GAP_S:
            self.flush()
            self.start_s = time_s if self._resampler is None else self.start_s
            # 16-bit output: FFmpeg then scales a stereo mix so that it cannot clip
            self._resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
            self._source = source
            self._expected_s = time_s
            self.next_sample = round(time_s * SAMPLE_RATE)
        self._expected_s += frame.samples / frame.sample_rate
        self._put(self._resampler, frame)

    def flush(self) -> None:
        if self._resampler is not None:
            self._put(self._resampler, None)

    def _put(self, resampler: av.AudioResampler, frame: AudioFrame | None) -> None:
        for piece in resampler.resample(frame):
            values = piece.to_ndarray().ravel().astype(np.int16, copy=False)
            first = self.next_sample
            self.next_sample += len(values)
            low, high = max(first, 0), min(self.next_sample, len(self.samples))
            if low < high:
                self.samples[low:high] = values[low - first : high - first]
                self.placed += high - low


def _frames(container: av.container.InputContainer, stream: AudioStream) -> Iterator[AudioFrame]:
    for packet in read_packets(container, stream, lambda: None):
        try:
            frames = stream.decode(packet)
        except av.FFmpegError:  # one damaged piece: silence in its place
            continue
        yield from (f for f in frames if f.samples and f.sample_rate)
