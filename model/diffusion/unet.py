"""Temporal U-Net over windows of motion latents, conditioned on speech features and the session's own past.

A window holds T = 16 frames: 8 committed (given), 2 of the hop (wanted), 2 look-ahead (heard, motion provisional) and
4 provisional (not heard yet; they let the hop's motion aim at something). It predicts clean latents (x0), whatever it
was trained as.

| process | trained as | sampled by |
|---|---|---|
| ddpm | the paper's teacher: T = 50, cosine schedule | DDIM, or ancestral steps |
| flow | rectified flow teacher (Liu et al. 2023) | Euler steps |
| flow-map | student: jumps from time t to time s of the teacher's trajectory | 1, 2 or 4 jumps |
| mean | deterministic twin: no noise at all | one pass |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from model.diffusion.temporal_block import BlockConfig, TemporalBlock, timestep_embedding
from model.errors import ConfigError
from model.speech.speech_model import MEL_SLICE

Process = Literal["ddpm", "flow", "flow-map", "mean"]
STYLES = ("filmed", "mirrored", "co-articulated")
"""Where a window's motion came from. What is served is `filmed`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UNetConfig:
    """Preset `lite`. `channels` per level; every level after the first halves the frames.

    pose_size: 0, or 3: yaw, pitch and roll in units of 20 degrees, of the view in which the motion appears.
    styles: 0, or 3: motion is marked by its origin (`STYLES`).
    self_attention, mel_branch: Off in ablations; without the latter the features' mel columns are hidden.
    """

    process: Process = "ddpm"
    latent_size: int = 16
    feature_size: int = 256
    window_frames: int = 16
    committed_frames: int = 8
    hop_frames: int = 2
    lookahead_frames: int = 2
    channels: tuple[int, ...] = (128, 160, 192)
    condition_size: int = 128
    context_size: int = 160
    num_heads: int = 4
    num_timesteps: int = 50
    dropout: float = 0.0
    pose_size: int = 0
    styles: int = 0
    self_attention: bool = True
    mel_branch: bool = True

    def __post_init__(self) -> None:
        """Raises ConfigError unless the window holds what it must and its frames can be halved."""
        halvings = 2 ** (len(self.channels) - 1)
        if self.window_frames % halvings or self.heard_frames > self.window_frames:
            raise ConfigError(
                f"window_frames must be a multiple of {halvings} and at least {self.heard_frames}, "
                f"got {self.window_frames}"
            )
        if self.styles not in (0, len(STYLES)):
            raise ConfigError(f"styles must be 0 or {len(STYLES)}, got {self.styles}")

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
        self.jump = _zeroed(2 * c.condition_size, c.condition_size) if c.process == "flow-map" else None
        self.pose = _zeroed(c.pose_size, c.condition_size) if c.pose_size else None
        self.style = nn.Embedding(c.styles, c.condition_size) if c.styles else None
        self.audio = nn.Sequential(
            nn.Linear(c.feature_size + 1, c.context_size), nn.SiLU(), nn.Linear(c.context_size, c.context_size)
        )
        self.dropout = nn.Dropout(c.dropout)
        self.position = nn.Parameter(torch.randn(c.window_frames, c.context_size) * 0.02)
        self.enter = nn.Linear(2 * c.latent_size + 1, first)
        self.frame_audio = nn.Conv1d(c.context_size, first, 5, padding=2)
        self._build_levels()
        self.leave = nn.Sequential(nn.LayerNorm(first), nn.SiLU(), nn.Linear(first, c.latent_size))
        self.direct = nn.Conv1d(c.context_size, c.latent_size, 5, padding=2)
        if self.style is not None:
            nn.init.zeros_(self.style.weight)

    def _build_levels(self) -> None:
        c = self.config
        block = BlockConfig(
            condition=c.condition_size,
            context=c.context_size,
            num_heads=c.num_heads,
            dropout=c.dropout,
            self_attention=c.self_attention,
        )
        levels = list(zip((c.channels[0], *c.channels[:-1]), c.channels, strict=True))
        self.down = nn.ModuleList(TemporalBlock(a, b, block) for a, b in levels)
        self.shrink = nn.ModuleList(nn.Conv1d(b, b, 3, stride=2, padding=1) for _, b in levels[:-1])
        self.middle = TemporalBlock(c.channels[-1], c.channels[-1], block)
        self.grow = nn.ModuleList(
            nn.ConvTranspose1d(b, a, 4, stride=2, padding=1)
            for a, b in zip(c.channels[:-1], c.channels[1:], strict=True)
        )
        self.up = nn.ModuleList(TemporalBlock(2 * a, a, block) for a in c.channels[:-1])

    def forward(
        self,
        noisy: Tensor,  # (B, T, 16): noise everywhere but where committed
        noise_time: Tensor,  # (B,): 0 clean .. 1 noise
        prefix: Tensor,  # (B, T, 16): committed latents, zero elsewhere
        prefix_mask: Tensor,  # (B, T): 1 where committed
        audio: Tensor,  # (B, T, 256): speech features, zero where not heard
        audio_mask: Tensor,  # (B, T) bool: heard
        target_time: Tensor | None = None,  # (B,): where a flow map jumps to, 0 <= s < noise_time
        temperature: Tensor | None = None,  # (B,): of a flow map's noise; 1 if not given
        pose: Tensor | None = None,  # (B, 3) in units of 20 degrees; frontal if not given
        style: Tensor | None = None,  # (B,) index into STYLES; filmed if not given
    ) -> Tensor:
        """Clean latents (B, T, 16)."""
        condition = self.condition(noisy, noise_time, target_time, temperature, pose, style)
        heard = audio_mask[..., None].to(noisy.dtype)
        if not self.config.mel_branch:
            audio = torch.cat([audio[..., : MEL_SLICE.start], torch.zeros_like(audio[..., MEL_SLICE])], -1)
        context = self.dropout(self.audio(torch.cat([audio * heard, heard], -1))) + self.position
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

    def condition(
        self,
        noisy: Tensor,
        noise_time: Tensor,
        target_time: Tensor | None,
        temperature: Tensor | None,
        pose: Tensor | None,
        style: Tensor | None,
    ) -> Tensor:
        """(B, condition) of everything that is one for the whole window."""
        size = self.config.condition_size
        condition: Tensor = self.time(timestep_embedding(noise_time, size).to(noisy.dtype))
        if self.jump is not None:
            target = torch.zeros_like(noise_time) if target_time is None else target_time
            heat = torch.ones_like(noise_time) if temperature is None else temperature
            parts = [timestep_embedding(target, size), timestep_embedding(0.1 * heat, size)]
            condition = condition + self.jump(torch.cat(parts, -1).to(noisy.dtype))
        if self.pose is not None:
            turned = noisy.new_zeros(len(noisy), self.config.pose_size) if pose is None else pose.to(noisy.dtype)
            condition = condition + self.pose(turned)
        if self.style is not None:
            which = torch.zeros(len(noisy), dtype=torch.long, device=noisy.device) if style is None else style
            condition = condition + self.style(which)
        return condition


def _zeroed(inputs: int, outputs: int) -> nn.Linear:
    """A linear map that adds nothing until it is trained."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
