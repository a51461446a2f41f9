"""From motion and head angles to what the renderer takes, for all slots: poses, cameras, the field's biases and warp.

As `model.radiance.camera` and `model.radiance.serving.FieldConditioner` compute for one frame; float64 where those use
it. Slots show different avatars: small weights are picked by index, the large warp bases are mixed in one product over
all avatars of the table, in which those not meant weigh 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from model.radiance.config import ROTATION_SCALE_RAD

Table = Mapping[str, Tensor]
"""Weights of all avatars, the avatar first: `model.slots.avatars`."""
SMALL_ANGLE = 1e-8  # as in `model.radiance.camera.rotation_matrix`
SMALL_SINE = 1e-9


class HeadPlace(NamedTuple):
    """Where heads are, for F frames."""

    rotvec: Tensor  # (F, 3) float64, rad
    rotation: Tensor  # (F, 3, 3) float64, head-local to world
    shift: Tensor  # (F, 3) float64
    cameras: Tensor  # (F, 3, 4) float32, cam_to_canonical


class FieldInputs(NamedTuple):
    """What the field is conditioned on, for F frames."""

    biases: Tensor  # (F, 2, hidden)
    warps: Tensor  # (F, Gx, Gy, Gz, 3)


def place_heads(angles_deg: Tensor, avatar: Tensor, table: Table) -> HeadPlace:
    """Heads turned by yaw, pitch and roll (F, 3), of avatars by index (F,)."""
    rotvec = rotation_vectors(pose_matrices(angles_deg.double()))
    low, low_shift = _about(table["pivot_low"][avatar], table["share_low"][avatar, None] * rotvec)
    high, high_shift = _about(table["pivot_high"][avatar], table["share_high"][avatar, None] * rotvec)
    rotation = low @ high
    shift = (low @ high_shift[..., None])[..., 0] + low_shift
    world = table["camera"][avatar]  # (F, 4, 4)
    turned = rotation.transpose(1, 2) @ world[:, :3, :3]
    origin = (rotation.transpose(1, 2) @ (world[:, :3, 3] - shift)[..., None])[..., 0]
    canonical = (origin - table["centre"][avatar]) / table["scale"][avatar, None]
    return HeadPlace(rotvec, rotation, shift, torch.cat([turned, canonical[..., None]], 2).float())


def pose_matrices(angles_deg: Tensor) -> Tensor:
    """`Ry(yaw) Rx(pitch) Rz(roll)` (F, 3, 3)."""
    (cy, cx, cz), (sy, sx, sz) = ((f(angles_deg * (math.pi / 180.0))).unbind(-1) for f in (torch.cos, torch.sin))
    rows = [
        torch.stack([cy * cz + sy * sx * sz, sy * sx * cz - cy * sz, sy * cx], -1),
        torch.stack([cx * sz, cx * cz, -sx], -1),
        torch.stack([cy * sx * sz - sy * cz, sy * sz + cy * sx * cz, cy * cx], -1),
    ]
    return torch.stack(rows, -2)


def rotation_vectors(matrices: Tensor) -> Tensor:
    """(F, 3, 3) to (F, 3); angles below pi."""
    m = matrices
    skew = torch.stack([m[:, 2, 1] - m[:, 1, 2], m[:, 0, 2] - m[:, 2, 0], m[:, 1, 0] - m[:, 0, 1]], -1)
    sine = skew.norm(dim=-1, keepdim=True) / 2
    cosine = (m.diagonal(dim1=1, dim2=2).sum(-1, keepdim=True) - 1) / 2
    angle = torch.atan2(sine, cosine)
    return skew * torch.where(sine < SMALL_SINE, 0.5, angle / (2 * sine.clamp(min=SMALL_SINE)))


def rotation_matrices(vectors: Tensor) -> Tensor:
    """Rodrigues: (F, 3) in radians to (F, 3, 3)."""
    angle = vectors.norm(dim=-1)[:, None, None]
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    flat = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1)
    cross = flat.unflatten(-1, (3, 3))
    safe = angle.clamp(min=SMALL_ANGLE)
    first = torch.where(angle < SMALL_ANGLE, 1.0, torch.sin(safe) / safe)
    second = torch.where(angle < SMALL_ANGLE, 0.0, (1 - torch.cos(safe)) / safe**2)
    unit = torch.eye(3, dtype=vectors.dtype, device=vectors.device)
    out: Tensor = unit + first * cross + second * (cross @ cross)
    return out


def _about(pivot: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Rotations (F, 3, 3) about pivots (F, 3), and the shifts (F, 3) they bring."""
    rotation = rotation_matrices(vectors)
    return rotation, pivot - (rotation @ pivot[..., None])[..., 0]


def condition_fields(motion: Tensor, rotvec: Tensor, avatar: Tensor, table: Table) -> FieldInputs:
    """Biases and warp grids of motion (F, motion_size) and rotation vectors (F, 3), for avatars by index (F,)."""
    scaled = rotvec.float() / ROTATION_SCALE_RAD
    x, y, z = scaled.unbind(-1)
    products = torch.stack([x * x, y * y, z * z, x * y, x * z, y * z], -1)
    condition = torch.cat([motion * table["gains"], scaled, products], -1)
    hidden = functional.relu(_linear("bias_in", condition, avatar, table))
    hidden = functional.relu(_linear("bias_mid", hidden, avatar, table))
    deltas = _linear("bias_out", hidden, avatar, table).unflatten(1, (2, -1))
    static = torch.stack([table["layer1.bias"][avatar], table["layer2.bias"][avatar]], 1)
    mix = _linear("warp_mix", condition, avatar, table)
    basis = table["warp_basis"]  # (A, K, Gx, Gy, Gz, 3)
    meant = (avatar[:, None] == torch.arange(len(basis), device=avatar.device)).to(mix.dtype)  # (F, A)
    spread = (meant[:, :, None] * mix[:, None]).flatten(1)
    warps = spread @ basis.flatten(0, 1).flatten(1)
    return FieldInputs(static + deltas, warps.unflatten(1, basis.shape[2:]))


def _linear(name: str, values: Tensor, avatar: Tensor, table: Table) -> Tensor:
    weight, bias = table[f"{name}.weight"][avatar], table[f"{name}.bias"][avatar]
    out: Tensor = torch.baddbmm(bias[..., None], weight, values[..., None])[..., 0]
    return out
