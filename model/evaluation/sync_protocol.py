"""SyncNet's protocol: how far apart, how sure and how much out of step are a face and a sound?

Chung and Zisserman, "Out of time: automated lip sync in the wild" (ACCV workshops 2016), as their published code
computes it (joonson/syncnet_python, SyncNetInstance.py), for any pair of networks that put a window of pictures (or of
motion) and a window of sound into one space:

- a window starts at every frame v = 0 .. L - window - 1, with L the smaller of the numbers of frames and of whole 640
  samples; the last window that would fit is not used;
- d(v, s) = || seen(v) - heard(v + s) + 1e-6 ||_2 for s = -15 .. 15; where v + s is no window, heard is a zero vector;
- m(s) = mean of d over v. Distance (Sync-D, LSE-D) = min m; confidence (Sync-C, LSE-C) = median m - min m; offset =
  minus the s of the minimum.

The zero vectors belong to the published figure, and they decide it on short clips: of 29 frames (LRW) 24 windows are
left, so that at a shift of 15 only 9 distances are real. `padding="none"` averages real pairs alone, for critics of
our own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError

__all__ = [
    "MAX_SHIFT_FRAMES",
    "EmbedderPair",
    "Padding",
    "SyncScores",
    "count_windows",
    "score_embeddings",
    "shift_distances",
    "sync_of_clip",
    "sync_of_clips",
]

MAX_SHIFT_FRAMES = 15
SAMPLES_PER_FRAME = 640  # 16 kHz, 25 frames per second
DISTANCE_EPS = 1e-6  # added to every difference, as torch.nn.functional.pairwise_distance does
LEAST_PAIRS = 6  # without padding: real pairs that even the largest shift must have
Padding = Literal["zeros", "none"]
Embeddings = NDArray[np.float32]  # (windows, D)
Seen = TypeVar("Seen", contravariant=True)


class EmbedderPair(Protocol[Seen]):
    """Two networks into one space. Window v of either starts at frame v."""

    @property
    def window_frames(self) -> int:
        """Frames of a window."""

    def see(self, frames: Seen, windows: int) -> Embeddings:
        """(windows, D) of the first so many windows of what is seen."""

    def hear(self, audio: NDArray[np.int16], windows: int) -> Embeddings:
        """(windows, D) of the first so many windows of 16 kHz sound (samples,)."""


@dataclass(frozen=True)
class SyncScores:
    """What the protocol says of one clip."""

    mean_distances: NDArray[np.float64]  # (2 max_shift + 1,) m(s), s rising from -max_shift

    @property
    def distance(self) -> float:
        """Sync-D: the smallest mean distance; lower is better."""
        return float(self.mean_distances.min())

    @property
    def confidence(self) -> float:
        """Sync-C: median of the mean distances minus the smallest; higher is better."""
        return float(np.median(self.mean_distances)) - self.distance

    @property
    def offset_frames(self) -> int:
        """SyncNet's sign: > 0 when the sound comes too early by so many frames, < 0 when it comes too late."""
        return len(self.mean_distances) // 2 - int(self.mean_distances.argmin())

    @property
    def distance_in_place(self) -> float:
        """Mean distance as the clip is, at no shift: unlike `distance` it rises when a clip is out of step."""
        return float(self.mean_distances[len(self.mean_distances) // 2])


def sync_of_clip(
    pair: EmbedderPair[Seen],
    frames: Seen,
    frame_count: int,
    audio: NDArray[np.int16],
    *,
    max_shift: int = MAX_SHIFT_FRAMES,
    padding: Padding = "zeros",
) -> SyncScores:
    """The protocol on one clip: `frame_count` frames at 25 fps beside sound (samples,), int16, 16 kHz.

    Raises:
        InputError: The sound is not 16-bit, or the clip is too short for one window (without padding: for
            `LEAST_PAIRS` pairs at the largest shift).
    """
    if audio.ndim != 1 or audio.dtype != np.int16:
        raise InputError(f"need sound (samples,) int16 at 16 kHz, got {audio.shape} {audio.dtype}")
    windows = count_windows(frame_count, len(audio), pair.window_frames)
    seen, heard = pair.see(frames, windows), pair.hear(audio, windows)
    return score_embeddings(seen, heard, max_shift=max_shift, padding=padding)


def sync_of_clips(
    pair: EmbedderPair[Seen],
    clips: Iterable[tuple[Seen, int, NDArray[np.int16]]],
    *,
    max_shift: int = MAX_SHIFT_FRAMES,
    padding: Padding = "zeros",
) -> dict[str, NDArray[np.float64]]:
    """Per-clip `distance`, `confidence`, `offset_frames` and `distance_in_place`, each (clips,).

    A clip is what is seen, its number of frames, and its sound, as in `sync_of_clip`, which also says what is refused.
    """
    scores = [sync_of_clip(pair, *clip, max_shift=max_shift, padding=padding) for clip in clips]
    return {
        "distance": np.array([s.distance for s in scores], np.float64),
        "confidence": np.array([s.confidence for s in scores], np.float64),
        "offset_frames": np.array([s.offset_frames for s in scores], np.float64),
        "distance_in_place": np.array([s.distance_in_place for s in scores], np.float64),
    }


def count_windows(frames: int, samples: int, window_frames: int) -> int:
    """Windows that the published code takes: one fewer than fit into both picture and sound.

    Raises:
        InputError: None is left.
    """
    length = min(frames, samples // SAMPLES_PER_FRAME)
    if length <= window_frames:
        raise InputError(
            f"a clip of {frames} frames and {samples} samples is too short to judge: it needs {window_frames + 1} "
            f"frames and {(window_frames + 1) * SAMPLES_PER_FRAME} samples"
        )
    return length - window_frames


def score_embeddings(
    seen: Embeddings, heard: Embeddings, *, max_shift: int = MAX_SHIFT_FRAMES, padding: Padding = "zeros"
) -> SyncScores:
    """Scores from embeddings, (windows, D) each; raises as `shift_distances`."""
    return SyncScores(np.nanmean(shift_distances(seen, heard, max_shift=max_shift, padding=padding), axis=0))


def shift_distances(
    seen: Embeddings, heard: Embeddings, *, max_shift: int = MAX_SHIFT_FRAMES, padding: Padding = "zeros"
) -> NDArray[np.float64]:
    """(windows, 2 max_shift + 1) d(v, s), column `max_shift + s`.

    Where v + s is no window, `zeros` measures against the zero vector and `none` gives NaN.

    Raises:
        InputError: The embeddings are not alike in shape, not finite, or too few for `padding="none"`.
    """
    if seen.ndim != 2 or seen.shape != heard.shape or not len(seen) or max_shift < 0:
        raise InputError(f"need embeddings (windows, D) of equal shape, got {seen.shape} and {heard.shape}")
    if not (np.isfinite(seen).all() and np.isfinite(heard).all()):
        raise InputError("embeddings hold NaN or infinity: the networks or their inputs are damaged")
    count = len(seen)
    if padding == "none" and count < max_shift + LEAST_PAIRS:
        raise InputError(
            f"{count} windows are too few for shifts of up to {max_shift} frames: give a clip with at least "
            f"{max_shift + LEAST_PAIRS} windows, or a smaller max_shift"
        )
    picture = seen.astype(np.float64)
    sound = np.pad(heard.astype(np.float64), ((max_shift, max_shift), (0, 0)))
    distances = np.empty((count, 2 * max_shift + 1))
    for column in range(distances.shape[1]):
        difference = picture - sound[column : column + count] + DISTANCE_EPS
        distances[:, column] = np.sqrt(np.square(difference).sum(1))
    if padding == "none":
        partner = np.arange(count)[:, None] + np.arange(-max_shift, max_shift + 1)
        distances[(partner < 0) | (partner >= count)] = np.nan
    return distances
