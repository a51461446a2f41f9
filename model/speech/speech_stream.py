"""One session's speech features from audio in packets of any size; whole files take the same path.

Hops are cut here, so that the encoder always sees the same windows in batches of the same shape: packets of one sample
and one packet of an hour give the same bits. `model.speech.speech_model` names the slices of a feature row.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.errors import InputError
from model.speech.log_mel import HOP_SAMPLES, check_audio
from model.speech.speech_model import COLUMNS_PER_FRAME, FEATURE_SIZE
from model.speech.stream import SpeechFeatures

FRAME_SAMPLES = COLUMNS_PER_FRAME * HOP_SAMPLES
"""Samples of a video frame: 40 ms."""


class SpeechStream:
    """Committed features, frame by frame from frame 0 (samples [0, 640)) on.

    Frames leave `lookahead_frames` behind the newest hop and are never revised.
    """

    def __init__(self, features: SpeechFeatures) -> None:
        self._features = features
        self.reset()

    def reset(self) -> None:
        """Forget everything that was heard: as a new stream."""
        self._state = self._features.new_state()
        self._waiting: NDArray[np.float32] = np.zeros(0, np.float32)
        self._samples = 0
        self._next_frame = -self._features.lookahead_frames  # those before the stream are not given out
        self._ended = False

    @property
    def position_samples(self) -> int:
        """Samples taken in since the stream began."""
        return self._samples

    def push(self, audio: NDArray[np.float32]) -> Tensor:
        """Take samples in (1-D, -1..1, 16 kHz; any number); returns the frames (n, 256) that they commit.

        Raises:
            InputError: The stream was flushed, or `check_audio` refuses the audio; nothing was taken in then.
        """
        if self._ended:
            raise InputError(f"the stream was flushed after {self._samples} samples: reset() it before more audio")
        check_audio(audio)
        self._samples += len(audio)
        return self._take(audio)

    def flush(self) -> Tensor:
        """End the stream: the frames (n, 256) still missing, so that every sample pushed belongs to one.

        Silence follows the last sample. A second call gives none.
        """
        if self._ended:
            return torch.zeros(0, FEATURE_SIZE)
        self._ended = True
        frames = -(-self._samples // FRAME_SAMPLES)
        missing = frames - max(0, self._next_frame)
        if missing <= 0:
            return torch.zeros(0, FEATURE_SIZE)
        hops = -(-(frames - self._next_frame) // self._features.hop_frames)
        silence = np.zeros(hops * self._features.hop_samples - len(self._waiting), np.float32)
        return self._take(silence)[:missing]

    def _take(self, audio: NDArray[np.float32]) -> Tensor:
        hop = self._features.hop_samples
        waiting = np.concatenate([self._waiting, audio.astype(np.float32, copy=False)])
        whole = len(waiting) // hop * hop
        self._waiting = waiting[whole:].copy()
        parts = [torch.zeros(0, FEATURE_SIZE)]
        parts += [self._hop(waiting[start : start + hop]) for start in range(0, whole, hop)]
        return torch.cat(parts)

    def _hop(self, audio: NDArray[np.float32]) -> Tensor:
        """Frames that one hop commits."""
        self._features.advance(audio, self._state)
        committed = self._features.features([self._state])[0, : self._features.hop_frames]
        skip = min(max(0, -self._next_frame), len(committed))
        self._next_frame += len(committed)
        return committed[skip:]
