"""Training on a tiny capture: it learns, resumes exactly, and exports an avatar that renders."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from model.avatar import load_avatar
from model.data.capture import Capture, CaptureFrames, load_motion
from model.errors import DataError
from model.radiance.camera import CameraConfig, HeadPose
from model.radiance.config import FieldConfig
from model.radiance.serving import AvatarRenderer
from model.training.avatar import AvatarTraining, AvatarTrainingConfig, run_training
from model.training.avatar_export import CRUMB_SHARE, back_up, export_avatar, without_crumbs
from model.training.avatar_step import LossWeights, RayEmphasis, Stage, composite_loss
from model.training.fused_march import Marched

TINY = AvatarTrainingConfig(
    steps=60,
    size_px=32,
    frames_per_step=4,
    samples_per_step=4000,
    max_rays=256,
    grid_size=16,
    prune_start=20,
    prune_every=10,
    warmup_steps=5,
    losses=LossWeights(depth_spread=0.01),  # a blob of a few voxels is deep
    log_every=10,
    save_every=1000,
)


@pytest.fixture
def config(tiny_field_config: FieldConfig) -> AvatarTrainingConfig:
    return dataclasses.replace(TINY, field=dataclasses.replace(tiny_field_config, step=0.06))


def test_training_learns_the_picture(
    config: AvatarTrainingConfig, tiny_frames: CaptureFrames, camera: CameraConfig
) -> None:
    training = AvatarTraining(dataclasses.replace(config, steps=130, decay_start=0.9), tiny_frames, camera)
    psnr = [training.train_step()["psnr"] for _ in range(130)]
    assert np.mean(psnr[-10:]) > np.mean(psnr[:5]) + 5, [round(p, 1) for p in psnr[::10]]


def test_foreign_rotations_teach_silhouettes_above_the_chin_only(
    config: AvatarTrainingConfig, tiny_frames: CaptureFrames, camera: CameraConfig
) -> None:
    training = AvatarTraining(config, tiny_frames, camera)
    batch = training.samplers[32].draw(400, 4, torch.Generator().manual_seed(0))
    emphasis = training._emphasis(batch)
    foreign = sum(batch.counts[:2])
    assert bool((emphasis.color[foreign:] == 1).all())
    assert float(emphasis.color[:foreign].max()) == pytest.approx(0.1)
    assert not emphasis.opacity[:foreign][batch.rows[:foreign] > 26].any()


def test_resuming_equals_not_stopping(
    config: AvatarTrainingConfig, tiny_frames: CaptureFrames, camera: CameraConfig, tmp_path: Path
) -> None:
    whole = AvatarTraining(config, tiny_frames, camera)
    for _ in range(24):
        whole.train_step()
    first = AvatarTraining(config, tiny_frames, camera)
    for _ in range(12):
        first.train_step()
    first.save(tmp_path / "state.safetensors")
    second = AvatarTraining(config, tiny_frames, camera)
    second.load(tmp_path / "state.safetensors")
    for _ in range(12):
        second.train_step()
    assert second.step == whole.step
    for name, value in whole.modules.state_dict().items():
        torch.testing.assert_close(second.modules.state_dict()[name], value, rtol=0, atol=0)
    assert bool((second.occupancy.occupied == whole.occupancy.occupied).all())


def test_half_size_comes_first(config: AvatarTrainingConfig, tiny_frames: CaptureFrames, camera: CameraConfig) -> None:
    training = AvatarTraining(dataclasses.replace(config, half_size_share=0.5), tiny_frames, camera)
    assert sorted(training.samplers) == [16, 32]
    training.train_step()


def test_the_whole_way_to_a_folder(
    capture_folder: Path, camera: CameraConfig, tiny_motion: np.ndarray, tmp_path: Path
) -> None:
    """Kernel sizes, a few steps: curve written, avatar loads, renders, describes itself."""
    capture = Capture.open(capture_folder)
    frames = capture.frames("train", 32, tiny_motion, tmp_path / "cache")
    field = FieldConfig(resolution=8, warp_shape=(4, 4, 4), warp_bases=10)
    settings = dataclasses.replace(TINY, steps=30, field=field)
    training = AvatarTraining(settings, frames, camera)
    run_training(training, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run/curve.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 30]
    folder = tmp_path / "avatar"
    export_avatar(training, folder, name="tiny", motion_space="m", licence="none", provenance="test")
    avatar = load_avatar(folder, motion_space="m")
    assert (folder / "preview.jpg").is_file()
    picture = AvatarRenderer(avatar, size_px=32).render(np.zeros(32, np.float32), HeadPose())
    assert picture.shape == (48, 32)


def test_matter_is_backed_away_from_the_cameras() -> None:
    grid = torch.zeros(7, 7, 7, dtype=torch.bool)
    grid[3, 3, 5] = True
    backed = back_up(grid, 2)
    assert backed[3, 3].nonzero()[:, 0].tolist() == [1, 2, 3, 4, 5]
    assert bool(backed[2, 3, 3])
    assert not backed[:, :, 6].any()


def test_specks_in_the_air_are_not_served() -> None:
    grid = torch.zeros(16, 16, 16, dtype=torch.bool)
    grid[2:8, 2:8, 2:8] = True  # the head
    grid[8, 8, 8] = True  # touches it by a corner
    head = grid.clone()
    grid[13, 13, 13] = True
    assert CRUMB_SHARE * float(head.sum()) > 1
    assert torch.equal(without_crumbs(grid), head)
    assert not without_crumbs(torch.zeros_like(grid)).any()


def test_faint_specks_and_what_is_missing_are_felt_as_much_as_they_grow(
    config: AvatarTrainingConfig, tiny_frames: CaptureFrames, camera: CameraConfig
) -> None:
    """By squares alone a speck of 1 % opacity has a hundredth of an opaque one's pull, and empty hair hardly grows.

    Densities come from a softplus: what is felt there is the opacity's gradient times about the opacity itself.
    """
    training = AvatarTraining(config, tiny_frames, camera)
    batch = training.samplers[32].draw(400, 2, torch.Generator().manual_seed(0))
    rays = len(batch.rows)
    emphasis = RayEmphasis(torch.ones(rays), torch.ones(rays))
    pull = {}
    for weights in (LossWeights(), LossWeights(empty=0.03, missing=0.02)):
        opacity = torch.full((rays,), 0.01, requires_grad=True)
        marched = Marched(batch.rgba[:, :3] * 0, opacity, torch.zeros(rays), torch.zeros(()), 0, 0)
        stage = Stage(training.torso, training.poses[batch.frames])
        flat = torch.zeros(len(batch.counts), 3)  # a black backdrop: color does not depend on opacity
        loss, _ = composite_loss(marched, batch, stage, flat, weights, emphasis)
        (gradient,) = torch.autograd.grad(loss * rays, opacity)
        pull[weights.empty] = gradient
    gained, background = pull[0.03] - pull[0.0], (batch.head == 0) & (batch.rgba[:, 3] == 0)
    torch.testing.assert_close(gained[batch.head == 0], torch.full_like(gained[batch.head == 0], 0.03))
    assert float(pull[0.0][background].abs().max()) < 0.005
    assert float(gained[batch.head == 1].max()) == pytest.approx(-0.02 / 0.011, rel=1e-3)


def test_what_the_head_hides_of_the_torso_does_not_drift(
    config: AvatarTrainingConfig, tiny_frames: CaptureFrames, camera: CameraConfig
) -> None:
    """Through a nearly opaque head comes next to no gradient; Adam made full steps of it."""
    training = AvatarTraining(dataclasses.replace(config, fit_outline=True), tiny_frames, camera)
    before = training.torso.rgba.detach().clone()
    for parameter in training.torso.parameters():
        parameter.grad = torch.zeros_like(parameter)
    assert training.torso.rgba.grad is not None
    training.torso.rgba.grad[:16] = 1e-9
    training.torso.rgba.grad[16:] = 1e-5
    training._set_rates(0.0)
    training.optimiser.step()
    moved = (training.torso.rgba.detach() - before).abs()
    assert float(moved[16:].min()) > 20 * float(moved[:16].max())


def test_cached_pictures_equal_fresh_ones(capture_folder: Path, tiny_motion: np.ndarray, tmp_path: Path) -> None:
    capture = Capture.open(capture_folder)
    fresh = capture.frames("train", 16, tiny_motion, tmp_path / "cache")
    again = capture.frames("train", 16, tiny_motion, tmp_path / "cache")
    np.testing.assert_array_equal(fresh.rgba, again.rgba)
    np.testing.assert_array_equal(fresh.head, again.head)


def test_captures_and_motion_files_that_are_not(capture_folder: Path, tiny_motion: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a capture"):
        Capture.open(tmp_path)
    with pytest.raises(DataError, match="8 frames, the motion file 7"):
        Capture.open(capture_folder).frames("train", 16, tiny_motion[:7])
    (capture_folder / "train/3.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="damaged"):
        Capture.open(capture_folder).frames("train", 16, tiny_motion)
    with pytest.raises(DataError, match="cannot read"):
        load_motion(tmp_path / "none.npz")
