"""Where in canonical space an avatar's field is dense in any motion: a frame skips the voxels that only others need.

Computed from the field when an avatar is loaded, so that avatars made before have it as well. NumPy only.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from kernels.ray_march import FieldArrays
from kernels.ray_march.arrays import FEATURES
from model.radiance.camera import HeadPose
from model.radiance.config import MOTION_GAINS

GRID = 96  # coarser than serving's occupancy: a warp that stretches by a third still misses no voxel between corners
POINTS = ((1, 1, 1), (1, 3, 3), (3, 1, 3), (3, 3, 1))  # quarters of a voxel: where its density is looked at
FAINTEST = 1 / 64  # of a sample's opacity: below it at all points in every motion, a voxel is empty
MOTIONS = 6
LARGEST_CODE = 2.5  # standard deviations
POSES_DEG = ((0, 0, 0), (22, 0, 0), (-22, 0, 0), (0, 12, 0), (0, -12, 0), (12, 6, 8), (-12, -6, -8))
BLOCK = 4096  # voxels evaluated at once: their activations fit a core's cache
MOST_KNOWN = 16

Float32 = NDArray[np.float32]
Conditions = tuple[Float32, Float32, Float32]  # biases of both layers, warp

_known: dict[bytes, NDArray[np.uint8]] = {}


def spread_motions(size: int) -> Iterator[tuple[Float32, HeadPose]]:
    """Motions and poses that reach as far as motion does: rest, then codes at random, lids from open to shut."""
    rng = np.random.default_rng(17)
    gains = np.asarray(MOTION_GAINS if size == len(MOTION_GAINS) else (1.0,) * size, np.float32)
    for number in range(MOTIONS):
        yaw, pitch, roll = POSES_DEG[number % len(POSES_DEG)]
        codes = rng.uniform(-LARGEST_CODE, LARGEST_CODE, size).astype(np.float32) / gains * (number > 0)
        if size == len(MOTION_GAINS):
            codes[20:22] = (number % 3) / 2
            codes[24:] = 0
        yield codes.astype(np.float32), HeadPose(yaw_deg=yaw, pitch_deg=pitch, roll_deg=roll)


def known_matter(field: FieldArrays, conditions: Sequence[Conditions]) -> NDArray[np.bool_]:
    """`canonical_matter`, remembered: an avatar's renderers of several sizes ask for the same."""
    digest = hashlib.blake2b(digest_size=16)
    constants = np.array([field.density_scale, field.step, *field.warp_lo, *field.warp_hi])
    for array in (field.planes, field.w1, field.w2, field.w3, field.b3, field.occupancy, constants):
        digest.update(array.tobytes())
    for array in chain.from_iterable(conditions):
        digest.update(array.tobytes())
    key = digest.digest()
    packed = _known.get(key)
    if packed is None:
        packed = np.packbits(canonical_matter(field, conditions))
        while len(_known) >= MOST_KNOWN:
            _known.pop(next(iter(_known)), None)
        _known[key] = packed
    return np.unpackbits(packed).astype(np.bool_).reshape(GRID, GRID, GRID)


def canonical_matter(field: FieldArrays, conditions: Sequence[Conditions]) -> NDArray[np.bool_]:
    """(96, 96, 96) bool: dense in any of the conditions, or reached by none of their warps and so not known."""
    reached = reached_voxels(field, [warp for _, _, warp in conditions])
    matter = ~reached
    index = np.stack(np.nonzero(reached), axis=1)
    least = raw_density(FAINTEST, field)
    for start in range(0, len(index), BLOCK):
        part = index[start : start + BLOCK]
        for quarters in POINTS:
            positions = ((part + np.array(quarters) / 4) * (2.0 / GRID) - 1.0).astype(np.float32)
            dense = is_dense(field, positions, conditions, least)
            matter[tuple(part[dense].T)] = True
            part = part[~dense]
    return matter


def raw_density(alpha: float, field: FieldArrays) -> float:
    """The MLP's first output at which a sample has this opacity."""
    softplus = -math.log1p(-alpha) / (field.step * field.density_scale)
    return 1.0 + math.log(math.expm1(softplus))


def is_dense(
    field: FieldArrays, positions: Float32, conditions: Sequence[Conditions], least: float
) -> NDArray[np.bool_]:
    """(N,) whether the first output at canonical positions (N, 3) is above `least` in any of the conditions."""
    hidden = plane_features(field.planes, positions) @ field.w1.T
    found = np.zeros(len(positions), np.bool_)
    left = np.arange(len(positions))
    for bias1, bias2, _ in conditions:
        second = np.maximum(hidden + bias1, 0) @ field.w2.T
        second += bias2
        dense = np.maximum(second, 0, out=second) @ field.w3[0] > least - field.b3[0]
        found[left[dense]] = True
        left, hidden = left[~dense], hidden[~dense]
    return found


def plane_features(planes: NDArray[np.float16], positions: Float32) -> Float32:
    """(N, 48) float32: the kernel's features at canonical positions (N, 3)."""
    side = planes.shape[1]
    where = ((positions + 1) * np.float32(0.5 * (side - 1))).clip(0, side - 1)
    low = np.minimum(where.astype(np.intp), side - 2)
    part = where - low
    features = np.empty((len(positions), FEATURES), np.float32)
    for plane, (col, row) in enumerate(((0, 1), (2, 1), (0, 2))):
        c, r, fc, fr = low[:, col], low[:, row], part[:, col, None], part[:, row, None]
        texels = planes[plane].astype(np.float32)
        upper = texels[r, c] * (1 - fc) + texels[r, c + 1] * fc
        lower = texels[r + 1, c] * (1 - fc) + texels[r + 1, c + 1] * fc
        features[:, 16 * plane : 16 * plane + 16] = upper * (1 - fr) + lower * fr
    return features


def reached_voxels(field: FieldArrays, warps: Sequence[Float32]) -> NDArray[np.bool_]:
    """(96, 96, 96) bool: where the occupied voxels' centres go in any of the warps, and the voxels around."""
    index = np.stack(np.nonzero(field.occupancy), axis=1)
    centres = ((index + 0.5) * (2.0 / len(field.occupancy)) - 1.0).astype(np.float32)
    reached = np.zeros((GRID + 2,) * 3, np.bool_)
    for warp in warps:
        moved = centres + warp_at(field, warp, centres)
        x, y, z = (((moved + 1) * (0.5 * GRID)).clip(0, GRID - 1).astype(np.intp) + 1).T
        reached[x, y, z] = True
    for axis in range(3):
        reached[...] = reached | np.roll(reached, 1, axis) | np.roll(reached, -1, axis)
    return reached[1:-1, 1:-1, 1:-1].copy()


def warp_at(field: FieldArrays, warp: Float32, positions: Float32) -> Float32:
    """Displacement (N, 3) at positions (N, 3): trilinear in the grid, clamped to its box."""
    nodes = np.array(warp.shape[:3])
    where = ((positions - field.warp_lo) / (field.warp_hi - field.warp_lo) * (nodes - 1)).clip(0, nodes - 1)
    low = np.minimum(where.astype(np.intp), nodes - 2)
    part = (where - low).astype(np.float32)
    flat = warp.reshape(-1, 3)
    first = (low[:, 0] * nodes[1] + low[:, 1]) * nodes[2] + low[:, 2]
    total = np.zeros(positions.shape, np.float32)
    for dx, dy, dz in np.ndindex(2, 2, 2):
        weight = abs(1 - dx - part[:, 0]) * abs(1 - dy - part[:, 1]) * abs(1 - dz - part[:, 2])
        total += weight[:, None] * flat[first + (dx * nodes[1] + dy) * nodes[2] + dz]
    return total
