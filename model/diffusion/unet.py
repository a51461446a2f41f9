"""Temporal U-Net over windows of motion latents, conditioned on speech features and the session's own past.

A window holds T = 16 frames: 8 committed (given), 2 of the hop (wanted), 2 look-ahead (heard, motion provisional) and
4 provisional (not heard yet; they let the hop's motion aim at something). It predicts clean latents (x0).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.diffusion.temporal_block import TemporalBlock, timestep_embedding


@dataclass(frozen=True, slots=True, kw_only=True)
class UNetConfig:
    """Preset `lite`. `channels` per level; every level after the first halves the frames."""

    latent_size: int = 16
    feature_size: int = 256
    window_frames: int = 16
    committed_frames: int = 8
    hop_frames: int = 2
    lookahead_frames: int = 2
    channels: tuple[int, ...] = (128, 160, 224)
    condition_size: int = 128
    context_size: int = 160
    num_heads: int = 4
    num_timesteps: int = 50

    @property
    def heard_frames(self) -> int:
        """Frames of the window for which sound has arrived."""
        return self.committed_frames + self.hop_frames + self.lookahead_frames


class TemporalUNet(nn.Module):
    """x0-predicting denoiser."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = c = config
        first = c.channels[0]
        self.time = nn.Sequential(
            nn.Linear(c.condition_size, c.condition_size), nn.SiLU(), nn.Linear(c.condition_size, c.condition_size)
        )
        self.audio = nn.Sequential(
            nn.Linear(c.feature_size + 1, c.context_size), nn.SiLU(), nn.Linear(c.context_size, c.context_size)
        )
        self.position = nn.Parameter(torch.randn(c.window_frames, c.context_size) * 0.02)
        self.enter = nn.Linear(2 * c.latent_size + 1, first)
        self.frame_audio = nn.Conv1d(c.context_size, first, 5, padding=2)
        levels = list(zip((first, *c.channels[:-1]), c.channels, strict=True))
        unit = (c.condition_size, c.context_size, c.num_heads)
        self.down = nn.ModuleList(TemporalBlock(a, b, *unit) for a, b in levels)
        self.shrink = nn.ModuleList(nn.Conv1d(b, b, 3, stride=2, padding=1) for _, b in levels[:-1])
        self.middle = TemporalBlock(c.channels[-1], c.channels[-1], *unit)
        self.grow = nn.ModuleList(
            nn.ConvTranspose1d(b, a, 4, stride=2, padding=1)
            for a, b in zip(c.channels[:-1], c.channels[1:], strict=True)
        )
        self.up = nn.ModuleList(TemporalBlock(2 * a, a, *unit) for a in c.channels[:-1])
        self.leave = nn.Sequential(nn.LayerNorm(first), nn.SiLU(), nn.Linear(first, c.latent_size))
        self.direct = nn.Conv1d(c.context_size, c.latent_size, 5, padding=2)

    def forward(
        self,
        noisy: Tensor,  # (B, T, 16): noise everywhere but where committed
        noise_time: Tensor,  # (B,): 0 clean .. 1 noise
        prefix: Tensor,  # (B, T, 16): committed latents, zero elsewhere
        prefix_mask: Tensor,  # (B, T): 1 where committed
        audio: Tensor,  # (B, T, 256): speech features, zero where not heard
        audio_mask: Tensor,  # (B, T) bool: heard
    ) -> Tensor:
        """Clean latents (B, T, 16)."""
        condition = self.time(timestep_embedding(noise_time, self.config.condition_size).to(noisy.dtype))
        heard = audio_mask[..., None].to(noisy.dtype)
        context = self.audio(torch.cat([audio * heard, heard], -1)) + self.position
        x = self.enter(torch.cat([noisy, prefix, prefix_mask[..., None]], -1))
        x = x + self.frame_audio(context.transpose(1, 2)).transpose(1, 2)
        skips = []
        for index, block in enumerate(self.down):
            x = block(x, condition, context, audio_mask)
            if index < len(self.shrink):
                skips.append(x)
                x = self.shrink[index](x.transpose(1, 2)).transpose(1, 2)
        x = self.middle(x, condition, context, audio_mask)
        for index in reversed(range(len(self.up))):
            x = self.grow[index](x.transpose(1, 2)).transpose(1, 2)
            x = self.up[index](torch.cat([x, skips[index]], -1), condition, context, audio_mask)
        out: Tensor = self.leave(x) + self.direct(context.transpose(1, 2)).transpose(1, 2)
        return out
