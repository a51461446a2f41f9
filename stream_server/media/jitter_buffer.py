"""Order for packets that arrive late, twice, out of order or never (RFC 3550 sequence numbers).

A packet in order is handed out at once (no prefetch), so a good network costs no delay. A gap holds back at
most `capacity` later packets; then what is missing is declared lost and everything flows again. Nothing is
remembered from a loss: the delay after it is the delay before it.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["JitterBuffer", "Lost", "Packet"]

_SEQUENCE_MODULO = 1 << 16
_RESTART_DISTANCE = 200  # packets; beyond it the sender has begun anew


@dataclass(frozen=True, slots=True)
class Packet:
    """One received packet; `sequence` is the 16-bit number of its header."""

    sequence: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """A packet given up on."""

    sequence: int


class JitterBuffer:
    """Reorders packets; bounded by `capacity` (full: the oldest gap is given up)."""

    def __init__(self, capacity: int = 4) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self._capacity = capacity
        self._waiting: dict[int, Packet] = {}
        self._next: int | None = None
        self.late = 0
        """Packets that came after they were given up, or twice."""

    @property
    def waiting(self) -> int:
        """Packets held back behind a gap."""
        return len(self._waiting)

    def push(self, packet: Packet) -> list[Packet | Lost]:
        """Take one packet; return what is now in order."""
        if self._next is None:
            self._next = packet.sequence
        distance = _distance(packet.sequence, self._next)
        if abs(distance) >= _RESTART_DISTANCE:
            flushed = self.flush()
            self._next = packet.sequence
            return [*flushed, *self.push(packet)]
        if distance < 0 or packet.sequence in self._waiting:
            self.late += 1
            return []
        self._waiting[packet.sequence] = packet
        ready = self._take_in_order()
        while len(self._waiting) >= self._capacity:
            ready.extend(self.give_up())
        return ready

    def give_up(self) -> list[Packet | Lost]:
        """Declare the oldest missing packet lost, if later ones wait; return what is then in order."""
        if self._next is None or not self._waiting:
            return []
        lost = Lost(self._next)
        self._advance()
        return [lost, *self._take_in_order()]

    def flush(self) -> list[Packet | Lost]:
        """Everything that waits, with its gaps."""
        ready: list[Packet | Lost] = []
        while self._waiting:
            ready.extend(self.give_up())
        return ready

    def _take_in_order(self) -> list[Packet | Lost]:
        ready: list[Packet | Lost] = []
        while self._next is not None and self._next in self._waiting:
            ready.append(self._waiting.pop(self._next))
            self._advance()
        return ready

    def _advance(self) -> None:
        assert self._next is not None
        self._next = (self._next + 1) % _SEQUENCE_MODULO


def _distance(sequence: int, reference: int) -> int:
    """Signed distance on the circle of 16-bit numbers, -32768..32767."""
    return (sequence - reference + _SEQUENCE_MODULO // 2) % _SEQUENCE_MODULO - _SEQUENCE_MODULO // 2
