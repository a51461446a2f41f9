"""First guess of the warp grid from the head mesh and the documented neck blend.

For a few hundred training frames the true map from deformed to canonical space is pushed from the mesh's vertices to
the grid's nodes (splat and normalised Gaussian blur, with fall-off); its regression on the frames' conditions, cut to
low rank, is the field's initial mix and bases. The canonical mouth is half open, so that lips and the mouth interior
each have room of their own; the canonical eye is open.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from model.face.ict_head import IctHead
from model.radiance.camera import CanonicalSpace, rotation_matrix
from model.radiance.config import FieldConfig
from model.radiance.field import RadianceField, condition_vector

CANONICAL_EXPRESSION = {"jawOpen": 0.3, "mouthUpperUp_L": 0.1, "mouthUpperUp_R": 0.1}
SKIN_AND_TEETH = slice(0, 21451)  # ICT-FaceKit's vertex order: face, neck, sockets, gums, teeth; then eyeballs
EYEBALLS = (slice(21451, 23021), slice(23021, 24591))
NECK_LOW_Y, NECK_HIGH_Y = -13.0, -4.0  # head-local heights of the identity and of the full head rotation
BLUR_NODES = 0.9
FALLOFF_DENSITY = 0.15


@dataclass(frozen=True)
class HeadMesh:
    """One person's mesh: neutral (V, 3), displacement per rig coefficient (E, V, 3), reference shape, eyes."""

    neutral: NDArray[np.float32]
    expressions: NDArray[np.float32]
    canonical: NDArray[np.float32]
    eye_centres: NDArray[np.float32]  # (2, 3) left, right

    @classmethod
    def build(
        cls,
        head: IctHead,
        identity: list[float],
        coefficient_names: list[str],
        base: dict[str, float],
        eye_centres: NDArray[np.float32],
    ) -> HeadMesh:
        """The capture's person, and its canonical shape: relaxed base with the mouth half open and the eyes open."""
        neutral = head.shape(identity)
        expressions = head.expression_basis(coefficient_names)
        weights = {**{k: v for k, v in base.items() if "Blink" not in k}, **CANONICAL_EXPRESSION}
        vector = np.array([weights.get(name, 0.0) for name in coefficient_names], np.float32)
        return cls(neutral, expressions, neutral + np.tensordot(vector, expressions, 1), eye_centres)

    def deformed(self, coefficients: NDArray[np.float32], gaze: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vertices (V, 3) of one frame, head-local; eyeballs turned by gaze (yaw, pitch), rad."""
        vertices = np.asarray(self.neutral + np.tensordot(coefficients, self.expressions, 1), np.float32)
        turn = rotation_matrix(np.array([0.0, gaze[0], 0.0])) @ rotation_matrix(np.array([-gaze[1], 0.0, 0.0]))
        for side, eye in zip(EYEBALLS, self.eye_centres, strict=True):
            vertices[side] = (vertices[side] - eye) @ turn.T + eye
        return vertices


def face_warp(mesh: HeadMesh, deformed: NDArray[np.float32], config: FieldConfig, space: CanonicalSpace) -> Tensor:
    """(3, Gz, Gy, Gx) displacement from deformed to canonical, pushed from the mesh to the grid."""
    used = np.r_[SKIN_AND_TEETH, EYEBALLS[0], EYEBALLS[1]]
    at = torch.from_numpy(space.from_head(deformed[used])).float()
    move = torch.from_numpy((mesh.canonical[used] - deformed[used]) / space.scale).float()
    total = _splat(at, torch.cat([move, torch.ones(len(at), 1)], 1), config)
    # A node takes the mean over its neighbourhood, whatever the mesh's density there; far nodes fade to zero.
    near = _blur(total / total[3].clamp(min=1), BLUR_NODES)
    wide = _blur(total / total[3].clamp(min=1), 2 * BLUR_NODES)
    mean = torch.where(near[3] > 0.02, near[:3] / near[3].clamp(min=1e-6), wide[:3] / wide[3].clamp(min=1e-6))
    return mean * (wide[3] / (wide[3] + FALLOFF_DENSITY * 0.1)) * (wide[3] > 1e-4)


def neck_warp(head_to_world: NDArray[np.float64], config: FieldConfig, space: CanonicalSpace) -> Tensor:
    """(3, Gz, Gy, Gx) displacement that undoes the neck's blend from the head's pose to the still collar."""
    nodes = space.to_head(grid_nodes(config).reshape(-1, 3).double().numpy())
    rotation, shift = head_to_world[:3, :3], head_to_world[:3, 3]
    world = nodes @ rotation.T + shift
    rest = nodes.copy()
    for _ in range(8):
        height = np.clip((rest[:, 1] - NECK_LOW_Y) / (NECK_HIGH_Y - NECK_LOW_Y), 0, 1)
        share = (height * height * (3 - 2 * height))[:, None, None]
        blend = share * rotation + (1 - share) * np.eye(3)
        still = (world - share[:, :, 0] * shift)[..., None]
        rest = np.asarray(np.linalg.solve(blend, still)[..., 0], np.float64)
    moved = torch.from_numpy((rest - nodes) / space.scale).float()
    gx, gy, gz = config.warp_shape
    return moved.view(gz, gy, gx, 3).permute(3, 0, 1, 2)


def grid_nodes(config: FieldConfig) -> Tensor:
    """(Gz, Gy, Gx, 3) canonical positions of the warp grid's nodes."""
    axes = [
        torch.linspace(lo, hi, n) for lo, hi, n in zip(config.warp_lo, config.warp_hi, config.warp_shape, strict=True)
    ]
    z, y, x = torch.meshgrid(axes[2], axes[1], axes[0], indexing="ij")
    return torch.stack([x, y, z], -1)


def initialise_warp(
    field: RadianceField,
    motion: Tensor,  # (F, motion_size)
    rotvec: Tensor,  # (F, 3)
    face: Tensor,  # (F, 3, Gz, Gy, Gx)
    neck: Tensor,  # (F, 3, Gz, Gy, Gx)
    neck_bases: int = 8,
) -> None:
    """Set `warp_mix` and `warp_basis`: first the face's bases, then `neck_bases` of the rotation, last a constant."""
    conditions = condition_vector(motion, rotvec)
    size, bases = field.config.motion_size, field.config.warp_bases
    face_bases = bases - 1 - neck_bases
    face_part = _low_rank(conditions[:, :size], face, face_bases)
    neck_part = _low_rank(conditions[:, size:], neck, neck_bases)
    constant = face_part[2] + neck_part[2]
    with torch.no_grad():
        mix, basis = field.warp_mix, field.warp_basis
        mix.weight.zero_()
        mix.bias.zero_()
        mix.weight[:face_bases, :size] = face_part[0]
        mix.weight[face_bases:-1, size:] = neck_part[0]
        mix.bias[-1] = 1
        basis.copy_(torch.cat([face_part[1], neck_part[1], constant[None]]))


def _low_rank(inputs: Tensor, grids: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Ridge regression cut to `rank`: (rank, inputs) mix, (rank, 3, ...) bases, constant (3, ...)."""
    frames, width = inputs.shape
    design = torch.cat([inputs, torch.ones(frames, 1)], 1).double()
    flat = grids.reshape(frames, -1).double()
    ridge = 1e-3 * frames * torch.eye(width + 1, dtype=torch.float64)
    ridge[-1, -1] = 0
    slopes = torch.linalg.solve(design.t() @ design + ridge, design.t() @ flat)
    spread = inputs.double().std(0).clamp(min=1e-6)
    left, scale, right = torch.linalg.svd(slopes[:-1] * spread[:, None], full_matrices=False)
    mix = (left[:, :rank] / spread[:, None]).t()
    bases = scale[:rank, None] * right[:rank]
    padded = rank - len(bases)
    if padded > 0:
        mix = functional.pad(mix, (0, 0, 0, padded))
        bases = functional.pad(bases, (0, 0, 0, padded))
    return mix.float(), bases.view(rank, *grids.shape[1:]).float(), slopes[-1].view(grids.shape[1:]).float()


def _splat(at: Tensor, values: Tensor, config: FieldConfig) -> Tensor:
    """Trilinear scatter of (N, C) at canonical positions (N, 3) to (C, Gz, Gy, Gx)."""
    lo, hi = torch.tensor(config.warp_lo), torch.tensor(config.warp_hi)
    shape = torch.tensor(config.warp_shape)
    place = (at - lo) / (hi - lo) * (shape - 1)
    inside = ((place >= 0) & (place < shape - 1)).all(1)
    place, values = place[inside], values[inside]
    base = place.long()
    share = place - base
    gx, gy, gz = config.warp_shape
    total = torch.zeros(gz * gy * gx, values.shape[1])
    for corner in range(8):
        offset = torch.tensor([corner & 1, corner >> 1 & 1, corner >> 2])
        weight = torch.where(offset.bool(), share, 1 - share).prod(1)
        x, y, z = (base + offset).unbind(1)
        total.index_add_(0, (z * gy + y) * gx + x, values * weight[:, None])
    return total.t().reshape(-1, gz, gy, gx)


def _blur(volume: Tensor, sigma_nodes: float) -> Tensor:
    """Separable Gaussian blur of (C, D, H, W), zero outside."""
    radius = round(3 * sigma_nodes)
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma_nodes) ** 2)
    taps = taps / taps.sum()
    blurred = volume[:, None]
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = len(taps)
        padding = [0, 0, 0]
        padding[axis] = radius
        blurred = functional.conv3d(blurred, taps.view(shape), padding=padding)
    return blurred[:, 0]
