"""Multi-view aggregation: one hop of motion estimated as seen from K head poses, brought back, averaged by agreement.

The U-Net (trained with head pose) is asked for the hop as it appears from each pose, with the same noise, keyed by
(seed, frame). Each estimate is decoded, mapped to canonical space by `ViewBias`, and the mean is weighed by how near an
estimate lies to the median of all.

What a session commits is the frontal view's latents alone. So a session is one stream whatever K is: it may be paused,
rewound, or go on with another K; with K = 1 it is the plain path, bit for bit; and no average, which would lose spread
hop after hop, is ever fed back. The other views need a past as seen from where they are. It is made anew for each hop:
the frontal past, moved by the difference that the pose makes to its latents (encoded bias), so that nothing adds up.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Final, Protocol

import torch
from torch import Tensor

from model.diffusion.generator import MotionState
from model.diffusion.unet import UNetConfig
from model.errors import ConfigError, InputError
from model.motion.space import MotionSpace
from model.motion.vae import MotionVae
from model.motion.view_bias import POSE_UNIT_DEG, ViewBias, code_sizes

SHARPNESS: Final = 625.0
"""Per squared inter-ocular distance: an estimate 0.04 away from the median (root mean square over the mouth's
landmarks) counts e times less, one 0.12 away practically nothing.

The rendered capture's side views, tracked and brought back, lie 0.01 from the truth: they are all but plainly averaged.
"""
SPREAD_DEG: Final = 10.0
_DIRECTIONS: Final = ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 0.5, 0.0), (0.0, -0.5, 0.0))


class Generator(Protocol):
    """What is asked of `MotionGenerator`."""

    @property
    def config(self) -> UNetConfig:
        """Of its U-Net."""

    def step(self, features: Tensor, states: Sequence[MotionState], poses: Tensor | None = None) -> Tensor:
        """Latents (B, past + hop, 16); advances the states."""


def view_poses(num_views: int, spread_deg: float = SPREAD_DEG) -> Tensor:
    """(K, 3) yaw, pitch and roll in degrees, the frontal view first, the others in opposite pairs.

    K = 3 turns to both sides by `spread_deg`; K = 5 also nods by half of it.

    Raises:
        ConfigError: K is not 1, 3 or 5.
    """
    if num_views not in (1, 3, 5):
        raise ConfigError(f"motion is aggregated over 1, 3 or 5 views, got {num_views}")
    return torch.tensor(_DIRECTIONS[:num_views]) * spread_deg


def aggregate(estimates: Tensor, *, sharpness: float = SHARPNESS, sizes: Tensor) -> Tensor:
    """Average K estimates (K, B, T, 32) of one motion by agreement, frame by frame, to (B, T, 32).

    Weights are softmax over K of -sharpness |(estimate - median) sizes|². One wrong estimate of 3 or 5 leaves the
    median with the others; its pull on the mean is bounded by 0.43 / sqrt(sharpness) / (K - 1) and falls to nothing
    with its distance.

    Args:
        sizes: (32,) what one unit of each code counts (`code_sizes`: inter-ocular units).

    Raises:
        InputError: There is no estimate, the shape is wrong, or the sharpness is negative.
    """
    if estimates.ndim != 4 or not len(estimates) or sharpness < 0:
        raise InputError(
            f"estimates are (K, B, T, 32) and sharpness >= 0, got {tuple(estimates.shape)} and {sharpness:g}"
        )
    away = ((estimates - estimates.median(0).values) * sizes.to(estimates)).square().sum(-1)
    weights = torch.softmax(-sharpness * away, 0)
    return (weights[..., None] * estimates).sum(0)


class MultiViewMotion:
    """Hops of motion from K views. Holds weights and options only; the sessions own their `MotionState`."""

    def __init__(
        self,
        generator: Generator,
        vae: MotionVae,
        bias: ViewBias,
        space: MotionSpace,
        *,
        num_views: int = 1,
        spread_deg: float = SPREAD_DEG,
        sharpness: float = SHARPNESS,
    ) -> None:
        """Choose the views.

        Raises:
            ConfigError: `num_views` is not 1, 3 or 5, or the U-Net was not trained with head pose.
        """
        if num_views > 1 and not generator.config.pose_size:
            raise ConfigError(
                f"{num_views} views need a motion model that knows head pose, this one has pose_size 0: "
                "use one view, or train it with pose_size 3"
            )
        self.generator = generator
        self.vae = vae.eval()
        self.bias = bias
        self.poses_deg = view_poses(num_views, spread_deg)  # (K, 3)
        self.sizes = torch.from_numpy(code_sizes(space))
        self.sharpness = sharpness

    @torch.inference_mode()
    def step(self, features: Tensor, states: Sequence[MotionState]) -> Tensor:
        """Motion (B, hop, 32) of the next hop; advances the states.

        Args:
            features: (B, hop + lookahead, 256) as the speech stream gives them.
        """
        hop = self.generator.config.hop_frames
        K, B = len(self.poses_deg), len(states)
        if K == 1:
            return self.vae.decode(self.generator.step(features, states))[:, -hop:]
        poses_deg = self.poses_deg.repeat_interleave(B, 0)  # views of all sessions, the frontal ones first
        views = [*states, *self._other_views(states)]
        latents = self.generator.step(features.repeat(K, 1, 1), views, poses_deg / POSE_UNIT_DEG)
        seen = self.vae.decode(latents)[:, -hop:]
        canonical = self.bias.canonical(seen, poses_deg[:, None])
        return aggregate(canonical.view(K, B, *canonical.shape[1:]), sharpness=self.sharpness, sizes=self.sizes)

    def _other_views(self, states: Sequence[MotionState]) -> list[MotionState]:
        """Copies of the states with the past as seen from each pose but the frontal one; they are used once."""
        past = torch.stack([state.latents for state in states])  # (B, past, 16)
        motion = self.vae.decode(past)
        encoded = self.vae.encode(motion)
        views = []
        for pose_deg in self.poses_deg[1:]:
            moved = past + self.vae.encode(self.bias.apparent(motion, pose_deg)) - encoded
            for state, latents in zip(states, moved, strict=True):
                view = copy.copy(state)
                view.latents = latents
                views.append(view)
        return views
