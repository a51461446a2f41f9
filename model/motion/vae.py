"""Causal VAE of facial motion: 20 audio-owned codes per frame (mouth 16, brows 4) to 16 latents, stride 1.

Causal 1-D convolutions, so that streamed equals whole and a frame never waits. Stride 1, since striding loses
closures of one or two frames. Lids, gaze and the reserve are not owned by audio and are not coded.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

AUDIO_OWNED = 20
MOTION_SIZE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class VaeConfig:
    """Sizes. The decoder sees `2 * (kernel - 1)` past frames."""

    latent_size: int = 16
    width: int = 64
    kernel: int = 3


class CausalConv(nn.Module):
    """1-D convolution over (B, C, T) that sees the present and the past only."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.pad = kernel - 1
        self.conv = nn.Conv1d(inputs, outputs, kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Same length out; the past before the first frame counts as zero."""
        out: Tensor = self.conv(functional.pad(x, (self.pad, 0)))
        return out


class MotionVae(nn.Module):
    """Encoder and decoder with a linear path around the convolutions; latents are standardised by buffers."""

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.config = config
        c = config
        self.encode_linear = nn.Linear(AUDIO_OWNED, c.latent_size)
        self.encode_convs = nn.Sequential(
            CausalConv(AUDIO_OWNED, c.width, c.kernel), nn.GELU(), CausalConv(c.width, 2 * c.latent_size, c.kernel)
        )
        self.decode_linear = nn.Linear(c.latent_size, AUDIO_OWNED)
        self.decode_convs = nn.Sequential(
            CausalConv(c.latent_size, c.width, c.kernel), nn.GELU(), CausalConv(c.width, AUDIO_OWNED, c.kernel)
        )
        self.register_buffer("latent_mean", torch.zeros(c.latent_size))
        self.register_buffer("latent_std", torch.ones(c.latent_size))

    def encode(self, motion: Tensor) -> Tensor:
        """Standardised mean latents (B, T, 16) of motion (B, T, 32)."""
        mean, _ = self.posterior(motion)
        return (mean - self.latent_mean) / self.latent_std

    def posterior(self, motion: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance (B, T, 16) before standardising."""
        owned = motion[..., :AUDIO_OWNED]
        out = self.encode_convs(owned.transpose(1, 2)).transpose(1, 2)
        mean, log_variance = out.chunk(2, -1)
        return self.encode_linear(owned) + mean, log_variance.clamp(-12.0, 4.0)

    def decode(self, latents: Tensor) -> Tensor:
        """Motion (B, T, 32) of standardised latents (B, T, 16); lids, gaze and reserve are 0."""
        return self.decode_raw(latents * self.latent_std + self.latent_mean)

    def decode_raw(self, latents: Tensor) -> Tensor:
        """The same from latents before standardising."""
        owned = self.decode_linear(latents) + self.decode_convs(latents.transpose(1, 2)).transpose(1, 2)
        return functional.pad(owned, (0, MOTION_SIZE - AUDIO_OWNED))
