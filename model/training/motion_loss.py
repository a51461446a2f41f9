"""The losses of motion training, for every process.

x0 error      weighted over the window: hop 3, look-ahead 1, provisional 0.5; over time by `time_weight`
landmark      the same for landmarks of the decoded motion, inter-ocular units x 10
velocity      frame-to-frame change of those landmarks against the truth's
acceleration  second difference of the prediction alone (the paper's smoothness)
flow          decoded motion against measured optical flow (`model.training.flow_loss`)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model.diffusion.noise_schedule import add_noise, cosine_alpha_bar
from model.diffusion.unet import Process, TemporalUNet, UNetConfig
from model.motion.space import load_motion_space
from model.motion.vae import AUDIO_OWNED, MotionVae
from model.training.flow_loss import FlowLoss
from model.training.motion_vae import landmark_metric
from model.training.motion_windows import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class LossConfig:
    """Weights against the x0 error's.

    highest_time_share: Windows that are pure noise, from which the conditional mean is learned.
    lowest_time: Of a flow; below it the weight of the x0 error no longer grows.
    """

    landmark: float = 0.5
    velocity: float = 0.3
    acceleration: float = 0.1
    optical_flow: float = 1.0
    highest_time_share: float = 0.3
    lowest_time: float = 0.3


class MotionLoss:
    """Noises windows as the process asks, and scores what the network makes of them."""

    def __init__(self, vae: MotionVae, config: LossConfig, model: UNetConfig) -> None:
        self.vae = vae
        self.config = config
        space = load_motion_space()
        self.metric = landmark_metric(space)
        self.flow = FlowLoss(space)
        self.alpha_bar = cosine_alpha_bar(model.num_timesteps)
        self.committed = model.committed_frames
        weight = torch.ones(model.window_frames)
        weight[: model.committed_frames] = 0.0
        weight[model.committed_frames : model.committed_frames + model.hop_frames] = 3.0
        weight[model.heard_frames :] = 0.5
        self.weight = weight / weight.sum()

    def to(self, device: torch.device) -> MotionLoss:
        """Moves the constants and the decoder."""
        self.metric, self.weight = self.metric.to(device), self.weight.to(device)
        self.flow.to(device)
        self.vae.to(device)
        return self

    def __call__(self, unet: TemporalUNet, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """The loss and its parts."""
        noisy, time, weight = self.noised(unet.config.process, batch, generator)
        predicted = batch.denoised(unet, noisy, time).float()
        return self.score(predicted, batch, weight)

    def noised(self, process: Process, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Noisy windows, their noise time (B,) and the weight of each window's x0 error (B,)."""
        size, clean = len(batch.clean), batch.clean
        if process == "mean":
            ones = torch.ones(size, device=clean.device)
            return torch.zeros_like(clean), ones, ones
        time = torch.rand(size, generator=generator)
        top = torch.rand(size, generator=generator) < self.config.highest_time_share
        noise = torch.randn(clean.shape, generator=generator).to(clean.device)
        if process == "ddpm":
            last = len(self.alpha_bar) - 1
            step = torch.where(top, last, 1 + (time * last).long())
            return (
                add_noise(clean, noise, self.alpha_bar[step].to(clean.device)),
                (step / last).to(clean),
                (torch.ones(size, device=clean.device)),
            )
        time = torch.where(top, 1.0, time.clamp(min=0.02)).to(clean)
        noisy = (1 - time)[:, None, None] * clean + time[:, None, None] * noise
        return noisy, time, 1.0 / time.clamp(min=self.config.lowest_time)

    def score(self, predicted: Tensor, batch: Batch, weight: Tensor) -> tuple[Tensor, dict[str, float]]:
        """The loss of predicted latents (B, T, 16), windows weighted by `weight` (B,)."""
        c = self.config
        error = ((predicted - batch.clean).square().mean(-1) @ self.weight * weight).mean()
        known = (torch.arange(predicted.shape[1], device=predicted.device) < self.committed)[None, :, None].float()
        motion = self.vae.decode(known * batch.clean + (1 - known) * predicted)
        truth = self.vae.decode(batch.clean)
        made, true = (m[..., :AUDIO_OWNED] @ self.metric for m in (motion, truth))
        first = max(0, self.committed - 1)
        landmark = ((made - true).square().sum(-1) @ self.weight).mean()
        velocity = (made.diff(dim=1) - true.diff(dim=1)).square().sum(-1)[:, first:].mean()
        jerk = made.diff(n=2, dim=1).square().sum(-1)[:, max(0, first - 1) :].mean()
        total = error + c.landmark * landmark + c.velocity * velocity + c.acceleration * jerk
        parts = {"x0": error.item(), "landmark": landmark.item(), "velocity": velocity.item()}
        if c.optical_flow:
            flow = self.flow(motion[:, first:], batch.flow[:, first:], batch.flow_confidence[:, first:])
            total = total + c.optical_flow * flow
            parts["optical_flow"] = flow.item()
        return total, {"loss": total.item(), **parts}
