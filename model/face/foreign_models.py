"""Convert licensed head models (FLAME, SMPL-X, as their owners hand them out) into our pickle-free layout.

The owners' files are pickles, or npz files with pickles in them. They are opened once, here, by a restricted reader in
a process of its own: `python -m model.face.foreign_models SOURCE OUT`, with limits on time, memory and file size. That
process writes numeric arrays; the parent reads them back without pickle, checks them and files them
(`model.face.head_files`). After that, nothing pickled is ever loaded.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from model.errors import InputError
from model.face.head_files import (
    CONTOUR_ANGLES,
    EMBEDDING_NAMES,
    EXPRESSION_COLUMNS,
    FLAME_JOINTS,
    HAND_NAMES,
    HEAD_NAMES,
    IDENTITY_COLUMNS,
    NUM_CONTOUR,
    NUM_STATIC,
    SMPLX_JOINTS,
    About,
    Arrays,
    Embedding,
    embedding_from_arrays,
    head_from_arrays,
    read_arrays,
    write_about,
    write_arrays,
    write_embedding,
)
from model.face.restricted_pickle import read_foreign_file

TIME_LIMIT_S = 180
MEMORY_LIMIT_BYTES = 6 * 2**30
FILE_LIMIT_BYTES = 2 * 2**30
EXIT_REFUSED = 3
SMPLX_LANDMARK_NAMES = ("lmk_faces_idx", "lmk_bary_coords", "dynamic_lmk_faces_idx", "dynamic_lmk_bary_coords")
WANTED = (*HEAD_NAMES, *HAND_NAMES, *SMPLX_LANDMARK_NAMES, *EMBEDDING_NAMES, "landmark_indices")
OLD_DIRECTIONS = 10  # what smplx takes for identity, and again for expression, when there are fewer than 400
LICENCE = {
    "flame": "FLAME licence of its owner (Max Planck Institute for Intelligent Systems): https://flame.is.tue.mpg.de",
    "smplx": "SMPL-X licence of its owner (Max Planck Institute for Intelligent Systems): https://smpl-x.is.tue.mpg.de",
}


def convert_file(source: Path, folder: Path) -> list[Path]:
    """Convert one licensed file into `folder`, where its parts come together one call at a time; returns what it wrote.

    Takes `FLAME_*.pkl`, `SMPLX_*.npz` or `.pkl`, `flame_static_embedding.pkl`, `flame_dynamic_embedding.npy` and
    `mediapipe_landmark_embedding.npz`; which one it is shows by the arrays inside.

    Raises:
        InputError: The file is missing, is none of these, or asks for foreign code.
        DataError: Its arrays do not fit together.
    """
    if not source.is_file():
        raise InputError(f"no such file: {source}")
    with tempfile.TemporaryDirectory(prefix="head-model-") as scratch:
        plain = Path(scratch) / "plain.npz"
        _run_reader(source, plain)
        arrays = read_arrays(plain, ())
    if "v_template" in arrays:
        return _file_model(arrays, source, folder)
    if "lmk_face_idx" in arrays:
        return [_file_embedding(arrays, source, folder)]
    raise InputError(f"{source}: neither a head model nor a landmark embedding (no 'v_template', no 'lmk_face_idx')")


def _run_reader(source: Path, out: Path) -> None:
    root = Path(__file__).parents[2]
    environment = {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "model.face.foreign_models", str(source.resolve()), str(out)]
    try:
        done = subprocess.run(
            command, env=environment, cwd=out.parent, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"{source}: reading it took more than {TIME_LIMIT_S} s and was stopped") from None
    if done.returncode == 0:
        return
    complaint = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    if done.returncode == EXIT_REFUSED:
        raise InputError(f"{source}: {complaint}")
    raise InputError(f"{source}: damaged or not such a file; the reader stopped with: {complaint[:200]}")


def _file_model(arrays: Arrays, source: Path, folder: Path) -> list[Path]:
    missing = [name for name in HEAD_NAMES if name not in arrays]
    if missing:
        raise InputError(f"{source}: a head model without {missing[0]!r}")
    joints = len(arrays["J_regressor"])
    kind = {FLAME_JOINTS: "flame", SMPLX_JOINTS: "smplx"}.get(joints)
    if kind is None:
        raise InputError(f"{source}: {joints} joints; FLAME has {FLAME_JOINTS}, SMPL-X {SMPLX_JOINTS}")
    columns = _shape_columns(arrays["shapedirs"].shape[-1])
    model = {name: arrays[name] for name in (*HEAD_NAMES, *HAND_NAMES) if name in arrays}
    for name in ("v_template", "shapedirs", "posedirs", "J_regressor", "weights"):
        model[name] = model[name].astype(np.float32)
    model["shapedirs"] = model["shapedirs"][:, :, : len(columns)]
    model["shapedirs_columns"] = columns
    about = About(kind=kind, source=source.name, licence=LICENCE[kind])
    head_from_arrays(model, about)
    written = [write_arrays(folder / "head.npz", model), write_about(folder, about)]
    for name, prefix, shape in (("landmarks", "", (NUM_STATIC,)), ("contour", "dynamic_", _CONTOUR_SHAPE)):
        if f"{prefix}lmk_faces_idx" in arrays:
            part = Embedding(arrays[f"{prefix}lmk_faces_idx"], arrays[f"{prefix}lmk_bary_coords"])
            written.append(_check_and_write(part, source, folder / f"{name}.npz", shape, len(arrays["f"])))
    return written


_CONTOUR_SHAPE = (CONTOUR_ANGLES, NUM_CONTOUR)


def _shape_columns(found: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """Where the file's directions belong among smplx's 400; older files hold 10 identities and 10 expressions.

    Given fewer than 400, smplx itself prints a warning and takes 10 + 10, whatever was asked for.
    """
    if found >= IDENTITY_COLUMNS + EXPRESSION_COLUMNS:
        return np.arange(IDENTITY_COLUMNS + EXPRESSION_COLUMNS, dtype=np.int32)
    identity = np.arange(min(found, OLD_DIRECTIONS))
    expression = IDENTITY_COLUMNS + np.arange(min(max(found - OLD_DIRECTIONS, 0), OLD_DIRECTIONS))
    return np.concatenate([identity, expression]).astype(np.int32)


def _file_embedding(arrays: Arrays, source: Path, folder: Path) -> Path:
    if "lmk_b_coords" not in arrays:
        raise InputError(f"{source}: landmark triangles without their weights ('lmk_b_coords')")
    part = Embedding(arrays["lmk_face_idx"], arrays["lmk_b_coords"], arrays.get("landmark_indices"))
    if part.mediapipe is not None:
        return _check_and_write(part, source, folder / "mediapipe.npz", part.face.shape, None)
    if part.face.ndim == 2:
        return _check_and_write(part, source, folder / "contour.npz", _CONTOUR_SHAPE, None)
    return _check_and_write(part, source, folder / "landmarks.npz", (NUM_STATIC,), None)


def _check_and_write(part: Embedding, source: Path, path: Path, shape: tuple[int, ...], num_faces: int | None) -> Path:
    if part.face.shape != shape:
        raise InputError(f"{source}: landmark triangles of shape {part.face.shape}, wanted {shape}")
    arrays = {"lmk_face_idx": part.face, "lmk_b_coords": part.barycentric}
    if part.mediapipe is not None:
        arrays["landmark_indices"] = part.mediapipe
    return write_embedding(path, embedding_from_arrays(arrays, source, num_faces))


def main(argv: Sequence[str]) -> int:
    """The reader process: `SOURCE OUT`; what it refuses is one line on stderr and exit code 3."""
    import resource

    for limit, value in (
        (resource.RLIMIT_AS, MEMORY_LIMIT_BYTES),
        (resource.RLIMIT_CPU, TIME_LIMIT_S),
        (resource.RLIMIT_FSIZE, FILE_LIMIT_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    source, out = (Path(argument) for argument in argv)
    try:
        arrays = read_foreign_file(source, WANTED)
    except InputError as error:
        sys.stderr.write(" ".join(str(error).split()) + "\n")
        return EXIT_REFUSED
    with out.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
