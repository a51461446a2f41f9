"""What real video needs beyond the field: poses corrected per frame and exposure corrected per clip, both learned.

A pose correction is six numbers in canonical axes (rotation vector in radians, shift in canonical units), an exposure
correction three gains and three offsets; both are held near nothing. They serve training only: the avatar is rendered
with tracked or commanded poses and with the mean exposure.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class RefinementConfig:
    """Rates (0: not refined) and how far corrections usually are from nothing."""

    pose_rate: float = 0.0
    exposure_rate: float = 0.0
    start: float = 0.1  # share of the steps before corrections begin
    rotation_sigma_rad: float = 0.01
    shift_sigma: float = 0.01  # canonical units: 1.7 mm
    gain_sigma: float = 0.05
    weight: float = 1e-4

    def __post_init__(self) -> None:
        if min(self.pose_rate, self.exposure_rate, self.weight) < 0 or self.rotation_sigma_rad <= 0:
            raise ConfigError(f"rates must not be negative and sigmas positive, got {self}")


class Refinement(nn.Module):
    """Corrections of F frames of C clips, all zero at first."""

    clip: Tensor

    def __init__(self, frames: int, clip: Tensor) -> None:
        super().__init__()
        clips = int(clip.max()) + 1 if len(clip) else 1
        self.pose = nn.Parameter(torch.zeros(frames, 6))
        self.gain = nn.Parameter(torch.zeros(clips, 3))
        self.offset = nn.Parameter(torch.zeros(clips, 3))
        self.register_buffer("clip", clip, persistent=False)

    def cameras(self, cameras: Tensor, frames: Tensor) -> Tensor:
        """(B, 3, 4) cameras of `frames` (B,), corrected."""
        delta = self.pose[frames]
        turn = torch.matrix_exp(_skew(delta[:, :3]))
        moved = turn @ cameras
        return torch.cat([moved[:, :, :3], moved[:, :, 3:] + delta[:, 3:, None]], 2)

    def exposed(self, color: Tensor, opacity: Tensor, frames: Tensor) -> Tensor:
        """Premultiplied colors (R, 3) of opacity (R, 1) as the clips of `frames` (R,) were exposed."""
        clip = self.clip[frames]
        return color * (1 + self.gain[clip]) + opacity * self.offset[clip]

    def prior(self, config: RefinementConfig, frames: Tensor) -> Tensor:
        """How unlikely the corrections of these frames and their clips are."""
        delta, clip = self.pose[frames], self.clip[frames]
        turned = (delta[:, :3] / config.rotation_sigma_rad).square().mean()
        moved = (delta[:, 3:] / config.shift_sigma).square().mean()
        exposed = (self.gain[clip] / config.gain_sigma).square() + (self.offset[clip] / config.gain_sigma).square()
        return config.weight * (turned + moved + exposed.mean())


def _skew(vectors: Tensor) -> Tensor:
    """(B, 3) to (B, 3, 3) cross-product matrices."""
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).view(-1, 3, 3)
