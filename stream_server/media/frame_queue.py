"""What waits to leave: video frames by index and sound by position. Both are bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["FrameQueue", "SoundQueue", "TimedFrame"]

_MOST_LATE = 4
_OLDEST_LATE = 12  # frames behind; about half a second at 25 fps, beyond what the playout delay can make up


@dataclass(frozen=True, slots=True)
class TimedFrame:
    """Frame `index` (it belongs to samples `[640 index, 640 (index + 1))`) and where its time went so far.

    `stamps_ns` holds monotonic stamps in order: received, submitted, started, finished, returned. `pace_ns` is
    the time after that which the earlier frames of the same hop still take to show. `engine_ms` is what its hop had
    cost when it was made, all of it if the frame `closes_hop`. `motion` (55,): 52 ARKit coefficients and the head's
    yaw, pitch and roll.
    """

    index: int
    image: NDArray[np.uint8]  # (size * 3 // 2, size) I420
    stamps_ns: tuple[int, ...] = ()
    engine_ms: Mapping[str, float] = field(default_factory=dict)
    pace_ns: int = 0
    motion: NDArray[np.float32] | None = None
    closes_hop: bool = False


class FrameQueue:
    """Frames by index. When full the oldest is dropped; frames older than one taken are dropped.

    The last few that came after their turn are kept for who would show no new picture for long (`take_late`).
    """

    def __init__(self, capacity: int = 16) -> None:
        self._capacity = capacity
        self._frames: dict[int, TimedFrame] = {}
        self._late: deque[TimedFrame] = deque()
        self._oldest_wanted = 0
        self._newest_taken = -1
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._frames) + len(self._late)

    def push(self, frame: TimedFrame) -> None:
        """Add a frame; one whose time has passed is dropped and counted, unless `take_late` is asked for it."""
        if frame.index < self._oldest_wanted:
            self._push_late(frame)
            return
        self._frames[frame.index] = frame
        while len(self._frames) > self._capacity:
            del self._frames[min(self._frames)]
            self.dropped += 1

    def drop_from(self, index: int) -> None:
        """Forget frames from `index` on, and late ones: others will come in their place."""
        for later in [i for i in self._frames if i >= index]:
            del self._frames[later]
        self._drop_late(len(self._late))

    @property
    def next_index(self) -> int:
        """The frame after the last one whose turn has been."""
        return self._oldest_wanted

    def has(self, index: int) -> bool:
        """Whether frame `index` waits here."""
        return index in self._frames

    def take(self, index: int) -> TimedFrame | None:
        """Frame `index` or None; from now on older ones are late."""
        frame = self._frames.pop(index, None)
        self._oldest_wanted = max(self._oldest_wanted, index + 1)
        for old in sorted(i for i in self._frames if i < self._oldest_wanted):
            self._push_late(self._frames.pop(old))
        if frame is not None:
            self._drop_late(len(self._late))
            self._newest_taken = frame.index
        return frame

    def take_late(self) -> TimedFrame | None:
        """The oldest late frame that is newer than all taken and at most twelve behind, or None."""
        self._drop_late(sum(late.index < self._oldest_wanted - _OLDEST_LATE for late in self._late))
        if not self._late:
            return None
        frame = self._late.popleft()
        self._newest_taken = frame.index
        return frame

    def _push_late(self, frame: TimedFrame) -> None:
        newest = self._late[-1].index if self._late else self._newest_taken
        if frame.index <= newest:
            self.dropped += 1
            return
        self._late.append(frame)
        self._drop_late(len(self._late) - _MOST_LATE)

    def _drop_late(self, count: int) -> None:
        for _ in range(count):
            self._late.popleft()
            self.dropped += 1


class SoundQueue:
    """The last `capacity_samples` of a contiguous stream, readable by position; older sound is overwritten."""

    def __init__(self, capacity_samples: int) -> None:
        self._ring = np.zeros(capacity_samples, np.int16)
        self._end = 0

    @property
    def end(self) -> int:
        """Position after the newest sample."""
        return self._end

    def push(self, samples: NDArray[np.int16]) -> None:
        """Append samples."""
        kept = samples[-len(self._ring) :]
        start = self._end + len(samples) - len(kept)
        where = np.arange(start, start + len(kept)) % len(self._ring)
        self._ring[where] = kept
        self._end += len(samples)

    def rewind(self, position: int, end: int, *, fade: int) -> None:
        """Fade to silence within `fade` samples from `position` on; the next sample pushed belongs to `end`.

        What lies between is silent. Positions before the present end only, and `position <= end`.
        """
        last = max(self._end, end)
        where = np.arange(position, last) % len(self._ring)
        gain = np.clip(1.0 - np.arange(len(where), dtype=np.float32) / max(1, fade), 0.0, 1.0)
        self._ring[where] = (self._ring[where] * gain).astype(np.int16)
        self._end = max(end, position)

    def read(self, position: int, count: int) -> tuple[NDArray[np.int16], int]:
        """`count` samples from `position` on, and how many of them were missing (they are silent)."""
        where = np.arange(position, position + count)
        held = (where < self._end) & (where >= max(0, self._end - len(self._ring)))
        samples = np.where(held, self._ring[where % len(self._ring)], np.int16(0)).astype(np.int16)
        return samples, int(count - held.sum())
