"""The ICT-FaceKit head (MIT): identities and expressions as vertices, and its vertices under MediaPipe's landmarks.

Offline only. Read from ICT-FaceKit's own files (a checkout or its `FaceXModel` folder) or from an npz of the same
arrays: `neutral` (V, 3), `tri` (F, 3), `expr` (E, V, 3), `expr_names`, `ident` (I, V, 3). Units about 1 cm; axes as the
motion space's (x to the subject's left, y up, z out).
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.errors import DataError, ModelError
from model.face.obj_mesh import read_obj_triangles, read_obj_vertices

FACE_VERTICES = 9409  # ICT-FaceKit lists the face region first


@dataclass(frozen=True)
class IctHead:
    """Vertices as a linear function of identity and expression weights."""

    neutral: NDArray[np.float32]  # (V, 3)
    expressions: NDArray[np.float32]  # (E, V, 3)
    expression_names: tuple[str, ...]
    identities: NDArray[np.float32]  # (I, V, 3)
    triangles: NDArray[np.int32]  # (F, 3) vertex indices; none in a subset

    @classmethod
    def load(cls, path: Path) -> IctHead:
        """Read the npz, or the OBJ files of a checkout of ICT-FaceKit or of its `FaceXModel` folder.

        Raises:
            ModelError: There is no such file or folder.
            DataError: A file of the folder is missing or damaged, or the npz is.
        """
        if path.is_dir():
            return _read_folder(path / "FaceXModel" if (path / "FaceXModel").is_dir() else path)
        if not path.is_file():
            raise ModelError(f"ICT-FaceKit arrays not found: {path}")
        try:
            with path.open("rb") as file, np.load(file) as data:
                return cls(
                    data["neutral"].astype(np.float32),
                    data["expr"].astype(np.float32),
                    tuple(str(n) for n in data["expr_names"]),
                    data["ident"].astype(np.float32),
                    data["tri"].astype(np.int32),
                )
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(f"{path} is not an npz of ICT-FaceKit's arrays ({error}); give its checkout") from error

    def subset(self, vertices: NDArray[np.int64]) -> IctHead:
        """The same head with only these vertices and no triangles (fast sums over many frames)."""
        return IctHead(
            self.neutral[vertices],
            self.expressions[:, vertices],
            self.expression_names,
            self.identities[:, vertices],
            np.zeros((0, 3), np.int32),
        )

    def shape(self, identity: Sequence[float]) -> NDArray[np.float32]:
        """Neutral vertices (V, 3) of one identity."""
        weights = np.asarray(identity, np.float32)
        return self.neutral + np.tensordot(weights, self.identities[: len(weights)], 1)

    def expression_basis(self, names: Sequence[str]) -> NDArray[np.float32]:
        """(len(names), V, 3) displacements in the order of `names`."""
        return self.expressions[[self.expression_names.index(n) for n in names]]


def correspondence(
    vertices_px: NDArray[np.float32],  # (F, V, 2): projected vertices of F frames
    landmarks_px: NDArray[np.float32],  # (F, 478, 2): MediaPipe's landmarks of the same frames
    facing: NDArray[np.float32],  # (V,): z of the vertex normals
) -> NDArray[np.int64]:
    """For each landmark the vertex that stays nearest to it over all frames, (478,)."""
    usable = np.flatnonzero((np.arange(vertices_px.shape[1]) < FACE_VERTICES) & (facing > -0.5))
    penalty = np.where(facing[usable] < -0.3, 0.6, 0.0)
    found = np.zeros(landmarks_px.shape[1], np.int64)
    for i in range(landmarks_px.shape[1]):
        distance_sq = ((vertices_px[:, usable] - landmarks_px[:, i : i + 1]) ** 2).sum(2)
        cost = np.sqrt(np.median(distance_sq, 0)) + 0.15 * np.sqrt(distance_sq.mean(0)) + penalty
        found[i] = usable[int(cost.argmin())]
    return found


def _read_folder(folder: Path) -> IctHead:
    """Every mesh of ICT-FaceKit is the neutral with one shape added; what is kept is the difference."""
    neutral_file = folder / "generic_neutral_mesh.obj"
    if not neutral_file.is_file():
        raise DataError(f"no generic_neutral_mesh.obj in {folder}: give ICT-FaceKit's checkout or its FaceXModel")
    neutral = read_obj_vertices(neutral_file)
    others = sorted(file for file in folder.glob("*.obj") if file != neutral_file)
    identities = [file for file in others if re.fullmatch(r"identity\d{3}", file.stem)]
    expressions = [file for file in others if file not in identities]
    if not identities or not expressions:
        raise DataError(
            f"{folder} holds {len(identities)} identity and {len(expressions)} expression meshes; the checkout has both"
        )
    return IctHead(
        neutral,
        np.stack([_difference(file, neutral) for file in expressions]),
        tuple(file.stem for file in expressions),
        np.stack([_difference(file, neutral) for file in identities]),
        read_obj_triangles(neutral_file),
    )


def _difference(file: Path, neutral: NDArray[np.float32]) -> NDArray[np.float32]:
    vertices = read_obj_vertices(file)
    if vertices.shape != neutral.shape:
        raise DataError(f"{file} has {len(vertices)} vertices, the neutral mesh {len(neutral)}")
    return vertices - neutral
