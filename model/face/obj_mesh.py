"""Wavefront OBJ, as much of it as ICT-FaceKit's files need: vertices in file order, and faces as triangles.

Mesh libraries merge and reorder vertices on reading; here the order is the meaning, so the two line kinds are read as
they stand (texture and normal indices are dropped, a face with more corners is split into a fan).
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.errors import DataError


def read_obj_vertices(path: Path) -> NDArray[np.float32]:
    """Vertices (V, 3) in file order.

    Raises:
        DataError: The file cannot be read, or holds no vertices of three numbers.
    """
    rows = [line[2:] for line in _lines(path) if line.startswith(b"v ")]
    if not rows:
        raise DataError(f"{path}: no vertex lines; is it a Wavefront OBJ file?")
    try:
        numbers = np.array(b" ".join(rows).split(), np.float64)
    except ValueError as error:
        raise DataError(f"{path}: a vertex line is not made of numbers ({error})") from error
    if numbers.size != 3 * len(rows):
        raise DataError(f"{path}: {len(rows)} vertex lines hold {numbers.size} numbers; wanted three in each")
    return numbers.reshape(-1, 3).astype(np.float32)


def read_obj_triangles(path: Path) -> NDArray[np.int32]:
    """Triangles (F, 3) of vertex indices from 0; polygons are split into fans about their first corner.

    Raises:
        DataError: The file cannot be read, or a face line is damaged.
    """
    triangles: list[tuple[int, int, int]] = []
    for line in _lines(path):
        if not line.startswith(b"f "):
            continue
        try:
            corners = [int(corner.split(b"/")[0]) - 1 for corner in line.split()[1:]]
        except ValueError as error:
            raise DataError(f"{path}: face line {line[:60]!r} does not name vertices by number") from error
        if len(corners) < 3 or min(corners) < 0:
            raise DataError(f"{path}: face line {line[:60]!r} needs three vertices, numbered from 1")
        triangles += [(corners[0], a, b) for a, b in itertools.pairwise(corners[1:])]
    return np.array(triangles, np.int32).reshape(-1, 3)


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
