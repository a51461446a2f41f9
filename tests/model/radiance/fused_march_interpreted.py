"""The kernel's march against plain torch's on a tiny field; test_fused_march.py runs this in its own process."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from kernels.ray_march.synthetic import look_at
from model.avatar import Avatar
from model.motion.retarget import Retarget
from model.radiance.config import FieldConfig
from model.radiance.field import RadianceField
from model.radiance.occupancy import OccupancyGrid, WeightTracker
from model.radiance.torso import TorsoLayer
from model.training import avatar_step, rendered_frames
from model.training.avatar_step import LossWeights, RayEmphasis, Stage, batch_rays, composite_loss, march
from model.training.fused_march import Marched, march_fused
from model.training.ray_sampling import RayBatch
from model.training.rendered_frames import AvatarFrames
from model.training.rendered_views import box_view

COUNTS = [5, 4]
SIZE_PX = 8


def tiny_field() -> RadianceField:
    torch.manual_seed(3)
    field = RadianceField(FieldConfig(resolution=8, warp_shape=(4, 5, 3), warp_bases=3, step=0.3))
    with torch.no_grad():
        field.warp_basis.normal_(0, 0.02)
        field.layer3.bias[0] = -1.5
    return field


def tiny_batch() -> RayBatch:
    generator = torch.Generator().manual_seed(1)
    total = sum(COUNTS)
    rgba = torch.rand(total, 4, generator=generator)
    return RayBatch(
        frames=torch.arange(2),
        counts=COUNTS,
        rows=torch.randint(SIZE_PX, (total,), generator=generator),
        columns=torch.randint(SIZE_PX, (total,), generator=generator),
        rgba=rgba,
        head=rgba[:, 3],
        size_px=SIZE_PX,
        has_torso=torch.ones(2),
        sure=torch.ones(total, dtype=torch.bool),
    )


@pytest.mark.parametrize("dropped", [False, True])
def test_both_give_the_same_loss_and_gradients(dropped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32; exactly but for rounding if torch drops nothing, to a hundredth as it trains."""
    monkeypatch.setattr(avatar_step, "AUTOCAST", False)
    if not dropped:
        monkeypatch.setattr(avatar_step, "KEEP_ANYWAY", 2.0)
    batch, occupancy = tiny_batch(), OccupancyGrid(torch.ones(4, 4, 4, dtype=torch.bool))
    motion = torch.randn(2, 32, generator=torch.Generator().manual_seed(2))
    lenses = torch.tensor([[11.0, 10.0, 4.2, 3.9]]).expand(2, 4)
    views = [look_at(yaw=0.2, pitch=0.1, distance=3.0), look_at(yaw=-0.3, pitch=0.2, distance=2.5)]
    found = []
    for fused in (False, True):
        field, tracker = tiny_field(), WeightTracker(4)
        cameras = torch.from_numpy(np.stack(views)).requires_grad_()
        conditions = field.frame_conditions(motion, 0.1 * motion[:, :3])
        if fused:
            shift = torch.rand(sum(COUNTS), 1, generator=torch.Generator().manual_seed(9))[:, 0]
            rays = batch_rays(batch, cameras, lenses)
            how = {"precision": "float32", "backend": "triton"}
            marched = march_fused(field, conditions, COUNTS, *rays, shift, occupancy, tracker, **how)
        else:
            generator = torch.Generator().manual_seed(9)
            marched = march(field, conditions, batch, cameras, lenses, occupancy, tracker, generator)
        found.append(outcome(marched, batch, field, cameras, tracker))
    tolerance = 1e-2 if dropped else 2e-4
    for name, wanted in found[0].items():
        error, norm = float((found[1][name] - wanted).norm()), float(wanted.norm())
        assert error <= tolerance * norm + 1e-9, f"{name}: off by {error / norm:.2g}"


def outcome(
    marched: Marched, batch: RayBatch, field: RadianceField, cameras: torch.Tensor, tracker: WeightTracker
) -> dict[str, torch.Tensor]:
    """Loss, weights seen and every gradient by name."""
    stage = Stage(TorsoLayer(torch.zeros(SIZE_PX, SIZE_PX, 4)), torch.zeros(2, 6))
    ones = torch.ones(sum(COUNTS))
    loss, _ = composite_loss(marched, batch, stage, torch.full((2, 3), 0.3), LossWeights(), RayEmphasis(ones, ones))
    loss.backward()
    grads = {name: p.grad for name, p in field.named_parameters()}
    return {
        "loss": loss.detach(),
        "weights": tracker.weights,
        "cameras": cameras.grad,
        "depth": marched.depth.detach(),
        **grads,
    }


def test_rendered_frames_are_the_same_by_either_way(avatar: Avatar, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures, and the motion's gradient: for rendered-frame losses. Torch keeps the shell of its probes only."""
    monkeypatch.setattr(rendered_frames, "MIN_PROBE_WEIGHT", -1.0)
    monkeypatch.setattr(rendered_frames, "MIN_WEIGHT", 0.0)
    coarse = dataclasses.replace(avatar.config.field_config, step=0.25)
    avatar = dataclasses.replace(avatar, config=dataclasses.replace(avatar.config, field_config=coarse))
    view = box_view((0.3, 0.2, 0.7, 0.7), height_px=3, width_px=4)
    frames = AvatarFrames(avatar, view, Retarget.identity())
    start = 0.3 * torch.randn(2, 32, generator=torch.Generator().manual_seed(5))
    shade = torch.randn(2 * 12, 3, generator=torch.Generator().manual_seed(6))
    pictures, grads = [], []
    for fused in (False, True):
        motion = start.clone().requires_grad_()
        if fused:
            made = frames._render_fused(frames._conditions(motion), precision="float32", backend="triton")
        else:
            made = frames._render(motion)
        (made * shade).sum().backward()
        pictures.append(made.detach())
        grads.append(motion.grad)
    torch.testing.assert_close(pictures[1], pictures[0], atol=3e-3, rtol=0)
    assert float((grads[1] - grads[0]).norm()) < 0.03 * float(grads[0].norm())
