"""The sync critic that trains: it sees five small mouth pictures and hears 200 ms. It is not SyncNet.

Two towers of SyncNet's windows (Chung and Zisserman 2016), trained on rendered pictures of one avatar. A pair's logit
is `scale * cosine + bias`, read as the log odds that the sound belongs to the pictures (the sigmoid form of Zhai et al.
2023; Wav2Lip's expert takes the cosine itself for a probability). Its loss is the binary cross-entropy of "belongs".

The critic that judges models (`model.motion.sync_critic`) sees motion codes over 360 ms; this one shares neither its
input, its layers nor its seed with it, so that judging stays independent of training.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.avatar import AvatarConfig
from model.checkpoint import load_checkpoint, save_checkpoint
from model.errors import DataError
from model.training.rendered_views import View, mouth_view

__all__ = [
    "COLUMNS_PER_FRAME",
    "KIND",
    "WINDOW_FRAMES",
    "RenderedCritic",
    "RenderedCriticConfig",
    "load_rendered_critic",
]

KIND = "rendered-sync-critic"
FILE_NAME = "rendered_sync.safetensors"
WINDOW_FRAMES = 5
COLUMNS_PER_FRAME = 4
_SOUND_LAYERS = ((3, 1), (4, 2), (4, 2), (3, 1))  # kernel and stride: an output sees 20 columns, 4 apart
_PICTURE_GAIN = 4.0
_MAX_LOG_SCALE = 3.5


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedCriticConfig:
    """Sizes; `avatar_field` is the content hash of the field whose pictures it was trained on."""

    height_px: int = 40
    width_px: int = 48
    mel_bands: int = 80
    picture_widths: tuple[int, int, int] = (16, 32, 48)
    picture_features: int = 96
    sound_width: int = 96
    embedding: int = 64
    avatar_field: str = ""


class RenderedCritic(nn.Module):
    """Convolutions over each picture, then over five frames; convolutions over log-mel."""

    def __init__(self, config: RenderedCriticConfig) -> None:
        super().__init__()
        self.config = c = config
        sizes = [3, *c.picture_widths]
        layers: list[nn.Module] = []
        height, width = c.height_px, c.width_px
        for index, (inputs, outputs) in enumerate(pairwise(sizes)):
            kernel = 5 if index == 0 else 3
            layers += [nn.Conv2d(inputs, outputs, kernel, 2, kernel // 2), nn.BatchNorm2d(outputs), nn.GELU()]
            height, width = (height + 1) // 2, (width + 1) // 2
        self.picture = nn.Sequential(*layers, nn.Flatten(), nn.Linear(sizes[-1] * height * width, c.picture_features))
        self.window = nn.Sequential(
            nn.BatchNorm1d(c.picture_features),
            nn.GELU(),
            nn.Conv1d(c.picture_features, c.picture_features, WINDOW_FRAMES),
            nn.BatchNorm1d(c.picture_features),
            nn.GELU(),
            nn.Conv1d(c.picture_features, c.embedding, 1),
        )
        self.sound = _sound_tower(c)
        self.log_scale = nn.Parameter(torch.tensor(2.0))
        self.bias = nn.Parameter(torch.tensor(-2.0))

    def view(self, config: AvatarConfig) -> View:
        """What it sees of an avatar."""
        return mouth_view(config, height_px=self.config.height_px, width_px=self.config.width_px)

    def see(self, pictures: Tensor) -> Tensor:
        """(B, T - 4, embedding) of unit length, of pictures (B, T, 3, height, width), 0..1."""
        count, frames = pictures.shape[:2]
        features = self.picture((pictures.flatten(0, 1) - 0.5) * _PICTURE_GAIN)
        return _unit(self.window(features.view(count, frames, -1).transpose(1, 2)))

    def hear(self, sound: Tensor) -> Tensor:
        """(B, T - 4, embedding) of unit length, of normalised log-mel (B, 4 T, bands)."""
        return _unit(self.sound(sound.transpose(1, 2)))

    def logits(self, cosine: Tensor) -> Tensor:
        """Log odds that pictures and sound of these cosines belong together."""
        return self.log_scale.clamp(max=_MAX_LOG_SCALE).exp() * cosine + self.bias

    def loss(self, pictures: Tensor, sound: Tensor) -> Tensor:
        """Scalar: mean of -log(probability) that each window's sound belongs to its pictures.

        Raises:
            DataError: Pictures and sound are of different lengths, sizes or too short.
        """
        check_pair(pictures, sound, self.config.mel_bands)
        size = tuple(pictures.shape[-2:])
        if size != (self.config.height_px, self.config.width_px):
            raise DataError(f"this critic sees {self.config.height_px} x {self.config.width_px} pictures, got {size}")
        return functional.softplus(-self.logits((self.see(pictures) * self.hear(sound)).sum(-1))).mean()


def check_pair(pictures: Tensor, sound: Tensor, bands: int) -> None:
    """Raise DataError unless pictures (B, T, 3, H, W) and sound (B, 4 T, bands) cover the same T >= 5 frames."""
    wanted = (len(pictures), COLUMNS_PER_FRAME * pictures.shape[1], bands)
    if tuple(sound.shape) != wanted:
        raise DataError(
            f"sound of {tuple(pictures.shape[:2])} pictures has the shape {wanted}, got {tuple(sound.shape)}"
        )
    if pictures.shape[1] < WINDOW_FRAMES:
        raise DataError(f"sync is judged over {WINDOW_FRAMES} frames or more, got {pictures.shape[1]}")


def save_rendered_critic(path: Path, critic: RenderedCritic, metadata: dict[str, str]) -> str:
    """Write the weights in half precision; returns their content hash."""
    state = {k: v.half() if v.is_floating_point() else v for k, v in critic.state_dict().items()}
    return save_checkpoint(path, state, kind=KIND, config=critic.config, metadata=metadata)


def load_rendered_critic(path: Path) -> RenderedCritic:
    """Read the weights; frozen, ready to judge.

    Raises:
        CheckpointError: The file is missing, foreign or damaged.
    """
    saved = load_checkpoint(path, kind=KIND, config_cls=RenderedCriticConfig)
    critic = RenderedCritic(saved.config)
    critic.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in saved.tensors.items()})
    return critic.eval().requires_grad_(False)


def _sound_tower(config: RenderedCriticConfig) -> nn.Sequential:
    sizes = [config.mel_bands, *[config.sound_width] * (len(_SOUND_LAYERS) - 1), config.embedding]
    parts: list[nn.Module] = []
    for index, (kernel, stride) in enumerate(_SOUND_LAYERS):
        parts.append(nn.Conv1d(sizes[index], sizes[index + 1], kernel, stride))
        if index < len(_SOUND_LAYERS) - 1:
            parts += [nn.BatchNorm1d(sizes[index + 1]), nn.GELU()]
    return nn.Sequential(*parts)


def _unit(sequence: Tensor) -> Tensor:
    """(B, E, W) to (B, W, E) of length 1."""
    wide = sequence.transpose(1, 2).to(torch.promote_types(sequence.dtype, torch.float32))
    return functional.normalize(wide, dim=-1)
