"""Landmark distance as the field computes it, and how lively a mouth moves: velocity, jerk, power at syllable rate.

Landmark distance (LMD) is that of ER-NeRF's `LMDMeter` (Li et al. 2023; the same code in RAD-NeRF and TalkingGaussian):
the mouth is points 48..67 of the 68 iBUG landmarks, each set is shifted to its own mean, not scaled or rotated, and the
L2 distances in pixels of the native picture are averaged over points, then over frames. The field reads the points
with `face_alignment` (FAN); here they come from MediaPipe's 478 by `IBUG_IN_MEDIAPIPE`, so values compare with other
values of ours only. Pixels depend on the size of the picture: the same distance over the truth's inter-ocular distance
stands beside them.

The paper's ablation (NeRF-LipSync, temporal attention) is the standard deviation of lip velocity. Signals may be one
number a frame (T,) or points (T, ...); differences are taken along time. All is float64.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.signal import periodogram

from model.errors import InputError
from model.face.head_models import IBUG_IN_MEDIAPIPE, NUM_MEDIAPIPE

__all__ = [
    "SYLLABLE_BAND_HZ",
    "band_power",
    "ibug68",
    "inter_ocular_px",
    "jerk",
    "landmark_distance",
    "landmark_scores",
    "mean_free_distance",
    "ratio_to_truth",
    "scaled_to",
    "velocity_deviation",
]

FPS: Final = 25.0
SYLLABLE_BAND_HZ: Final = (2.0, 8.0)
"""Where speech moves lips: mouth and voice move together at 2 to 7 Hz (Chandrasekaran et al. 2009)."""
MOUTH: Final = slice(48, 68)
RIGHT_EYE_CORNERS: Final = (36, 39)
LEFT_EYE_CORNERS: Final = (42, 45)
NUM_IBUG: Final = 68
Region = Literal["mouth", "face"]
Array = NDArray[np.float64]


def ibug68(landmarks_px: ArrayLike) -> Array:
    """The 68 iBUG points (T, 68, 2) of MediaPipe's landmarks (T, 478, 2 or 3), pixels.

    Each is the nearest MediaPipe landmark; the contour (0..16) is MediaPipe's own face oval.

    Raises:
        InputError: The landmarks have another shape.
    """
    points = np.asarray(landmarks_px, np.float64)
    if points.ndim != 3 or points.shape[1] != NUM_MEDIAPIPE or points.shape[2] < 2:
        raise InputError(f"need landmarks (frames, {NUM_MEDIAPIPE}, 2 or 3), got shape {points.shape}")
    return points[:, list(IBUG_IN_MEDIAPIPE), :2]


def landmark_distance(made: ArrayLike, truth: ArrayLike, *, region: Region = "mouth") -> Array:
    """LMD of each frame (T,), in the unit of the points (T, 68, 2); 0 is best. Its mean over T is the field's figure.

    Raises:
        InputError: The shapes are not both (T, 68, 2) with T > 0.
    """
    a, b = _pair68(made, truth)
    chosen = MOUTH if region == "mouth" else slice(0, NUM_IBUG)
    return mean_free_distance(a[:, chosen], b[:, chosen])


def mean_free_distance(made: Array, truth: Array) -> Array:
    """Mean distance (T,) of point sets (T, P, D), each shifted to its own mean.

    Raises:
        InputError: The shapes differ, or are not (T, P, D).
    """
    if made.shape != truth.shape or made.ndim != 3:
        raise InputError(f"need two sets (frames, points, axes) of one shape, got {made.shape} and {truth.shape}")
    a = made - made.mean(1, keepdims=True)
    b = truth - truth.mean(1, keepdims=True)
    return np.asarray(np.linalg.norm(a - b, axis=2).mean(1))


def inter_ocular_px(points: ArrayLike) -> Array:
    """Distance between the middles of the two eyes' corners (T,), in the unit of the points (T, 68, 2)."""
    p = _checked68(points)
    right, left = (p[:, list(corners)].mean(1) for corners in (RIGHT_EYE_CORNERS, LEFT_EYE_CORNERS))
    return np.asarray(np.linalg.norm(left - right, axis=1))


def landmark_scores(made_px: ArrayLike, truth_px: ArrayLike) -> dict[str, float]:
    """One clip's means over frames: `lmd_mouth`, `lmd_face` (px) and both with `_iod`, over the truth's own distance.

    Points (T, 68, 2) in pixels. The inter-ocular distance is each frame's: it shrinks when a head turns, so that a clip
    with large yaw scores worse in these units.

    Raises:
        InputError: The shapes are wrong, or the truth's eyes coincide.
    """
    eyes = inter_ocular_px(truth_px)
    if eyes.min() <= 0:
        raise InputError("a frame's eyes coincide: these are no face landmarks")
    scores = {}
    regions: tuple[Region, Region] = ("mouth", "face")
    for region in regions:
        distance = landmark_distance(made_px, truth_px, region=region)
        scores[f"lmd_{region}"] = float(distance.mean())
        scores[f"lmd_{region}_iod"] = float((distance / eyes).mean())
    return scores


def scaled_to(made_px: ArrayLike, other_px: ArrayLike) -> Array:
    """`made` (T, 68, 2), enlarged to the mean inter-ocular distance of another person's (T, 68, 2).

    For cross-generation, where the only truth is the face that spoke the driving sound. The paper does not say what it
    compares with; this is our definition: no rotation, no shift (LMD takes out the mean itself).
    """
    made = _checked68(made_px)
    return np.asarray(made * (inter_ocular_px(other_px).mean() / inter_ocular_px(made).mean()))


def velocity_deviation(signal: ArrayLike, *, fps: float = FPS) -> float:
    """Standard deviation of the first difference in time, unit of the signal a second."""
    return float(np.diff(_signal(signal, 2), axis=0).std() * fps)


def jerk(signal: ArrayLike, *, fps: float = FPS) -> float:
    """Mean absolute third difference in time, unit of the signal a second cubed: trembling, tracker noise included."""
    return float(np.abs(np.diff(_signal(signal, 4), n=3, axis=0)).mean() * fps**3)


def band_power(signal: ArrayLike, *, fps: float = FPS, band_hz: tuple[float, float] = SYLLABLE_BAND_HZ) -> float:
    """Power between two frequencies (both included), unit of the signal squared; the mean over columns.

    Periodogram of the whole signal without its mean, Hann window. A sinusoid of amplitude A inside the band has A^2/2.

    Raises:
        InputError: Fewer frames than one period of the lower frequency, or the band is not within 0..fps/2.
    """
    low, high = band_hz
    if not 0 < low < high <= fps / 2:
        raise InputError(f"need 0 < low < high <= {fps / 2:g} Hz, got {low:g}..{high:g}")
    values = _signal(signal, int(np.ceil(fps / low)))
    frequency, density = periodogram(values, fs=fps, window="hann", detrend="constant", axis=0)
    inside = (frequency >= low) & (frequency <= high)
    return float(density[inside].sum(0).mean() * (frequency[1] - frequency[0]))


def ratio_to_truth(made: float, truth: float) -> float:
    """`made / truth` of any measure above; 1 is ideal. NaN where the truth does not move at all."""
    return made / truth if truth > 0 else float("nan")


def _pair68(made: ArrayLike, truth: ArrayLike) -> tuple[Array, Array]:
    a, b = _checked68(made), _checked68(truth)
    if len(a) != len(b):
        raise InputError(f"made and true landmarks differ in length: {len(a)} and {len(b)} frames")
    return a, b


def _checked68(points: ArrayLike) -> Array:
    out = np.asarray(points, np.float64)
    if out.ndim != 3 or out.shape[1:] != (NUM_IBUG, 2) or not len(out):
        raise InputError(f"need landmarks (frames, {NUM_IBUG}, 2), got shape {out.shape}")
    return out


def _signal(signal: ArrayLike, least_frames: int) -> Array:
    out = np.asarray(signal, np.float64)
    if out.ndim < 1 or len(out) < least_frames:
        raise InputError(f"need at least {least_frames} frames along the first axis, got shape {out.shape}")
    return out
