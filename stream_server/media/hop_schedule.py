"""Which hop goes to the model next: in order, at most two in flight, and a new start when it falls behind."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from stream_server.media.windower import Hop

__all__ = ["Flight", "HopSchedule"]


@dataclass(frozen=True, slots=True)
class Flight:
    """A hop in the model's hands. `stream_hop` counts from the start of its generation."""

    hop: Hop
    stream_hop: int
    received_ns: int
    submitted_ns: int


class HopSchedule:
    """Bounded queue of hops. When more than `most_waiting` wait, all but the newest are dropped, the
    generation goes up, and the model's stream begins anew: it must never see a hole in the sound."""

    def __init__(self, *, most_in_flight: int = 2, most_waiting: int = 6) -> None:
        self._most_in_flight = most_in_flight
        self._most_waiting = most_waiting
        self._waiting: deque[tuple[Hop, int]] = deque()
        self._in_flight: dict[int, Flight] = {}
        self._base_hop = 0
        self.generation = 0
        self.dropped = 0

    def push(self, hop: Hop, now_ns: int) -> bool:
        """Queue a hop. True if the model's stream must be opened anew (under `generation`)."""
        self._waiting.append((hop, now_ns))
        if len(self._waiting) <= self._most_waiting:
            return False
        self.dropped += len(self._waiting) - 1 + len(self._in_flight)
        newest = self._waiting[-1]
        self._waiting.clear()
        self._waiting.append(newest)
        self._in_flight.clear()
        self._base_hop = newest[0].index
        self.generation += 1
        return True

    def next(self, now_ns: int) -> Flight | None:
        """The hop to submit now, if one waits and the model has room; it counts as in flight."""
        if not self._waiting or len(self._in_flight) >= self._most_in_flight:
            return None
        hop, received_ns = self._waiting.popleft()
        flight = Flight(hop, hop.index - self._base_hop, received_ns, now_ns)
        self._in_flight[flight.stream_hop] = flight
        return flight

    def put_back(self, flight: Flight) -> None:
        """It could not be submitted after all."""
        del self._in_flight[flight.stream_hop]
        self._waiting.appendleft((flight.hop, flight.received_ns))

    def landed(self, generation: int, stream_hop: int) -> Flight | None:
        """The model answered; None if the answer belongs to an older generation."""
        if generation != self.generation:
            return None
        return self._in_flight.pop(stream_hop, None)

    def absolute_frame(self, stream_frame: int, hop_frames: int) -> int:
        """Frame index of the session for a frame index of the present generation."""
        return self._base_hop * hop_frames + stream_frame
