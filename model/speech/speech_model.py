"""Speech windows to 256 numbers per video frame: phonemes, learned features, prosody, and the mel branch.

| slice | what |
|---|---|
| 0..44 | phoneme posteriors, averaged over the frame's two tokens |
| 45..171 | learned: softmax mix of all encoder layers, projected |
| 172..175 | prosody: energy, its slope, voicing and voice activity (both heard by the encoder, 0..1) |
| 176..255 | mel branch: a small convolution over the frame's 80 x 16 log-mel patch (the paper's spectrogram) |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.speech.phonemes import PHONEMES
from model.speech.whisper_encoder import EncoderConfig, WindowedEncoder

COLUMNS_PER_FRAME = 4
TOKENS_PER_FRAME = 2
PATCH_COLUMNS = 16
FEATURE_SIZE = 256
PHONEME_SLICE = slice(0, len(PHONEMES))
PROSODY_SIZE = 4
MEL_BRANCH_SIZE = 80
LEARNED_SLICE = slice(len(PHONEMES), FEATURE_SIZE - PROSODY_SIZE - MEL_BRANCH_SIZE)
PROSODY_SLICE = slice(LEARNED_SLICE.stop, LEARNED_SLICE.stop + PROSODY_SIZE)
MEL_SLICE = slice(PROSODY_SLICE.stop, FEATURE_SIZE)
VOICE_CUES = 2
"""Logits of each token beside its phonemes: voicing (the larynx sounds), activity (somebody speaks)."""

Encode = Callable[[Tensor, int | None], Tensor]
"""Layer outputs of windows (B, mels, columns), of the last tokens if so many are asked for."""


class SpeechOutput(NamedTuple):
    """What a window says."""

    features: Tensor  # (B, T, 256)
    phonemes: Tensor  # (B, tokens, P) logits
    voice: Tensor  # (B, tokens, 2) logits: voicing, activity


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechConfig:
    """The speech front end. `num_phonemes` guards against a changed inventory.

    `whisper_sha256` is the hash of the Whisper checkpoint whose encoder is used; empty: the encoder is our own and lies
    in the speech checkpoint. It is part of the config, so of the content hash that motion weights are bound to.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    num_phonemes: int = len(PHONEMES)
    patch_channels: int = 48
    whisper_sha256: str = ""


class MelBranch(nn.Module):
    """(B, T, 80, 16) patches to (B, T, 80): two strided convolutions over time with all bands as channels."""

    def __init__(self, num_mels: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(num_mels, channels, 4, stride=2, padding=1)
        self.conv2 = nn.Conv1d(channels, channels, 4, stride=2, padding=1)
        self.out = nn.Linear(channels * PATCH_COLUMNS // 4, MEL_BRANCH_SIZE)

    def forward(self, patches: Tensor) -> Tensor:
        """Features of each patch."""
        batch, frames = patches.shape[:2]
        x = patches.reshape(batch * frames, *patches.shape[2:])
        x = functional.gelu(self.conv2(functional.gelu(self.conv1(x))))
        return torch.tanh(self.out(x.flatten(1))).view(batch, frames, MEL_BRANCH_SIZE)


class SpeechModel(nn.Module):
    """Encoder (a new one if none is given), phoneme and voice heads, layer mix and mel branch."""

    def __init__(self, config: SpeechConfig, encoder: WindowedEncoder | None = None) -> None:
        super().__init__()
        if config.num_phonemes != len(PHONEMES):
            raise ValueError(f"the weights know {config.num_phonemes} phonemes, this program {len(PHONEMES)}")
        self.config = config
        width = config.encoder.width
        self.encoder = encoder or WindowedEncoder(config.encoder)
        self.phoneme_head = nn.Linear(width, len(PHONEMES))
        self.voice_head = nn.Linear(width, VOICE_CUES)
        self.layer_mix = nn.Parameter(torch.zeros(config.encoder.num_layers + 1))
        self.learned = nn.Linear(width, LEARNED_SLICE.stop - LEARNED_SLICE.start)
        self.mel_branch = MelBranch(config.encoder.num_mels, config.patch_channels)

    def forward(self, mel: Tensor, *, last_frames: int | None = None, encode: Encode | None = None) -> SpeechOutput:
        """Features of the last frames of windows (B, columns, mels), and the logits of those frames' tokens.

        `last_frames` None gives all frames of the window (24). `encode` is another form of the encoder.
        """
        states = (encode or self.encoder)(
            mel.transpose(1, 2), None if last_frames is None else TOKENS_PER_FRAME * last_frames
        )
        logits, voice = self.phoneme_head(states[:, -1]), self.voice_head(states[:, -1])
        mix = torch.softmax(self.layer_mix.float(), 0).to(states.dtype)
        hidden = torch.einsum("l,bltw->btw", mix, states)
        keep = mel.shape[1] // COLUMNS_PER_FRAME if last_frames is None else last_frames
        posteriors = _per_frame(torch.softmax(logits.float(), -1), keep)
        learned = torch.tanh(self.learned(_per_frame(hidden, keep)))
        cues = _per_frame(torch.sigmoid(voice.float()), keep)
        patches = _patches(mel, keep)
        prosody = torch.cat([energy(mel.float(), keep), cues], -1)
        parts = [posteriors, learned.float(), prosody, self.mel_branch(patches).float()]
        return SpeechOutput(torch.cat(parts, -1), logits, voice)


def energy(mel: Tensor, last_frames: int) -> Tensor:
    """Mean of each frame's columns and its change since the frame before, (B, T, 2), within about -1..1."""
    mean = mel.reshape(mel.shape[0], -1, COLUMNS_PER_FRAME, mel.shape[2]).mean((2, 3))
    slope = functional.pad(mean[:, 1:] - mean[:, :-1], (1, 0))
    return torch.stack([mean, slope], -1)[:, -last_frames:]


def _per_frame(tokens: Tensor, last_frames: int) -> Tensor:
    """Mean over each frame's two tokens: (B, tokens, C) -> (B, last_frames, C)."""
    batch, _, channels = tokens.shape
    return tokens.reshape(batch, -1, TOKENS_PER_FRAME, channels).mean(2)[:, -last_frames:]


def _patches(mel: Tensor, last_frames: int) -> Tensor:
    """(B, T, mels, 16): the frame before, the frame, and two after (zero where the window ends)."""
    padded = functional.pad(mel, (0, 0, COLUMNS_PER_FRAME, 2 * COLUMNS_PER_FRAME))
    windows = padded.unfold(1, PATCH_COLUMNS, COLUMNS_PER_FRAME)
    return windows[:, -last_frames:]
