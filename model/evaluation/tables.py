"""A table of methods against metrics, clip by clip: what every evaluation makes and the report writer prints.

Values stay per clip, in one order for all methods, so that they can be averaged ("per video, then averaged", as the
field does), compared in pairs with an interval, or drawn as a scatter. What exists only over all clips at once (a
Frechet distance over the pooled frames) stands in `pooled` and has no interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.evaluation.bootstrap import Estimate, mean_estimate, paired_difference

__all__ = ["Metric", "MetricTable", "join_tables"]

Values = NDArray[np.float64]
V = TypeVar("V")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What a column means.

    `ideal` is for figures that should meet a value and not pass it (a ratio to truth of 1): the row nearest to it is
    the best one, and `better` says which way to go from where our methods usually stand.
    """

    name: str  # key in JSON: lower case, no spaces
    title: str  # heading, a few words
    unit: str
    better: Literal["higher", "lower"]
    definition: str  # one or two sentences with the source; docs/evaluation.md has more
    goal: float | None = None  # for the mean over clips (or the pooled value) of the method under test
    ideal: float | None = None

    def distance(self, value: float) -> float:
        """How far a value is from the best one, for ranking rows: smaller is better."""
        if self.ideal is not None:
            return abs(value - self.ideal)
        return value if self.better == "lower" else -value


@dataclass(frozen=True, kw_only=True)
class MetricTable:
    """Methods against metrics.

    `values[method][metric]` is (clips,) float64; NaN where the metric has no value for a clip (no closure was spoken);
    a metric that a method cannot have is absent, never 0. Every metric named has an entry in `metrics`. Methods keep
    their order of insertion; `reference` names the row that the others are compared with, `truth` the row that is real
    data, if there is one.

    Raises:
        InputError: A row has another number of clips, an unknown metric, or values that are not (clips,) numbers.
    """

    title: str
    clips: tuple[str, ...]
    metrics: tuple[Metric, ...]
    values: Mapping[str, Mapping[str, Values]]
    pooled: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    reference: str | None = None
    truth: str | None = None
    notes: tuple[str, ...] = ()  # lines printed below the table: what is missing and why

    def __post_init__(self) -> None:
        names = [m.name for m in self.metrics]
        if len(set(names)) != len(names):
            raise InputError(f"table {self.title!r} names a metric twice: {', '.join(names)}")
        for method, row in self.values.items():
            for name, values in row.items():
                if name not in names:
                    raise InputError(f"table {self.title!r}, row {method!r}: metric {name!r} is not described")
                if values.shape != (len(self.clips),) or values.dtype != np.float64:
                    raise InputError(
                        f"table {self.title!r}, row {method!r}: {name} needs ({len(self.clips)},) float64, "
                        f"got {values.shape} {values.dtype}"
                    )
        for method, numbers in self.pooled.items():
            unknown = set(numbers) - set(names)
            if unknown:
                raise InputError(f"table {self.title!r}, row {method!r}: {', '.join(sorted(unknown))} not described")
        for wanted in (self.reference, self.truth):
            if wanted is not None and wanted not in self.methods:
                raise InputError(f"table {self.title!r} has no row {wanted!r}: {', '.join(self.methods)}")

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of all rows."""
        return tuple(dict.fromkeys([*self.values, *self.pooled]))

    def metric(self, name: str) -> Metric:
        """The description of a column.

        Raises:
            InputError: There is no such column.
        """
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise InputError(f"table {self.title!r} has no metric {name!r}: {', '.join(m.name for m in self.metrics)}")

    def estimate(self, method: str, metric: str) -> Estimate | None:
        """Mean over clips with its 95 % interval; the pooled value with no interval; None where there is neither."""
        self.metric(metric)
        values = self.values.get(method, {}).get(metric)
        if values is not None:
            return mean_estimate(values)
        pooled = self.pooled.get(method, {}).get(metric)
        if pooled is None:
            return None
        return Estimate(mean=pooled, low=float("nan"), high=float("nan"), clips=len(self.clips))

    def difference(self, method: str, other: str, metric: str) -> Estimate | None:
        """Paired difference `method - other` with its 95 % interval; None where either has no per-clip values."""
        self.metric(metric)
        ours = self.values.get(method, {}).get(metric)
        theirs = self.values.get(other, {}).get(metric)
        return None if ours is None or theirs is None else paired_difference(ours, theirs)

    def best(self, metric: str) -> str | None:
        """The best row of a column, truth aside; None where no row has a value."""
        described = self.metric(metric)
        found = {m: e.mean for m in self.methods if m != self.truth and (e := self.estimate(m, metric)) and e.clips}
        return min(found, key=lambda m: described.distance(found[m])) if found else None


def join_tables(title: str, *tables: MetricTable) -> MetricTable:
    """One table from several over the same clips: other metrics, other rows, or both.

    Raises:
        InputError: The clips differ, or a cell or a metric's description comes twice and differs.
    """
    if not tables:
        raise InputError("no tables to join")
    clips = tables[0].clips
    metrics: dict[str, Metric] = {}
    values: dict[str, dict[str, Values]] = {}
    pooled: dict[str, dict[str, float]] = {}
    for table in tables:
        if table.clips != clips:
            raise InputError(f"tables {tables[0].title!r} and {table.title!r} are over other clips")
        for metric in table.metrics:
            if metrics.setdefault(metric.name, metric) != metric:
                raise InputError(f"metric {metric.name!r} is described twice and differently")
        for method, row in table.values.items():
            _merge(values.setdefault(method, {}), row, method)
        for method, numbers in table.pooled.items():
            _merge(pooled.setdefault(method, {}), numbers, method)
    return MetricTable(
        title=title,
        clips=clips,
        metrics=tuple(metrics.values()),
        values=values,
        pooled=pooled,
        reference=next((t.reference for t in tables if t.reference), None),
        truth=next((t.truth for t in tables if t.truth), None),
        notes=tuple(dict.fromkeys(note for t in tables for note in t.notes)),
    )


def _merge(into: dict[str, V], cells: Mapping[str, V], method: str) -> None:
    twice = set(into) & set(cells)
    if twice:
        raise InputError(f"row {method!r} has {', '.join(sorted(twice))} twice")
    into.update(cells)
