"""Cosine noise schedule over T steps (Nichol & Dhariwal 2021, Eq. 17), variance preserving."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def cosine_alpha_bar(num_steps: int, *, offset: float = 0.008) -> Tensor:
    """(num_steps + 1,) float64 signal power from 1 (index 0, clean) down to almost 0 (index T)."""
    t = torch.arange(num_steps + 1, dtype=torch.float64) / num_steps
    f = torch.cos((t + offset) / (1 + offset) * math.pi / 2) ** 2
    return (f / f[0]).clamp(min=1e-5, max=1.0)


def add_noise(clean: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) e; alpha_bar (B,) for clean (B, T, C)."""
    signal = alpha_bar.to(clean.dtype)[:, None, None]
    return signal.sqrt() * clean + (1 - signal).sqrt() * noise
