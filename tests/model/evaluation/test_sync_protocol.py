"""SyncNet's protocol with planted embeddings: shifts, zero padding, short clips, and the direct formula."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.errors import InputError
from model.evaluation.sync_protocol import (
    count_windows,
    score_embeddings,
    shift_distances,
    sync_of_clip,
    sync_of_clips,
)
from tests.support.closeness import assert_close

Array = NDArray[np.float32]


def embeddings(count: int, *, size: int = 8, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(0, 1, (count, size)).astype(np.float32)


@dataclass(frozen=True)
class Planted:
    """Sees numbers that are given, hears the first sample of every frame as their index."""

    table: Array
    window_frames: int = 5

    def see(self, frames: Array, windows: int) -> Array:
        return frames[:windows]

    def hear(self, audio: NDArray[np.int16], windows: int) -> Array:
        return self.table[audio[::640][:windows]]


def sound_of(indices: NDArray[np.int_]) -> NDArray[np.int16]:
    return np.repeat(indices.astype(np.int16), 640)


@settings(max_examples=20, deadline=None)
@given(late=st.integers(-15, 15), padding=st.sampled_from(["zeros", "none"]))
def test_a_shift_gives_its_shift(late: int, padding: str) -> None:
    table = embeddings(110)
    seen, heard = table[20:90], table[20 - late : 90 - late]
    scores = score_embeddings(seen, heard, padding=padding)  # type: ignore[arg-type]
    assert scores.offset_frames == -late  # SyncNet's sign: a late sound is a negative offset
    assert scores.mean_distances.shape == (31,)


def test_truth_against_truth_is_ideal() -> None:
    seen = embeddings(60)
    scores = score_embeddings(seen, seen)
    assert scores.offset_frames == 0
    assert scores.distance == scores.distance_in_place == pytest.approx(1e-6 * 8**0.5)  # the epsilon alone
    assert scores.confidence == pytest.approx(float(np.median(scores.mean_distances)), abs=1e-5)


def test_confidence_and_distance_by_hand() -> None:
    """One number per window, shifts of one frame: means over v of |3 - 0|, |3 - 1| ... written out."""
    seen, heard = np.full((2, 1), 3, np.float32), np.array([[1], [2]], np.float32)
    scores = score_embeddings(seen, heard, max_shift=1)
    # s = -1: zero vector, then heard 1; s = 0: 1, 2; s = +1: 2, then zero vector
    assert_close(scores.mean_distances, [(3 + 2) / 2 + 1e-6, (2 + 1) / 2 + 1e-6, (1 + 3) / 2 + 1e-6])
    assert scores.distance == pytest.approx(1.5, abs=1e-5)
    assert scores.confidence == pytest.approx(2.0 - 1.5, abs=1e-5)
    assert scores.offset_frames == 0
    bare = shift_distances(np.full((7, 1), 3, np.float32), np.ones((7, 1), np.float32), max_shift=1, padding="none")
    assert np.isnan(bare).sum() == 2 and np.isnan(bare[0, 0]) and np.isnan(bare[-1, -1])
    assert_close(np.nanmean(bare, 0), [2 + 1e-6] * 3)


def test_it_is_the_published_computation() -> None:
    """torch's pad and pairwise_distance, window by window."""
    seen, heard = embeddings(40, size=32, seed=1), embeddings(40, size=32, seed=2)
    padded = torch.nn.functional.pad(torch.from_numpy(heard), (0, 0, 15, 15))
    rows = [
        torch.nn.functional.pairwise_distance(torch.from_numpy(seen[[v]]).repeat(31, 1), padded[v : v + 31])
        for v in range(len(seen))
    ]
    wanted = torch.stack(rows, 1).mean(1)
    found = score_embeddings(seen, heard)
    assert_close(found.mean_distances, wanted.numpy())
    assert found.offset_frames == 15 - int(wanted.argmin())
    assert found.confidence == pytest.approx(float(wanted.median() - wanted.min()), abs=1e-4)


def test_the_epsilon_is_added_to_the_signed_difference() -> None:
    far = shift_distances(np.array([[1e-6]], np.float32), np.zeros((1, 1), np.float32), max_shift=0)
    near = shift_distances(np.array([[-1e-6]], np.float32), np.zeros((1, 1), np.float32), max_shift=0)
    assert far[0, 0] == pytest.approx(2e-6, rel=1e-3) and near[0, 0] == pytest.approx(0, abs=1e-9)


def test_lrw_clips_of_29_frames_have_24_windows_of_which_9_are_real_at_the_largest_shift() -> None:
    assert count_windows(29, 29 * 640, 5) == 24
    assert count_windows(75, 29 * 640 + 639, 5) == 24  # the shorter of both, whole frames
    ones = np.ones((24, 4), np.float32)
    distances = shift_distances(ones, ones)
    padded = distances > 1  # a zero vector is 2 away, another window 0
    assert [int(n) for n in padded.sum(0)] == [abs(s) for s in range(-15, 16)]
    assert_close(distances[padded], np.full(padded.sum(), 2 * (1 + 1e-6)))


def test_a_clip_goes_through_both_networks() -> None:
    table = embeddings(100)
    audio = sound_of(np.arange(10, 85) + 3)  # at each frame sounds what is seen 3 frames later: 3 too early
    scores = sync_of_clip(Planted(table), table[10:85], 75, audio, padding="none")
    assert scores.offset_frames == 3 and len(scores.mean_distances) == 31
    clips = [(table[10:85], 75, audio), (table[10:85], 75, sound_of(np.arange(10, 85)))]
    found = sync_of_clips(Planted(table), clips)
    assert found["offset_frames"].tolist() == [3.0, 0.0]
    assert all(v.shape == (2,) and v.dtype == np.float64 for v in found.values())
    assert found["distance_in_place"][0] > found["distance"][0]
    assert found["distance_in_place"][1] == found["distance"][1]


@pytest.mark.parametrize(
    ("seen", "heard", "message"),
    [
        (embeddings(4), embeddings(5), r"equal shape, got \(4, 8\) and \(5, 8\)"),
        (embeddings(0), embeddings(0), r"\(0, 8\)"),
        (np.full((30, 2), np.nan, np.float32), embeddings(30, size=2), "NaN"),
        (embeddings(20), embeddings(20), "20 windows are too few for shifts of up to 15"),
    ],
)
def test_what_cannot_be_scored_is_refused(seen: Array, heard: Array, message: str) -> None:
    with pytest.raises(InputError, match=message):
        score_embeddings(seen, heard, padding="none")


def test_short_clips_and_sound_of_another_type_are_refused() -> None:
    with pytest.raises(InputError, match="5 frames and 3200 samples is too short to judge: it needs 6 frames"):
        count_windows(5, 3200, 5)
    with pytest.raises(InputError, match=r"got \(640,\) float32"):
        sync_of_clip(Planted(embeddings(9)), embeddings(9), 9, np.zeros(640, np.float32))  # type: ignore[arg-type]
