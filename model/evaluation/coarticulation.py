"""How well motion made from phone times alone follows the filmed lips, and whether it closes where lips close."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model.evaluation.closures import Hits, closure_hits, mouth_events, rounding_hits
from model.evaluation.lip_metrics import lip_signals, pearson, spread_ratio
from model.training.coarticulation import LabelledClip
from model.training.coarticulation_net import Coarticulation


def coarticulation_figures(model: Coarticulation, clips: Sequence[LabelledClip]) -> dict[str, float]:
    """Correlations of opening, width and rounding (mean over clips), spread, and F1 of closures and of rounding.

    `closure_f1_truth` is the filmed lips' own: labels and lips do not agree fully.
    """
    scores: dict[str, list[float]] = {"opening_r": [], "width_r": [], "rounding_r": [], "opening_spread": []}
    closures, filmed, rounding = Hits(), Hits(), Hits()
    for clip in clips:
        made = lip_signals(model.motion(clip.phonemes), model.space)
        truth = lip_signals(clip.motion, model.space)
        scores["opening_r"].append(pearson(made.opening, truth.opening))
        scores["width_r"].append(pearson(made.width, truth.width))
        scores["rounding_r"].append(pearson(made.rounding, truth.rounding))
        scores["opening_spread"].append(spread_ratio(made.opening, truth.opening))
        events = mouth_events(clip.phonemes, len(clip.motion))
        closures += closure_hits(made.opening, events)
        filmed += closure_hits(truth.opening, events)
        rounding += rounding_hits(made.rounding, events)
    means = {name: float(np.mean(values)) for name, values in scores.items()}
    f1 = {"closure_f1": closures.f1, "closure_f1_truth": filmed.f1, "rounding_f1": rounding.f1}
    return means | f1
