"""Landmark embeddings for a head of any topology: landmarks on vertices, and FLAME's moving face contour.

FLAME's contour holds 17 iBUG landmarks for neck angles of -39..39 degrees. When a head turns, the outline that a
frontal camera sees slides from the jaw to the cheek on the far side. `smplx` looks that up in a table with one row per
whole degree of neck yaw; here the table is made: on the far side a contour landmark is the vertex that reaches furthest
from the middle of the face, at the same polar angle, in the turned view.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.errors import DataError
from model.face.head_files import CONTOUR_ANGLES, NUM_CONTOUR, Embedding

Array = NDArray[np.float64]
CHIN = 8  # right contour 0..7, chin, left contour 9..16
WINDOW_RAD = 0.06  # how far a landmark may leave its polar angle
LARGEST_DEG = 39


def vertex_embedding(
    vertices: NDArray[np.int64], faces: NDArray[np.int64], mediapipe: NDArray[np.int64] | None = None
) -> Embedding:
    """Landmarks that sit on vertices (any shape): for each a triangle that has it, all weight on that corner.

    Raises:
        DataError: A vertex belongs to no triangle.
    """
    flat = faces.reshape(-1)
    order = np.argsort(flat, kind="stable")
    corner = order[np.minimum(np.searchsorted(flat[order], vertices), len(order) - 1)]
    alone = vertices[flat[corner] != vertices]
    if len(alone):
        raise DataError(f"landmark vertex {alone[0]} belongs to no triangle of the head")
    return Embedding(corner // 3, np.eye(3)[corner % 3], mediapipe)


def contour_embedding(
    neutral: Array, faces: NDArray[np.int64], ibug: NDArray[np.int64], front: NDArray[np.int64]
) -> Embedding:
    """Rows 0..39 of the table are 0..39 degrees to the subject's right, rows 40..78 are 1..39 degrees to the left."""
    frontal = ibug[:NUM_CONTOUR]
    rows = np.stack([frontal] * CONTOUR_ANGLES)
    for row in range(CONTOUR_ANGLES):
        yaw_deg = -row if row <= LARGEST_DEG else row - LARGEST_DEG
        side = range(CHIN + 1, NUM_CONTOUR) if yaw_deg > 0 else range(CHIN)
        if yaw_deg:
            rows[row, list(side)] = _far_outline(neutral, ibug, front, frontal[list(side)], np.deg2rad(yaw_deg))
    return vertex_embedding(rows, faces)


def _far_outline(
    neutral: Array, ibug: NDArray[np.int64], front: NDArray[np.int64], frontal: NDArray[np.int64], yaw: float
) -> NDArray[np.int64]:
    """For each frontal landmark the vertex furthest out at its polar angle once the head is turned by `yaw`."""
    middle = neutral[ibug[NUM_CONTOUR:]].mean(0)
    start = neutral[frontal] - middle
    wanted = np.arctan2(start[:, 1], np.abs(start[:, 0]))
    cos, sin = np.cos(yaw), np.sin(yaw)
    offset = neutral[front] - middle
    seen_x = offset[:, 0] * cos + offset[:, 2] * sin
    sign = np.sign(yaw)  # the far side is the one that the head turns towards
    candidates = np.flatnonzero(sign * seen_x > 0)
    polar = np.arctan2(offset[candidates, 1], sign * seen_x[candidates])
    radius = np.hypot(seen_x[candidates], offset[candidates, 1])
    found = []
    for angle, vertex in zip(wanted, frontal, strict=True):
        near = np.abs(polar - angle) < WINDOW_RAD
        found.append(front[candidates[near][radius[near].argmax()]] if near.any() else vertex)
    return np.array(found, np.int64)
