"""Rotation vectors of many frames at once: matrices and their derivatives (float64)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]
SMALL_ANGLE = 1e-4  # below it the series of the right Jacobian is exact in float64


def matrices(vectors: Array) -> Array:
    """Rotation vectors (T, 3), radians, to (T, 3, 3)."""
    return np.asarray(Rotation.from_rotvec(vectors).as_matrix(), np.float64)


def cross_matrices(vectors: Array) -> Array:
    """(..., 3) to the matrices (..., 3, 3) that take a cross product from the left."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    zero = np.zeros_like(x)
    rows = [np.stack(row, -1) for row in ((zero, -z, y), (z, zero, -x), (-y, x, zero))]
    return np.stack(rows, -2)


def matrix_derivatives(vectors: Array) -> Array:
    """dR/dv_k of `matrices`, (T, 3, 3, 3) with k last (right Jacobian; Chirikjian 2012, Eq. 10.86)."""
    angle = np.linalg.norm(vectors, axis=1)[:, None, None]
    small = angle < SMALL_ANGLE
    safe = np.where(small, 1.0, angle)
    first = np.where(small, 0.5, (1 - np.cos(safe)) / safe**2)
    second = np.where(small, 1 / 6, (safe - np.sin(safe)) / safe**3)
    cross = cross_matrices(vectors)
    jacobian = np.eye(3) - first * cross + second * cross @ cross  # (T, 3, 3): column k turns with v_k
    turned = cross_matrices(np.swapaxes(jacobian, 1, 2))  # (T, k, 3, 3)
    return np.moveaxis(matrices(vectors)[:, None] @ turned, 1, -1)
