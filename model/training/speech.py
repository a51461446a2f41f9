"""Train the speech encoder: phonemes of many synthetic voices and GRID, and GRID's filmed motion.

`nerf-lipsync train speech --grid DIR --out DIR`. Halfway, GRID's phonemes are re-timed inside their aligned words by
the encoder's own posteriors (Viterbi), since a word's span says nothing of its phonemes' lengths.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from model.checkpoint import save_checkpoint
from model.data.features import load_clips
from model.data.speech_corpus import EspeakSynthesiser, random_utterance
from model.speech.log_mel import LogMel
from model.speech.phonemes import INDEX
from model.speech.speech_model import FEATURE_SIZE, SpeechConfig, SpeechModel
from model.training.motion_targets import load_motion
from model.training.run import Run, RunConfig
from model.training.speech_data import (
    SpeechItem,
    Windows,
    draw_windows,
    item_from_clip,
    item_from_utterance,
    normalise_batch,
)

MOTION_CODES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechTrainConfig:
    """Preset `lite`: about 27 minutes on one shared AVX512-BF16 core."""

    run: RunConfig = field(
        default_factory=lambda: RunConfig(steps=3650, batch=64, learning_rate=8e-4, warmup_steps=150)
    )
    model: SpeechConfig = field(default_factory=SpeechConfig)
    utterances: int = 2400
    grid_share: float = 0.45
    realign_at: float = 0.4
    motion_weight: float = 0.6
    corpus_seed: int = 1


class SpeechTrainee(nn.Module):
    """The speech model and a head that reads motion from its features (thrown away afterwards)."""

    def __init__(self, config: SpeechConfig) -> None:
        super().__init__()
        self.model = SpeechModel(config)
        self.motion = nn.Sequential(
            nn.Conv1d(FEATURE_SIZE, 128, 5, padding=2), nn.GELU(), nn.Conv1d(128, MOTION_CODES, 3, padding=1)
        )

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Phoneme logits (B, tokens, P) and motion (B, frames, 20)."""
        features, logits = self.model(mel)
        return logits.float(), self.motion(features.transpose(1, 2)).transpose(1, 2).float()


def train_speech(grid: Path, out: Path, config: SpeechTrainConfig, run_folder: Path) -> str:
    """Train (or go on training) and write the checkpoint; returns its hash."""
    torch.manual_seed(config.run.seed)
    trainee = SpeechTrainee(config.model)
    run = Run(run_folder, "speech", trainee, config.run)
    filmed, held_out = _filmed_items(grid / "train"), _filmed_items(grid / "val")
    spoken = _spoken_items(config)
    check = draw_windows(held_out, config.model.encoder.window_columns, 192, np.random.default_rng(5))
    realigned = False
    while not run.finished():
        if not realigned and run.step >= config.realign_at * config.run.steps:
            realign(filmed, trainee.model)
            realigned = True
        rng = np.random.default_rng((config.run.seed, run.step))
        loss = _loss(trainee, _batch(filmed, spoken, config, rng), config)
        run.update(loss)
        if run.step % 50 == 0:
            run.log(loss=loss.item(), **(_validate(trainee, check) if run.step % 250 == 0 else {}))
    run.use_average()
    run.log(final=1.0, **_validate(trainee, check))
    tensors = {k: v.half() if v.is_floating_point() else v for k, v in trainee.model.state_dict().items()}
    metadata = {"data": "GRID s1 (CC BY 4.0), espeak-ng voices", "wall_s": f"{run.wall_s():.0f}"}
    return save_checkpoint(out, tensors, kind="speech", config=config.model, metadata=metadata)


def realign(items: list[SpeechItem], model: SpeechModel) -> None:
    """Re-time the phonemes of filmed clips inside their words by the model's posteriors; changes the items."""
    model.eval()
    for item in items:
        log_posteriors = _column_posteriors(item.raw, model)
        for phones, start, end in item.words:
            end = min(end, len(item.phonemes))
            if end - start < 2 * len(phones):
                continue
            path = _viterbi(log_posteriors[start:end], [INDEX[p] for p in phones])
            item.phonemes[start:end] = path
    model.train()


def _viterbi(scores: NDArray[np.float32], phones: list[int]) -> NDArray[np.int64]:
    """Best monotone assignment of columns to phones, every phone at least two columns long."""
    length, count = len(scores), len(phones)
    total = np.concatenate([np.zeros((1, count)), np.cumsum(scores[:, phones], 0)])
    best = np.full((count + 1, length + 1), -np.inf)
    best[0, 0] = 0.0
    came = np.zeros((count + 1, length + 1), np.int64)
    for k in range(1, count + 1):
        for t in range(2 * k, length + 1):
            starts = np.arange(2 * (k - 1), t - 1)
            values = best[k - 1, starts] + total[t, k - 1] - total[starts, k - 1]
            pick = int(values.argmax())
            best[k, t], came[k, t] = values[pick], starts[pick]
    path = np.zeros(length, np.int64)
    end = length
    for k in range(count, 0, -1):
        start = int(came[k, end])
        path[start:end] = phones[k - 1]
        end = start
    return path


@torch.inference_mode()
def _column_posteriors(raw: NDArray[np.float32], model: SpeechModel) -> NDArray[np.float32]:
    """(columns, P) log posteriors of a clip, each token read with context on both sides."""
    size = model.config.encoder.window_columns
    margin = size // 4
    mel = normalise_batch(raw[None])[0]
    padded = np.pad(mel, ((margin, size), (0, 0)), constant_values=-1.0)
    starts = range(0, len(mel), size // 2)
    windows = torch.from_numpy(np.stack([padded[s : s + size] for s in starts]))
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(windows, last_frames=1)[1]
    scores = torch.log_softmax(logits.float(), -1)[:, margin // 2 : margin // 2 + size // 4]
    return np.repeat(scores.reshape(-1, scores.shape[-1]).numpy(), 2, 0)[: len(mel)]


def _batch(
    filmed: list[SpeechItem], spoken: list[SpeechItem], config: SpeechTrainConfig, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    size = config.model.encoder.window_columns
    count = int(config.run.batch * config.grid_share)
    a = draw_windows(filmed, size, count, rng)
    b = draw_windows(spoken, size, config.run.batch - count, rng)
    unfilmed = np.full((len(b[0]), *a[2].shape[1:]), np.nan, np.float32)
    return (
        torch.from_numpy(np.concatenate([a[0], b[0]])),
        torch.from_numpy(np.concatenate([a[1], b[1]])),
        torch.from_numpy(np.concatenate([a[2], unfilmed])),
    )


def _loss(trainee: SpeechTrainee, batch: tuple[Tensor, Tensor, Tensor], config: SpeechTrainConfig) -> Tensor:
    mel, labels, motion = batch
    with torch.autocast("cpu", torch.bfloat16):
        logits, predicted = trainee(mel)
    weight = torch.ones(labels.shape[1])
    weight[-8:] = 2.0  # the tokens that serving reads
    entropy = functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none", label_smoothing=0.05)
    filmed = ~motion.isnan()
    error = (predicted - motion.nan_to_num())[filmed].square().mean() if filmed.any() else predicted.sum() * 0
    total: Tensor = (entropy * weight).sum() / weight.sum() / len(labels) + config.motion_weight * error
    return total


@torch.inference_mode()
def _validate(trainee: SpeechTrainee, check: Windows) -> dict[str, float]:
    trainee.eval()
    mel, labels, motion = (torch.from_numpy(np.asarray(part)) for part in check)
    with torch.autocast("cpu", torch.bfloat16):
        logits, predicted = trainee(mel)
    trainee.train()
    right = (logits[:, -8:-4].argmax(-1) == labels[:, -8:-4]).float().mean()
    here = ~motion[:, -4:-2].isnan()
    a, b = predicted[:, -4:-2][here].view(-1, MOTION_CODES), motion[:, -4:-2][here].view(-1, MOTION_CODES)
    r = torch.corrcoef(torch.stack([a[:, 0], b[:, 0]]))[0, 1]
    return {"grid_token_accuracy": float(right), "grid_code0_r": float(r), "grid_mse": float((a - b).square().mean())}


def _filmed_items(folder: Path) -> list[SpeechItem]:
    log_mel = LogMel()
    motion = load_motion(folder)
    return [item_from_clip(c, motion[c.key][:, :MOTION_CODES], log_mel) for c in load_clips(folder)]


def _spoken_items(config: SpeechTrainConfig) -> list[SpeechItem]:
    log_mel, synthesiser = LogMel(), EspeakSynthesiser()
    rng = np.random.default_rng(config.corpus_seed)
    return [item_from_utterance(random_utterance(synthesiser, rng), log_mel) for _ in range(config.utterances)]
