"""What the encoder hears of recordings, exactly as served: hop by hop, with its look-ahead, committed tokens only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.speech.log_mel import HOP_SAMPLES
from model.speech.speech_model import COLUMNS_PER_FRAME, TOKENS_PER_FRAME, SpeechOutput
from model.speech.stream import SpeechFeatures, SpeechState

Array = NDArray[np.float32]
FRAME_SAMPLES = COLUMNS_PER_FRAME * HOP_SAMPLES
BATCH = 16
"""Recordings heard side by side."""


@dataclass(frozen=True)
class Heard:
    """A recording of T frames as the encoder hears it."""

    tokens: Array  # (2 T, classes) phoneme probabilities of each 20 ms token
    features: Array  # (T, 256) as committed
    mel: Array  # (T, 4 * bands) normalised log-mel columns of each frame


def hear(sounds: Sequence[Array], speech: SpeechFeatures) -> list[Heard]:
    """Hear recordings (samples,), -1..1, 16 kHz; silence follows each. Whole frames only: the rest is cut off."""
    order = sorted(range(len(sounds)), key=lambda i: len(sounds[i]))
    heard: dict[int, Heard] = {}
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        heard.update(zip(rows, _hear_batch([sounds[i] for i in rows], speech), strict=True))
    return [heard[i] for i in range(len(sounds))]


def _hear_batch(sounds: list[Array], speech: SpeechFeatures) -> list[Heard]:
    lengths = [len(s) // FRAME_SAMPLES for s in sounds]
    ahead, hop = speech.lookahead_frames, speech.hop_frames
    hops = -(-(max(lengths) + ahead) // hop)
    audio = np.stack(
        [_fit(s, n * FRAME_SAMPLES, hops * speech.hop_samples) for s, n in zip(sounds, lengths, strict=True)]
    )
    states = [speech.new_state() for _ in sounds]
    parts: list[tuple[Array, Array, Array]] = []
    with _PhonemeLogits(speech.model) as logits:
        for part in np.split(audio, hops, axis=1):
            for row, state in zip(part, states, strict=True):
                speech.advance(row, state)
            features = speech.features(states)[:, :hop].numpy()
            parts.append((features, _committed(logits.last, hop, ahead), _newest_mel(states, hop)))
    features, tokens, mel = (np.concatenate(p, axis=1) for p in zip(*parts, strict=True))
    return [
        Heard(
            tokens=tokens[row, TOKENS_PER_FRAME * ahead : TOKENS_PER_FRAME * (ahead + n)],
            features=features[row, ahead : ahead + n],
            mel=mel[row, :n],
        )
        for row, n in enumerate(lengths)
    ]


def _committed(logits: Tensor, hop: int, ahead: int) -> Array:
    """Probabilities (B, 2 * hop, classes) of the tokens of the hop now committed."""
    stop = logits.shape[1] - TOKENS_PER_FRAME * ahead
    tokens = logits[:, stop - TOKENS_PER_FRAME * hop : stop]
    return np.asarray(torch.softmax(tokens.float(), -1).numpy(), np.float32)


def _newest_mel(states: Sequence[SpeechState], hop: int) -> Array:
    columns = np.stack([s.columns[-hop * COLUMNS_PER_FRAME :] for s in states])
    return columns.reshape(len(states), hop, -1)


def _fit(sound: Array, keep: int, length: int) -> Array:
    return np.pad(sound[:keep], (0, length - keep)).astype(np.float32)


class _PhonemeLogits:
    """Looks on while serving's own code runs the model: the phoneme logits of its last run."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.last: Tensor = torch.zeros(0)

    def __enter__(self) -> _PhonemeLogits:
        self._hook = self._model.register_forward_hook(self._keep)
        return self

    def __exit__(self, *error: object) -> None:
        self._hook.remove()

    def _keep(self, model: nn.Module, inputs: Any, output: SpeechOutput) -> None:  # noqa: ARG002
        self.last = output.phonemes
