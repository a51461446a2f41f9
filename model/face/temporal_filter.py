"""Takes tracker jitter out of canonical landmarks without delay and without shaving closures.

Per group of landmarks that move together (mouth, each eye, brows, the rest) a local quadratic fit stands beside the
tracked positions, and the group's speed decides between them: still frames take the fit, moving frames keep what was
tracked, so a closure of one frame keeps its depth. The noise level is estimated from the clip itself.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d
from scipy.signal import savgol_filter

from model.motion.face_points import (
    BROWS,
    EYE_CORNERS_LEFT,
    EYE_CORNERS_RIGHT,
    IRIS_LEFT,
    IRIS_RIGHT,
    LIDS_LEFT,
    LIDS_RIGHT,
    MOUTH,
)

FIT_FRAMES: Final = 7
FIT_ORDER: Final = 2
MOVING_NOISES: Final = 2.5  # a group moves when its speed is this many times what jitter alone would give
SECOND_DIFFERENCE_GAIN: Final = 6**0.5  # standard deviation of x[t-1] - 2 x[t] + x[t+1] over that of white x
CENTRAL_DIFFERENCE_GAIN: Final = 0.5**0.5  # of (x[t+1] - x[t-1]) / 2

GROUPS: Final = (
    MOUTH,
    (*(i for pair in LIDS_LEFT for i in pair), *EYE_CORNERS_LEFT, IRIS_LEFT),
    (*(i for pair in LIDS_RIGHT for i in pair), *EYE_CORNERS_RIGHT, IRIS_RIGHT),
    tuple(i for points in BROWS.values() for i in points),
)


def filter_points(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Filtered copy of (T, 478, 3) canonical landmarks; clips shorter than `FIT_FRAMES` come back unchanged."""
    if len(points) < FIT_FRAMES:
        return points.copy()
    smooth = savgol_filter(points, FIT_FRAMES, FIT_ORDER, axis=0).astype(np.float32)
    out = smooth.copy()
    grouped = set()
    for group in GROUPS:
        members = list(group)
        grouped.update(members)
        keep = moving_share(points[:, members])[:, None, None]
        out[:, members] = keep * points[:, members] + (1 - keep) * smooth[:, members]
    rest = [i for i in range(points.shape[1]) if i not in grouped]
    keep = moving_share(points[:, rest])[:, None, None]
    out[:, rest] = keep * points[:, rest] + (1 - keep) * smooth[:, rest]
    return np.asarray(out, np.float32)


def moving_share(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """(T,) 0 where the group (T, N, 3) rests within its jitter .. 1 where it moves."""
    second = np.linalg.norm(np.diff(points, 2, axis=0), axis=2).mean(1)
    noise = float(np.median(second)) / SECOND_DIFFERENCE_GAIN
    speed = np.linalg.norm(np.gradient(points, axis=0), axis=2).mean(1)
    bend = np.zeros(len(points), np.float32)
    bend[1:-1] = second / SECOND_DIFFERENCE_GAIN  # a one-frame dip has no central difference at its bottom
    excess = np.maximum(speed / CENTRAL_DIFFERENCE_GAIN, bend) / max(MOVING_NOISES * noise, 1e-9)
    share = excess**4 / (1 + excess**4)
    return np.asarray(maximum_filter1d(share, 3, mode="nearest"), np.float32)
