"""`evaluate sync`: how well the self-trained critic finds shifts, and what it says of truth, controls and our motion.

Rows: truth; truth with its sound 5 frames late; truth beside the next clip's sound; and the motion that is served for
the sound (conditional mean, hop by hop). A model should meet the row of truth, not pass it: motion smoother than a face
can suit a critic better than a face does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.data.features import ClipFeatures, load_clips
from model.errors import InputError
from model.evaluation.report import HistogramPlot, ReportTable, evaluation_results
from model.evaluation.sync_critic import (
    CRITIC_METRICS,
    SHIFT_METRICS,
    SHIFTS,
    CriticPair,
    cut_shifted,
    load_critic,
    score_motion,
    shifts_found,
)
from model.evaluation.sync_protocol import MAX_SHIFT_FRAMES
from model.evaluation.tables import MetricTable
from model.motion.sync_critic import ASSET
from model.results import Results
from model.speech_to_motion import SpeechToMotion, motion_of_sound
from model.training.motion_targets import load_motion

__all__ = ["SyncEvaluation", "evaluate_sync", "sync_results", "sync_table"]

TRUTH: Final = "truth"
SHIFTED: Final = f"truth, sound {max(SHIFTS)} frames late"
OTHER_SOUND: Final = "truth, another clip's sound"
SERVED: Final = "served"
Motion = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncEvaluation:
    """What to measure: prepared GRID (`train`, `val`), other speakers, critic weights, our own motion or not."""

    grid: Path
    strangers: Path | None = None
    critic: Path = ASSET
    served: bool = True
    steps: int = 2


def evaluate_sync(config: SyncEvaluation) -> tuple[ReportTable, ...]:
    """A table of GRID val, whose row of truth has the goals, and one of other speakers, each by its own calibration.

    Raises:
        ModelError: Clips, critic or our models are missing or damaged.
    """
    pair = load_critic(config.critic)
    drive = SpeechToMotion.load(num_steps=config.steps) if config.served else None
    clips, motion = load_clips(config.grid / "val"), load_motion(config.grid / "val")
    val = sync_table("GRID s1, held-out clips", clips, [motion[c.key] for c in clips], pair, drive)
    tables = [ReportTable(name="grid_val", table=val, tested=TRUTH)]
    if config.strangers is not None:
        others = load_clips(config.strangers)
        table = sync_table("other GRID speakers", others, [c.motion for c in others], pair, drive)
        tables.append(ReportTable(name="strangers", table=table))
    return tuple(tables)


def sync_table(
    title: str, clips: Sequence[ClipFeatures], motion: Sequence[Motion], pair: CriticPair, drive: SpeechToMotion | None
) -> MetricTable:
    """Truth (T, 32) and its controls, and where `drive` is given what it makes of the clips' sound.

    Raises:
        InputError: Fewer than two clips: there is no other clip's sound.
    """
    if len(clips) < 2:
        raise InputError(f"{title}: need two or more clips to lend each other's sound, got {len(clips)}")
    sounds = [c.audio for c in clips]
    late = [cut_shifted(m, s, max(SHIFTS)) for m, s in zip(motion, sounds, strict=True)]
    rows = {
        TRUTH: score_motion(pair, motion, sounds) | shifts_found(pair, motion, sounds),
        SHIFTED: score_motion(pair, [m for m, _ in late], [s for _, s in late]),
        OTHER_SOUND: score_motion(pair, motion, [*sounds[1:], sounds[0]]),
    }
    if drive is not None:
        made = [motion_of_sound(c.sound, drive)[0][: len(m)] for c, m in zip(clips, motion, strict=True)]
        rows[SERVED] = score_motion(pair, made, sounds)
    return MetricTable(
        title=f"{title}: self-trained AV-sync critic",
        clips=tuple(c.key for c in clips),
        metrics=(*CRITIC_METRICS, *SHIFT_METRICS),
        values=rows,
        truth=TRUTH,
        reference=TRUTH,
        notes=(
            f"Judged by the self-trained AV-sync critic {pair.critic.content_hash}. It is not SyncNet: its figures "
            "cannot be compared with published ones, and a model should meet the row of truth, not pass it.",
            f"Where the sound is late, clips are cut by {max(SHIFTS)} frames at either end; these are mostly silent, "
            "and without them every distance is a little smaller.",
        ),
    )


def sync_results(tables: Sequence[ReportTable], *, command: str, data: str) -> Results:
    """The results file: every cell, and where the critic puts the sound of each clip."""
    histograms = [
        HistogramPlot(
            table=entry.name,
            metric="critic_late_frames",
            methods=tuple(m for m in (TRUTH, OTHER_SOUND, SERVED) if m in entry.table.methods),
            low=-MAX_SHIFT_FRAMES - 0.5,
            high=MAX_SHIFT_FRAMES + 0.5,
            bins=2 * MAX_SHIFT_FRAMES + 1,
        )
        for entry in tables
    ]
    return evaluation_results("AV sync", tables, command=command, data=data, histograms=histograms)
