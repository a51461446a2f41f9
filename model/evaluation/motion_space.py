"""What the frozen motion space keeps: landmark variance, lip opening, ARKit export, and the retarget map's fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.data.features import load_clips
from model.face.measure import motion_from_points
from model.face.pose_free import align_to_template, image_to_head_axes, neutral_face
from model.motion.arkit import ARKIT_NAMES, arkit_from_ict
from model.motion.face_points import LOWER_LIP_INNER, MOUTH, UPPER_LIP_INNER
from model.motion.space import MotionSpace, load_motion_space
from model.motion.vae import AUDIO_OWNED
from model.results import Figure
from model.training.capture_pairs import capture_motion, shared_moments
from model.training.motion_space import CaptureMotion

Array = NDArray[np.float32]
ARKIT_REPORTED = ("jawOpen", "mouthClose", "mouthPucker", "mouthSmileLeft", "mouthLowerDownLeft")
FOLDS = 5
RIDGE = 1.0
DEPTH_WEIGHT = 0.5


def evaluate_motion_space(grid: Path, ict: Path, capture: Path) -> dict[str, Figure]:
    """All figures. `grid`: prepared `train` and `val`; the variance is that of `train`, which the basis saw."""
    space = load_motion_space()
    return _kept(grid / "train", space) | _arkit(ict, capture, space) | _retarget(grid, ict, capture, space)


def _kept(folder: Path, space: MotionSpace) -> dict[str, Figure]:
    aligned = np.concatenate(
        [align_to_template(image_to_head_axes(c.landmarks), space.template) for c in load_clips(folder)]
    )
    neutral = neutral_face(aligned)
    motion = motion_from_points(aligned, neutral, space)
    delta = (aligned - neutral)[:, list(MOUTH)]
    weight = np.array([1.0, 1.0, DEPTH_WEIGHT], np.float32)
    left = (delta - space.mouth_displacement(motion)) * weight
    kept = 1 - float((left**2).sum() / ((delta * weight) ** 2).sum())
    gap = (aligned - neutral)[:, UPPER_LIP_INNER, 1] - (aligned - neutral)[:, LOWER_LIP_INNER, 1]
    r = float(np.corrcoef(gap, space.lip_opening(motion))[0, 1])
    return {
        "landmark_variance_kept": Figure(value=kept, unit="share", better="higher"),
        "lip_opening_r_after_coding": Figure(value=r, unit="r", goal=0.995, better="higher"),
    }


def _arkit(ict: Path, capture: Path, space: MotionSpace) -> dict[str, Figure]:
    frames = CaptureMotion.load(capture)
    found = space.to_arkit(capture_motion(ict, capture))
    wanted = arkit_from_ict(frames.coefficients, frames.names)
    figures = {}
    for name in ARKIT_REPORTED:
        column = ARKIT_NAMES.index(name)
        r = float(np.corrcoef(found[:, column], wanted[:, column])[0, 1])
        figures[f"arkit_{name}_r"] = Figure(value=r, unit="r", better="higher")
    return figures


def _retarget(grid: Path, ict: Path, capture: Path, space: MotionSpace) -> dict[str, Figure]:
    """Share of the face's landmark motion that is left unexplained: five-fold, and by the identity map."""
    speaker, face = (part[:, :AUDIO_OWNED].astype(np.float64) for part in shared_moments(grid, ict, capture))
    order = np.random.default_rng(0).permutation(len(speaker))
    wrong = []
    for fold in range(FOLDS):
        test = order[fold::FOLDS]
        train = np.setdiff1d(order, test)
        x, y = speaker[train], face[train]
        matrix = np.linalg.solve(x.T @ x + RIDGE * np.eye(AUDIO_OWNED), x.T @ y)
        wrong.append(_unexplained(speaker[test] @ matrix, face[test], space))
    return {
        "retarget_pairs": Figure(value=float(len(speaker)), unit="frames", better="higher"),
        "retarget_unexplained": Figure(
            value=float(np.mean(wrong)), unit="share", better="lower", spread=float(np.ptp(wrong) / 2)
        ),
        "retarget_unexplained_by_identity": Figure(
            value=_unexplained(speaker, face, space), unit="share", better="lower"
        ),
    }


def _unexplained(found: NDArray[np.float64], wanted: NDArray[np.float64], space: MotionSpace) -> float:
    def displacement(codes: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(codes[:, :16] @ space.basis, np.float64)

    error = displacement(found) - displacement(wanted)
    return float((error**2).sum() / (displacement(wanted) ** 2).sum())
