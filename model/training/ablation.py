"""What each part of the motion model is worth: the same small training with one thing changed, for several seeds.

`nerf-lipsync train ablation --grid DIR --out DIR` trains every variant for every seed (preset `ablation`, filmed clips
in their own sound), each into `OUT/<variant>-<seed>/motion.safetensors`; finished ones are kept. `evaluate ablation`
reads them. What needs no training of its own (steps, temperature, views) is measured on `full`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from model.training.motion import MotionSources, MotionTrainConfig, load_sources, train_motion
from model.training.motion_data import HearingConfig

__all__ = ["FULL", "VARIANTS", "train_ablation", "variant_path"]

FULL: Final = "full"
OnRun = Callable[[int, int, str], None]
"""Runs done, runs in all, the run's name."""


def _with_model(config: MotionTrainConfig, **changes: object) -> MotionTrainConfig:
    return replace(config, model=replace(config.model, **changes))  # type: ignore[arg-type]


def _with_prefix(config: MotionTrainConfig, frames: int) -> MotionTrainConfig:
    fresh = config.model.window_frames - config.model.committed_frames
    return _with_model(config, committed_frames=frames, window_frames=frames + fresh)


def _with_lookahead(config: MotionTrainConfig, frames: int) -> MotionTrainConfig:
    heard = replace(config.hearing, lookahead_frames=frames)
    return replace(_with_model(config, lookahead_frames=frames), hearing=heard)


VARIANTS: Final[Mapping[str, Callable[[MotionTrainConfig], MotionTrainConfig]]] = {
    FULL: lambda c: c,
    "no temporal attention": lambda c: _with_model(c, self_attention=False),
    "deterministic": lambda c: _with_model(c, process="mean"),
    "no mel": lambda c: _with_model(c, mel_branch=False),
    "no optical flow": lambda c: replace(c, loss=replace(c.loss, optical_flow=0.0)),
    "prefix 0": lambda c: _with_prefix(c, 0),
    "prefix 4": lambda c: _with_prefix(c, 4),
    "look-ahead 0 ms": lambda c: _with_lookahead(c, 0),
    "look-ahead 160 ms": lambda c: _with_lookahead(c, 4),
}
"""What is changed in each."""


def variant_path(out: Path, variant: str, seed: int) -> Path:
    """Where a trained variant lies."""
    return out / f"{variant.replace(' ', '-')}-{seed}" / "motion.safetensors"


def train_ablation(
    grid: Path,
    models: Path,
    out: Path,
    config: MotionTrainConfig,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    variants: Sequence[str] = tuple(VARIANTS),
    on_run: OnRun,
) -> None:
    """Train what is missing. `models` holds the speech encoder and the VAE.

    Raises:
        DataError: The clips are missing.
    """
    heard: dict[HearingConfig, MotionSources] = {}
    tasks = [(variant, seed) for seed in seeds for variant in variants]
    for done, (variant, seed) in enumerate(tasks):
        path = variant_path(out, variant, seed)
        if not path.is_file():
            changed = VARIANTS[variant](replace(config, run=replace(config.run, seed=seed)))
            if changed.hearing not in heard:
                files = (models / "speech.safetensors", models / "motion_vae.safetensors")
                heard[changed.hearing] = load_sources(grid, None, *files, out / "heard", changed.hearing)
            train_motion(heard[changed.hearing], path, changed, path.parent / "run")
        on_run(done + 1, len(tasks), f"{variant}, seed {seed}")
