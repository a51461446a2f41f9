"""What people preferred on a blind A/B page: shares with exact intervals, and whether the raters agree.

Preference is the share of votes for A among votes for A or B, with the exact binomial interval (Clopper and Pearson
1934) and the two-sided binomial test against a coin. Votes on one clip, and votes of one rater, are not independent:
the majority of each clip is counted as well, with an interval over clips. Agreement is Krippendorff's alpha for names
("A", "B", "same"): 1 is full agreement, 0 is chance; it needs no rater to have answered everything.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scipy.stats import binomtest

from model.errors import DataError

__all__ = ["Preference", "Share", "Vote", "ab_preference", "krippendorff_alpha", "read_votes"]

CHOICES: Final = ("left", "right", "same")
SIDES: Final = {"A": "B", "B": "A"}
CONFIDENCE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Vote:
    """One rater's answer to one clip: "A", "B" or "same"."""

    rater: str
    clip: str
    choice: str


@dataclass(frozen=True, slots=True)
class Share:
    """`hits` of `cases` with the exact 95 % interval of the share; NaN where there is no case."""

    hits: int
    cases: int
    low: float
    high: float
    p_value: float

    @classmethod
    def of(cls, hits: int, cases: int) -> Share:
        """Clopper and Pearson's interval, and the test against one half."""
        if not cases:
            return cls(0, 0, float("nan"), float("nan"), float("nan"))
        test = binomtest(hits, cases)
        span = test.proportion_ci(CONFIDENCE, method="exact")
        return cls(hits, cases, float(span.low), float(span.high), float(test.pvalue))

    @property
    def value(self) -> float:
        """The share, 0..1; NaN without cases."""
        return self.hits / self.cases if self.cases else float("nan")


@dataclass(frozen=True, slots=True)
class Preference:
    """The outcome of a study. `alpha` is None where no clip has two raters, or all votes are alike."""

    votes: Share  # for A, of votes for A or B
    clips: Share  # clips whose majority is for A, of those that have one
    undecided: int  # votes for neither
    raters: int
    alpha: float | None


def read_votes(answers: Sequence[Path], keys: Sequence[Path]) -> list[Vote]:
    """Answers of raters, turned from sides into A and B by the keys of their pages.

    Raises:
        DataError: A file is damaged, belongs to a page without a key, or a rater answered a clip twice.
    """
    pages = {str(key["page"]): key for key in (_read(path) for path in keys)}
    votes: dict[tuple[str, str], Vote] = {}
    for path in answers:
        found = _read(path)
        key = pages.get(str(found.get("page")))
        if key is None:
            raise DataError(f"{path} answers page {found.get('page')!r}, whose key was not given; add its --key")
        for vote in _votes(path, found, key):
            if votes.setdefault((vote.rater, vote.clip), vote) is not vote:
                raise DataError(f"{path}: rater {vote.rater!r} answered {vote.clip} twice; give each file once")
    return list(votes.values())


def ab_preference(votes: Sequence[Vote]) -> Preference:
    """Shares and agreement.

    Raises:
        DataError: There are no votes.
    """
    if not votes:
        raise DataError("there are no votes to count")
    by_clip: dict[str, Counter[str]] = defaultdict(Counter)
    for vote in votes:
        by_clip[vote.clip][vote.choice] += 1
    for_a, for_b = (sum(c[side] for c in by_clip.values()) for side in SIDES)
    won, lost = (sum(c[s] > c[other] for c in by_clip.values()) for s, other in SIDES.items())
    return Preference(
        votes=Share.of(for_a, for_a + for_b),
        clips=Share.of(won, won + lost),
        undecided=sum(c["same"] for c in by_clip.values()),
        raters=len({vote.rater for vote in votes}),
        alpha=krippendorff_alpha(by_clip.values()),
    )


def krippendorff_alpha(units: Iterable[Mapping[str, int]]) -> float | None:
    """Alpha for nominal values (Krippendorff 2011) of units with counts of each value; None where it has no meaning."""
    rated = [counts for counts in units if sum(counts.values()) > 1]
    totals: Counter[str] = Counter()
    for counts in rated:
        totals.update(counts)
    everything = sum(totals.values())
    chance = everything**2 - sum(n * n for n in totals.values())
    if not chance:
        return None
    apart = 0.0
    for counts in rated:
        size = sum(counts.values())
        apart += (size * size - sum(n * n for n in counts.values())) / (size - 1)
    return 1.0 - (everything - 1) * apart / chance


def _votes(path: Path, found: Mapping[str, Any], key: Mapping[str, Any]) -> Iterable[Vote]:
    pairs = {entry["pair"]: entry for entry in key["pairs"]}
    rater, answers = found.get("rater"), found.get("answers")
    if not isinstance(rater, str) or not rater or not isinstance(answers, list):
        raise DataError(f"{path} has no rater and answers; give a file that the page saved")
    for answer in answers:
        pair, choice = (answer.get("pair"), answer.get("choice")) if isinstance(answer, dict) else (None, None)
        if pair not in pairs or choice not in CHOICES:
            raise DataError(
                f"{path}: need a pair of the page and one of {', '.join(CHOICES)}, got {pair!r}, {choice!r}"
            )
        left = str(pairs[pair]["left"])
        side = {"left": left, "right": SIDES[left], "same": "same"}[choice]
        yield Vote(rater, str(pairs[pair]["clip"]), side)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if not isinstance(found, dict) or "page" not in found:
        raise DataError(f"{path} is neither answers nor a key of an A/B page: it names no page")
    return found
