"""Where each frame's time went. Stages are differences of successive stamps, so they sum to the total."""

from __future__ import annotations

from collections import deque
from itertools import pairwise

from stream_server.events import TimingEvent
from stream_server.media.frame_queue import TimedFrame
from stream_server.media.media_clock import NS_PER_MS, NS_PER_S
from stream_server.metrics import SessionCounters, WorkerTotals

__all__ = ["STAGES", "TraceMeter", "stages_ns"]

STAGES = ("lookahead", "submit", "queue", "engine", "return", "pace", "hold")
"""From a frame's middle heard: its hop complete; submitted; begun; finished; back at the worker; the turn of the
hop's earlier frames over; sent. Look-ahead and pace together are the algorithmic delay."""


def stages_ns(frame: TimedFrame, heard_ns: int, sent_ns: int) -> dict[str, int]:
    """Nanoseconds in each stage; their sum is `sent_ns - heard_ns`."""
    paced_ns = min(sent_ns, frame.stamps_ns[-1] + frame.pace_ns)
    stamps = (heard_ns, *frame.stamps_ns, paced_ns, sent_ns)
    return {name: after - before for name, (before, after) in zip(STAGES, pairwise(stamps), strict=True)}


class TraceMeter:
    """Counts frames into the worker's totals and says once a second how the last one fared."""

    def __init__(self, algorithmic_ms: float, totals: WorkerTotals, *, every_ns: int = NS_PER_S) -> None:
        self._algorithmic_ms = algorithmic_ms
        self._totals = totals
        self._every_ns = every_ns
        self._sent_ns: deque[int] = deque(maxlen=256)
        self._last: tuple[TimedFrame, int, int] | None = None
        self._reported_ns: int | None = None

    def sent(self, frame: TimedFrame, heard_ns: int, now_ns: int) -> None:
        """A new frame leaves now; its middle was heard at `heard_ns`."""
        self._last = (frame, heard_ns, now_ns)
        self._sent_ns.append(now_ns)
        stages = stages_ns(frame, heard_ns, now_ns)
        self._totals.frame({name: value / NS_PER_MS for name, value in stages.items()})
        if frame.closes_hop:  # it speaks for the hop
            self._totals.hop(frame.engine_ms)

    def report(self, now_ns: int, counters: SessionCounters, dropped: int) -> TimingEvent | None:
        """A timing event if a second has passed since the last."""
        if self._reported_ns is None:
            self._reported_ns = now_ns
        if self._last is None or now_ns - self._reported_ns < self._every_ns:
            return None
        recent = sum(1 for sent_ns in self._sent_ns if sent_ns > self._reported_ns)
        fps = recent * NS_PER_S / (now_ns - self._reported_ns)
        self._reported_ns = now_ns
        frame, heard_ns, sent_ns = self._last
        stages = stages_ns(frame, heard_ns, sent_ns)
        return TimingEvent(
            frame=frame.index,
            total_ms=(sent_ns - heard_ns) / NS_PER_MS,
            algorithmic_ms=self._algorithmic_ms,
            stages_ms={name: value / NS_PER_MS for name, value in stages.items()},
            engine_ms=dict(frame.engine_ms),
            fps=round(fps, 2),
            repeated=counters.frames_repeated,
            dropped=dropped,
            concealed=counters.packets_concealed + counters.blocks_filled,
        )
