"""The network of the self-trained AV-sync critic: motion windows and sound windows into one space. It is not SyncNet.

Contrastive two-tower form of SyncNet (Chung and Zisserman 2016) with InfoNCE (van den Oord et al. 2018), but it sees
motion codes instead of pixels: any speaker's tracked or made motion can be judged before anything is rendered. Motion
window v is frames v .. v + 8 (360 ms) of the 20 codes that sound moves; sound window v is log-mel columns 4 v ..
4 v + 37 (380 ms). Both towers are convolutions over time, so that all windows of a clip share one pass. Embeddings have
length 1, distances lie in 0..2.

It judges models; it is no loss. A critic that trains them must have another architecture and another seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.checkpoint import load_checkpoint, save_checkpoint

__all__ = [
    "ASSET",
    "KIND",
    "MOTION_CODES",
    "MOTION_WINDOW_FRAMES",
    "SOUND_WINDOW_COLUMNS",
    "CriticConfig",
    "LoadedCritic",
    "SyncCritic",
    "load_sync_critic",
    "save_sync_critic",
]

ASSET = Path(__file__).parent.parent / "assets" / "sync_critic.safetensors"
KIND = "sync-critic"
MOTION_CODES = 20
COLUMNS_PER_FRAME = 4
_SOUND_LAYERS = ((5, 1), (4, 2), (4, 2), (5, 1), (3, 1))  # kernel and stride
_MOTION_LAYERS = ((5, 1), (3, 1), (3, 1))


def _reach(layers: tuple[tuple[int, int], ...]) -> int:
    """Inputs that one output sees."""
    reach, step = 1, 1
    for kernel, stride in layers:
        reach += (kernel - 1) * step
        step *= stride
    return reach


MOTION_WINDOW_FRAMES = _reach(_MOTION_LAYERS)
SOUND_WINDOW_COLUMNS = _reach(_SOUND_LAYERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticConfig:
    """Sizes: log-mel bands, channels of the first layer and of the others, numbers of an embedding."""

    mel_bands: int = 80
    first_width: int = 96
    width: int = 128
    embedding: int = 64


@dataclass(frozen=True)
class LoadedCritic:
    """The critic, ready to judge, and its weights' content hash."""

    model: SyncCritic
    content_hash: str


class SyncCritic(nn.Module):
    """Two convolutional towers.

    `scale` turns distances into log likelihoods: -scale * distance. Codes are divided by `code_deviation` (20,): those
    of brows are ten times smaller than the mouth's.
    """

    code_deviation: Tensor

    def __init__(self, config: CriticConfig) -> None:
        super().__init__()
        self.config = config
        self.motion = _tower(MOTION_CODES, config, _MOTION_LAYERS)
        self.sound = _tower(config.mel_bands, config, _SOUND_LAYERS)
        self.register_buffer("code_deviation", torch.ones(MOTION_CODES))
        self.log_scale = nn.Parameter(torch.tensor(2.0))

    @property
    def scale(self) -> Tensor:
        """Positive number, ()."""
        return self.log_scale.clamp(max=4.0).exp()

    def see(self, motion: Tensor) -> Tensor:
        """(B, T - 8, embedding) of motion (B, T, 20 or more codes); only the first 20 are looked at."""
        return _embed(self.motion, motion[..., :MOTION_CODES] / self.code_deviation)

    def hear(self, mel: Tensor) -> Tensor:
        """(B, windows, embedding) of normalised log-mel (B, 4 T, bands): T - 9 windows, 4 columns apart."""
        return _embed(self.sound, mel)


def save_sync_critic(path: Path, critic: SyncCritic, metadata: dict[str, str]) -> str:
    """Write the weights in half precision; returns their content hash."""
    state = {k: v.half() if v.is_floating_point() else v for k, v in critic.state_dict().items()}
    return save_checkpoint(path, state, kind=KIND, config=critic.config, metadata=metadata)


def load_sync_critic(path: Path = ASSET) -> LoadedCritic:
    """Read the weights.

    Raises:
        CheckpointError: The file is missing, foreign or damaged.
    """
    saved = load_checkpoint(path, kind=KIND, config_cls=CriticConfig)
    critic = SyncCritic(saved.config)
    critic.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in saved.tensors.items()})
    return LoadedCritic(critic.eval().requires_grad_(False), saved.content_hash)


def _tower(inputs: int, config: CriticConfig, layers: tuple[tuple[int, int], ...]) -> nn.Sequential:
    sizes = [inputs, config.first_width, *[config.width] * (len(layers) - 2), config.embedding]
    parts: list[nn.Module] = []
    for index, (kernel, stride) in enumerate(layers):
        parts.append(nn.Conv1d(sizes[index], sizes[index + 1], kernel, stride))
        if index < len(layers) - 1:
            parts += [nn.BatchNorm1d(sizes[index + 1]), nn.GELU()]
    return nn.Sequential(*parts)


def _embed(tower: nn.Sequential, sequence: Tensor) -> Tensor:
    """(B, windows, embedding) of length 1, from (B, steps, channels)."""
    out = tower(sequence.transpose(1, 2)).transpose(1, 2)
    return functional.normalize(out.float(), dim=-1)
