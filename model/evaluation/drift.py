"""Does a long stream stay what it was? Change of the mean and of the spread of a signal over minutes.

Feed the *same* speech again and again and give its length as the period: then every period ought to be alike, and what
differs is drift, not what was said. A straight line is fitted through the periods' means and through their standard
deviations (least squares), and what it rises over the whole stream is reported with its standard error. Goal of the
design: within 5 % of a standard deviation in 10 minutes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.data.features import load_clips
from model.errors import InputError
from model.evaluation.hearing import FRAME_SAMPLES
from model.evaluation.lip_metrics import lip_signals
from model.motion.space import MOUTH_CODES, MotionSpace, load_motion_space
from model.results import Figure
from model.speech.log_mel import SAMPLE_RATE
from model.speech_to_motion import SpeechToMotion, motion_of_sound

MIN_PERIODS = 3
GOAL_SD = 0.05
LOOP_S = 60
MINUTE_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """Change from the first to the last period along the fitted line, in the signal's own standard deviations."""

    mean_change_sd: float
    mean_error_sd: float  # standard error of it
    spread_change_sd: float
    spread_error_sd: float
    periods: int


def measure_drift(signal: ArrayLike, *, period_frames: int) -> Drift:
    """Drift of a signal (T,): an opening, a width, one motion code. A rest shorter than a period is left out.

    Raises:
        InputError: It is not (T,), or holds fewer than three periods.
    """
    values = np.asarray(signal, np.float64)
    if values.ndim != 1 or period_frames < 2 or len(values) < MIN_PERIODS * period_frames:
        raise InputError(
            f"need (frames,) of at least {MIN_PERIODS} periods of 2 frames or more, "
            f"got {values.shape} and a period of {period_frames}"
        )
    periods = len(values) // period_frames
    rows = values[: periods * period_frames].reshape(periods, period_frames)
    scale = float(rows.std())
    if scale <= 0:
        return Drift(mean_change_sd=0.0, mean_error_sd=0.0, spread_change_sd=0.0, spread_error_sd=0.0, periods=periods)
    mean, mean_error = _rise(rows.mean(1) / scale)
    spread, spread_error = _rise(rows.std(1) / scale)
    return Drift(
        mean_change_sd=mean,
        mean_error_sd=mean_error,
        spread_change_sd=spread,
        spread_error_sd=spread_error,
        periods=periods,
    )


def drift_figures(motion: NDArray[np.float32], space: MotionSpace, *, period_frames: int) -> dict[str, Figure]:
    """Drift of the opening and the width, and of the mouth code that drifts most, from motion (T, 32).

    `spread` is the standard error of the change.

    Raises:
        InputError: As `measure_drift`.
    """
    signals = lip_signals(motion, space)
    found = {
        "opening": measure_drift(signals.opening, period_frames=period_frames),
        "width": measure_drift(signals.width, period_frames=period_frames),
    }
    codes = [measure_drift(motion[:, i], period_frames=period_frames) for i in range(MOUTH_CODES.stop)]
    found["worst_code"] = max(codes, key=lambda d: max(abs(d.mean_change_sd), abs(d.spread_change_sd)))
    figures = {}
    for name, drift in found.items():
        for part, change, error in (
            ("mean", drift.mean_change_sd, drift.mean_error_sd),
            ("spread", drift.spread_change_sd, drift.spread_error_sd),
        ):
            figures[f"{name}_{part}_drift"] = Figure(
                value=abs(change), unit="sd", goal=GOAL_SD, better="lower", spread=error
            )
    return figures


def evaluate_drift(folder: Path, *, minutes: int = 10, temperature: float = 0.0) -> dict[str, Figure]:
    """Serve the same minute of speech (of prepared clips) again and again, and measure the drift.

    Raises:
        InputError: Fewer than three minutes.
        DataError: No clips.
    """
    drive, space = SpeechToMotion.load(temperature=temperature), load_motion_space()
    spoken = np.concatenate([c.sound for c in load_clips(folder)])
    loop = np.resize(spoken, LOOP_S * SAMPLE_RATE)
    motion, _ = motion_of_sound(np.tile(loop, minutes * MINUTE_S // LOOP_S), drive)
    return drift_figures(motion, space, period_frames=LOOP_S * SAMPLE_RATE // FRAME_SAMPLES)


def _rise(values: NDArray[np.float64]) -> tuple[float, float]:
    """What the line through (n,) values rises from first to last, and its standard error."""
    place = np.linspace(-0.5, 0.5, len(values))
    slope = float(place @ (values - values.mean()) / (place @ place))
    left = values - values.mean() - slope * place
    variance = float(left @ left) / (len(values) - 2)
    return slope, float(np.sqrt(variance / (place @ place)))
