"""Head turns of an avatar made from video: nobody filmed them, so each turned view is held against the frontal one.

A clip's own motion is rendered at head turns through the same call as in a session. Landmarks of a turned view go back
to the front by the *known* turn of head and neck before the avatar's camera, not by a tracked one. Identity is held
against the filmed frames, which are nearly frontal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.evaluation.capture_stage import FPS, CaptureStage
from model.evaluation.filmed_clips import filmed_clips, filmed_stage
from model.evaluation.identity import FaceEmbedder, align_faces, cosine_similarity, five_points
from model.evaluation.view_consistency import VIEW_METRICS, view_scores
from model.face.canonical import canonical_points
from model.face.head_pose import HeadPose as TrackedPose
from model.face.head_pose import Intrinsics, estimate_head_pose
from model.face.head_shape import HeadShape, load_head_shape
from model.face.landmarks import fill_gaps, track_face
from model.radiance.camera import HeadPose, head_matrix
from model.radiance.serving import AvatarRenderer
from model.results import Figure

__all__ = ["TURNS_DEG", "TurnedClips", "turned_clip_figures"]

TURNS_DEG: Final = (-20, -10, 0, 10, 20)
IRISES_FROM: Final = 468

Frames = NDArray[np.uint8]
Motion = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class TurnedClips:
    """Which clips to turn, and the models that look at them."""

    prepared: Path  # by `prepare --pictures`
    made_from: Path  # the prepared clips that the avatar was made from: they calibrate the person
    face_landmarker: Path
    keys: tuple[str, ...] = ()  # none: all
    frames: int | None = None  # only the first so many of each
    identity: Path | None = None  # face embedder, ONNX


def turned_clip_figures(config: TurnedClips, renderer: AvatarRenderer) -> tuple[dict[str, Figure], list[Frames]]:
    """Means over clips, by turn; and the middle frame of the first clip as filmed and at every turn.

    Raises:
        DataError: A clip is not there, or was prepared without pictures.
        LandmarkError: A view shows no face.
    """
    stage = filmed_stage(renderer.avatar.config, config.made_from)
    frames, clips = filmed_clips(config.prepared, stage, config.keys, config.frames)
    films, shape = CaptureStage(renderer, frames), load_head_shape()
    embedder = FaceEmbedder(config.identity) if config.identity is not None else None
    rows: list[dict[str, float]] = []
    shown: list[Frames] = []
    for clip in clips:
        real = films.real(clip.rows)
        views = {turn: turned(renderer, clip.motion, turn) for turn in TURNS_DEG}
        rows.append(_scores(config, renderer, shape, embedder, real, views))
        if not shown:
            middle = len(real) // 2
            shown = [real[middle], *(view[middle] for view in views.values())]
    return _figures(rows), shown


def turned(renderer: AvatarRenderer, motion: Motion, yaw_deg: float) -> Frames:
    """(T, S, S, 3) RGB of motion (T, 32) with the head at rest but for its yaw, as a session shows it."""
    pose = _pose(renderer, yaw_deg)
    return np.stack([cv2.cvtColor(renderer.render(row, pose), cv2.COLOR_YUV2RGB_I420) for row in motion]).astype(
        np.uint8
    )


def known_pose(renderer: AvatarRenderer, yaw_deg: float, frames: int) -> TrackedPose:
    """Where the head stands before the avatar's camera at that turn, as a tracker would say it (`frames` times)."""
    config = renderer.avatar.config
    to_world = head_matrix(_pose(renderer, yaw_deg).rotation_vector(), config.neck)
    seen = np.linalg.inv(config.camera.matrix()) @ to_world
    rotation, translation = np.tile(seen[:3, :3], (frames, 1, 1)), np.tile(seen[:3, 3], (frames, 1))
    fx, _, cx, cy = config.camera.intrinsics(renderer.size_px)
    return TrackedPose(
        rotation,
        translation,
        rotation,
        translation,
        np.zeros(frames),
        Intrinsics(fx_px=fx, fy_px=fx, cx_px=cx, cy_px=cy),
    )


def _pose(renderer: AvatarRenderer, yaw_deg: float) -> HeadPose:
    rest = renderer.avatar.config.rest_pose
    return HeadPose(yaw_deg=yaw_deg, pitch_deg=rest.pitch_deg, roll_deg=rest.roll_deg)


def _scores(
    config: TurnedClips,
    renderer: AvatarRenderer,
    shape: HeadShape,
    embedder: FaceEmbedder | None,
    real: Frames,
    views: dict[int, Frames],
) -> dict[str, float]:
    """One clip: `<metric>_<turn>deg` of every turn."""
    tracked = {turn: _track(view, config.face_landmarker) for turn, view in views.items()}
    size = (renderer.size_px, renderer.size_px)
    points, rotations = {}, {}
    for turn, landmarks in tracked.items():
        points[float(turn)] = canonical_points(landmarks, known_pose(renderer, turn, len(real)), shape)
        rotations[float(turn)] = estimate_head_pose(landmarks, shape, size=size).frame_rotation
    scores: dict[str, float] = {}
    for yaw_deg, row in view_scores(points, rotations).items():
        away = _mean_free(points[yaw_deg]) - _mean_free(points[0.0])
        scores |= {f"{name}_{yaw_deg:+g}deg": value for name, value in row.items()}
        scores[f"view_landmarks_{yaw_deg:+g}deg"] = 100 * float(np.linalg.norm(away, axis=2).mean())
    if embedder is not None:
        filmed = embedder.embed(align_faces(real, five_points(_track(real, config.face_landmarker))))
        for turn, view in views.items():
            found = embedder.embed(align_faces(view, five_points(tracked[turn])))
            scores[f"view_identity_{turn:+g}deg"] = float(cosine_similarity(found, filmed).mean())
    return scores


def _figures(rows: Sequence[dict[str, float]]) -> dict[str, Figure]:
    known = {metric.name: metric for metric in VIEW_METRICS}
    figures = {}
    for name in rows[0]:
        metric = known.get(name.rpartition("_")[0])
        unit, better = (metric.unit, metric.better) if metric is not None else ("% IOD", "lower")
        values = [row[name] for row in rows if np.isfinite(row[name])]
        if values:
            figures[name] = Figure(value=round(float(np.mean(values)), 4), unit=unit, better=better, n=len(values))
    return figures


def _track(frames: Frames, task_file: Path) -> NDArray[np.float32]:
    return fill_gaps(track_face(frames, task_file, fps=FPS).landmarks)


def _mean_free(points: NDArray[np.float32]) -> NDArray[np.float64]:
    face = points[:, :IRISES_FROM].astype(np.float64)
    return np.asarray(face - face.mean(1, keepdims=True), np.float64)
