"""What the ray marcher reads: the avatar's field, and one frame's motion and camera.

The contract is in docs/architecture.md, "The radiance field as the kernel sees it".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.checks import KernelInputError, check_array, check_range

CHANNELS = 16  # per plane
FEATURES = 3 * CHANNELS
HIDDEN = 64
MAX_GRID = 256  # occupancy voxels per axis
MAX_SIDE_PX = 4096
MAX_STEPS_PER_RAY = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldArrays:
    """One avatar's radiance field in canonical space ``[-1, 1]^3``; all arrays C-contiguous.

    Raises:
        KernelInputError: An array has the wrong shape, dtype or values.
    """

    planes: NDArray[np.float16]  # (3, R, R, 16); (col, row) = (x, y), (z, y), (x, z)
    w1: NDArray[np.float32]  # (64, 48), row = output
    w2: NDArray[np.float32]  # (64, 64)
    w3: NDArray[np.float32]  # (4, 64); density, then colour
    b3: NDArray[np.float32]  # (4,)
    occupancy: NDArray[np.bool_]  # (G, G, G), [ix, iy, iz], in deformed space
    warp_lo: NDArray[np.float32]  # (3,) box of the warp grid
    warp_hi: NDArray[np.float32]  # (3,)
    matter: NDArray[np.bool_] | None = None  # (C, C, C) in canonical space, where any motion is dense; None: anywhere
    density_scale: float = 20.0  # per unit length
    step: float = 2.0 / 96.0  # length between samples
    termination: float = 0.05  # transmittance at which a ray ends

    def __post_init__(self) -> None:
        check_array("planes", self.planes, (3, None, None, CHANNELS), np.float16)
        if self.planes.shape[1] != self.planes.shape[2] or not 2 <= self.planes.shape[1] <= 1024:
            raise KernelInputError(f"planes must be square, 2 to 1024 texels, got shape {self.planes.shape}")
        check_array("w1", self.w1, (HIDDEN, FEATURES), np.float32)
        check_array("w2", self.w2, (HIDDEN, HIDDEN), np.float32)
        check_array("w3", self.w3, (4, HIDDEN), np.float32)
        check_array("b3", self.b3, (4,), np.float32)
        grid = self.occupancy.shape[0] if self.occupancy.ndim else 0
        check_array("occupancy", self.occupancy, (grid, grid, grid), np.bool_)
        check_range("occupancy voxels per axis", grid, 1, MAX_GRID)
        if self.matter is not None:
            side = self.matter.shape[0] if self.matter.ndim else 0
            check_array("matter", self.matter, (side, side, side), np.bool_)
            check_range("matter voxels per axis", side, 1, MAX_GRID)
        check_array("warp_lo", self.warp_lo, (3,), np.float32)
        check_array("warp_hi", self.warp_hi, (3,), np.float32)
        if not (self.warp_lo < self.warp_hi).all():
            raise KernelInputError(f"need warp_lo < warp_hi, got {self.warp_lo} and {self.warp_hi}")
        check_range("density_scale", self.density_scale, 0.0, 1e6)
        check_range("step", self.step, 4.0 / MAX_STEPS_PER_RAY, 1.0)
        check_range("termination", self.termination, 0.0, 0.99)

    def occupied_box(self) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Lower and upper corner (3,) of the box that bounds the occupied voxels; None if there are none."""
        if not self.occupancy.any():
            return None
        grid = self.occupancy.shape[0]
        lo, hi = np.empty(3), np.empty(3)
        for axis in range(3):
            others = tuple(a for a in range(3) if a != axis)
            filled = np.flatnonzero(self.occupancy.any(axis=others))
            lo[axis] = 2.0 * filled[0] / grid - 1.0
            hi[axis] = 2.0 * (filled[-1] + 1) / grid - 1.0
        return lo.astype(np.float32), hi.astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameInputs:
    """One frame: residual biases, warp and camera. Lengths in pixels or canonical units.

    Raises:
        KernelInputError: An array has the wrong shape, dtype or values.
    """

    bias1: NDArray[np.float32]  # (64,) static bias + this frame's residual
    bias2: NDArray[np.float32]  # (64,)
    warp: NDArray[np.float32]  # (Gx, Gy, Gz, 3) displacement, corners aligned with the warp box
    cam_to_canonical: NDArray[np.float32]  # (3, 4) rotation | centre; OpenCV camera axes
    fx: float
    fy: float
    cx: float
    cy: float
    height: int
    width: int

    def __post_init__(self) -> None:
        check_array("bias1", self.bias1, (HIDDEN,), np.float32)
        check_array("bias2", self.bias2, (HIDDEN,), np.float32)
        check_array("warp", self.warp, (None, None, None, 3), np.float32)
        if min(self.warp.shape[:3]) < 2 or max(self.warp.shape[:3]) > 256:
            raise KernelInputError(f"warp needs 2 to 256 nodes per axis, got shape {self.warp.shape}")
        check_array("cam_to_canonical", self.cam_to_canonical, (3, 4), np.float32)
        rotation = self.cam_to_canonical[:, :3].astype(np.float64)
        error = float(np.abs(rotation @ rotation.T - np.eye(3)).max())
        if error > 1e-3:
            raise KernelInputError(f"cam_to_canonical must start with a rotation, got R R^T off by {error:.2g}")
        check_range("fx", self.fx, 1e-3, 1e6)
        check_range("fy", self.fy, 1e-3, 1e6)
        check_range("cx", self.cx, -1e6, 1e6)
        check_range("cy", self.cy, -1e6, 1e6)
        check_range("height", self.height, 1, MAX_SIDE_PX)
        check_range("width", self.width, 1, MAX_SIDE_PX)


def check_output(out: NDArray[Any], frame: FrameInputs) -> None:
    """Check a caller's output buffer for ``frame``.

    Raises:
        KernelInputError: Not a writable C-contiguous float32 (H, W, 4).
    """
    check_array("out", out, (frame.height, frame.width, 4), np.float32, finite=False)
    if not out.flags.writeable:
        raise KernelInputError("out must be writable, got a read-only array")
