"""Speech that an assistant pushes, at whatever pace, as an unbroken stream of 48 kHz blocks on the monotonic clock.

What is pushed waits in a bounded queue; the stream takes 20 ms of it every 20 ms, and silence when there is none.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_server.media.media_clock import MediaClock
from stream_server.media.microphone import Block
from stream_server.media.opus import BLOCK_SAMPLES, RATE_HZ

__all__ = ["SpeechStream", "Utterance"]

_MOST_FILLED_AT_ONCE = 25  # blocks; a longer standstill of this process restarts the clock
_MOST_UTTERANCES = 64


@dataclass(slots=True)
class Utterance:
    """One thing said. Positions are the session's, at 48 kHz; `end` is known once it is closed and all is placed.
    `coming`: how many pieces of its sound, or its end, are under way to the stream: later utterances wait for them."""

    id: str
    accepted: int = 0
    placed: int = 0
    start: int | None = None
    end: int | None = None
    closed: bool = False
    started_told: bool = False
    coming: int = 0


class SpeechStream:
    """Holds up to `capacity_s` of speech that waits to be said."""

    def __init__(self, clock: MediaClock, *, capacity_s: float = 30.0) -> None:
        self._clock = clock
        self._capacity = int(capacity_s * RATE_HZ)
        self._waiting: deque[tuple[Utterance, NDArray[np.int16]]] = deque()
        self._held = 0
        self._position = 0
        self.utterances: deque[Utterance] = deque()
        """Said, being said and to be said, in order; the playback takes away what is over."""

    @property
    def room_samples(self) -> int:
        """Samples that may be pushed now."""
        return self._capacity - self._held

    @property
    def has_place(self) -> bool:
        """Whether another utterance may begin."""
        return len(self.utterances) < _MOST_UTTERANCES

    def begin(self, utterance_id: str) -> Utterance:
        """A new utterance, after all others."""
        utterance = Utterance(utterance_id)
        self.utterances.append(utterance)
        return utterance

    def has_turn(self, utterance: Utterance) -> bool:
        """Whether nothing of earlier utterances is under way: sound that is pushed now is said after theirs."""
        for other in self.utterances:
            if other is utterance:
                return True
            if other.coming and not other.closed:
                return False
        return True

    def push(self, utterance: Utterance, samples: NDArray[np.int16]) -> bool:
        """Append sound (48 kHz) to an utterance; False if it is over or was interrupted: the sound is dropped.

        Raises:
            ValueError: It does not fit; see `room_samples`.
        """
        if utterance.closed or utterance not in self.utterances:
            return False
        if len(samples) > self.room_samples:
            raise ValueError(f"{len(samples)} samples do not fit into {self.room_samples}")
        if len(samples):
            self._waiting.append((utterance, samples))
            self._held += len(samples)
            utterance.accepted += len(samples)
        return True

    def close(self, utterance: Utterance) -> None:
        """No more sound will come for it."""
        utterance.closed = True
        self._note_end(utterance)

    def fill(self, now_ns: int) -> list[Block]:
        """The blocks whose time has begun; call every 20 ms or so."""
        if not self._clock.started:
            self._clock.start(now_ns)
        blocks: list[Block] = []
        while self._clock.time_ns(self._position) <= now_ns:
            if len(blocks) >= _MOST_FILLED_AT_ONCE:
                self._clock.start(now_ns - self._position * 1_000_000_000 // RATE_HZ)
                break
            samples = self._take()
            blocks.append(Block(self._position, samples))
            self._position += len(samples)
        return blocks

    def interrupt(self, cut_at: int, resume_at: int) -> list[Utterance]:
        """Forget what is not over at `cut_at`, and go on with silence from `resume_at` on; the utterances cut."""
        cut = [u for u in self.utterances if u.end is None or u.end > cut_at]
        self.utterances = deque(u for u in self.utterances if u not in cut)
        for utterance in cut:
            utterance.closed = True
        self._waiting.clear()
        self._held = 0
        self._position = resume_at
        return cut

    def _take(self) -> NDArray[np.int16]:
        block = np.zeros(BLOCK_SAMPLES, np.int16)
        filled = 0
        while filled < BLOCK_SAMPLES and self._waiting:
            utterance, samples = self._waiting.popleft()
            count = min(len(samples), BLOCK_SAMPLES - filled)
            block[filled : filled + count] = samples[:count]
            if count < len(samples):
                self._waiting.appendleft((utterance, samples[count:]))
            if utterance.start is None:
                utterance.start = self._position + filled
            filled += count
            self._held -= count
            utterance.placed += count
            self._note_end(utterance, self._position + filled)
        return block

    def _note_end(self, utterance: Utterance, position: int | None = None) -> None:
        if utterance.closed and utterance.placed == utterance.accepted and utterance.end is None:
            utterance.end = self._position if position is None else position
            if utterance.start is None:
                utterance.start = utterance.end
