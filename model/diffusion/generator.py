"""The motion diffusion as a stream: features of a hop in, motion latents of the hop out, state with the session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.diffusion.samplers import ddim, frame_noise
from model.diffusion.unet import TemporalUNet, UNetConfig


@dataclass
class MotionState:
    """A session's committed past. `next_frame` is the absolute index of the first frame of the next hop."""

    latents: Tensor  # (committed, 16)
    features: Tensor  # (committed, 256)
    heard: Tensor  # (committed,) bool
    next_frame: int
    seed: int

    @classmethod
    def start(cls, config: UNetConfig, rest_latent: Tensor, seed: int) -> MotionState:
        """At rest, nothing heard; the first hop brings frames -lookahead.., which are not shown."""
        c = config
        return cls(
            latents=rest_latent.expand(c.committed_frames, -1).clone(),
            features=torch.zeros(c.committed_frames, c.feature_size),
            heard=torch.zeros(c.committed_frames, dtype=torch.bool),
            next_frame=-c.lookahead_frames,
            seed=seed,
        )


class MotionGenerator:
    """Few-step sampling of one hop for a batch of sessions. Holds weights and options only."""

    def __init__(self, unet: TemporalUNet, rest_latent: Tensor, *, num_steps: int = 2, temperature: float = 0.0):
        self.unet = unet.eval()
        self.config = unet.config
        self.rest_latent = rest_latent  # (16,)
        self.num_steps = num_steps
        self.temperature = temperature

    def new_state(self, seed: int) -> MotionState:
        """State of a session that begins at rest."""
        return MotionState.start(self.config, self.rest_latent, seed)

    @torch.inference_mode()
    def step(self, features: Tensor, states: Sequence[MotionState]) -> Tensor:
        """Latents (B, committed + hop, 16): the past, then the hop's frames; advances the states.

        Args:
            features: (B, hop + lookahead, 256) as the speech stream gives them.
        """
        c = self.config
        past = torch.stack([s.latents for s in states])
        pad = torch.zeros(len(states), c.window_frames - c.heard_frames, c.feature_size)
        audio = torch.cat([torch.stack([s.features for s in states]), features, pad], 1)
        heard = torch.zeros(len(states), c.window_frames, dtype=torch.bool)
        heard[:, : c.committed_frames] = torch.stack([s.heard for s in states])
        for row, state in enumerate(states):
            first = max(0, -state.next_frame)  # frames before the stream began were not heard
            heard[row, c.committed_frames + first : c.heard_frames] = True
        prefix = torch.zeros(len(states), c.window_frames, c.latent_size)
        prefix[:, : c.committed_frames] = past
        mask = torch.zeros(len(states), c.window_frames)
        mask[:, : c.committed_frames] = 1.0

        def denoise(noisy: Tensor, noise_time: Tensor) -> Tensor:
            out: Tensor = self.unet(noisy, noise_time, prefix, mask, audio, heard)
            return out

        noise = torch.stack([self._noise(s) for s in states])
        clean = ddim(denoise, noise, num_steps=self.num_steps, num_timesteps=c.num_timesteps)
        hop = clean[:, c.committed_frames : c.committed_frames + c.hop_frames]
        for row, state in enumerate(states):
            self._commit(state, hop[row], features[row, : c.hop_frames])
        return torch.cat([past, hop], 1)

    def _noise(self, state: MotionState) -> Tensor:
        c = self.config
        first = state.next_frame - c.committed_frames
        return torch.from_numpy(frame_noise(state.seed, first, c.window_frames, c.latent_size)) * self.temperature

    def _commit(self, state: MotionState, hop: Tensor, features: Tensor) -> None:
        c = self.config
        state.latents = torch.cat([state.latents[c.hop_frames :], hop])
        state.features = torch.cat([state.features[c.hop_frames :], features])
        heard = torch.arange(c.hop_frames) + state.next_frame >= 0
        state.heard = torch.cat([state.heard[c.hop_frames :], heard])
        state.next_frame += c.hop_frames
