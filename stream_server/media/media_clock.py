"""When was sample p of the stream received: the clock everything else hangs on.

The master clock is the received sample count. `MediaClock` fits `time = offset + position / rate` to arrivals
whose delay varies: it follows the earliest arrivals and rises slowly, so it tracks the sender's own clock
(a skew of up to 0.2 %) and ignores jitter. `PlayoutDelay` says how much later a sample leaves again.
"""

from __future__ import annotations

from collections import deque

__all__ = ["MediaClock", "PlayoutDelay"]

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000

_RISE_PERCENT, _RISE_LATE_PERCENT, _FALL_PERCENT = 8, 25, 2  # of real time
_ALL_LATE_HOPS = 4
_MOST_ELAPSED_NS = 100 * NS_PER_MS


class MediaClock:
    """Maps stream positions (samples) to monotonic time (ns)."""

    def __init__(self, rate_hz: int, *, fall: float = 0.1, rise_per_s: float = 0.002) -> None:
        self._rate_hz = rate_hz
        self._fall = fall
        self._rise_per_s = rise_per_s
        self._offset_ns: int | None = None
        self._observed_ns = 0

    @property
    def started(self) -> bool:
        """Whether a first sample has been seen."""
        return self._offset_ns is not None

    def start(self, now_ns: int) -> None:
        """Position 0 is now."""
        self._offset_ns = now_ns
        self._observed_ns = now_ns

    def observe(self, end_position: int, now_ns: int) -> None:
        """All samples before `end_position` have arrived by now."""
        estimate_ns = now_ns - self._duration_ns(end_position)
        if self._offset_ns is None:
            self._offset_ns = estimate_ns
        error_ns = estimate_ns - self._offset_ns
        if error_ns < 0:
            self._offset_ns += int(error_ns * self._fall)
        else:
            elapsed_ns = max(0, now_ns - self._observed_ns)
            self._offset_ns += min(error_ns, int(elapsed_ns * self._rise_per_s))
        self._observed_ns = now_ns

    def time_ns(self, position: int) -> int:
        """When the sample at `position` arrives or arrived."""
        if self._offset_ns is None:
            raise ValueError("the clock has not started")
        return self._offset_ns + self._duration_ns(position)

    def _duration_ns(self, position: int) -> int:
        return position * NS_PER_S // self._rate_hz


class PlayoutDelay:
    """How long after its arrival a sample leaves: the look-ahead plus a margin that follows what frames need.

    The margin aims at the 95th percentile of the last 64 hops' lateness plus `safety_ms`, and moves slowly
    (8 % of real time up, 2 % down), so that sound and picture stretch without a jump. While every hop comes too late
    (the last four did) no picture is in time, and it rises by 25 %. No step is longer than 25 ms.
    """

    def __init__(
        self, base_ms: float, margin_ms: float, *, safety_ms: float = 8.0, limits_ms: tuple[float, float] = (5.0, 400.0)
    ) -> None:
        self._base_ns = int(base_ms * NS_PER_MS)
        self._limits_ns = (int(limits_ms[0] * NS_PER_MS), int(limits_ms[1] * NS_PER_MS))
        self._margin_ns = self._clip(int(margin_ms * NS_PER_MS))
        self._safety_ns = int(safety_ms * NS_PER_MS)
        self._lateness_ns: deque[int] = deque(maxlen=64)
        self._moved_ns: int | None = None

    @property
    def total_ns(self) -> int:
        """The present delay."""
        return self._base_ns + self._margin_ns

    def observe(self, lateness_ns: int, now_ns: int) -> None:
        """A hop's frames came `lateness_ns` after their look-ahead had passed."""
        self._lateness_ns.append(lateness_ns)
        elapsed_ns = 0 if self._moved_ns is None else max(0, min(_MOST_ELAPSED_NS, now_ns - self._moved_ns))
        self._moved_ns = now_ns
        ranked = sorted(self._lateness_ns)
        target_ns = self._clip(ranked[(len(ranked) * 95) // 100] + self._safety_ns)
        step_ns = target_ns - self._margin_ns
        all_late = min(list(self._lateness_ns)[-_ALL_LATE_HOPS:]) > self._margin_ns
        rise_percent = _RISE_LATE_PERCENT if all_late else _RISE_PERCENT
        self._margin_ns += max(-elapsed_ns * _FALL_PERCENT // 100, min(elapsed_ns * rise_percent // 100, step_ns))

    def _clip(self, margin_ns: int) -> int:
        return max(self._limits_ns[0], min(self._limits_ns[1], margin_ns))
