"""How motion appears from the side: the map and its inverse, its fit, and turned training windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from model.checkpoint import save_checkpoint
from model.diffusion.multi_view import aggregate
from model.errors import CheckpointError, DataError, InputError
from model.face.calibration import calibrate_speaker
from model.face.canonical import canonical_points
from model.face.head_pose import estimate_head_pose
from model.face.head_shape import head_angles, load_head_shape
from model.motion.space import MotionSpaceError, load_motion_space
from model.motion.view_bias import ViewBias, ViewBiasConfig, code_sizes, pose_terms
from model.training.view_bias import TrackedViews, build_view_bias, fit_view_bias, side_view_figures
from stream_server.commands import train_views
from tests.support.tracked_faces import tracked_capture

SPACE = load_motion_space()
BIAS = ViewBias.load()


def some_motion(*shape: int, seed: int = 0) -> torch.Tensor:
    motion = torch.randn(*shape, 32, generator=torch.Generator().manual_seed(seed))
    motion[..., 24:] = 0.0
    return motion


def some_poses(*shape: int, seed: int = 1) -> torch.Tensor:
    share = torch.rand(*shape, 3, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return share * torch.tensor(BIAS.config.limits_deg)


def write_bias(path: Path, slope: torch.Tensor, space_hash: str) -> Path:
    tensors = {"offset": torch.zeros(7, 20), "slope": slope}
    save_checkpoint(path, tensors, kind="view-bias", config=ViewBiasConfig(), metadata={"motion_space": space_hash})
    return path


def test_a_frontal_head_shows_motion_as_it_is() -> None:
    motion = some_motion(3, 7)
    assert torch.equal(BIAS.apparent(motion, torch.zeros(3)), motion)
    assert torch.equal(BIAS.canonical(motion, torch.zeros(3, 1, 3)), motion)


def test_canonical_undoes_apparent() -> None:
    motion, poses = some_motion(50, 6), some_poses(50, 1)
    seen = BIAS.apparent(motion, poses)
    assert (seen - motion)[..., :20].abs().max() > 0.1
    torch.testing.assert_close(BIAS.canonical(seen, poses), motion, atol=1e-4, rtol=1e-4)
    found = BIAS.canonical_array(seen.numpy(), poses.double().numpy())
    np.testing.assert_allclose(found, motion.numpy(), atol=1e-4, rtol=1e-4)


def test_a_window_has_one_pose_for_all_its_frames() -> None:
    motion, poses = some_motion(4, 6), some_poses(4)
    whole = BIAS.apparent(motion, poses[:, None])
    frame = BIAS.apparent(motion[2, 5], poses[2])
    torch.testing.assert_close(whole[2, 5], frame)


def test_lids_gaze_and_reserve_are_left_alone() -> None:
    motion, pose = some_motion(5), torch.tensor([20.0, 5.0, 2.0])
    assert torch.equal(BIAS.apparent(motion, pose)[:, 20:], motion[:, 20:])
    assert torch.equal(BIAS.canonical(motion, pose)[:, 20:], motion[:, 20:])


def test_beyond_the_measured_poses_it_stays_as_at_the_limit() -> None:
    motion = some_motion(5)
    at_limit = BIAS.apparent(motion, torch.tensor([25.0, -12.0, 8.0]))
    assert torch.equal(BIAS.apparent(motion, torch.tensor([70.0, -40.0, 30.0])), at_limit)


def test_shapes_that_are_not_motion_and_pose_are_refused() -> None:
    with pytest.raises(InputError, match=r"got \(2, 20\) and \(3,\)"):
        BIAS.apparent(torch.zeros(2, 20), torch.zeros(3))
    with pytest.raises(InputError, match=r"got \(2, 32\) and \(2, 2\)"):
        BIAS.canonical(torch.zeros(2, 32), torch.zeros(2, 2))


def test_a_map_of_another_space_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = write_bias(tmp_path / "bias.safetensors", torch.zeros(4, 20, 20), "00ff")
    with pytest.raises(MotionSpaceError, match=r"00ff.*nerf-lipsync train view-bias"):
        ViewBias.load(path)


def test_a_map_that_cannot_be_undone_is_refused(tmp_path: Path) -> None:
    slope = torch.zeros(4, 20, 20)
    slope[0, 3, 3] = -1 / 1.25 + 1e-3  # a turn of 25 degrees takes nearly all of code 3 away
    path = write_bias(tmp_path / "bias.safetensors", slope, SPACE.hash)
    with pytest.raises(CheckpointError, match=r"cannot be undone \(condition \d+"):
        ViewBias.load(path)


def test_code_sizes_are_the_landmarks_displacement() -> None:
    sizes = code_sizes(SPACE)
    units = np.eye(32, dtype=np.float32)[:16]
    moved = np.sqrt((SPACE.mouth_displacement(units) ** 2).sum(2).mean(1))
    np.testing.assert_allclose(sizes[:16], moved, rtol=1e-5)
    assert (sizes[16:20] > 0).all() and (sizes[20:] == 0).all()


def test_the_fit_finds_the_bias_and_leaves_what_does_not_depend_on_pose() -> None:
    rng = np.random.default_rng(3)
    pose = rng.uniform(-1, 1, (4000, 3)) * BIAS.config.limits_deg
    true = np.zeros((4000, 32), np.float32)
    true[:, :20] = rng.normal(size=(4000, 20))
    seen = BIAS.apparent(torch.from_numpy(true), torch.from_numpy(pose).float()).numpy()
    seen[:, :20] += 0.7 + true[:, :20] @ rng.normal(0, 0.1, (20, 20))  # how this person is read, at any pose
    seen[:, :20] += rng.normal(0, 0.01, (4000, 20))
    views = TrackedViews(seen, true, pose, np.arange(4000))
    config = ViewBiasConfig(offset_ridge=1e-3, slope_ridge=1e-6)
    offset, slope = fit_view_bias(views, SPACE, config)
    terms = pose_terms(torch.from_numpy(pose[:500]), config.limits_deg).numpy()
    found = terms @ offset + np.einsum("nj,ni,jik->nk", terms[:, :4], true[:500, :20], slope)
    wanted = BIAS.apparent(torch.from_numpy(true[:500]), torch.from_numpy(pose[:500]).float()).numpy()
    np.testing.assert_allclose(found, (wanted - true[:500])[:, :20], atol=0.02)


def synthetic_views(yaws: list[float]) -> tuple[TrackedViews, np.ndarray]:
    """Four expressions, each seen without error but for the bias."""
    true = np.repeat(some_motion(4).numpy(), len(yaws), 0)
    pose = np.tile([[yaw, 0.0, 0.0] for yaw in yaws], (4, 1))
    seen = BIAS.apparent(torch.from_numpy(true), torch.from_numpy(pose).float()).numpy()
    return TrackedViews(seen, true, pose, np.arange(len(true))), np.repeat(np.arange(4), len(yaws))


def test_corrected_views_of_one_expression_agree() -> None:
    views, expressions = synthetic_views([-20.0, 2.0, 20.0])
    figures = side_view_figures(views, expressions, BIAS, SPACE)
    for what in ("opening", "width", "landmarks"):
        assert figures[f"side_view_{what}_corrected"].value < 1e-5 < figures[f"side_view_{what}_uncorrected"].value
    assert figures["side_view_width_corrected"].n == 4


def test_views_that_are_not_turned_measure_nothing() -> None:
    views, expressions = synthetic_views([0.0, 5.0])
    with pytest.raises(DataError, match="none of 8 pictures"):
        side_view_figures(views, expressions, BIAS, SPACE)


def test_the_command_names_a_folder_that_is_no_capture(tmp_path: Path) -> None:
    group = typer.Typer()
    group.callback()(lambda: None)
    train_views.register(group)
    options = ["--capture", str(tmp_path), "--ict", "x.npz", "--face-landmarker", "x.task", "--out", "x.safetensors"]
    result = CliRunner().invoke(group, ["view-bias", *options])
    assert isinstance(result.exception, DataError) and "not a capture folder" in str(result.exception)


@pytest.mark.slow
def test_side_views_of_a_rendered_head_come_nearer_to_the_frontal_one(data_folder: Path) -> None:
    """The novel views took no part in the fit. More views, brought back and averaged, come nearer to the truth."""
    faces = tracked_capture(data_folder, "novel")
    shape = load_head_shape()
    pose = estimate_head_pose(faces.landmarks_px, shape, size=faces.size, intrinsics=faces.intrinsics)
    points = canonical_points(faces.landmarks_px, pose, shape)
    tracked = calibrate_speaker(points).motion(points, SPACE)
    angles = np.degrees(head_angles(faces.true_rotation))
    views = TrackedViews(tracked, tracked, angles, faces.rows)
    figures = side_view_figures(views, np.arange(60) // 5, BIAS, SPACE)
    assert figures["side_view_width_corrected"].value < 0.9 * figures["side_view_width_uncorrected"].value
    assert figures["side_view_landmarks_corrected"].value < 0.85 * figures["side_view_landmarks_uncorrected"].value
    assert figures["side_view_opening_corrected"].value < 1.05 * figures["side_view_opening_uncorrected"].value
    back = torch.from_numpy(BIAS.canonical_array(tracked, angles)).view(12, 5, 1, 32).transpose(0, 1)
    sizes = torch.from_numpy(code_sizes(SPACE))
    left_out = back[[0, 4]].mean(0)  # two independent readings of the same faces
    distance = [
        float(((aggregate(back[some], sizes=sizes) - left_out) * sizes).square().sum(-1).sqrt().mean())
        for some in ([2], [1, 2, 3])
    ]
    assert distance[1] < 0.95 * distance[0]


@pytest.mark.nightly
def test_the_shipped_map_is_what_the_command_makes(data_folder: Path, tmp_path: Path) -> None:
    files = (data_folder / "ict_facekit" / "ict_facekit.npz", data_folder / "weights" / "face_landmarker.task")
    bias, _ = build_view_bias(data_folder / "capture", *files, tmp_path / "bias.safetensors")
    torch.testing.assert_close(bias.offset, BIAS.offset, atol=0.02, rtol=0.05)
    torch.testing.assert_close(bias.slope, BIAS.slope, atol=0.02, rtol=0.05)
