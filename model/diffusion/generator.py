"""The motion diffusion as a stream: features of a hop in, motion latents of the hop out, state with the session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model.diffusion.hop_unet import HopUNet
from model.diffusion.samplers import frame_noise, sample
from model.diffusion.unet import TemporalUNet, UNetConfig
from model.errors import ConfigError

DECODER_FRAMES = 8
"""Least past that is kept: what the motion decoder's convolutions look back on."""


@dataclass
class MotionState:
    """A session's committed past. `next_frame` is the absolute index of the first frame of the next hop."""

    latents: Tensor  # (past, 16)
    features: Tensor  # (past, 256)
    heard: Tensor  # (past,) bool
    next_frame: int
    seed: int

    @classmethod
    def start(cls, config: UNetConfig, rest_latent: Tensor, seed: int) -> MotionState:
        """At rest, nothing heard; the first hop brings frames -lookahead.., which are not shown."""
        past = max(config.committed_frames, DECODER_FRAMES)
        return cls(
            latents=rest_latent.expand(past, -1).clone(),
            features=torch.zeros(past, config.feature_size),
            heard=torch.zeros(past, dtype=torch.bool),
            next_frame=-config.lookahead_frames,
            seed=seed,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamTiming:
    """How a stream is cut: frames a hop, and frames of sound beyond it that are waited for. Sound the network was
    trained with and does not get counts as not heard."""

    hop_frames: int
    lookahead_frames: int

    def apply(self, config: UNetConfig) -> UNetConfig:
        """The network's configuration with this timing.

        Raises:
            ConfigError: A hop is empty, or it is more than the network was trained with.
        """
        hop, ahead = self.hop_frames, self.lookahead_frames
        trained = config.hop_frames + config.lookahead_frames
        if hop < 1 or ahead < 0 or hop + ahead > trained:
            raise ConfigError(f"hop_frames >= 1 and lookahead_frames >= 0 may be {trained} in all, got {hop}, {ahead}")
        return replace(config, hop_frames=hop, lookahead_frames=ahead)


LOW_LATENCY = StreamTiming(hop_frames=1, lookahead_frames=1)
"""60 ms of algorithmic delay in the place of 140, for twice the network's work a frame (`low_latency.json`)."""


class MotionGenerator:
    """Few-step sampling of one hop for a batch of sessions. Holds weights and options only."""

    def __init__(
        self,
        unet: TemporalUNet,
        rest_latent: Tensor,
        *,
        num_steps: int = 2,
        temperature: float = 0.0,
        timing: StreamTiming | None = None,  # None: as trained
        instruction_set: str = "auto",
    ):
        self.unet = unet.eval()
        self.config = unet.config if timing is None else timing.apply(unet.config)
        self.rest_latent = rest_latent  # (16,)
        self.num_steps = num_steps
        self.temperature = temperature
        self.instruction_set = instruction_set
        self._folded: tuple[int, HopUNet] | None = None

    def new_state(self, seed: int) -> MotionState:
        """State of a session that begins at rest."""
        return MotionState.start(self.config, self.rest_latent, seed)

    @torch.inference_mode()
    def step(self, features: Tensor, states: Sequence[MotionState], poses: Tensor | None = None) -> Tensor:
        """Latents (B, past + hop, 16): the past, then the hop's frames; advances the states.

        Args:
            features: (B, hop + lookahead, 256) as the speech stream gives them.
            poses: (B, 3), the view in which the motion is to appear, in units of 20 degrees; frontal if not given.
        """
        c = self.config
        prefix, mask = self._prefix(states)
        audio, heard = self._audio(features, states)
        heat = torch.full((len(states),), self.temperature)

        window = self._hop_unet().hop(prefix, mask, audio, heard)

        def denoise(noisy: Tensor, noise_time: Tensor, target_time: Tensor) -> Tensor:
            return window.denoise(noisy, noise_time, target_time, heat, poses)

        noise = torch.stack([self._noise(s) for s in states])
        clean = sample(c.process, denoise, noise, num_steps=self.num_steps, num_timesteps=c.num_timesteps)
        hop = clean[:, c.committed_frames : c.committed_frames + c.hop_frames]
        past = torch.stack([s.latents for s in states])
        for row, state in enumerate(states):
            self._commit(state, hop[row], features[row, : c.hop_frames])
        return torch.cat([past, hop], 1)

    def _hop_unet(self) -> HopUNet:
        """The network's serving form, folded anew when its weights have changed (training goes on with them)."""
        weights = self.unet.parameters()
        version = sum(weight._version for weight in weights if not weight.is_inference())  # those made there stay
        if self._folded is None or self._folded[0] != version:
            self._folded = version, HopUNet(self.unet, instruction_set=self.instruction_set)
        return self._folded[1]

    def _prefix(self, states: Sequence[MotionState]) -> tuple[Tensor, Tensor]:
        """Committed latents (B, T, 16), zero elsewhere, and where they are (B, T)."""
        c = self.config
        prefix = torch.zeros(len(states), c.window_frames, c.latent_size)
        mask = torch.zeros(len(states), c.window_frames)
        if c.committed_frames:
            prefix[:, : c.committed_frames] = torch.stack([s.latents[-c.committed_frames :] for s in states])
            mask[:, : c.committed_frames] = 1.0
        return prefix, mask

    def _audio(self, features: Tensor, states: Sequence[MotionState]) -> tuple[Tensor, Tensor]:
        """Features of the window (B, T, 256) and which of them were heard (B, T)."""
        c = self.config
        audio = torch.zeros(len(states), c.window_frames, c.feature_size)
        heard = torch.zeros(len(states), c.window_frames, dtype=torch.bool)
        if c.committed_frames:
            audio[:, : c.committed_frames] = torch.stack([s.features[-c.committed_frames :] for s in states])
            heard[:, : c.committed_frames] = torch.stack([s.heard[-c.committed_frames :] for s in states])
        audio[:, c.committed_frames : c.heard_frames] = features
        for row, state in enumerate(states):
            first = max(0, -state.next_frame)  # frames before the stream began were not heard
            heard[row, c.committed_frames + first : c.heard_frames] = True
        return audio, heard

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
