"""Which voxels of the deformed canonical cube can hold matter, for any motion.

Training keeps a coarse grid fed by the largest compositing weight seen in each voxel; serving uses a fine one built
the same way from many rendered frames (`nerfacc`-style pruning, but by visibility instead of density).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from kernels.ray_march.tensors import Volume


class OccupancyGrid:
    """A boolean grid (G, G, G), index [ix, iy, iz], over [-1, 1]^3, with the box that bounds its voxels."""

    def __init__(self, occupied: Tensor) -> None:
        self.occupied = occupied.bool().contiguous()
        self.size = len(occupied)
        self.box_lo, self.box_hi = self._bounds()
        self.volumes: dict[float, Volume] = {}  # for the differentiable kernel, by termination; made when wanted

    def to(self, device: torch.device) -> OccupancyGrid:
        """The same grid on another device."""
        return self if self.occupied.device == device else OccupancyGrid(self.occupied.to(device))

    def voxel_index(self, points: Tensor) -> Tensor:
        """Flat voxel index (N,) of positions (N, 3); positions outside count to the nearest voxel."""
        cell = ((points + 1) * (0.5 * self.size)).long().clamp_(0, self.size - 1)
        return (cell[..., 0] * self.size + cell[..., 1]) * self.size + cell[..., 2]

    def contains(self, points: Tensor) -> Tensor:
        """(N,) bool."""
        return self.occupied.view(-1)[self.voxel_index(points)]

    def fraction(self) -> float:
        """Share of occupied voxels."""
        return float(self.occupied.float().mean())

    def _bounds(self) -> tuple[Tensor, Tensor]:
        cells = self.occupied.nonzero()
        if len(cells) == 0:
            nothing = torch.zeros(3, device=cells.device)
            return nothing, nothing
        voxel = 2.0 / self.size
        return cells.amin(0) * voxel - 1, (cells.amax(0) + 1) * voxel - 1


class WeightTracker:
    """Largest compositing weight seen in each voxel, slowly forgotten."""

    def __init__(self, size: int, limit: Tensor | None = None) -> None:
        self.size = size
        self.weights = torch.zeros(size**3)
        self.limit = limit  # voxels that may ever be occupied, (G, G, G) bool

    def to(self, device: torch.device) -> WeightTracker:
        """Moved to another device, in place."""
        self.weights = self.weights.to(device)
        self.limit = None if self.limit is None else self.limit.to(device)
        return self

    def observe(self, voxel_index: Tensor, weights: Tensor) -> None:
        """Take in the weights of samples (N,) by flat voxel index (N,)."""
        self.weights.scatter_reduce_(0, voxel_index, weights, "amax")

    def refine(self) -> None:
        """Twice the resolution; the weights are inherited."""
        self.weights = refine(self.weights.view(self.size, self.size, self.size)).view(-1)
        self.limit = None if self.limit is None else refine(self.limit)
        self.size *= 2

    def grid(self, threshold: float, *, dilation: int, decay: float = 1.0) -> OccupancyGrid:
        """Voxels above the threshold, dilated by `dilation` voxels; then forget by `decay`."""
        occupied = self.weights.view(self.size, self.size, self.size) > threshold
        grown = dilate(occupied, dilation)
        self.weights *= decay
        return OccupancyGrid(grown if self.limit is None else grown & self.limit)


def refine(grid: Tensor) -> Tensor:
    """(G, G, G) to (2G, 2G, 2G), each voxel split into eight of the same value."""
    return grid.repeat_interleave(2, 0).repeat_interleave(2, 1).repeat_interleave(2, 2).contiguous()


def dilate(occupied: Tensor, voxels: int) -> Tensor:
    """Grow a boolean grid by a cube of `voxels` on each side."""
    if voxels == 0:
        return occupied
    grown = functional.max_pool3d(occupied[None, None].float(), 2 * voxels + 1, 1, voxels)
    return grown[0, 0] > 0


def close_gaps(occupied: Tensor, neighbours: int = 9) -> Tensor:
    """Fill voxels of which at least `neighbours` of the 26 around are occupied (pinholes between samples)."""
    count = functional.avg_pool3d(occupied[None, None].float(), 3, 1, 1)[0, 0] * 27
    return occupied | (count >= neighbours)
