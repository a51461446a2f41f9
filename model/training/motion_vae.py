"""Train the motion VAE and compare it with plain PCA whitening (design 3.2 asks for the simpler where they tie)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.checkpoint import save_checkpoint
from model.motion.space import MotionSpace, load_motion_space
from model.motion.vae import AUDIO_OWNED, MotionVae, VaeConfig
from model.training.motion_check import mean_r
from model.training.motion_targets import load_motion
from model.training.run import Run, RunConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class VaeTrainConfig:
    """About two minutes on one core."""

    run: RunConfig = field(
        default_factory=lambda: RunConfig(steps=4000, batch=48, learning_rate=2e-3, weight_decay=0.0, save_every=1000)
    )
    model: VaeConfig = field(default_factory=VaeConfig)
    window_frames: int = 32
    kl_weight: float = 2e-5
    lip_weight: float = 40.0


def train_vae(grid: Path, out: Path, config: VaeTrainConfig, run_folder: Path) -> str:
    """Train (or go on) and write the checkpoint; returns its hash."""
    torch.manual_seed(config.run.seed)
    space = load_motion_space()
    clips = torch.from_numpy(np.stack(list(load_motion(grid / "train").values())))
    held_out = torch.from_numpy(np.stack(list(load_motion(grid / "val").values())))
    vae = MotionVae(config.model)
    run = Run(run_folder, "motion-vae", vae, config.run)
    metric, lips = landmark_metric(space), lip_rows(space)
    while not run.finished():
        motion = _windows(clips, config, run.generator())
        loss = _loss(vae, motion, (metric, lips), config, run.generator())
        run.update(loss)
        if run.step % 200 == 0:
            run.log(loss=loss.item(), opening_r=opening_correlation(vae, held_out, space))
    run.use_average()
    _standardise(vae, clips)
    figures = {
        "opening_r": opening_correlation(vae, held_out, space),
        "opening_r_pca": pca_opening_correlation(clips, held_out, metric, space, config.model.latent_size),
    }
    run.log(final=1.0, **figures)
    metadata = {"motion_space": space.hash, "data": "GRID s1 (CC BY 4.0)", "wall_s": f"{run.wall_s():.0f}"}
    metadata |= {k: f"{v:.5f}" for k, v in figures.items()}
    return save_checkpoint(out, vae.state_dict(), kind="motion-vae", config=config.model, metadata=metadata)


def landmark_metric(space: MotionSpace) -> Tensor:
    """(20, 20) W with |delta @ W|^2 = squared landmark error of mouth codes plus brows, inter-ocular units x 10."""
    basis = torch.from_numpy(space.basis).double()
    gram = basis @ basis.T * 100.0 / (basis.shape[1] / 3)
    factor = torch.linalg.cholesky(gram)
    metric = torch.zeros(AUDIO_OWNED, AUDIO_OWNED)
    metric[:16, :16] = factor.float()
    metric[16:, 16:] = torch.eye(4) * 0.3
    return metric


@torch.inference_mode()
def opening_correlation(vae: MotionVae, clips: Tensor, space: MotionSpace) -> float:
    """Pearson r of lip opening before and after coding, mean over clips (N, T, 32)."""
    decoded = vae.decode_raw(vae.posterior(clips)[0])
    return mean_r(space.lip_opening(clips.numpy()), space.lip_opening(decoded.numpy()))


def pca_opening_correlation(train: Tensor, clips: Tensor, metric: Tensor, space: MotionSpace, size: int) -> float:
    """The same for principal components of the landmark metric, `size` of them."""
    flat = (train[..., :AUDIO_OWNED].flatten(0, 1) @ metric).double()
    directions = torch.linalg.svd(flat - flat.mean(0), full_matrices=False)[2][:size]
    centred = (clips[..., :AUDIO_OWNED] @ metric).double() - flat.mean(0)
    back = (centred @ directions.T @ directions + flat.mean(0)).float() @ torch.linalg.inv(metric)
    decoded = torch.cat([back, clips[..., AUDIO_OWNED:]], -1)
    return mean_r(space.lip_opening(clips.numpy()), space.lip_opening(decoded.numpy()))


def _windows(clips: Tensor, config: VaeTrainConfig, generator: torch.Generator) -> Tensor:
    rows = torch.randint(len(clips), (config.run.batch,), generator=generator)
    starts = torch.randint(clips.shape[1] - config.window_frames + 1, (config.run.batch,), generator=generator)
    columns = starts[:, None] + torch.arange(config.window_frames)
    return clips[rows[:, None], columns]


def _loss(
    vae: MotionVae,
    motion: Tensor,
    metrics: tuple[Tensor, Tensor],
    config: VaeTrainConfig,
    generator: torch.Generator,
) -> Tensor:
    metric, lips = metrics
    mean, log_variance = vae.posterior(motion)
    noise = torch.randn(mean.shape, generator=generator)
    decoded = vae.decode_raw(mean + (0.5 * log_variance).exp() * noise)
    error = (decoded - motion)[..., :AUDIO_OWNED] @ metric
    kl = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1)
    lip_error = ((decoded - motion)[..., :16] @ lips).square()
    return error.square().sum(-1).mean() + config.lip_weight * lip_error.sum(-1).mean() + config.kl_weight * kl.mean()


def lip_rows(space: MotionSpace) -> Tensor:
    """(16, 2) rows that give lip opening and width from mouth codes."""
    eye = np.zeros((16, 32), np.float32)
    eye[:, :16] = np.eye(16)
    return torch.from_numpy(np.stack([space.lip_opening(eye), space.lip_width(eye)], 1))


@torch.inference_mode()
def _standardise(vae: MotionVae, clips: Tensor) -> None:
    latents = vae.posterior(clips)[0].flatten(0, 1)
    vae.latent_mean.copy_(latents.mean(0))
    vae.latent_std.copy_(latents.std(0).clamp(min=1e-4))
