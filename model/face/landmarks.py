"""MediaPipe Face Landmarker (Tasks API, video mode) over a clip: 478 landmarks per frame, in pixels.

The library looks up a telemetry host when it starts; this module is imported by offline tools only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.errors import ModelError

NUM_LANDMARKS = 478
NUM_SCORES = 52


class LandmarkError(ModelError):
    """A clip in which no usable face was found, or a missing landmark model."""


@dataclass(frozen=True, slots=True)
class FaceTrack:
    """What the tracker said of one clip. Frames without a face hold NaN."""

    landmarks: NDArray[np.float32]  # (T, 478, 3), pixels; z in pixels too, towards the camera negative
    scores: NDArray[np.float32]  # (T, 52), 0..1
    score_names: tuple[str, ...]

    @property
    def found(self) -> NDArray[np.bool_]:
        """(T,) True where a face was found."""
        return ~np.isnan(self.landmarks[:, 0, 0])


def track_face(frames_rgb: Iterable[NDArray[np.uint8]], task_file: Path, *, fps: float = 25.0) -> FaceTrack:
    """Track one face through consecutive frames.

    Args:
        frames_rgb: (H, W, 3) uint8 pictures in order.
        task_file: The `face_landmarker.task` bundle.

    Raises:
        LandmarkError: The bundle is missing, or no frame shows a face.
    """
    if not task_file.is_file():
        raise LandmarkError(f"face landmarker bundle not found: {task_file}; pass its path")
    landmarker, image_module = _open_landmarker(task_file)
    points: list[NDArray[np.float32]] = []
    scores: list[NDArray[np.float32]] = []
    names: tuple[str, ...] = ()
    with landmarker:
        for index, frame in enumerate(frames_rgb):
            image = image_module.Image(image_format=image_module.ImageFormat.SRGB, data=np.ascontiguousarray(frame))
            result = landmarker.detect_for_video(image, int(index * 1000 / fps))
            height, width = frame.shape[:2]
            points.append(_points(result, width, height))
            scores.append(_scores(result))
            if result.face_blendshapes and not names:
                names = tuple(b.category_name for b in result.face_blendshapes[0])
    if not names:
        raise LandmarkError(f"no face found in {len(points)} frames; one frontal face must be visible")
    return FaceTrack(np.stack(points), np.stack(scores), names)


def fill_gaps(track: NDArray[np.float32], *, max_gap_frames: int = 5) -> NDArray[np.float32]:
    """Interpolate missing frames of a (T, N, 3) track linearly; longer gaps raise LandmarkError."""
    missing = np.isnan(track[:, 0, 0])
    if not missing.any():
        return track
    good = np.flatnonzero(~missing)
    edges = np.diff(np.concatenate([[-1], good, [len(track)]])) - 1
    if edges.max() > max_gap_frames:
        raise LandmarkError(f"the face is lost for {edges.max()} frames (at most {max_gap_frames} can be filled)")
    flat = track.reshape(len(track), -1).copy()
    times = np.arange(len(track))
    for column in range(flat.shape[1]):
        flat[missing, column] = np.interp(times[missing], good, flat[good, column])
    return flat.reshape(track.shape)


def _open_landmarker(task_file: Path) -> tuple[Any, Any]:
    import mediapipe
    from mediapipe.tasks import python as tasks
    from mediapipe.tasks.python import vision

    options = vision.FaceLandmarkerOptions(
        base_options=tasks.BaseOptions(model_asset_path=str(task_file)),
        output_face_blendshapes=True,
        running_mode=vision.RunningMode.VIDEO,
    )
    return vision.FaceLandmarker.create_from_options(options), mediapipe


def _points(result: Any, width: int, height: int) -> NDArray[np.float32]:
    if not result.face_landmarks:
        return np.full((NUM_LANDMARKS, 3), np.nan, np.float32)
    return np.array([[p.x * width, p.y * height, p.z * width] for p in result.face_landmarks[0]], np.float32)


def _scores(result: Any) -> NDArray[np.float32]:
    if not result.face_blendshapes:
        return np.full(NUM_SCORES, np.nan, np.float32)
    return np.array([b.score for b in result.face_blendshapes[0]], np.float32)
