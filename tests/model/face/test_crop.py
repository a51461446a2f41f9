"""The face crop: where it lies, what it keeps, and that pictures, points and cameras agree."""

from __future__ import annotations

import numpy as np
import pytest

from model.face.crop import CropError, plan_crop
from model.motion.space import load_motion_space
from tests.support.closeness import assert_close

PICTURE = (1000, 1000)
TEMPLATE = load_motion_space().template * np.array([1, -1, 1], np.float32)


def _clip(centres: np.ndarray, scale: float = 45.0) -> np.ndarray:
    """Landmarks (T, 478, 3) of a still frontal face whose middle is at `centres` (T, 2)."""
    points = np.repeat(TEMPLATE[None] * scale, len(centres), 0)
    points[..., :2] += centres[:, None].astype(np.float32)
    return points.astype(np.float32)


def test_a_head_that_nods_a_little_has_one_box() -> None:
    sway = np.stack([3 * np.sin(np.arange(50) / 5), 4 * np.cos(np.arange(50) / 7)], 1) + 200
    crop = plan_crop(_clip(sway), PICTURE)
    assert crop.fixed
    assert (crop.matrices == crop.matrices[0]).all()


def test_landmarks_hair_and_chin_are_inside() -> None:
    walk = np.stack([np.linspace(120, 500, 100), np.full(100, 240.0)], 1)
    clip = _clip(walk)
    crop = plan_crop(clip, PICTURE)
    assert not crop.fixed
    inside = crop.points(clip)[..., :2]
    height = inside[:, 152, 1] - inside[:, 10, 1]
    assert inside.min() >= 0 and inside.max() <= 256
    assert (inside[:, 10, 1] - 0.34 * height >= 0).all()  # room for hair
    assert (256 - inside[:, 152, 1] >= 0.07 * height).all()
    steps = np.diff(crop.matrices[:, 0, 2])
    assert np.abs(steps).max() < 3 * np.abs(np.diff(walk[:, 0])).max() and np.abs(np.diff(steps)).max() < 1.0


def test_a_jump_of_the_head_is_followed_and_size_kept() -> None:
    centres = np.full((60, 2), 200.0)
    centres[30:] += 150
    crop = plan_crop(_clip(centres), PICTURE)
    assert (crop.matrices[:, 0, 0] == crop.matrices[0, 0, 0]).all()
    assert crop.points(_clip(centres))[..., :2].max() <= 256


def test_the_square_is_shifted_into_the_picture_if_the_head_allows() -> None:
    low = _clip(np.array([[200.0, 300.0]] * 3))
    crop = plan_crop(low, (400, 400))
    corners = crop.source_points(np.repeat(np.array([[[0, 0], [256, 256]]], np.float32), 3, 0))[0]
    assert crop.fixed
    np.testing.assert_allclose(corners[1, 1], 400, atol=1e-3)
    free = plan_crop(low, (800, 400))
    assert (free.source_points(np.full((3, 1, 2), 256, np.float32))[0, 0, 1]) > 405


def test_points_go_there_and_back() -> None:
    clip = _clip(np.stack([np.linspace(100, 400, 40), np.linspace(300, 100, 40)], 1))
    crop = plan_crop(clip, PICTURE, size_px=128)
    assert_close(crop.source_points(crop.points(clip)), clip)


@pytest.mark.parametrize("scale", [30.0, 60.0, 200.0])
def test_the_picture_moves_with_the_points(scale: float) -> None:
    clip = _clip(np.full((1, 2), 333.3), scale)
    crop = plan_crop(clip, PICTURE)
    y, x = np.mgrid[0:700, 0:700] + 0.5
    target = clip[0, 1, :2]
    spread = 3.0 / crop.matrices[0, 0, 0]
    spot = 255 * np.exp(-((x - target[0]) ** 2 + (y - target[1]) ** 2) / (2 * spread**2))
    cropped = crop.apply(spot.round().astype(np.uint8), 0).astype(float)
    v, u = np.mgrid[0:256, 0:256] + 0.5
    found = np.array([(cropped * u).sum(), (cropped * v).sum()]) / cropped.sum()
    np.testing.assert_allclose(found, crop.points(clip)[0, 1, :2], atol=0.05)


def test_shrinking_averages_instead_of_skipping() -> None:
    clip = _clip(np.full((1, 2), 500.0), 250.0)
    stripes = np.tile(np.array([0, 255], np.uint8), (1000, 500))
    cropped = plan_crop(clip, PICTURE).apply(stripes, 0)[32:-32, 32:-32]
    assert abs(float(cropped.mean()) - 127.5) < 2 and np.ptp(cropped.astype(int)) < 160


def test_beyond_the_picture_its_edge_is_repeated() -> None:
    clip = _clip(np.array([[20.0, 100.0]]))
    picture = np.full((200, 200, 3), 50, np.uint8)
    picture[:, :3] = 180
    cropped = plan_crop(clip, (200, 200)).apply(picture, 0)
    assert cropped.shape == (256, 256, 3)
    assert (cropped[:, 0] == 180).all()


def test_a_camera_projects_into_the_crop() -> None:
    clip = _clip(np.stack([np.linspace(100, 600, 30), np.full(30, 200.0)], 1))
    crop = plan_crop(clip, PICTURE)
    fx, fy, cx, cy = 600.0, 610.0, 320.0, 240.0
    point = np.array([0.3, -0.2, 3.0])
    pixel = np.array([[[fx * point[0] / point[2] + cx, fy * point[1] / point[2] + cy]]], np.float32)
    for frame in (0, 29):
        gx, gy, dx, dy = crop.intrinsics(fx, fy, cx, cy, frame)
        wanted = crop.points(np.repeat(pixel, 30, 0))[frame, 0]
        assert_close(np.array([gx * point[0] / point[2] + dx, gy * point[1] / point[2] + dy]), wanted)


def test_landmarks_that_cannot_be_used_are_named() -> None:
    clip = _clip(np.full((4, 2), 100.0))
    clip[2] = np.nan
    with pytest.raises(CropError, match="1 of 4 frames have no landmarks"):
        plan_crop(clip, PICTURE)
    with pytest.raises(CropError, match="shape"):
        plan_crop(clip[:0], PICTURE)
