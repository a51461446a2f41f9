"""Plots as inline SVG: curves against time, scatter over clips, and the histograms of `prepare`'s report.

Lines differ in dash as well as in colour. Sizes are in the units of the drawing, which the page scales.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from model.data.preparing.histogram import Histogram, HistogramSpec
from model.evaluation.report.numbers import direction
from model.evaluation.report.record import CurvePlot, ReportRecord, ScatterPlot, Values

__all__ = ["curve_figure", "histogram_figures", "nice_ticks", "scatter_figure"]

CURVES_PX = (760, 230)
SCATTER_PX = (360, 330)
LEFT_PX, RIGHT_PX, TOP_PX, BOTTOM_PX = 46, 10, 10, 34
DASHES = ("", "7 4", "2 3", "10 3 2 3", "1 5")


@dataclass(frozen=True, slots=True)
class _Frame:
    """Maps values to places inside the axes."""

    size: tuple[int, int]
    x_ticks: Sequence[float]
    y_ticks: Sequence[float]
    x_title: str

    def x(self, value: float) -> float:
        """Horizontal place of a value."""
        low, high = self.x_ticks[0], self.x_ticks[-1]
        return LEFT_PX + (value - low) / (high - low) * (self.size[0] - LEFT_PX - RIGHT_PX)

    def y(self, value: float) -> float:
        """Vertical place of a value."""
        low, high = self.y_ticks[0], self.y_ticks[-1]
        return TOP_PX + (high - value) / (high - low) * (self.size[1] - TOP_PX - BOTTOM_PX)

    def axes(self) -> str:
        """Grid lines, numbers and the title of the horizontal axis."""
        width, height = self.size
        floor = height - BOTTOM_PX
        across = "".join(
            f'<line class="grid" x1="{LEFT_PX}" x2="{width - RIGHT_PX}" y1="{self.y(t):.1f}" y2="{self.y(t):.1f}"/>'
            f'<text x="{LEFT_PX - 5}" y="{self.y(t) + 4:.1f}" text-anchor="end">{t:.6g}</text>'
            for t in self.y_ticks
        )
        up = "".join(
            f'<line class="grid" x1="{self.x(t):.1f}" x2="{self.x(t):.1f}" y1="{floor}" y2="{floor + 4}"/>'
            f'<text x="{self.x(t):.1f}" y="{floor + 15}" text-anchor="middle">{t:.6g}</text>'
            for t in self.x_ticks
        )
        title = f'<text x="{width - RIGHT_PX}" y="{height - 4}" text-anchor="end">{html.escape(self.x_title)}</text>'
        return across + up + title


def curve_figure(plot: CurvePlot) -> str:
    """Signals against time."""
    count = len(plot.curves[0].values)
    known = [value for curve in plot.curves for value in curve.values if value is not None]
    frame = _Frame(CURVES_PX, nice_ticks(0, (count - 1) / plot.rate_hz, 10), _ticks_of(known), "s")
    lines = "".join(
        f'<path class="line s{index}" stroke-dasharray="{DASHES[index]}" '
        f'd="{_path(curve.values, frame, plot.rate_hz)}"><title>{html.escape(curve.label)}</title></path>'
        for index, curve in enumerate(plot.curves)
    )
    marks = "".join(
        f'<line class="mark" x1="{frame.x(mark.at):.1f}" x2="{frame.x(mark.at):.1f}" y1="{TOP_PX + 12}" '
        f'y2="{CURVES_PX[1] - BOTTOM_PX}"/><text x="{frame.x(mark.at):.1f}" y="{TOP_PX + 8}" text-anchor="middle">'
        f"{html.escape(mark.label)}</text>"
        for mark in plot.marks
        if frame.x_ticks[0] <= mark.at <= frame.x_ticks[-1]
    )
    legend = "".join(
        f'<span><svg viewBox="0 0 34 8"><path class="line s{index}" stroke-dasharray="{DASHES[index]}" d="M0 4H34"/>'
        f"</svg>{html.escape(curve.label)}</span>"
        for index, curve in enumerate(plot.curves)
    )
    picture = _svg(CURVES_PX, plot.title, frame.axes() + marks + lines)
    caption = _caption(plot.title, plot.unit)
    return f'{caption}<p class="legend">{legend}</p><div class="scroll">{picture}</div></figure>'


def scatter_figure(plot: ScatterPlot, record: ReportRecord) -> str:
    """A dot for each clip that has both values, and the line on which they are equal."""
    table = record.table(plot.table)
    metric = table.metric(plot.metric)
    cells = (table.per_clip(method, plot.metric) for method in (plot.across, plot.up))
    pairs = [(c, x, y) for c, x, y in zip(table.clips, *cells, strict=True) if x is not None and y is not None]
    ticks = _ticks_of([value for _, x, y in pairs for value in (x, y)])
    frame = _Frame(SCATTER_PX, ticks, ticks, plot.across)
    dots = "".join(
        f'<circle cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="3.5">'
        f"<title>{html.escape(clip)}: {x:.4g}, {y:.4g}</title></circle>"
        for clip, x, y in pairs
    )
    low, high = ticks[0], ticks[-1]
    equal = (
        f'<line class="mark" x1="{frame.x(low):.1f}" y1="{frame.y(low):.1f}" '
        f'x2="{frame.x(high):.1f}" y2="{frame.y(high):.1f}"/>'
    )
    above = sum(y > x for _, x, y in pairs)
    title = f"{metric.title}, clip by clip: {plot.up} (up) against {plot.across} (across)"
    words = f"{len(pairs)} clips, {above} above the line of equality; {direction(metric)}"
    picture = _svg(SCATTER_PX, title, frame.axes() + equal + dots)
    return f"{_caption(title, metric.unit)}{picture}<p>{html.escape(words)}</p></figure>"


def histogram_figures(record: ReportRecord) -> Iterator[str]:
    """The record's histograms, one for each method."""
    for plot in record.histograms:
        table = record.table(plot.table)
        metric = table.metric(plot.metric)
        for method in plot.methods:
            title = f"{metric.title}: {method}"
            histogram = Histogram(
                HistogramSpec(
                    field=plot.metric, title=title, unit=metric.unit, low=plot.low, high=plot.high, bins=plot.bins
                )
            )
            for value in table.per_clip(method, plot.metric):
                histogram.add(value)
            yield histogram.figure()


def nice_ticks(low: float, high: float, most: int) -> list[float]:
    """At most `most` + 2 round numbers (steps of 1, 2 or 5 times a power of ten) that reach from `low` to `high`."""
    if high <= low:
        low, high = low - 0.5, low + 0.5
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def _ticks_of(values: Sequence[float]) -> list[float]:
    return nice_ticks(min(values), max(values), 5) if values else [0.0, 1.0]


def _path(values: Values, frame: _Frame, rate_hz: float) -> str:
    """A line through the values, broken where there is none."""
    parts, down = [], False
    for index, value in enumerate(values):
        if value is not None:
            parts.append(f"{'L' if down else 'M'}{frame.x(index / rate_hz):.1f} {frame.y(value):.1f}")
        down = value is not None
    return "".join(parts)


def _svg(size: tuple[int, int], title: str, inside: str) -> str:
    box = f"0 0 {size[0]} {size[1]}"
    return f'<svg class="plot" viewBox="{box}" role="img" aria-label="{html.escape(title)}">{inside}</svg>'


def _caption(title: str, unit: str) -> str:
    return f"<figure><figcaption>{html.escape(title)} <small>{html.escape(unit)}</small></figcaption>"
