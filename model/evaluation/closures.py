"""Does the mouth make the shapes that the phonemes ask for? F1 of closures, of rounding and of spreading.

"Low at p, b and m" alone proves nothing: half of all frames of a short clip are low, since sentences begin and end with
lips at rest. So each score has cases where the shape must be seen and cases where it must not:

| score | must | must not | seen when |
|---|---|---|---|
| closure | p b m | centres of open vowels (aa ae ah aw ay, eh, ey) | opening below 15 % of its range |
| rounding | uw uh w ow oy ao | centres of spread vowels (iy ih ey eh) | rounding in the upper half of its range |
| spreading | iy ey s z | the rounded ones | width in the upper half of its range |

Every signal is judged within its own range (least to greatest over the clip), so speakers of any size and gain compare.
Closures may come within two frames of the phone's first quarter, where a stop is shut (its release and breath follow);
vowels that must not count at their centre, unless a sound that closes or rounds lips lies within a frame of it.
Rounding and spreading are read from the mean of the three frames around the centre. F1 is over all cases of all clips,
because a clip has one or two closures only.
A mouth that is always shut has F1 2P/(2P + N) with P and N the cases: on GRID about 0.5, so compare rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.data.clip_labels import clip_labels
from model.data.features import ClipFeatures
from model.data.forced_alignment import ForcedAligner, grid_words, phone_columns
from model.errors import InputError
from model.speech.log_mel import HOP_SAMPLES
from model.speech.phonemes import BILABIALS, OPEN_VOWELS, PHONEMES, SILENCE_INDEX

COLUMNS_PER_FRAME: Final = 4
CLOSED_SHARE: Final = 0.15
CLOSURE_TOLERANCE_FRAMES: Final = 2
UPPER_HALF: Final = 0.5
SILENCE_MARGIN_FRAMES: Final = 5
"""Lips move before they sound and come to rest after: 200 ms on either side of speech are not silence."""
WIDE_OPEN: Final = OPEN_VOWELS | {"eh", "ey"}
ROUNDED: Final = frozenset("uw uh w ow oy ao".split())
SPREAD_VOWELS: Final = frozenset("iy ih ey eh".split())
SPREAD: Final = frozenset("iy ey s z".split())
CLOSING: Final = frozenset("p b m f v w sil".split())
"""What keeps a neighbouring vowel's lips from opening."""
ROUNDING: Final = ROUNDED | frozenset("r sh zh ch jh p b m f v".split())
"""What keeps a neighbouring vowel's lips from spreading (English r and sh are rounded)."""
Frames = NDArray[np.int64]


@dataclass(frozen=True)
class MouthEvents:
    """Frames of one clip at which a shape is, or is not, to be seen; `silent` (T,): nobody speaks or is about to."""

    closures: Frames
    wide_open: Frames
    rounded: Frames
    spread_vowels: Frames
    spread: Frames
    silent: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Hits:
    """Counts of a yes-or-no question; they add up over clips."""

    hits: int = 0
    misses: int = 0
    false_alarms: int = 0
    rejections: int = 0

    def __add__(self, other: Hits) -> Hits:
        return Hits(
            self.hits + other.hits,
            self.misses + other.misses,
            self.false_alarms + other.false_alarms,
            self.rejections + other.rejections,
        )

    @property
    def recall(self) -> float:
        """Share of the cases that must be seen; NaN without any."""
        cases = self.hits + self.misses
        return self.hits / cases if cases else float("nan")

    @property
    def false_rate(self) -> float:
        """Share of the cases that must not be seen and are; NaN without any."""
        cases = self.false_alarms + self.rejections
        return self.false_alarms / cases if cases else float("nan")

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN), 0..1; NaN without any case that must be seen."""
        if not self.hits + self.misses:
            return float("nan")
        return 2 * self.hits / (2 * self.hits + self.false_alarms + self.misses)


def clip_phonemes(clip: ClipFeatures, aligner: ForcedAligner) -> NDArray[np.int64]:
    """Phoneme index of each 10 ms of a prepared clip: by its own word times, or the sentence that a GRID name spells.

    Raises:
        DataError: The words do not fit the sound, or the name spells none.
    """
    if clip.words:
        return clip_labels(clip, aligner)
    return phone_columns(aligner.align(clip.sound, grid_words(clip.key)), len(clip.audio) // HOP_SAMPLES)


def mouth_events(labels: NDArray[np.int64], frames: int) -> MouthEvents:
    """Events of a clip of T frames from its phoneme indices (4 T,), one for each 10 ms.

    Raises:
        InputError: There are not four labels a frame.
    """
    if labels.shape != (COLUMNS_PER_FRAME * frames,):
        raise InputError(f"need {COLUMNS_PER_FRAME} labels a frame for {frames} frames, got shape {labels.shape}")
    segments = phone_segments(labels)

    def centres(names: frozenset[str]) -> Frames:
        return np.array([(a + b) // 2 // COLUMNS_PER_FRAME for p, a, b in segments if p in names], np.int64)

    return MouthEvents(
        closures=np.array([(3 * a + b) // 4 // COLUMNS_PER_FRAME for p, a, b in segments if p in BILABIALS], np.int64),
        wide_open=_away_from(CLOSING, centres(WIDE_OPEN), labels),
        rounded=centres(ROUNDED),
        spread_vowels=_away_from(ROUNDING, centres(SPREAD_VOWELS), labels),
        spread=centres(SPREAD),
        silent=_silent(labels, frames),
    )


def phone_segments(labels: NDArray[np.int64]) -> list[tuple[str, int, int]]:
    """Unbroken runs of one phoneme as (name, first column, column after the last)."""
    edges = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
    return [(PHONEMES[int(labels[a])], a, b) for a, b in pairwise(edges) if b > a]


def closure_hits(opening: NDArray[np.float64], events: MouthEvents) -> Hits:
    """Closures seen in an opening (T,). A mouth that never moves closes nowhere."""
    low = in_range(opening) < CLOSED_SHARE
    near = CLOSURE_TOLERANCE_FRAMES
    seen = [bool(low[max(0, t - near) : t + near + 1].any()) for t in events.closures]
    return _count(np.array(seen, np.bool_), low[events.wide_open])


def rounding_hits(rounding: NDArray[np.float64], events: MouthEvents) -> Hits:
    """Rounding seen in a rounding signal (T,)."""
    high = _around(in_range(rounding)) > UPPER_HALF
    return _count(high[events.rounded], high[events.spread_vowels])


def spreading_hits(width: NDArray[np.float64], events: MouthEvents) -> Hits:
    """Spreading seen in a lip width (T,)."""
    high = _around(in_range(width)) > UPPER_HALF
    return _count(high[events.spread], high[events.rounded])


def in_range(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Place of each frame (T,) between the signal's least (0) and greatest (1) value; 0.5 where it does not move."""
    low, high = float(signal.min()), float(signal.max())
    if high - low < 1e-6:
        return np.full(signal.shape, 0.5)
    return np.asarray((signal - low) / (high - low))


def _around(signal: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of each frame and its two neighbours; the ends repeat."""
    padded = np.pad(signal, 1, mode="edge")
    return np.asarray((padded[:-2] + padded[1:-1] + padded[2:]) / 3)


def _count(must: NDArray[np.bool_], must_not: NDArray[np.bool_]) -> Hits:
    hits, alarms = int(must.sum()), int(must_not.sum())
    return Hits(hits, len(must) - hits, alarms, len(must_not) - alarms)


def _away_from(names: frozenset[str], frames: Frames, labels: NDArray[np.int64]) -> Frames:
    """The frames within one of which none of the phones sounds."""
    near = [labels[COLUMNS_PER_FRAME * max(0, t - 1) : COLUMNS_PER_FRAME * (t + 2)] for t in frames.tolist()]
    kept = [t for t, part in zip(frames.tolist(), near, strict=True) if not names & {PHONEMES[i] for i in part}]
    return np.array(kept, np.int64)


def _silent(labels: NDArray[np.int64], frames: int) -> NDArray[np.bool_]:
    spoken = (labels != SILENCE_INDEX).reshape(frames, COLUMNS_PER_FRAME).any(1)
    wide = np.ones(2 * SILENCE_MARGIN_FRAMES + 1)
    return np.asarray(np.convolve(spoken, wide, mode="full")[SILENCE_MARGIN_FRAMES:-SILENCE_MARGIN_FRAMES] < 0.5)
