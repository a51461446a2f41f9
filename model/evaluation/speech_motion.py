"""What the encoder's features know of the mouth beyond log-mel: the same small regressor on either, on strangers, too.

A two-layer perceptron reads lip opening and ARKit's jawOpen from 400 ms of sound before each frame. Log-mel columns of
the 80 ms after it are given as well; features have heard as much by the time they are committed, so that neither
input sees more sound. Trained on GRID train, tested on held-out clips and on other speakers. r is Pearson's, per clip,
averaged; `spread` is half the range over three seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from model.data.features import load_clips
from model.evaluation.hearing import Heard, hear
from model.motion.arkit import ARKIT_NAMES
from model.motion.space import MotionSpace, load_motion_space
from model.results import Figure
from model.speech.stream import SpeechFeatures
from model.training.motion_check import mean_r
from model.training.motion_targets import load_motion

MEL_AHEAD_FRAMES = 2
SEEDS = (0, 1, 2)
GOAL_R = 0.75
STILL = 0.1
"""Least deviation by which an input is divided: phonemes that never occur in training stay near 0 on others, too."""
TARGETS = ("lip_opening", "jaw_open")
Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressorConfig:
    """The small net, the frames that it sees, and its training."""

    past_frames: int = 10
    ahead_frames: int = 0
    hidden: int = 96
    dropout: float = 0.2
    steps: int = 1500
    batch: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    input_noise: float = 0.1  # of each input's deviation

    @property
    def span(self) -> int:
        """Frames seen at once."""
        return self.past_frames + 1 + self.ahead_frames


@dataclass(frozen=True)
class RegressionClip:
    """One clip's inputs and what to read from them."""

    frames: Array  # (T, C)
    targets: Array  # (T, K)


@dataclass(frozen=True)
class _FilmedClip:
    heard: Heard
    targets: Array  # (T, 2): TARGETS

    def view(self, source: str) -> RegressionClip:
        return RegressionClip(self.heard.mel if source == "log_mel" else self.heard.features, self.targets)


class Regressor(nn.Module):
    """Two layers on standardised frames."""

    mean: Tensor
    scale: Tensor

    def __init__(self, frames: Tensor, outputs: int, config: RegressorConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", frames.mean(0))
        self.register_buffer("scale", frames.std(0).clamp_min(STILL))
        self.hidden = nn.Linear(frames.shape[1] * config.span, config.hidden)
        self.out = nn.Linear(config.hidden, outputs)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, windows: Tensor) -> Tensor:
        """(N, span, C) to (N, outputs)."""
        x = ((windows - self.mean) / self.scale).flatten(1)
        if self.training:
            x = x + self.config.input_noise * torch.randn_like(x)
        out: Tensor = self.out(self.dropout(functional.gelu(self.hidden(x))))
        return out


def motion_figures(grid: Path, strangers: Path | None, speech: SpeechFeatures) -> dict[str, Figure]:
    """r of either input on GRID val and, where given, on strangers."""
    space = load_motion_space()
    train = _film(grid / "train", load_motion(grid / "train"), speech, space)
    tests = {"val": _film(grid / "val", load_motion(grid / "val"), speech, space)}
    if strangers is not None:  # each by its own calibration: they are different people
        tests["strangers"] = _film(strangers, {c.key: c.motion for c in load_clips(strangers)}, speech, space)
    figures = _source_figures("log_mel", RegressorConfig(ahead_frames=MEL_AHEAD_FRAMES), train, tests)
    return figures | _source_figures("features", RegressorConfig(), train, tests)


def fit_regressor(clips: Sequence[RegressionClip], config: RegressorConfig, *, seed: int) -> Regressor:
    """Least squares on standardised targets, AdamW with a cosine rate; equal seeds give equal nets."""
    frames = torch.from_numpy(np.concatenate([c.frames for c in clips]))
    targets = torch.from_numpy(np.concatenate([c.targets for c in clips]))
    targets = (targets - targets.mean(0)) / targets.std(0).clamp_min(1e-6)
    near = neighbours([len(c.frames) for c in clips], config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Regressor(frames, targets.shape[1], config).train()
        optimizer = torch.optim.AdamW(net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
        for _ in range(config.steps):
            rows = torch.randint(len(frames), (config.batch,))
            loss = (net(frames[near[rows]]) - targets[rows]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


@torch.inference_mode()
def correlation(net: Regressor, clips: Sequence[RegressionClip]) -> list[float]:
    """Mean Pearson r over clips of each target."""
    found = []
    for clip in clips:
        windows = torch.from_numpy(clip.frames)[neighbours([len(clip.frames)], net.config)]
        found.append(net(windows).numpy())
    outputs = range(found[0].shape[1])
    return [mean_r([c.targets[:, i] for c in clips], [f[:, i] for f in found]) for i in outputs]


def neighbours(lengths: Sequence[int], config: RegressorConfig) -> Tensor:
    """(N, span) rows of concatenated clips that each frame sees; a clip's edge frames repeat beyond its ends."""
    offsets = np.arange(-config.past_frames, config.ahead_frames + 1)
    starts = np.cumsum([0, *lengths[:-1]])
    rows = [
        start + np.clip(np.arange(length)[:, None] + offsets, 0, length - 1)
        for start, length in zip(starts, lengths, strict=True)
    ]
    return torch.from_numpy(np.concatenate(rows))


def _source_figures(
    source: str, config: RegressorConfig, train: Sequence[_FilmedClip], tests: Mapping[str, Sequence[_FilmedClip]]
) -> dict[str, Figure]:
    scores: dict[str, list[float]] = {}
    for seed in SEEDS:
        net = fit_regressor([c.view(source) for c in train], config, seed=seed)
        for test, filmed in tests.items():
            for target, r in zip(TARGETS, correlation(net, [c.view(source) for c in filmed]), strict=True):
                scores.setdefault(f"{test}_{target}_r_{source}", []).append(r)
    return {
        name: Figure(
            value=float(np.mean(values)),
            unit="r",
            goal=GOAL_R if name == "strangers_lip_opening_r_features" else None,
            better="higher",
            spread=float(np.ptp(values)) / 2,
        )
        for name, values in scores.items()
    }


def _film(folder: Path, motion: Mapping[str, Array], speech: SpeechFeatures, space: MotionSpace) -> list[_FilmedClip]:
    clips = load_clips(folder)
    heard = hear([c.sound for c in clips], speech)
    return [_FilmedClip(h, _targets(motion[c.key], space)) for c, h in zip(clips, heard, strict=True)]


def _targets(motion: Array, space: MotionSpace) -> Array:
    jaw = space.to_arkit(motion)[:, ARKIT_NAMES.index("jawOpen")]
    return np.stack([space.lip_opening(motion), jaw], 1).astype(np.float32)
