"""From noise to clean latents: DDIM over the cosine schedule, steps along a rectified flow, and jumps of a flow map.

A flow's path is x_t = (1 - t) x_0 + t e; a network that predicts clean latents D(x_t, t) gives its velocity as
(x_t - D) / t, so that one Euler step from t to s is x_s = (s / t) x_t + (1 - s / t) D (Liu et al. 2023; x0 form).
A flow map (Boffi et al. 2024) is asked for the D that makes the same formula exact for the whole jump.
Noise is keyed by (seed, absolute frame), so that batch, pause and packet size change nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.diffusion.noise_schedule import cosine_alpha_bar
from model.diffusion.unet import Process

Denoiser = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(noisy (B, T, C), noise_time (B,), target_time (B,)) to clean (B, T, C)."""

_MASK_64 = 2**64 - 1


def sample(process: Process, denoiser: Denoiser, noise: Tensor, *, num_steps: int, num_timesteps: int) -> Tensor:
    """Clean latents from `noise` (B, T, C), as the process is sampled. `mean` looks at no noise and takes one pass.

    Raises:
        ValueError: num_steps is not within 1..num_timesteps (of a process that takes steps).
    """
    if process == "mean":
        return denoiser(torch.zeros_like(noise), noise.new_ones(len(noise)), noise.new_zeros(len(noise)))
    if process == "ddpm":
        return ddim(denoiser, noise, num_steps=num_steps, num_timesteps=num_timesteps)
    return follow_flow(denoiser, noise, num_steps=num_steps, num_timesteps=num_timesteps)


def follow_flow(denoiser: Denoiser, noise: Tensor, *, num_steps: int, num_timesteps: int) -> Tensor:
    """Equal steps from t = 1 to 0 along a rectified flow; for a flow map each is a jump.

    Raises:
        ValueError: num_steps is not within 1..num_timesteps.
    """
    _check_steps(num_steps, num_timesteps)
    x = noise
    for step in range(num_steps, 0, -1):
        now, after = step / num_steps, (step - 1) / num_steps
        clean = denoiser(x, noise.new_full((len(noise),), now), noise.new_full((len(noise),), after))
        x = step_flow(x, clean, now, after)
    return x


def step_flow(x: Tensor, clean: Tensor, now: float, after: float) -> Tensor:
    """One step of the flow from time `now` to time `after`, given the clean latents it aims at."""
    kept = after / now
    return kept * x + (1.0 - kept) * clean


def ddim(denoiser: Denoiser, noise: Tensor, *, num_steps: int, num_timesteps: int) -> Tensor:
    """Deterministic DDIM (Song et al. 2021, Eq. 12 with sigma = 0) from `noise` (B, T, C) to clean latents.

    Raises:
        ValueError: num_steps is not within 1..num_timesteps.
    """
    _check_steps(num_steps, num_timesteps)
    alpha_bar = cosine_alpha_bar(num_timesteps)
    times = torch.linspace(num_timesteps, 0, num_steps + 1).round().long().tolist()
    x = noise
    clean = noise
    for now, after in pairwise(times):
        spot = [noise.new_full((len(noise),), time / num_timesteps) for time in (now, after)]
        clean = denoiser(x, *spot)
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


def _check_steps(num_steps: int, num_timesteps: int) -> None:
    if not 1 <= num_steps <= num_timesteps:
        raise ValueError(f"steps must be 1..{num_timesteps}, got {num_steps}")
