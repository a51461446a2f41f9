"""Torso in a plain sweater with a ribbed collar, and the eyeballs' mesh: all procedural."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from scripts.capture.head import HEAD_AND_NECK, HeadRig
from scripts.capture.shapes import Array, Index

CLOTH: Final = (0.045, 0.105, 0.15)  # linear RGB
COLLAR_POINT: Final = (0.0, -11.7, -2.0)  # the plane that cuts the torso: high behind, low in front
_SLANT: Final = np.array([0, 1, 0.38])
COLLAR_NORMAL: Final = _SLANT / np.linalg.norm(_SLANT)
GRID_STEP: Final = 0.55
_LOW, _HIGH = (-25, -27, -13.0), (25, -8.0, 11.0)
COLLAR_AROUND, COLLAR_ACROSS = 160, 14
EYE_AROUND, EYE_ALONG = 48, 40


class Mesh(NamedTuple):
    """Vertices (V, 3), faces (F, 3 or 4) and linear RGB (V, 3)."""

    vertices: Array
    faces: Index
    colors: Array


def torso() -> Mesh:
    """Shoulders, arms and chest as one smooth surface, cut at the collar."""
    from skimage.measure import marching_cubes  # of the extra `capture`; the rest of this file does without

    axes = [np.arange(a, b, GRID_STEP) for a, b in zip(_LOW, _HIGH, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    field = _body_distance(points)
    field = np.maximum(field, (points - np.array(COLLAR_POINT)) @ COLLAR_NORMAL)
    vertices, faces, _, _ = marching_cubes(field.reshape([len(a) for a in axes]), 0, spacing=(GRID_STEP,) * 3)
    vertices = np.asarray(vertices + np.array(_LOW), np.float64)
    return Mesh(vertices, np.asarray(faces[:, ::-1], np.int64), _cloth_colors(vertices))


def collar(rig: HeadRig) -> Mesh:
    """A ribbed tube around the neck, a little off it, in the collar's plane."""
    around = np.linspace(0, 2 * np.pi, COLLAR_AROUND, endpoint=False)
    across = np.linspace(0, 2 * np.pi, COLLAR_ACROSS, endpoint=False)
    axis_z, point = -1.6, np.array(COLLAR_POINT)
    radius = _neck_radius(rig, around, axis_z) + 0.55
    x, z = radius * np.sin(around), axis_z + radius * np.cos(around)
    y = point[1] - ((x - point[0]) * COLLAR_NORMAL[0] + (z - point[2]) * COLLAR_NORMAL[2]) / COLLAR_NORMAL[1]
    outward = np.stack([np.sin(around), 0 * around, np.cos(around)], 1)[:, None]
    thick, tall = np.cos(across)[None, :, None] * 0.42, np.sin(across)[None, :, None] * 0.85
    vertices = np.stack([x, y, z], 1)[:, None] + (outward * thick + COLLAR_NORMAL * tall + outward * (-0.35 * tall))
    ribs = np.cos(np.repeat(np.arange(COLLAR_AROUND), COLLAR_ACROSS) * np.pi)
    colors = np.array(CLOTH) * 0.92 * (1 + 0.16 * ribs)[:, None]
    return Mesh(vertices.reshape(-1, 3), _tube_faces(COLLAR_AROUND, COLLAR_ACROSS), colors)


def eyeball() -> Mesh:
    """A sphere of radius 1 along +z with the cornea's bulge; its color is made of its coordinates."""
    polar = (np.linspace(0, 1, EYE_ALONG) ** 1.25) * np.pi
    around = np.linspace(0, 2 * np.pi, EYE_AROUND, endpoint=False)
    off_axis = np.sin(polar)
    bulge = 1 + 0.055 * np.clip(1 - (off_axis / 0.52) ** 2, 0, 1) * (polar < np.pi / 2)
    ring = off_axis * bulge
    depth = np.outer(np.cos(polar) * bulge, np.ones(EYE_AROUND))
    vertices = np.stack([np.outer(ring, np.cos(around)), np.outer(ring, np.sin(around)), depth], -1).reshape(-1, 3)
    n = EYE_AROUND
    faces = [
        [i * n + j, (i + 1) * n + j, (i + 1) * n + (j + 1) % n, i * n + (j + 1) % n]
        for i in range(EYE_ALONG - 1)
        for j in range(n)
    ]
    return Mesh(vertices, np.array(faces, np.int64), np.zeros((len(vertices), 3)))


def below_collar(rig: HeadRig, vertices: Index) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which of these vertices of the head lie under the sweater."""
    return np.asarray(((rig.rest[vertices] - np.array(COLLAR_POINT)) @ COLLAR_NORMAL) < -1.6)


def _body_distance(points: Array) -> Array:
    """Signed distance (P,) to neck, shoulders, arms and chest, melted into each other."""
    body = _capsule(points, (0, -12.5, -2.8), (0, -13.5, -2.6), (6.6, 7.0), (1.0, 1, 0.95))
    for s in (-1, 1):
        shoulder = _capsule(points, (s * 4.5, -13.2, -3.4), (s * 15.0, -18.3, -3.2), (3.6, 4.3))
        body = _melt(body, shoulder, 3.0)
        body = _melt(body, _capsule(points, (s * 15.8, -19.4, -3.0), (s * 18.2, -33, -2.0), (4.9, 4.6)), 3.0)
    return _melt(body, _capsule(points, (0, -25, -1.5), (0, -40, -1.0), (10.5, 11.5), (1.45, 1, 0.86)), 5.0)


def _capsule(
    points: Array,
    start: Sequence[float],
    end: Sequence[float],
    radii: tuple[float, float],
    scale: tuple[float, float, float] = (1, 1, 1),
) -> Array:
    """Distance to a tapered capsule in a scaled space."""
    to = (points - np.array(start, float)) / np.array(scale)
    axis = (np.array(end, float) - np.array(start, float)) / np.array(scale)
    t = np.clip(to @ axis / (axis @ axis), 0, 1)
    radius = radii[0] + (radii[1] - radii[0]) * t
    return np.asarray((np.linalg.norm(to - t[:, None] * axis, axis=1) - radius) * min(scale))


def _melt(a: Array, b: Array, width: float) -> Array:
    """Smooth minimum."""
    share = np.clip(0.5 + 0.5 * (b - a) / width, 0, 1)
    return np.asarray(b * (1 - share) + a * share - width * share * (1 - share))


def _neck_radius(rig: HeadRig, around: Array, axis_z: float) -> Array:
    """Radius (A,) of the neck in the collar's plane at angles around the vertical axis, smoothed."""
    skin = rig.rest[:HEAD_AND_NECK]
    ring = skin[np.abs((skin - np.array(COLLAR_POINT)) @ COLLAR_NORMAL) < 0.9]
    angle, distance = np.arctan2(ring[:, 0], ring[:, 2] - axis_z), np.hypot(ring[:, 0], ring[:, 2] - axis_z)
    radius = np.full(len(around), np.nan)
    for i, a in enumerate(around):
        near = np.abs((angle - a + np.pi) % (2 * np.pi) - np.pi) < 0.22
        if near.any():
            radius[i] = np.median(distance[near])
    radius = np.where(np.isnan(radius), np.nanmedian(radius), radius)
    window = np.arange(-6, 7)
    return np.array([np.mean(radius[(i + window) % len(around)]) for i in range(len(around))])


def _cloth_colors(vertices: Array) -> Array:
    """The sweater's color with fine and coarse unevenness."""
    rng = np.random.default_rng(8)
    fine = _waves(vertices, rng, 60, 2.2) / 5.5
    coarse = _waves(vertices, rng, 30, 0.25) / 3.9
    return np.asarray(np.array(CLOTH) * (1 + 0.035 * fine + 0.05 * coarse)[:, None].clip(0.6, 1.4))


def _waves(points: Array, rng: np.random.Generator, count: int, frequency: float) -> Array:
    directions = rng.normal(size=(count, 3)) * frequency
    return np.asarray(np.cos(points @ directions.T + rng.random(count) * 6.3).sum(1))


def _tube_faces(around: int, across: int) -> Index:
    return np.array(
        [
            [i * across + j, k * across + j, k * across + (j + 1) % across, i * across + (j + 1) % across]
            for i in range(around)
            for k in ((i + 1) % around,)
            for j in range(across)
        ],
        np.int64,
    )
