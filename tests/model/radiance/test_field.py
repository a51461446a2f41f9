"""The field: conditioning, warp, occupancy, and the kernel on exported arrays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from model.avatar import Avatar
from model.errors import InputError
from model.radiance.camera import HeadPose
from model.radiance.compositor import Background, compose_underlay, resize_area
from model.radiance.config import FieldConfig
from model.radiance.export import field_from_arrays
from model.radiance.field import FrameConditions, RadianceField
from model.radiance.occupancy import OccupancyGrid, WeightTracker, close_gaps, dilate
from model.radiance.renderer import Intrinsics, render_reference
from model.radiance.serving import AvatarRenderer, FieldConditioner, field_arrays


def test_conditioning_changes_density_and_color(tiny_field_config: FieldConfig) -> None:
    torch.manual_seed(0)
    field = RadianceField(tiny_field_config)
    points = torch.rand(20, 3) - 0.5
    still = field.frame_conditions(torch.zeros(1, 32), torch.zeros(1, 3))
    moved = field.frame_conditions(torch.ones(1, 32), torch.zeros(1, 3))
    turned = field.frame_conditions(torch.zeros(1, 32), torch.full((1, 3), 0.2))
    base = field.raw_output(points, [20], still)
    assert not torch.allclose(base, field.raw_output(points, [20], moved))
    assert not torch.allclose(base, field.raw_output(points, [20], turned))


def test_samples_of_several_frames_read_their_own_conditions(tiny_field_config: FieldConfig) -> None:
    torch.manual_seed(0)
    field = RadianceField(tiny_field_config)
    torch.nn.init.normal_(field.warp_basis, std=0.05)
    motion, rotvec = torch.randn(3, 32), torch.randn(3, 3) * 0.1
    points = torch.rand(30, 3) * 2 - 1
    together = field.raw_output(points, [10, 0, 20], field.frame_conditions(motion, rotvec))
    first = field.raw_output(points[:10], [10], field.frame_conditions(motion[:1], rotvec[:1]))
    last = field.raw_output(points[10:], [20], field.frame_conditions(motion[2:], rotvec[2:]))
    torch.testing.assert_close(together, torch.cat([first, last]))


def test_a_constant_warp_shifts_the_planes(tiny_field_config: FieldConfig) -> None:
    torch.manual_seed(0)
    field = RadianceField(tiny_field_config)
    still = field.frame_conditions(torch.zeros(1, 32), torch.zeros(1, 3))
    shift = torch.tensor([0.1, -0.05, 0.02])
    shifted = still._replace(warp=shift.view(1, 3, 1, 1, 1).expand_as(still.warp))
    points = torch.rand(20, 3) - 0.5
    torch.testing.assert_close(field.raw_output(points, [20], shifted), field.raw_output(points + shift, [20], still))


def test_numpy_conditions_equal_the_modules(avatar: Avatar) -> None:
    field = field_from_arrays(RadianceField(avatar.config.field_config), avatar.arrays)
    motion, rotvec = np.random.default_rng(0).normal(0, 1, 32).astype(np.float32), np.float32([0.1, -0.2, 0.05])
    wanted = field.frame_conditions(torch.from_numpy(motion)[None], torch.from_numpy(rotvec)[None])
    bias1, bias2, warp = FieldConditioner(avatar.config, avatar.arrays).conditions(motion, rotvec)
    np.testing.assert_allclose(bias1, wanted.bias1[0].detach(), atol=1e-5)
    np.testing.assert_allclose(bias2, wanted.bias2[0].detach(), atol=1e-5)
    np.testing.assert_allclose(warp.transpose(3, 2, 1, 0), wanted.warp[0].detach(), atol=1e-5)


def test_kernel_draws_what_the_torch_reference_draws(avatar: Avatar) -> None:
    renderer = AvatarRenderer(avatar, size_px=32)
    motion = np.random.default_rng(1).normal(0, 1, 32).astype(np.float32)
    inputs = renderer.conditioner.frame_inputs(motion, HeadPose(yaw_deg=12, roll_deg=4), 32)
    found = renderer.marcher.render(inputs)
    field = field_from_arrays(RadianceField(avatar.config.field_config), avatar.arrays).requires_grad_(False)
    warp = torch.from_numpy(np.ascontiguousarray(inputs.warp.transpose(3, 2, 1, 0)))[None]
    conditions = FrameConditions(torch.from_numpy(inputs.bias1)[None], torch.from_numpy(inputs.bias2)[None], warp)
    wanted, _ = render_reference(
        field,
        OccupancyGrid(torch.from_numpy(field_arrays(avatar).occupancy)),
        conditions,
        torch.from_numpy(inputs.cam_to_canonical),
        Intrinsics(inputs.fx, inputs.fy, inputs.cx, inputs.cy),
        32,
    )
    assert float(wanted[..., 3].max()) > 0.9
    assert -10 * np.log10(np.mean((found - wanted.numpy()) ** 2) + 1e-12) > 50


def test_renderer_makes_i420_and_motion_changes_it(avatar: Avatar) -> None:
    renderer = AvatarRenderer(avatar, size_px=32, background=Background(top=(0, 0, 0), bottom=(0, 0, 0)))
    rest = renderer.render(np.zeros(32, np.float32), HeadPose()).copy()
    assert rest.shape == (48, 32)
    assert rest.dtype == np.uint8
    assert (renderer.render(np.full(32, 2, np.float32), HeadPose()) != rest).any()
    np.testing.assert_array_equal(renderer.render(np.zeros(32, np.float32), HeadPose()), rest)


def test_bad_motion_is_refused(avatar: Avatar) -> None:
    conditioner = FieldConditioner(avatar.config, avatar.arrays)
    with pytest.raises(InputError, match="32"):
        conditioner.frame_inputs(np.zeros(31, np.float32), HeadPose(), 32)
    with pytest.raises(InputError):
        conditioner.frame_inputs(np.full(32, np.nan, np.float32), HeadPose(), 32)


def test_tracker_keeps_the_largest_weight_and_forgets() -> None:
    tracker = WeightTracker(4)
    tracker.observe(torch.tensor([5, 5, 9]), torch.tensor([0.2, 0.6, 0.01]))
    grid = tracker.grid(0.05, dilation=0, decay=0.05)
    assert grid.occupied.sum() == 1
    assert bool(grid.contains(torch.tensor([[-0.9, -0.4, -0.4]]))[0])
    assert tracker.grid(0.05, dilation=0).occupied.sum() == 0


def test_refined_tracker_covers_the_same_space() -> None:
    tracker = WeightTracker(4)
    tracker.observe(torch.tensor([21]), torch.tensor([1.0]))
    coarse = tracker.grid(0.5, dilation=0)
    tracker.refine()
    fine = tracker.grid(0.5, dilation=0)
    assert fine.size == 8
    torch.testing.assert_close(coarse.box_lo, fine.box_lo)
    torch.testing.assert_close(coarse.box_hi, fine.box_hi)


def test_dilation_and_closing() -> None:
    grid = torch.zeros(5, 5, 5, dtype=torch.bool)
    grid[2, 2, 2] = True
    assert dilate(grid, 1).sum() == 27
    shell = dilate(grid, 1).clone()
    shell[2, 2, 2] = False
    assert bool(close_gaps(shell)[2, 2, 2])


def test_resize_keeps_the_mean_and_a_plain_color() -> None:
    picture = np.random.default_rng(0).random((12, 12, 3)).astype(np.float32)
    assert abs(resize_area(picture, 5).mean() - picture.mean()) < 1e-5
    np.testing.assert_allclose(resize_area(np.full((8, 8, 1), 0.5, np.float32), 20), 0.5, atol=1e-6)


def test_underlay_is_torso_over_background() -> None:
    torso = np.zeros((8, 8, 4), np.uint8)
    torso[4:] = (10, 20, 30, 255)
    under = compose_underlay(torso, Background(top=(200, 100, 50), bottom=(200, 100, 50)), 4)
    np.testing.assert_array_equal(under[0, 0], [200, 100, 50])
    np.testing.assert_array_equal(under[3, 3], [10, 20, 30])


def test_avatar_config_is_hashable_by_background(avatar: Avatar) -> None:
    renderer = AvatarRenderer(avatar, size_px=32)
    dark = replace(avatar.config.background, top=(0, 0, 0))
    assert renderer.underlay(dark) is renderer.underlay(replace(avatar.config.background, top=(0, 0, 0)))
