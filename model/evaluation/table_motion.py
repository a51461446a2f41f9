"""The motion half of the big table: every row's lips and sync on prepared clips, judged before anything is rendered.

Columns are those of `model.evaluation.lip_rows` and of the self-trained AV-sync critic (not SyncNet). The F1 of closed
lips is over all cases of all clips, so its differences are resampled over clips by their counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.data.features import ClipFeatures, load_clips
from model.data.forced_alignment import ForcedAligner
from model.errors import DataError
from model.evaluation.closures import Hits, closure_hits
from model.evaluation.lip_evaluation import said_phones, true_clip
from model.evaluation.lip_rows import LIP_METRICS, Method, TrueClip, lip_table
from model.evaluation.row_store import RowArrays, RowPlace
from model.evaluation.sync_critic import CRITIC_METRICS, CriticPair, load_critic, score_motion
from model.evaluation.sync_protocol import SAMPLES_PER_FRAME
from model.evaluation.table_rows import RowMaker, Sound
from model.evaluation.tables import Metric
from model.motion.space import MOTION_SIZE, MotionSpace
from model.training.motion_targets import load_motion

__all__ = [
    "CLOSURE_HITS",
    "MOTION_COLUMNS",
    "SYNC_COLUMNS",
    "TRUTH",
    "MotionSet",
    "measure_motion",
    "measure_sounds",
    "motion_set",
]

TRUTH: Final = "truth"
CLOSURE_HITS: Final = "closure_hits"
"""Key of (clips, 3): closures seen, missed, and seen where vowels are open, over all draws."""
FORMAT: Final = 1
_LIPS: Final = ("closure_f1", "opening_crps", "spread_error", "opening_r", "lmd_iod", "velocity_ratio")
_SYNC: Final = ("critic_late_frames", "critic_c", "critic_d")
MOTION_COLUMNS: Final[tuple[Metric, ...]] = tuple(
    metric for name in (*_LIPS, *_SYNC) for metric in (*LIP_METRICS, *CRITIC_METRICS) if metric.name == name
)
SYNC_COLUMNS: Final = tuple(metric for metric in MOTION_COLUMNS if metric.name in _SYNC)
Array = NDArray[np.float32]


@dataclass(frozen=True)
class MotionSet:
    """Clips of one kind of people: what is true of them, and their sound."""

    name: str
    clips: Sequence[ClipFeatures]
    truth: Sequence[TrueClip]
    space: MotionSpace

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the clips, in their order."""
        return tuple(clip.key for clip in self.clips)


def motion_set(name: str, folder: Path, space: MotionSpace, most: int | None = None) -> MotionSet:
    """Prepared clips, or `most` of them evenly spread. GRID s1's are by the calibration of its training clips.

    Raises:
        DataError: The folder holds no clips.
    """
    clips = load_clips(folder)
    if not clips:
        raise DataError(f"{folder} holds no prepared clips; run nerf-lipsync prepare")
    count = min(len(clips), most or len(clips))
    chosen = [clips[i * len(clips) // count] for i in range(count)]
    known = load_motion(folder) if (folder.parent / "train").is_dir() else {c.key: c.motion for c in clips}
    aligner = ForcedAligner()
    return MotionSet(name, chosen, [true_clip(c.key, known[c.key], said_phones(c, aligner)) for c in chosen], space)


def measure_motion(
    one: MotionSet, maker: RowMaker, store: RowPlace, on_row: Callable[[str], None] | None = None
) -> dict[str, RowArrays]:
    """Every row's values clip by clip, `TRUTH` first; rows that are kept in `store` are not computed again."""
    pair = load_critic()
    recipe = {"format": FORMAT, "set": one.name, "clips": one.keys, "critic": pair.critic.content_hash} | maker.recipe
    sounds: list[Sound] = []

    def score(row: str) -> RowArrays:
        if row == TRUTH:
            return motion_scores(Method([[t.motion for t in one.truth]]), one, pair)
        if not sounds:
            sounds.extend(maker.hear(one.keys, [c.sound for c in one.clips], [t.motion for t in one.truth]))
        return motion_scores(maker.motion(row, sounds), one, pair)

    names = {TRUTH: TRUTH} | {row: maker.key(row) for row in maker.rows}
    return store.open(recipe).rows(names, score, on_row)


def motion_scores(method: Method, one: MotionSet, pair: CriticPair) -> RowArrays:
    """Values (clips,) of `MOTION_COLUMNS`, but for the F1, and the counts that it comes from."""
    table = lip_table("", one.truth, {"made": method}, one.space)
    lips = {name: values for name, values in table.values["made"].items() if name in _LIPS}
    sounds = [clip.audio for clip in one.clips]
    sync = [score_motion(pair, list(draw), sounds) for draw in method.draws]
    means = {name: np.mean([draw[name] for draw in sync], 0) for name in _SYNC}
    hits = [[_closures(m, clip, one.space) for m, clip in zip(draw, one.truth, strict=True)] for draw in method.draws]
    counts = np.array([[(h.hits, h.misses, h.false_alarms) for h in draw] for draw in hits], np.int64).sum(0)
    return {**lips, **means, CLOSURE_HITS: counts}


def _closures(motion: Array, clip: TrueClip, space: MotionSpace) -> Hits:
    return Hits() if clip.events is None else closure_hits(space.lip_opening(motion).astype(np.float64), clip.events)


def measure_sounds(
    name: str,
    sounds: Mapping[str, Array],
    maker: RowMaker,
    store: RowPlace,
    on_row: Callable[[str], None] | None = None,
) -> dict[str, RowArrays]:
    """What the critic says of every row on sounds (samples,), -1..1, 16 kHz, that nobody was filmed for."""
    pair = load_critic()
    lengths = {key: len(sound) // SAMPLES_PER_FRAME for key, sound in sounds.items()}
    recipe = {"format": FORMAT, "set": name, "clips": lengths, "critic": pair.critic.content_hash} | maker.recipe
    whole = {key: sound[: lengths[key] * SAMPLES_PER_FRAME] for key, sound in sounds.items()}
    heard: list[Sound] = []

    def score(row: str) -> RowArrays:
        if not heard:
            still = [np.zeros((lengths[key], MOTION_SIZE), np.float32) for key in whole]
            heard.extend(maker.hear(list(whole), list(whole.values()), still))
        method = maker.motion(row, heard)
        pcm = [np.round(sound * 32767.0).astype(np.int16) for sound in whole.values()]
        sync = [score_motion(pair, list(draw), pcm) for draw in method.draws]
        return {column: np.mean([draw[column] for draw in sync], 0) for column in _SYNC}

    return store.open(recipe).rows({row: maker.key(row) for row in maker.rows}, score, on_row)
