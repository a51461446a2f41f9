"""A new person's colors before the first step along rays: each pixel's color goes to where the starting head shows it.

The field that a training starts from (`warm_start`) has its surfaces about right and another person's colors. So the
samples that carry weight are looked up once, for some rays of some frames. First the output layer gets, in closed form,
an affine map of color logits: it reaches skin that no frame shows as well. Then planes and layers are fitted to
the pixels by gradient, with the compositing weights as they are and densities held. No ray is marched meanwhile, so a
step costs a fraction of the training's. Half of the frames are conditioned on a head turn that they do not have: their
colors are to stay the same when the head turns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from model.errors import ConfigError
from model.radiance.field import FrameConditions, RadianceField
from model.training.avatar_step import AUTOCAST, CHARBONNIER_EPS, carried_samples

if TYPE_CHECKING:
    from model.training.avatar import AvatarTraining

SOLID = 0.8  # opacity from which a ray has a surface
HEAD_COVER = 0.95
LEAST_VARIANCE = 1e-3  # of color logits: a picture of one color has a map as well
LEAST_WEIGHT = 0.01
LEAST_COLOR = 0.02
TURN_DEG = (20.0, 6.0)  # largest yaw and pitch of a foreign turn
WARMUP = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class SurfaceFitConfig:
    """How much is looked up, and how it is fitted; steps 0: not at all."""

    steps: int = 0
    frames: int = 32
    rays: int = 1500  # of each frame
    frames_per_step: int = 8
    plane_rate: float = 5e-2
    network_rate: float = 2e-3
    density: float = 0.01  # weight of the squared change of density, before its softplus
    final_rate: float = 0.1

    def __post_init__(self) -> None:
        if self.steps < 0 or min(self.frames, self.rays, self.frames_per_step) < 1:
            raise ConfigError(f"surface fit: steps must not be negative, frames and rays at least 1, got {self}")


class Surface(NamedTuple):
    """N samples of R solid rays of one frame."""

    points: Tensor  # (N, 3) canonical
    ray: Tensor  # (N,)
    weight: Tensor  # (N,) sums to 1 along each ray
    raw: Tensor  # (N, 4) the field's output at the beginning, before softplus and sigmoid
    wanted: Tensor  # (R, 3) 0..1
    frame: int  # of the training frames


def fit_surface(training: AvatarTraining, config: SurfaceFitConfig) -> tuple[float, float]:
    """Fit the training's field, on the CPU, at step 0; mean squared color error before and after."""
    generator = torch.Generator().manual_seed(training.config.seed)
    surfaces = look_up(training, config, generator)
    if not surfaces:
        return 0.0, 0.0
    before = color_error(training, surfaces)
    map_colors(training.field, surfaces)
    field = training.field
    network = [p for n, p in field.named_parameters() if n.startswith(("layer", "bias"))]
    groups = [{"params": [field.planes], "base": config.plane_rate}, {"params": network, "base": config.network_rate}]
    optimiser = torch.optim.Adam(groups, lr=0.0, betas=(0.9, 0.99), eps=1e-15, fused=True)
    for step in range(config.steps):
        rate = min(1.0, (step + 1) / WARMUP) * config.final_rate ** (step / config.steps)
        for group in optimiser.param_groups:
            group["lr"] = group["base"] * rate
        loss = _step_loss(training, config, surfaces, generator)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    return before, color_error(training, surfaces)


@torch.no_grad()
def look_up(training: AvatarTraining, config: SurfaceFitConfig, generator: torch.Generator) -> list[Surface]:
    """The samples that carry weight now, of the rays that meet the head in frame and field."""
    sampler = training.samplers[min(training.samplers)]
    found = []
    for _ in range(math.ceil(config.frames / config.frames_per_step)):
        batch = sampler.draw(config.rays * config.frames_per_step, config.frames_per_step, generator)
        conditions = training.field.frame_conditions(training.motion[batch.frames], training.rotvec[batch.frames])
        lenses = training.lenses[batch.frames] * (batch.size_px / training.frames.size_px)
        carried = carried_samples(
            training.field,
            conditions,
            batch,
            training.cameras[batch.frames],
            lenses,
            training.occupancy,
            training.tracker,
            generator,
        )
        solid = (carried.opacity > SOLID) & (batch.head > HEAD_COVER * batch.rgba[:, 3]) & (batch.head > HEAD_COVER)
        wanted = batch.rgba[:, :3] / batch.rgba[:, 3:].clamp(min=1e-3)
        for place, index in enumerate(batch.frames.tolist()):
            rays = solid & (batch.frame_of_ray == place)
            kept = rays[carried.ray] & (carried.weight > LEAST_WEIGHT)
            if not bool(kept.any()):
                continue
            number = rays.cumsum(0) - 1
            moved = carried.points[kept]
            moved = moved + training.field.displacement(moved, [len(moved)], conditions.warp[place : place + 1])
            ray, weight = carried.ray[kept], carried.weight[kept]
            sums = torch.zeros(len(carried.opacity)).index_add(0, ray, weight)
            found.append(
                Surface(
                    moved,
                    number[ray],
                    weight / sums[ray],
                    _outputs(training.field, moved, conditions, place),
                    wanted[rays],
                    index,
                )
            )
    return found


def color_error(training: AvatarTraining, surfaces: list[Surface]) -> float:
    """Mean squared error of the rays' colors, over the frames."""
    errors = []
    with torch.no_grad():
        for surface in surfaces:
            chosen = torch.tensor([surface.frame])
            conditions = training.field.frame_conditions(training.motion[chosen], training.rotvec[chosen])
            raw = _outputs(training.field, surface.points, conditions, 0)
            errors.append(float((_composed(surface, raw) - surface.wanted).square().mean()))
    return sum(errors) / len(errors)


def map_colors(field: RadianceField, surfaces: list[Surface]) -> None:
    """Give the output layer the affine map of color logits that takes the rays' mean and covariance to the frames'.

    Of all maps that do, the one that moves colors least (Pitie and Kokaram 2007). A least-squares map would lose
    contrast wherever the starting face does not quite lie on the new one.
    """
    shown, wanted = (
        torch.logit(torch.cat(colors).clamp(LEAST_COLOR, 1 - LEAST_COLOR)).double()
        for colors in ([_composed(s, s.raw) for s in surfaces], [s.wanted for s in surfaces])
    )
    spreads = [torch.cov(colors.t()) + LEAST_VARIANCE * torch.eye(3, dtype=torch.float64) for colors in (shown, wanted)]
    root = _power(spreads[0], 0.5)
    back = _power(spreads[0], -0.5)
    turn = (back @ _power(root @ spreads[1] @ root, 0.5) @ back).float()
    shift = wanted.mean(0).float() - turn @ shown.mean(0).float()
    with torch.no_grad():
        field.layer3.weight[1:] = turn @ field.layer3.weight[1:]
        field.layer3.bias[1:] = turn @ field.layer3.bias[1:] + shift


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """Of a symmetric positive matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    made: Tensor = vectors @ torch.diag(values.clamp(min=1e-9) ** exponent) @ vectors.t()
    return made


def _step_loss(
    training: AvatarTraining, config: SurfaceFitConfig, surfaces: list[Surface], generator: torch.Generator
) -> Tensor:
    """Of some frames: color error, and how far densities went from what they were."""
    picked = torch.randperm(len(surfaces), generator=generator)[: config.frames_per_step].tolist()
    parts = [surfaces[i] for i in picked]
    frames = torch.tensor([part.frame for part in parts])
    rotations = training.rotvec[frames].clone()
    foreign = len(parts) // 2
    most = torch.tensor([TURN_DEG[1], TURN_DEG[0], 0.0]) * (math.pi / 180)
    rotations[:foreign] = (2 * torch.rand(foreign, 3, generator=generator) - 1) * most
    conditions = training.field.frame_conditions(training.motion[frames], rotations)
    counts = [len(part.points) for part in parts]
    with torch.autocast("cpu", torch.bfloat16, enabled=AUTOCAST):
        features = training.field.plane_features(torch.cat([part.points for part in parts]))
        raw = training.field.outputs(features, counts, conditions)
    total = raw.new_zeros(())
    for part, found in zip(parts, raw.split(counts), strict=True):
        error = (_composed(part, found) - part.wanted).square()
        total = total + ((error + CHARBONNIER_EPS**2).sqrt() - CHARBONNIER_EPS).mean() * (2 * CHARBONNIER_EPS)
        total = total + config.density * (found[:, 0] - part.raw[:, 0]).square().mean()
    return total / len(parts)


def _outputs(field: RadianceField, points: Tensor, conditions: FrameConditions, place: int) -> Tensor:
    """(N, 4) at canonical points of one frame."""
    frame = FrameConditions(*(part[place : place + 1] for part in conditions))
    with torch.autocast("cpu", torch.bfloat16, enabled=AUTOCAST):
        return field.outputs(field.plane_features(points), [len(points)], frame)


def _composed(surface: Surface, raw: Tensor) -> Tensor:
    """(R, 3) colors of the rays."""
    light = surface.weight[:, None] * torch.sigmoid(raw[:, 1:])
    return torch.zeros(len(surface.wanted), 3).index_add(0, surface.ray, light)
