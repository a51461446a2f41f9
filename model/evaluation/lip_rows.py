"""Rows of a lips evaluation: every method's motion scored against the tracked one, clip by clip, as one MetricTable.

Definitions are in `lip_metrics`, `landmark_metrics` and `closures`; docs/evaluation.md explains them. A method with
several draws (random samples, shuffles) is scored draw by draw and averaged; only for samples of a distribution are
CRPS and spread over error those of the ensemble.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.evaluation.closures import Hits, MouthEvents, closure_hits, rounding_hits, spreading_hits
from model.evaluation.landmark_metrics import band_power, jerk, mean_free_distance, ratio_to_truth, velocity_deviation
from model.evaluation.lip_metrics import (
    LipSignals,
    best_lag_frames,
    concordance,
    crps,
    lip_motion,
    lip_signals,
    pearson,
    spread_error_ratio,
    spread_ratio,
    visible_lips,
)
from model.evaluation.tables import Metric, MetricTable
from model.motion.space import MotionSpace

__all__ = ["LIP_METRICS", "Method", "TrueClip", "lip_table"]

DECIMALS: Final = 9
"""Rounded away: what differs beyond is the arithmetic's, and no spread over clips."""
Array = NDArray[np.float32]
Values = NDArray[np.float64]

LIP_METRICS: Final = (
    Metric(
        name="opening_r",
        title="opening r",
        unit="r",
        better="higher",
        ideal=1.0,
        definition="Pearson correlation of the inner-lip opening with the tracked one, per clip.",
    ),
    Metric(
        name="opening_ccc",
        title="opening CCC",
        unit="1",
        better="higher",
        ideal=1.0,
        definition="Concordance correlation of the opening (Lin 1989): also asks for the same mean and size.",
    ),
    Metric(
        name="opening_lag",
        title="opening lag",
        unit="frames",
        better="lower",
        ideal=0.0,
        definition="Lag of the highest correlation, between frames by a parabola; positive: made lips are late.",
    ),
    Metric(
        name="opening_spread",
        title="opening spread",
        unit="1",
        better="higher",
        ideal=1.0,
        definition="Standard deviation of the opening over the truth's; 1 is ideal.",
    ),
    Metric(
        name="opening_crps",
        title="opening CRPS",
        unit="IOD",
        better="lower",
        definition="Continuous ranked probability score of the opening (Gneiting and Raftery 2007, unbiased form of "
        "Ferro 2014); for one prediction its absolute error.",
    ),
    Metric(
        name="spread_error",
        title="spread / error",
        unit="1",
        better="higher",
        ideal=1.0,
        definition="Spread of the samples' opening over the error of their mean (Fortin et al. 2014); 1 is calibrated.",
    ),
    Metric(
        name="width_r",
        title="width r",
        unit="r",
        better="higher",
        ideal=1.0,
        definition="Pearson correlation of the distance between the lip corners, per clip.",
    ),
    Metric(
        name="rounding_r",
        title="rounding r",
        unit="r",
        better="higher",
        ideal=1.0,
        definition="Pearson correlation of protrusion over width, per clip.",
    ),
    Metric(
        name="lmd_iod",
        title="mouth LMD",
        unit="IOD",
        better="lower",
        definition="Landmark distance (ER-NeRF's LMDMeter) of the 20 lip points seen from the front, without pictures, "
        "each set shifted to its own mean; inter-ocular units.",
    ),
    Metric(
        name="velocity_ratio",
        title="lip velocity",
        unit="1",
        better="higher",
        ideal=1.0,
        definition="Standard deviation of the lip points' velocity over the truth's (the paper's ablation).",
    ),
    Metric(
        name="jerk_ratio",
        title="lip jerk",
        unit="1",
        better="lower",
        ideal=1.0,
        definition="Mean absolute third difference of the lip points over the truth's, whose tracker trembles.",
    ),
    Metric(
        name="syllable_power",
        title="2-8 Hz power",
        unit="1",
        better="higher",
        ideal=1.0,
        definition="Power of the opening from 2 to 8 Hz over the truth's; 1 is ideal.",
    ),
    Metric(
        name="closure_f1",
        title="closure F1",
        unit="1",
        better="higher",
        ideal=1.0,
        definition="F1 of closed lips: a dip below 15 % of the clip's range within 2 frames of p, b, m against the "
        "centres of open vowels; over all cases.",
    ),
    Metric(
        name="closure_recall",
        title="closures made",
        unit="share",
        better="higher",
        ideal=1.0,
        definition="Share of the clip's p, b and m at which the lips close.",
    ),
    Metric(
        name="open_vowels_shut",
        title="open vowels shut",
        unit="share",
        better="lower",
        definition="Share of the clip's open vowels at whose centre the lips are closed.",
    ),
    Metric(
        name="rounding_f1",
        title="rounding F1",
        unit="1",
        better="higher",
        ideal=1.0,
        definition="F1 of rounded lips at uw uh w ow oy ao against spread vowels (iy ih ey eh); over all cases.",
    ),
    Metric(
        name="spreading_f1",
        title="spreading F1",
        unit="1",
        better="higher",
        ideal=1.0,
        definition="F1 of spread lips at iy ey s z against rounded sounds; over all cases.",
    ),
    Metric(
        name="silence_motion",
        title="motion in silence",
        unit="IOD/s",
        better="lower",
        definition="Mean speed of the opening where nobody speaks within 200 ms; the truth's is tracker noise.",
    ),
)
"""Columns, in order."""


@dataclass(frozen=True)
class TrueClip:
    """What a clip's speaker did. `events` is None where the words could not be found in the sound."""

    key: str
    motion: Array  # (T, 32) tracked
    events: MouthEvents | None


@dataclass(frozen=True)
class Method:
    """Motion of all clips in their order, drawn once or more. `samples`: the draws are of a distribution."""

    draws: Sequence[Sequence[Array]]  # draws x clips, (T, 32) each
    samples: bool = False


@dataclass(frozen=True)
class _Seen:
    """Signals of one clip's motion."""

    signals: LipSignals
    lips: Values  # (T, 20, 2)

    @classmethod
    def of(cls, motion: Array, space: MotionSpace) -> _Seen:
        return cls(lip_signals(motion, space), visible_lips(motion, space))


def lip_table(
    title: str,
    clips: Sequence[TrueClip],
    methods: Mapping[str, Method],
    space: MotionSpace,
    *,
    reference: str | None = None,
    notes: Sequence[str] = (),
) -> MetricTable:
    """Score every method; the row `truth` is added in front.

    Raises:
        InputError: A method's motion does not fit the clips.
    """
    truth = [_Seen.of(c.motion, space) for c in clips]
    values: dict[str, dict[str, Values]] = {}
    pooled: dict[str, dict[str, float]] = {}
    rows = {"truth": Method([[c.motion for c in clips]]), **methods}
    for name, method in rows.items():
        _check(name, method, clips)
        made = [[_Seen.of(m, space) for m in draw] for draw in method.draws]
        values[name] = _per_clip(made, truth, clips, samples=method.samples)
        pooled[name] = _pooled(made, clips)
    lost = sum(c.events is None for c in clips)
    more = (f"{lost} of {len(clips)} clips could not be aligned and count in no score of phonemes",) if lost else ()
    return MetricTable(
        title=title,
        clips=tuple(c.key for c in clips),
        metrics=LIP_METRICS,
        values=values,
        pooled=pooled,
        reference=reference,
        truth="truth",
        notes=(*notes, *more),
    )


def _per_clip(
    made: Sequence[Sequence[_Seen]], truth: Sequence[_Seen], clips: Sequence[TrueClip], *, samples: bool
) -> dict[str, Values]:
    rows = []
    for index, (true, clip) in enumerate(zip(truth, clips, strict=True)):
        draws = [draw[index] for draw in made]
        scores = [_following(d, true) | _liveliness(d, true) | _shapes(d, clip) for d in draws]
        row = {name: _known_mean([s[name] for s in scores]) for name in scores[0]}
        openings = [d.signals.opening for d in draws]
        if samples:
            row["opening_crps"] = crps(openings, true.signals.opening)
            row["spread_error"] = spread_error_ratio(openings, true.signals.opening)
        else:
            row["opening_crps"] = float(np.mean([crps([o], true.signals.opening) for o in openings]))
        rows.append(row)
    return {name: np.array([row[name] for row in rows], np.float64).round(DECIMALS) for name in rows[0]}


def _following(made: _Seen, truth: _Seen) -> dict[str, float]:
    a, b = made.signals, truth.signals
    return {
        "opening_r": pearson(a.opening, b.opening),
        "opening_ccc": concordance(a.opening, b.opening),
        "opening_lag": best_lag_frames(a.opening, b.opening),
        "opening_spread": spread_ratio(a.opening, b.opening),
        "width_r": pearson(a.width, b.width),
        "rounding_r": pearson(a.rounding, b.rounding),
        "lmd_iod": float(mean_free_distance(made.lips, truth.lips).mean()),
    }


def _liveliness(made: _Seen, truth: _Seen) -> dict[str, float]:
    return {
        "velocity_ratio": ratio_to_truth(velocity_deviation(made.lips), velocity_deviation(truth.lips)),
        "jerk_ratio": ratio_to_truth(jerk(made.lips), jerk(truth.lips)),
        "syllable_power": ratio_to_truth(band_power(made.signals.opening), band_power(truth.signals.opening)),
    }


def _shapes(made: _Seen, clip: TrueClip) -> dict[str, float]:
    if clip.events is None:
        return dict.fromkeys(("closure_recall", "open_vowels_shut", "silence_motion"), float("nan"))
    hits = closure_hits(made.signals.opening, clip.events)
    return {
        "closure_recall": hits.recall,
        "open_vowels_shut": hits.false_rate,
        "silence_motion": lip_motion(made.signals.opening, clip.events.silent),
    }


def _pooled(made: Sequence[Sequence[_Seen]], clips: Sequence[TrueClip]) -> dict[str, float]:
    closed, rounded, spread = Hits(), Hits(), Hits()
    for draw in made:
        for seen, clip in zip(draw, clips, strict=True):
            if clip.events is not None:
                closed += closure_hits(seen.signals.opening, clip.events)
                rounded += rounding_hits(seen.signals.rounding, clip.events)
                spread += spreading_hits(seen.signals.width, clip.events)
    found = {"closure_f1": closed.f1, "rounding_f1": rounded.f1, "spreading_f1": spread.f1}
    return {name: value for name, value in found.items() if not np.isnan(value)}


def _known_mean(values: Sequence[float]) -> float:
    known = [v for v in values if not np.isnan(v)]
    return float(np.mean(known)) if known else float("nan")


def _check(name: str, method: Method, clips: Sequence[TrueClip]) -> None:
    wanted = [c.motion.shape for c in clips]
    for draw in method.draws:
        if [m.shape for m in draw] != wanted:
            raise InputError(f"row {name!r}: {len(draw)} motions do not fit the {len(wanted)} clips' shapes")
    if not method.draws:
        raise InputError(f"row {name!r} has no motion at all")
