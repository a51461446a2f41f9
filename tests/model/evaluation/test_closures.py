"""Closures, rounding and spreading on made-up phonemes with known answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from model.errors import InputError
from model.evaluation.closures import (
    Hits,
    MouthEvents,
    closure_hits,
    in_range,
    mouth_events,
    phone_segments,
    rounding_hits,
    spreading_hits,
)
from model.speech.phonemes import INDEX

FRAMES = 50


def labels(*phones: tuple[str, int], start_frame: int = 10) -> NDArray[np.int64]:
    """Silence, then phones of so many frames each, then silence."""
    columns = np.full(4 * FRAMES, INDEX["sil"], np.int64)
    at = 4 * start_frame
    for name, frames in phones:
        columns[at : at + 4 * frames] = INDEX[name]
        at += 4 * frames
    return columns


def events(*phones: tuple[str, int]) -> MouthEvents:
    return mouth_events(labels(*phones), FRAMES)


def test_runs_of_phones() -> None:
    assert phone_segments(labels(("b", 2), ("ay", 4))) == [
        ("sil", 0, 40),
        ("b", 40, 48),
        ("ay", 48, 64),
        ("sil", 64, 200),
    ]


def test_events_lie_where_lips_show_them() -> None:
    found = events(("b", 4), ("t", 4), ("ae", 6), ("t", 4), ("uw", 4), ("t", 4), ("iy", 6), ("s", 4))
    assert found.closures.tolist() == [11]  # the first quarter of 10..14
    assert found.wide_open.tolist() == [21]
    assert found.rounded.tolist() == [30]
    assert found.spread_vowels.tolist() == [39]
    assert found.spread.tolist() == [39, 44]


def test_vowels_beside_labials_are_not_asked_to_be_open() -> None:
    assert events(("b", 2), ("ah", 1), ("t", 2)).wide_open.tolist() == []
    assert events(("b", 2), ("ah", 6), ("t", 2)).wide_open.tolist() == [15]
    assert events(("r", 2), ("iy", 1), ("d", 2)).spread_vowels.tolist() == []


def test_silence_keeps_away_from_speech() -> None:
    silent = events(("t", 10)).silent
    assert np.flatnonzero(silent).tolist() == [*range(5), *range(25, FRAMES)]


@pytest.mark.parametrize(("late", "seen"), [(-3, False), (-2, True), (0, True), (2, True), (3, False)])
def test_a_dip_counts_within_two_frames(late: int, seen: bool) -> None:
    opening = np.ones(FRAMES)
    opening[0] = 0.0
    opening[11 + late] = 0.1
    assert closure_hits(opening, events(("b", 4), ("t", 4))) == Hits(hits=int(seen), misses=int(not seen))


def test_a_dip_must_be_deep() -> None:
    said = events(("b", 4), ("t", 4))
    opening = np.ones(FRAMES)
    opening[0], opening[11] = 0.0, 0.16
    assert closure_hits(opening, said).hits == 0
    assert closure_hits(5 + 3 * np.where(opening == 0.16, 0.14, opening), said).hits == 1  # of the clip's own range


def test_a_mouth_that_is_shut_all_the_time_is_no_speaker() -> None:
    said = replace(events(("b", 4), ("t", 4)), wide_open=np.array([20, 30]))
    shut = np.zeros(FRAMES)
    assert closure_hits(shut, said).f1 == 0.0  # it never moves
    shut[49] = 1.0
    assert closure_hits(shut, said).f1 == pytest.approx(2 * 1 / (2 * 1 + 2))


def test_rounding_and_spreading_are_opposites() -> None:
    said = events(("t", 2), ("uw", 6), ("t", 4), ("iy", 6), ("t", 2))
    assert (said.rounded.tolist(), said.spread_vowels.tolist()) == ([15], [25])
    narrow = np.zeros(FRAMES)
    narrow[12:18] = 1.0
    assert rounding_hits(narrow, said).f1 == spreading_hits(-narrow, said).f1 == 1.0
    assert rounding_hits(-narrow, said).f1 == spreading_hits(narrow, said).f1 == 0.0
    assert rounding_hits(-narrow, said) == Hits(misses=1, false_alarms=1)


def test_counts_add_up() -> None:
    total = sum([Hits(3, 1, 2, 4), Hits(1, 0, 0, 1)], Hits())
    assert total == Hits(4, 1, 2, 5)
    assert (total.recall, total.false_rate, total.f1) == (4 / 5, 2 / 7, 8 / (8 + 2 + 1))
    assert np.isnan(Hits().f1) and np.isnan(Hits().recall) and np.isnan(Hits().false_rate)


def test_place_in_range() -> None:
    assert in_range(np.array([2.0, 3.0, 6.0])).tolist() == [0.0, 0.25, 1.0]
    assert in_range(np.full(3, 7.0)).tolist() == [0.5, 0.5, 0.5]


def test_labels_must_fit_the_frames() -> None:
    with pytest.raises(InputError, match=r"50 frames, got shape \(199,\)"):
        mouth_events(np.zeros(199, np.int64), FRAMES)
