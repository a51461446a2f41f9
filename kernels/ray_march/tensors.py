"""What the differentiable ray marcher reads: the field, frames and rays as torch tensors on one device.

The same contract as `arrays.py` (docs/architecture.md), but for rays instead of whole pictures: training looks at a few
thousand pixels of several frames. Everything here is checked once a call, without waiting for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from kernels.checks import KernelInputError, check_range
from kernels.ray_march.arrays import (
    CHANNELS,
    FEATURES,
    HIDDEN,
    MAX_GRID,
    MAX_STEPS_PER_RAY,
    FieldArrays,
    FrameInputs,
)

TINY_DIRECTION = 1e-9
MAX_DISTANCE = 16  # voxels; farther is not known, and skipped in several moves


class FieldTensors(NamedTuple):
    """The trained part of one field; floating point, gradients wanted or not."""

    planes: Tensor  # (3, R, R, 16); (col, row) = (x, y), (z, y), (x, z)
    w1: Tensor  # (64, 48), row = output
    w2: Tensor  # (64, 64)
    w3: Tensor  # (4, 64); density, then colour
    b3: Tensor  # (4,)


class FrameTensors(NamedTuple):
    """What F frames' motion makes of the field."""

    bias1: Tensor  # (F, 64)
    bias2: Tensor  # (F, 64)
    warp: Tensor  # (F, Gx, Gy, Gz, 3) displacement


class Rays(NamedTuple):
    """N rays, sorted by frame; samples of a ray stand at `t_near + (k + 0.5) * step` before `t_far`."""

    origins: Tensor  # (N, 3)
    directions: Tensor  # (N, 3) unit
    t_near: Tensor  # (N,)
    t_far: Tensor  # (N,)
    counts: tuple[int, ...]  # rays of each frame, sum N


class RaySums(NamedTuple):
    """Sums along N rays, not divided by anything; `u` is a sample's distance from `t_near`, `w` its weight."""

    color: Tensor  # (N, 3) sum of w rgb
    transmittance: Tensor  # (N,) 1 - sum of w
    distance: Tensor  # (N,) sum of w u
    distance_squared: Tensor  # (N,) sum of w u^2
    samples: Tensor  # (N,) int32 field evaluations; no gradient


@dataclass(frozen=True)
class Volume:
    """What has no gradient: where matter can be, and how rays are stepped.

    Raises:
        KernelInputError: The grid is no cube of bool, or a number is out of range.
    """

    occupancy: Tensor  # (G, G, G) bool, [ix, iy, iz], in deformed space
    warp_lo: tuple[float, float, float]  # box of the warp grid
    warp_hi: tuple[float, float, float]
    density_scale: float = 20.0  # per unit length
    step: float = 2.0 / 96.0
    termination: float = 0.05  # transmittance at which a ray ends

    def __post_init__(self) -> None:
        shape = tuple(self.occupancy.shape)
        if self.occupancy.dtype != torch.bool or len(shape) != 3 or len(set(shape)) != 1:
            raise KernelInputError(f"occupancy must be a cube of bool, got {self.occupancy.dtype} {shape}")
        if not self.occupancy.is_contiguous():
            raise KernelInputError(f"occupancy must be contiguous, got strides {self.occupancy.stride()}")
        check_range("occupancy voxels per axis", shape[0], 1, MAX_GRID)
        if not all(lo < hi for lo, hi in zip(self.warp_lo, self.warp_hi, strict=True)):
            raise KernelInputError(f"need warp_lo < warp_hi, got {self.warp_lo} and {self.warp_hi}")
        check_range("density_scale", self.density_scale, 0.0, 1e6)
        check_range("step", self.step, 4.0 / MAX_STEPS_PER_RAY, 1.0)
        check_range("termination", self.termination, 0.0, 0.99)

    @property
    def grid(self) -> int:
        """Voxels per axis."""
        return int(self.occupancy.shape[0])

    @cached_property
    def box(self) -> tuple[Tensor, Tensor]:
        """Lower and upper corner (3,) of the occupied voxels, float32; both zero where there are none."""
        cells = self.occupancy.nonzero()
        if len(cells) == 0:
            nothing = torch.zeros(3, device=self.occupancy.device)
            return nothing, nothing
        lo, hi = cells.amin(0).double(), cells.amax(0).double() + 1
        return (2 * lo / self.grid - 1).float(), (2 * hi / self.grid - 1).float()

    @cached_property
    def distance(self) -> Tensor:
        """(G, G, G) uint8: Chebyshev distance in voxels to the nearest occupied one, at most `MAX_DISTANCE`."""
        found = torch.zeros(self.occupancy.shape, dtype=torch.uint8, device=self.occupancy.device)
        reached = self.occupancy[None, None].float()
        for _ in range(MAX_DISTANCE):
            found += (reached[0, 0] == 0).to(torch.uint8)
            reached = functional.max_pool3d(reached, 3, 1, 1)
        return found


def field_tensors(field: FieldArrays, device: torch.device, dtype: torch.dtype = torch.float32) -> FieldTensors:
    """A field's arrays as tensors, without gradients yet."""
    names = ("planes", "w1", "w2", "w3", "b3")
    return FieldTensors(*(torch.from_numpy(getattr(field, name)).to(device, dtype) for name in names))


def frame_tensors(frames: Sequence[FrameInputs], device: torch.device, dtype: torch.dtype) -> FrameTensors:
    """Biases and warps of frames whose warps have one shape."""
    names = ("bias1", "bias2", "warp")
    return FrameTensors(*(_stacked([getattr(f, name) for f in frames], device, dtype) for name in names))


def camera_tensors(frames: Sequence[FrameInputs], device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cameras (F, 3, 4) and lenses (F, 4) of frames."""
    lenses = torch.tensor([[f.fx, f.fy, f.cx, f.cy] for f in frames], device=device, dtype=dtype)
    return _stacked([f.cam_to_canonical for f in frames], device, dtype), lenses


def volume_of(field: FieldArrays, device: torch.device) -> Volume:
    """What of a field's arrays has no gradient."""
    return Volume(
        torch.from_numpy(field.occupancy).to(device),
        _corner(field.warp_lo),
        _corner(field.warp_hi),
        density_scale=field.density_scale,
        step=field.step,
        termination=field.termination,
    )


def camera_rays(
    cameras: Tensor,  # (F, 3, 4) rotation | centre, camera to canonical axes
    lenses: Tensor,  # (F, 4) fx, fy, cx, cy in pixels
    volume: Volume,
    *,
    height: int,
    width: int,
) -> Rays:
    """Rays through all pixel centres of F pictures; differentiable in the cameras."""
    frames, kind = len(cameras), cameras.dtype
    columns = torch.arange(width, device=cameras.device, dtype=kind) + 0.5
    rows = torch.arange(height, device=cameras.device, dtype=kind) + 0.5
    fx, fy, cx, cy = lenses.to(kind).unbind(1)
    x = ((columns - cx[:, None]) / fx[:, None])[:, None, :].expand(frames, height, width)
    y = ((rows - cy[:, None]) / fy[:, None])[:, :, None].expand(frames, height, width)
    scale = 1 / torch.sqrt((x * x + y * y) + 1)
    turn = [[cameras[:, row, column, None, None] for column in range(3)] for row in range(3)]
    directions = torch.stack([((r[0] * x + r[1] * y) + r[2]) * scale for r in turn], -1).view(-1, 3)
    origins = cameras[:, :, 3].repeat_interleave(height * width, 0)
    t_near, t_far = box_entry_exit(origins, directions, *volume.box)
    return Rays(origins, directions, t_near, t_far, (height * width,) * frames)


def box_entry_exit(origins: Tensor, directions: Tensor, lo: Tensor, hi: Tensor) -> tuple[Tensor, Tensor]:
    """Distances (N,) at which rays enter (not before 0) and leave a box; entry >= exit means a miss."""
    safe = torch.where(directions.abs() < TINY_DIRECTION, torch.full_like(directions, TINY_DIRECTION), directions)
    t0, t1 = (lo - origins) / safe, (hi - origins) / safe
    return torch.minimum(t0, t1).amax(-1).clamp(min=0), torch.maximum(t0, t1).amin(-1)


def check_march(field: FieldTensors, frames: FrameTensors, rays: Rays, volume: Volume) -> None:
    """Shapes, dtypes and devices of one call.

    Raises:
        KernelInputError: They disagree.
    """
    side, count, total = field.planes.shape[1], len(rays.counts), len(rays.t_near)
    _check("planes", field.planes, (3, side, side, CHANNELS))
    check_range("plane side", side, 2, 1024)
    _check("w1", field.w1, (HIDDEN, FEATURES))
    _check("w2", field.w2, (HIDDEN, HIDDEN))
    _check("w3", field.w3, (4, HIDDEN))
    _check("b3", field.b3, (4,))
    _check("bias1", frames.bias1, (count, HIDDEN))
    _check("bias2", frames.bias2, (count, HIDDEN))
    _check("warp", frames.warp, (count, *frames.warp.shape[1:4], 3))
    if min(frames.warp.shape[1:4]) < 2 or max(frames.warp.shape[1:4]) > 256:
        raise KernelInputError(f"warp needs 2 to 256 nodes per axis, got shape {tuple(frames.warp.shape)}")
    _check("origins", rays.origins, (total, 3))
    _check("directions", rays.directions, (total, 3))
    _check("t_near", rays.t_near, (total,))
    _check("t_far", rays.t_far, (total,))
    if sum(rays.counts) != total or min(rays.counts, default=0) < 0:
        raise KernelInputError(f"counts must sum to the {total} rays, got {rays.counts}")
    devices = {str(t.device) for t in (*field, *frames, *rays[:4], volume.occupancy)}
    if len(devices) != 1:
        raise KernelInputError(f"field, frames, rays and occupancy must share a device, got {sorted(devices)}")


def _stacked(arrays: list[NDArray[np.float32]], device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.stack(arrays)).to(device, dtype)


def _corner(values: NDArray[np.float32]) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return x, y, z


def _check(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if not tensor.is_floating_point():
        raise KernelInputError(f"{name} must be floating point, got {tensor.dtype}")
    if tuple(tensor.shape) != shape:
        raise KernelInputError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}")
