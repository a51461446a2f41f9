"""The big table as a page of Markdown, made from results files alone: equal files give equal bytes.

Blocks, in order: the paper's Table 1 (other data), motion, pictures, differences to the controls with a plain verdict,
where ours is behind, the paper's ablation beside ours, and strangers and noise. A figure that was not measured is a
dash.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from model.evaluation.paper_table import PAPER_ABLATION, PAPER_COLUMNS, PAPER_TABLE
from model.evaluation.table_committed import COMMITTED, KNOWN_METRICS, CommittedSet
from model.evaluation.table_figures import row_slug
from model.evaluation.table_motion import MOTION_COLUMNS, SYNC_COLUMNS, TRUTH
from model.evaluation.table_pictures import (
    CROSS_COLUMNS,
    CROSS_ROWS,
    DECODER,
    PICTURE_COLUMNS,
    PICTURE_MEANINGS,
    PICTURE_ROWS,
)
from model.evaluation.table_rows import ROW_MEANINGS, SERVED
from model.evaluation.tables import Metric
from model.results import Figure, Results, read_results

__all__ = ["ALL_ROWS", "table_page", "verdict"]

Figures = Mapping[str, Figure]
JUDGED: Final = (
    "closure_f1",
    "closure_recall",
    "open_vowels_shut",
    "opening_crps",
    "critic_c",
    "critic_late_frames",
    "psnr_mouth",
    "lmd_mouth",
    "lmd_cross",
)
"""Metrics of the differences that are printed; the results file has all."""
MADE: Final = {
    "grid_val": "GRID s1, held-out clips: motion and sync",
    "capture_reconstruction": "Rendered capture, default avatar: reconstruction",
    "capture_cross": "Rendered capture: cross-generation",
    "grid_reconstruction": "GRID s1, held-out clips, avatar from a few others: reconstruction",
    "grid_cross": "GRID s1: cross-generation",
    "strangers": "Seven other GRID speakers, never trained on: motion and sync",
    "speech": "LibriSpeech, no video: sync of the motion with its sound",
}
TITLES: Final = {**MADE, **{one.name: one.title for one in COMMITTED}}
STRANGERS: Final = ("full_strangers", "full_strangers_sync")
ALL_ROWS: Final = (TRUTH, *ROW_MEANINGS, *PICTURE_ROWS)
NOISES: Final = (
    ("as recorded", ""),
    ("babble, 20 dB", "babble_20_db_"),
    ("babble, 10 dB", "babble_10_db_"),
    ("babble, 5 dB", "babble_5_db_"),
    ("babble, 0 dB", "babble_0_db_"),
    ("white noise, 10 dB", "white_10_db_"),
    ("Opus, 24 kb/s", "opus_24_kbps_"),
)
LANGUAGES: Final = ("english_held_out_voice", "german", "french", "spanish", "dutch_held_out")


def table_page(results: Results, committed: Path) -> str:
    """The whole page; `committed`: folder of the other results files it draws on."""
    figures = results.figures
    lines = [
        "# The paper's evaluation, ours beside it",
        "",
        "Written by `nerf-lipsync evaluate table`; what every column means: [evaluation.md](evaluation.md).",
        f"Measured: {results.data}.",
        "",
        *_paper(),
        *_measured(figures),
        *_differences(figures),
        *_ablation(figures, committed),
        *_noise(figures, committed),
    ]
    return "\n".join(lines) + "\n"


def verdict(figure: Figure) -> str:
    """What a difference says: ahead, behind, or no clear difference."""
    if figure.interval is None or figure.interval[0] <= 0 <= figure.interval[1]:
        return "no clear difference"
    return "ahead" if (figure.value > 0) == (figure.better == "higher") else "**behind**"


def _paper() -> Iterator[str]:
    yield "## The paper's Table 1, for reference"
    yield ""
    yield (
        "Measured by its authors on VoxCeleb2 (500 clips) and LRW, with SyncNet and Inception: **other data and other "
        "judges than below**. No row here can be compared with a row of ours. Neither corpus nor those weights are at "
        "hand; `evaluate identities` takes them when they are."
    )
    yield ""
    heads = ("data", "method", *PAPER_COLUMNS)
    yield from _markdown(heads, [(r.data, r.method, *(f"{v:.2f}" for v in r.values)) for r in PAPER_TABLE])


def _measured(figures: Figures) -> Iterator[str]:
    yield "## Ours at full size, from the committed evaluations"
    yield ""
    yield (
        "All held-out clips, controls fitted on all 505 training clips, eight samples; each heading names "
        "its file. *Served*: two steps, temperature 0, as a session; *one sample*: temperature 1."
    )
    yield ""
    for one in COMMITTED:
        if one.name not in STRANGERS:
            yield from _committed(figures, one)
    yield "## Every row, in this run"
    yield ""
    yield (
        "How much was measured stands at the top of this page. Controls that were fitted on fewer clips are weaker "
        "than those above: where the two blocks disagree about retrieval, believe the block above."
    )
    yield ""
    blocks: tuple[tuple[str, Sequence[str], Sequence[Metric]], ...] = (
        ("grid_val", (TRUTH, *ROW_MEANINGS), MOTION_COLUMNS),
        ("capture_reconstruction", PICTURE_ROWS, PICTURE_COLUMNS),
        ("capture_cross", CROSS_ROWS, CROSS_COLUMNS),
        ("grid_reconstruction", PICTURE_ROWS, PICTURE_COLUMNS),
        ("grid_cross", CROSS_ROWS, CROSS_COLUMNS),
    )
    for name, rows, metrics in blocks:
        yield from _block(figures, name, rows, metrics)
    meanings = ROW_MEANINGS | PICTURE_MEANINGS
    yield "Rows: " + "; ".join(f"*{row}*: {meaning}" for row, meaning in meanings.items()) + "."
    yield ""


def _committed(figures: Figures, one: CommittedSet) -> Iterator[str]:
    rows = one.rows or tuple(_names(figures, one.name))
    metrics = [KNOWN_METRICS[name] for name in one.metrics]
    yield from _block(figures, one.name, rows, metrics, source=f", `{one.stem}.json`")


def _names(figures: Figures, name: str) -> Iterator[str]:
    """Rows of a set in their order, by their keys in figures' names."""
    found = dict.fromkeys(key.split(".")[1] for key in figures if key.startswith(f"{name}."))
    yield from (slug.replace("_", " ") for slug in found)


def _block(
    figures: Figures, name: str, rows: Sequence[str], metrics: Sequence[Metric], *, source: str = ""
) -> Iterator[str]:
    def cell(row: str, metric: Metric) -> str:
        return _number(figures.get(f"{name}.{row_slug(row)}.{metric.name}"))

    shown = [m for m in metrics if any(cell(row, m) != "–" for row in rows)]
    there = [row for row in rows if any(cell(row, m) != "–" for m in shown)]
    if not there:
        return
    counts = [n for key, f in figures.items() if key.startswith(f"{name}.") and (n := f.n)]
    yield f"### {TITLES[name]} ({max(counts, default=0)} clips{source})"
    yield ""
    heads = ("row", *(f"{m.title}, {m.unit} {_arrow(m)}" for m in shown))
    yield from _markdown(heads, [(row, *(cell(row, m) for m in shown)) for row in there])
    missing = [row for row in rows if row not in there]
    if missing:
        yield f"Not measured: {'; '.join(missing)}."
        yield ""


def _differences(figures: Figures) -> Iterator[str]:
    readable = {row_slug(row): row for row in ALL_ROWS}
    rows = []
    for key, figure in figures.items():
        if not key.startswith("difference."):
            continue
        _, name, ours, _, other, metric = key.split(".")
        if metric in JUDGED:
            who = (readable.get(slug, slug.replace("_", " ")) for slug in (ours, other))
            rows.append((TITLES[name], *who, metric, _difference(figure), verdict(figure)))
    if not rows:
        return
    yield "## Ours less each control, clip by clip"
    yield ""
    yield (
        "Mean difference over the clips of a set and its 95 % interval (paired bootstrap over clips); the offset by "
        "its size. With three to seven videos an interval says little more than whether they agree."
    )
    yield ""
    yield from _markdown(("set", "ours", "less", "metric", "difference", "ours is"), rows)
    yield "### Where ours is behind"
    yield ""
    behind = [row for row in rows if row[-1] == "**behind**"]
    yield from (f"- {t}: {ours} against {other}, {metric}: {value}" for t, ours, other, metric, value, _ in behind)
    if not behind:
        yield "In none of these differences is ours clearly behind."
    yield ""


def _ablation(figures: Figures, committed: Path) -> Iterator[str]:
    found = _read(committed, "ablation")
    yield "## The paper's three ablations"
    yield ""
    if found is None:
        yield "`ablation.json` is not there."
        yield ""
        return

    def pair(variant: str) -> str:
        parts = []
        for metric, title in _ABLATED:
            full, cut = (found.figures.get(f"{row}.{metric}") for row in ("full", variant))
            if full is not None and cut is not None:
                spread = f" ± {cut.spread:.2g}" if cut.spread is not None else ""
                parts.append(f"{title} {_number(full)} to {_number(cut)}{spread}")
        seeds = found.figures[f"{variant}.opening_r"].n if f"{variant}.opening_r" in found.figures else 0
        return f"{'; '.join(parts)} ({seeds} seeds)"

    flat = _without_field(figures, committed)
    rows = [(d.left_out, d.claim, pair(d.variant) if d.variant else flat) for d in PAPER_ABLATION]
    yield f"Ours: small trainings of one kind, {found.data}, ± half the range over seeds, sampled at temperature 1."
    yield ""
    yield from _markdown(("left out", "the paper (VoxCeleb2, its own judges)", "ours, full to without"), rows)
    yield (
        "*Without temporal attention* stands here alone: its small trainings are not committed, so it has no row "
        "above. The 2-D decoder: one training, by `train decoder2d`, measured by `evaluate decoder2d`."
    )
    yield ""
    yield from _twin(committed)


_ABLATED: Final = (
    ("opening_r", "opening r"),
    ("opening_crps", "CRPS"),
    ("velocity_ratio", "lip velocity"),
    ("jerk_ratio", "lip jerk"),
    ("closure_f1", "closure F1"),
)


_FLAT: Final = (
    ("turn_head_psnr_0_5deg", "head within 5 degrees of the front"),
    ("turn_head_psnr_15_20deg", "turned by 15 to 20 degrees"),
    ("turn_mouth_psnr_0_5deg", "mouth from the front"),
    ("turn_mouth_psnr_15_20deg", "mouth at 15 to 20 degrees"),
    ("orbit_head_psnr_20deg", "camera moved by 20 degrees"),
    ("landmark_error", "landmarks"),
    ("turn_change_rms", "change in a slow turn, flow taken out"),
    ("multiply_adds", "multiply-adds"),
    ("head_cpu_ms", "processor time of the head"),
)


def _without_field(figures: Figures, committed: Path) -> str:
    """What the 2-D decoder changes: `decoder2d.json`, and cross-generation out of this table."""
    found = _read(committed, "decoder2d")
    if found is None:
        return "`decoder2d.json` is not there"
    parts = []
    for metric, title in _FLAT:
        field, flat = (found.figures.get(f"{who}.{metric}") for who in ("field", "decoder"))
        if field is not None and flat is not None:
            parts.append(f"{title} {_number(field)} to {_number(flat)} {field.unit}")
    ours, other = (figures.get(f"capture_cross.{row_slug(row)}.lmd_cross") for row in (SERVED, DECODER))
    if ours is not None and other is not None:
        parts.append(f"cross-generation, LMD {_number(ours)} to {_number(other)} px")
    return "; ".join(parts)


def _twin(committed: Path) -> Iterator[str]:
    found = _read(committed, "distillation")
    twin = "grid_val.deterministic_twin"
    if found is None or f"{twin}.opening_r" not in found.figures:
        return
    cells = ", ".join(f"{title} {_number(found.figures[f'{twin}.{metric}'])}" for metric, title in _ABLATED)
    yield (
        f"A deterministic twin of the student (`distillation.json`): {cells}. On this one speaker it follows the truth "
        "more closely than a sample of ours can; it has no spread, which is what CRPS asks for."
    )
    yield ""


def _noise(figures: Figures, committed: Path) -> Iterator[str]:
    yield "## Strangers and noise"
    yield ""
    for one in COMMITTED:
        if one.name in STRANGERS:
            yield from _committed(figures, one)
    yield from _block(figures, "strangers", (TRUTH, *ROW_MEANINGS), MOTION_COLUMNS)
    yield from _block(figures, "speech", tuple(ROW_MEANINGS), SYNC_COLUMNS)
    hearing = _read(committed, "speech_hearing")
    if hearing is not None:
        yield "What the encoder hears (`speech_hearing.json`): share of phones and of mouth shapes that are right."
        yield ""
        columns = [f"{who}_{what}_accuracy" for who in ("val", "strangers") for what in ("phone", "viseme")]
        rows = []
        for title, noise in NOISES:
            names = [c.replace("_", f"_{noise}", 1) for c in columns]
            rows.append((title, *(_number(hearing.figures.get(n)) for n in names)))
        heads = ("sound", "GRID val, phones", "GRID val, shapes", "strangers, phones", "strangers, shapes")
        yield from _markdown(heads, rows)
    spoken = _read(committed, "languages")
    if spoken is not None:
        yield "Synthetic languages with exact phone times (`languages.json`): F1 of closed lips, ours and loudness."
        yield ""
        scored = ("closure_f1", "closure_f1_loudness")
        cells = [(lang, *(_number(spoken.figures.get(f"{lang}.{n}")) for n in scored)) for lang in LANGUAGES]
        yield from _markdown(("language", "served", "loudness"), [(c[0].replace("_", " "), *c[1:]) for c in cells])


def _read(committed: Path, stem: str) -> Results | None:
    path = committed / f"{stem}.json"
    return read_results(path) if path.is_file() else None


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    yield from ("| " + " | ".join(row) + " |" for row in rows)
    yield ""


def _number(figure: Figure | None) -> str:
    if figure is None:
        return "–"
    digits = 1 if figure.unit == "dB" else 4 if figure.unit == "IOD" else 2 if figure.unit in ("px", "frames") else 3
    return f"{figure.value + 0.0:.{digits}f}"


def _difference(figure: Figure) -> str:
    digits = 4 if figure.unit == "IOD" else 2 if figure.unit in ("dB", "px") else 3
    span = "" if figure.interval is None else f" ({figure.interval[0]:+.{digits}f} to {figure.interval[1]:+.{digits}f})"
    return f"{figure.value:+.{digits}f}{span} {figure.unit}"


def _arrow(metric: Metric) -> str:
    if metric.ideal is not None and not (
        metric.better == "higher"
        and metric.unit in ("1", "r", "share")
        and metric.name.endswith(("_f1", "_r", "recall"))
    ):
        return f"→ {metric.ideal:g}"
    return "↑" if metric.better == "higher" else "↓"
