"""Blocks of the temporal U-Net: FiLM residual convolution, self-attention over frames, audio cross-attention."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from kernels.temporal_attention import AttentionWeights, attention_block


class FilmResBlock(nn.Module):
    """Two 1-D convolutions over frames; the time step scales and shifts in between (FiLM, Perez et al. 2018)."""

    def __init__(self, inputs: int, outputs: int, condition: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.norm1 = nn.LayerNorm(inputs)
        self.conv1 = nn.Conv1d(inputs, outputs, 3, padding=1)
        self.norm2 = nn.LayerNorm(outputs)
        self.conv2 = nn.Conv1d(outputs, outputs, 3, padding=1)
        self.film = nn.Linear(condition, 2 * outputs)
        self.skip = nn.Linear(inputs, outputs) if inputs != outputs else nn.Identity()
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, T, inputs) and (B, condition) to (B, T, outputs)."""
        h = self.conv1(functional.silu(self.norm1(x)).transpose(1, 2)).transpose(1, 2)
        scale, shift = self.film(condition)[:, None].chunk(2, -1)
        h = self.norm2(h) * (1 + scale) + shift
        h = self.conv2(self.dropout(functional.silu(h)).transpose(1, 2)).transpose(1, 2)
        out: Tensor = self.skip(x) + h
        return out


class Attention(nn.Module):
    """Multi-head attention over frames (self) or audio tokens (cross), pre-norm, residual: one call to a kernel."""

    def __init__(self, width: int, num_heads: int, context: int | None = None) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(context or width, 2 * width)
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """x (B, T, width); context (B, S, C) or None for self-attention; mask (B, S) True where usable."""
        weights = AttentionWeights(
            query=self.query.weight,
            query_bias=self.query.bias,
            key_value=self.key_value.weight,
            key_value_bias=self.key_value.bias,
            out=self.out.weight,
            out_bias=self.out.bias,
            norm_weight=self.norm.weight,
            norm_bias=self.norm.bias,
            norm_epsilon=self.norm.eps,
        )
        return attention_block(x, weights, self.num_heads, context=context, mask=mask)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockConfig:
    """What all blocks of a U-Net share."""

    condition: int
    context: int
    num_heads: int
    dropout: float = 0.0
    self_attention: bool = True


class TemporalBlock(nn.Module):
    """One level's unit: FiLM convolution, self-attention (if the config has it), audio cross-attention."""

    def __init__(self, inputs: int, width: int, config: BlockConfig) -> None:
        super().__init__()
        self.conv = FilmResBlock(inputs, width, config.condition, config.dropout)
        self.self_attention = Attention(width, config.num_heads) if config.self_attention else None
        self.cross_attention = Attention(width, config.num_heads, config.context)

    def forward(self, x: Tensor, condition: Tensor, audio: Tensor, audio_mask: Tensor) -> Tensor:
        """x (B, T, inputs) to (B, T, width)."""
        x = self.conv(x, condition)
        if self.self_attention is not None:
            x = self.self_attention(x)
        out: Tensor = self.cross_attention(x, audio, audio_mask)
        return out


def timestep_embedding(t: Tensor, size: int, *, longest: float = 1000.0) -> Tensor:
    """Sinusoids of noise-time t in 0..1, (B,) to (B, size)."""
    half = size // 2
    frequencies = torch.exp(-torch.arange(half, device=t.device) / half * math.log(longest))
    angles = t.float()[:, None] * 1000.0 * frequencies
    return torch.cat([angles.cos(), angles.sin()], -1)
