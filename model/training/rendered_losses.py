"""Sync and identity losses on rendered frames, whose gradient runs through the renderer into the motion.

For the last phase of motion training: `losses(motion, sound)` renders a few frames of each window and gives both terms.
Sync is judged by SyncNet (`model.training.rendered_syncnet`) where its weights are at hand, by the project's own
rendered critic (`model.training.rendered_critic`) otherwise; identity by ArcFace or MobileFaceNet.

Neither may lead: identity costs an open mouth more than a closed one, and a critic can be satisfied by changes that
nobody would see. Keep the weights small beside the losses on motion, and judge the outcome by other measures.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from model.avatar import Avatar, AvatarConfig
from model.errors import CheckpointBindingError, ConfigError, InputError
from model.training.rendered_critic import WINDOW_FRAMES, RenderedCritic, load_rendered_critic
from model.training.rendered_frames import AvatarFrames
from model.training.rendered_identity import IdentityLoss
from model.training.rendered_onnx import load_onnx_network
from model.training.rendered_views import View

__all__ = ["RenderedLossConfig", "RenderedLosses", "SyncJudge", "load_rendered_losses"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedLossConfig:
    """Weights against the diffusion loss, and how much is rendered."""

    sync: float = 0.05
    identity: float = 0.1
    every_steps: int = 4
    frames: int = WINDOW_FRAMES  # of each window, consecutive
    identity_frames: int = 1  # of these, evenly chosen

    def __post_init__(self) -> None:
        if self.sync < 0 or self.identity < 0 or self.every_steps < 1:
            raise ConfigError(f"rendered losses: weights and every_steps must not be negative or 0, got {self}")
        if self.frames < WINDOW_FRAMES or not 1 <= self.identity_frames <= self.frames:
            raise ConfigError(
                f"rendered losses: need frames >= {WINDOW_FRAMES} and >= identity_frames >= 1, got {self}"
            )

    def due(self, step: int) -> bool:
        """Whether a training step pays for rendering."""
        return step % self.every_steps == 0


class SyncJudge(Protocol):
    """A frozen network that says how badly pictures and sound fit, and what it wants to see."""

    def view(self, config: AvatarConfig) -> View:
        """The pixels of the pictures."""

    def loss(self, pictures: Tensor, sound: Tensor) -> Tensor:
        """Scalar, of pictures (B, T, 3, H, W), 0..1, and sound (B, 4 T, bands); differentiable in the pictures."""


class RenderedLosses(nn.Module):
    """Both terms for one avatar. A judge or an embedder that is None leaves its term out.

    Raises:
        InputError: Neither is given.
    """

    def __init__(
        self, avatar: Avatar, config: RenderedLossConfig, *, sync: SyncJudge | None, identity: IdentityLoss | None
    ) -> None:
        super().__init__()
        if sync is None and identity is None:
            raise InputError("rendered losses: give a sync judge, a face network, or both")
        self.config = config
        self.sync = sync
        self.frames = AvatarFrames(avatar, sync.view(avatar.config)) if sync is not None else None
        self.identity = identity

    def forward(self, motion: Tensor, sound: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Unweighted terms, "sync" and "identity"; `total` weighs them.

        Args:
            motion: (B, T, 32) in the motion space, T at least `config.frames`.
            sound: (B, 4 T, bands) of the same frames, as the judge hears: normalised log-mel for the rendered critic,
                cepstra for SyncNet.
            generator: Draws which stretch of longer motion is rendered, one for the batch; the middle if not given.

        Raises:
            ModelError: The shapes disagree, or the motion is too short.
        """
        length = motion.shape[1]
        if length < self.config.frames:
            raise InputError(f"rendered losses need {self.config.frames} frames or more, got {length}")
        spare = length - self.config.frames
        start = spare // 2 if generator is None else int(torch.randint(spare + 1, (), generator=generator))
        stretch = motion[:, start : start + self.config.frames]
        terms = {}
        if self.sync is not None and self.frames is not None:
            heard = sound[:, 4 * start : 4 * (start + self.config.frames)]
            terms["sync"] = self.sync.loss(self.frames(stretch), heard)
        if self.identity is not None:
            terms["identity"] = self.identity(stretch[:, self._chosen()])
        return terms

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """Weighted sum."""
        weights = {"sync": self.config.sync, "identity": self.config.identity}
        return torch.stack([weights[name] * value for name, value in terms.items()]).sum()

    def _chosen(self) -> list[int]:
        """Which frames of a stretch identity looks at."""
        count, frames = self.config.identity_frames, self.config.frames
        return [(2 * i + 1) * frames // (2 * count) for i in range(count)]


def load_rendered_losses(
    avatar: Avatar,
    config: RenderedLossConfig,
    *,
    critic: Path | None = None,
    judge: SyncJudge | None = None,
    face_network: Path | None = None,
    normalises_itself: bool = False,
) -> RenderedLosses:
    """Losses from files: the rendered critic's checkpoint (or a `judge` such as `SyncNetJudge`), an ONNX face network.

    Raises:
        CheckpointBindingError: The critic was trained on another avatar's pictures.
        ModelError: A file is missing, damaged or foreign.
    """
    identity = None
    if face_network is not None:
        network = load_onnx_network(face_network)
        identity = IdentityLoss(avatar, network, normalises_itself=normalises_itself)
    sync = judge if judge is not None or critic is None else _own_critic(critic, avatar)
    return RenderedLosses(avatar, config, sync=sync, identity=identity)


def _own_critic(path: Path, avatar: Avatar) -> RenderedCritic:
    found = load_rendered_critic(path)
    if found.config.avatar_field != avatar.config.field_hash:
        raise CheckpointBindingError(
            path,
            needs="the pictures of avatar field",
            wanted=found.config.avatar_field,
            found=avatar.config.field_hash,
            remedy="nerf-lipsync train rendered-sync",
        )
    return found
