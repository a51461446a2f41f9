"""DDIM in 1 to T steps over the cosine schedule, with a temperature and noise keyed by (seed, absolute frame)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.diffusion.noise_schedule import cosine_alpha_bar

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(noisy (B, T, C), noise_time (B,)) to clean (B, T, C)."""

_MASK_64 = 2**64 - 1


def ddim(denoiser: Denoiser, noise: Tensor, *, num_steps: int, num_timesteps: int) -> Tensor:
    """Deterministic DDIM (Song et al. 2021, Eq. 12 with sigma = 0) from `noise` (B, T, C) to clean latents.

    Raises:
        ValueError: num_steps is not within 1..num_timesteps.
    """
    if not 1 <= num_steps <= num_timesteps:
        raise ValueError(f"steps must be 1..{num_timesteps}, got {num_steps}")
    alpha_bar = cosine_alpha_bar(num_timesteps)
    times = torch.linspace(num_timesteps, 0, num_steps + 1).round().long().tolist()
    x = noise
    clean = noise
    for now, after in pairwise(times):
        noise_time = torch.full((len(noise),), now / num_timesteps, device=noise.device)
        clean = denoiser(x, noise_time)
        a_now, a_after = float(alpha_bar[now]), float(alpha_bar[after])
        residual = (x - a_now**0.5 * clean) / (1 - a_now) ** 0.5
        x = a_after**0.5 * clean + (1 - a_after) ** 0.5 * residual
    return clean


def frame_noise(seed: int, first_frame: int, num_frames: int, size: int) -> NDArray[np.float32]:
    """Standard normal noise (num_frames, size) that depends on (seed, absolute frame) only.

    Frames may be negative (before a stream's start).
    """
    rows = []
    for frame in range(first_frame, first_frame + num_frames):
        counter = np.array([0, 0, 0, frame & _MASK_64], np.uint64)
        bits = np.random.Philox(key=seed & _MASK_64, counter=counter)
        rows.append(np.random.Generator(bits).standard_normal(size, dtype=np.float32))
    return np.stack(rows)
