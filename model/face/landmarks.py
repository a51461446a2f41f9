"""MediaPipe Face Landmarker (Tasks API, video mode) over a clip: 478 landmarks, 52 scores and a head matrix per frame.

The landmarker is asked for two faces. That tells when a second person is in the picture, and it switches off the
smoothing that MediaPipe applies to a single face, which delays lips by half a frame and shaves closures (measured on
the rendered capture: lip opening r 0.965 with it, 0.989 without). Our own filter (`temporal_filter`) has no delay.

The library looks up a telemetry host when it starts; only offline tools import this module, and `prepare` runs it in
worker processes.
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
SECOND_FACE_SHARE = 0.4  # a second face counts from this share of the first one's height


class LandmarkError(ModelError):
    """A clip in which no usable face was found, or a missing landmark model."""


@dataclass(frozen=True, slots=True)
class FaceTrack:
    """What the tracker said of one clip. Frames without a face hold NaN."""

    landmarks: NDArray[np.float32]  # (T, 478, 3), pixels; z in pixels too, towards the camera negative
    scores: NDArray[np.float32]  # (T, 52), 0..1
    score_names: tuple[str, ...]
    head_matrices: NDArray[np.float32]  # (T, 4, 4), the tracker's own; camera axes x right, y up, z to the viewer
    second_face: NDArray[np.bool_]  # (T,) True where another face of comparable size is in the picture

    @property
    def found(self) -> NDArray[np.bool_]:
        """(T,) True where a face was found."""
        return ~np.isnan(self.landmarks[:, 0, 0])


@dataclass(frozen=True, slots=True)
class _Face:
    points: NDArray[np.float32]  # (478, 3) pixels
    scores: NDArray[np.float32]  # (52,)
    matrix: NDArray[np.float32]  # (4, 4)

    @property
    def centre(self) -> NDArray[np.float32]:
        return np.asarray(self.points[:, :2].mean(0), np.float32)

    @property
    def height(self) -> float:
        return float(np.ptp(self.points[:, 1]))


def track_face(
    frames_rgb: Iterable[NDArray[np.uint8]], task_file: Path, *, fps: float = 25.0, stills: bool = False
) -> FaceTrack:
    """Track one face through consecutive frames: the largest at first, then the one nearest to where it was.

    Args:
        frames_rgb: (H, W, 3) uint8 pictures in order.
        task_file: The `face_landmarker.task` bundle.
        stills: The pictures do not follow each other in time; each is searched anew.

    Raises:
        LandmarkError: The bundle is missing, or no frame shows a face.
    """
    if not task_file.is_file():
        raise LandmarkError(f"face landmarker bundle not found: {task_file}; pass its path")
    landmarker, image_module = _open_landmarker(task_file, stills)
    chosen: list[_Face | None] = []
    second: list[bool] = []
    names: tuple[str, ...] = ()
    last: _Face | None = None
    with landmarker:
        for index, frame in enumerate(frames_rgb):
            image = image_module.Image(image_format=image_module.ImageFormat.SRGB, data=np.ascontiguousarray(frame))
            result = landmarker.detect(image) if stills else landmarker.detect_for_video(image, int(index * 1000 / fps))
            faces = _faces(result, frame.shape[1], frame.shape[0])
            face = _choose(faces, None if stills else last)
            chosen.append(face)
            second.append(face is not None and _has_rival(faces, face))
            last = face or last
            if result.face_blendshapes and not names:
                names = tuple(b.category_name for b in result.face_blendshapes[0])
    if not names:
        raise LandmarkError(f"no face found in {len(chosen)} frames; one frontal face must be visible")
    return _track(chosen, second, names)


def fill_gaps(track: NDArray[np.float32], *, max_gap_frames: int = 5) -> NDArray[np.float32]:
    """Interpolate missing frames of a (T, N, 3) track linearly; longer gaps raise LandmarkError."""
    missing = np.isnan(track[:, 0, 0])
    if not missing.any():
        return track
    good = np.flatnonzero(~missing)
    if not len(good):
        raise LandmarkError(f"no face found in {len(track)} frames; one frontal face must be visible")
    edges = np.diff(np.concatenate([[-1], good, [len(track)]])) - 1
    if edges.max() > max_gap_frames:
        raise LandmarkError(f"the face is lost for {edges.max()} frames (at most {max_gap_frames} can be filled)")
    flat = track.reshape(len(track), -1).copy()
    times = np.arange(len(track))
    for column in range(flat.shape[1]):
        flat[missing, column] = np.interp(times[missing], good, flat[good, column])
    return flat.reshape(track.shape)


def split_where_lost(
    found: NDArray[np.bool_], *, max_gap_frames: int = 5, min_frames: int = 25
) -> list[tuple[int, int]]:
    """Stretches [first, last) of a clip between gaps too long to fill, each at least `min_frames` long.

    A stretch begins and ends on a frame with a face.
    """
    good = np.flatnonzero(found)
    if not len(good):
        return []
    breaks = np.flatnonzero(np.diff(good) - 1 > max_gap_frames)
    firsts = [int(good[0]), *(int(good[b + 1]) for b in breaks)]
    lasts = [*(int(good[b]) + 1 for b in breaks), int(good[-1]) + 1]
    return [(a, b) for a, b in zip(firsts, lasts, strict=True) if b - a >= min_frames]


def _open_landmarker(task_file: Path, stills: bool) -> tuple[Any, Any]:
    import mediapipe
    from mediapipe.tasks import python as tasks
    from mediapipe.tasks.python import vision

    options = vision.FaceLandmarkerOptions(
        base_options=tasks.BaseOptions(model_asset_path=str(task_file)),
        output_face_blendshapes=True,
        output_facial_transformation_matrixes=True,
        num_faces=2,
        running_mode=vision.RunningMode.IMAGE if stills else vision.RunningMode.VIDEO,
    )
    try:
        return vision.FaceLandmarker.create_from_options(options), mediapipe
    except (RuntimeError, ValueError) as error:
        raise LandmarkError(f"{task_file} is not a face landmarker bundle ({error}); download it again") from error


def _faces(result: Any, width: int, height: int) -> list[_Face]:
    faces = []
    for index, landmarks in enumerate(result.face_landmarks):
        points = np.array([[p.x * width, p.y * height, p.z * width] for p in landmarks], np.float32)
        scores = np.array([b.score for b in result.face_blendshapes[index]], np.float32)
        matrix = np.array(result.facial_transformation_matrixes[index], np.float32)
        faces.append(_Face(points, scores, matrix))
    return faces


def _choose(faces: list[_Face], last: _Face | None) -> _Face | None:
    if not faces:
        return None
    if last is None:
        return max(faces, key=lambda f: f.height)
    return min(faces, key=lambda f: float(np.linalg.norm(f.centre - last.centre)))


def _has_rival(faces: list[_Face], face: _Face) -> bool:
    """Whether another face is large enough and apart (the tracker may find the same face twice)."""
    return any(
        other is not face
        and other.height >= SECOND_FACE_SHARE * face.height
        and float(np.linalg.norm(other.centre - face.centre)) > 0.5 * face.height
        for other in faces
    )


def _track(chosen: list[_Face | None], second: list[bool], names: tuple[str, ...]) -> FaceTrack:
    nothing = _Face(
        np.full((NUM_LANDMARKS, 3), np.nan, np.float32),
        np.full(NUM_SCORES, np.nan, np.float32),
        np.full((4, 4), np.nan, np.float32),
    )
    faces = [face or nothing for face in chosen]
    return FaceTrack(
        np.stack([f.points for f in faces]),
        np.stack([f.scores for f in faces]),
        names,
        np.stack([f.matrix for f in faces]),
        np.array(second, np.bool_),
    )
