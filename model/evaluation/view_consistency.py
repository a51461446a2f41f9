"""Is it the same speech from every side? One motion rendered at several head turns, the views compared with each other.

Each view is tracked like a filmed clip, and its head pose is removed by `model.face.canonical` (canonical points in
inter-ocular units of the mean face, the tracker's pose bias taken out). Lips are then compared in two ways: where they
are, which holds what the renderer and what the tracker do wrong with shape under a turn; and how they move, each view
less its own mean over time, which holds neither constant error. The tracker is not perfect: the same figures of two
*real* (or truly rendered) views of one motion are the floor; print them beside.

Identity is the cosine of face embeddings of the same frame in two views. Recognition networks themselves lose some
cosine under a turn, so again only the real views' value tells what is the avatar's fault.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.evaluation.identity import cosine_similarity
from model.evaluation.tables import Metric
from model.face.head_shape import head_angles
from model.motion.face_points import LIPS_INNER, LIPS_OUTER, LOWER_LIP_INNER, UPPER_LIP_INNER

__all__ = [
    "VIEW_METRICS",
    "cross_view_identity",
    "lip_motion_distance",
    "lip_opening_r",
    "lip_place_distance",
    "view_scores",
    "yaw_error_deg",
]

LIPS = (*LIPS_OUTER, *LIPS_INNER)
Points = NDArray[np.float32]
Float64 = NDArray[np.float64]

VIEW_METRICS = (
    Metric(
        name="view_lip_place",
        title="lips between views",
        unit="IOD",
        better="lower",
        definition="Mean distance of the 40 lip landmarks between a turned and the frontal view of one motion, after "
        "head pose and each set's mean are removed; inter-ocular units of the mean face.",
    ),
    Metric(
        name="view_lip_motion",
        title="lip motion between views",
        unit="IOD",
        better="lower",
        definition="The same for the lips' displacement from their own mean over the clip in that view: constant "
        "errors of shape left out.",
    ),
    Metric(
        name="view_opening_r",
        title="opening between views",
        unit="r",
        better="higher",
        definition="Pearson correlation of the lip opening of a turned with that of the frontal view.",
    ),
    Metric(
        name="view_identity",
        title="identity between views",
        unit="cosine",
        better="higher",
        definition="Cosine of the face embeddings of the same frame in a turned and in the frontal view, mean.",
    ),
    Metric(
        name="view_yaw_error",
        title="yaw against asked",
        unit="deg",
        better="lower",
        definition="Mean absolute difference of the tracked yaw, less that of the frontal view, and the yaw asked for.",
    ),
)


def lip_place_distance(view: Points, frontal: Points) -> Float64:
    """(T,) mean distance of the lip landmarks of two views, each set less its own mean.

    Args:
        view, frontal: (T, 478, 3) canonical points, inter-ocular units, of the same T frames of motion.

    Raises:
        InputError: The shapes are wrong or differ, or points are NaN.
    """
    a, b = _lips(view, frontal)
    return np.asarray(np.linalg.norm(_centred(a) - _centred(b), axis=2).mean(1), np.float64)


def lip_motion_distance(view: Points, frontal: Points) -> Float64:
    """(T,) as `lip_place_distance`, each landmark less its own mean over time."""
    a, b = (_centred(lips) for lips in _lips(view, frontal))
    return np.asarray(np.linalg.norm((a - a.mean(0)) - (b - b.mean(0)), axis=2).mean(1), np.float64)


def lip_opening_r(view: Points, frontal: Points) -> float:
    """Pearson correlation over time of the distance of the inner lips' middles; NaN where either never moves."""
    _lips(view, frontal)
    gaps = [
        np.linalg.norm(p[:, UPPER_LIP_INNER].astype(np.float64) - p[:, LOWER_LIP_INNER], axis=1)
        for p in (view, frontal)
    ]
    if min(float(gap.std()) for gap in gaps) < 1e-9:
        return float("nan")
    return float(np.corrcoef(gaps[0], gaps[1])[0, 1])


def cross_view_identity(view: Float64, frontal: Float64) -> Float64:
    """(T,) cosine of embeddings (T, E) of the same frames in two views.

    Raises:
        InputError: The shapes disagree.
    """
    return cosine_similarity(view, frontal)


def yaw_error_deg(rotation: Float64, frontal_rotation: Float64, asked_deg: float) -> Float64:
    """(T,) absolute difference of the yaw that a view added to the frontal one and the yaw asked for, degrees.

    Args:
        rotation, frontal_rotation: (T, 3, 3) head to camera (OpenCV axes), as tracked in both views.
        asked_deg: Positive to the subject's left.

    Raises:
        InputError: The shapes disagree.
    """
    if rotation.shape != frontal_rotation.shape or rotation.shape[1:] != (3, 3):
        raise InputError(f"head rotations are (T, 3, 3), got {rotation.shape} and {frontal_rotation.shape}")
    turned = np.degrees(head_angles(rotation)[:, 0] - head_angles(frontal_rotation)[:, 0])
    return np.asarray(np.abs(turned - asked_deg), np.float64)


def view_scores(
    points: Mapping[float, Points],
    rotations: Mapping[float, Float64],
    embeddings: Mapping[float, Float64] | None = None,
) -> dict[float, dict[str, float]]:
    """Every turned view against the frontal one: `VIEW_METRICS` by yaw in degrees, mean over frames.

    Args:
        points: (T, 478, 3) canonical points by the yaw asked for; 0 is the frontal view.
        rotations: (T, 3, 3) tracked head rotations by yaw.
        embeddings: (T, E) face embeddings by yaw; without them `view_identity` is absent.

    Raises:
        InputError: There is no frontal view or no other, the yaws disagree, or as the single measures.
    """
    given = [points, rotations] if embeddings is None else [points, rotations, embeddings]
    if 0 not in points or len(points) < 2 or any(set(views) != set(points) for views in given):
        shown = "; ".join(", ".join(f"{yaw:g}" for yaw in views) for views in given)
        raise InputError(
            f"view consistency needs the frontal view (0) and turned ones, the same throughout; got {shown}"
        )
    scores = {}
    for yaw_deg, view in points.items():
        if yaw_deg == 0:
            continue
        row = {
            "view_lip_place": float(lip_place_distance(view, points[0]).mean()),
            "view_lip_motion": float(lip_motion_distance(view, points[0]).mean()),
            "view_opening_r": lip_opening_r(view, points[0]),
            "view_yaw_error": float(yaw_error_deg(rotations[yaw_deg], rotations[0], yaw_deg).mean()),
        }
        if embeddings is not None:
            row["view_identity"] = float(cross_view_identity(embeddings[yaw_deg], embeddings[0]).mean())
        scores[yaw_deg] = row
    return scores


def _lips(view: Points, frontal: Points) -> tuple[Float64, Float64]:
    if view.shape != frontal.shape or view.ndim != 3 or view.shape[1] < 468 or view.shape[2] != 3 or not len(view):
        raise InputError(f"two views of one motion are both (T, 478, 3), got {view.shape} and {frontal.shape}")
    a, b = (points[:, list(LIPS)].astype(np.float64) for points in (view, frontal))
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InputError("a view has frames without lip landmarks: fill the gaps or cut the frames from all views")
    return a, b


def _centred(lips: Float64) -> Float64:
    return np.asarray(lips - lips.mean(1, keepdims=True), np.float64)
