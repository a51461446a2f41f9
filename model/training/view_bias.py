"""Fit how motion appears from the side (`model.motion.view_bias`).

The capture's training stills show a head of known motion at known poses. They are tracked and brought into the motion
space as `prepare` does it; what is then read beside the truth is regressed on pose:

    tracked - true = (constant + true C) + sum_j t_j(pose) (offset_j + true slope_j)

The first bracket does not depend on pose: it is how tracker and calibration read this person, and is left out. The
ridge weighs codes by how far they move the face, so that those which hardly show cannot spoil the inverse.
`sequence` and `novel` took no part; `novel` (12 expressions from five sides) measures it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.checkpoint import save_checkpoint
from model.data.capture import Capture
from model.errors import DataError
from model.face.calibration import SpeakerCalibration, calibrate_speaker
from model.face.canonical import canonical_points
from model.face.head_pose import estimate_head_pose
from model.face.head_shape import HeadShape, head_angles, load_head_shape
from model.motion.space import MotionSpace, load_motion_space
from model.motion.vae import AUDIO_OWNED
from model.motion.view_bias import (
    ASSET,
    KIND,
    OFFSET_TERMS,
    SLOPE_TERMS,
    ViewBias,
    ViewBiasConfig,
    code_sizes,
    pose_terms,
)
from model.results import Figure
from model.training.capture_faces import CaptureFaces, capture_faces
from model.training.capture_pairs import capture_motion
from model.training.face_analysis import landmark_head

Array = NDArray[np.float32]
Float64 = NDArray[np.float64]
POSE_FREE_RIDGE = 1e-3
SIDE_YAW_DEG = 15.0


@dataclass(frozen=True)
class TrackedViews:
    """Motion of F pictures as tracked, the truth, and the true head pose."""

    tracked: Array  # (F, 32)
    true: Array  # (F, 32)
    pose_deg: Float64  # (F, 3) yaw, pitch, roll
    rows: NDArray[np.int64]  # (F,) indices into the capture's `frames`


def build_view_bias(
    capture: Path, ict: Path, task_file: Path, out: Path = ASSET, config: ViewBiasConfig | None = None
) -> tuple[ViewBias, dict[str, Figure]]:
    """Track, fit, write the asset, read it back, and measure it on the novel views.

    Raises:
        ModelError: Capture, head or landmark model are missing, or the fitted map cannot be undone.
    """
    opened, head, truth = Capture.open(capture), landmark_head(ict), capture_motion(ict, capture)
    shape, space = load_head_shape(), load_motion_space()
    faces = {split: capture_faces(opened, split, head, task_file) for split in ("train", "novel")}
    calibration = calibrate_speaker(_points(faces["train"], shape))
    views = {split: _views(found, truth, shape, calibration, space) for split, found in faces.items()}
    settings = replace(config or ViewBiasConfig(), frames=len(faces["train"].rows))
    offset, slope = fit_view_bias(views["train"], space, settings)
    save_checkpoint(
        out,
        {"offset": torch.from_numpy(offset), "slope": torch.from_numpy(slope)},
        kind=KIND,
        config=settings,
        metadata={"motion_space": space.hash, "face_analysis": shape.hash, "data": "rendered capture (`train`)"},
    )
    bias = ViewBias.load(out)
    return bias, side_view_figures(views["novel"], _expressions(opened, views["novel"]), bias, space)


def fit_view_bias(views: TrackedViews, space: MotionSpace, config: ViewBiasConfig) -> tuple[Array, Array]:
    """Offset (7, 20) and slope (4, 20, 20) by ridge regression in float64."""
    sizes = code_sizes(space)[:AUDIO_OWNED].astype(np.float64)
    unit = sizes[:16].max()
    true = views.true[:, :AUDIO_OWNED].astype(np.float64)
    shown = true * sizes / unit  # codes by what they show: the ridge then spares those that move the face
    terms = pose_terms(torch.from_numpy(views.pose_deg), config.limits_deg).numpy()
    slopes = (terms[:, :SLOPE_TERMS, None] * shown[:, None]).reshape(len(true), -1)
    design = np.concatenate([np.ones((len(true), 1)), shown, terms, slopes], 1)
    ridge = np.concatenate(
        [
            np.full(1 + AUDIO_OWNED, POSE_FREE_RIDGE),
            np.full(OFFSET_TERMS, config.offset_ridge),
            np.full(slopes.shape[1], config.slope_ridge),
        ]
    )
    wrong = views.tracked[:, :AUDIO_OWNED] - true
    fitted = np.linalg.solve(design.T @ design + np.diag(ridge), design.T @ wrong)[1 + AUDIO_OWNED :]
    slope = fitted[OFFSET_TERMS:].reshape(SLOPE_TERMS, AUDIO_OWNED, AUDIO_OWNED) * (sizes / unit)[:, None]
    return fitted[:OFFSET_TERMS].astype(np.float32), slope.astype(np.float32)


def side_view_figures(
    views: TrackedViews, expressions: NDArray[np.int64], bias: ViewBias, space: MotionSpace
) -> dict[str, Figure]:
    """How far an expression is read apart in a picture from the side (yaw 15 degrees or more) and the most frontal.

    Mean absolute difference of lip opening and lip width, and mean over pictures of the mouth landmarks' root mean
    square; inter-ocular units; `n` counts expressions.

    Args:
        expressions: (F,) which expression a picture shows.

    Raises:
        DataError: No picture shows its expression from the side.
    """
    corrected = bias.canonical_array(views.tracked, views.pose_deg)
    yaw = np.abs(views.pose_deg[:, 0])
    nearest = {int(e): int(np.where(expressions == e, yaw, np.inf).argmin()) for e in np.unique(expressions)}
    sides = np.flatnonzero(yaw >= SIDE_YAW_DEG)
    if not len(sides):
        raise DataError(
            f"none of {len(yaw)} pictures is seen from {SIDE_YAW_DEG:g} degrees or more; the capture needs some"
        )
    fronts = [nearest[int(expressions[i])] for i in sides]
    figures = {}
    for name, motion in (("uncorrected", views.tracked), ("corrected", corrected)):
        front, side = motion[fronts], motion[sides]
        landmarks = np.sqrt((space.mouth_displacement(side - front) ** 2).sum(2).mean(1))
        opening = np.abs(space.lip_opening(side) - space.lip_opening(front))
        width = np.abs(space.lip_width(side) - space.lip_width(front))
        for what, values in (("opening", opening), ("width", width), ("landmarks", landmarks)):
            figures[f"side_view_{what}_{name}"] = Figure(
                value=float(values.mean()), unit="inter-ocular", better="lower", n=len(nearest)
            )
    return figures


def _points(faces: CaptureFaces, shape: HeadShape) -> Array:
    pose = estimate_head_pose(faces.landmarks_px, shape, size=faces.size, intrinsics=faces.intrinsics)
    return canonical_points(faces.landmarks_px, pose, shape)


def _views(
    faces: CaptureFaces, truth: Array, shape: HeadShape, calibration: SpeakerCalibration, space: MotionSpace
) -> TrackedViews:
    tracked = calibration.motion(_points(faces, shape), space)
    return TrackedViews(tracked, truth[faces.rows], np.degrees(head_angles(faces.true_rotation)), faces.rows)


def _expressions(capture: Capture, views: TrackedViews) -> NDArray[np.int64]:
    return np.array([capture.meta["frames"][row]["expression"] for row in views.rows], np.int64)
