"""From metric tables and what to draw to a results file: every cell becomes a figure with n, interval and goal."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import ValidationError

from model.errors import InputError
from model.evaluation.bootstrap import CONFIDENCE, RESAMPLES, paired_difference
from model.evaluation.report.record import (
    Curve,
    CurvePlot,
    Difference,
    HistogramPlot,
    Mark,
    ReportRecord,
    RowRecord,
    ScatterPlot,
    TableRecord,
    Values,
    VideoRecord,
    details_of,
)
from model.evaluation.tables import Metric, MetricTable
from model.results import Figure, Results, new_results

__all__ = ["ReportTable", "curve_plot", "evaluation_results", "figure_name"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportTable:
    """A table as it stands in a report.

    `name` begins its figures' names (letters, digits, `_`); `tested` is the row that the metrics' goals are for.
    Differences are taken to the table's own `reference` row.
    """

    name: str
    table: MetricTable
    tested: str | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9_]+", self.name):
            raise InputError(f"a table is named with a-z, 0-9 and _, got {self.name!r}")
        if self.tested is not None and self.tested not in self.table.methods:
            raise InputError(f"table {self.name!r} has no row {self.tested!r}: {', '.join(self.table.methods)}")
        slugs = [_slug(method) for method in self.table.methods]
        if len(set(slugs)) != len(slugs) or not all(slugs):
            raise InputError(f"table {self.name!r}: rows' names are alike or empty as keys: {', '.join(slugs)}")


def figure_name(table: str, method: str, metric: str) -> str:
    """Name of a cell's figure: `grid_val.energy_only.lip_opening_r`."""
    return f"{table}.{_slug(method)}.{metric}"


def curve_plot(
    title: str,
    signals: Mapping[str, ArrayLike],
    *,
    unit: str,
    rate_hz: float = 25.0,
    marks: Sequence[tuple[float, str]] = (),
) -> CurvePlot:
    """Signals against time, as lip opening of truth and made.

    Args:
        title: Over the plot.
        signals: By label, each (T,), all equally long; NaN breaks a line.
        unit: Of the signals.
        rate_hz: Values per second.
        marks: Seconds and what to write there, as phonemes.

    Raises:
        InputError: No signals or too many, of other lengths or shapes, or holding infinity.
    """
    curves = []
    for label, signal in signals.items():
        values = np.asarray(signal, np.float64)
        if values.ndim != 1 or np.isinf(values).any():
            raise InputError(f"curve {label!r} needs (T,) numbers without infinity, got shape {values.shape}")
        curves.append(Curve(label=label, values=_values(values)))
    try:
        return CurvePlot(
            title=title,
            unit=unit,
            rate_hz=rate_hz,
            curves=tuple(curves),
            marks=tuple(Mark(at=at, label=label) for at, label in marks),
        )
    except ValidationError as error:
        raise InputError(f"plot {title!r}: {error.errors()[0]['msg']}") from error


def evaluation_results(
    title: str,
    tables: Sequence[ReportTable] = (),
    *,
    command: str,
    data: str,
    figures: Mapping[str, Figure] | None = None,
    curves: Sequence[CurvePlot] = (),
    histograms: Sequence[HistogramPlot] = (),
    scatters: Sequence[ScatterPlot] = (),
    videos: Sequence[VideoRecord] = (),
) -> Results:
    """Results of an evaluation made now, with everything that its report shows.

    Args:
        title: Heading of the report.
        tables: Each with its own name.
        command: How to repeat it, with placeholders for paths.
        data: What was evaluated, in words.
        figures: More figures beside the tables' cells, by name.
        curves, histograms, scatters, videos: What to show; histograms and scatters name cells of `tables`.

    Raises:
        InputError: Two tables or figures have one name, or a plot names a cell that no table has.
    """
    if len({table.name for table in tables}) != len(tables):
        raise InputError(f"tables need names of their own, got {', '.join(table.name for table in tables)}")
    record = ReportRecord(
        title=title,
        tables=tuple(_table_record(table) for table in tables),
        curves=tuple(curves),
        histograms=tuple(histograms),
        scatters=tuple(scatters),
        videos=tuple(videos),
    )
    found = {name: figure for table in tables for name, figure in _figures(table).items()}
    more = dict(figures or {})
    if twice := set(found) & set(more):
        raise InputError(f"figures stand twice: {', '.join(sorted(twice))}")
    return new_results({**more, **found}, command=command, data=data, details=details_of(record))


def _figures(entry: ReportTable) -> dict[str, Figure]:
    figures = {}
    for method in entry.table.methods:
        for metric in entry.table.metrics:
            found = entry.table.estimate(method, metric.name)
            if found is None or not found.clips:
                continue
            interval = None if math.isnan(found.low) else (found.low, found.high)
            figures[figure_name(entry.name, method, metric.name)] = Figure(
                value=found.mean,
                unit=metric.unit,
                goal=metric.goal if method == entry.tested else None,
                better=metric.better,
                spread=None if interval is None else found.half_width,
                n=found.clips,
                interval=interval,
            )
    return figures


def _table_record(entry: ReportTable) -> TableRecord:
    table = entry.table
    return TableRecord(
        name=entry.name,
        title=table.title,
        clips=table.clips,
        metrics=table.metrics,
        rows=tuple(_row_record(table, method) for method in table.methods),
        reference=table.reference,
        truth=table.truth,
        tested=entry.tested,
        notes=table.notes,
        confidence=CONFIDENCE,
        resamples=RESAMPLES,
    )


def _row_record(table: MetricTable, method: str) -> RowRecord:
    row = table.values.get(method, {})
    reference = table.values.get(table.reference, {}) if table.reference not in (None, method) else {}
    differences = {}
    for metric in table.metrics:
        if metric.name in row and metric.name in reference:
            found = _difference(metric, row[metric.name], reference[metric.name])
            if found is not None:
                differences[metric.name] = found
    return RowRecord(
        method=method, values={name: _values(values) for name, values in row.items()}, differences=differences
    )


def _difference(metric: Metric, ours: NDArray[np.float64], other: NDArray[np.float64]) -> Difference | None:
    found = paired_difference(ours, other)
    if not found.clips:
        return None
    judged, up = found, metric.better == "higher"
    if metric.ideal is not None:
        judged, up = paired_difference(np.abs(ours - metric.ideal), np.abs(other - metric.ideal)), False
    low, high = (None if math.isnan(edge) else edge for edge in (found.low, found.high))
    verdict: Literal["better", "worse", "unclear"] = "unclear"
    if judged.clear:
        verdict = "better" if (judged.mean > 0) == up else "worse"
    return Difference(mean=found.mean, low=low, high=high, clips=found.clips, verdict=verdict)


def _values(row: NDArray[np.float64]) -> Values:
    return tuple(None if math.isnan(value) else value for value in row.tolist())


def _slug(method: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", method.lower()).strip("_")
