"""Training from video: which frames are chosen, what corrections do, which colors border pixels get."""

from __future__ import annotations

import numpy as np
import torch

from model.training.refinement import Refinement, RefinementConfig
from model.training.video_avatar import VIDEO_PRESETS
from model.training.video_frames import CROP_PX, farthest_points, head_cover, spread_inside


def test_rare_frames_are_chosen_before_repeated_ones() -> None:
    points = np.zeros((100, 2), np.float32)
    points[40], points[70] = (5, 0), (0, 7)
    chosen = farthest_points(points, 3, np.array([0]))
    assert chosen.tolist() == [0, 40, 70]


def test_no_more_frames_are_chosen_than_there_are() -> None:
    assert len(farthest_points(np.eye(3, dtype=np.float32), 10, np.array([0]))) == 3


def test_corrections_change_nothing_at_first() -> None:
    refinement = Refinement(4, torch.tensor([0, 0, 1, 1]))
    cameras, frames = torch.randn(4, 3, 4), torch.arange(4)
    assert torch.allclose(refinement.cameras(cameras, frames), cameras)
    color = torch.rand(4, 3)
    assert torch.equal(refinement.exposed(color, torch.ones(4, 1), frames), color)
    assert refinement.prior(RefinementConfig(), frames).item() == 0


def test_a_pose_correction_turns_the_whole_camera_and_keeps_its_distance() -> None:
    refinement = Refinement(1, torch.zeros(1, dtype=torch.long))
    with torch.no_grad():
        refinement.pose[0, 1] = 0.1
    cameras = torch.randn(1, 3, 4)
    turned = refinement.cameras(cameras, torch.tensor([0]))
    assert torch.allclose(turned.norm(dim=1), cameras.norm(dim=1), atol=1e-6)
    assert not torch.allclose(turned, cameras)


def test_the_backdrop_does_not_color_the_border() -> None:
    color = np.zeros((16, 16, 3), np.uint8)
    color[:, :8], color[:, 8:] = (200, 100, 50), (0, 0, 255)
    alpha = np.zeros((16, 16), np.uint8)
    alpha[:, :8], alpha[:, 8] = 255, 128
    spread = spread_inside(color, alpha)
    assert np.allclose(spread[:, 8], (200, 100, 50), atol=0.5)


def test_the_faint_half_of_a_soft_edge_belongs_to_what_it_borders_on() -> None:
    """Head above, torso below, both with a rim of two pixels that is more backdrop than person."""
    alpha, labels = np.zeros((16, 16), np.uint8), np.zeros((16, 16), np.uint8)
    alpha[:, :8], alpha[:, 8:10] = 255, (100, 40)
    labels[:8, :8], labels[8:, :8], labels[4, 4] = 1, 2, 3
    cover = head_cover(alpha, labels)
    assert (cover[:8] == alpha[:8]).all()
    assert (cover[8:, :8] == 0).all() and (cover[10:] == 0).all()


def test_every_preset_trains_at_a_size_that_prepared_pictures_have() -> None:
    for preset in VIDEO_PRESETS.values():
        assert preset.training.size_px in (CROP_PX, CROP_PX // 2)
