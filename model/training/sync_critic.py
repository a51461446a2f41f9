"""Train the AV-sync critic: which sound belongs to this motion, among sounds a few frames off and other clips' sounds.

`nerf-lipsync train sync --grid DIR --corpus DIR --out DIR`. InfoNCE (van den Oord et al. 2018) on all windows of a
batch of clips, three times: among shifts of up to 15 frames either way, among shifts of up to 2 (the hard ones, which
differ least), and among windows of other clips. Scores are minus distances, so that the mean distance over a clip,
which the protocol takes, is the clip's log likelihood. Clips are heard as recorded and re-voiced, coloured and in
noise; motion is scaled, offset and partly hidden, as other speakers' motion differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from model.data.corpus_parts import REVOICED, read_corpus
from model.data.features import load_clips
from model.errors import DataError
from model.motion.sync_critic import COLUMNS_PER_FRAME, MOTION_CODES, CriticConfig, SyncCritic, save_sync_critic
from model.speech.log_mel import LogMel, LogMelState
from model.training.motion_targets import load_motion
from model.training.run import Run, RunConfig
from model.training.speech_data import (
    SpeechItem,
    augment,
    make_speech_item,
    mix_noise,
    normalise_batch,
    speech_level,
)

Array = NDArray[np.float32]
MAX_SHIFT_FRAMES = 15
NEAR_SHIFT_FRAMES = 2
BROWS = slice(16, 20)
LOG_EVERY = 50
CHECK_EVERY = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncSpoil:
    """How clips are spoilt before the critic sees and hears them. Deviations are of normal distributions."""

    coloured_share: float = 0.85  # another mouth and microphone
    mixed_share: float = 0.4  # noise added
    snr_db: tuple[float, float] = (3.0, 30.0)
    hidden_bands: int = 12  # at most so many neighbouring mel bands are hidden, twice
    gain: float = 0.25  # of the logarithm of all codes' gain
    code_gain: float = 0.1  # and of each code's
    offset: float = 0.3  # added to each code, in its own deviations
    jitter: float = 0.05  # added to each code of each frame, likewise
    hidden_code_share: float = 0.1
    hidden_brow_share: float = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticTrainConfig:
    """Preset `lite`: within twelve minutes on one core."""

    run: RunConfig = field(
        default_factory=lambda: RunConfig(
            steps=2400, batch=24, learning_rate=1.5e-3, weight_decay=0.05, ema_decay=0.997, seed=20_261_125
        )
    )
    model: CriticConfig = field(default_factory=CriticConfig)
    spoil: SyncSpoil = field(default_factory=SyncSpoil)
    near_weight: float = 0.5
    other_weight: float = 0.5
    other_stride: int = 4  # of a clip's windows, every fourth meets other clips'


@dataclass(frozen=True)
class SyncBank:
    """Clips of equal length: what is seen, and everything that may be heard with it."""

    motion: Array  # (N, T, 20)
    sounds: Sequence[Sequence[NDArray[np.float16]]]  # N clips' voices: raw log-mel (4 T, bands), the recorded first
    noise: Sequence[SpeechItem] = ()

    @property
    def deviation(self) -> Array:
        """(20,) of each code over all frames, never 0."""
        return np.asarray(np.maximum(self.motion.std((0, 1)), 1e-3), np.float32)


def train_sync_critic(grid: Path, corpus: Path, out: Path, config: CriticTrainConfig, run_folder: Path) -> str:
    """Train (or go on) and write the checkpoint; returns its hash.

    Raises:
        DataError: Prepared clips or the voice corpus are missing or damaged.
    """
    torch.manual_seed(config.run.seed)
    log_mel = LogMel(config.model.mel_bands)
    bank = load_sync_bank(grid / "train", log_mel, corpus)
    held_out = load_sync_bank(grid / "val", log_mel)
    critic = SyncCritic(config.model)
    critic.code_deviation.copy_(torch.from_numpy(bank.deviation))
    run = Run(run_folder, "sync-critic", critic, config.run)
    while not run.finished():
        motion, mel = draw_clips(bank, config, np.random.default_rng((config.run.seed, run.step)))
        loss, parts = critic_loss(critic, motion, mel, config)
        run.update(loss)
        if run.step % LOG_EVERY == 0:
            run.log(**parts, **(validate(critic, held_out) if run.step % CHECK_EVERY == 0 else {}))
    run.use_average()
    run.log(final=1.0, **validate(critic, held_out))
    metadata = {
        "data": "GRID s1 train (CC BY 4.0) as recorded and re-voiced by WORLD",
        "seed": str(config.run.seed),
        "wall_s": f"{run.wall_s():.0f}",
    }
    return save_sync_critic(out, critic, metadata)


def load_sync_bank(folder: Path, log_mel: LogMel, corpus: Path | None = None) -> SyncBank:
    """Prepared clips, cut to the shortest; with a voice corpus also in other people's voices, and its noises.

    Raises:
        DataError: Nothing is there, or a re-voiced sound is shorter than its clip.
    """
    motion, clips = load_motion(folder), load_clips(folder)
    frames = min(len(motion[c.key]) for c in clips)
    sounds = {c.key: [_raw_mel(c.sound, log_mel, frames, c.key)] for c in clips}
    noise = _add_corpus(sounds, corpus, log_mel, frames) if corpus is not None else []
    seen = np.stack([motion[c.key][:frames, :MOTION_CODES] for c in clips])
    return SyncBank(seen, [sounds[c.key] for c in clips], noise)


def draw_clips(bank: SyncBank, config: CriticTrainConfig, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A batch of different clips, spoilt: motion (B, T, 20) and normalised log-mel (B, 4 T, bands)."""
    spoil = config.spoil
    chosen = rng.choice(len(bank.sounds), min(config.run.batch, len(bank.sounds)), replace=False)
    raw = []
    for clip in chosen:
        voices = bank.sounds[int(clip)]
        sound = voices[int(rng.integers(len(voices)))].astype(np.float32)
        if rng.random() < spoil.coloured_share:
            sound = augment(sound, rng, hiss_share=0.2)
        if bank.noise and rng.random() < spoil.mixed_share:
            noise = bank.noise[int(rng.integers(len(bank.noise)))]
            sound = mix_noise(sound, speech_level(sound), noise, float(rng.uniform(*spoil.snr_db)), rng)
        raw.append(sound)
    mel = _hide_bands(normalise_batch(np.stack(raw)), spoil.hidden_bands, rng)
    motion = spoil_motion(bank.motion[chosen], bank.deviation, spoil, rng)
    return torch.from_numpy(motion), torch.from_numpy(mel)


def spoil_motion(motion: Array, deviation: Array, spoil: SyncSpoil, rng: np.random.Generator) -> Array:
    """Motion (B, T, 20) scaled, offset, shaken and partly hidden; its timing stays. `deviation` (20,) is the codes'."""
    count, _, codes = motion.shape
    gain = np.exp(rng.normal(0, spoil.gain, (count, 1, 1)) + rng.normal(0, spoil.code_gain, (count, 1, codes)))
    shown = rng.random((count, 1, codes)) >= spoil.hidden_code_share
    shown[..., BROWS] &= rng.random((count, 1, 1)) >= spoil.hidden_brow_share
    shaken = rng.normal(0, spoil.offset, gain.shape) + rng.normal(0, spoil.jitter, motion.shape)
    return np.asarray((motion * gain + shaken * deviation) * shown, np.float32)


def critic_loss(
    critic: SyncCritic, motion: Tensor, mel: Tensor, config: CriticTrainConfig
) -> tuple[Tensor, dict[str, float]]:
    """The three contrasts of a batch, each from motion to sound and back; and their values."""
    with torch.autocast("cpu", torch.bfloat16):
        seen, heard = critic.see(motion), critic.hear(mel)
    seen = seen[:, : heard.shape[1]]
    logits = _logits(critic, seen, heard)
    wide, near = _band_contrast(logits, MAX_SHIFT_FRAMES), _band_contrast(logits, NEAR_SHIFT_FRAMES)
    stride = config.other_stride
    other = _contrast(_logits(critic, seen[:, ::stride].flatten(0, 1), heard[:, ::stride].flatten(0, 1)))
    total = wide + config.near_weight * near + config.other_weight * other
    return total, {"loss": total.item(), "wide": wide.item(), "near": near.item(), "other": other.item()}


@torch.inference_mode()
def validate(critic: SyncCritic, held_out: SyncBank) -> dict[str, float]:
    """Shares of held-out clips as recorded that are found in step: exactly, and within one frame."""
    critic.eval()
    mel = normalise_batch(np.stack([voices[0] for voices in held_out.sounds]).astype(np.float32))
    heard = critic.hear(torch.from_numpy(mel))
    seen = critic.see(torch.from_numpy(held_out.motion))[:, : heard.shape[1]]
    critic.train()
    distances = torch.cdist(seen, heard)
    shifts = range(-MAX_SHIFT_FRAMES, MAX_SHIFT_FRAMES + 1)
    mean = torch.stack([torch.diagonal(distances, s, 1, 2).mean(1) for s in shifts], 1)
    found = (mean.argmin(1) - MAX_SHIFT_FRAMES).abs()
    return {
        "val_in_place": float((found == 0).float().mean()),
        "val_within_one": float((found <= 1).float().mean()),
        "val_distance": float(mean[:, MAX_SHIFT_FRAMES].mean()),
    }


def _add_corpus(
    sounds: Mapping[str, list[NDArray[np.float16]]], corpus: Path, log_mel: LogMel, frames: int
) -> list[SpeechItem]:
    """Append re-voiced sounds to their clips'; returns the noises."""
    noise = []
    for item in read_corpus(corpus):
        if item.info.kind == "noise":
            noise.append(make_speech_item(item, log_mel, None))
        elif item.info.kind == "filmed" and item.info.voice.endswith(REVOICED) and item.info.key in sounds:
            sounds[item.info.key].append(_raw_mel(item.sound, log_mel, frames, item.info.key))
    return noise


def _raw_mel(sound: Array, log_mel: LogMel, frames: int, key: str) -> NDArray[np.float16]:
    """log10 powers (4 frames, bands)."""
    columns = frames * COLUMNS_PER_FRAME
    raw = log_mel.push_raw(sound, LogMelState())[:columns]
    if len(raw) < columns:
        raise DataError(f"a sound of {key} has {len(raw)} columns, its motion needs {columns}: prepare the data again")
    return raw.astype(np.float16)


def _hide_bands(mel: Array, widest: int, rng: np.random.Generator) -> Array:
    """Set two stretches of bands of each clip to their mean."""
    for clip in mel:
        for _ in range(2):
            width = int(rng.integers(widest + 1))
            start = int(rng.integers(mel.shape[2] - width + 1))
            band = clip[:, start : start + width]
            band[:] = band.mean() if width else 0.0
    return mel


def _logits(critic: SyncCritic, seen: Tensor, heard: Tensor) -> Tensor:
    """Minus scaled distances of unit vectors: (..., N, D) and (..., N, D) to (..., N, N)."""
    squared = 2 - 2 * seen @ heard.transpose(-1, -2)
    return -critic.scale * squared.clamp(min=1e-4).sqrt()


def _band_contrast(logits: Tensor, reach: int) -> Tensor:
    """`_contrast` of (B, N, N) among the shifts of up to `reach` frames."""
    place = torch.arange(logits.shape[-1])
    outside = (place[:, None] - place).abs() > reach
    return _contrast(logits.masked_fill(outside, -torch.inf))


def _contrast(logits: Tensor) -> Tensor:
    """Mean cross-entropy of (..., N, N), whose diagonal is right, along rows and along columns."""
    right = torch.arange(logits.shape[-1]).expand(logits.shape[:-1]).reshape(-1)
    rows, columns = logits.flatten(0, -2), logits.transpose(-1, -2).flatten(0, -2)
    return 0.5 * (functional.cross_entropy(rows, right) + functional.cross_entropy(columns, right))
