"""The torso as a learned 2-D layer behind the head, still or following the head's pose.

One premultiplied RGBA picture. In the default avatar's capture torso and camera are still, so that is exact. Real
shoulders move with the head: there the picture is read at displaced pixels, the displacement a coarse grid mixed from
a few bases by the pose (rotation vector over `ROTATION_SCALE_RAD`, head shift from rest in canonical units).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from model.errors import ConfigError

POSE_SIZE = 6
GRID_NODES = 9


class TorsoLayer(nn.Module):
    """Trainable premultiplied RGBA picture (size, size, 4); with `bases` > 0 it follows the pose."""

    def __init__(self, initial: Tensor, bases: int = 0) -> None:
        super().__init__()
        if bases and bases != POSE_SIZE:
            raise ConfigError(f"a torso that moves has {POSE_SIZE} bases, got {bases}")
        self.rgba = nn.Parameter(initial.clone().float())
        self.mix = nn.Parameter(torch.zeros(bases, POSE_SIZE))
        self.basis = nn.Parameter(affine_bases() if bases else torch.zeros(0, 2, GRID_NODES, GRID_NODES))

    @property
    def moves(self) -> bool:
        """Whether it follows the pose."""
        return len(self.mix) > 0

    def forward(self, rows: Tensor, columns: Tensor, size_px: int | None = None, poses: Tensor | None = None) -> Tensor:
        """(R, 4) at pixels of a picture of `size_px` (a whole fraction of the layer's), color <= alpha <= 1.

        Args:
            poses: (R, 6) of each ray's frame, for a torso that moves.
        """
        size = self.rgba.shape[0]
        ratio = size // (size_px or size)
        layer: Tensor = self.rgba
        if ratio > 1:
            layer = layer.view(size // ratio, ratio, size // ratio, ratio, 4).mean((1, 3))
        if poses is None or not self.moves:
            picked = layer[rows, columns]
        else:
            place = torch.stack([columns + 0.5, rows + 0.5], -1) / layer.shape[0] * 2 - 1
            place = place + self.displacement(place, poses)
            picked = _read(layer.permute(2, 0, 1), place, corners=False)
        alpha = picked[:, 3:].clamp(0, 1)
        return torch.cat([torch.minimum(picked[:, :3].clamp(min=0), alpha), alpha], 1)

    def displacement(self, place: Tensor, poses: Tensor) -> Tensor:
        """(R, 2) in half pictures (x, y) at places (R, 2), -1..1, for poses (R, 6)."""
        bases = _read(self.basis.flatten(0, 1), place, corners=True).view(len(place), len(self.mix), 2)
        return ((poses @ self.mix.t())[..., None] * bases).sum(1)

    def swing(self, poses: Tensor) -> Tensor:
        """Mean squared displacement of the layer at poses (P, 6), half pictures squared."""
        return torch.einsum("pk,kcyx->pcyx", poses @ self.mix.t(), self.basis).square().mean()

    def keep_clear(self, where: Tensor) -> None:
        """Train no pixel of (size, size) bool: they stay as they are."""
        kept = (~where)[..., None].float()
        self.rgba.register_hook(lambda gradient: gradient * kept.to(gradient.device))

    def picture(self) -> NDArray[np.uint8]:
        """The whole layer as uint8, premultiplied."""
        size = self.rgba.shape[0]
        grid = torch.arange(size)
        with torch.no_grad():
            flat = self(grid.repeat_interleave(size), grid.repeat(size))
        return np.asarray((flat.view(size, size, 4) * 255).round().to(torch.uint8).numpy(), np.uint8)


def affine_bases() -> Tensor:
    """(6, 2, G, G) displacements (x, y): shifts, scalings and shears, from which training goes on."""
    axis = torch.linspace(-1, 1, GRID_NODES)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    one, none = torch.ones_like(x), torch.zeros_like(x)
    pairs = [(one, none), (none, one), (x, none), (none, y), (y, none), (none, x)]
    return torch.stack([torch.stack(pair) for pair in pairs])


def _read(planes: Tensor, place: Tensor, *, corners: bool) -> Tensor:
    """(R, C) of planes (C, H, W) at places (R, 2), -1..1; bilinear, clamped."""
    found = functional.grid_sample(planes[None], place[None, None], padding_mode="border", align_corners=corners)
    return found[0, :, 0].t()
