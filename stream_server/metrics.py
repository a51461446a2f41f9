"""What is counted: plain integers of one session, and of one worker over all its sessions.

A worker sends its `WorkerTotals` to the front, which makes Prometheus text of them (`front/metrics_page.py`).
Nothing here names a session.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["BUCKETS_MS", "Histogram", "SessionCounters", "WorkerTotals"]

BUCKETS_MS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 80.0, 120.0, 160.0, 230.0, 320.0, 640.0, 1280.0, 5000.0)
"""Upper bounds; what is longer than the last is counted in one more bucket."""


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
    frames_late: int = 0
    frames_repeated: int = 0
    frames_dropped: int = 0
    audio_missing: int = 0

    def line(self) -> str:
        """`name=value` of everything that is not zero."""
        return " ".join(f"{name}={value}" for name, value in asdict(self).items() if value)

    def add(self, other: SessionCounters) -> None:
        """Count what `other` has counted as well."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)


class Histogram:
    """Times by `BUCKETS_MS`, and their sum."""

    __slots__ = ("_counts", "_sum_ms")

    def __init__(self) -> None:
        self._counts = [0] * (len(BUCKETS_MS) + 1)
        self._sum_ms = 0.0

    def observe(self, value_ms: float) -> None:
        """Count one time; a bucket takes in its upper bound."""
        self._counts[bisect_left(BUCKETS_MS, value_ms)] += 1
        self._sum_ms += value_ms

    def to_json(self) -> dict[str, Any]:
        """`counts` of the buckets, one by one (not summed up), and `sum_ms`."""
        return {"counts": list(self._counts), "sum_ms": round(self._sum_ms, 3)}


@dataclass
class WorkerTotals:
    """Since the worker started: frames by stage (`stream_server.media.trace.STAGES`) and hops by the engine's parts.

    `total` is a frame's whole time in the server. `closed` holds the counters of the sessions that are over,
    `opened` how many were opened by their source.
    """

    stages: dict[str, Histogram] = field(default_factory=dict)
    parts: dict[str, Histogram] = field(default_factory=dict)
    total: Histogram = field(default_factory=Histogram)
    closed: SessionCounters = field(default_factory=SessionCounters)
    opened: dict[str, int] = field(default_factory=dict)

    def frame(self, stages_ms: Mapping[str, float]) -> None:
        """A new frame has left after these times."""
        for name, value in stages_ms.items():
            self.stages.setdefault(name, Histogram()).observe(value)
        self.total.observe(sum(stages_ms.values()))

    def hop(self, parts_ms: Mapping[str, float]) -> None:
        """The engine's own account of one hop."""
        for name, value in parts_ms.items():
            self.parts.setdefault(name, Histogram()).observe(value)

    def session_opened(self, source: str) -> None:
        """One more session whose sound is a `microphone`'s or pushed `speech`."""
        self.opened[source] = self.opened.get(source, 0) + 1

    def to_json(self, open_now: SessionCounters) -> dict[str, Any]:
        """All of it as JSON values; `open_now` sums the counters of the sessions that are not over."""
        sums = SessionCounters()
        sums.add(self.closed)
        sums.add(open_now)
        return {
            "stages": {name: histogram.to_json() for name, histogram in self.stages.items()},
            "parts": {name: histogram.to_json() for name, histogram in self.parts.items()},
            "total": self.total.to_json(),
            "counters": asdict(sums),
            "opened": dict(self.opened),
        }
