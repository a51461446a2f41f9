"""Train the co-articulation network on filmed clips: phones by forced alignment, motion by the speaker's calibration.

It makes motion targets for speech that nobody filmed, in any language, out of phone times alone. What the clips never
say has a stand-in, and phones that look alike take each other's places at random, so that sequences which GRID's fixed
sentences lack are not new to the network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.checkpoint import load_checkpoint, save_checkpoint
from model.data.clip_labels import clip_labels
from model.data.features import ClipFeatures, load_clips
from model.data.forced_alignment import ForcedAligner
from model.errors import DataError
from model.motion.space import NUM_MOUTH_CODES, MotionSpace, load_motion_space
from model.motion.vae import AUDIO_OWNED
from model.training.coarticulation_net import (
    CLOSING,
    COLUMNS_PER_FRAME,
    CONTEXT_FRAMES,
    KIND,
    Coarticulation,
    CoarticulationConfig,
    CoarticulationNet,
    closed_openings,
    load_coarticulation,
    pad_silence,
    phone_timing,
)
from model.training.motion_targets import load_motion
from model.training.motion_vae import landmark_metric, lip_rows
from model.training.phone_classes import (
    look_alike_matrix,
    phone_counts,
    phone_runs,
    split_diphthongs,
    stand_in_matrix,
    unseen_phones,
)
from model.training.run import Run, RunConfig

__all__ = ["CoarticulationTrainConfig", "LabelledClip", "load_coarticulation", "train_coarticulation"]

LABELS_KIND = "phone-labels"
Figures = Callable[["Coarticulation", Sequence["LabelledClip"]], dict[str, float]]


@dataclass(frozen=True)
class LabelledClip:
    """A filmed clip's motion and phonemes."""

    motion: NDArray[np.float32]  # (T, 32)
    phonemes: NDArray[np.int64]  # (4 T,)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoarticulationTrainConfig:
    """About a minute on one core, and one more to align the clips."""

    run: RunConfig = field(
        default_factory=lambda: RunConfig(steps=1000, batch=16, learning_rate=2e-3, ema_decay=0.99, save_every=250)
    )
    model: CoarticulationConfig = field(default_factory=CoarticulationConfig)
    window_frames: int = 48
    swapped_share: float = 0.3
    lip_weight: float = 40.0


def train_coarticulation(
    grid: Path, out: Path, config: CoarticulationTrainConfig, run_folder: Path, *, figures: Figures | None = None
) -> str:
    """Train on `grid / "train"` (or go on) and write the checkpoint; returns its hash.

    `figures` scores the network on `grid / "val"`; its numbers, and how often each phoneme is said in training
    (`said_p`; 0: it has a stand-in), go into the run's last line and the checkpoint's metadata.

    Raises:
        DataError: A clip is shorter than a window, or lacks what a phoneme's stand-in needs.
    """
    torch.manual_seed(config.run.seed)
    space = load_motion_space()
    clips = load_labelled(grid / "train", run_folder)
    if (shortest := min(len(c.motion) for c in clips)) < config.window_frames:
        raise DataError(f"a clip of {shortest} frames is shorter than the window of {config.window_frames}; lower it")
    labels = [c.phonemes for c in clips]
    net = CoarticulationNet(replace(config.model, unseen=unseen_phones(labels)))
    _measure_closures(net, clips, space)
    run = Run(run_folder, KIND, net, config.run)
    _train(run, _WindowSource(clips, net.config.unseen, config), config, space)
    run.use_average()
    net.cpu()
    found = figures(Coarticulation(net, space), load_labelled(grid / "val", run_folder)) if figures else {}
    said = {f"said_{name}": float(count) for name, count in phone_counts(labels).items()}
    run.log(final=1.0, **found, **said)
    metadata = {"motion_space": space.hash, "data": "GRID s1 (CC BY 4.0)", "wall_s": f"{run.wall_s():.0f}"}
    metadata |= {k: f"{v:.5f}" for k, v in found.items()}
    return save_checkpoint(out, net.state_dict(), kind=KIND, config=net.config, metadata=metadata)


def _train(run: Run, windows: _WindowSource, config: CoarticulationTrainConfig, space: MotionSpace) -> None:
    metric, lips = landmark_metric(space).to(run.device), lip_rows(space).to(run.device)
    run.modules.train()
    while not run.finished():
        inputs, codes = windows.draw(run.generator())
        torch.manual_seed(config.run.seed * 1_000_003 + run.step)  # dropout: a resumed run draws the same
        error = run.modules(inputs.to(run.device)) - codes.to(run.device)
        loss = (error @ metric).square().sum(-1).mean()
        loss = loss + config.lip_weight * (error[..., :NUM_MOUTH_CODES] @ lips).square().sum(-1).mean()
        run.update(loss)
        if run.step % 100 == 0:
            run.log(loss=loss.item())


def load_labelled(folder: Path, cache: Path) -> list[LabelledClip]:
    """Motion and phonemes of the prepared clips of a folder; alignments are kept in `cache` (0.1 s a clip)."""
    clips = {c.key: c for c in load_clips(folder)}
    labels = _cached_labels(clips, cache / f"labels-{folder.name}.safetensors")
    return [LabelledClip(motion, labels[key]) for key, motion in load_motion(folder).items()]


def _cached_labels(clips: dict[str, ClipFeatures], path: Path) -> dict[str, NDArray[np.int64]]:
    if path.is_file():
        stored = load_checkpoint(path, kind=LABELS_KIND, config_cls=type(None)).tensors
        labels = {key: tensor.numpy().astype(np.int64) for key, tensor in stored.items()}
        wanted = {key: COLUMNS_PER_FRAME * len(clip.motion) for key, clip in clips.items()}
        if {key: len(row) for key, row in labels.items()} == wanted:
            return labels
    aligner = ForcedAligner()
    labels = {key: clip_labels(clip, aligner) for key, clip in clips.items()}
    tensors = {key: torch.from_numpy(row.astype(np.uint8)) for key, row in labels.items()}
    save_checkpoint(path, tensors, kind=LABELS_KIND, config=None)
    return labels


def _measure_closures(net: CoarticulationNet, clips: Sequence[LabelledClip], space: MotionSpace) -> None:
    """The speaker's opening at closures (median), and how his mouth codes go with the opening (least squares).

    Where he says no f or v, they are held to the widest he opens: nothing is pulled.
    """
    openings = [space.lip_opening(c.motion) for c in clips]
    labels = [c.phonemes for c in clips]
    widest = [float(np.concatenate(openings).max())]
    closed = [float(np.median(closed_openings(openings, labels, names) or widest)) for names in CLOSING]
    codes = np.concatenate([c.motion[:, :NUM_MOUTH_CODES] for c in clips]).astype(np.float64)
    centred = np.concatenate(openings).astype(np.float64)
    centred -= centred.mean()
    slope = centred @ (codes - codes.mean(0)) / (centred @ centred)
    net.closed_opening.copy_(torch.tensor(closed))
    net.closing_codes.copy_(torch.from_numpy(slope.astype(np.float32)))


class _WindowSource:
    """Random windows of the clips, phones swapped with look-alikes; the context is the clip's own, or silence."""

    def __init__(
        self, clips: Sequence[LabelledClip], unseen: tuple[str, ...], config: CoarticulationTrainConfig
    ) -> None:
        self._config = config
        self._motion = [torch.from_numpy(c.motion[:, :AUDIO_OWNED]) for c in clips]
        padded = [split_diphthongs(pad_silence(c.phonemes), unseen) for c in clips]
        self._labels = [torch.from_numpy(labels) for labels in padded]
        self._timing = [torch.from_numpy(phone_timing(labels)) for labels in padded]
        self._runs = [torch.from_numpy(_run_indices(labels)) for labels in padded]
        self._shares = torch.from_numpy(stand_in_matrix(unseen))
        self._look_alikes = torch.from_numpy(look_alike_matrix(unseen))

    def draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Inputs (B, 4 (T + 16), 47) and codes (B, T, 20)."""
        rows = torch.randint(len(self._motion), (self._config.run.batch,), generator=generator).tolist()
        drawn = [self._window(row, generator) for row in rows]
        return torch.stack([d[0] for d in drawn]), torch.stack([d[1] for d in drawn])

    def _window(self, row: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        frames = self._config.window_frames
        start = int(torch.randint(len(self._motion[row]) - frames + 1, (1,), generator=generator))
        span = frames + 2 * CONTEXT_FRAMES
        columns = slice(start * COLUMNS_PER_FRAME, (start + span) * COLUMNS_PER_FRAME)
        labels, runs = self._labels[row][columns], self._runs[row][columns]
        phones = self._swap(labels, runs - runs[0], generator)
        return torch.cat([phones, self._timing[row][columns]], 1), self._motion[row][start : start + frames]

    def _swap(self, labels: Tensor, runs: Tensor, generator: torch.Generator) -> Tensor:
        """Shares (columns, 45); some phones are, in part or whole, one that looks alike."""
        count = int(runs[-1]) + 1
        other = torch.multinomial(self._look_alikes, count, replacement=True, generator=generator)  # (45, runs)
        amount = torch.rand(count, generator=generator)
        amount = amount * (torch.rand(count, generator=generator) < self._config.swapped_share)
        mine, theirs = self._shares[labels], self._shares[other[labels, runs]]
        return torch.lerp(mine, theirs, amount[runs, None])


def _run_indices(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """(columns,) which unbroken run each column belongs to."""
    out = np.zeros(len(labels), np.int64)
    for index, (start, end) in enumerate(phone_runs(labels)):
        out[start:end] = index
    return out
