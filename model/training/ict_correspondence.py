"""Which ICT-FaceKit vertex lies under each MediaPipe landmark, found on a rendered capture with known geometry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import DataError
from model.face.ict_head import IctHead, correspondence

FRAMES = 300
BACKDROP = 160


def capture_correspondence(ict: Path, capture: Path, task_file: Path) -> NDArray[np.int64]:
    """(478,) vertex of each landmark, from the capture's most frontal training frames.

    Raises:
        DataError: The capture is missing.
    """
    path = capture / "capture.json"
    if not path.is_file():
        raise DataError(f"no capture.json in {capture}")
    data = json.loads(path.read_text())
    head = IctHead.load(ict)
    shape = head.shape(data["identity_weights"])
    basis = head.expression_basis(data["coeff_names"])
    frames = [f for f in data["frames"] if f["split"] == "train" and f["cam_yaw_deg"] == 0]
    frames.sort(key=lambda f: sum(abs(a) for a in f["yaw_pitch_roll_deg"][:2]))
    landmarks, projected = [], []
    for frame, points in _detect(capture, frames[:FRAMES], task_file):
        landmarks.append(points)
        vertices = shape + np.tensordot(np.array(frame["coeff"], np.float32), basis, 1)
        projected.append(_project(vertices, frame, data["camera"]))
    facing = _normals(shape, head.triangles)[:, 2]
    return correspondence(np.stack(projected), np.stack(landmarks), facing)


def _detect(capture: Path, frames: list[dict[str, Any]], task_file: Path) -> Any:
    import mediapipe
    from mediapipe.tasks import python as tasks
    from mediapipe.tasks.python import vision
    from PIL import Image

    options = vision.FaceLandmarkerOptions(base_options=tasks.BaseOptions(model_asset_path=str(task_file)))
    with vision.FaceLandmarker.create_from_options(options) as landmarker:
        for frame in frames:
            picture = Image.open(capture / frame["file"]).convert("RGBA")
            backdrop = Image.new("RGBA", picture.size, (BACKDROP, BACKDROP, BACKDROP, 255))
            backdrop.alpha_composite(picture)
            array = np.array(backdrop.convert("RGB"))
            image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=array)
            result = landmarker.detect(image)
            if result.face_landmarks:
                scale = np.array(picture.size, np.float32)
                yield frame, np.array([[p.x, p.y] for p in result.face_landmarks[0]], np.float32) * scale


def _project(vertices: NDArray[np.float32], frame: dict[str, Any], camera: dict[str, Any]) -> NDArray[np.float32]:
    to_camera = np.linalg.inv(np.array(frame["cam_to_world"])) @ np.array(frame["head_matrix"])
    points = vertices @ to_camera[:3, :3].T + to_camera[:3, 3]
    u = camera["fx"] * points[:, 0] / points[:, 2] + camera["cx"]
    v = camera["fy"] * points[:, 1] / points[:, 2] + camera["cy"]
    return np.stack([u, v], 1).astype(np.float32)


def _normals(vertices: NDArray[np.float32], triangles: NDArray[np.int32]) -> NDArray[np.float32]:
    a, b, c = (vertices[triangles[:, i]] for i in range(3))
    face = np.cross(b - a, c - a)
    out = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(out, triangles[:, corner], face)
    return np.asarray(out / (np.linalg.norm(out, axis=1, keepdims=True) + 1e-9), np.float32)
