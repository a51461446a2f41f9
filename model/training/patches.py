"""Whole small patches around the mouth, so that edges count and not only single pixels: lips, teeth, lid lines.

Random rays leave a field that is right on average and soft at edges. A patch is compared by its differences between
neighbours, at two scales.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from model.training.avatar_step import Stage
from model.training.fused_march import Marched
from model.training.ray_sampling import RayBatch, RaySampler

SCALES = (1, 2)


def mouth_patch(sampler: RaySampler, patch_px: int, generator: torch.Generator) -> RayBatch:
    """One frame's square of `patch_px` around its mouth, or (one in four) around an eye, moved by up to a quarter."""
    frame = torch.multinomial(sampler.weights * sampler.has_torso, 1, generator=generator)
    index, size = int(frame), sampler.frames.size_px
    boxes = [sampler.frames.mouth_box[index]] * 6 + list(sampler.frames.eye_boxes[index])
    box = boxes[int(torch.randint(len(boxes), (), generator=generator))]
    middle = torch.tensor([(box[1] + box[3]) / 2, (box[0] + box[2]) / 2])
    moved = middle + (torch.rand(2, generator=generator) - 0.5) * 0.5 * patch_px
    start = (moved - patch_px / 2).round().long().clamp(0, size - patch_px)
    axis = torch.arange(patch_px)
    pixels = ((start[0] + axis)[:, None] * size + start[1] + axis[None]).reshape(-1)
    return sampler.batch(frame, [pixels])


def patch_loss(marched: Marched, batch: RayBatch, stage: Stage, patch_px: int) -> Tensor:
    """Mean absolute error of neighbour differences, at each of `SCALES`, over grey."""
    background = torch.full((len(batch.rows), 3), 0.5, device=batch.rgba.device)
    predicted = stage.compose(marched, batch, background)
    wanted = batch.rgba[:, :3] + (1 - batch.rgba[:, 3:]) * background
    error = (predicted - wanted).t().reshape(1, 3, patch_px, patch_px)
    total = error.new_zeros(())
    for scale in SCALES:
        coarse = functional.avg_pool2d(error, scale) if scale > 1 else error
        total = total + coarse.diff(dim=2).abs().mean() + coarse.diff(dim=3).abs().mean()
    return total
