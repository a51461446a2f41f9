"""The HTML report of a prepared folder: one file, no script, nothing fetched, all text escaped.

Made from manifest, sidecars and run statistics only, so that it can be made again at any time. One sidecar is in
memory at a time; long lists end with "and N more".
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from model.data.preparing.folder import PreparedFolder, write_whole
from model.data.preparing.histogram import Histogram, HistogramSpec
from model.data.preparing.records import ClipRecord, Manifest, Runs, ShardRecord, read_manifest, read_record
from model.errors import DataError
from model.html_page import html_page, html_table

__all__ = ["write_report"]

LISTED_REJECTS = 1000
THUMBNAILS = 200
CLIPS_PER_NOTE = 5  # named as examples


@dataclass(slots=True)
class _Gathered:
    """What the sidecars told; bounded whatever their number."""

    histograms: list[Histogram]
    rejects: list[ClipRecord] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[tuple[str, str]]] = field(default_factory=dict)  # by note: clip and full text
    thumbnails: list[tuple[str, str]] = field(default_factory=list)  # clip, base64

    def add(self, clip: ClipRecord) -> None:
        """Take in one clip."""
        if clip.problem is not None:
            if len(self.rejects) < LISTED_REJECTS:
                self.rejects.append(clip)
            return
        for histogram in self.histograms:
            histogram.add(clip.row.get(histogram.spec.field))
        if clip.thumbnail:
            self.thumbnails.append((clip.key, clip.thumbnail))
        for note in clip.notes:
            kind = note.partition(" (")[0]
            self.notes[kind] += 1
            examples = self.examples.setdefault(kind, [])
            if len(examples) < CLIPS_PER_NOTE:
                examples.append((clip.key, note))


def write_report(folder: Path, specs: Sequence[HistogramSpec] = ()) -> Path:
    """Write `report.html` into a complete prepared folder.

    Args:
        folder: What `prepare_clips` wrote.
        specs: Numbers of the used clips' rows to draw histograms of.

    Returns:
        The report's path.

    Raises:
        DataError: The folder is not complete, or a sidecar is missing or damaged.
    """
    names = PreparedFolder(folder)
    manifest = read_manifest(folder)
    gathered = _Gathered([Histogram(spec) for spec in specs])
    for entry in manifest.shards:
        for clip in read_record(ShardRecord, (folder / entry.name).with_suffix(".json")).clips:
            gathered.add(clip)
    runs = read_record(Runs, names.runs) if names.runs.is_file() else Runs()
    page = html_page(f"Prepared: {manifest.recipe.data_set}", _page(manifest, runs, gathered))
    try:
        write_whole(names.report, page.encode())
    except OSError as error:
        raise DataError(f"cannot write {names.report}: {error.strerror}") from error
    return names.report


def _page(manifest: Manifest, runs: Runs, gathered: _Gathered) -> Iterator[str]:
    yield from _totals(manifest, runs)
    yield from _problems(manifest)
    if gathered.histograms:
        yield '<h2>Spread over the clips used</h2><div class="figures">'
        yield from (histogram.figure() for histogram in gathered.histograms)
        yield "</div>"
    yield from _notes(gathered)
    yield from _rejects(manifest, gathered)
    yield from _contact_sheet(gathered.thumbnails)
    yield from _recipe(manifest)


def _totals(manifest: Manifest, runs: Runs) -> Iterator[str]:
    rejected = manifest.clips - manifest.used
    cards = [
        (f"{manifest.clips:,}", "clips", ""),
        (f"{manifest.used:,}", "used", ""),
        (f"{rejected:,}", f"rejected ({rejected / manifest.clips:.1%})", "bad" if rejected else ""),
        (f"{manifest.samples:,}", "samples", ""),
        (f"{len(manifest.shards):,}", "shards", ""),
        (_bytes_in_words(manifest.bytes), "on disk", ""),
    ]
    clips, seconds = sum(run.clips for run in runs.runs), sum(run.seconds for run in runs.runs)
    if seconds:
        cards.append((f"{60 * clips / seconds:,.1f}", "clips per minute", ""))
    yield '<div class="cards">'
    yield from (f'<div class="{kind}"><b>{value}</b>{label}</div>' for value, label, kind in cards)
    yield "</div>"
    for run in runs.runs[-5:]:
        text = (
            f"{run.clips:,} clips in {run.seconds:,.0f} s: {run.clips_per_minute:,.1f} per minute, {run.workers} "
            f"workers, {run.engine} engine, {run.hardware.get('cores', '?')} cores of {run.hardware.get('cpu', '?')}"
        )
        yield f'<p class="quiet">{html.escape(text)}{"" if run.complete else " (interrupted)"}</p>'


def _problems(manifest: Manifest) -> Iterator[str]:
    if manifest.rejects:
        yield "<h2>Rejects by problem</h2>"
        counts = sorted(manifest.rejects.items(), key=lambda item: (-item[1], item[0]))
        yield from html_table(
            ("clips:number", "problem"), ((f"{count:,}", html.escape(name)) for name, count in counts)
        )


def _rejects(manifest: Manifest, gathered: _Gathered) -> Iterator[str]:
    yield "<h2>Rejected clips</h2>"
    if not gathered.rejects:
        yield "<p>None.</p>"
        return
    has_pictures = any(clip.thumbnail for clip in gathered.rejects)
    columns = ("clip:name", "problem:name", "message", *([":picture"] if has_pictures else []))
    yield from html_table(columns, (_reject_row(clip, has_pictures) for clip in gathered.rejects))
    more = manifest.clips - manifest.used - len(gathered.rejects)
    if more:
        yield f"<p>and {more:,} more: see the shards' JSON files.</p>"


def _reject_row(clip: ClipRecord, has_pictures: bool) -> tuple[str, ...]:
    texts = (clip.key, clip.problem.value if clip.problem else "", clip.message)
    picture = _image(clip.key, clip.thumbnail) if clip.thumbnail else ""
    return (*map(html.escape, texts), *([picture] if has_pictures else []))


def _notes(gathered: _Gathered) -> Iterator[str]:
    yield "<h2>Notes on clips used</h2>"
    if not gathered.notes:
        yield "<p>None.</p>"
        return
    yield from html_table(
        ("clips:number", "note:name", "for example"), (_note_row(gathered, kind) for kind in _kinds(gathered))
    )


def _kinds(gathered: _Gathered) -> list[str]:
    return sorted(gathered.notes, key=lambda kind: (-gathered.notes[kind], kind))


def _note_row(gathered: _Gathered, kind: str) -> tuple[str, str, str]:
    shown = gathered.examples[kind]
    examples = [f"{key}{note.removeprefix(kind)}" for key, note in shown]
    more = gathered.notes[kind] - len(shown)
    text = "; ".join(examples) + (f"; and {more:,} more" if more else "")
    return f"{gathered.notes[kind]:,}", html.escape(kind), html.escape(text)


def _contact_sheet(thumbnails: Sequence[tuple[str, str]]) -> Iterator[str]:
    if not thumbnails:
        return
    count = min(len(thumbnails), THUMBNAILS)
    yield '<h2>Contact sheet</h2><div class="sheet">'
    for index in range(count):
        key, data = thumbnails[index * len(thumbnails) // count]
        yield f"<figure>{_image(key, data)}<figcaption>{html.escape(key)}</figcaption></figure>"
    yield "</div>"


def _recipe(manifest: Manifest) -> Iterator[str]:
    recipe = manifest.recipe
    yield "<h2>Made with</h2>"
    rows = [("analysis", recipe.analysis), ("clips per shard", str(recipe.shard_clips))]
    rows += [(f"setting {name}", str(value)) for name, value in sorted(recipe.settings.items())]
    rows += [(f"input {name}", value) for name, value in sorted(recipe.inputs.items())]
    rows += [(f"version {name}", value) for name, value in sorted(recipe.versions.items())]
    yield from html_table(("what:name", "value"), ((html.escape(name), html.escape(value)) for name, value in rows))


def _image(key: str, data: str) -> str:
    return f'<img alt="{html.escape(key)}" loading="lazy" src="data:image/jpeg;base64,{html.escape(data)}">'


def _bytes_in_words(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB"
