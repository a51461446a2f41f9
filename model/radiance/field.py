"""The radiance field: tri-planes behind a coarse warp grid, two hidden layers with per-frame biases.

A sample at deformed position `p` (canonical axes, head-local) reads the planes at `p + warp(p)`. The warp is a mix of
a few displacement bases, the mix a linear map of the condition (motion, head rotation and its squares); the biases of
both hidden layers carry what geometry does not: shading, folds, the residual of the mouth. Layout and formulas are
the kernel's contract (docs/architecture.md).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.radiance.config import MOTION_GAINS, ROTATION_SCALE_RAD, FieldConfig

DENSITY_SHIFT = 1.0
PADDED_ROWS = 2048


class FrameConditions(NamedTuple):
    """What changes from frame to frame, for F frames."""

    bias1: Tensor  # (F, hidden)
    bias2: Tensor  # (F, hidden)
    warp: Tensor  # (F, 3, Gz, Gy, Gx) displacement, canonical units


def condition_vector(motion: Tensor, rotvec: Tensor) -> Tensor:
    """(F, motion_size) and (F, 3) in radians to (F, motion_size + 9)."""
    gains = MOTION_GAINS if motion.shape[-1] == len(MOTION_GAINS) else (1.0,) * motion.shape[-1]
    scaled = rotvec / ROTATION_SCALE_RAD
    x, y, z = scaled.unbind(-1)
    products = torch.stack([x * x, y * y, z * z, x * y, x * z, y * z], -1)
    return torch.cat([motion * motion.new_tensor(gains), scaled, products], -1)


class RadianceField(nn.Module):
    """Trainable field. `frame_conditions` once per frame, then `density_and_color` per sample."""

    warp_lo: Tensor
    warp_hi: Tensor

    def __init__(self, config: FieldConfig) -> None:
        super().__init__()
        self.config = config
        r, c, h = config.resolution, config.channels, config.hidden
        self.planes = nn.Parameter(torch.randn(3, r, r, c) * 0.1)
        self.layer1 = nn.Linear(3 * c, h)
        self.layer2 = nn.Linear(h, h)
        self.layer3 = nn.Linear(h, 4)
        self.bias_in = nn.Linear(config.condition_size, config.bias_hidden)
        self.bias_mid = nn.Linear(config.bias_hidden, config.bias_hidden)
        self.bias_out = nn.Linear(config.bias_hidden, 2 * h)
        self.warp_mix = nn.Linear(config.condition_size, config.warp_bases)
        gx, gy, gz = config.warp_shape
        self.warp_basis = nn.Parameter(torch.zeros(config.warp_bases, 3, gz, gy, gx))
        self.register_buffer("warp_lo", torch.tensor(config.warp_lo), persistent=False)
        self.register_buffer("warp_hi", torch.tensor(config.warp_hi), persistent=False)
        with torch.no_grad():
            self.layer3.bias[0] = 0.5
            self.bias_out.weight.mul_(0.3)
            self.bias_out.bias.zero_()

    def frame_conditions(self, motion: Tensor, rotvec: Tensor) -> FrameConditions:
        """Biases and warp grids of F frames from motion (F, motion_size) and rotation vectors (F, 3), radians."""
        condition = condition_vector(motion, rotvec)
        hidden = functional.relu(self.bias_mid(functional.relu(self.bias_in(condition))))
        delta1, delta2 = self.bias_out(hidden).chunk(2, -1)
        warp = torch.einsum("fk,kcdhw->fcdhw", self.warp_mix(condition), self.warp_basis)
        return FrameConditions(self.layer1.bias + delta1, self.layer2.bias + delta2, warp)

    def displacement(
        self,
        points: Tensor,  # (N, 3) deformed positions, sorted by frame
        counts: list[int],  # samples of each frame, sum N
        warp: Tensor,  # (F, 3, Gz, Gy, Gx)
    ) -> Tensor:
        """(N, 3) from deformed to canonical; trilinear, clamped to the warp box."""
        grid = (points - self.warp_lo) / (self.warp_hi - self.warp_lo) * 2 - 1
        parts = [
            functional.grid_sample(
                warp[i : i + 1], part[None, None, None], padding_mode="border", align_corners=True
            ).view(3, -1)
            for i, part in enumerate(grid.split(counts))
            if len(part)
        ]
        return torch.cat(parts, 1).t() if parts else points.new_zeros(0, 3)

    def plane_features(self, points: Tensor) -> Tensor:
        """(N, 3) canonical positions to (N, 3 * channels): planes (x, y), (z, y), (x, z), bilinear."""
        x, y, z = points.unbind(-1)
        coordinates = torch.stack([torch.stack([x, y], -1), torch.stack([z, y], -1), torch.stack([x, z], -1)])
        found = functional.grid_sample(
            self.planes.permute(0, 3, 1, 2), coordinates[:, :, None], padding_mode="border", align_corners=True
        )
        return found[..., 0].permute(2, 0, 1).reshape(len(points), 3 * self.config.channels)

    def raw_output(self, points: Tensor, counts: list[int], frames: FrameConditions) -> Tensor:
        """(N, 4) outputs before softplus and sigmoid, for samples sorted by frame."""
        return self.outputs(
            self.plane_features(points + self.displacement(points, counts, frames.warp)), counts, frames
        )

    def outputs(self, features: Tensor, counts: list[int], frames: FrameConditions) -> Tensor:
        """(N, 4) of plane features (N, 3 * channels), for samples sorted by frame; the warp is not used."""
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else features.dtype
        # oneDNN compiles a bfloat16 product per shape: few different lengths keep its cache warm.
        padding = -len(features) % PADDED_ROWS if dtype == torch.bfloat16 else 0
        rows = functional.pad(features.to(dtype), (0, 0, 0, padding))
        # One-hot columns make the per-frame bias part of the matrix product, and its gradient as well.
        one_hot = rows.new_zeros(len(rows), len(counts))
        start = 0
        for i, count in enumerate(counts):
            one_hot[start : start + count, i] = 1
            start += count
        weight1 = torch.cat([self.layer1.weight, frames.bias1.t()], 1).to(dtype)
        weight2 = torch.cat([self.layer2.weight, frames.bias2.t()], 1).to(dtype)
        hidden = functional.relu(functional.linear(torch.cat([rows, one_hot], 1), weight1))
        hidden = functional.relu(functional.linear(torch.cat([hidden, one_hot], 1), weight2))
        output = functional.linear(hidden, self.layer3.weight.to(dtype))[: len(features)]
        return output.float() + self.layer3.bias

    def density_and_color(self, points: Tensor, counts: list[int], frames: FrameConditions) -> tuple[Tensor, Tensor]:
        """Density (N,) per canonical unit and color (N, 3), 0..1, at deformed positions sorted by frame."""
        raw = self.raw_output(points, counts, frames)
        density = self.config.density_scale * functional.softplus(raw[:, 0] - DENSITY_SHIFT)
        return density, torch.sigmoid(raw[:, 1:])
