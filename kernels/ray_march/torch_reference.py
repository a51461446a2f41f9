"""Ray marcher in plain torch: what the kernel's gradients are compared with. Never edited to agree with a kernel.

The samples and decisions of `reference.py`: positions in the rays' dtype and in its order of operations, values in the
field's. Which samples are evaluated (occupancy, termination) has no gradient; where they stand has.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor
from torch.nn import functional

from kernels.ray_march.tensors import FieldTensors, FrameTensors, Rays, RaySums, Volume


def march_rays_torch(
    field: FieldTensors,
    frames: FrameTensors,
    rays: Rays,
    volume: Volume,
    heaviest: Tensor | None = None,  # (G^3,) raised to each voxel's largest weight
) -> RaySums:
    """Sums along every ray: NeRF (Mildenhall et al. 2020) Eq. 3, ended at `volume.termination`."""
    kind, total = field.planes.dtype, len(rays.t_near)
    longest = float((rays.t_far - rays.t_near).detach().max()) if total else 0.0
    count = max(0, math.ceil(longest / volume.step)) + 1
    steps = torch.arange(count, device=rays.t_near.device, dtype=rays.t_near.dtype)
    u = (steps + 0.5) * volume.step
    t = rays.t_near[:, None] + u
    points = rays.origins[:, None] + t[..., None] * rays.directions[:, None]
    voxels = voxel_index(points.detach(), volume.grid)
    hit = (t < rays.t_far[:, None]) & (rays.t_near < rays.t_far)[:, None] & volume.occupancy.view(-1)[voxels]
    ray, step = hit.nonzero(as_tuple=True)
    owners = torch.arange(len(rays.counts), device=ray.device).repeat_interleave(
        torch.tensor(rays.counts, device=ray.device), output_size=total
    )
    density, rgb = evaluate(field, frames, points[ray, step], owners[ray], volume)
    depth = torch.zeros(total, count, dtype=kind, device=ray.device).index_put((ray, step), density * volume.step)
    color = torch.zeros(total, count, 3, dtype=kind, device=ray.device).index_put((ray, step), rgb)
    before = torch.exp(depth - depth.cumsum(1))
    alive = before.detach() > volume.termination
    depth = depth * alive
    weight = before * (1 - torch.exp(-depth))
    if heaviest is not None:
        heaviest.scatter_reduce_(0, voxels[ray, step], weight.detach()[ray, step].to(heaviest.dtype), "amax")
    return RaySums(
        color=(weight[..., None] * color).sum(1),
        transmittance=torch.exp(-depth.sum(1)),
        distance=(weight * u).sum(1),
        distance_squared=(weight * u * u).sum(1),
        samples=(hit & alive).sum(1, dtype=torch.int32),
    )


def voxel_index(points: Tensor, grid: int) -> Tensor:
    """Flat index of the voxels around positions (..., 3); positions outside read the nearest voxel."""
    cell = torch.floor((points + 1) * (0.5 * grid)).long().clamp(0, grid - 1)
    return (cell[..., 0] * grid + cell[..., 1]) * grid + cell[..., 2]


def evaluate(
    field: FieldTensors,
    frames: FrameTensors,
    points: Tensor,  # (M, 3) deformed positions
    frame: Tensor,  # (M,) which frame each belongs to
    volume: Volume,
) -> tuple[Tensor, Tensor]:
    """Density (M,) per unit length and colour (M, 3), 0..1."""
    points = points.to(field.planes.dtype)
    features = plane_features(field.planes, points + warp_at(frames.warp, points, frame, volume))
    hidden = functional.relu(features @ field.w1.t() + frames.bias1[frame])
    hidden = functional.relu(hidden @ field.w2.t() + frames.bias2[frame])
    out = hidden @ field.w3.t() + field.b3
    return volume.density_scale * functional.softplus(out[:, 0] - 1, threshold=50), torch.sigmoid(out[:, 1:])


def warp_at(warp: Tensor, points: Tensor, frame: Tensor, volume: Volume) -> Tensor:
    """Displacement (M, 3): trilinear in each point's frame's grid, clamped to its box."""
    nodes = torch.tensor(warp.shape[1:4], device=points.device)
    lo, hi = points.new_tensor(volume.warp_lo), points.new_tensor(volume.warp_hi)
    low, frac = _cell((points - lo) / (hi - lo) * (nodes - 1), nodes)
    total = torch.zeros_like(points)
    for corner in itertools.product((0, 1), repeat=3):
        at = low + torch.tensor(corner, device=points.device)
        weight = torch.stack([frac[:, a] if corner[a] else 1 - frac[:, a] for a in range(3)]).prod(0)
        total = total + weight[:, None] * warp[frame, at[:, 0], at[:, 1], at[:, 2]]
    return total


def plane_features(planes: Tensor, canonical: Tensor) -> Tensor:
    """Bilinear samples of the three planes at (M, 3), concatenated: (M, 48)."""
    side = planes.shape[1]
    low, frac = _cell((canonical + 1) * (0.5 * (side - 1)), torch.tensor([side] * 3, device=canonical.device))
    parts = []
    for plane, (col, row) in zip(planes, ((0, 1), (2, 1), (0, 2)), strict=True):
        c, r, fc, fr = low[:, col], low[:, row], frac[:, col, None], frac[:, row, None]
        upper = plane[r, c] * (1 - fc) + plane[r, c + 1] * fc
        lower = plane[r + 1, c] * (1 - fc) + plane[r + 1, c + 1] * fc
        parts.append(upper * (1 - fr) + lower * fr)
    return torch.cat(parts, 1)


def _cell(where: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor]:
    """Lower node and fraction of grid coordinates (M, 3), clamped to the grid; no gradient outside it."""
    inside = torch.minimum(where.clamp(min=0), (nodes - 1).to(where.dtype))
    low = torch.minimum(inside.detach().floor().long(), nodes - 2)
    return low, inside - low
