"""The tracker on a rendered capture, beside the capture's exact truth: what face analysis is fitted and measured on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.capture import Capture
from model.errors import DataError
from model.face.head_pose import Intrinsics
from model.face.ict_head import IctHead
from model.face.landmarks import track_face

BACKDROP = 160  # grey level behind the rendered head

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class CaptureFaces:
    """Tracked and true faces of the F frames of one split; frames in which no face was found are left out."""

    rows: NDArray[np.int64]  # (F,) indices into the capture's `frames`
    landmarks_px: NDArray[np.float32]  # (F, 478, 3)
    tracker_rotation: Float64  # (F, 3, 3) the tracker's own head matrix, head to OpenCV camera
    true_landmarks_px: Float64  # (F, 478, 2) projected vertices under the landmarks
    true_rotation: Float64  # (F, 3, 3) head to camera
    coefficients: NDArray[np.float32]  # (F, K) rig coefficients
    coefficient_names: tuple[str, ...]
    gaze: NDArray[np.float32]  # (F, 2) rad
    intrinsics: Intrinsics
    size: tuple[int, int]

    def take(self, which: NDArray[np.int64] | slice) -> CaptureFaces:
        """The same for some of the frames."""
        return CaptureFaces(
            self.rows[which],
            self.landmarks_px[which],
            self.tracker_rotation[which],
            self.true_landmarks_px[which],
            self.true_rotation[which],
            self.coefficients[which],
            self.coefficient_names,
            self.gaze[which],
            self.intrinsics,
            self.size,
        )


def capture_faces(
    capture: Capture, split: str, head: IctHead, task_file: Path, *, stills: bool | None = None
) -> CaptureFaces:
    """Track one split. `head` must hold just the 478 vertices under the landmarks (`IctHead.subset`).

    `sequence` is tracked as video, clip by clip, and the other splits as single pictures, unless `stills` says so.

    Raises:
        DataError: A picture is missing, or the split holds no frame with a face.
    """
    rows = capture.rows(split)
    frames = [capture.meta["frames"][i] for i in rows]
    if not frames:
        raise DataError(f"{capture.root} has no frames of split {split!r}")
    single = split != "sequence" if stills is None else stills
    groups = [rows] if single else _clips(capture, rows)
    tracks = [track_face(_pictures(capture, group), task_file, stills=single) for group in groups]
    landmarks = np.concatenate([t.landmarks for t in tracks])
    matrices = np.concatenate([t.head_matrices for t in tracks])
    found = np.flatnonzero(np.isfinite(landmarks[:, 0, 0]))
    names = tuple(str(n) for n in capture.meta["coeff_names"])
    coefficients = np.array([f["coeff"] for f in frames], np.float32)
    camera = capture.meta["camera"]
    intrinsics = Intrinsics(fx_px=camera["fx"], fy_px=camera["fy"], cx_px=camera["cx"], cy_px=camera["cy"])
    to_camera = np.array([np.linalg.inv(f["cam_to_world"]) @ np.array(f["head_matrix"]) for f in frames])
    neutral = head.shape(capture.meta["identity_weights"])
    vertices = neutral + np.tensordot(coefficients, head.expression_basis(names), 1)
    return CaptureFaces(
        rows,
        landmarks,
        np.diag([1.0, -1.0, -1.0]) @ matrices[:, :3, :3].astype(np.float64),
        _project(vertices, to_camera, intrinsics),
        to_camera[:, :3, :3],
        coefficients,
        names,
        np.array([f["gaze"] for f in frames], np.float32),
        intrinsics,
        (int(capture.meta["width"]), int(capture.meta.get("height", capture.meta["width"]))),
    ).take(found)


def _clips(capture: Capture, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [rows[s["first_index"] : s["first_index"] + s["count"]] for s in capture.meta["sequences"]]


def _pictures(capture: Capture, rows: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
    """RGB over a grey backdrop."""
    for row in rows:
        path = capture.root / capture.meta["frames"][row]["file"]
        picture: NDArray[Any] | None = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if picture is None or picture.ndim != 3 or picture.shape[2] != 4:
            raise DataError(f"missing or damaged picture: {path}")
        alpha = picture[..., 3:].astype(np.float32) / 255
        yield np.rint(picture[..., 2::-1] * alpha + BACKDROP * (1 - alpha)).astype(np.uint8)


def _project(vertices: NDArray[np.float32], to_camera: Float64, camera: Intrinsics) -> Float64:
    points = np.einsum("tij,tnj->tni", to_camera[:, :3, :3], vertices) + to_camera[:, None, :3, 3]
    u = camera.fx_px * points[..., 0] / points[..., 2] + camera.cx_px
    v = camera.fy_px * points[..., 1] / points[..., 2] + camera.cy_px
    return np.asarray(np.stack([u, v], -1), np.float64)
