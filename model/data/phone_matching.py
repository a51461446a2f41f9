"""Which phones of one speaking of a sentence answer which of another, by edit distance.

Lexica differ by a phone here and there (`four` with or without an r, a glide between two vowels). A phone that only one
side has is joined to the neighbour it is most like, so that runs fall into groups that answer each other one to one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.errors import DataError
from model.speech.phonemes import PHONEMES, SILENCE_INDEX, VOWELS

__all__ = ["PhoneGroup", "PhoneMismatchError", "PhoneRun", "match_phones", "phone_runs"]

MAX_MEAN_COST: Final = 0.2
"""Of each phone wanted. 168 sayings of GRID sentences by training voices: 0.14 at most (median 0); against other GRID
sentences, 0.24 at least (median 0.59)."""
_JOIN_COST: Final = 0.5  # of a phone that only one side has, on top of how unlike its neighbour it is
_ALIKE_COST, _KIND_COST, _UNLIKE_COST = 0.2, 0.5, 1.0
_ALIKE: Final = tuple(
    frozenset(group.split())
    for group in (
        "p b m|f v|th dh t d|s z|sh zh ch jh|k g ng kh|iy ih y|eh ey ae|aa ah ax ao ow|uw uh w ue|er r ax|aw aa ae ah"
        "|ay aa|t d dh z|n ng"
    ).split("|")
)
_SONORANT: Final = VOWELS | frozenset("r l w y".split())
_LIPS: Final = frozenset("p b m".split())


class PhoneMismatchError(DataError):
    """Two phone sequences are not those of one sentence."""


@dataclass(frozen=True, slots=True)
class PhoneRun:
    """A phone that is not silence, and its first column and the one after its last (10 ms each)."""

    name: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class PhoneGroup:
    """Neighbouring runs `[first, last)` of either side that answer each other."""

    spoken: tuple[int, int]
    wanted: tuple[int, int]


def phone_runs(columns: NDArray[np.integer]) -> list[PhoneRun]:
    """Unbroken runs of a phone in (columns,) phoneme indices; silence separates and is left out."""
    edges = np.flatnonzero(np.diff(columns, prepend=-1, append=-1))
    return [PhoneRun(PHONEMES[columns[a]], int(a), int(b)) for a, b in pairwise(edges) if columns[a] != SILENCE_INDEX]


def match_phones(spoken: Sequence[str], wanted: Sequence[str]) -> list[PhoneGroup]:
    """Groups in order; together they hold every phone of both sides once.

    Raises:
        PhoneMismatchError: One side is empty, the phones are not those of one sentence, or the lips close on one side
            only.
    """
    if not spoken or not wanted:
        raise PhoneMismatchError(
            f"nothing to match: {len(spoken)} phones spoken, {len(wanted)} wanted; give both a sentence"
        )
    total, steps = _edit(spoken, wanted)
    if total / len(wanted) > MAX_MEAN_COST:
        raise PhoneMismatchError(
            f"{' '.join(spoken)!r} does not say {' '.join(wanted)!r} (cost {total / len(wanted):.2f} a phone); "
            "take another voice"
        )
    groups = _groups(steps, len(spoken), len(wanted))
    for group in groups:
        said, asked = _LIPS & {*spoken[slice(*group.spoken)]}, _LIPS & {*wanted[slice(*group.wanted)]}
        if bool(said) != bool(asked):
            raise PhoneMismatchError(
                f"lips close for {said or asked} on one side only of {' '.join(wanted)!r}; take another voice"
            )
    return groups


def _cost(a: str, b: str) -> float:
    if a == b:
        return 0.0
    if any(a in group and b in group for group in _ALIKE):
        return _ALIKE_COST
    same_kind = {a, b} <= _SONORANT or not {a, b} & (_SONORANT | _LIPS)
    return _KIND_COST if same_kind else _UNLIKE_COST


def _edit(spoken: Sequence[str], wanted: Sequence[str]) -> tuple[float, NDArray[np.int8]]:
    """Total cost and, for each pair, the cheapest way to it: 0 both advance, 1 only spoken, 2 only wanted."""
    best = np.full((len(spoken) + 1, len(wanted) + 1), np.inf)
    best[0, 0] = 0.0
    steps = np.zeros((len(spoken), len(wanted)), np.int8)
    for i, a in enumerate(spoken):
        for j, b in enumerate(wanted):
            joined = best[i, j + 1] + _JOIN_COST, best[i + 1, j] + _JOIN_COST
            ways = (best[i, j], *joined)
            steps[i, j] = int(np.argmin(ways))
            best[i + 1, j + 1] = min(ways) + _cost(a, b)
    return float(best[-1, -1]), steps


def _groups(steps: NDArray[np.int8], spoken: int, wanted: int) -> list[PhoneGroup]:
    """Cut where both sides advance; where only one does, its phone joins the group begun before."""
    cuts = [(spoken, wanted)]
    i, j = spoken - 1, wanted - 1
    while i >= 0 and j >= 0:
        step = steps[i, j]
        if step == 0:
            cuts.append((i, j))
        i, j = i - (step != 2), j - (step != 1)
    cuts.reverse()
    return [PhoneGroup((a, c), (b, d)) for (a, b), (c, d) in pairwise(cuts)]
