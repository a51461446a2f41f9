"""Brows and lashes: short hairs bound to the skin, which follow its expressions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from scipy.spatial import cKDTree

from scripts.capture.head import FACE, HeadRig
from scripts.capture.shapes import Array, Index, catmull_rom, smoothstep, unit

BROW_HAIRS: Final = 640
BROW_POINTS: Final = 4  # along a hair
LASH_POINTS: Final = 5
UPPER_LASHES, LOWER_LASHES = 60, 24  # of one eye


class SkinStrands:
    """Hairs with roots on face triangles: barycentric roots, shape in the triangle's own frame."""

    def __init__(self, rig: HeadRig, roots: Array) -> None:
        self._corners, self._weights = _nearest_on_face(rig, roots)
        self._rest_frames = self._frames(rig.rest)
        self._local: Array = np.zeros((len(roots), 0, 3))

    @property
    def normals(self) -> Array:
        """Skin normals (N, 3) at the roots, at rest."""
        return self._rest_frames[:, :, 2]

    def set_offsets(self, offsets: Array) -> None:
        """Shape of the hairs at rest: offsets (N, K, 3) from the root."""
        self._local = np.einsum("nij,nki->nkj", self._rest_frames, offsets)

    def points(self, vertices: Array) -> Array:
        """Points (N, K, 3) of the hairs on a deformed head."""
        roots = (vertices[self._corners] * self._weights[:, :, None]).sum(1)
        return np.asarray(roots[:, None] + np.einsum("nij,nkj->nki", self._frames(vertices), self._local))

    def _frames(self, vertices: Array) -> Array:
        a, b, c = (vertices[self._corners[:, k]] for k in range(3))
        normal = unit(np.cross(b - a, c - a), 1e-12)
        tangent = unit(b - a, 1e-12)
        return np.stack([tangent, np.cross(normal, tangent), normal], 2)


def brow_line(landmarks_line: Array, bulge: float) -> Array:
    """The middle line of a brow from the landmarks' line, inner end first: lowered, raised outside, bent by `bulge`."""
    u = np.linspace(0, 1, len(landmarks_line))
    height = -0.16 - 0.26 * (1 - smoothstep(u, 0, 0.35))
    if bulge:
        height = height + bulge * np.exp(-(((u - 0.68) / 0.16) ** 2))
    height = height + 0.34 * smoothstep(u, 0.72, 1.0)
    return landmarks_line + np.stack([0 * u, height, 0 * u], 1)


def brows(rig: HeadRig, seed: int = 5) -> SkinStrands:
    """Both brows. The order of random draws decides the look: do not change it."""
    rng = np.random.default_rng(seed)
    hairs = [hair for indices in (range(17, 22), range(26, 21, -1)) for hair in _brow_hairs(rig, indices, rng)]
    roots, directions = np.array([h[0] for h in hairs]), np.array([h[1] for h in hairs])
    lengths = np.array([h[2] for h in hairs])
    strands = SkinStrands(rig, roots)
    normals = strands.normals
    directions = unit(directions - (directions * normals).sum(1, keepdims=True) * normals)
    along = np.linspace(0, 1, BROW_POINTS)[None, :, None]
    lengths_of = lengths[:, None, None]
    arch = 0.02 + 0.16 * np.sin(np.pi * 0.75 * along) * lengths_of
    strands.set_offsets(lengths_of * (directions[:, None] * along) + normals[:, None] * arch)
    return strands


def _brow_hairs(rig: HeadRig, indices: range, rng: np.random.Generator) -> Iterator[tuple[Array, Array, float]]:
    """Root, direction and length of the hairs of one brow."""
    line = brow_line(catmull_rom(rig.landmarks[list(indices)], 20, closed=False)[::-1], bulge=0.10)
    last = len(line) - 1
    for _ in range(BROW_HAIRS // 2):
        u = 0.05 + 0.93 * rng.beta(1.05, 1.15)
        i, share = int(u * last), u * last - int(u * last)
        middle = line[i] * (1 - share) + line[min(i + 1, last)] * share
        tangent = unit(line[min(i + 3, last)] - line[max(i - 3, 0)])
        width = 0.40 * (1 - 0.72 * smoothstep(u, 0.45, 1.0)) * (0.7 + 0.3 * smoothstep(u, 0, 0.15))
        v = rng.uniform(-1, 1)
        tilt_deg = 34 * (1 - smoothstep(u, 0, 0.45)) + 7 - 14 * v * (u > 0.2) + rng.normal() * 5
        direction = tangent * np.cos(np.radians(tilt_deg)) + np.array([0, 1, 0]) * np.sin(np.radians(tilt_deg))
        length = rng.uniform(0.45, 0.75) * (1 - 0.35 * u)
        yield middle + np.array([0, v * width, 0]), direction, length


def lashes(rig: HeadRig, seed: int = 6) -> SkinStrands:
    """Lashes of both eyes, upper and lower. The order of random draws decides the look: do not change it."""
    rng = np.random.default_rng(seed)
    hairs: list[tuple[Array, Array]] = []
    for first, outward, (center, _) in ((36, -1, rig.eyes[1]), (42, 1, rig.eyes[0])):
        eye = rig.landmarks[first : first + 6]
        hairs += _lid_hairs(eye, eye[:4], center, outward, (UPPER_LASHES, 0.50, 1), rng)
        hairs += _lid_hairs(eye, eye[[3, 4, 5, 0]], center, outward, (LOWER_LASHES, 0.24, -1), rng)
    strands = SkinStrands(rig, np.array([root for root, _ in hairs]))
    strands.set_offsets(np.array([offset for _, offset in hairs]))
    return strands


def _lid_hairs(
    eye: Array, lid: Array, center: Array, outward: int, kind: tuple[int, float, int], rng: np.random.Generator
) -> Iterator[tuple[Array, Array]]:
    """Root (3,) and offsets (LASH_POINTS, 3) of one lid's lashes; `kind`: count, length, up (1) or down (-1)."""
    count, longest, up = kind
    line = catmull_rom(lid, 16, closed=False)
    last = len(line) - 1
    along = np.linspace(0, 1, LASH_POINTS)[:, None]
    for q in range(count):
        u = (q + rng.uniform(0.2, 0.8)) / count * 0.92 + 0.04
        i, share = int(u * last), u * last - int(u * last)
        root = line[i] * (1 - share) + line[min(i + 1, last)] * share
        side = (root[0] - eye[:, 0].mean()) / (np.ptp(eye[:, 0]) / 2) * outward  # -1 inner corner .. 1 outer
        away = unit(root - center)
        direction = unit(np.array([outward * 0.55 * (side + 0.15), 0.15 * up, 0.0]) + away * 0.9)
        length = longest * rng.uniform(0.8, 1.1) * (0.55 + 0.45 * smoothstep(side, -1, 0.5))
        yield root, length * (direction * along + np.array([0, up * 0.38, -0.02]) * along**2.0)


def _nearest_on_face(rig: HeadRig, points: Array) -> tuple[Index, Array]:
    """Corners (N, 3) and barycentric weights (N, 3) of the face triangle next to each point."""
    triangles = rig.triangles[rig.triangles.max(1) < FACE]
    _, candidates = cKDTree(rig.rest[triangles].mean(1)).query(points, k=12)
    best = np.full(len(points), 1e9)
    corners, weights = np.zeros((len(points), 3), np.int64), np.zeros((len(points), 3))
    for k in range(candidates.shape[1]):
        tried = triangles[candidates[:, k]]
        found = _barycentric(rig.rest[tried], points)
        distance = np.linalg.norm((rig.rest[tried] * found[:, :, None]).sum(1) - points, axis=1)
        better = distance < best
        best[better], corners[better], weights[better] = distance[better], tried[better], found[better]
    return corners, weights


def _barycentric(corners: Array, points: Array) -> Array:
    """Weights (N, 3) of the points' feet on triangles (N, 3, 3), kept inside."""
    e0, e1, to = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], points - corners[:, 0]
    d00, d01, d11 = (e0 * e0).sum(1), (e0 * e1).sum(1), (e1 * e1).sum(1)
    d20, d21 = (to * e0).sum(1), (to * e1).sum(1)
    determinant = d00 * d11 - d01 * d01 + 1e-12
    v = np.clip((d11 * d20 - d01 * d21) / determinant, 0, 1)
    w = np.clip((d00 * d21 - d01 * d20) / determinant, 0, 1 - v)
    return np.stack([1 - v - w, v, w], 1)
