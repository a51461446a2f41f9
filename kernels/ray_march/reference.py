"""Ray marcher in plain NumPy: short, slow, obviously right. Never edited to agree with a kernel.

Sample positions are float32 in a stated order of operations, so that every backend evaluates the same
points, bit by bit; what is evaluated there is float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernels.ray_march.arrays import FieldArrays, FrameInputs
from kernels.ray_march.frame_occupancy import frame_occupancy

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
TINY_DIRECTION = np.float32(1e-9)


@dataclass(frozen=True, slots=True)
class ReferenceImage:
    """An image and what a comparison with it needs to know."""

    rgba: Float32  # (H, W, 4) premultiplied
    samples: int  # field evaluations
    termination_margin: Float32  # (H, W) smallest |transmittance - termination| met along the ray
    depth: Float32  # (H, W) distance from the camera, weighted and divided as colour is


def render_reference(field: FieldArrays, frame: FrameInputs) -> ReferenceImage:
    """Render one frame. NeRF (Mildenhall et al. 2020) Eq. 3, with termination at ``field.termination``."""
    origin, dirs = camera_rays(frame)
    count = len(dirs)
    rgb, transmittance = np.zeros((count, 3)), np.ones(count)
    margin, depth = np.full(count, np.inf), np.zeros(count)
    samples = 0
    box = field.occupied_box()
    if box is not None:
        t_near, t_far = box_entry_exit(origin, dirs, *box)
        step, occupancy = np.float32(field.step), frame_occupancy(field, frame)
        for k in range(int(np.ceil(max(0.0, float((t_far - t_near).max())) / field.step)) + 1):
            t = t_near + (np.float32(k) + np.float32(0.5)) * step
            live = np.flatnonzero((t < t_far) & (t_near < t_far) & (transmittance > field.termination))
            p = origin + t[live, None] * dirs[live]
            occupied = is_occupied(occupancy, p)
            rays = live[occupied]
            sigma, color = evaluate_field(field, frame, p[occupied])
            alpha = 1.0 - np.exp(-sigma * field.step)
            rgb[rays] += (transmittance[rays] * alpha)[:, None] * color
            depth[rays] += transmittance[rays] * alpha * t[rays]
            transmittance[rays] *= 1.0 - alpha
            margin[rays] = np.minimum(margin[rays], np.abs(transmittance[rays] - field.termination))
            samples += len(rays)
    rgba = np.concatenate([rgb, 1.0 - transmittance[:, None]], axis=1)
    ended = transmittance <= field.termination
    rgba[ended] /= 1.0 - transmittance[ended, None]
    depth[ended] /= 1.0 - transmittance[ended]
    shape = (frame.height, frame.width)
    return ReferenceImage(
        rgba=rgba.reshape(*shape, 4).astype(np.float32),
        samples=samples,
        termination_margin=margin.reshape(shape).astype(np.float32),
        depth=depth.reshape(shape).astype(np.float32),
    )


def camera_rays(frame: FrameInputs) -> tuple[Float32, Float32]:
    """Camera centre (3,) and unit directions (H * W, 3), float32, through pixel centres."""
    f32 = np.float32
    x = (np.arange(frame.width, dtype=f32) + f32(0.5) - f32(frame.cx)) / f32(frame.fx)
    y = (np.arange(frame.height, dtype=f32) + f32(0.5) - f32(frame.cy)) / f32(frame.fy)
    xg, yg = (a.ravel() for a in np.meshgrid(x, y))
    scale = f32(1) / np.sqrt((xg * xg + yg * yg) + f32(1))
    m = frame.cam_to_canonical
    dirs = np.stack([((m[a, 0] * xg + m[a, 1] * yg) + m[a, 2]) * scale for a in range(3)], axis=1)
    return m[:, 3].copy(), dirs.astype(f32)


def box_entry_exit(origin: Float32, dirs: Float32, lo: Float32, hi: Float32) -> tuple[Float32, Float32]:
    """Distances (N,) at which rays enter (not before 0) and leave a box; entry >= exit means a miss."""
    safe = np.where(np.abs(dirs) < TINY_DIRECTION, TINY_DIRECTION, dirs)
    t0, t1 = (lo - origin) / safe, (hi - origin) / safe
    t_near = np.maximum(np.minimum(t0, t1).max(axis=1), np.float32(0))
    return t_near, np.maximum(t0, t1).min(axis=1)


def is_occupied(occupancy: NDArray[np.bool_], p: Float32) -> NDArray[np.bool_]:
    """Whether the voxel around each position (N, 3) has matter; positions outside read the nearest voxel."""
    grid = occupancy.shape[0]
    voxel = np.floor((p + np.float32(1)) * np.float32(0.5 * grid)).astype(np.int64).clip(0, grid - 1)
    found: NDArray[np.bool_] = occupancy[voxel[:, 0], voxel[:, 1], voxel[:, 2]]
    return found


def evaluate_field(field: FieldArrays, frame: FrameInputs, p: Float32) -> tuple[Float64, Float64]:
    """Density (N,) per unit length and colour (N, 3) in 0..1 at deformed positions ``p`` (N, 3)."""
    canonical = p.astype(np.float64) + warp_at(field, frame, p)
    hidden = np.maximum(plane_features(field, canonical) @ field.w1.T.astype(np.float64) + frame.bias1, 0.0)
    hidden = np.maximum(hidden @ field.w2.T.astype(np.float64) + frame.bias2, 0.0)
    out = hidden @ field.w3.T.astype(np.float64) + field.b3
    sigma = field.density_scale * np.logaddexp(0.0, out[:, 0] - 1.0)
    return sigma, 1.0 / (1.0 + np.exp(-out[:, 1:]))


def warp_at(field: FieldArrays, frame: FrameInputs, p: Float32) -> Float64:
    """Displacement (N, 3): trilinear in the warp grid, clamped to its box."""
    nodes = np.array(frame.warp.shape[:3])
    where = (p.astype(np.float64) - field.warp_lo) / (field.warp_hi - field.warp_lo).astype(np.float64)
    low, frac = _cell(where * (nodes - 1), nodes)
    total = np.zeros((len(p), 3))
    for corner in np.ndindex(2, 2, 2):
        index = low + corner
        weight = np.where(corner, frac, 1.0 - frac).prod(axis=1)
        total += weight[:, None] * frame.warp[index[:, 0], index[:, 1], index[:, 2]]
    return total


def plane_features(field: FieldArrays, canonical: Float64) -> Float64:
    """Bilinear samples of the three planes at (N, 3), concatenated: (N, 48)."""
    side = field.planes.shape[1]
    low, frac = _cell((canonical + 1.0) * (0.5 * (side - 1)), np.array([side] * 3))
    planes = field.planes.astype(np.float64)
    parts = []
    for plane, (col, row) in zip(planes, ((0, 1), (2, 1), (0, 2)), strict=True):
        c, r, fc, fr = low[:, col], low[:, row], frac[:, col, None], frac[:, row, None]
        upper = plane[r, c] * (1 - fc) + plane[r, c + 1] * fc
        lower = plane[r + 1, c] * (1 - fc) + plane[r + 1, c + 1] * fc
        parts.append(upper * (1 - fr) + lower * fr)
    return np.concatenate(parts, axis=1)


def _cell(where: Float64, nodes: NDArray[np.int64]) -> tuple[NDArray[np.int64], Float64]:
    """Lower node and fraction of grid coordinates (N, 3), clamped to the grid."""
    inside = where.clip(0.0, nodes - 1)
    low = np.minimum(np.floor(inside).astype(np.int64), nodes - 2)
    return low, inside - low
