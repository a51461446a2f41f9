"""Small geometry used everywhere: smooth steps, splines, polygon distances, mesh normals."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Index: TypeAlias = NDArray[np.int64]
Picture: TypeAlias = NDArray[np.uint8]


def smoothstep(x: Any, low: float, high: float) -> Array:
    """0 at `low`, 1 at `high` (which may lie below), cubic between."""
    t = np.clip((np.asarray(x, np.float64) - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


def unit(vectors: Array, guard: float = 0.0) -> Array:
    """Vectors of length 1 along the last axis; `guard` is added to the lengths."""
    return np.asarray(vectors / (np.linalg.norm(vectors, axis=-1, keepdims=True) + guard))


def catmull_rom(points: Array, per_segment: int, *, closed: bool) -> Array:
    """Catmull-Rom curve through points (P, D), `per_segment` samples from each on; an open one ends in the last."""
    points = np.asarray(points, np.float64)
    count = len(points)
    out: list[Array] = []
    for i in range(count if closed else count - 1):
        around = [(i + k) % count if closed else min(max(i + k, 0), count - 1) for k in (-1, 0, 1, 2)]
        a, b, c, d = points[around]
        out += [_catmull_rom_at(a, b, c, d, t) for t in np.arange(per_segment) / per_segment]
    if not closed:
        out.append(points[-1])
    return np.array(out)


def _catmull_rom_at(a: Array, b: Array, c: Array, d: Array, t: float) -> Array:
    """The curve between `b` (t = 0) and `c` (t = 1)."""
    cubic = (2 * b) + (-a + c) * t + (2 * a - 5 * b + 4 * c - d) * t * t + (-a + 3 * b - 3 * c + d) * t**3
    return np.asarray(0.5 * cubic)


def signed_distance(points: Array, polygon: Array) -> Array:
    """Distance (P,) of points (P, 2) to a closed polygon (V, 2), negative inside."""
    nearest = np.full(len(points), 1e9)
    inside = np.zeros(len(points), bool)
    for a, b in zip(polygon, np.roll(polygon, -1, 0), strict=True):
        edge, to = b - a, points - a
        t = np.clip((to @ edge) / (edge @ edge + 1e-12), 0, 1)
        nearest = np.minimum(nearest, np.linalg.norm(to - t[:, None] * edge, axis=1))
        crosses = (a[1] > points[:, 1]) != (b[1] > points[:, 1])
        if abs(b[1] - a[1]) > 1e-12:
            inside ^= crosses & (points[:, 0] < (b[0] - a[0]) * (points[:, 1] - a[1]) / (b[1] - a[1]) + a[0])
    return np.where(inside, -nearest, nearest)


def face_normals(vertices: Array, triangles: Index) -> Array:
    """Normals (T, 3) of triangles, as long as twice their area."""
    corner = vertices[triangles]
    return np.asarray(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]))


def vertex_normals(vertices: Array, triangles: Index) -> Array:
    """Unit normals (V, 3): the area-weighted mean over the triangles around a vertex."""
    normals = np.zeros_like(vertices)
    of_faces = face_normals(vertices, triangles)
    for corner in range(3):
        np.add.at(normals, triangles[:, corner], of_faces)
    return unit(normals, 1e-12)


def points_in_triangles(corners: Array, along: Array, across: Array) -> tuple[Array, Array]:
    """Uniform points (P, 3) in triangles (P, 3, 3) from two uniform numbers each; and their weights (P, 3)."""
    root = np.sqrt(along)
    weights = np.stack([1 - root, root * (1 - across), root * across], 1)
    return (corners * weights[:, :, None]).sum(1), weights
