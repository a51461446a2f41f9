"""Scores of phoneme posteriors against known phonemes: counts for each recording, pooled, spread by bootstrap.

Accuracy is over the tokens (20 ms) in which somebody speaks: what is heard as silence there is wrong. `_with_silence`
counts all tokens, silence being one class more. `_frames`: decided once for each 40 ms video frame by the mean of its
two tokens, as serving hands it on, and held against both tokens' labels.

Lips closed for p, b and m: recall and precision by token, and by event: an unbroken run of closed tokens is found when
a token of the other side's runs lies within 40 ms of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.evaluation.hearing import Heard
from model.evaluation.speech_sets import Recording, token_labels
from model.evaluation.visemes import BILABIAL_VISEME, PHONE_NAMES, PHONE_OF, SILENCE, VISEME_NAMES, VISEME_OF, fold
from model.results import Figure

EVENT_TOLERANCE_TOKENS = 2
RESAMPLES = 500
GOALS = {"phone_accuracy": 0.55, "viseme_accuracy": 0.70, "bilabial_recall": 0.70}
Counts = dict[str, tuple[int, int]]
"""Hits and cases by score."""
Labels = NDArray[np.int64]
Flags = NDArray[np.bool_]


def count_hits(heard: Heard, recording: Recording) -> Counts:
    """All scores of one recording."""
    wanted = token_labels(recording.phonemes, len(heard.tokens))
    known = wanted >= 0
    tokens, wanted = heard.tokens[known], wanted[known]
    framed = np.repeat(heard.tokens.reshape(-1, 2, heard.tokens.shape[1]).mean(1), 2, axis=0)[known]
    counts: Counts = {}
    for name, groups, names in (("phone", PHONE_OF, PHONE_NAMES), ("viseme", VISEME_OF, VISEME_NAMES)):
        truth = groups[wanted]
        spoken = truth != names.index(SILENCE)
        right = fold(tokens, groups).argmax(1) == truth
        by_frame = fold(framed, groups).argmax(1) == truth
        counts[f"{name}_accuracy"] = _count(right, spoken)
        counts[f"{name}_accuracy_with_silence"] = _count(right, np.ones_like(spoken))
        counts[f"{name}_accuracy_frames"] = _count(by_frame, spoken)
    closed = VISEME_OF[wanted] == BILABIAL_VISEME
    found = fold(tokens, VISEME_OF).argmax(1) == BILABIAL_VISEME
    return counts | closure_hits(found, closed)


def closure_hits(found: Flags, wanted: Flags) -> Counts:
    """Recall and precision of closed lips, by token and by event."""
    return {
        "bilabial_recall": _count(found, wanted),
        "bilabial_precision": _count(wanted, found),
        "bilabial_event_recall": _events(wanted, found),
        "bilabial_event_precision": _events(found, wanted),
    }


def score_figures(name: str, counts: Sequence[Counts], *, goals: bool = True) -> dict[str, Figure]:
    """Figures of a set, `<name>_<score>`; `spread` is half the range that holds 90 % of bootstrap resamples."""
    figures = {}
    for score in counts[0]:
        pairs = np.array([c[score] for c in counts], np.int64)
        figures[f"{name}_{score}"] = Figure(
            value=ratio(pairs),
            unit="share",
            goal=GOALS.get(score) if goals else None,
            better="higher",
            spread=bootstrap_spread(pairs),
        )
    return figures


def ratio(pairs: NDArray[np.int64]) -> float:
    """Hits over cases, both summed over recordings; 0 where there are no cases."""
    hits, cases = pairs.sum(0)
    return float(hits / cases) if cases else 0.0


def bootstrap_spread(pairs: NDArray[np.int64], *, seed: int = 0) -> float:
    """Half the width of the central 90 % of the ratio when recordings are drawn with replacement."""
    rng = np.random.default_rng(seed)
    drawn = [ratio(pairs[rng.integers(len(pairs), size=len(pairs))]) for _ in range(RESAMPLES)]
    low, high = np.percentile(drawn, [5, 95])
    return float(high - low) / 2


def runs(flags: Flags) -> list[tuple[int, int]]:
    """Unbroken runs of true values as (start, end), end exclusive."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _events(events: Flags, others: Flags) -> tuple[int, int]:
    """How many runs of `events` have one of `others` within the tolerance, of how many."""
    spans = runs(events)
    near = EVENT_TOLERANCE_TOKENS
    hits = sum(bool(others[max(0, start - near) : end + near].any()) for start, end in spans)
    return hits, len(spans)


def _count(hits: Flags, cases: Flags) -> tuple[int, int]:
    return int((hits & cases).sum()), int(cases.sum())
