"""Streaming use of the speech model: hops of audio in, committed and look-ahead features out, state with the caller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.speech.log_mel import HOP_SAMPLES, RANGE_LOG10, SILENCE, LogMel, LogMelState
from model.speech.speech_model import COLUMNS_PER_FRAME, SpeechModel

LEAST_COLUMNS = 16
"""Statistics over fewer columns than these mean nothing."""
NOISE_SPREAD_LOG10 = 0.33


@dataclass
class SpeechState:
    """A session's mel window and the state of its log-mel."""

    columns: NDArray[np.float32]  # (window_columns, mels), newest last
    log_mel: LogMelState = field(default_factory=LogMelState)
    heard_columns: int = 0  # of the window; the rest is the silence before the stream

    def peak_log10(self, last_frames: int) -> NDArray[np.float32]:
        """Loudest band of each of the last frames, (last_frames,), log10 power by today's running maximum."""
        columns = self.columns[-last_frames * COLUMNS_PER_FRAME :]
        peak = columns.reshape(last_frames, -1).max(1)
        return np.asarray((peak - 1.0) * (RANGE_LOG10 / 2) + self.log_mel.maximum, np.float32)

    def spread_log10(self) -> float:
        """Mean over bands of the standard deviation of log10 power over what was heard of the window.

        Before LEAST_COLUMNS were heard (no frame is due yet) it is that of steady noise.
        """
        if self.heard_columns < LEAST_COLUMNS:
            return NOISE_SPREAD_LOG10
        heard = self.columns[-self.heard_columns :]
        return float(heard.std(0).mean()) * RANGE_LOG10 / 2

    @classmethod
    def start(cls, window_columns: int, num_mels: int) -> SpeechState:
        """Before any sound: silence."""
        return cls(np.full((window_columns, num_mels), SILENCE, np.float32))


class SpeechFeatures:
    """Windows of several sessions through the encoder in one batch."""

    def __init__(self, model: SpeechModel, *, hop_frames: int, lookahead_frames: int) -> None:
        self.model = model.eval()
        self.hop_frames = hop_frames
        self.lookahead_frames = lookahead_frames
        self.hop_samples = hop_frames * COLUMNS_PER_FRAME * HOP_SAMPLES
        self.log_mel = LogMel(model.config.encoder.num_mels)

    def new_state(self) -> SpeechState:
        """State of a session that has heard nothing."""
        encoder = self.model.config.encoder
        return SpeechState.start(encoder.window_columns, encoder.num_mels)

    def advance(self, audio: NDArray[np.float32], state: SpeechState) -> None:
        """Append one hop of audio (hop_samples,) to a session's window."""
        columns = self.log_mel.push(audio, state.log_mel)
        state.columns = np.concatenate([state.columns[len(columns) :], columns])
        state.heard_columns = min(len(state.columns), state.heard_columns + len(columns))

    @torch.inference_mode()
    def features(self, states: Sequence[SpeechState]) -> Tensor:
        """(B, hop_frames + lookahead_frames, 256): first the frames now committed, then the look-ahead ones."""
        windows = torch.from_numpy(np.stack([s.columns for s in states]))
        with torch.autocast("cpu", torch.bfloat16):
            out: Tensor = self.model(windows, last_frames=self.hop_frames + self.lookahead_frames)[0]
        return out.float()
