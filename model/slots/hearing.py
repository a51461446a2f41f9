"""What a slot hears, as functions of tensors: log-mel, and voice activity.

The same numbers as `model.speech.log_mel` and `model.speech.voice_activity`, for all slots at once and without a look
at any of them. The spectrum is a product with the transform's matrix in float64: a few thousand columns a second cost
nothing, and a product may be captured in a graph whatever a transform library does when it is first called.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from model.speech import log_mel
from model.speech.log_mel import HOP_SAMPLES, WINDOW_SAMPLES, LogMel
from model.speech.voice_activity import CHUNK_SAMPLES, CONTEXT_SAMPLES, VoiceActivity

Fields = Mapping[str, Tensor]
LOOKBACK_SAMPLES = WINDOW_SAMPLES - HOP_SAMPLES


class SlotMel(nn.Module):
    """Normalised log-mel columns of one hop for all slots."""

    window: Tensor  # (400,) float32
    transform: Tensor  # (400, 402) float64: cosines, then sines
    filters: Tensor  # (201, bands) float64
    decays: Tensor  # (columns, columns + 1) float64: how far each earlier maximum has fallen; infinite if not yet heard

    def __init__(self, num_bands: int, hop_samples: int) -> None:
        super().__init__()
        mel = LogMel(num_bands)
        self.columns = hop_samples // HOP_SAMPLES
        bins = np.arange(WINDOW_SAMPLES // 2 + 1)
        angles = 2 * np.pi / WINDOW_SAMPLES * (np.arange(WINDOW_SAMPLES)[:, None] * bins % WINDOW_SAMPLES)
        self.register_buffer("window", torch.from_numpy(mel.window))
        self.register_buffer("transform", torch.from_numpy(np.concatenate([np.cos(angles), np.sin(angles)], 1)))
        self.register_buffer("filters", torch.from_numpy(mel.filter_bank().T.astype(np.float64)))
        age = np.arange(self.columns)[:, None] - np.arange(-1, self.columns)[None]  # column -1: the state
        self.register_buffer("decays", torch.from_numpy(np.where(age < 0, np.inf, age * log_mel.DECAY_PER_COLUMN)))

    def forward(self, state: Fields, audio: Tensor) -> dict[str, Tensor]:
        """New `mel_tail`, `mel_maximum` and `columns` after audio (B, hop_samples)."""
        samples = torch.cat([state["mel_tail"], audio], 1)
        windows = samples.unfold(1, WINDOW_SAMPLES, HOP_SAMPLES) * self.window
        real, imaginary = (windows.double() @ self.transform).chunk(2, -1)
        power = (real.square() + imaginary.square()) @ self.filters
        raw = torch.log10(power.float().clamp(min=1e-10))
        heard = torch.cat([state["mel_maximum"][:, None], raw.amax(2).double()], 1)
        maxima = (heard[:, None] - self.decays).amax(2).clamp(min=log_mel.MAX_FLOOR_LOG10)
        floor = (maxima - log_mel.RANGE_LOG10).float()[..., None]
        new = (torch.maximum(raw, floor) - maxima.float()[..., None]) / (log_mel.RANGE_LOG10 / 2) + 1.0
        return {
            "mel_tail": samples[:, -LOOKBACK_SAMPLES:],
            "mel_maximum": maxima[:, -1],
            "columns": torch.cat([state["columns"][:, self.columns :], new], 1),
        }


class SlotVoice(nn.Module):
    """Voice activity of one hop for all slots: as many chunks as a hop can complete, those not complete left out."""

    def __init__(self, voice: VoiceActivity, hop_samples: int) -> None:
        super().__init__()
        self.voice = voice
        self.hop_samples = hop_samples
        self.kept = CHUNK_SAMPLES - 1
        self.chunks = (self.kept + hop_samples) // CHUNK_SAMPLES

    def forward(self, state: Fields, audio: Tensor) -> dict[str, Tensor]:
        """New `vad_*` fields after audio (B, hop_samples)."""
        count = state["vad_count"].long()[:, None]  # (B, 1) samples that wait
        joined = torch.cat([state["vad_waiting"], audio], 1)
        place = torch.arange(joined.shape[1], device=audio.device)
        place = torch.where(place < count, place, place - count + self.kept).clamp(max=joined.shape[1] - 1)
        line = joined.gather(1, place)
        context, cell, highest = (
            state["vad_context"],
            state["vad_cell"],
            torch.full_like(state["vad_probability"], -1.0),
        )
        for chunk in range(self.chunks):
            complete = count[:, 0] + self.hop_samples >= (chunk + 1) * CHUNK_SAMPLES
            sound = torch.cat([context, line[:, chunk * CHUNK_SAMPLES : (chunk + 1) * CHUNK_SAMPLES]], 1)
            found, after = self.voice(sound, cell.transpose(0, 1))
            cell = torch.where(complete[:, None, None], after.transpose(0, 1), cell)
            context = torch.where(complete[:, None], sound[:, -CONTEXT_SAMPLES:], context)
            highest = torch.where(complete, torch.maximum(highest, found), highest)
        total = count + self.hop_samples
        left = total % CHUNK_SAMPLES
        rest = torch.arange(self.kept, device=audio.device)
        waiting = line.gather(1, (total - left + rest).clamp(max=line.shape[1] - 1))
        return {
            "vad_count": left[:, 0].double(),
            "vad_waiting": torch.where(rest < left, waiting, 0.0),
            "vad_context": context,
            "vad_cell": cell,
            "vad_probability": torch.where(highest < 0, state["vad_probability"], highest),
        }
