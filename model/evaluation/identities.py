"""The paper's protocol on corpora of many people: an avatar for each identity, its own clips made again from sound.

VoxCeleb2 names the speaker of every clip: an avatar is adapted to clips of the same speaker that are not tested, and
the listed clips are made again. LRW names nobody: every clip is an identity of its own, its avatar is adapted to the
very frames that are made again, and only the motion is new. The two cannot be compared with each other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from model.data.clip_types import ClipSource
from model.errors import DataError, InputError
from model.evaluation.bootstrap import mean_estimate
from model.evaluation.row_store import RowArrays
from model.evaluation.table_figures import row_slug
from model.evaluation.tables import Metric, MetricTable
from model.results import Figure

__all__ = ["Identity", "identity_figures", "plan_lrw", "plan_voxceleb2", "scores_of"]

SEPARATOR: Final = "|"
"""Between row and metric in an identity's kept arrays."""


@dataclass(frozen=True, slots=True)
class Identity:
    """One person: clips that the avatar is adapted to, and clips that are made again."""

    name: str
    adapt: tuple[ClipSource, ...]
    test: tuple[ClipSource, ...]


def plan_voxceleb2(
    clips: Sequence[ClipSource], tested: Sequence[ClipSource], *, most_adapt: int = 4
) -> tuple[list[Identity], list[str]]:
    """Identities of the tested clips, and speakers who have no other clip to adapt to.

    Args:
        clips: All clips of the corpus that are at hand.
        tested: Those to be made again; never adapted to.
        most_adapt: Clips that an avatar is adapted to, at most.

    Raises:
        InputError: `most_adapt` is below 1.
        DataError: No speaker has both.
    """
    if most_adapt < 1:
        raise InputError(f"an avatar needs a clip or more to adapt to, got at most {most_adapt}")
    keys = {clip.key for clip in tested}
    free, wanted = defaultdict[str, list[ClipSource]](list), defaultdict[str, list[ClipSource]](list)
    for clip in sorted(clips, key=lambda c: c.key):
        (wanted if clip.key in keys else free)[clip.speaker].append(clip)
    found = [Identity(who, tuple(free[who][:most_adapt]), tuple(test)) for who, test in wanted.items() if free[who]]
    alone = sorted(who for who in wanted if not free[who])
    if not found:
        raise DataError(
            f"none of {len(wanted)} speakers has a clip beside those that are tested: an avatar needs one to adapt to"
        )
    return found, alone


def plan_lrw(tested: Sequence[ClipSource]) -> list[Identity]:
    """Every clip for itself: adapted to and made again."""
    return [Identity(clip.key, (clip,), (clip,)) for clip in tested]


def scores_of(table: MetricTable) -> RowArrays:
    """Values of one identity's table as arrays that can be kept: `row|metric`, (clips,)."""
    return {
        f"{row}{SEPARATOR}{metric}": values for row, found in table.values.items() for metric, values in found.items()
    }


def identity_figures(layout: str, kept: Mapping[str, RowArrays], metrics: Mapping[str, Metric]) -> dict[str, Figure]:
    """Means over identities, each the mean of its clips: `<layout>.<row>.<metric>` with the interval over identities.

    Raises:
        DataError: No identity was measured.
    """
    if not kept:
        raise DataError("no identity was measured; the reasons stand above")
    figures = {}
    for name in dict.fromkeys(name for arrays in kept.values() for name in arrays):
        row, metric = name.split(SEPARATOR)
        means = [_mean(arrays[name]) for arrays in kept.values() if name in arrays]
        found = mean_estimate(np.array(means, np.float64))
        if metric in metrics and found.clips:
            about = metrics[metric]
            span = None if np.isnan(found.low) else (found.low, found.high)
            figures[f"{layout}.{row_slug(row)}.{metric}"] = Figure(
                value=found.mean, unit=about.unit, better=about.better, n=found.clips, interval=span
            )
    return figures


def _mean(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
