"""Which hop goes to the model next: in order, at most two in flight, and a new start when it falls behind."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from stream_server.media.windower import Hop

__all__ = ["Flight", "HopSchedule"]


@dataclass(frozen=True, slots=True)
class Flight:
    """A hop in the model's hands."""

    hop: Hop
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
        self.generation = 0
        self.dropped = 0

    @property
    def first_hop(self) -> int | None:
        """Index of the hop that is submitted next; None if none waits."""
        return self._waiting[0][0].index if self._waiting else None

    def push(self, hop: Hop, now_ns: int) -> bool:
        """Queue a hop. True if the model's stream must be opened anew (under `generation`, from `first_hop` on)."""
        self._waiting.append((hop, now_ns))
        if len(self._waiting) <= self._most_waiting:
            return False
        self.restart()
        return True

    def restart(self) -> None:
        """The model's stream is lost or too late: keep the newest hop, and go on from it under a new generation."""
        newest = self._waiting[-1] if self._waiting else None
        self.dropped += max(0, len(self._waiting) - 1) + len(self._in_flight)
        self.clear()
        if newest is not None:
            self._waiting.append(newest)

    def clear(self) -> None:
        """Forget what waits and what is in flight; answers to it are of an older generation."""
        self._waiting.clear()
        self._in_flight.clear()
        self.generation += 1

    def next(self, now_ns: int) -> Flight | None:
        """The hop to submit now, if one waits and the model has room; it counts as in flight."""
        if not self._waiting or len(self._in_flight) >= self._most_in_flight:
            return None
        hop, received_ns = self._waiting.popleft()
        flight = Flight(hop, received_ns, now_ns)
        self._in_flight[hop.index] = flight
        return flight

    def put_back(self, flight: Flight) -> None:
        """It could not be submitted after all."""
        del self._in_flight[flight.hop.index]
        self._waiting.appendleft((flight.hop, flight.received_ns))

    def landed(self, generation: int, hop: int, *, last: bool = True) -> Flight | None:
        """The model answered, for the `last` time or with more to come; None if that is of an older generation."""
        if generation != self.generation:
            return None
        return self._in_flight.pop(hop, None) if last else self._in_flight.get(hop)
