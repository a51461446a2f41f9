"""False alarms: how high video without a mark scores under many keys, and what that says of scores never seen.

Which pattern a key draws is independent of any picture, so that scores of one picture under random keys are scores of
false alarms. Their tail is fitted above a high quantile by an exponential (peaks over threshold). A correlation's
noise is nearly Gaussian and its tail falls faster than any exponential, so the fit bounds the rate from above. An alarm
needs the score *and* a code word whose CRC-16 agrees; how often that happens in noise is counted apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.provenance.mark_search import CANDIDATES, THRESHOLD, FoldedPicture
from model.provenance.payload import CRC_BITS
from model.results import Figure

__all__ = ["MIN_SCORES", "TailFit", "alarm_figures", "fit_tail", "random_keys", "score_unmarked"]

GOAL_RATE = 1e-6
ORIENTATIONS = 2  # a window is searched as it is and mirrored
CHUNK = 100  # folded pictures held at once
MIN_SCORES = 1000
TAIL_SHARE = 0.05
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class TailFit:
    """Exponential tail above `start`: P(score > x) <= share * exp(-(x - start) / scale), both at their upper bounds."""

    start: float
    share: float
    scale: float

    def bound(self, score: float) -> float:
        """Upper bound on the chance that one search reaches a score at or above `start`."""
        return float(self.share * np.exp(-(score - self.start) / self.scale))


@dataclass(frozen=True)
class UnmarkedScores:
    """Best scores of (windows, keys), and how many of the code words decoded in noise passed their CRC."""

    scores: NDArray[np.float64]
    decoded: int
    passed: int


def random_keys(count: int, seed: int = 0) -> list[bytes]:
    """Keys that marked nothing."""
    rng = np.random.default_rng(seed)
    return [rng.bytes(16) for _ in range(count)]


def score_unmarked(
    means: Sequence[NDArray[np.floating]], keys: Sequence[bytes], *, decoded_keys: int = 0
) -> UnmarkedScores:
    """Search averaged luma planes without a mark for every key; the first `decoded_keys` also decode, whatever the
    score.
    """
    scores = np.zeros((len(means), len(keys)))
    decoded = passed = 0
    for start in range(0, len(means), CHUNK):
        folded = [FoldedPicture(mean) for mean in means[start : start + CHUNK]]
        for column, key in enumerate(keys):
            for row, picture in enumerate(folded, start):
                if column < decoded_keys:
                    found = picture.detection(key, threshold=-np.inf)
                    passed += found.payload is not None
                    decoded += CANDIDATES
                scores[row, column] = picture.peaks(key).best
    return UnmarkedScores(scores, decoded, passed)


def fit_tail(scores: NDArray[np.floating], share: float = TAIL_SHARE) -> TailFit:
    """Fit the highest `share` of scores; share and scale are at the upper end of 95 % confidence.

    Raises:
        InputError: There are fewer than 1000 scores.
    """
    from scipy.stats import beta, chi2

    values = np.sort(np.asarray(scores, np.float64).ravel())
    if len(values) < MIN_SCORES:
        raise InputError(f"a tail needs at least {MIN_SCORES} scores, got {len(values)}")
    count = round(len(values) * share)
    start = float(values[-count - 1])
    mean_excess = float((values[-count:] - start).mean())
    scale = 2 * count * mean_excess / float(chi2.ppf(1 - CONFIDENCE, 2 * count))
    return TailFit(start, float(beta.ppf(CONFIDENCE, count + 1, len(values) - count)), scale)


def alarm_figures(found: UnmarkedScores, prefix: str) -> dict[str, Figure]:
    """The score distribution, the fitted tail, and the bound on false alarms per window of 25 frames."""
    from scipy.stats import beta

    tail = fit_tail(found.scores)
    reached = tail.bound(THRESHOLD)
    passing = CANDIDATES * 2.0**-CRC_BITS
    counted = CANDIDATES * float(beta.ppf(CONFIDENCE, found.passed + 1, max(found.decoded - found.passed, 1)))
    count = int(found.scores.size)

    def number(value: float, unit: str, goal: float | None = None) -> Figure:
        return Figure(value=float(value), unit=unit, better="lower", goal=goal, n=count)

    quantiles = {f"score_p{q:g}".replace(".", "_"): float(np.percentile(found.scores, q)) for q in (50, 99, 99.9)}
    figures = {name: number(value, "deviations") for name, value in quantiles.items()}
    figures |= {
        "score_max": number(found.scores.max(), "deviations", THRESHOLD),
        "tail_start": number(tail.start, "deviations"),
        "tail_scale": number(tail.scale, "deviations"),
        "reach_threshold_bound": number(ORIENTATIONS * reached, "of windows"),
        "crc_passed": Figure(value=float(found.passed), unit="of code words", better="lower", n=found.decoded),
        "rate_bound": number(ORIENTATIONS * reached * passing, "of windows", GOAL_RATE),
        "rate_bound_by_counted_crc": number(ORIENTATIONS * reached * min(counted, 1.0), "of windows"),
    }
    return {f"{prefix}_{name}": figure for name, figure in figures.items()}
