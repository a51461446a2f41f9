"""Figures of the big table: cells with their intervals, and paired differences of ours to every control.

A figure is named `<set>.<row>.<metric>`; a difference `difference.<set>.<ours>.minus.<control>.<metric>`: mean of ours
less the control's over the clips that both have, with its 95 % interval (BCa bootstrap over clips). Of the F1 of closed
lips, which is over all cases at once, clips are drawn together with their counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

from model.evaluation.bootstrap import CONFIDENCE, RESAMPLES, Estimate, mean_estimate, paired_difference
from model.evaluation.row_store import RowArrays
from model.evaluation.table_motion import CLOSURE_HITS
from model.evaluation.tables import Metric
from model.results import Figure

__all__ = ["CLOSURE_F1", "difference_figures", "f1_difference", "f1_of", "row_slug", "set_figures"]

CLOSURE_F1: Final = "closure_f1"
Values = NDArray[np.float64]
Counts = NDArray[np.int64]


def row_slug(row: str) -> str:
    """A row's name as part of a figure's."""
    return "_".join("".join(c if c.isalnum() else " " for c in row.lower()).split())


def f1_of(counts: NDArray[np.int64]) -> float:
    """F1 of (clips, 3) hits, misses and false alarms over all clips; NaN without any case that must be seen."""
    hits, misses, false = (int(n) for n in counts.sum(0))
    return 2 * hits / (2 * hits + misses + false) if hits + misses else float("nan")


def f1_difference(ours: Counts, other: Counts, *, seed: int = 0) -> Estimate:
    """F1 of ours less the other's, both (clips, 3) over the same clips, with its interval over drawn clips."""

    def statistic(*columns: Values, axis: int = -1) -> Values:
        totals = [column.sum(axis) for column in columns]
        return _f1(totals[:3]) - _f1(totals[3:])

    value = f1_of(ours) - f1_of(other)
    columns = tuple(part[:, i].astype(np.float64) for part in (ours, other) for i in range(3))
    if np.array_equal(ours, other) or len(ours) < 2:
        return Estimate(mean=value, low=value, high=value, clips=len(ours))
    found = bootstrap(
        columns,
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",  # BCa has no value where one clip decides nothing
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(mean=value, low=float(found.low), high=float(found.high), clips=len(ours))


def set_figures(name: str, rows: Mapping[str, RowArrays], metrics: Sequence[Metric]) -> dict[str, Figure]:
    """Every cell of a set: means over clips with intervals; F1 pooled."""
    figures = {}
    for row, arrays in rows.items():
        for metric in metrics:
            found = _cell(arrays, metric.name)
            if found is not None:
                figures[f"{name}.{row_slug(row)}.{metric.name}"] = _figure(found, metric)
    return figures


def difference_figures(
    name: str,
    rows: Mapping[str, RowArrays],
    metrics: Sequence[Metric],
    *,
    ours: Sequence[str],
    others: Sequence[str],
) -> dict[str, Figure]:
    """Paired differences of each of ours to each of the others, where both rows have the metric."""
    figures = {}
    for row in (r for r in ours if r in rows):
        for other in (r for r in others if r in rows):
            for metric in metrics:
                found = _difference(rows[row], rows[other], metric.name)
                if found is not None and found.clips:
                    label = f"difference.{name}.{row_slug(row)}.minus.{row_slug(other)}.{metric.name}"
                    figures[label] = _figure(found, metric)
    return figures


def _cell(arrays: RowArrays, metric: str) -> Estimate | None:
    if metric == CLOSURE_F1 and CLOSURE_HITS in arrays:
        value = f1_of(arrays[CLOSURE_HITS])
        return (
            None if np.isnan(value) else Estimate(mean=value, low=np.nan, high=np.nan, clips=len(arrays[CLOSURE_HITS]))
        )
    if metric not in arrays:
        return None
    found = mean_estimate(arrays[metric].astype(np.float64))
    return found if found.clips else None


def _difference(ours: RowArrays, other: RowArrays, metric: str) -> Estimate | None:
    if metric == CLOSURE_F1:
        both = CLOSURE_HITS in ours and CLOSURE_HITS in other
        return f1_difference(ours[CLOSURE_HITS], other[CLOSURE_HITS]) if both else None
    if metric not in ours or metric not in other:
        return None
    return paired_difference(_magnitude(ours, metric), _magnitude(other, metric))


def _magnitude(arrays: RowArrays, metric: str) -> Values:
    """Offsets are compared by their size: early and late clips must not cancel."""
    values = arrays[metric].astype(np.float64)
    return np.abs(values) if metric == "critic_late_frames" else values


def _figure(found: Estimate, metric: Metric) -> Figure:
    known = not (np.isnan(found.low) or np.isnan(found.high))
    return Figure(
        value=found.mean,
        unit=metric.unit,
        better=metric.better,
        n=found.clips,
        interval=(found.low, found.high) if known else None,
    )


def _f1(totals: Sequence[Values]) -> Values:
    hits, misses, false = totals
    return np.asarray(2 * hits / np.maximum(2 * hits + misses + false, 1e-9))
