"""The last phase of motion training: some windows are shown by an avatar, and its pictures are judged.

Windows are of filmed clips, as recorded, seen from the front. The network's clean latents are decoded to motion behind
the true past, and `model.training.rendered_losses` renders and judges the frames that are being made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.data.features import load_clips
from model.diffusion.unet import TemporalUNet
from model.errors import ConfigError
from model.speech.log_mel import LogMel, LogMelState
from model.speech.speech_model import COLUMNS_PER_FRAME
from model.training.motion_loss import MotionLoss
from model.training.motion_windows import Places, WindowSource
from model.training.rendered_losses import RenderedLosses
from model.training.run import Run
from model.training.speech_data import normalise_batch

SoundOf = Callable[[Tensor, Tensor], Tensor]
"""Items (B,) and frames (B, F) to the judge's sound (B, 4 F, bands)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedPhaseConfig:
    """When, and how many windows. What they weigh is `RenderedLossConfig`."""

    begins: float = 0.8  # share of the training
    windows: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.begins <= 1 or self.windows < 1:
            raise ConfigError(f"rendered phase: begins must be 0..1 and windows at least 1, got {self}")


@dataclass(frozen=True)
class RenderedPhase:
    """The losses, and the sound of the first `items` items of a window source (its filmed clips)."""

    losses: RenderedLosses
    sound_of: SoundOf
    items: int
    config: RenderedPhaseConfig

    def due(self, run: Run) -> bool:
        """Whether this step renders."""
        return run.step >= self.config.begins * run.config.steps and self.losses.config.due(run.step)

    def __call__(
        self, unet: TemporalUNet, source: WindowSource, loss_of: MotionLoss, run: Run, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float]]:
        """The weighted loss of a few windows, and its terms."""
        c = unet.config
        count, fresh = self.config.windows, c.window_frames - c.committed_frames
        item = torch.randint(self.items, (count,), generator=generator)
        span = (source.items.frames[item] - fresh).clamp(min=1)
        hop = (torch.rand(count, generator=generator) * span).long()
        hop = (hop - (hop - source.items.phase[item]) % c.hop_frames).clamp(min=0)
        still = torch.zeros(count, dtype=torch.long)
        batch = source.at(Places(item, hop, still, still.bool(), torch.zeros(count, 3))).to(run.device)
        noisy, time, _ = loss_of.noised(c.process, batch, generator)
        with run.autocast():
            predicted = batch.denoised(unet, noisy, time).float()
        known = batch.prefix_mask[..., None]
        motion = loss_of.vae.decode(known * batch.clean + (1 - known) * predicted)[:, c.committed_frames :]
        frames = hop[:, None] + torch.arange(fresh)
        terms = self.losses(motion, self.sound_of(item, frames).to(run.device), generator)
        return self.losses.total(terms), {f"rendered_{name}": value.item() for name, value in terms.items()}


def filmed_log_mel(folder: Path, hop_frames: int, bands: int) -> SoundOf:
    """Normalised log-mel of prepared clips, in the order of the `filmed` group: each clip once for every hop phase.

    Frames beyond a clip's end sound as its last does.

    Raises:
        DataError: There are no clips.
    """
    log_mel = LogMel(bands)
    rows = [torch.from_numpy(_columns(clip.sound, log_mel)) for clip in load_clips(folder)]

    def sound_of(item: Tensor, frames: Tensor) -> Tensor:
        out = []
        for index, wanted in zip((item // hop_frames).tolist(), frames, strict=True):
            columns = wanted[:, None] * COLUMNS_PER_FRAME + torch.arange(COLUMNS_PER_FRAME)
            out.append(rows[index][columns.flatten().clamp(0, len(rows[index]) - 1)])
        return torch.stack(out)

    return sound_of


def _columns(sound: NDArray[np.float32], log_mel: LogMel) -> NDArray[np.float32]:
    raw = log_mel.push_raw(sound, LogMelState())
    return np.asarray(normalise_batch(raw[None])[0], np.float32)
