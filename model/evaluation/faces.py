"""How well faces are read: against a rendered capture's exact truth, and on real video against what must hold there.

Definitions are in docs/faces.md; every figure names its split. The capture's odd training stills, its sequences and
its novel views took no part in fitting the tracker's pose bias.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import savgol_filter
from scipy.spatial.transform import Rotation

from model.data.capture import Capture
from model.face.arkit_fit import fit_arkit
from model.face.calibration import calibrate_speaker
from model.face.canonical import canonical_points
from model.face.head_pose import HeadPose, estimate_head_pose, smooth_pose
from model.face.head_shape import HeadShape, load_head_shape
from model.face.temporal_filter import filter_points
from model.motion.arkit import ARKIT_NAMES, arkit_from_ict
from model.motion.face_points import LIPS_INNER, LIPS_OUTER, MOUTH
from model.motion.space import MotionSpace, load_motion_space
from model.results import Figure
from model.training.capture_faces import CaptureFaces, capture_faces
from model.training.capture_pairs import capture_motion
from model.training.face_analysis import HELD_OUT, landmark_head

Float64 = NDArray[np.float64]
CLIP_FRAMES = 75  # each of the capture's sequences
STILL_DEG_PER_S = 3.0  # a head is still where its smoothed pose turns more slowly than this
TREND_FRAMES = 25  # the slow movement that tells whether a head is still
TREMBLE_FRAMES = 13  # shaking against a fit over so many frames (above about 2.5 Hz) is trembling
ARKIT_REPORTED = ("jawOpen", "mouthClose", "mouthFunnel", "mouthSmileLeft", "mouthLowerDownLeft", "browInnerUp")


def evaluate_capture_faces(ict: Path, capture: Path, task_file: Path) -> dict[str, Figure]:
    """Rotation, mouth landmarks, ARKit and lip opening against the rendered capture."""
    opened = Capture.open(capture)
    head, shape, space = landmark_head(ict), load_head_shape(), load_motion_space()
    truth = capture_motion(ict, capture)
    figures: dict[str, Figure] = {}
    for split in ("sequence", "train", "novel"):
        faces = capture_faces(opened, split, head, task_file)
        if split == "train":
            faces = faces.take(HELD_OUT)
        figures |= _against_truth(faces, split, truth[faces.rows], shape, space)
    return figures


def rotation_errors_deg(found: Float64, wanted: Float64) -> Float64:
    """(T,) angle between rotations (T, 3, 3)."""
    turn = Rotation.from_matrix(found @ wanted.transpose(0, 2, 1))
    return np.asarray(np.degrees(turn.magnitude()), np.float64)


def still_jitter_deg(rotation: Float64, *, fps: float = 25.0, window_frames: int = TREMBLE_FRAMES) -> float:
    """Root mean square of a head's trembling while it is still, degrees; NaN when it never is.

    The rotation (T, 3, 3) minus its local quadratic fit over `window_frames` frames, over the frames in which the fit
    over `TREND_FRAMES` frames turns more slowly than `STILL_DEG_PER_S`.
    """
    if len(rotation) < TREND_FRAMES:
        return float("nan")
    mean = Rotation.from_matrix(rotation).mean()
    local = np.degrees((mean.inv() * Rotation.from_matrix(rotation)).as_rotvec())
    slow = savgol_filter(local, window_frames, 2, axis=0)
    speed = np.linalg.norm(savgol_filter(local, TREND_FRAMES, 2, deriv=1, delta=1 / fps, axis=0), axis=1)
    still = speed < STILL_DEG_PER_S
    if not still.any():
        return float("nan")
    return float(np.sqrt((((local - slow)[still]) ** 2).sum(1).mean()))


def _against_truth(
    faces: CaptureFaces, split: str, truth: NDArray[np.float32], shape: HeadShape, space: MotionSpace
) -> dict[str, Figure]:
    pose = estimate_head_pose(faces.landmarks_px, shape, size=faces.size, intrinsics=faces.intrinsics)
    guessed = estimate_head_pose(faces.landmarks_px, shape, size=faces.size)
    moving = (
        split == "sequence"
    )  # stills do not follow each other: each frame's own pose counts, and nothing is filtered
    points = canonical_points(faces.landmarks_px, pose, shape)
    points = _filter_clips(points, faces) if moving else points
    calibration = calibrate_speaker(points)
    motion = calibration.motion(points, space)
    arkit = fit_arkit(points, calibration, shape)
    wanted = arkit_from_ict(faces.coefficients, faces.coefficient_names)
    return {
        **_rotation_figures(faces, split, pose, guessed),
        f"{split}_mouth_landmarks": _distance(faces, (*LIPS_OUTER, *LIPS_INNER), 2.0),
        f"{split}_mouth_jaw_cheek_landmarks": _distance(faces, MOUTH, None),
        f"{split}_lip_opening_r": _r(space.lip_opening(motion), space.lip_opening(truth)),
        f"{split}_lip_opening_gain": Figure(
            value=float(np.polyfit(space.lip_opening(truth), space.lip_opening(motion), 1)[0]),
            unit="1",
            better="higher",
        ),
        f"{split}_lip_width_r": _r(space.lip_width(motion), space.lip_width(truth)),
        **{
            f"{split}_arkit_{name}_r": _r(
                arkit[:, ARKIT_NAMES.index(name)],
                wanted[:, ARKIT_NAMES.index(name)],
                0.9 if name == "jawOpen" and moving else None,
            )
            for name in ARKIT_REPORTED
        },
    }


def _rotation_figures(faces: CaptureFaces, split: str, pose: HeadPose, guessed: HeadPose) -> dict[str, Figure]:
    moving = split == "sequence"
    rotations = {
        "rotation_error": _smooth_clips(pose, faces) if moving else pose.frame_rotation,
        "rotation_error_focal_unknown": _smooth_clips(guessed, faces) if moving else guessed.frame_rotation,
        "rotation_error_of_tracker": faces.tracker_rotation,
    }
    figures = {}
    for name, rotation in rotations.items():
        errors = rotation_errors_deg(rotation, faces.true_rotation)
        figures[f"{split}_{name}_median"] = Figure(
            value=float(np.median(errors)),
            unit="deg",
            goal=None if name.endswith("tracker") else 1.5,
            better="lower",
        )
        figures[f"{split}_{name}_p95"] = Figure(value=float(np.quantile(errors, 0.95)), unit="deg", better="lower")
    return figures


def _distance(faces: CaptureFaces, points: tuple[int, ...], goal: float | None) -> Figure:
    """Mean distance of tracked from true landmarks, per cent of the true inter-ocular distance in the picture."""
    true = faces.true_landmarks_px
    wrong = np.linalg.norm(faces.landmarks_px[:, list(points), :2] - true[:, list(points)], axis=2).mean(1)
    eyes = np.linalg.norm(true[:, [33, 133]].mean(1) - true[:, [362, 263]].mean(1), axis=1)
    return Figure(value=float((wrong / eyes).mean() * 100), unit="% of inter-ocular", goal=goal, better="lower")


def _filter_clips(points: NDArray[np.float32], faces: CaptureFaces) -> NDArray[np.float32]:
    """Filter each stretch of consecutive frames by itself."""
    return np.concatenate([filter_points(points[clip]) for clip in _clips(faces)])


def _smooth_clips(pose: HeadPose, faces: CaptureFaces) -> Float64:
    """Rotation smoothed over each stretch of consecutive frames by itself."""
    parts = [smooth_pose(pose.frame_rotation[clip], pose.frame_translation[clip])[0] for clip in _clips(faces)]
    return np.concatenate(parts)


def _clips(faces: CaptureFaces) -> list[NDArray[np.int64]]:
    """Positions of the frames of each of the capture's clips."""
    number = (faces.rows - faces.rows[0]) // CLIP_FRAMES
    return [np.flatnonzero(number == n) for n in np.unique(number)]


def _r(a: NDArray[np.float32], b: NDArray[np.float32], goal: float | None = None) -> Figure:
    return Figure(value=float(np.corrcoef(a, b)[0, 1]), unit="r", goal=goal, better="higher")
