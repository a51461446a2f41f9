"""Train the motion diffusion (teacher, T = 50, x0, cosine) on windows shaped as serving shapes them.

`nerf-lipsync train motion --grid DIR --out DIR`. The committed past is noised, sometimes dropped, and in the second
half of training often the model's own output, so that it does not lean on a perfect history.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from model.checkpoint import load_checkpoint, save_checkpoint
from model.diffusion.noise_schedule import add_noise, cosine_alpha_bar
from model.diffusion.unet import TemporalUNet, UNetConfig
from model.motion.space import load_motion_space
from model.motion.vae import AUDIO_OWNED, MotionVae, VaeConfig
from model.speech.speech_file import LoadedSpeech, load_speech
from model.speech.speech_model import PROSODY_SLICE
from model.training.motion_data import MotionCorpus, build_corpus
from model.training.motion_vae import landmark_metric
from model.training.run import Run, RunConfig

Validate = Callable[[TemporalUNet], dict[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionTrainConfig:
    """Preset `lite`: about 20 minutes on one AVX512-BF16 core."""

    run: RunConfig = field(
        default_factory=lambda: RunConfig(steps=2600, batch=64, learning_rate=6e-4, warmup_steps=150)
    )
    model: UNetConfig = field(default_factory=UNetConfig)
    voices: int = 4
    landmark_weight: float = 0.5
    velocity_weight: float = 0.3
    acceleration_weight: float = 0.1
    feature_dropout: float = 0.1
    prosody_dropout: float = 0.5
    prefix_dropout: float = 0.15
    prefix_noise: float = 0.15
    own_history_from: float = 0.4
    own_history_share: float = 0.6
    highest_step_share: float = 0.3


@dataclass
class Batch:
    """Windows in the U-Net's own arguments."""

    clean: Tensor  # (B, T, 16)
    prefix: Tensor
    prefix_mask: Tensor  # (B, T)
    audio: Tensor  # (B, T, 256)
    audio_mask: Tensor  # (B, T) bool


class WindowSource:
    """Draws windows; frames before a clip count as its first frame, as a stream starts at rest."""

    def __init__(self, corpus: MotionCorpus, vae: MotionVae, config: UNetConfig) -> None:
        self.config = config
        self.corpus = corpus
        self.vae = vae
        with torch.inference_mode():
            latents = vae.encode(corpus.motion)
        self.pad = config.window_frames
        self.latents = functional.pad(latents.clone().transpose(1, 2), (self.pad, self.pad), "replicate").transpose(
            1, 2
        )

    def draw(self, count: int, generator: torch.Generator, *, back_frames: int = 0) -> tuple[Batch, Batch]:
        """Windows, and the windows `back_frames` earlier (for the model's own history)."""
        versions, clips, frames = self.corpus.committed.shape[:3]
        version = torch.randint(versions, (count,), generator=generator)
        clip = torch.randint(clips, (count,), generator=generator)
        hop = torch.randint(-1, frames - 1, (count,), generator=generator)
        hop = hop - (hop + version) % 2  # committed pairs start at even frames in phase 0, odd ones in phase 1
        return self.at(version, clip, hop), self.at(version, clip, hop - back_frames)

    def at(self, version: Tensor, clip: Tensor, hop: Tensor) -> Batch:
        """Windows whose hop starts at frame `hop` (B,)."""
        c = self.config
        frame = hop[:, None] + torch.arange(c.window_frames) - c.committed_frames
        clean = self.latents[clip[:, None], (frame + self.pad).clamp(0, self.latents.shape[1] - 1)]
        inside = (frame >= 0) & (frame < self.corpus.committed.shape[2])
        index = frame.clamp(0, self.corpus.committed.shape[2] - 1)
        committed = self.corpus.committed[version[:, None], clip[:, None], index]
        edge = self.corpus.edge[version[:, None], clip[:, None], index]
        position = torch.arange(c.window_frames)
        is_edge = (position >= c.committed_frames + c.hop_frames)[None, :, None]
        audio = torch.where(is_edge, edge, committed).float()
        heard = (position < c.heard_frames)[None] & inside
        mask = (position < c.committed_frames).float()[None].expand(len(clip), -1)
        return Batch(clean, clean * mask[..., None], mask, audio * heard[..., None], heard)


def train_motion(
    grid: Path,
    voices: Path,
    speech_path: Path,
    vae_path: Path,
    out: Path,
    config: MotionTrainConfig,
    run_folder: Path,
    *,
    whisper: Path | None = None,
) -> str:
    """Train (or go on) and write the checkpoint; returns its hash.

    `voices` is the corpus whose re-voiced sound of the same clips is heard beside their own.
    """
    torch.manual_seed(config.run.seed)
    speech = load_speech(speech_path, whisper=whisper)
    vae_file = load_checkpoint(vae_path, kind="motion-vae", config_cls=VaeConfig)
    vae = MotionVae(vae_file.config)
    vae.load_state_dict(vae_file.tensors)
    source, held_out = _sources(grid, voices, speech, vae.eval(), config, run_folder)
    unet = TemporalUNet(config.model)
    run = Run(run_folder, "motion", unet, config.run)
    losses = MotionLoss(vae, config)
    while not run.finished():
        loss, parts = losses(unet, _batch(unet, source, run, config), run.generator())
        run.update(loss)
        if run.step % 50 == 0:
            run.log(**parts, **(validate(unet, held_out) if run.step % 500 == 0 else {}))
    run.use_average()
    run.log(final=1.0, **validate(unet, held_out))
    metadata = {
        "speech": speech.content_hash,
        "vae": vae_file.content_hash,
        "motion_space": load_motion_space().hash,
        "data": "GRID s1 (CC BY 4.0)",
        "wall_s": f"{run.wall_s():.0f}",
    }
    tensors = {k: v.half() for k, v in unet.state_dict().items()}
    return save_checkpoint(out, tensors, kind="motion", config=config.model, metadata=metadata)


class MotionLoss:
    """x0 error on the frames to come, with landmark, velocity and acceleration terms."""

    def __init__(self, vae: MotionVae, config: MotionTrainConfig) -> None:
        self.vae = vae
        self.config = config
        self.metric = landmark_metric(load_motion_space())
        self.alpha_bar = cosine_alpha_bar(config.model.num_timesteps)
        c = config.model
        weight = torch.ones(c.window_frames)
        weight[: c.committed_frames] = 0.0
        weight[c.committed_frames : c.committed_frames + c.hop_frames] = 3.0
        weight[c.heard_frames :] = 0.5
        self.weight = weight / weight.sum()

    def __call__(self, unet: TemporalUNet, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """The loss and its parts."""
        c = self.config
        last = c.model.num_timesteps
        step = torch.randint(1, last + 1, (len(batch.clean),), generator=generator)
        top = torch.rand(len(step), generator=generator) < c.highest_step_share
        step = torch.where(top, last, step)
        noise = torch.randn(batch.clean.shape, generator=generator)
        noisy = add_noise(batch.clean, noise, self.alpha_bar[step])
        with torch.autocast("cpu", torch.bfloat16):
            predicted = unet(noisy, step / last, batch.prefix, batch.prefix_mask, batch.audio, batch.audio_mask).float()
        error = ((predicted - batch.clean).square().mean(-1) * self.weight).sum(-1).mean()
        known = batch.prefix_mask[..., None]
        joined = known * batch.clean + (1 - known) * predicted
        motion, truth = (self.vae.decode(x)[..., :AUDIO_OWNED] @ self.metric for x in (joined, batch.clean))
        landmark = ((motion - truth).square().sum(-1) * self.weight).sum(-1).mean()
        velocity = (motion.diff(dim=1) - truth.diff(dim=1)).square().sum(-1)[:, c.model.committed_frames - 1 :].mean()
        jerk = motion.diff(n=2, dim=1).square().sum(-1)[:, c.model.committed_frames - 2 :].mean()
        total = error + c.landmark_weight * landmark + c.velocity_weight * velocity + c.acceleration_weight * jerk
        parts = {"loss": total.item(), "x0": error.item(), "landmark": landmark.item(), "velocity": velocity.item()}
        return total, parts


def _batch(unet: TemporalUNet, source: WindowSource, run: Run, config: MotionTrainConfig) -> Batch:
    """A batch with its past made imperfect and its sound partly hidden."""
    generator = run.generator()
    c = config.model
    fresh = c.window_frames - c.committed_frames
    batch, earlier = source.draw(config.run.batch, generator, back_frames=fresh)
    if run.step >= config.own_history_from * config.run.steps:
        batch = _own_history(unet, batch, earlier, config, generator)
    size = len(batch.clean)

    def chance(share: float) -> Tensor:
        return (torch.rand(size, 1, generator=generator) < share).float()

    noise = torch.randn(batch.prefix.shape, generator=generator) * torch.rand(size, 1, 1, generator=generator)
    prefix = batch.prefix + config.prefix_noise * 2 * noise * batch.prefix_mask[..., None]
    kept = 1 - chance(config.prefix_dropout)
    audio = batch.audio * (1 - chance(config.feature_dropout))[..., None]
    hidden = chance(config.prosody_dropout)[..., None]
    audio = torch.cat(
        [audio[..., : PROSODY_SLICE.start], audio[..., PROSODY_SLICE] * (1 - hidden), audio[..., PROSODY_SLICE.stop :]],
        -1,
    )
    return replace(batch, prefix=prefix * kept[..., None], prefix_mask=batch.prefix_mask * kept, audio=audio)


@torch.no_grad()
def _own_history(
    unet: TemporalUNet, batch: Batch, earlier: Batch, config: MotionTrainConfig, generator: torch.Generator
) -> Batch:
    """Replace the past of some windows by what the model itself makes of the window before (one step)."""
    committed = config.model.committed_frames
    noise = torch.randn(earlier.clean.shape, generator=generator)
    noise = noise * torch.randint(0, 2, (len(noise), 1, 1), generator=generator)
    audio = torch.cat([earlier.audio[:, :committed], batch.audio[:, :committed]], 1)
    heard = torch.cat([earlier.audio_mask[:, :committed], batch.audio_mask[:, :committed]], 1)
    start = torch.ones(len(noise))
    with torch.autocast("cpu", torch.bfloat16):
        own = unet(noise, start, earlier.prefix, earlier.prefix_mask, audio, heard).float()
    past = torch.zeros_like(batch.prefix)
    past[:, :committed] = own[:, committed:]
    chosen = torch.rand(len(noise), 1, 1, generator=generator) < config.own_history_share
    return replace(batch, prefix=torch.where(chosen, past, batch.prefix))


@torch.inference_mode()
def validate(unet: TemporalUNet, source: WindowSource) -> dict[str, float]:
    """One-step conditional mean streamed over held-out clips: lip-opening r, and r with shuffled content."""
    from model.training.motion_check import streamed_correlation

    unet.eval()
    figures = streamed_correlation(unet, source)
    unet.train()
    return figures


def _sources(
    grid: Path, voices: Path, speech: LoadedSpeech, vae: MotionVae, config: MotionTrainConfig, folder: Path
) -> tuple[WindowSource, WindowSource]:
    made = []
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", config.voices), ("val", 1)):
        cache = folder / f"{split}-{speech.content_hash}-{count}.npz"
        if not cache.is_file():
            build_corpus(grid / split, speech.model, others=voices if count > 1 else None, voices=count).save(cache)
        made.append(WindowSource(MotionCorpus.load(cache), vae, config.model))
    return made[0], made[1]
