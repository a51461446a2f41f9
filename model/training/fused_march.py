"""The training's march over rays by the differentiable kernel: one pass forward, one back, nothing kept per sample.

The same sums as `model.training.avatar_step.march` makes in plain torch, but for samples that weigh next to nothing:
those are dropped there.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kernels.backend import Backend
from kernels.ray_march.differentiable import Precision, march_rays
from kernels.ray_march.tensors import FieldTensors, FrameTensors, Rays, Volume, box_entry_exit
from model.radiance.field import FrameConditions, RadianceField
from model.radiance.occupancy import OccupancyGrid, WeightTracker

__all__ = ["MIN_TRANSMITTANCE", "Marched", "march_fused"]

MIN_TRANSMITTANCE = 2e-3


class Marched(NamedTuple):
    """Head layer of a batch, before compositing."""

    color: Tensor  # (R, 3) premultiplied
    opacity: Tensor  # (R,)
    depth: Tensor  # (R,) distance along the ray, weighted by what is seen: over `opacity` it is the surface's
    depth_spread: Tensor  # () mean over rays of the weighted depth variance, canonical units squared
    seen_samples: int
    kept_samples: int


def march_fused(
    field: RadianceField,
    conditions: FrameConditions,
    counts: list[int],  # rays of each frame
    origins: Tensor,  # (R, 3)
    directions: Tensor,  # (R, 3)
    shift: Tensor,  # (R,) 0..1, of the samples along each ray, in steps
    occupancy: OccupancyGrid,
    tracker: WeightTracker,
    *,
    precision: Precision = "bfloat16",
    backend: Backend = "auto",
) -> Marched:
    """Composite the head along rays sorted by frame; tells the tracker every weight.

    Raises:
        KernelInputError: The field has other sizes than the kernel's (48, 64, 64, 4).
    """
    volume = training_volume(field, occupancy)
    near, far = box_entry_exit(origins, directions, occupancy.box_lo, occupancy.box_hi)
    start = near + (torch.remainder(shift + 0.5, 1) - 0.5) * volume.step  # the first sample is less than a step inside
    rays = Rays(origins, directions, start, far, tuple(counts))
    sums = march_rays(
        kernel_field(field),
        kernel_frames(conditions),
        rays,
        volume,
        heaviest=tracker.weights,
        precision=precision,
        backend=backend,
    )
    opacity = 1 - sums.transmittance
    mean = (sums.distance / (opacity + 1e-6)).detach()
    spread = (sums.distance_squared - 2 * mean * sums.distance + mean**2 * opacity).mean()
    seen = (sums.distance + start * opacity).detach()
    count = int(sums.samples.sum())
    return Marched(sums.color, opacity, seen, spread, count, count)


def kernel_field(field: RadianceField) -> FieldTensors:
    """The module's parameters as the kernel names them."""
    return FieldTensors(field.planes, field.layer1.weight, field.layer2.weight, field.layer3.weight, field.layer3.bias)


def kernel_frames(conditions: FrameConditions) -> FrameTensors:
    """Warp grids with x first and the displacement last."""
    return FrameTensors(conditions.bias1, conditions.bias2, conditions.warp.permute(0, 4, 3, 2, 1).contiguous())


def training_volume(field: RadianceField, occupancy: OccupancyGrid, termination: float = MIN_TRANSMITTANCE) -> Volume:
    """The occupancy with the field's constants; made once for each grid, for its distances take a while."""
    made = occupancy.volumes.get(termination)
    if made is None:
        config = field.config
        made = Volume(
            occupancy.occupied,
            config.warp_lo,
            config.warp_hi,
            density_scale=config.density_scale,
            step=config.step,
            termination=termination,
        )
        occupancy.volumes[termination] = made
    return made
