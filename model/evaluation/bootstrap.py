"""How sure a mean over clips is: bootstrap intervals of means and of paired differences (Efron & Tibshirani 1993).

Clips are drawn with replacement, as they are the independent units; the frames of one clip are not. Two methods are
compared on the same clips: the interval is that of the mean of their differences, which is far narrower than either
mean's own where hard clips are hard for both. BCa (bias-corrected and accelerated: Efron 1987) by SciPy, because values
over clips are skewed and clips are few; it needs no normal distribution and never leaves the range of resampled means.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

from model.errors import InputError

__all__ = ["CONFIDENCE", "RESAMPLES", "Estimate", "mean_estimate", "paired_difference"]

RESAMPLES = 5000
CONFIDENCE = 0.95
EQUAL = 1e-12
"""Values this near to each other, relative to their mean, differ by rounding only: there is nothing to resample."""
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean over clips and its interval of confidence.

    `low` and `high` are NaN where one clip alone gives no interval; all three are NaN without any clip.
    """

    mean: float
    low: float
    high: float
    clips: int  # that have a value; clips without one (NaN) are left out

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero: for a difference, whether it is more than chance."""
        return self.low > 0 or self.high < 0

    @property
    def half_width(self) -> float:
        """Half the length of the interval: `spread` of a results file."""
        return (self.high - self.low) / 2


def mean_estimate(values: Values, *, seed: int = 0, confidence: float = CONFIDENCE) -> Estimate:
    """Mean of per-clip values (clips,); NaN marks a clip that has none.

    Raises:
        InputError: `values` is not a row of numbers, holds infinity, or the confidence is not inside 0..1.
    """
    _check(values, confidence)
    known = values[~np.isnan(values)]
    if not len(known):
        return Estimate(mean=float("nan"), low=float("nan"), high=float("nan"), clips=0)
    mean = float(known.mean())
    if len(known) == 1:
        return Estimate(mean=mean, low=float("nan"), high=float("nan"), clips=1)
    if np.ptp(known) <= EQUAL * max(1.0, abs(mean)):
        return Estimate(mean=mean, low=mean, high=mean, clips=len(known))
    found = bootstrap(
        (known,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=confidence,
        method="BCa",
        vectorized=True,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(mean=mean, low=float(found.low), high=float(found.high), clips=len(known))


def paired_difference(ours: Values, other: Values, *, seed: int = 0, confidence: float = CONFIDENCE) -> Estimate:
    """Mean of `ours - other` over the clips in which both have a value; both (clips,), in the same order.

    Raises:
        InputError: They are not equally many; or as `mean_estimate`.
    """
    if ours.shape != other.shape:
        raise InputError(f"paired methods need the same clips, got {ours.shape} and {other.shape} values")
    _check(ours, confidence)
    _check(other, confidence)
    return mean_estimate(ours - other, seed=seed, confidence=confidence)


def _check(values: Values, confidence: float) -> None:
    if values.ndim != 1:
        raise InputError(f"per-clip values are (clips,), got shape {values.shape}")
    if np.isinf(values).any():
        raise InputError(f"per-clip values hold infinity in {int(np.isinf(values).sum())} of {len(values)} clips")
    if not 0 < confidence < 1:
        raise InputError(f"confidence lies between 0 and 1, got {confidence}")
