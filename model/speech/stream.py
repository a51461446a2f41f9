"""Streaming use of the speech model: hops of audio in, committed and look-ahead features out, state with the caller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.errors import InputError
from model.speech.encoder_graph import BatchedSpeech
from model.speech.log_mel import HOP_SAMPLES, SILENCE, LogMel, LogMelState
from model.speech.speech_model import COLUMNS_PER_FRAME, SpeechModel


@dataclass
class SpeechState:
    """A session's mel window and the state of its log-mel."""

    columns: NDArray[np.float32]  # (window_columns, mels), newest last
    log_mel: LogMelState = field(default_factory=LogMelState)

    @classmethod
    def start(cls, window_columns: int, num_mels: int) -> SpeechState:
        """Before any sound: silence."""
        return cls(np.full((window_columns, num_mels), SILENCE, np.float32))


class SpeechFeatures:
    """Windows of several sessions through the encoder in one batch, on the model's device and in its precision."""

    def __init__(
        self, model: SpeechModel, *, hop_frames: int, lookahead_frames: int, instruction_set: str = "auto"
    ) -> None:
        self.model = model.eval()
        self.hop_frames = hop_frames
        self.lookahead_frames = lookahead_frames
        self.hop_samples = hop_frames * COLUMNS_PER_FRAME * HOP_SAMPLES
        self.log_mel = LogMel(model.config.encoder.num_mels)
        last = hop_frames + lookahead_frames
        self._batched = BatchedSpeech(model, last_frames=last, instruction_set=instruction_set)

    def warm_up(self) -> None:
        """On a GPU, capture the graphs of all batch sizes, which takes seconds; on the CPU nothing."""
        self._batched.warm_up()

    def new_state(self) -> SpeechState:
        """State of a session that has heard nothing."""
        encoder = self.model.config.encoder
        return SpeechState.start(encoder.window_columns, encoder.num_mels)

    def advance(self, audio: NDArray[np.float32], state: SpeechState) -> None:
        """Append one hop of audio (hop_samples,) to a session's window.

        Raises:
            InputError: Not one hop, or `check_audio` refuses it; the state is then as before.
        """
        if audio.shape != (self.hop_samples,):
            raise InputError(f"need one hop of audio ({self.hop_samples},), got {audio.shape}")
        columns = self.log_mel.push(audio, state.log_mel)
        state.columns = np.concatenate([state.columns[len(columns) :], columns])

    @torch.inference_mode()
    def features(self, states: Sequence[SpeechState]) -> Tensor:
        """(B, hop_frames + lookahead_frames, 256): first the frames now committed, then the look-ahead ones."""
        windows = torch.from_numpy(np.stack([s.columns for s in states]))
        return self._batched(windows)
