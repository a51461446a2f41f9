"""Head models in memory and on disk, in our own layout: plain arrays and JSON, nothing pickled.

A folder holds one head. Licensed models are converted into it (`model.face.foreign_models`), and the licence-free head
is built into it (`model.face.flame_layout`), so that one loader reads both. Names follow the `smplx` package's.

| file | what |
|---|---|
| `head.npz` | `v_template` (V, 3) metres, `f` (F, 3), `shapedirs` (V, 3, K), `shapedirs_columns` (K,), `posedirs` (V, 3, 9 (J - 1)), `J_regressor` (J, V), `kintree_table` (2, J), `weights` (V, J); SMPL-X also the hands |
| `landmarks.npz` | 51 iBUG landmarks (17..67): `lmk_face_idx` (51,), `lmk_b_coords` (51, 3) |
| `contour.npz` | 17 iBUG contour landmarks for 79 neck angles: `lmk_face_idx` (79, 17), `lmk_b_coords` (79, 17, 3) |
| `mediapipe.npz` | MediaPipe landmarks: `lmk_face_idx` (L,), `lmk_b_coords` (L, 3), `landmark_indices` (L,) in 0..477 |
| `about.json` | `kind` (`flame`, `smplx`), `source`, `licence`, `expression_names`, `expression_scale` |

`shapedirs_columns` places each direction in the 400 columns of `smplx`: identity in 0..299, expression in 300..399.
"""  # noqa: E501 - a table

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import DataError

FLAME_JOINTS = 5
SMPLX_JOINTS = 55
IDENTITY_COLUMNS = 300
EXPRESSION_COLUMNS = 100
CONTOUR_ANGLES = 79
NUM_CONTOUR = 17
NUM_STATIC = 51
HEAD_NAMES = ("v_template", "f", "shapedirs", "posedirs", "J_regressor", "kintree_table", "weights")
HAND_NAMES = ("hands_componentsl", "hands_componentsr", "hands_meanl", "hands_meanr")
EMBEDDING_NAMES = ("lmk_face_idx", "lmk_b_coords")

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Embedding:
    """Landmarks as weighted corners of triangles."""

    face: NDArray[np.int64]  # (L,), or (79, 17) for the contour
    barycentric: NDArray[np.float64]  # (L, 3), or (79, 17, 3)
    mediapipe: NDArray[np.int64] | None = None  # (L,) MediaPipe numbers, for MediaPipe's landmarks


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What `about.json` says."""

    kind: str  # "flame" or "smplx"
    source: str
    licence: str
    expression_names: tuple[str, ...] = ()
    expression_scale: float = 1.0  # how large an expression coefficient usually is


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadArrays:
    """One head model: everything in metres, x to the subject's left, y up, z out of the face."""

    about: About
    v_template: NDArray[np.float32]  # (V, 3)
    faces: NDArray[np.int64]  # (F, 3)
    identity_dirs: NDArray[np.float32]  # (V, 3, B)
    expression_dirs: NDArray[np.float32]  # (V, 3, E)
    posedirs: NDArray[np.float32]  # (V, 3, 9 (J - 1))
    joint_regressor: NDArray[np.float32]  # (J, V)
    parents: NDArray[np.int64]  # (J,), -1 for the root
    weights: NDArray[np.float32]  # (V, J)
    hands: Arrays = field(default_factory=dict)
    landmarks: Embedding | None = None
    contour: Embedding | None = None
    mediapipe: Embedding | None = None


def write_head(folder: Path, head: HeadArrays) -> list[Path]:
    """Write a whole head; returns the files."""
    written = [
        write_arrays(folder / "head.npz", _model_arrays(head)),
        write_about(folder, head.about),
    ]
    for name, part in (("landmarks", head.landmarks), ("contour", head.contour), ("mediapipe", head.mediapipe)):
        if part is not None:
            written.append(write_embedding(folder / f"{name}.npz", part))
    return written


def write_arrays(path: Path, arrays: Arrays) -> Path:
    """Write a compressed npz of plain arrays, whole or not at all.

    Raises:
        DataError: An array holds Python objects (they would have to be pickled).
    """
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise DataError(f"{path.name}: array {name!r} has dtype {array.dtype}; only plain arrays are written")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    with partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    os.replace(partial, path)
    return path


def write_about(folder: Path, about: About) -> Path:
    """Write `about.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    text = {
        "kind": about.kind,
        "source": about.source,
        "licence": about.licence,
        "expression_names": list(about.expression_names),
        "expression_scale": about.expression_scale,
    }
    path = folder / "about.json"
    path.write_text(json.dumps(text, indent=2) + "\n", encoding="utf-8")
    return path


def write_embedding(path: Path, embedding: Embedding) -> Path:
    """Write one embedding file."""
    arrays: dict[str, NDArray[Any]] = {"lmk_face_idx": embedding.face, "lmk_b_coords": embedding.barycentric}
    if embedding.mediapipe is not None:
        arrays["landmark_indices"] = embedding.mediapipe
    return write_arrays(path, arrays)


def read_head(folder: Path) -> HeadArrays:
    """Read and check a head.

    Raises:
        DataError: A file is missing, not ours, or its arrays do not fit together.
    """
    about = read_about(folder)
    head = head_from_arrays(read_arrays(folder / "head.npz", (*HEAD_NAMES, "shapedirs_columns")), about)
    return replace(
        head,
        landmarks=_read_embedding(folder / "landmarks.npz", head),
        contour=_read_embedding(folder / "contour.npz", head),
        mediapipe=_read_embedding(folder / "mediapipe.npz", head),
    )


def read_about(folder: Path) -> About:
    """Read `about.json`; DataError when it is missing or damaged."""
    path = folder / "about.json"
    if not path.is_file():
        raise DataError(f"no head model in {folder} (about.json is missing); make one with: nerf-lipsync head-model")
    try:
        text = json.loads(path.read_text(encoding="utf-8"))
        return About(
            kind=str(text["kind"]),
            source=str(text["source"]),
            licence=str(text["licence"]),
            expression_names=tuple(str(name) for name in text["expression_names"]),
            expression_scale=float(text["expression_scale"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({type(error).__name__}: {error}); make it again") from error


def read_arrays(path: Path, needed: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """All arrays of an npz, none of them pickled.

    Raises:
        DataError: It is missing, holds pickled objects, or lacks one of the `needed` names.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing; convert the licensed file with: nerf-lipsync head-model --convert FILE")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is not an npz of plain arrays ({error}); convert it again") from error
    missing = [name for name in needed if name not in arrays]
    if missing:
        raise DataError(f"{path} lacks the array {missing[0]!r}; it holds {', '.join(sorted(arrays))}")
    return arrays


def head_from_arrays(arrays: Arrays, about: About) -> HeadArrays:
    """Check a head's arrays and sort its directions into identity and expression.

    Raises:
        DataError: The shapes do not fit together, an index is out of range, or a number is not finite.
    """
    _check_model(arrays, about.kind)
    columns = np.asarray(arrays["shapedirs_columns"], np.int64)
    directions = np.asarray(arrays["shapedirs"], np.float32)
    identity = columns < IDENTITY_COLUMNS
    parents = np.array(arrays["kintree_table"][0].astype(np.int64))
    parents[0] = -1
    return HeadArrays(
        about=about,
        v_template=np.asarray(arrays["v_template"], np.float32),
        faces=np.asarray(arrays["f"], np.int64),
        identity_dirs=directions[:, :, identity],
        expression_dirs=directions[:, :, ~identity],
        posedirs=np.asarray(arrays["posedirs"], np.float32),
        joint_regressor=np.asarray(arrays["J_regressor"], np.float32),
        parents=parents,
        weights=np.asarray(arrays["weights"], np.float32),
        hands={name: arrays[name] for name in HAND_NAMES if name in arrays},
    )


def embedding_from_arrays(arrays: Arrays, path: Path, num_faces: int | None) -> Embedding:
    """Check an embedding against a mesh of `num_faces` triangles (not yet known: None).

    Raises:
        DataError: The shapes disagree, or a triangle is out of range.
    """
    face = np.asarray(arrays["lmk_face_idx"], np.int64)
    corners = np.asarray(arrays["lmk_b_coords"], np.float64)
    if corners.shape != (*face.shape, 3) or not np.isfinite(corners).all():
        raise DataError(f"{path}: triangles {face.shape} and weights {corners.shape} do not belong together")
    if face.size and (face.min() < 0 or (num_faces is not None and face.max() >= num_faces)):
        raise DataError(f"{path}: triangle {face.max()} is not one of the head's {num_faces}; is it another model's?")
    indices = arrays.get("landmark_indices")
    if indices is None:
        return Embedding(face, corners)
    numbers = np.asarray(indices, np.int64)
    if numbers.shape != face.shape or numbers.min() < 0 or numbers.max() > 477:
        raise DataError(f"{path}: landmark_indices {numbers.shape} go to {numbers.max()}; wanted 0..477")
    return Embedding(face, corners, numbers)


def _read_embedding(path: Path, head: HeadArrays) -> Embedding | None:
    if not path.is_file():
        return None
    return embedding_from_arrays(read_arrays(path, EMBEDDING_NAMES), path, len(head.faces))


def _check_model(arrays: Arrays, kind: str) -> None:
    vertices, joints = len(arrays["v_template"]), len(arrays["J_regressor"])
    wanted_joints = {"flame": FLAME_JOINTS, "smplx": SMPLX_JOINTS}.get(kind)
    if joints != wanted_joints:
        raise DataError(f"a {kind!r} head with {joints} joints; known: flame {FLAME_JOINTS}, smplx {SMPLX_JOINTS}")
    columns = np.asarray(arrays["shapedirs_columns"])
    shapes = {
        "v_template": (vertices, 3),
        "shapedirs": (vertices, 3, len(columns)),
        "posedirs": (vertices, 3, 9 * (joints - 1)),
        "J_regressor": (joints, vertices),
        "kintree_table": (2, joints),
        "weights": (vertices, joints),
    }
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise DataError(f"head array {name!r} has shape {arrays[name].shape}, wanted {shape}")
        if not np.isfinite(arrays[name]).all():
            raise DataError(f"head array {name!r} holds numbers that are not finite")
    faces = arrays["f"]
    if faces.ndim != 2 or faces.shape[1] != 3 or int(faces.max()) >= vertices:
        raise DataError(f"head array 'f' has shape {faces.shape} and names vertex {faces.max()} of {vertices}")
    if np.any(np.diff(columns) <= 0) or columns.min() < 0 or columns.max() >= IDENTITY_COLUMNS + EXPRESSION_COLUMNS:
        raise DataError(f"shapedirs_columns must rise within 0..399, got {columns.min()}..{columns.max()}")


def _model_arrays(head: HeadArrays) -> dict[str, NDArray[Any]]:
    identity = np.arange(head.identity_dirs.shape[2])
    expression = IDENTITY_COLUMNS + np.arange(head.expression_dirs.shape[2])
    return {
        "v_template": head.v_template,
        "f": head.faces.astype(np.int32),
        "shapedirs": np.concatenate([head.identity_dirs, head.expression_dirs], 2),
        "shapedirs_columns": np.concatenate([identity, expression]).astype(np.int32),
        "posedirs": head.posedirs,
        "J_regressor": head.joint_regressor,
        "kintree_table": np.stack([head.parents, np.arange(len(head.parents))]),
        "weights": head.weights,
        **head.hands,
    }
