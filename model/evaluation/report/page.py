"""The page of an evaluation: made from results files alone, so that it can be made again and says what they say.

One HTML file without script, that fetches nothing but the videos beside it; the results files are copied beside it,
too. All text is escaped. The only times on it are those in the results.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from model.data.preparing.folder import write_whole
from model.errors import InputError
from model.evaluation.report.build import figure_name
from model.evaluation.report.metric_table import anchor, metric_table
from model.evaluation.report.numbers import direction, goal_words, number, unit_words
from model.evaluation.report.plots import curve_figure, histogram_figures, scatter_figure
from model.evaluation.report.record import ReportRecord, VideoRecord, read_details
from model.evaluation.tables import Metric
from model.html_page import html_page, html_table
from model.results import Figure, Results, read_results

__all__ = ["write_evaluation_report"]

PAGE_NAME = "report.html"
STYLE = """
:root { --good: #18794e; --s1: #3e63dd; --s2: #cc4e00; --s3: #18794e; --s4: #a144af; }
@media (prefers-color-scheme: dark) { :root { --good: #3dd68c; --s1: #849dff; --s2: #ffa057; --s3: #3dd68c;
  --s4: #e796f3; } }
h2 { border-top: 1px solid var(--line); padding-top: 28px; } h3 { font-size: 16px; margin: 28px 0 4px; }
a { color: inherit; } em { font-style: normal; font-size: 12px; border: 1px solid var(--good); color: var(--good);
  border-radius: 4px; padding: 0 4px; }
.hit { color: var(--good); } .miss { color: var(--bad); font-weight: 600; } .scroll { overflow-x: auto; }
table.metrics { margin: 10px 0 20px; } table.metrics th { vertical-align: bottom; min-width: 110px; }
table.metrics th[scope=row] { position: sticky; left: 0; background: var(--back); color: var(--ink);
  vertical-align: top; overflow-wrap: normal; }
table.metrics small { display: block; font-size: 12px; font-weight: 400; }
table.metrics td { min-width: 125px; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
table.metrics .value { font-weight: 500; } td.best .value { font-weight: 800; } tr.truth { background: var(--card); }
tr.truth th[scope=row] { background: var(--card); }
svg path.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; } .s0 { stroke: var(--ink); }
.s1 { stroke: var(--s1); } .s2 { stroke: var(--s2); } .s3 { stroke: var(--s3); } .s4 { stroke: var(--s4); }
svg line.grid { stroke: var(--line); } svg line.mark { stroke: var(--quiet); stroke-dasharray: 2 3; }
svg circle { fill: var(--bar); fill-opacity: 0.65; } .scroll svg.plot { min-width: 620px; }
.legend span { display: inline-flex; gap: 6px; align-items: center; margin-right: 16px; }
.legend svg { width: 34px; height: 8px; } .wide { margin-bottom: 20px; }
.videos { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 420px), 1fr)); gap: 20px; }
video { width: 100%; height: auto; border-radius: 6px; display: block; }
.cards { margin-bottom: 12px; }
dt { font-weight: 600; margin-top: 12px; } dd { margin: 0; } dt:target { background: var(--card); }
@media (max-width: 640px) { body { padding: 12px; } }
"""


@dataclass(frozen=True, slots=True)
class _Source:
    """A results file and what it keeps for the report."""

    path: Path
    results: Results
    record: ReportRecord | None

    @property
    def title(self) -> str:
        """Its heading."""
        return self.path.stem if self.record is None else self.record.title

    @property
    def videos(self) -> tuple[VideoRecord, ...]:
        """Its videos."""
        return () if self.record is None else self.record.videos

    def other_figures(self) -> dict[str, Figure]:
        """Figures that stand in no table."""
        tables = () if self.record is None else self.record.tables
        cells = {figure_name(t.name, r.method, m.name) for t in tables for r in t.rows for m in t.metrics}
        return {name: figure for name, figure in self.results.figures.items() if name not in cells}


def write_evaluation_report(out: Path, results_files: Sequence[Path], *, title: str | None = None) -> Path:
    """Write `report.html` into a folder, with copies of the results files and of their videos.

    Args:
        out: Made if need be; what it held under the same names is replaced.
        results_files: JSON of any measurement; those of `evaluation_results` show tables, plots and videos, others
            their figures.
        title: Heading; without one, that of a single results file.

    Returns:
        The page's path.

    Raises:
        ResultsError: A results file is missing or breaks the schema.
        InputError: No files, two of one name, a video that is not there, or a folder that cannot be written.
    """
    if not results_files:
        raise InputError("a report needs at least one results file, got none")
    names = [path.name for path in results_files]
    if len(set(names)) != len(names):
        raise InputError(f"results files need different names, as they are copied side by side: {', '.join(names)}")
    sources = [_read(path) for path in results_files]
    heading = title or (sources[0].title if len(sources) == 1 else "Evaluation report")
    page = html_page(heading, _body(sources, heading), style=STYLE, sources="media-src 'self' file:")
    try:
        out.mkdir(parents=True, exist_ok=True)
        for source in sources:
            _copy(source.path, out / source.path.name)
            for video in source.videos:
                _copy(source.path.parent / video.file, out / video.file)
        write_whole(out / PAGE_NAME, page.encode())
    except OSError as error:
        raise InputError(f"cannot write the report into {out}: {error.strerror}") from error
    return out / PAGE_NAME


def _read(path: Path) -> _Source:
    results = read_results(path)
    source = _Source(path, results, read_details(results, path))
    for video in source.videos:
        if not (path.parent / video.file).is_file():
            raise InputError(f"{path} names the video {video.file}, which is not beside it: copy the folder, too")
    return source


def _copy(source: Path, to: Path) -> None:
    if to.exists() and to.samefile(source):
        return
    to.parent.mkdir(parents=True, exist_ok=True)
    write_whole(to, source.read_bytes())


def _body(sources: Sequence[_Source], heading: str) -> Iterator[str]:
    anchors = _anchors(sources)
    yield from _summary(sources)
    for source in sources:
        yield f"<h2>{html.escape(source.title)}</h2>" if source.title != heading else ""
        yield f'<p class="quiet">{html.escape(source.results.data)}</p>'
        if source.record is not None:
            yield from _details(source.record, source.results, anchors)
        yield from _figures(source.other_figures())
    yield from _definitions(anchors)
    for source in sources:
        yield from _provenance(source)


def _anchors(sources: Sequence[_Source]) -> dict[Metric, str]:
    metrics = dict.fromkeys(
        metric
        for source in sources
        for table in (source.record.tables if source.record else ())
        for metric in table.metrics
    )
    return {metric: anchor(index) for index, metric in enumerate(metrics)}


def _summary(sources: Sequence[_Source]) -> Iterator[str]:
    figures = [(source, name, figure) for source in sources for name, figure in source.results.figures.items()]
    missed = [entry for entry in figures if entry[2].missed]
    goals = sum(figure.goal is not None for _, _, figure in figures)
    yield '<div class="cards">'
    hit = goals - len(missed)
    cards = ((len(figures), "figures", ""), (hit, "goals hit", ""), (len(missed), "goals missed", "bad"))
    yield from (f'<div class="{kind if count else ""}"><b>{count:,}</b>{label}</div>' for count, label, kind in cards)
    yield "</div>"
    if not goals:
        yield "<p>No figure here has a goal.</p>"
    for source, name, figure in missed:
        place = f"{html.escape(source.title)}: {html.escape(name)}"
        yield f"<p>{place} is {number(figure.value)}{unit_words(figure.unit)}. {goal_words(figure)}</p>"


def _details(record: ReportRecord, results: Results, anchors: dict[Metric, str]) -> Iterator[str]:
    for table in record.tables:
        yield from metric_table(table, results.figures, anchors)
    if record.videos:
        yield '<h3>Side by side</h3><div class="videos">'
        yield from (_video(video) for video in record.videos)
        yield "</div>"
    if record.curves:
        yield "<h3>Over time</h3>"
        yield from (f'<div class="wide">{curve_figure(plot)}</div>' for plot in record.curves)
    if record.histograms or record.scatters:
        yield '<h3>Clip by clip</h3><div class="figures">'
        yield from histogram_figures(record)
        yield from (scatter_figure(plot, record) for plot in record.scatters)
        yield "</div>"


def _video(video: VideoRecord) -> str:
    panels = ", ".join(f"{label} ({origin})" for label, origin in video.panels)
    return (
        f'<figure><video controls loop playsinline preload="none" width="{video.width_px}" height="{video.height_px}" '
        f'poster="data:image/jpeg;base64,{video.poster}" src="{quote(video.file)}"></video>'
        f"<figcaption>{html.escape(video.caption)}</figcaption><p>Left to right: {html.escape(panels)}.</p></figure>"
    )


def _figures(figures: dict[str, Figure]) -> Iterator[str]:
    if not figures:
        return
    yield '<h3>Figures</h3><div class="scroll">'
    columns = ("figure:name", "value:number", "interval or spread:number", "n:number", "better:name", "goal:name")
    yield from html_table(columns, (_figure_row(name, figure) for name, figure in figures.items()))
    yield "</div>"


def _figure_row(name: str, figure: Figure) -> tuple[str, ...]:
    if figure.interval is not None:
        doubt = f"{number(figure.interval[0])} to {number(figure.interval[1])}"
    else:
        doubt = "" if figure.spread is None else f"± {number(figure.spread)}"
    return (
        html.escape(name),
        f"{number(figure.value)}{unit_words(figure.unit)}",
        doubt,
        "" if figure.n is None else f"{figure.n:,}",
        "↑ higher" if figure.better == "higher" else "↓ lower",
        goal_words(figure),
    )


def _definitions(anchors: dict[Metric, str]) -> Iterator[str]:
    if not anchors:
        return
    yield "<h2>What the figures mean</h2><dl>"
    for metric, place in anchors.items():
        goal = "no goal" if metric.goal is None else f"goal {metric.goal:g}"
        about = ", ".join(part for part in (metric.unit, direction(metric), goal) if part)
        yield f'<dt id="{place}">{html.escape(metric.title)} <small>{html.escape(about)}</small></dt>'
        yield f"<dd>{html.escape(metric.definition)}</dd>"
    yield "</dl>"


def _provenance(source: _Source) -> Iterator[str]:
    results, name = source.results, source.path.name
    yield f"<h2>Made with: {html.escape(source.title)}</h2>"
    yield f'<p>Every number here is in <a href="{quote(name)}">{html.escape(name)}</a>.</p>'
    rows = [("command", results.command), ("data", results.data), ("commit", results.commit), ("date", results.date)]
    rows += [(f"hardware: {what}", value) for what, value in results.hardware.items()]
    rows += [(f"version: {what}", value) for what, value in results.versions.items()]
    yield from html_table(("what:name", "value"), ((html.escape(what), html.escape(value)) for what, value in rows))
