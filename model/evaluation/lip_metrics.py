"""Lip signals of motion, and how near made ones come to the truth: correlation, agreement, lag, spread, CRPS.

Signals are one number a frame (T,), 25 a second, of one clip; a score is of one clip. A calibrated sampler cannot
correlate like its mean (if the conditional mean has r, one sample has r squared): judge samples by CRPS and by their
spread over their error, means by r. Sources: concordance Lin (1989); CRPS Gneiting and Raftery (2007, Eq. 21), the
unbiased form for few samples Ferro (2014); spread over error Fortin et al. (2014).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.errors import InputError
from model.face.head_models import IBUG_IN_MEDIAPIPE
from model.motion.face_points import LIP_CORNERS, LOWER_LIP_INNER, MOUTH, UPPER_LIP_INNER
from model.motion.space import Motion, MotionSpace

__all__ = [
    "LipSignals",
    "best_lag_frames",
    "concordance",
    "crps",
    "lip_motion",
    "lip_signals",
    "pearson",
    "shift_correlations",
    "spread_error_ratio",
    "spread_ratio",
    "visible_lips",
]

FPS: Final = 25.0
STILL: Final = 1e-6
"""Standard deviation below which a signal does not move: tracked lips move by a thousand times more."""
MIDDLE_OF_LIPS: Final = (0, 17, UPPER_LIP_INNER, LOWER_LIP_INNER)
"""MediaPipe: the middle of either lip, outer and inner edge."""
VISIBLE_LIPS: Final = IBUG_IN_MEDIAPIPE[48:68]
"""MediaPipe's counterparts of the mouth's iBUG points, in their order."""
MIN_OVERLAP_FRAMES: Final = 12
Array = NDArray[np.float64]


@dataclass(frozen=True)
class LipSignals:
    """What lips do, (T,) each. Opening and width are changes against the closed resting face, inter-ocular units."""

    opening: Array  # inner lips apart
    width: Array  # corners apart
    rounding: Array  # protrusion over width, 1


def lip_signals(motion: Motion, space: MotionSpace) -> LipSignals:
    """The three signals of motion (T, 32).

    Rounding is protrusion over width: how far the middle of the lips lies before the plane of the *resting* corners,
    over the distance between the corners. (The moving corners come forward as lips round, and more than the middle
    does: measured against them, protrusion would fall.)

    Raises:
        MotionSpaceError: The last axis is not 32 long.
    """
    rest = space.template[list(MOUTH)].astype(np.float64)
    points = rest + space.mouth_displacement(motion)
    corners = [MOUTH.index(i) for i in LIP_CORNERS]
    middle = [MOUTH.index(i) for i in MIDDLE_OF_LIPS]
    apart = np.linalg.norm(points[:, corners[1]] - points[:, corners[0]], axis=-1)
    forward = points[:, middle, 2].mean(1) - rest[corners, 2].mean()
    return LipSignals(
        space.lip_opening(motion).astype(np.float64),
        space.lip_width(motion).astype(np.float64),
        np.asarray(forward / apart),
    )


def visible_lips(motion: Motion, space: MotionSpace) -> Array:
    """The 20 lip points iBUG 48..67 (T, 20, 2), seen from the front, inter-ocular units: LMD without pictures."""
    rows = [MOUTH.index(i) for i in VISIBLE_LIPS]
    points = space.template[list(MOUTH)][rows] + space.mouth_displacement(motion)[:, rows]
    return np.asarray(points[..., :2], np.float64)


def pearson(made: ArrayLike, truth: ArrayLike) -> float:
    """Pearson r, -1..1; 1 is best. 0 where either does not move: a still mouth follows nothing."""
    a, b = _pair(made, truth)
    if a.std() < STILL or b.std() < STILL:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def concordance(made: ArrayLike, truth: ArrayLike) -> float:
    """Concordance correlation (Lin 1989), -1..1: 2 cov / (var + var + (difference of means)^2); 1 only when equal."""
    a, b = _pair(made, truth)
    scale = a.var() + b.var() + (a.mean() - b.mean()) ** 2
    if scale < STILL**2:
        return 1.0
    return float(2 * ((a - a.mean()) * (b - b.mean())).mean() / scale)


def spread_ratio(made: ArrayLike, truth: ArrayLike) -> float:
    """Standard deviation over the truth's; 1 is ideal. NaN where the truth does not move."""
    a, b = _pair(made, truth)
    return float(a.std() / b.std()) if b.std() >= STILL else float("nan")


def shift_correlations(made: ArrayLike, truth: ArrayLike, max_lag_frames: int = 8) -> Array:
    """r of made[t + lag] and truth[t] over their overlap, lags -max..max: (2 max + 1,).

    Raises:
        InputError: The signals are too short to overlap by 12 frames at every lag.
    """
    a, b = _pair(made, truth)
    if len(a) - max_lag_frames < MIN_OVERLAP_FRAMES:
        raise InputError(f"{len(a)} frames are too few for lags up to {max_lag_frames}: shift less")
    lags = range(-max_lag_frames, max_lag_frames + 1)
    return np.array(
        [pearson(a[max(0, g) : len(a) + min(0, g)], b[max(0, -g) : len(b) + min(0, -g)]) for g in lags], np.float64
    )


def best_lag_frames(made: ArrayLike, truth: ArrayLike, max_lag_frames: int = 8) -> float:
    """The lag of highest r, between frames by the parabola through its neighbours; positive: the made lips are *late*.

    NaN where either signal does not move. A peak at the longest lag is returned as it is.
    """
    scores = shift_correlations(made, truth, max_lag_frames)
    if not scores.any():
        return float("nan")
    best = int(scores.argmax())
    lag = float(best - max_lag_frames)
    if best in (0, len(scores) - 1):
        return lag
    before, top, after = scores[best - 1 : best + 2]
    bend = before - 2 * top + after
    return lag + float(0.5 * (before - after) / bend) if bend < 0 else lag


def crps(samples: ArrayLike, truth: ArrayLike) -> float:
    """Continuous ranked probability score of samples (S, T) against the truth (T,), mean over frames; 0 is best.

    Unit of the signal. E|X - y| - E|X - X'| / 2 over pairs of different samples. One sample stands for a point mass:
    its absolute error. So a sampler is worth more than a deterministic net where its CRPS is below that net's error.

    Raises:
        InputError: The shapes do not fit.
    """
    x, y = _ensemble(samples, truth)
    error = np.abs(x - y).mean(0)
    count = len(x)
    if count == 1:
        return float(error.mean())
    weight = 2 * np.arange(1, count + 1) - count - 1  # sum over pairs of |x - x'| from sorted samples
    pairs = 2 * (weight[:, None] * np.sort(x, 0)).sum(0) / (count * (count - 1))
    return float((error - pairs / 2).mean())


def spread_error_ratio(samples: ArrayLike, truth: ArrayLike) -> float:
    """Spread of samples (S, T) over the error of their mean; 1 when calibrated, less when too sure.

    sqrt((S + 1) / S * mean variance over samples) / RMSE of the mean (Fortin et al. 2014). NaN for one sample
    or no error.

    Raises:
        InputError: The shapes do not fit.
    """
    x, y = _ensemble(samples, truth)
    error = float(np.sqrt(((x.mean(0) - y) ** 2).mean()))
    if len(x) < 2 or error < STILL:
        return float("nan")
    return float(np.sqrt((len(x) + 1) / len(x) * x.var(0, ddof=1).mean())) / error


def lip_motion(opening: ArrayLike, where: ArrayLike | None = None, *, fps: float = FPS) -> float:
    """Mean speed of the lips, |change of opening| a second, inter-ocular units; over frames (T,) where `where` holds.

    With frames of silence it is silence motion, with the motion made from silence it is the leak. A step counts when
    both its frames do; NaN where none does.

    Raises:
        InputError: The shapes do not fit.
    """
    values = np.asarray(opening, np.float64)
    flags = np.ones(len(values), np.bool_) if where is None else np.asarray(where, np.bool_)
    if values.ndim != 1 or flags.shape != values.shape:
        raise InputError(f"need opening and flags (frames,), got {values.shape} and {flags.shape}")
    steps = np.abs(np.diff(values))[flags[1:] & flags[:-1]]
    return float(steps.mean() * fps) if len(steps) else float("nan")


def _pair(made: ArrayLike, truth: ArrayLike) -> tuple[Array, Array]:
    a, b = np.asarray(made, np.float64), np.asarray(truth, np.float64)
    if a.ndim != 1 or a.shape != b.shape or not len(a):
        raise InputError(f"need two signals (frames,) of one length, got {a.shape} and {b.shape}")
    return a, b


def _ensemble(samples: ArrayLike, truth: ArrayLike) -> tuple[Array, Array]:
    x, y = np.asarray(samples, np.float64), np.asarray(truth, np.float64)
    if x.ndim != 2 or not len(x) or x.shape[1:] != y.shape or not len(y):
        raise InputError(f"need samples (S, frames) and truth (frames,), got {x.shape} and {y.shape}")
    return x, y
