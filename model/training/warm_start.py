"""Starts a new person's field from an avatar that is already trained (meta-initialisation).

Both faces are known by the same tracker's neutral landmarks in head axes. A smooth displacement from the new face to
the old one is laid before the old warp: `p -> p + A(p) + warp_old(p + A(p))`. So lips part, lids close and the head has
sides from the first step on; what has to be learned is the person's own color and detail.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import RBFInterpolator
from torch import Tensor
from torch.nn import functional

from model.avatar import Avatar
from model.errors import ModelError
from model.face.calibration import calibrate_speaker
from model.face.canonical import canonical_points
from model.face.head_pose import Intrinsics, estimate_head_pose
from model.face.head_shape import HeadShape
from model.face.landmarks import track_face
from model.radiance.camera import CanonicalSpace, HeadPose
from model.radiance.config import FieldConfig
from model.radiance.export import LAYERS
from model.radiance.field import RadianceField
from model.radiance.occupancy import OccupancyGrid, dilate
from model.radiance.serving import AvatarRenderer
from model.training.skull_fit import SkullFit
from model.training.warp_init import grid_nodes

FACE_LANDMARKS = 468  # without the irises
LOOKS = ((0.0, 0.0), (-6.0, 0.0), (6.0, 0.0), (0.0, -4.0), (0.0, 4.0), (-12.0, 0.0), (12.0, 0.0))  # yaw, pitch; deg
SMOOTHING = 0.02
CONTROL_EVERY = 3  # landmarks used: every third is plenty for a smooth displacement
UNCHANGED = SkullFit()
LONGEST = 0.3  # canonical units: no face differs by more, extrapolation does
REACH_VOXELS = 3  # of 64: how far the new head may stand off the old one


def widened(config: FieldConfig) -> FieldConfig:
    """The sizes of an avatar that starts from one of `config`: one more warp base, the displacement between faces."""
    return dataclasses.replace(config, warp_bases=config.warp_bases + 1)


def avatar_neutral(avatar: Avatar, shape: HeadShape, task_file: Path) -> NDArray[np.float32]:
    """Neutral landmarks (478, 3) of an avatar, centimetres of the mean face, read from its own pictures.

    Raises:
        LandmarkError: The tracker finds no face in them.
    """
    size = 256
    renderer = AvatarRenderer(avatar, size_px=size)
    motion = np.zeros(avatar.config.field_config.motion_size, np.float32)
    pictures = [
        cv2.cvtColor(renderer.render(motion, HeadPose(yaw_deg=yaw, pitch_deg=pitch)), cv2.COLOR_YUV2RGB_I420)
        for yaw, pitch in LOOKS
    ]
    track = track_face([np.asarray(p, np.uint8) for p in pictures], task_file, stills=True)
    seen = track.landmarks[track.found]
    fx, fy, cx, cy = avatar.config.camera.intrinsics(size)
    camera = Intrinsics(fx_px=fx, fy_px=fy, cx_px=cx, cy_px=cy)
    pose = estimate_head_pose(seen, shape, size=(size, size), intrinsics=camera)
    return neutral_cm(canonical_points(seen, pose, shape), shape)


def neutral_cm(points: NDArray[np.float32], shape: HeadShape) -> NDArray[np.float32]:
    """Neutral landmarks (478, 3) in centimetres from canonical points (T, 478, 3)."""
    return np.asarray(calibrate_speaker(points).neutral * shape.inter_ocular_cm, np.float32)


class FaceDisplacement:
    """Smooth map from a new face to an old one: canonical positions (N, 3) to displacements (N, 3).

    Args:
        new_cm, old_cm: Landmarks (478, 3) of both.
        space: The old avatar's.
        skull: How the new cube lies in the old one; positions and displacements are the new cube's.
        outline: Points (K, 3) of the new head in the new cube and those of the old one that they belong to.
    """

    def __init__(
        self,
        new_cm: NDArray[np.float32],
        old_cm: NDArray[np.float32],
        space: CanonicalSpace,
        outline: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
        skull: SkullFit = UNCHANGED,
    ) -> None:
        self.skull = skull
        chosen = np.arange(0, FACE_LANDMARKS, CONTROL_EVERY)
        source = skull.space(space).from_head(new_cm[chosen])
        target = skull.new_points(space.from_head(old_cm[chosen]))
        if outline is not None:
            source, target = (np.concatenate(pair) for pair in zip((source, target), outline, strict=True))
        self._spline = RBFInterpolator(
            source, target - source, kernel="thin_plate_spline", smoothing=SMOOTHING, degree=1
        )

    def __call__(self, points: NDArray[np.floating]) -> NDArray[np.float32]:
        """Displacements, no longer than `LONGEST`."""
        moved = self._spline(np.asarray(points, np.float64).reshape(-1, 3))
        length = np.linalg.norm(moved, axis=1, keepdims=True)
        return np.asarray(moved * np.minimum(1, LONGEST / np.maximum(length, 1e-9)), np.float32)


def load_start(field: RadianceField, avatar: Avatar, displacement: FaceDisplacement) -> None:
    """Give `field` (sizes `widened`) the avatar's weights and bases, seen through the displacement.

    Raises:
        ModelError: The avatar's field has other sizes.
    """
    if widened(avatar.config.field_config) != field.config:
        raise ModelError(f"avatar {avatar.config.name} has other field sizes than are trained: {field.config}")
    nodes = grid_nodes(field.config)
    shift = torch.from_numpy(displacement(nodes.numpy())).view(*nodes.shape)
    read = torch.from_numpy(displacement.skull.old_points((nodes + shift).numpy())).float()
    old = np.asarray(avatar.arrays["warp_basis"], np.float32).transpose(0, 4, 3, 2, 1)
    bases = _sampled(torch.from_numpy(np.ascontiguousarray(old)), read, field.config)
    with torch.no_grad():
        planes = torch.from_numpy(np.asarray(avatar.arrays["planes"], np.float32))
        field.planes.copy_(displacement.skull.planes(planes))
        for name in LAYERS:
            weight, bias = (
                torch.from_numpy(np.asarray(avatar.arrays[f"{name}.{k}"], np.float32)) for k in ("weight", "bias")
            )
            layer = getattr(field, name)
            if name == "warp_mix":
                weight = torch.cat([weight, torch.zeros(1, weight.shape[1])])
                bias = torch.cat([bias, torch.ones(1)])
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
        field.warp_basis.copy_(torch.cat([bases, shift.permute(3, 0, 1, 2)[None]]))


def start_occupancy(avatar: Avatar, displacement: FaceDisplacement, hull: Tensor) -> OccupancyGrid:
    """Where the new head may be: the avatar's occupancy moved to the new face and grown, inside the hull (G, G, G)."""
    size = len(hull)
    bits = np.unpackbits(np.asarray(avatar.arrays["occupancy_bits"], np.uint8))
    fine = round(len(bits) ** (1 / 3))
    old = OccupancyGrid(torch.from_numpy(bits.reshape(fine, fine, fine).astype(np.bool_)))
    axis = (torch.arange(size) + 0.5) / size * 2 - 1
    centres = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).view(-1, 3)
    moved = centres + torch.from_numpy(displacement(centres.numpy()))
    inside = old.contains(torch.from_numpy(displacement.skull.old_points(moved.numpy())).float())
    grown = dilate(inside.view(size, size, size), max(1, REACH_VOXELS * size // 64))
    return OccupancyGrid(grown & hull)


def _sampled(bases: Tensor, points: Tensor, config: FieldConfig) -> Tensor:
    """Warp bases (K, 3, Gz, Gy, Gx) read at canonical positions (Gz, Gy, Gx, 3); clamped to the box."""
    lo, hi = torch.tensor(config.warp_lo), torch.tensor(config.warp_hi)
    grid = ((points - lo) / (hi - lo) * 2 - 1)[None].expand(len(bases), -1, -1, -1, -1)
    return functional.grid_sample(bases, grid, padding_mode="border", align_corners=True)
