"""Made-up fields and cameras for tests and benchmarks: random ones, and one with a head's amount of work."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.ray_march.arrays import CHANNELS, FEATURES, HIDDEN, FieldArrays, FrameInputs

WARP_NODES = (32, 40, 24)


def random_field(
    seed: int,
    *,
    plane_side: int = 16,
    grid: int = 16,
    fill: float = 0.3,
    density_bias: float = 1.0,
    termination: float = 0.05,
    step: float = 2.0 / 96.0,
) -> FieldArrays:
    """A field with independent random texels and voxels; ``fill`` is the occupied share."""
    rng = np.random.default_rng(seed)
    return FieldArrays(
        planes=rng.normal(size=(3, plane_side, plane_side, CHANNELS)).astype(np.float16),
        w1=_weights(rng, HIDDEN, FEATURES),
        w2=_weights(rng, HIDDEN, HIDDEN),
        w3=_weights(rng, 4, HIDDEN),
        b3=np.array([density_bias, 0.1, -0.2, 0.3], np.float32),
        occupancy=rng.random((grid, grid, grid)) < fill,
        warp_lo=np.array([-0.9, -0.8, -0.7], np.float32),
        warp_hi=np.array([0.7, 0.8, 0.9], np.float32),
        termination=termination,
        step=step,
    )


def random_frame(seed: int, height: int, width: int, *, warp_scale: float = 0.05, distance: float = 3.0) -> FrameInputs:
    """A camera that looks about at the origin from ``distance``, with random biases and warp."""
    rng = np.random.default_rng(seed)
    return FrameInputs(
        bias1=rng.normal(size=HIDDEN, scale=0.3).astype(np.float32),
        bias2=rng.normal(size=HIDDEN, scale=0.3).astype(np.float32),
        warp=rng.normal(size=(5, 4, 6, 3), scale=warp_scale).astype(np.float32),
        cam_to_canonical=look_at(yaw=rng.uniform(-0.6, 0.6), pitch=rng.uniform(-0.4, 0.4), distance=distance),
        fx=1.3 * max(height, width),
        fy=1.2 * max(height, width),
        cx=0.5 * width + 0.3,
        cy=0.5 * height - 0.2,
        height=height,
        width=width,
    )


def look_at(*, yaw: float, pitch: float, distance: float) -> NDArray[np.float32]:
    """Camera (3, 4) on a sphere around the origin, looking at it; angles in radians, (0, 0) faces the face."""
    back = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    right = np.array([np.cos(yaw), 0.0, -np.sin(yaw)])
    down = np.cross(-back, right)
    return np.column_stack([right, down, -back, distance * back]).astype(np.float32)


def head_field(seed: int = 0, *, plane_side: int = 128, grid: int = 128) -> FieldArrays:
    """A head-like shell: an ellipsoid whose occupied skin is a few voxels thick, on smooth random planes.

    With :func:`head_frame` at 256 x 256 it covers about 45 % of the image and takes about four samples a covered
    ray, as the trained prototype did (117,000 samples).
    """
    rng = np.random.default_rng(seed)
    axis = (np.arange(grid) + 0.5) / grid * 2.0 - 1.0
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    bumps = 0.03 * np.sin(9 * x + 1) * np.sin(7 * y) * np.sin(8 * z + 2)
    radius = np.sqrt((x / 0.66) ** 2 + (y / 0.88) ** 2 + (z / 0.80) ** 2) + bumps
    return FieldArrays(
        planes=_smooth_planes(rng, plane_side),
        w1=_weights(rng, HIDDEN, FEATURES),
        w2=_weights(rng, HIDDEN, HIDDEN),
        w3=_weights(rng, 4, HIDDEN),
        b3=np.array([2.8, 0.0, 0.0, 0.0], np.float32),
        occupancy=(radius < 1.0) & (radius > 0.86),
        warp_lo=np.full(3, -1.0, np.float32),
        warp_hi=np.full(3, 1.0, np.float32),
    )


def head_frame(size: int, *, yaw: float = 0.15, seed: int = 0) -> FrameInputs:
    """A camera in front of :func:`head_field`, with a smooth warp of a few hundredths."""
    rng = np.random.default_rng(seed)
    nodes = [np.linspace(-1.0, 1.0, n) for n in WARP_NODES]
    x, y, z = np.meshgrid(*nodes, indexing="ij")
    warp = 0.02 * np.stack([np.sin(3 * y + z), np.sin(4 * x - y), np.cos(3 * z + x)], axis=-1)
    return FrameInputs(
        bias1=rng.normal(size=HIDDEN, scale=0.1).astype(np.float32),
        bias2=rng.normal(size=HIDDEN, scale=0.1).astype(np.float32),
        warp=warp.astype(np.float32),
        cam_to_canonical=look_at(yaw=yaw, pitch=0.05, distance=3.2),
        fx=1.54 * size,
        fy=1.54 * size,
        cx=0.5 * size,
        cy=0.5 * size,
        height=size,
        width=size,
    )


def _weights(rng: np.random.Generator, rows: int, columns: int) -> NDArray[np.float32]:
    return rng.normal(size=(rows, columns), scale=(2.0 / columns) ** 0.5).astype(np.float32)


def _smooth_planes(rng: np.random.Generator, side: int) -> NDArray[np.float16]:
    """Planes (3, side, side, C) of a few random waves each."""
    axis = np.linspace(-1.0, 1.0, side)
    waves = rng.normal(size=(4, 3, CHANNELS, 2), scale=6.0)
    phases = rng.uniform(0, 2 * np.pi, size=(4, 3, CHANNELS))
    row, column = axis[None, :, None, None], axis[None, None, :, None]
    total = np.zeros((3, side, side, CHANNELS))
    for wave, phase in zip(waves, phases, strict=True):
        angle = wave[:, None, None, :, 0] * row + wave[:, None, None, :, 1] * column
        total += 0.5 * np.sin(angle + phase[:, None, None, :])
    return total.astype(np.float16)
