"""Train the sync critic on rendered pictures: `nerf-lipsync train rendered-sync --grid DIR --corpus DIR --out DIR`.

Tracked GRID motion is rendered once by the differentiable renderer itself, as tracked or exaggerated and subdued; the
sound is heard as recorded and re-voiced, coloured and in noise. Contrasts (InfoNCE, van den Oord et al. 2018) among
shifts of a stretch, the near ones again, and other clips; and a binary cross-entropy that makes logits log odds.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from model.avatar import load_avatar
from model.motion.space import MOTION_SIZE, load_motion_space
from model.speech.log_mel import LogMel
from model.training.rendered_critic import (
    COLUMNS_PER_FRAME,
    RenderedCritic,
    RenderedCriticConfig,
    save_rendered_critic,
)
from model.training.rendered_frames import AvatarFrames
from model.training.run import Run, RunConfig
from model.training.speech_data import augment, mix_noise, normalise_batch, speech_level
from model.training.sync_critic import SyncBank, load_sync_bank

__all__ = [
    "RenderedBank",
    "RenderedSyncConfig",
    "contrast_losses",
    "draw_stretches",
    "render_bank",
    "shift_losses",
    "train_rendered_sync",
    "validate",
]

MAX_SHIFT_FRAMES = 15
RENDER_FRAMES = 5  # at once
LOG_EVERY = 50
CHECK_EVERY = 250
REPORTED_SHIFTS = (-5, -2, 0, 2, 5)  # frames by which the sound comes from later than the pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedSyncConfig:
    """Preset `lite`: minutes on one core, most of them reading and rendering the clips."""

    run: RunConfig = field(
        default_factory=lambda: RunConfig(
            steps=800, batch=16, learning_rate=2e-3, weight_decay=0.05, ema_decay=0.995, seed=20_261_207
        )
    )
    model: RenderedCriticConfig = field(default_factory=RenderedCriticConfig)
    clips: int = 170  # at most so many, evenly chosen, are rendered
    frames: int = 32  # of a stretch
    gain: float = 0.25  # deviation of the logarithm of the motion's gain, for every other clip
    coloured_share: float = 0.85  # another mouth and microphone
    mixed_share: float = 0.3  # noise added
    snr_db: tuple[float, float] = (5.0, 30.0)
    picture_noise: float = 0.02  # deviation, pictures are 0..1
    picture_light: float = 0.05  # deviation of each picture channel's offset, the same for a stretch
    near_frames: int = 3
    near_weight: float = 0.5
    other_weight: float = 0.5
    other_stride: int = 4
    odds_weight: float = 1.0
    safe_shift_frames: int = 2  # sounds this far off or farther do not belong


@dataclass(frozen=True)
class RenderedBank:
    """Clips of equal length: their pictures, and what may be heard with them."""

    pictures: NDArray[np.uint8]  # (N, T, 3, height, width)
    heard: SyncBank


def train_rendered_sync(
    grid: Path, corpus: Path, out: Path, config: RenderedSyncConfig, run_folder: Path, *, avatar: Path | None = None
) -> str:
    """Render, train (or go on) and write the checkpoint; returns its hash.

    Raises:
        ModelError: Prepared clips, the voice corpus or the avatar are missing or damaged.
    """
    torch.manual_seed(config.run.seed)
    loaded = load_avatar(avatar, motion_space=load_motion_space().hash)
    size = replace(config.model, avatar_field=loaded.config.field_hash)
    critic = RenderedCritic(size)
    frames = AvatarFrames(loaded, critic.view(loaded.config))
    log_mel = LogMel(size.mel_bands)
    bank = render_bank(frames, load_sync_bank(grid / "train", log_mel, corpus), config)
    held_out = render_bank(frames, load_sync_bank(grid / "val", log_mel), replace(config, gain=0.0))
    run = Run(run_folder, "rendered-sync-critic", critic, config.run)
    while not run.finished():
        pictures, mel = draw_stretches(bank, config, np.random.default_rng((config.run.seed, run.step)))
        with run.autocast():
            seen, heard = critic.see(pictures), critic.hear(mel)
        loss, parts = contrast_losses(critic, seen, heard, config)
        run.update(loss)
        if run.step % LOG_EVERY == 0:
            run.log(**parts, **(validate(critic, held_out) if run.step % CHECK_EVERY == 0 else {}))
    run.use_average()
    run.log(final=1.0, **validate(critic, held_out))
    metadata = {
        "data": "GRID s1 train (CC BY 4.0): tracked motion rendered by the avatar; sound as recorded and re-voiced",
        "seed": str(config.run.seed),
        "wall_s": f"{run.wall_s():.0f}",
    }
    return save_rendered_critic(out, critic, metadata)


@torch.no_grad()
def render_bank(frames: AvatarFrames, heard: SyncBank, config: RenderedSyncConfig) -> RenderedBank:
    """Pictures of `config.clips` clips; every other one's motion is exaggerated or subdued as a whole."""
    rng = np.random.default_rng(config.run.seed)
    heard = _some_clips(heard, config.clips)
    count, length, codes = heard.motion.shape
    gains = np.where(np.arange(count) % 2, np.exp(rng.normal(0, config.gain, count)), 1.0)
    shape = (count, length, 3, frames.view.height_px, frames.view.width_px)
    pictures = np.empty(shape, np.uint8)
    for index, gain in enumerate(gains):
        motion = torch.zeros(1, length, MOTION_SIZE)
        motion[0, :, :codes] = torch.from_numpy(heard.motion[index]) * float(gain)
        parts = [frames(part)[0] for part in motion.split(RENDER_FRAMES, 1)]
        pictures[index] = (torch.cat(parts) * 255).round().byte().numpy()
    return RenderedBank(pictures, heard)


def draw_stretches(bank: RenderedBank, config: RenderedSyncConfig, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A batch of stretches of different clips, spoilt: pictures (B, T, 3, H, W) and log-mel (B, 4 T, bands)."""
    count, length = bank.pictures.shape[:2]
    chosen = rng.choice(count, min(config.run.batch, count), replace=False)
    stretch = min(config.frames, length)
    starts = rng.integers(length - stretch + 1, size=len(chosen))
    mel = normalise_batch(np.stack([_spoilt_sound(bank.heard, int(clip), config, rng) for clip in chosen]))
    cut = [m[COLUMNS_PER_FRAME * s : COLUMNS_PER_FRAME * (s + stretch)] for m, s in zip(mel, starts, strict=True)]
    seen = np.stack([bank.pictures[c, s : s + stretch] for c, s in zip(chosen, starts, strict=True)])
    pictures = torch.from_numpy(seen).float() / 255
    light = rng.normal(0, config.picture_light, (len(chosen), 1, 3, 1, 1)).astype(np.float32)
    grain = rng.normal(0, config.picture_noise, pictures.shape[-2:]).astype(np.float32)
    return pictures + torch.from_numpy(light) + torch.from_numpy(grain), torch.from_numpy(np.stack(cut))


def contrast_losses(
    critic: RenderedCritic, seen: Tensor, heard: Tensor, config: RenderedSyncConfig
) -> tuple[Tensor, dict[str, float]]:
    """Sum of the four terms of embeddings (B, W, E), and their values."""
    within = critic.logits(seen @ heard.transpose(1, 2))
    wide = _contrast(_banded(within, MAX_SHIFT_FRAMES))
    near = _contrast(_banded(within, config.near_frames))
    stride = config.other_stride
    others = critic.logits(seen[:, ::stride].flatten(0, 1) @ heard[:, ::stride].flatten(0, 1).t())
    other = _contrast(others[None])
    apart = _shifts(within.shape[-1]).abs()
    wrong = torch.cat([within[:, apart >= config.safe_shift_frames].flatten(), _other_clips(others, len(seen))])
    right = within.diagonal(dim1=1, dim2=2)
    odds = 0.5 * (functional.softplus(-right).mean() + functional.softplus(wrong).mean())
    total = wide + config.near_weight * near + config.other_weight * other + config.odds_weight * odds
    parts = {"loss": total, "wide": wide, "near": near, "other": other, "odds": odds}
    return total, {name: value.item() for name, value in parts.items()}


@torch.inference_mode()
def validate(critic: RenderedCritic, held_out: RenderedBank) -> dict[str, float]:
    """Shares of held-out clips found in step, exactly and within one frame; and the loss at some shifts."""
    was_training = critic.training
    critic.eval()
    mel = normalise_batch(np.stack([voices[0] for voices in held_out.heard.sounds]).astype(np.float32))
    heard = critic.hear(torch.from_numpy(mel))
    seen = torch.cat([critic.see(torch.from_numpy(clip[None]).float() / 255) for clip in held_out.pictures])
    critic.train(was_training)
    losses = shift_losses(critic, seen, heard)
    found = (losses.argmin(1) - MAX_SHIFT_FRAMES).abs()
    mean = losses.mean(0)
    return {
        "val_in_place": float((found == 0).float().mean()),
        "val_within_one": float((found <= 1).float().mean()),
        **{f"val_loss_{shift:+d}": float(mean[shift + MAX_SHIFT_FRAMES]) for shift in REPORTED_SHIFTS},
    }


def shift_losses(critic: RenderedCritic, seen: Tensor, heard: Tensor) -> Tensor:
    """(B, 31): each clip's loss, were its sound from -15..15 frames later, of embeddings (B, W, E), W above 15."""
    logits = critic.logits(seen @ heard.transpose(1, 2))
    shifts = range(-MAX_SHIFT_FRAMES, MAX_SHIFT_FRAMES + 1)
    return torch.stack([functional.softplus(-logits.diagonal(s, 1, 2)).mean(1) for s in shifts], 1)


def _spoilt_sound(
    bank: SyncBank, clip: int, config: RenderedSyncConfig, rng: np.random.Generator
) -> NDArray[np.float32]:
    """One of the clip's voices, raw log-mel (4 T, bands), through another microphone and in noise."""
    voices = bank.sounds[clip]
    sound = voices[int(rng.integers(len(voices)))].astype(np.float32)
    if rng.random() < config.coloured_share:
        sound = augment(sound, rng, hiss_share=0.2)
    if bank.noise and rng.random() < config.mixed_share:
        noise = bank.noise[int(rng.integers(len(bank.noise)))]
        sound = mix_noise(sound, speech_level(sound), noise, float(rng.uniform(*config.snr_db)), rng)
    return sound


def _some_clips(bank: SyncBank, count: int) -> SyncBank:
    """`count` clips, evenly chosen, or all if there are fewer."""
    total = len(bank.sounds)
    chosen = np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(np.int64))
    return SyncBank(bank.motion[chosen], [bank.sounds[int(i)] for i in chosen], bank.noise)


def _shifts(count: int) -> Tensor:
    """(N, N) frames by which the column lies after the row."""
    place = torch.arange(count)
    return place - place[:, None]


def _banded(logits: Tensor, reach: int) -> Tensor:
    """(B, N, N) without the shifts beyond `reach` frames."""
    return logits.masked_fill(_shifts(logits.shape[-1]).abs() > reach, -torch.inf)


def _other_clips(logits: Tensor, clips: int) -> Tensor:
    """Those of (N, N) whose row and column are of different clips, N = clips * windows."""
    clip = torch.arange(clips).repeat_interleave(len(logits) // clips)
    return logits[clip[:, None] != clip]


def _contrast(logits: Tensor) -> Tensor:
    """Mean cross-entropy of (B, N, N), whose diagonal is right, along rows and along columns."""
    right = torch.arange(logits.shape[-1]).expand(logits.shape[:-1]).reshape(-1)
    rows, columns = logits.flatten(0, 1), logits.transpose(1, 2).flatten(0, 1)
    return 0.5 * (functional.cross_entropy(rows, right) + functional.cross_entropy(columns, right))
