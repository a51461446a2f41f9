"""Train the speech encoder: phonemes and voice of many throats, and the filmed speaker's motion.

`nerf-lipsync train speech --grid DIR --corpus DIR --out DIR`. The filmed clips are heard as recorded and in other
people's voices (the same motion, another throat), so that what the features say of the mouth does not depend on whose
it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from model.data.clip_labels import clip_labels
from model.data.corpus_parts import make_item
from model.data.features import load_clips
from model.data.forced_alignment import ForcedAligner
from model.speech.log_mel import LogMel
from model.speech.speech_file import new_whisper_speech, save_speech
from model.speech.speech_model import FEATURE_SIZE, SpeechConfig, SpeechModel
from model.speech.whisper_source import WhisperFile
from model.training.motion_targets import load_motion
from model.training.run import Run, RunConfig
from model.training.speech_data import (
    MixConfig,
    SpeechItem,
    Windows,
    draw_windows,
    load_bank,
    make_speech_item,
    plain_windows,
)

MOTION_CODES = 20
SERVED_TOKENS = 8
"""The last tokens of a window: those of the hop and of the look-ahead, which serving reads."""
CHECK_WINDOWS = 384


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechTrainConfig:
    """Preset `lite`: under an hour on two shared AVX512-BF16 cores."""

    run: RunConfig = field(
        default_factory=lambda: RunConfig(steps=6000, batch=64, learning_rate=8e-4, warmup_steps=150)
    )
    model: SpeechConfig = field(default_factory=SpeechConfig)
    mix: MixConfig = field(default_factory=MixConfig)
    motion_weight: float = 0.6
    voice_weight: float = 0.3
    label_smoothing: float = 0.05


class SpeechTrainee(nn.Module):
    """The speech model and a head that reads motion from its features (thrown away afterwards)."""

    def __init__(self, model: SpeechModel) -> None:
        super().__init__()
        self.model = model
        self.motion = nn.Sequential(
            nn.Conv1d(FEATURE_SIZE, 128, 5, padding=2), nn.GELU(), nn.Conv1d(128, MOTION_CODES, 3, padding=1)
        )

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Phoneme logits (B, tokens, P), voice logits (B, tokens, 2) and motion (B, frames, 20)."""
        said = self.model(mel)
        motion = self.motion(said.features.transpose(1, 2)).transpose(1, 2)
        return said.phonemes.float(), said.voice.float(), motion.float()


def train_speech(
    grid: Path,
    corpus: Path,
    out: Path,
    config: SpeechTrainConfig,
    run_folder: Path,
    *,
    whisper: WhisperFile | None = None,
) -> str:
    """Train (or go on training) and write the checkpoint; returns its hash.

    With `whisper`, its encoder stays as it is and only the heads are trained.
    """
    torch.manual_seed(config.run.seed)
    trainee = SpeechTrainee(new_whisper_speech(whisper) if whisper else SpeechModel(config.model))
    run = Run(run_folder, "speech", trainee, config.run)
    encoder = trainee.model.config.encoder
    log_mel = LogMel(encoder.num_mels)
    bank = load_bank(corpus, log_mel, load_motion(grid / "train"), codes=MOTION_CODES)
    held_out = _held_out(grid / "val", log_mel)
    check = plain_windows(held_out, encoder.window_columns, CHECK_WINDOWS, np.random.default_rng(5))
    while not run.finished():
        rng = np.random.default_rng((config.run.seed, run.step))
        windows = draw_windows(bank, encoder.window_columns, config.run.batch, config.mix, rng)
        loss = _loss(trainee, windows, config)
        run.update(loss)
        if run.step % 50 == 0:
            run.log(loss=loss.item(), **(_validate(trainee, check) if run.step % 250 == 0 else {}))
    run.use_average()
    run.log(final=1.0, **_validate(trainee, check))
    metadata = {
        "data": "GRID s1 (CC BY 4.0) as recorded and re-voiced by WORLD; espeak-ng, flite and festival voices",
        "wall_s": f"{run.wall_s():.0f}",
    }
    return save_speech(out, trainee.model, metadata)


def _loss(trainee: SpeechTrainee, windows: Windows, config: SpeechTrainConfig) -> Tensor:
    mel, phonemes, voice, motion = (
        torch.from_numpy(part) for part in (windows.mel, windows.phonemes, windows.voice, windows.motion)
    )
    with torch.autocast("cpu", torch.bfloat16):
        logits, voice_logits, predicted = trainee(mel)
    weight = torch.ones(phonemes.shape[1])
    weight[-SERVED_TOKENS:] = 2.0
    weight = weight / weight.sum() / len(phonemes)
    entropy = functional.cross_entropy(
        logits.transpose(1, 2), phonemes, reduction="none", label_smoothing=config.label_smoothing
    )
    cues = functional.binary_cross_entropy_with_logits(voice_logits, voice, reduction="none").mean(-1)
    filmed = ~motion.isnan()
    error = (predicted - motion.nan_to_num())[filmed].square().mean() if filmed.any() else predicted.sum() * 0
    total: Tensor = ((entropy + config.voice_weight * cues) * weight).sum() + config.motion_weight * error
    return total


@torch.inference_mode()
def _validate(trainee: SpeechTrainee, check: Windows) -> dict[str, float]:
    """Figures of the committed tokens (the hop's, with look-ahead behind them) of held-out clips as recorded."""
    trainee.eval()
    committed = slice(-SERVED_TOKENS, -SERVED_TOKENS // 2)
    with torch.autocast("cpu", torch.bfloat16):
        logits, voice_logits, predicted = trainee(torch.from_numpy(check.mel))
    trainee.train()
    right = logits[:, committed].argmax(-1).numpy() == check.phonemes[:, committed]
    active = check.voice[:, committed, 1] > 0.5
    heard = (voice_logits[:, committed, 1] > 0).numpy() == active
    truth = check.motion[:, -4:-2]
    here = ~np.isnan(truth).any(-1)
    codes = predicted[:, -4:-2].numpy()[here], truth[here]
    return {
        "grid_token_accuracy": float(right.mean()),
        "grid_speech_token_accuracy": float(right[active].mean()),
        "grid_activity_accuracy": float(heard.mean()),
        "grid_code0_r": float(np.corrcoef(codes[0][:, 0], codes[1][:, 0])[0, 1]),
        "grid_mse": float(np.square(codes[0] - codes[1]).mean()),
    }


def _held_out(folder: Path, log_mel: LogMel) -> list[SpeechItem]:
    motion, aligner = load_motion(folder), ForcedAligner()
    items = []
    for clip in load_clips(folder):
        item = make_item(clip.sound, clip_labels(clip, aligner), kind="filmed", voice=clip.speaker, key=clip.key)
        items.append(make_speech_item(item, log_mel, motion[clip.key][:, :MOTION_CODES]))
    return items
