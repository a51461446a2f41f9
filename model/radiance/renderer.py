"""Torch reference of the ray marcher, at the kernel's own sample points (docs/architecture.md).

Samples stand at `t_near + (k + 0.5) * step` inside the box of the occupied voxels; empty voxels are skipped; a ray
ends when its transmittance falls to 0.05 and is then divided by its opacity. `dense=True` ignores the occupancy and
the early end.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from model.radiance.field import FrameConditions, RadianceField
from model.radiance.occupancy import OccupancyGrid

TERMINATION = 0.05
CHUNK_RAYS = 8192


class Intrinsics(NamedTuple):
    """Pinhole in pixels; tensors (R,) where rays differ."""

    fx: float | Tensor
    fy: float | Tensor
    cx: float | Tensor
    cy: float | Tensor


def ray_directions(columns: Tensor, rows: Tensor, lens: Intrinsics, rotation: Tensor) -> Tensor:
    """Unit directions (R, 3) through pixel centres; `rotation` (3, 3) or (R, 3, 3) from camera to canonical axes."""
    u = (columns.float() + 0.5 - lens.cx) / lens.fx
    v = (rows.float() + 0.5 - lens.cy) / lens.fy
    camera = torch.nn.functional.normalize(torch.stack([u, v, torch.ones_like(u)], -1), dim=-1)
    if rotation.dim() == 2:
        return camera @ rotation.t()
    return (rotation @ camera[..., None])[..., 0]


def ray_box(origins: Tensor, directions: Tensor, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
    """Entry and exit distance of rays (R, 3) through a box; a miss has exit <= entry."""
    safe = torch.where(directions.abs() < 1e-8, torch.full_like(directions, 1e-8), directions)
    first, second = (lo - origins) / safe, (hi - origins) / safe
    return torch.minimum(first, second).amax(-1).clamp(min=0), torch.maximum(first, second).amin(-1)


def render_reference(
    field: RadianceField,
    occupancy: OccupancyGrid,
    frame: FrameConditions,  # of one frame
    cam_to_canonical: Tensor,  # (3, 4)
    lens: Intrinsics,
    size_px: int,
    *,
    step: float | None = None,
    dense: bool = False,
) -> tuple[Tensor, int]:
    """Premultiplied RGBA (size, size, 4) float32, and the number of samples evaluated before termination."""
    step = step or field.config.step
    pixels = torch.arange(size_px * size_px)
    directions = ray_directions(pixels % size_px, pixels // size_px, lens, cam_to_canonical[:, :3])
    origin = cam_to_canonical[:, 3].expand_as(directions)
    near, far = ray_box(origin, directions, occupancy.box_lo, occupancy.box_hi)
    picture = torch.zeros(size_px * size_px, 4)
    samples = 0
    with torch.no_grad():
        for rays in (far > near).nonzero()[:, 0].split(CHUNK_RAYS):
            count = math.ceil(float((far - near)[rays].max()) / step)
            t = near[rays, None] + (torch.arange(count) + 0.5) * step
            points = (origin[rays, None] + t[..., None] * directions[rays, None]).view(-1, 3)
            wanted = (t < far[rays, None]).view(-1)
            if not dense:
                wanted &= occupancy.contains(points)
            picture[rays], used = _composite(field, frame, points, wanted, count, step, dense)
            samples += used
    return picture.view(size_px, size_px, 4), samples


def _composite(
    field: RadianceField,
    frame: FrameConditions,
    points: Tensor,
    wanted: Tensor,
    count: int,
    step: float,
    dense: bool,
) -> tuple[Tensor, int]:
    chosen = wanted.nonzero()[:, 0]
    density, color = field.density_and_color(points[chosen], [len(chosen)], frame)
    alpha = torch.zeros(len(points)).index_put((chosen,), 1 - torch.exp(-density * step)).view(-1, count)
    rgb = torch.zeros(len(points), 3).index_put((chosen,), color).view(-1, count, 3)
    through = torch.cumprod(1 - alpha, 1)
    before = torch.cat([torch.ones_like(through[:, :1]), through[:, :-1]], 1)
    alive = before > (0.0 if dense else TERMINATION)
    weights = alpha * before * alive
    opacity = weights.sum(1, keepdim=True)
    result = torch.cat([(weights[..., None] * rgb).sum(1), opacity], 1)
    if not dense:
        ended = 1 - opacity <= TERMINATION
        result = torch.where(ended, result / opacity.clamp(min=1e-6), result)
    return result, int((alive.view(-1) & wanted).sum())
