"""Train the motion model on windows shaped as serving shapes them: a teacher, or its deterministic twin.

`nerf-lipsync train motion --grid DIR --corpus DIR --out DIR`. The committed past is noised, sometimes dropped, and in
the second half of training often the model's own output, so that it does not lean on a perfect history.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from model.checkpoint import load_checkpoint, save_checkpoint
from model.diffusion.samplers import sample
from model.diffusion.unet import TemporalUNet, UNetConfig
from model.motion.space import load_motion_space
from model.motion.vae import MotionVae, VaeConfig
from model.motion.view_bias import ViewBias
from model.speech.speech_file import LoadedSpeech, load_speech
from model.training.distributed import ALONE, Distributed
from model.training.motion_check import streamed_correlation
from model.training.motion_data import HearingConfig, held_out_items, train_items
from model.training.motion_items import MotionItems
from model.training.motion_loss import LossConfig, MotionLoss
from model.training.motion_shards import Shard
from model.training.motion_windows import AugmentConfig, Batch, WindowSource, own_history, perturb
from model.training.rendered_phase import RenderedPhase
from model.training.run import Run, RunConfig

HISTORY_STEPS = 3
"""Of the teacher's sampler when it makes its own past."""
KIND = "motion"


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionTrainConfig:
    """Preset `lite`: the rectified-flow teacher."""

    run: RunConfig = field(
        default_factory=lambda: RunConfig(steps=3600, batch=64, learning_rate=6e-4, warmup_steps=150)
    )
    model: UNetConfig = field(default_factory=lambda: UNetConfig(process="flow", dropout=0.05, pose_size=3, styles=3))
    hearing: HearingConfig = field(default_factory=HearingConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)


@dataclass(frozen=True)
class MotionSources:
    """What motion training reads, loaded and bound by hash."""

    speech: LoadedSpeech
    vae: MotionVae
    vae_hash: str
    train: dict[str, MotionItems]
    held_out: MotionItems

    def metadata(self, run: Run) -> dict[str, str]:
        """What a motion checkpoint says of its origin."""
        return {
            "speech": self.speech.content_hash,
            "vae": self.vae_hash,
            "motion_space": load_motion_space().hash,
            "view_bias": ViewBias.load().hash,
            "data": "GRID s1 (CC BY 4.0); synthetic speech",
            "wall_s": f"{run.wall_s():.0f}",
        }


def load_sources(
    grid: Path,
    voices: Path | None,
    speech_path: Path,
    vae_path: Path,
    cache: Path,
    hearing: HearingConfig,
    *,
    coarticulation: Path | None = None,
    whisper: Path | None = None,
    distributed: Distributed = ALONE,
) -> MotionSources:
    """Load the models, and hear what is to be learned (or read it back from `cache`): of several processes each its
    own shard, and all the held-out clips."""
    speech = load_speech(speech_path, whisper=whisper)
    vae_file = load_checkpoint(vae_path, kind="motion-vae", config_cls=VaeConfig)
    vae = MotionVae(vae_file.config)
    vae.load_state_dict(vae_file.tensors)
    vae.eval().requires_grad_(False)
    with distributed.main_first():
        held_out = held_out_items(grid, speech, cache, hearing)
    train = train_items(
        grid, speech, cache, hearing, corpus=voices, coarticulation=coarticulation, shard=Shard.of(distributed)
    )
    return MotionSources(speech, vae, vae_file.content_hash, train, held_out)


def train_motion(
    sources: MotionSources,
    out: Path,
    config: MotionTrainConfig,
    run_folder: Path,
    *,
    distributed: Distributed = ALONE,
    rendered: RenderedPhase | None = None,
) -> str:
    """Train (or go on) and write the checkpoint; returns its hash. `rendered`: the last phase's losses on pictures."""
    torch.manual_seed(config.run.seed)
    source = WindowSource(sources.train, sources.vae, config.model, config.augment)
    unet = TemporalUNet(config.model)
    run = Run(run_folder, KIND, unet, config.run, distributed=distributed)
    loss_of = MotionLoss(copy.deepcopy(sources.vae), config.loss, config.model).to(run.device)
    while not run.finished():
        parts = motion_step(unet, source, run, config, loss_of, rendered)
        if run.step % 50 == 0:
            run.log(**parts, **(validate(unet, sources) if run.step % 500 == 0 else {}))
    run.use_average()
    run.log(final=1.0, **validate(unet, sources))
    with distributed.main_first():
        return save_motion(out, unet, sources.metadata(run))


def motion_step(
    unet: TemporalUNet,
    source: WindowSource,
    run: Run,
    config: MotionTrainConfig,
    loss_of: MotionLoss,
    rendered: RenderedPhase | None = None,
) -> dict[str, float]:
    """One step of the training that `run` stands in; returns the parts of its loss.

    Raises:
        ModelError: The loss is not finite.
    """
    torch.manual_seed(config.run.seed * 7919 + run.step)  # dropout: a resumed run drops what an unbroken one would
    generator = run.generator()
    batch = _batch(unet, source, run, config, generator).to(run.device)
    with run.autocast():
        noisy, time, weight = loss_of.noised(config.model.process, batch, generator)
        predicted = batch.denoised(unet, noisy, time).float()
    loss, parts = loss_of.score(predicted, batch, weight)
    if rendered is not None and rendered.due(run):
        shown, terms = rendered(unet, source, loss_of, run, generator)
        loss, parts = loss + shown, parts | terms
    run.update(loss)
    return parts


def save_motion(out: Path, unet: TemporalUNet, metadata: dict[str, str]) -> str:
    """Write a motion checkpoint in half precision; returns its hash."""
    tensors = {k: v.half() for k, v in unet.state_dict().items()}
    return save_checkpoint(out, tensors, kind=KIND, config=unet.config, metadata=metadata)


@torch.inference_mode()
def validate(unet: TemporalUNet, sources: MotionSources) -> dict[str, float]:
    """Conditional mean streamed over held-out clips: lip-opening r, and r with shuffled content."""
    on_cpu = copy.deepcopy(unet).cpu().eval()
    return streamed_correlation(on_cpu, sources.held_out, sources.vae)


def _batch(
    unet: TemporalUNet, source: WindowSource, run: Run, config: MotionTrainConfig, generator: torch.Generator
) -> Batch:
    """A batch with its past made imperfect and its sound partly hidden."""
    batch, earlier = source.past_of(run.batch, generator)
    if run.step >= config.augment.own_history_from * config.run.steps:

        def make(windows: Batch) -> Tensor:
            return sampled(unet, windows.to(run.device), generator).cpu()

        batch = own_history(make, batch, earlier, config.augment.own_history, generator)
    return perturb(batch, config.augment, generator)


@torch.no_grad()
def sampled(unet: TemporalUNet, batch: Batch, generator: torch.Generator, *, steps: int = HISTORY_STEPS) -> Tensor:
    """What the model makes of windows: samples in half of them, the mean in the others."""
    noise = torch.randn(batch.clean.shape, generator=generator)
    noise = (noise * torch.randint(0, 2, (len(noise), 1, 1), generator=generator)).to(batch.clean.device)

    def denoise(noisy: Tensor, noise_time: Tensor, target_time: Tensor) -> Tensor:
        return batch.denoised(unet, noisy, noise_time, target_time=target_time).float()

    unet.eval()
    with torch.autocast(noise.device.type, torch.bfloat16):
        made = sample(unet.config.process, denoise, noise, num_steps=steps, num_timesteps=unet.config.num_timesteps)
    unet.train()
    return made
