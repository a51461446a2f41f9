"""The hairstyle: short to medium, parted on the subject's left, combed over the skull.

The order of random draws decides the look, and so does one accident that is kept for the same reason: hair grows only
from the first 11,248 triangles of the list (`scalp_share` cuts a list of triangles where it should cut vertices).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from scripts.capture.head import HEAD_AND_NECK, HeadRig
from scripts.capture.shapes import (
    Array,
    Index,
    face_normals,
    points_in_triangles,
    smoothstep,
    unit,
    vertex_normals,
)

STRANDS: Final = 9000
POINTS: Final = 11  # along a strand
SKULL_SAMPLES: Final = 60_000
PARTING_X: Final = 2.6
STRANDS_PER_CLUMP: Final = 26

# The hairline: height over the angle from straight ahead, the same on both sides.
_ANGLE_DEG: Final = (0, 12, 24, 34, 42, 50, 55, 59, 64, 67, 70, 80, 96, 106, 114, 122, 135, 150, 180)
_HEIGHT: Final = (
    (11.5, 11.5, 11.2, 10.6, 9.7, 8.2, 6.0, 2.6, 1.6, 2.2, 5.4, 5.7, 5.7, 5.0, 1.0, -1.2, -3.2, -4.6, -5.4)
)  # fmt: skip


class _Style(NamedTuple):
    """Per strand (N,): length, volume, and which layer over the skull it lies in (0..1)."""

    length: Array
    volume: Array
    layer: Array


class _Skull:
    """Points and normals of head and neck without the ears; hair is pushed out of it and held near it."""

    def __init__(self, points: Array, normals: Array) -> None:
        self._points, self._normals, self._tree = points, normals, cKDTree(points)

    def nearest(self, points: Array) -> tuple[Array, Array]:
        """The nearest skull points (N, 3) and their normals."""
        _, found = self._tree.query(points)
        return self._points[found], self._normals[found]


def hairline(angle_rad: Array) -> Array:
    """Height of the hairline at angles from straight ahead."""
    return np.asarray(np.interp(angle_rad, np.radians(_ANGLE_DEG), _HEIGHT))


def scalp_share(points: Array, soft: float = 0.5) -> Array:
    """How much of the scalp each point (P, 3) is, 0..1; 0 from entry 11,248 on, whatever the list holds."""
    angle = np.arctan2(np.abs(points[:, 0]), points[:, 2] + 0.5)
    share = smoothstep(points[:, 1] - hairline(angle), -soft, soft)
    share[HEAD_AND_NECK:] = 0
    return share


def hair_strands(rig: HeadRig, count: int = STRANDS, seed: int = 2) -> Array:
    """Points (count, POINTS, 3) of the strands in head space; they move rigidly with the skull."""
    rng = np.random.default_rng(seed)
    triangles = rig.triangles[rig.triangles.max(1) < HEAD_AND_NECK]
    area = np.linalg.norm(face_normals(rig.rest, triangles), axis=1) / 2
    center = rig.rest[triangles].mean(1)
    ear = _is_ear(center)
    share = area * scalp_share(center, 0.35) * ~ear
    chosen = rng.choice(len(triangles), count, p=share / share.sum())
    roots, _ = points_in_triangles(rig.rest[triangles[chosen]], rng.random(count), rng.random(count))
    skull = _sample_skull(rig, triangles, np.where(ear | (center[:, 1] < -8), 0, area), rng)
    style = _style_of(roots, rng)
    return _clumped(_grow(roots, skull, style, rng), roots, rng)


def _is_ear(center: Array) -> NDArray[np.bool_]:
    """Triangles of the ears, which grow no hair and hold none off; the sideburns before them do."""
    x, y, z = np.abs(center[:, 0]), center[:, 1], center[:, 2]
    ear = (x > 7.0) & (y < 5.6) & (y > -2.5) & (z > -2.8) & (z < 2.9)
    return np.asarray(ear & ~((z > 1.2) & (x < 7.35)))


def _sample_skull(rig: HeadRig, triangles: Index, weight: Array, rng: np.random.Generator) -> _Skull:
    chosen = triangles[rng.choice(len(triangles), SKULL_SAMPLES, p=weight / weight.sum())]
    points, mix = points_in_triangles(rig.rest[chosen], rng.random(SKULL_SAMPLES), rng.random(SKULL_SAMPLES))
    normals = vertex_normals(rig.rest, rig.triangles)
    return _Skull(points, unit((normals[chosen] * mix[:, :, None]).sum(1)))


def _style_of(roots: Array, rng: np.random.Generator) -> _Style:
    side = 1 - smoothstep(roots[:, 1], 4.5, 10.0)
    nape = 1 - smoothstep(roots[:, 1], -4, 3)
    angle = np.arctan2(np.abs(roots[:, 0]), roots[:, 2] + 0.5)
    length = 7.5 * (1 - side) + 3.0 * side
    length = np.where(angle > 1.9, length * (1 - 0.35 * nape), length)
    length = length * rng.uniform(0.75, 1.1, len(roots))
    sideburn = (angle < 1.25) & (roots[:, 1] < 6.2)
    length = np.where(sideburn, 1.6, length)
    volume = (1.0 * (1 - side) + 0.26 * side) * np.where(sideburn, 0.35, 1.0)
    above_line = np.minimum(roots[:, 1] - hairline(angle), 9)
    volume = volume * (0.25 + 0.75 * smoothstep(above_line, 0, 2.2)) + 0.12
    quiff = smoothstep(roots[:, 2], 3.0, 8.5) * smoothstep(roots[:, 1], 8, 11)
    return _Style(length, volume + 0.55 * quiff, rng.random(len(roots)))


def _grow(roots: Array, skull: _Skull, style: _Style, rng: np.random.Generator) -> Array:
    """Strands step by step: along the combing direction, lifted near the root, within a shell over the skull."""
    waywardness = rng.normal(size=(len(roots), 3)) * 0.16
    points, strand, before = roots.copy(), [roots.copy()], None
    _, normals = skull.nearest(points)
    for k in range(1, POINTS):
        t = k / (POINTS - 1)
        along = _combing(points) + waywardness
        along = unit(along - (along * normals).sum(1, keepdims=True) * normals, 1e-9)
        lift = max(0, 1.1 * (1 - t / 0.4)) * style.volume[:, None]
        direction = unit(along + normals * lift)
        if before is not None:
            direction = unit(direction * 0.6 + before * 0.4)
        before = direction
        points = points + direction * (style.length / (POINTS - 1))[:, None]
        foot, normals = skull.nearest(points)
        height = ((points - foot) * normals).sum(1)
        lowest = 0.06 + style.volume * (0.15 + 0.6 * style.layer) * smoothstep(t, 0, 0.4) * (1 - 0.25 * t)
        points = points + normals * (np.clip(height, lowest, 0.25 + 1.35 * style.volume) - height)[:, None]
        strand.append(points.copy())
    return np.stack(strand, 1)


def _combing(points: Array) -> Array:
    """Direction (N, 3) in which hair is combed: away from the parting on top, down at the back."""
    x, y, z = points.T
    side = np.where(x > PARTING_X + 0.25 * (z < 0) * (-z * 0.3), 1.0, -1.0)
    top, front = smoothstep(y, 7.5, 12.5), smoothstep(z, -1, 6)
    forward = np.stack(
        [side * (1.0 * top + 0.15), -0.75 * (1 - top) - 0.12, -0.55 - 0.35 * (1 - top) + 0.25 * top * front], 1
    )
    back = smoothstep(-z, 0.5, 6)[:, None]
    down = np.stack([0.12 * side, np.full(len(points), -1.0), np.full(len(points), -0.10)], 1)
    return np.asarray(forward * (1 - back) + back * down)


def _clumped(strands: Array, roots: Array, rng: np.random.Generator) -> Array:
    """Strands drawn towards a leader near their root, more so at the tips, where the leader's tip is near."""
    count = len(strands)
    leaders = rng.choice(count, count // STRANDS_PER_CLUMP, replace=False)
    _, own = cKDTree(roots[leaders]).query(roots)
    leading = strands[leaders[own]]
    pull = (0.55 * np.linspace(0, 1, POINTS)[None, :, None] ** 1.3) * rng.uniform(0.4, 1, (count, 1, 1))
    near = np.linalg.norm(strands[:, -1] - leading[:, -1], axis=1) < 2.2
    return np.where(near[:, None, None], strands * (1 - pull) + leading * pull, strands)
