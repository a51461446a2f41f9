"""Which phonemes look alike, and what stands for one that the filmed speaker never said.

GRID's 51 words hold 34 of the 45 phonemes of `model.speech.phonemes`. Consonants of one place look alike, and vowels of
one rounding and height (Fisher 1968), so that:

| never said | stands in | because |
|---|---|---|
| sh, zh | jh, ch, some r | palato-alveolar; r for the rounding, since GRID's jh and ch stand beside iy and ey only |
| ng | g | velar; the tongue is hidden |
| hh | ax | glottal: the lips are the neighbouring vowel's, a schwa's at most |
| kh | k | velar or uvular; the tongue is hidden |
| uh | uw, some ax | rounded, near close |
| er | ax, some ah | mid, unrounded; British |
| ue | uw, some iy | rounded as uw, close and front |
| oe | uw, ao, some eh | rounded, mid and front |
| nas | ao, aa, eh | open-mid vowels, nose open: lips do not show it |
| oy | ao, then ih | a diphthong is its two ends in time |

Where few clips lack those too, the phoneme's look-alikes stand in, or else the average of the consonants or vowels
that were said. `LOOK_ALIKES` are also swapped at random in training, so that a sequence never heard is not new to the
network.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.errors import DataError
from model.speech.phonemes import BILABIALS, INDEX, PHONEMES, VOWELS

STAND_INS: Final[dict[str, dict[str, float]]] = {
    "sh": {"jh": 0.45, "ch": 0.25, "r": 0.3},
    "zh": {"jh": 0.45, "ch": 0.25, "r": 0.3},
    "ng": {"g": 1.0},
    "hh": {"ax": 1.0},
    "kh": {"k": 1.0},
    "uh": {"uw": 0.7, "ax": 0.3},
    "er": {"ax": 0.7, "ah": 0.3},
    "ue": {"uw": 0.7, "iy": 0.3},
    "oe": {"uw": 0.4, "ao": 0.4, "eh": 0.2},
    "nas": {"ao": 0.4, "aa": 0.3, "eh": 0.3},
}
"""Shares of the phonemes that stand for one never said; each row adds up to 1."""
DIPHTHONG_ENDS: Final = {"oy": ("ao", "ih")}
LOOK_ALIKES: Final = tuple(
    frozenset(names.split())
    for names in (
        "p b m",
        "f v",
        "th dh",
        "t d n l",
        "s z",
        "sh zh ch jh",
        "k g ng kh",
        "aa ah",
        "ah ax",
        "ih iy",
        "eh ae",
        "y iy",
    )
)
"""Groups whose members may take each other's place."""

_UNLIKE_ANY: Final = BILABIALS | {"sil"}
_CONSONANTS: Final = frozenset(PHONEMES) - VOWELS - _UNLIKE_ANY


def unseen_phones(labels: Iterable[NDArray[np.integer]]) -> tuple[str, ...]:
    """Names of the phonemes that none of the label arrays holds, in the inventory's order."""
    counts = phone_counts(labels)
    return tuple(name for name, count in counts.items() if not count)


def phone_counts(labels: Iterable[NDArray[np.integer]]) -> dict[str, int]:
    """How many times each phoneme is said: unbroken runs, not columns."""
    counts = np.zeros(len(PHONEMES), np.int64)
    for row in labels:
        starts = np.flatnonzero(np.diff(row.astype(np.int64), prepend=-1))
        counts += np.bincount(row[starts], minlength=len(PHONEMES))
    return dict(zip(PHONEMES, counts.tolist(), strict=True))


def stand_in_matrix(unseen: Iterable[str]) -> NDArray[np.float32]:
    """(45, 45) rows of shares: the phoneme itself, or what stands for it.

    Raises:
        DataError: Nothing that was said can stand for a phoneme.
    """
    missing = set(unseen)
    matrix = np.eye(len(PHONEMES), dtype=np.float32)
    for name in missing - DIPHTHONG_ENDS.keys():
        shares = _stand_in(name, missing)
        matrix[INDEX[name]] = 0.0
        for other, share in shares.items():
            matrix[INDEX[name], INDEX[other]] = share / sum(shares.values())
    return matrix


def split_diphthongs(labels: NDArray[np.integer], unseen: Iterable[str]) -> NDArray[np.int64]:
    """Labels (columns,) with each unseen diphthong as its two ends, half the time each."""
    out = labels.astype(np.int64)
    split = {INDEX[name]: ends for name, ends in DIPHTHONG_ENDS.items() if name in set(unseen)}
    for start, end in phone_runs(labels):
        if (ends := split.get(int(labels[start]))) is not None:
            middle = (start + end) // 2
            out[start:middle], out[middle:end] = INDEX[ends[0]], INDEX[ends[1]]
    return out


def phone_runs(labels: NDArray[np.integer]) -> list[tuple[int, int]]:
    """Unbroken runs of one phoneme: (first column, column after the last)."""
    edges = [0, *(np.flatnonzero(np.diff(labels.astype(np.int64))) + 1).tolist(), len(labels)]
    return [(a, b) for a, b in pairwise(edges) if b > a]


def look_alike_matrix(unseen: Iterable[str]) -> NDArray[np.float32]:
    """(45, 45) chances that a phoneme's place is taken by another that looks like it; a row without any is its own."""
    missing = set(unseen)
    matrix = np.zeros((len(PHONEMES), len(PHONEMES)), np.float32)
    for group in LOOK_ALIKES:
        members = sorted(group - missing)
        for name in members:
            for other in members:
                matrix[INDEX[name], INDEX[other]] += name != other
    alone = matrix.sum(1) == 0
    matrix[alone, alone] = 1.0
    return np.asarray(matrix / matrix.sum(1, keepdims=True), np.float32)


def _stand_in(name: str, missing: set[str]) -> dict[str, float]:
    """Weights of the said phonemes that stand for one that was not."""
    alike = frozenset[str]().union(*(group for group in LOOK_ALIKES if name in group))
    average = frozenset[str]() if name in _UNLIKE_ANY else VOWELS if name in VOWELS else _CONSONANTS
    for shares in (STAND_INS.get(name, {}), dict.fromkeys(alike, 1.0), dict.fromkeys(average, 1.0)):
        if said := {other: share for other, share in shares.items() if other not in missing}:
            return said
    raise DataError(f"no clip holds the phoneme {name!r} or what could stand for it; add clips that do")
