"""Landmarks and mouths of rendered frames against real ones: where they are, lips closed, teeth sharp.

One tracker (MediaPipe) reads both sides, each frame by itself. Its own distance on real frames from landmarks projected
from the mesh stands beside. Most of that is definition (the 68 of the mesh are not MediaPipe's), so compare the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.errors import DataError
from model.evaluation.faces_video import raw_lip_opening
from model.evaluation.landmark_metrics import ibug68, inter_ocular_px
from model.evaluation.views_capture import CaptureViews
from model.face.landmarks import track_face
from model.motion.face_points import LIPS_INNER, LIPS_OUTER
from model.results import Figure

__all__ = ["TrackedViews", "closed_lip_figures", "landmark_figures", "open_mouth_figures", "track_views"]

GOAL_PERCENT: Final = 1.5
CLOSED_AREA_PX, OPEN_AREA_PX = 1.0, 40.0  # of the mouth's inside
OTHER_LEVELS: Final = 25.0  # a pixel this much darker or brighter than the real one shows a gap, or teeth
IRISES_FROM: Final = 468
GAP_GOAL: Final = 0.02

Frames = NDArray[np.uint8]
Landmarks = NDArray[np.float32]  # (T, 478, 3) px; NaN where no face was found


@dataclass(frozen=True)
class TrackedViews:
    """Views and what the tracker finds in them."""

    views: CaptureViews
    made_px: Landmarks
    real_px: Landmarks

    @property
    def found(self) -> NDArray[np.bool_]:
        """(T,) frames with a face on both sides."""
        return np.isfinite(self.made_px[:, 0, 0]) & np.isfinite(self.real_px[:, 0, 0])


def track_views(views: CaptureViews, task_file: Path) -> TrackedViews:
    """Look for a face in every frame of both sides.

    Raises:
        DataError: No frame has one on both.
        LandmarkError: The tracker's file is missing or foreign, or one side shows no face at all.
    """
    made, real = (track_face(frames, task_file, stills=True).landmarks for frames in (views.made, views.real))
    tracked = TrackedViews(views, made, real)
    if not tracked.found.any():
        raise DataError(f"in none of {len(views.made)} frames a face is found on both sides")
    return tracked


def landmark_figures(tracked: TrackedViews) -> dict[str, Figure]:
    """Mean distance of landmarks, nothing shifted or scaled, over the real frame's inter-ocular distance, percent."""
    keep = tracked.found
    made, real = tracked.made_px[keep], tracked.real_px[keep]
    exact = tracked.views.exact_px[keep]
    eyes = inter_ocular_px(exact)
    errors = {
        "landmark_error": _distance(made[:, :IRISES_FROM, :2], real[:, :IRISES_FROM, :2]) / eyes,
        "landmark_error_lips": _distance(made[:, _LIPS, :2], real[:, _LIPS, :2]) / eyes,
        "landmark_error_exact": _distance(ibug68(made), exact) / eyes,
        "landmark_error_exact_of_tracker": _distance(ibug68(real), exact) / eyes,
    }
    goals = {"landmark_error": GOAL_PERCENT, "landmark_error_lips": GOAL_PERCENT}
    figures = {
        name: Figure(
            value=round(100 * float(values.mean()), 3), unit="% IOD", goal=goals.get(name), better="lower", n=len(eyes)
        )
        for name, values in errors.items()
    }
    figures["landmark_frames_lost"] = Figure(value=float((~keep).sum()), unit="frames", better="lower", n=len(keep))
    return figures


def closed_lip_figures(tracked: TrackedViews) -> dict[str, Figure]:
    """Frames whose labels show nothing of the mouth's inside: the lips' distance, and pixels of gap or teeth."""
    area = tracked.views.interior.sum((1, 2))
    rows = np.flatnonzero(tracked.found & (area < CLOSED_AREA_PX))
    if not len(rows):
        return {}
    made, real = (raw_lip_opening(points[rows]) for points in (tracked.made_px, tracked.real_px))
    views = tracked.views
    other = [_luma(views.made[i])[views.mouth[i]] - _luma(views.real[i])[views.mouth[i]] for i in rows]
    gap = {"closed_gap": made, "closed_gap_real": real}
    shares = {
        "closed_darker_pixels": [100 * float((d < -OTHER_LEVELS).mean()) for d in other],
        "closed_brighter_pixels": [100 * float((d > OTHER_LEVELS).mean()) for d in other],
    }
    figures = {
        name: Figure(value=round(float(values.mean()), 4), unit="IOD", better="lower", n=len(rows))
        for name, values in gap.items()
    }
    figures["closed_gap_added_p95"] = Figure(
        value=round(float(np.quantile(made - real, 0.95)), 4), unit="IOD", goal=GAP_GOAL, better="lower", n=len(rows)
    )
    for name, values in shares.items():
        figures[name] = Figure(value=round(float(np.mean(values)), 3), unit="%", better="lower", n=len(rows))
    return figures


def open_mouth_figures(views: CaptureViews) -> dict[str, Figure]:
    """Frames whose labels show much of the mouth's inside: its gradient energy over the real frame's."""
    made, real, ratios = 0.0, 0.0, []
    for index, interior in enumerate(views.interior):
        inside = cv2.erode((interior > 0.99).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        if inside.sum() < OPEN_AREA_PX:
            continue
        ours, theirs = _energy(views.made[index], inside), _energy(views.real[index], inside)
        made, real = made + ours, real + theirs
        ratios.append(float(_luma(views.made[index])[inside].mean() - _luma(views.real[index])[inside].mean()))
    if not ratios:
        return {}
    return {
        "open_sharpness": Figure(value=round(made / real, 3), unit="ratio", better="higher", n=len(ratios)),
        "open_brightness_error": Figure(
            value=round(float(np.abs(ratios).mean()), 2), unit="levels", better="lower", n=len(ratios)
        ),
    }


_LIPS: Final = [*LIPS_OUTER, *LIPS_INNER]


def _energy(frame: Frames, inside: NDArray[np.bool_]) -> float:
    """Sum of squared luma gradients (Sobel)."""
    luma = _luma(frame)
    across, down = (cv2.Sobel(luma, cv2.CV_32F, dx, 1 - dx, ksize=3) for dx in (1, 0))
    return float((across**2 + down**2)[inside].sum())


def _luma(frame: Frames) -> NDArray[np.float32]:
    return np.asarray(cv2.cvtColor(frame.astype(np.float32), cv2.COLOR_RGB2GRAY), np.float32)


def _distance(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(a.astype(np.float64) - b, axis=2).mean(1), np.float64)
