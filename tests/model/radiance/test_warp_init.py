"""The warp's first guess moves the right things the right way."""

from __future__ import annotations

import numpy as np
import torch

from model.radiance.camera import CanonicalSpace, HeadPose, NeckConfig, head_matrix
from model.radiance.config import FieldConfig
from model.radiance.field import RadianceField
from model.training.warp_init import HeadMesh, face_warp, grid_nodes, initialise_warp, neck_warp

CONFIG = FieldConfig(warp_shape=(12, 14, 10), warp_bases=12)
SPACE = CanonicalSpace()


def lip_mesh() -> HeadMesh:
    """Upper lip still, lower lip going down by 1 unit with the only coefficient."""
    x, z = np.meshgrid(np.linspace(-3, 3, 25), np.linspace(8, 10, 9))
    upper = np.stack([x, np.full_like(x, -3.5), z], -1).reshape(-1, 3)
    lower = upper - np.array([0.0, 2.0, 0.0])
    vertices = np.zeros((24591, 3), np.float32)
    vertices[:] = upper[0]
    vertices[: len(upper)] = upper
    vertices[len(upper) : 2 * len(upper)] = lower
    move = np.zeros((1, 24591, 3), np.float32)
    move[0, len(upper) : 2 * len(upper), 1] = -1
    return HeadMesh(vertices, move, vertices, np.zeros((2, 3), np.float32))


def at(volume: torch.Tensor, head_point: list[float]) -> np.ndarray:
    """Value (3,) of the node next to a head-local point, in head-local units."""
    nodes = torch.from_numpy(SPACE.to_head(grid_nodes(CONFIG).numpy()))
    nearest = (nodes - torch.tensor(head_point)).square().sum(-1).argmin()
    return volume.reshape(3, -1)[:, nearest].numpy() * SPACE.scale


def test_the_lowered_lip_reads_its_place_above() -> None:
    mesh = lip_mesh()
    deformed = mesh.neutral + mesh.expressions[0]
    warp = face_warp(mesh, deformed, CONFIG, SPACE)
    assert at(warp, [0, -6.5, 9])[1] > 0.4  # deformed lower lip -> up, to its canonical place
    assert abs(at(warp, [0, -3.5, 9])[1]) < 0.3
    assert abs(at(warp, [0, 6, 9])[1]) < 1e-3


def test_the_neck_returns_to_the_collar_and_the_face_stays() -> None:
    matrix = head_matrix(HeadPose(yaw_deg=20).rotation_vector(), NeckConfig())
    warp = neck_warp(matrix, CONFIG, SPACE)
    np.testing.assert_allclose(at(warp, [0, 4, 9]), 0, atol=1e-4)
    node = SPACE.to_head(grid_nodes(CONFIG).numpy())[5, 0, 6]  # lowest row: at the collar, still in the world
    world = matrix[:3, :3] @ node + matrix[:3, 3]
    moved = warp.reshape(3, 10, 14, 12)[:, 5, 0, 6].numpy() * SPACE.scale
    np.testing.assert_allclose(node + moved, world, atol=1e-3)


def test_low_rank_start_reproduces_linear_motion() -> None:
    torch.manual_seed(0)
    gx, gy, gz = CONFIG.warp_shape
    motion, rotvec = torch.randn(60, 32), torch.randn(60, 3) * 0.1
    pattern = torch.randn(2, 3, gz, gy, gx)
    face = torch.einsum("fk,kcdhw->fcdhw", motion[:, :2], pattern) * 0.01
    neck = torch.zeros_like(face)
    field = RadianceField(CONFIG)
    initialise_warp(field, motion, rotvec, face, neck)
    found = field.frame_conditions(motion, rotvec).warp.detach()
    assert float((found - face).abs().max().detach()) < 0.02 * float(face.abs().max())
