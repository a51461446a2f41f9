"""What a results file keeps for its report, as its `details`: per-clip values, comparisons, plots, videos.

Means, intervals and goals are not repeated here: they are the file's figures, found by `figure_name`. Read strictly,
so that the page is made from the JSON and from nothing else.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError, field_validator, model_validator

from model.errors import InputError, ResultsError
from model.evaluation.tables import Metric
from model.results import Results

__all__ = [
    "MAX_CURVES",
    "Curve",
    "CurvePlot",
    "Difference",
    "HistogramPlot",
    "Mark",
    "ReportRecord",
    "RowRecord",
    "ScatterPlot",
    "TableRecord",
    "VideoRecord",
    "details_of",
    "read_details",
]

MAX_CURVES = 5  # in one plot: more cannot be told apart
T = TypeVar("T")
Values = tuple[float | None, ...]  # None where a clip (or a moment) has no value


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Difference(_Record):
    """Mean over clips of this row minus the reference row, and its 95 % interval (None where one clip gives none).

    `verdict` says whether this row is better by more than chance: the interval leaves out zero. For a metric with an
    ideal, that of the distances to the ideal, clip by clip.
    """

    mean: float
    low: float | None
    high: float | None
    clips: int
    verdict: Literal["better", "worse", "unclear"]


class RowRecord(_Record):
    """One method: per-clip values by metric, and how it compares with the reference row."""

    method: str
    values: dict[str, Values]
    differences: dict[str, Difference] = {}


class TableRecord(_Record):
    """A `MetricTable`. `tested` is the row that the goals are for."""

    name: str
    title: str
    clips: tuple[str, ...]
    metrics: tuple[Metric, ...]
    rows: tuple[RowRecord, ...]
    reference: str | None
    truth: str | None
    tested: str | None
    notes: tuple[str, ...]
    confidence: float
    resamples: int

    @model_validator(mode="after")
    def _rows_fit(self) -> Self:
        known = {metric.name for metric in self.metrics}
        for row in self.rows:
            for name, values in row.values.items():
                if name not in known:
                    raise ValueError(f"row {row.method!r} has the unknown metric {name!r}")
                if len(values) != len(self.clips):
                    raise ValueError(f"row {row.method!r}: {len(values)} values of {name} for {len(self.clips)} clips")
        return self

    def row(self, method: str) -> RowRecord:
        """The row of a method; InputError where there is none."""
        return _named({row.method: row for row in self.rows}, method, f"table {self.name!r} has no row")

    def metric(self, name: str) -> Metric:
        """The description of a column; InputError where there is none."""
        return _named({metric.name: metric for metric in self.metrics}, name, f"table {self.name!r} has no metric")

    def per_clip(self, method: str, metric: str) -> Values:
        """Values of a cell, clip by clip.

        Raises:
            InputError: The table has no such row or column, or the cell has no per-clip values.
        """
        self.metric(metric)
        values = self.row(method).values.get(metric)
        if values is None:
            raise InputError(f"table {self.name!r}, row {method!r}: {metric} has no per-clip values to draw")
        return values


class Curve(_Record):
    """One line of a plot; None breaks it."""

    label: str
    values: Values


class Mark(_Record):
    """A moment named on the time axis, as the phoneme spoken."""

    at: float  # in the unit of the time axis
    label: str


class CurvePlot(_Record):
    """Signals against time: lip opening, truth against made."""

    title: str
    unit: str
    rate_hz: float = 25.0  # values per second
    curves: tuple[Curve, ...]
    marks: tuple[Mark, ...] = ()

    @model_validator(mode="after")
    def _can_be_drawn(self) -> Self:
        if not 1 <= len(self.curves) <= MAX_CURVES:
            raise ValueError(f"a plot has 1 to {MAX_CURVES} curves, got {len(self.curves)}")
        if self.rate_hz <= 0:
            raise ValueError(f"rate_hz must be above 0, got {self.rate_hz}")
        lengths = {len(curve.values) for curve in self.curves}
        if len(lengths) > 1 or min(lengths) < 2:
            raise ValueError(f"curves need one length of at least 2, got {sorted(lengths)}")
        return self


class HistogramPlot(_Record):
    """How often a metric takes which value over the clips, one histogram for each method: lags, for example."""

    table: str
    metric: str
    methods: tuple[str, ...]
    low: float  # left edge of the first bin
    high: float
    bins: int

    @model_validator(mode="after")
    def _has_width(self) -> Self:
        if not (self.low < self.high and self.bins >= 1):
            raise ValueError(f"need low < high and bins >= 1, got {self.low}, {self.high}, {self.bins}")
        return self


class ScatterPlot(_Record):
    """One metric of two methods, a dot for each clip."""

    table: str
    metric: str
    across: str  # method of the horizontal axis
    up: str  # of the vertical one


class VideoRecord(_Record):
    """An MP4 beside the JSON; pictures stand side by side, in the order of `panels`."""

    file: str  # relative to the JSON, with `/`
    caption: str
    panels: tuple[tuple[str, Literal["filmed", "synthetic"]], ...]  # label, and where its pictures come from
    poster: str  # JPEG in base64
    width_px: int
    height_px: int

    @field_validator("file")
    @classmethod
    def _stays_beside(cls, value: str) -> str:
        path = PurePosixPath(value)
        if path.is_absolute() or path.suffix != ".mp4" or {"..", "."} & set(value.split("/")) or "\\" in value:
            raise ValueError(f"a video is named by a relative path to an .mp4, got {value!r}")
        return value

    @field_validator("poster")
    @classmethod
    def _is_base64(cls, value: str) -> str:
        try:
            base64.b64decode(value, validate=True)
        except binascii.Error as error:
            raise ValueError(f"a poster is base64: {error}") from error
        return value


class ReportRecord(_Record):
    """All of it; InputError where a plot names a cell that is not there."""

    title: str
    tables: tuple[TableRecord, ...] = ()
    curves: tuple[CurvePlot, ...] = ()
    histograms: tuple[HistogramPlot, ...] = ()
    scatters: tuple[ScatterPlot, ...] = ()
    videos: tuple[VideoRecord, ...] = ()

    @model_validator(mode="after")
    def _plots_have_values(self) -> Self:
        for plot in self.histograms:
            for method in plot.methods:
                self.table(plot.table).per_clip(method, plot.metric)
        for scatter in self.scatters:
            for method in (scatter.across, scatter.up):
                self.table(scatter.table).per_clip(method, scatter.metric)
        return self

    def table(self, name: str) -> TableRecord:
        """The table of that name; InputError where there is none."""
        return _named({table.name: table for table in self.tables}, name, f"report {self.title!r} has no table")


def details_of(record: ReportRecord) -> JsonValue:
    """The record as the `details` of a results file."""
    details: JsonValue = json.loads(record.model_dump_json())
    return details


def read_details(results: Results, path: Path) -> ReportRecord | None:
    """The record in a results file, None in one that only has figures.

    Raises:
        ResultsError: The details are not such a record; the message names `path` and the first wrong field.
    """
    if results.details is None:
        return None
    try:
        return ReportRecord.model_validate_json(json.dumps(results.details))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in ("details", *first["loc"]))
        raise ResultsError(f"{path}: {place}: {first['msg']}") from error
    except InputError as error:
        raise ResultsError(f"{path}: details: {error}") from error


def _named(entries: Mapping[str, T], name: str, where: str) -> T:
    if name not in entries:
        raise InputError(f"{where} {name!r}: {', '.join(entries) or 'none'}")
    return entries[name]
