"""A made mouth against the real one by tracked landmarks: distance over the whole face, and lip opening in time."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.evaluation.faces_video import raw_lip_opening
from model.evaluation.landmark_metrics import ibug68, landmark_scores, ratio_to_truth
from model.evaluation.tables import Metric

__all__ = ["LEAST_SPOKEN", "MOUTH_METRICS", "mouth_scores"]

LEAST_SPOKEN: Final = 10
"""Frames of words that a correlation over them needs."""

Landmarks = NDArray[np.float32]  # (T, 478, 3) px
Values = NDArray[np.float64]

MOUTH_METRICS: Final = (
    Metric(
        name="lmd_face",
        title="LMD, face",
        unit="px",
        better="lower",
        definition="Landmark distance over all 68 points, each set less its own mean, points by MediaPipe, mean over "
        "frames (ER-NeRF's LMDMeter).",
    ),
    Metric(
        name="lmd_face_iod",
        title="LMD, face, inter-ocular",
        unit="IOD",
        better="lower",
        definition="The same over the real frame's inter-ocular distance.",
    ),
    Metric(
        name="opening_r",
        title="lip opening",
        unit="r",
        better="higher",
        definition="Pearson correlation over a video of the inner lips' distance in made and real frames, landmarks by "
        "MediaPipe, over each frame's inter-ocular distance.",
    ),
    Metric(
        name="opening_r_spoken",
        title="lip opening, words",
        unit="r",
        better="higher",
        definition="The same over the frames in which a word is spoken: a mouth that is held open in silence, which no "
        f"sound tells, does not count. Absent below {LEAST_SPOKEN} such frames.",
    ),
    Metric(
        name="opening_spread",
        title="lip opening, spread",
        unit="ratio",
        better="higher",
        ideal=1.0,
        definition="Standard deviation over a video of that distance in made frames, over the real frames'.",
    ),
)


def mouth_scores(made: Landmarks, real: Landmarks, spoken: NDArray[np.bool_]) -> dict[str, float]:
    """`MOUTH_METRICS` of one video from MediaPipe landmarks (T, 478, 3), px; `spoken` (T,) says where words are.

    A correlation is NaN where a mouth does not move at all.
    """
    points = landmark_scores(ibug68(made), ibug68(real))
    ours, theirs = (raw_lip_opening(face).astype(np.float64) for face in (made, real))
    return {
        "lmd_face": points["lmd_face"],
        "lmd_face_iod": points["lmd_face_iod"],
        "opening_r": _correlation(ours, theirs),
        "opening_r_spoken": (
            _correlation(ours[spoken], theirs[spoken]) if spoken.sum() >= LEAST_SPOKEN else float("nan")
        ),
        "opening_spread": ratio_to_truth(float(ours.std()), float(theirs.std())),
    }


def _correlation(a: Values, b: Values) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else float("nan")
