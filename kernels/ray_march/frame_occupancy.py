"""Which voxels of the occupancy one frame needs: those its warp carries to matter.

The occupancy of a field holds the matter of every motion. Where the field can be dense at all is narrower in canonical
space, behind the warp; `FieldArrays.matter` says where, and a frame's warp says which voxels lead there. Plain NumPy,
in float32 in a stated order of operations: the C++ kernel keeps the same voxels, bit by bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.ray_march.arrays import FieldArrays, FrameInputs

Float32 = NDArray[np.float32]


def frame_occupancy(field: FieldArrays, frame: FrameInputs) -> NDArray[np.bool_]:
    """(G, G, G): occupied voxels of which a corner lies at matter; the field's own array where it has no `matter`.

    A voxel about as large as those of `matter` cannot reach into one that holds none of its eight corners, as long as
    the warp does not stretch it.
    """
    if field.matter is None:
        return field.occupancy
    hit = matter_at(field.matter, [corners_at(field, frame.warp, axis) for axis in range(3)])
    for axis in range(3):
        low, high = [slice(None)] * 3, [slice(None)] * 3
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        hit = hit[tuple(low)] | hit[tuple(high)]
    return field.occupancy & hit


def matter_at(matter: NDArray[np.bool_], canonical: list[Float32]) -> NDArray[np.bool_]:
    """Whether the voxels of `matter` at canonical positions, an array for each of x, y and z, hold any."""
    top = np.float32(len(matter) - 1)
    half = np.float32(0.5 * len(matter))
    x, y, z = (((q + np.float32(1)) * half).clip(np.float32(0), top).astype(np.intp) for q in canonical)
    found: NDArray[np.bool_] = matter[x, y, z]
    return found


def corners_at(field: FieldArrays, warp: Float32, component: int) -> Float32:
    """(G + 1, G + 1, G + 1): x, y or z in canonical space of all corners of voxels, interpolated along z, x, then y."""
    (x, fx), (y, fy), (z, fz) = (_cells(field, warp, axis) for axis in range(3))
    nodes = warp[..., component]
    nodes = nodes[:, :, z] + (nodes[:, :, z + 1] - nodes[:, :, z]) * fz
    nodes = nodes[x] + (nodes[x + 1] - nodes[x]) * fx[:, None, None]
    moved = nodes[:, y] + (nodes[:, y + 1] - nodes[:, y]) * fy[:, None]
    shape = [1, 1, 1]
    shape[component] = -1
    return np.asarray(_places(len(field.occupancy)).reshape(shape) + moved, np.float32)


def _places(grid: int) -> Float32:
    """(G + 1,) where voxels begin and end."""
    return np.arange(grid + 1, dtype=np.float32) * (np.float32(2) / np.float32(grid)) - np.float32(1)


def _cells(field: FieldArrays, warp: Float32, axis: int) -> tuple[NDArray[np.intp], Float32]:
    """Lower node and fraction, (G + 1,) each, of the corners along one axis, clamped to the warp's box."""
    last = warp.shape[axis] - 1
    scale = np.float32(last) / (field.warp_hi[axis] - field.warp_lo[axis])
    where = (_places(len(field.occupancy)) - field.warp_lo[axis]) * scale
    where = where.clip(np.float32(0), np.float32(last))
    low = np.minimum(where.astype(np.intp), last - 1)
    return low, where - low.astype(np.float32)
