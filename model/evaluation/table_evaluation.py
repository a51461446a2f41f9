"""The whole big table: motion on GRID and on strangers, pictures on a capture and on GRID, each row kept when done.

Sets that were not given are left out. How much was measured is part of the results: it decides how wide intervals are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.audio_file import SAMPLE_RATE, read_audio
from model.data.capture import Capture
from model.data.preparing import read_shards
from model.errors import DataError
from model.evaluation.learned_metrics import LearnedMetrics
from model.evaluation.protocols import Scorers
from model.evaluation.reconstruction import ReconstructionEvaluation
from model.evaluation.row_store import RowArrays, RowPlace, lay_out_rows
from model.evaluation.table_committed import committed_figures
from model.evaluation.table_figures import difference_figures, set_figures
from model.evaluation.table_motion import (
    MOTION_COLUMNS,
    SYNC_COLUMNS,
    TRUTH,
    measure_motion,
    measure_sounds,
    motion_set,
)
from model.evaluation.table_pictures import CROSS_COLUMNS, DECODER, PICTURE_COLUMNS, PictureBench
from model.evaluation.table_rows import CONTROLS, DETERMINISTIC, SERVED, VARIED, RowMaker
from model.evaluation.tables import Metric
from model.results import Figure, Results, new_results

__all__ = ["TableEvaluation", "evaluate_table", "known_rows"]

SOUND_S: Final = 6.0
ROWS: Final = "rows"
"""Where a results file's `details` hold the rows clip by clip."""
COMPARED: Final = (SERVED, VARIED)
AGAINST: Final = (*CONTROLS, DETERMINISTIC, DECODER)
Rows = dict[str, RowArrays]
Tell = Callable[[str], None]
Part = tuple[str, Rows, Sequence[Metric], str]
"""A set's name, its rows, its columns, and how large it is."""


@dataclass(frozen=True, kw_only=True)
class TableEvaluation:
    """What to measure, on how much, and where finished rows are kept."""

    grid: Path  # prepared `train` and `val`, the latter with pictures where there is an avatar
    work: RowPlace
    face_landmarker: Path
    others: Path | None = None  # prepared clips of other speakers
    speech: Path | None = None  # folder of sounds that nobody was filmed for
    capture: Path | None = None
    ict: Path | None = None
    decoder: Path | None = None  # a 2-D decoder of the capture's person, by `train decoder2d`
    avatar: Path | None = None  # an avatar of GRID s1, made from `made_from`
    made_from: Path | None = None
    scorers: Scorers = field(default_factory=lambda: Scorers(LearnedMetrics()))
    clips: int | None = None  # of GRID val for motion; None: all
    picture_clips: int = 6
    frames: int | None = None  # of each video that is rendered; None: all
    speech_clips: int = 14
    draws: int = 8
    teacher_draws: int = 2
    committed: Path | None = None  # results files of other evaluations, whose full-size blocks are added


def evaluate_table(config: TableEvaluation, on_row: Tell, *, command: str) -> Results:
    """Measure every set that was given.

    Raises:
        ModelError: Clips, weights, avatar or capture are missing or damaged.
    """
    maker = RowMaker(
        config.grid / "train", left_out=_tested(config), draws=config.draws, teacher_draws=config.teacher_draws
    )
    figures: dict[str, Figure] = {}
    sizes: list[str] = []
    for name, rows, metrics, said in (*_motion(config, maker, on_row), *_pictures(config, maker, on_row)):
        count = sum(bool(arrays) for row, arrays in rows.items() if row != TRUTH)
        if count:
            figures |= _figures(name, rows, metrics)
            sizes.append(f"{said}: {count} rows")
    frames = f"the first {config.frames}" if config.frames else "all"
    sizes.append(
        f"pictures of {frames} frames of each video; controls fitted on {maker.train_clips} training clips; "
        f"{config.draws} samples at temperature 1, of the teacher {config.teacher_draws}"
    )
    if config.committed is not None:
        figures |= committed_figures(config.committed)
    return new_results(figures, command=command, data="; ".join(sizes), details={ROWS: config.work.packed()})


def known_rows(results: Results, work: Path) -> int:
    """Lay out the rows of an earlier run in `work`; returns how many are new there.

    Raises:
        DataError: The file has none, or the folder cannot be written.
    """
    details = results.details if isinstance(results.details, dict) else {}
    return lay_out_rows(details.get(ROWS), work)


def _motion(config: TableEvaluation, maker: RowMaker, on_row: Tell) -> Iterator[Part]:
    val = motion_set("grid_val", config.grid / "val", maker.space, config.clips)
    rows = measure_motion(val, maker, config.work, _named(val.name, on_row))
    yield val.name, rows, MOTION_COLUMNS, f"GRID s1 val, {len(val.clips)} clips"
    if config.others is not None:
        others = motion_set("strangers", config.others, maker.space)
        rows = measure_motion(others, maker, config.work, _named(others.name, on_row))
        yield others.name, rows, MOTION_COLUMNS, f"other GRID speakers, {len(others.clips)} clips"
    if config.speech is not None:
        sounds = _sounds(config.speech, config.speech_clips)
        rows = measure_sounds("speech", sounds, maker, config.work, _named("speech", on_row))
        yield "speech", rows, SYNC_COLUMNS, f"LibriSpeech, {len(sounds)} utterances of up to {SOUND_S:g} s"


def _pictures(config: TableEvaluation, maker: RowMaker, on_row: Tell) -> Iterator[Part]:
    for bench, said in _benches(config, maker):
        rows = bench.reconstruction(config.work, _named(f"{bench.name}, own sound", on_row))
        yield f"{bench.name}_reconstruction", rows, PICTURE_COLUMNS, f"{said}, reconstruction"
        rows = bench.cross(config.work, _named(f"{bench.name}, next sound", on_row))
        yield f"{bench.name}_cross", rows, CROSS_COLUMNS, f"{said}, cross-generation"


def _figures(name: str, rows: Rows, metrics: Sequence[Metric]) -> dict[str, Figure]:
    return set_figures(name, rows, metrics) | difference_figures(name, rows, metrics, ours=COMPARED, others=AGAINST)


def _named(part: str, on_row: Tell) -> Tell:
    return lambda row: on_row(f"{part}: {row}")


def _benches(config: TableEvaluation, maker: RowMaker) -> list[tuple[PictureBench, str]]:
    """Sets of pictures that were given, and how large they are."""
    found = []
    if config.capture is not None and config.ict is not None:
        c = ReconstructionEvaluation(
            capture=config.capture,
            ict=config.ict,
            frames=config.frames,
            face_landmarker=config.face_landmarker,
            scorers=config.scorers,
        )
        said = f"rendered capture, {len(_sequences(config.capture))} sequences, default avatar"
        found.append((PictureBench("capture", c, maker, config.decoder), said))
    if config.avatar is not None and config.made_from is not None:
        keys = _spread(config.grid / "val", config.picture_clips)
        c = ReconstructionEvaluation(
            filmed=config.grid / "val",
            made_from=config.made_from,
            keys=keys,
            frames=config.frames,
            avatar=config.avatar,
            face_landmarker=config.face_landmarker,
            scorers=config.scorers,
        )
        said = f"pictures of GRID s1 val, {len(keys)} clips, avatar from {_count(config.made_from)} training clips"
        found.append((PictureBench("grid", c, maker), said))
    return found


def _tested(config: TableEvaluation) -> tuple[str, ...]:
    """Sounds of the capture: some are of GRID's training clips, which no control may remember."""
    return _sequences(config.capture) if config.capture is not None else ()


def _sequences(capture: Path) -> tuple[str, ...]:
    return tuple(str(entry["clip"]) for entry in Capture.open(capture).meta.get("sequences") or ())


def _spread(clips: Path, most: int) -> tuple[str, ...]:
    keys = sorted(sample.key for sample in read_shards(clips))
    return tuple(keys[i * len(keys) // most] for i in range(most)) if len(keys) > most else tuple(keys)


def _count(clips: Path) -> int:
    return sum(1 for _ in read_shards(clips))


def _sounds(folder: Path, most: int) -> dict[str, NDArray[np.float32]]:
    """The first seconds of `most` sound files, spread evenly over the folder's.

    Raises:
        DataError: There is no sound file.
    """
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".flac", ".wav", ".ogg", ".mp3"))
    if not files:
        raise DataError(f"no sounds in {folder}: need .flac, .wav, .ogg or .mp3 files")
    count = min(most, len(files))
    chosen = [files[i * len(files) // count] for i in range(count)]
    return {path.stem: read_audio(path)[: round(SOUND_S * SAMPLE_RATE)] for path in chosen}
