"""A metric table in HTML: methods down, metrics across, in blocks that fit a screen.

Each cell: the mean, its interval, the paired difference to the reference row with its interval and what that means, and
for the row under test the goal. Nothing is said by colour alone.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from model.evaluation.report.build import figure_name
from model.evaluation.report.numbers import direction, goal_words, number, signed, unit_words
from model.evaluation.report.record import Difference, RowRecord, TableRecord
from model.evaluation.tables import Metric
from model.results import Figure

__all__ = ["anchor", "metric_table"]

METRICS_ACROSS = 5
TIE = 1e-8  # rows nearer to each other than this share a place


def metric_table(table: TableRecord, figures: Mapping[str, Figure], anchors: Mapping[Metric, str]) -> Iterator[str]:
    """A table under its heading.

    Args:
        table: What to show.
        figures: Of the same results file.
        anchors: Where on the page each metric is defined.
    """
    yield f"<h3>{html.escape(table.title)}</h3>"
    yield f'<p class="quiet">{html.escape(_explanation(table))}</p>'
    shown = _Shown(table, figures, anchors)
    metrics = [metric for metric in table.metrics if any(shown.figure(row, metric) for row in table.rows)]
    for start in range(0, len(metrics), METRICS_ACROSS):
        yield from shown.block(metrics[start : start + METRICS_ACROSS])
    absent = [metric.title for metric in table.metrics if metric not in metrics]
    if absent:
        yield f"<p>Not measured in this run: {html.escape(', '.join(absent))}.</p>"
    yield from (f"<p>{html.escape(note)}</p>" for note in table.notes)


def anchor(index: int) -> str:
    """Name of the place where the metric of that number is defined."""
    return f"metric-{index}"


@dataclass(frozen=True, slots=True)
class _Shown:
    """A table with its figures at hand."""

    table: TableRecord
    figures: Mapping[str, Figure]
    anchors: Mapping[Metric, str]

    def figure(self, row: RowRecord, metric: Metric) -> Figure | None:
        """The figure of a cell."""
        return self.figures.get(figure_name(self.table.name, row.method, metric.name))

    def block(self, metrics: Sequence[Metric]) -> Iterator[str]:
        """Some of the columns, for all rows."""
        yield '<div class="scroll"><table class="metrics"><thead><tr><th scope="col">method</th>'
        yield from (self._head(metric) for metric in metrics)
        yield "</tr></thead><tbody>"
        best = {metric.name: self._best(metric) for metric in metrics}
        for row in self.table.rows:
            kind = ' class="truth"' if row.method == self.table.truth else ""
            yield f'<tr{kind}><th scope="row">{html.escape(row.method)}{self._role(row.method)}</th>'
            yield from (self._cell(row, metric, row.method in best[metric.name]) for metric in metrics)
            yield "</tr>"
        yield "</tbody></table></div>"

    def _head(self, metric: Metric) -> str:
        title = f'<a href="#{self.anchors[metric]}">{html.escape(metric.title)}</a>{unit_words(metric.unit)}'
        return f'<th scope="col">{title}<small>{html.escape(direction(metric))}</small></th>'

    def _role(self, method: str) -> str:
        roles = (
            (self.table.truth, "real data, not ranked"),
            (self.table.tested, "under test"),
            (self.table.reference, "compared with"),
        )
        words = ", ".join(role for name, role in roles if name == method)
        return f"<small>{words}</small>" if words else ""

    def _best(self, metric: Metric) -> set[str]:
        """The best row or rows, the real data aside."""
        distances = {
            row.method: metric.distance(figure.value)
            for row in self.table.rows
            if row.method != self.table.truth and (figure := self.figure(row, metric))
        }
        return {m for m, distance in distances.items() if math.isclose(distance, min(distances.values()), abs_tol=TIE)}

    def _cell(self, row: RowRecord, metric: Metric, best: bool) -> str:
        figure = self.figure(row, metric)
        if figure is None:
            return '<td class="quiet" title="this method has no such figure">–</td>'
        lines = [f'<b class="value">{number(figure.value)}</b>{" <em>best</em>" if best else ""}']
        if figure.interval is not None:
            lines.append(f"<small>{_interval(*figure.interval)}</small>")
        if figure.n != len(self.table.clips):
            lines.append(f"<small>{figure.n} of {len(self.table.clips)} clips</small>")
        if (difference := row.differences.get(metric.name)) is not None:
            lines.append(f"<small>{_difference(difference)}</small>")
        if figure.goal is not None:
            lines.append(f"<small>{goal_words(figure)}</small>")
        return f"<td{' class=best' if best else ''}>{''.join(lines)}</td>"


def _explanation(table: TableRecord) -> str:
    text = (
        f"{len(table.clips)} clips. Each cell: mean over clips, and its {table.confidence:.0%} interval "
        f"(BCa bootstrap, {table.resamples:,} resamples of clips)"
    )
    if table.reference is not None:
        text += (
            f"; Δ is the mean paired difference to “{table.reference}”, its interval, and whether that leaves out 0 "
            "(where a best value is named: that of the distances to it)"
        )
    return f"{text}. A figure without an interval is pooled over all clips, or has one clip."


def _interval(low: float, high: float) -> str:
    return f"{number(low)} to {number(high)}"


def _difference(difference: Difference) -> str:
    text = f"Δ {signed(difference.mean)}"
    if difference.low is None or difference.high is None:
        return text
    words = "no clear difference" if difference.verdict == "unclear" else difference.verdict
    return f"{text} ({_interval(difference.low, difference.high)}), {words}"
