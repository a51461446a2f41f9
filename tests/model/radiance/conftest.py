"""A tiny capture: a disc that turns red with motion 0 and moves with the head, over a still torso."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from model.avatar import Avatar, AvatarConfig, Consent
from model.data.capture import Capture, CaptureFrames
from model.radiance.camera import CameraConfig, NeckConfig, head_matrix
from model.radiance.config import FieldConfig
from model.radiance.export import export_tensors
from model.radiance.field import RadianceField
from model.radiance.occupancy import OccupancyGrid
from model.radiance.torso import TorsoLayer

SIZE_PX = 32
FRAMES = 8
FOCAL_PX = 60.0
CAMERA_ROWS = ((1.0, 0.0, 0.0, 0.0), (0.0, -1.0, 0.0, 0.0), (0.0, 0.0, -1.0, 72.0))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny tensors: threads only wait for each other, badly so on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def camera() -> CameraConfig:
    return CameraConfig(
        size_px=SIZE_PX, fx_px=FOCAL_PX, fy_px=FOCAL_PX, cx_px=16.0, cy_px=16.0, cam_to_world=CAMERA_ROWS
    )


@pytest.fixture
def tiny_field_config() -> FieldConfig:
    return FieldConfig(resolution=16, channels=4, hidden=16, bias_hidden=8, warp_bases=6, warp_shape=(5, 6, 4))


@pytest.fixture
def capture_folder(tmp_path: Path) -> Path:
    """A capture on disk, all of it in the `train` split."""
    root = tmp_path / "capture"
    (root / "train").mkdir(parents=True)
    (root / "mask").mkdir()
    entries = []
    for index in range(FRAMES):
        angle = 0.1 * (index % 3 - 1)
        picture, labels = _draw(openness=index / (FRAMES - 1), shift_px=6 * angle)
        cv2.imwrite(str(root / f"train/{index}.png"), picture)
        cv2.imwrite(str(root / f"mask/{index}.png"), labels)
        rotvec = np.array([0.0, angle, 0.0])
        entries.append(
            {
                "file": f"train/{index}.png",
                "mask": f"mask/{index}.png",
                "split": "train",
                "kind": "acted" if index == 0 else "fps",
                "head_matrix": head_matrix(rotvec, NeckConfig()).tolist(),
                "head_rotvec": rotvec.tolist(),
                "cam_to_world": [*map(list, CAMERA_ROWS), [0, 0, 0, 1]],
                "coeff": [0.0],
            }
        )
    camera = {"fx": FOCAL_PX, "fy": FOCAL_PX, "cx": 16, "cy": 16}
    neck = {"pivot_low": [0, -12.5, -2.5], "pivot_high": [0, -2.5, -0.5], "share_low": 0.42, "share_high": 0.58}
    meta = {"camera": camera, "neck": neck, "width": SIZE_PX, "frames": entries}
    (root / "capture.json").write_text(json.dumps(meta))
    lips = np.tile(np.array([[12, 18], [20, 22]], np.float32), (FRAMES, 1, 1))
    points = np.tile(np.array([[12, 12]], np.float32), (FRAMES, 68, 1)) + np.arange(68)[:, None] % 6
    np.savez(root / "landmarks.npz", lip_outer2d=lips, lm2d=points.astype(np.float32))
    return root


@pytest.fixture
def tiny_motion() -> np.ndarray:
    motion = np.zeros((FRAMES, 32), np.float32)
    motion[:, 0] = np.linspace(-1, 1, FRAMES)
    return motion


@pytest.fixture
def tiny_frames(capture_folder: Path, tiny_motion: np.ndarray) -> CaptureFrames:
    return Capture.open(capture_folder).frames("train", SIZE_PX, tiny_motion)


@pytest.fixture
def avatar(camera: CameraConfig, tmp_path: Path) -> Avatar:
    """Random weights at the kernel's sizes; the planes are small."""
    config = FieldConfig(resolution=16, warp_shape=(5, 6, 4))
    torch.manual_seed(3)
    field = RadianceField(config)
    with torch.no_grad():
        field.warp_basis.normal_(0, 0.01)
        field.layer3.bias[0] = 1.0
    axis = torch.linspace(-1, 1, 16)
    ball = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2 < 0.4
    torso = TorsoLayer(torch.zeros(SIZE_PX, SIZE_PX, 4))
    tensors = export_tensors(field, torso, OccupancyGrid(ball))
    settings = AvatarConfig(
        format_version=1,
        name="tiny",
        licence="none",
        consent=Consent(person="nobody", statement="invented", given_by="test", date="2026-01-01"),
        provenance="random weights",
        motion_space="m",
        field_hash="f",
        camera=camera,
        mouth_box=(0.4, 0.6, 0.6, 0.7),
        field_config=config,
    )
    return Avatar(tmp_path, settings, {name: tensor.numpy() for name, tensor in tensors.items()})


def _draw(openness: float, shift_px: float) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:SIZE_PX, :SIZE_PX] + 0.5
    head = (x - 16 - shift_px) ** 2 + (y - 14) ** 2 < 81
    torso = (y > 26) & ~head
    picture = np.zeros((SIZE_PX, SIZE_PX, 4), np.uint8)
    picture[torso] = (160, 120, 40, 255)
    picture[head] = (90, 130, round(60 + 180 * openness), 255)
    return picture, np.where(head, 1, np.where(torso, 2, 0)).astype(np.uint8)
