"""One training step of the avatar: march the rays, composite over torso and background, losses.

A no-gradient pass over all samples in occupied voxels finds those that carry weight; only these are evaluated again
with gradients. The step is the serving step, shifted at random, so that the learned surfaces do not depend on where
samples fall.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from model.radiance.field import FrameConditions, RadianceField
from model.radiance.occupancy import OccupancyGrid, WeightTracker
from model.radiance.renderer import Intrinsics, ray_box, ray_directions
from model.radiance.torso import TorsoLayer
from model.training.fused_march import MIN_TRANSMITTANCE, Marched, march_fused
from model.training.ray_sampling import RayBatch
from model.training.refinement import Refinement

MIN_WEIGHT = 1e-4
KEEP_ANYWAY = 0.01
AUTOCAST = True  # products in bfloat16
CHARBONNIER_EPS = 0.05
LEAST_OPACITY, SOLID_HEAD = 1e-3, 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class LossWeights:
    """Weights against the composite's color error."""

    head_opacity: float = 0.15
    depth_spread: float = 1.0
    warp_smoothness: float = 20.0
    patch: float = 0.0
    turned: float = 0.0
    torso_swing: float = 0.0
    empty: float = 0.0  # of the head's opacity where it is not: squares leave faint specks
    missing: float = 0.0  # of the logarithm of what is lacking: squares hardly move what was empty at first


class RayEmphasis(NamedTuple):
    """Weight of each ray (R,) in the color and the opacity loss."""

    color: Tensor
    opacity: Tensor


class Stage(NamedTuple):
    """What stands around the head of a batch: the torso, how it is posed, and how the clips were exposed."""

    torso: TorsoLayer
    poses: Tensor  # (F, 6) of the batch's frames
    refinement: Refinement | None = None

    def compose(self, marched: Marched, batch: RayBatch, background: Tensor) -> Tensor:
        """(R, 3) head over torso over background colors (R, 3); frames with an unknown torso have none."""
        frame = batch.frame_of_ray
        poses = self.poses[frame] if self.torso.moves else None
        layer = self.torso(batch.rows, batch.columns, batch.size_px, poses) * batch.has_torso[frame, None]
        free = 1 - marched.opacity[:, None]
        color, cover = marched.color + free * layer[:, :3], marched.opacity[:, None] + free * layer[:, 3:]
        if self.refinement is not None:
            color = self.refinement.exposed(color, cover, batch.frames[frame])
        composed: Tensor = color + (1 - cover) * background
        return composed


class Carried(NamedTuple):
    """N samples that carry weight, of R rays in their order."""

    points: Tensor  # (N, 3) deformed
    ray: Tensor  # (N,)
    weight: Tensor  # (N,) compositing weight
    opacity: Tensor  # (R,)


def march(
    field: RadianceField,
    conditions: FrameConditions,
    batch: RayBatch,
    cameras: Tensor,  # (F, 3, 4) of the batch's frames
    lenses: Tensor,  # (F, 4) fx, fy, cx, cy of the batch's frames, pixels
    occupancy: OccupancyGrid,
    tracker: WeightTracker,
    generator: torch.Generator,
) -> Marched:
    """Composite the head along every ray of the batch. Differentiable in the field, the conditions and the cameras.

    On CUDA by `model.training.fused_march`, which has no visibility pass: it takes every sample to `MIN_TRANSMITTANCE`.
    """
    origins, directions = batch_rays(batch, cameras, lenses)
    shift = torch.rand(len(directions), 1, generator=generator).to(directions.device)
    if directions.device.type == "cuda":
        return march_fused(field, conditions, batch.counts, origins, directions, shift[:, 0], occupancy, tracker)
    step = field.config.step
    near, t, points, candidates, voxels = _samples(origins, directions, shift, occupancy, step)
    count = t.shape[1]
    kept = _visible(field, conditions, batch.counts, points, candidates, count, voxels, tracker, generator)
    with torch.autocast("cpu", torch.bfloat16, enabled=AUTOCAST):
        density, rgb = field.density_and_color(points[kept], _frame_counts(kept, batch.counts, count), conditions)
    total = len(near) * count
    alpha = torch.zeros(total).index_put((kept,), 1 - torch.exp(-density * step)).view(-1, count)
    colors = torch.zeros(total, 3).index_put((kept,), rgb.float()).view(-1, count, 3)
    weights = alpha * _before(alpha)
    opacity = weights.sum(1)
    depth = (t - near[:, None]).clamp(0)
    mean = ((weights * depth).sum(1) / (opacity + 1e-6)).detach()
    spread = (weights * (depth - mean[:, None]) ** 2).sum(1).mean()
    seen = (weights.detach() * t).sum(1)
    return Marched((weights[..., None] * colors).sum(1), opacity, seen, spread, len(candidates), len(kept))


@torch.no_grad()
def carried_samples(
    field: RadianceField,
    conditions: FrameConditions,
    batch: RayBatch,
    cameras: Tensor,  # (F, 3, 4) of the batch's frames
    lenses: Tensor,  # (F, 4) of the batch's frames, pixels
    occupancy: OccupancyGrid,
    tracker: WeightTracker,
    generator: torch.Generator,
) -> Carried:
    """The samples of the batch's rays that carry weight now, on the CPU."""
    origins, directions = batch_rays(batch, cameras, lenses)
    shift = torch.rand(len(directions), 1, generator=generator)
    _, t, points, candidates, voxels = _samples(origins, directions, shift, occupancy, field.config.step)
    count = t.shape[1]
    kept = _visible(field, conditions, batch.counts, points, candidates, count, voxels, tracker, generator)
    with torch.autocast("cpu", torch.bfloat16, enabled=AUTOCAST):
        density, _ = field.density_and_color(points[kept], _frame_counts(kept, batch.counts, count), conditions)
    alpha = torch.zeros(t.numel()).index_put((kept,), 1 - torch.exp(-density * field.config.step)).view(t.shape)
    weights = alpha * _before(alpha)
    return Carried(points[kept], kept // count, weights.view(-1)[kept], weights.sum(1))


def batch_rays(batch: RayBatch, cameras: Tensor, lenses: Tensor) -> tuple[Tensor, Tensor]:
    """Origins and unit directions (R, 3) in canonical axes."""
    frame = batch.frame_of_ray
    lens = Intrinsics(*lenses[frame].unbind(1))
    return cameras[frame, :, 3], ray_directions(batch.columns, batch.rows, lens, cameras[frame, :, :3])


def composite_loss(
    marched: Marched,
    batch: RayBatch,
    stage: Stage,
    backgrounds: Tensor,  # (F, 3), 0..1
    weights: LossWeights,
    emphasis: RayEmphasis,
) -> tuple[Tensor, float]:
    """Loss over the batch, and the plain mean squared color error of the fully weighted rays for the log."""
    frame = batch.frame_of_ray
    background = backgrounds[frame]
    predicted = stage.compose(marched, batch, background)
    wanted = batch.rgba[:, :3] + (1 - batch.rgba[:, 3:]) * background
    squared = (predicted - wanted) ** 2
    robust = (torch.sqrt(squared + CHARBONNIER_EPS**2) - CHARBONNIER_EPS) * CHARBONNIER_EPS * 2
    color = (robust * emphasis.color[:, None]).mean()
    opacity = ((marched.opacity - batch.head) ** 2 * emphasis.opacity).mean()
    empty = (marched.opacity * (batch.head == 0) * emphasis.opacity).mean()
    missing = -((marched.opacity + LEAST_OPACITY).log() * (batch.head > SOLID_HEAD) * emphasis.opacity).mean()
    loss = color + weights.head_opacity * opacity + weights.empty * empty + weights.missing * missing
    loss = loss + weights.depth_spread * marched.depth_spread
    return loss, float(squared.detach()[emphasis.color == 1].mean())


def smoothness(grid: Tensor) -> Tensor:
    """Mean squared difference of neighbouring nodes of (..., Gz, Gy, Gx)."""
    along = [grid.diff(dim=axis).square().mean() for axis in (-1, -2, -3)]
    return along[0] + along[1] + along[2]


class _Samples(NamedTuple):
    """S sample points of each of R rays through the occupancy's box."""

    near: Tensor  # (R,) entry
    t: Tensor  # (R, S)
    points: Tensor  # (R * S, 3)
    candidates: Tensor  # (C,) flat indices of those in occupied voxels
    voxels: Tensor  # (R * S,) flat


def _samples(
    origins: Tensor,  # (R, 3)
    directions: Tensor,  # (R, 3)
    shift: Tensor,  # (R, 1) 0..1, in steps
    occupancy: OccupancyGrid,
    step: float,
) -> _Samples:
    near, far = ray_box(origins, directions, occupancy.box_lo, occupancy.box_hi)
    count = max(1, math.ceil(float((far - near).detach().clamp(min=0).max()) / step) + 1)
    t = near[:, None] + (torch.arange(count) - 0.5 + shift) * step
    points = (origins[:, None] + t[..., None] * directions[:, None]).view(-1, 3)
    voxels = occupancy.voxel_index(points)
    inside = ((t > near[:, None]) & (t < far[:, None])).view(-1)
    return _Samples(near, t, points, (inside & occupancy.occupied.view(-1)[voxels]).nonzero()[:, 0], voxels)


def _visible(
    field: RadianceField,
    conditions: FrameConditions,
    ray_counts: list[int],
    points: Tensor,
    candidates: Tensor,
    count: int,
    voxels: Tensor,
    tracker: WeightTracker,
    generator: torch.Generator,
) -> Tensor:
    """Indices of the samples that carry weight; tells the tracker every weight."""
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=AUTOCAST):
        frames = FrameConditions(*(part.detach() for part in conditions))
        density, _ = field.density_and_color(points[candidates], _frame_counts(candidates, ray_counts, count), frames)
        alpha = torch.zeros(len(points)).index_put((candidates,), 1 - torch.exp(-density * field.config.step))
        before = _before(alpha.view(-1, count)).view(-1)[candidates]
        weight = before * alpha[candidates]
        tracker.observe(voxels[candidates], weight)
        lucky = torch.rand(len(candidates), generator=generator) < KEEP_ANYWAY
        keep = (before > MIN_TRANSMITTANCE) & ((weight > MIN_WEIGHT) | lucky)
    return candidates[keep]


def _before(alpha: Tensor) -> Tensor:
    """Transmittance before each sample of (R, S)."""
    through = torch.cumprod(1 - alpha + 1e-10, 1)
    return torch.cat([torch.ones_like(through[:, :1]), through[:, :-1]], 1)


def _frame_counts(indices: Tensor, ray_counts: list[int], samples_per_ray: int) -> list[int]:
    """How many of the sorted flat sample indices belong to each frame."""
    ends = torch.tensor(ray_counts).cumsum(0) * samples_per_ray
    found = torch.searchsorted(indices, ends)
    return [int(n) for n in found.diff(prepend=found.new_zeros(1))]
