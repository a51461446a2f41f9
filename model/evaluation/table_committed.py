"""Blocks of the big table that other evaluations measured at full size: read from their results files, nothing is run.

`evaluate lips`, `distillation`, `sync` and `reconstruction` keep their values clip by clip. Their rows are shown as
they are; paired differences come from those values. Their controls were fitted on all 505 training clips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from model.evaluation.lip_rows import LIP_METRICS
from model.evaluation.mouth_landmarks import MOUTH_METRICS
from model.evaluation.protocols import CROSS_METRICS, RECONSTRUCTION_METRICS
from model.evaluation.report.record import TableRecord, read_details
from model.evaluation.row_store import RowArrays
from model.evaluation.sync_critic import CRITIC_METRICS
from model.evaluation.table_figures import difference_figures, row_slug, set_figures
from model.evaluation.tables import Metric
from model.results import Figure, Results, read_results

__all__ = ["COMMITTED", "KNOWN_METRICS", "CommittedSet", "committed_figures"]

KNOWN_METRICS: Final[Mapping[str, Metric]] = {
    m.name: m
    for m in (*LIP_METRICS, *CRITIC_METRICS, *RECONSTRUCTION_METRICS, *MOUTH_METRICS, *CROSS_METRICS)
    if m.name != "opening_r" or m in LIP_METRICS
}
_LIPS: Final = (
    "closure_f1",
    "closure_recall",
    "open_vowels_shut",
    "opening_crps",
    "spread_error",
    "opening_r",
    "lmd_iod",
    "velocity_ratio",
    "jerk_ratio",
)
_SYNC: Final = ("critic_late_frames", "critic_c", "critic_d")
_PICTURES: Final = ("psnr_mouth", "ssim_mouth", "psnr_face", "lmd_mouth", "lmd_mouth_iod", "opening_r")
_CROSS: Final = ("lmd_cross", "lmd_cross_iod")
_IDENTITY: Final = ("identity_cosine",)
_CONTROLS: Final = ("static", "energy", "retrieval", "served, shuffled phonemes", "regressor, features")


@dataclass(frozen=True, slots=True)
class CommittedSet:
    """One table of one results file, and what is compared in it."""

    name: str
    stem: str
    table: str
    title: str
    metrics: tuple[str, ...]
    rows: tuple[str, ...] = ()  # none: all
    ours: tuple[str, ...] = ("served",)
    others: tuple[str, ...] = ()


_LIP_ROWS: Final = ("truth", "served", "served, one sample", *_CONTROLS, "regressor, log-mel")
COMMITTED: Final = (
    CommittedSet(
        "full_lips",
        "lips_grid",
        "grid_val",
        "GRID s1, held-out clips: lips, full size",
        _LIPS,
        _LIP_ROWS,
        ("served", "served, one sample"),
        _CONTROLS,
    ),
    CommittedSet(
        "full_distillation",
        "distillation",
        "grid_val",
        "GRID s1: student and teacher at temperature 1, gate open",
        _LIPS,
    ),
    CommittedSet("full_sync", "sync_grid", "grid_val", "GRID s1: sync by the self-trained critic, full size", _SYNC),
    CommittedSet(
        "full_capture",
        "reconstruction_capture",
        "reconstruction",
        "Rendered capture, default avatar: reconstruction, whole sequences",
        (*_PICTURES, *_IDENTITY),
        others=("static mouth", "other sound"),
    ),
    CommittedSet(
        "full_capture_cross",
        "reconstruction_capture",
        "cross",
        "Rendered capture: cross-generation, whole sequences",
        (*_CROSS, *_IDENTITY),
        others=("static mouth", "wrong sound"),
    ),
    CommittedSet(
        "full_video",
        "reconstruction_video",
        "reconstruction",
        "GRID s1, avatar from 60 clips: reconstruction of six others",
        (*_PICTURES, *_IDENTITY),
        others=("static mouth", "other sound"),
    ),
    CommittedSet(
        "full_video_cross",
        "reconstruction_video",
        "cross",
        "GRID s1, avatar from 60 clips: cross-generation",
        (*_CROSS, *_IDENTITY),
        others=("static mouth", "wrong sound"),
    ),
    CommittedSet(
        "full_strangers",
        "lips_grid",
        "strangers",
        "Seven other GRID speakers, never trained on: lips, full size",
        _LIPS,
        _LIP_ROWS,
        ("served", "served, one sample"),
        _CONTROLS,
    ),
    CommittedSet(
        "full_strangers_sync",
        "sync_grid",
        "strangers",
        "Seven other GRID speakers: sync by the self-trained critic",
        _SYNC,
    ),
)


def committed_figures(folder: Path) -> dict[str, Figure]:
    """Cells and differences of every set whose results file is in `folder`.

    Raises:
        ResultsError: A file does not follow the schema.
        InputError: It lacks the table that is named.
    """
    figures: dict[str, Figure] = {}
    for one in COMMITTED:
        path = folder / f"{one.stem}.json"
        if not path.is_file():
            continue
        results = read_results(path)
        details = read_details(results, path)
        if details is not None:
            figures |= _figures(one, results, details.table(one.table))
    return figures


def _figures(one: CommittedSet, results: Results, table: TableRecord) -> dict[str, Figure]:
    metrics = [KNOWN_METRICS[name] for name in one.metrics]
    rows = {
        row.method: _arrays(row.values, one.metrics) for row in table.rows if row.method in (one.rows or _all(table))
    }
    figures = set_figures(one.name, rows, metrics)
    for row in rows:  # scores over all clips at once have no values clip by clip
        found = results.figures.get(f"{one.table}.{row_slug(row)}.closure_f1")
        if found is not None and "closure_f1" in one.metrics:
            figures[f"{one.name}.{row_slug(row)}.closure_f1"] = found.model_copy(update={"goal": None})
    return figures | difference_figures(one.name, rows, metrics, ours=one.ours, others=one.others)


def _all(table: TableRecord) -> tuple[str, ...]:
    return tuple(row.method for row in table.rows)


def _arrays(values: Mapping[str, Sequence[float | None]], metrics: Sequence[str]) -> RowArrays:
    return {
        name: np.array([np.nan if v is None else v for v in values[name]], np.float64)
        for name in metrics
        if name in values
    }
