"""Presets of the whole training, `nerf-lipsync train all --preset NAME`; each is a TOML file in this folder.

| name | U-Net | for |
|---|---|---|
| lite | 3 to 5 M parameters | a CPU: what the package ships; the defaults of every config |
| ablation | 1 M | comparing variants: minutes each |
| paper | about 21 M | a GPU: the paper's optimiser and length |
| smoke | tiny | trying out that everything runs; what comes out is of no use |

A file has a table for each stage (`[motion.run]`, `[motion.model]`, ...); what it does not say keeps its default.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from model.config import load_toml
from model.data.corpus_build import CorpusConfig
from model.errors import ConfigError
from model.training.coarticulation import CoarticulationTrainConfig
from model.training.distill import DistillConfig
from model.training.motion import MotionTrainConfig
from model.training.motion_vae import VaeTrainConfig
from model.training.speech import SpeechTrainConfig
from model.training.sync_critic import CriticTrainConfig

__all__ = ["PRESETS", "TrainAllConfig", "load_preset", "motion_preset"]

FOLDER = Path(__file__).parent
PRESETS = ("lite", "ablation", "paper", "smoke")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainAllConfig:
    """The configs of all stages, in their order."""

    voices: CorpusConfig = field(default_factory=CorpusConfig)
    speech: SpeechTrainConfig = field(default_factory=SpeechTrainConfig)
    motion_vae: VaeTrainConfig = field(default_factory=VaeTrainConfig)
    coarticulation: CoarticulationTrainConfig = field(default_factory=CoarticulationTrainConfig)
    motion: MotionTrainConfig = field(default_factory=MotionTrainConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    sync: CriticTrainConfig = field(default_factory=CriticTrainConfig)


def load_preset(name: str) -> TrainAllConfig:
    """The preset of that name.

    Raises:
        ConfigError: There is none.
    """
    if name not in PRESETS:
        raise ConfigError(f"there is no preset {name!r}: choose one of {', '.join(PRESETS)}")
    return load_toml(TrainAllConfig, FOLDER / f"{name}.toml")


def motion_preset(name: str) -> MotionTrainConfig:
    """The motion diffusion of a preset; raises as `load_preset` does."""
    return load_preset(name).motion
