"""A hop's frames come one by one: what its parts say together."""

from __future__ import annotations

__all__ = ["HopArrival"]


class HopArrival:
    """Of the hop whose parts arrive: how long after the first each came, and how late the latest was for its turn."""

    def __init__(self) -> None:
        self._hop: int | None = None
        self._began_ns = 0
        self.worst_lateness_ns = 0

    def note(self, hop: int, returned_ns: int, lateness_ns: int) -> int:
        """A part of `hop` came, so late for its first frame's turn; returns how long after the hop's first part."""
        if hop != self._hop:
            self._hop, self._began_ns, self.worst_lateness_ns = hop, returned_ns, lateness_ns
        self.worst_lateness_ns = max(self.worst_lateness_ns, lateness_ns)
        return returned_ns - self._began_ns
