"""Counters of one session: plain integers, read by the timing events and the closing log line."""

from __future__ import annotations

from dataclasses import asdict, dataclass

__all__ = ["SessionCounters"]


@dataclass(slots=True)
class SessionCounters:
    """What happened since the session opened."""

    packets_received: int = 0
    packets_late: int = 0
    packets_stale: int = 0
    packets_concealed: int = 0
    blocks_filled: int = 0
    hops_sent: int = 0
    hops_dropped: int = 0
    frames_received: int = 0
    frames_sent: int = 0
    frames_repeated: int = 0
    frames_dropped: int = 0
    audio_missing: int = 0

    def line(self) -> str:
        """`name=value` of everything that is not zero."""
        return " ".join(f"{name}={value}" for name, value in asdict(self).items() if value)
