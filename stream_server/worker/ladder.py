"""Which bitrate a viewer's line holds: down soon, up slowly."""

from __future__ import annotations

from collections.abc import Callable

from stream_server.worker.feed import RUNGS

__all__ = ["Ladder"]

_SETTLE_S = 6.0
"""A receiver's estimate begins low whatever the line, and rises with what it gets."""
_DOWN_SHARE, _DOWN_AFTER_S = 0.7, 2.0
_UP_SHARE, _UP_AFTER_S = 1.3, 10.0


class Ladder:
    """One viewer's rung, from its estimates (REMB, several a second)."""

    def __init__(self) -> None:
        self.rung = 0
        self._began_s: float | None = None
        self._low_since_s: float | None = None
        self._high_since_s: float | None = None

    def observe(self, bps: int, bitrate_bps: Callable[[int], int], now_s: float) -> int | None:
        """Take an estimate; the rung to go to, if not the present one."""
        if self._began_s is None:
            self._began_s = now_s
        if now_s - self._began_s < _SETTLE_S:
            return None
        low = bps < _DOWN_SHARE * bitrate_bps(self.rung) and self.rung < len(RUNGS) - 1
        high = self.rung > 0 and bps > _UP_SHARE * bitrate_bps(self.rung - 1)
        self._low_since_s = (self._low_since_s or now_s) if low else None
        self._high_since_s = (self._high_since_s or now_s) if high else None
        if self._low_since_s is not None and now_s - self._low_since_s >= _DOWN_AFTER_S:
            return self._go(self.rung + 1)
        if self._high_since_s is not None and now_s - self._high_since_s >= _UP_AFTER_S:
            return self._go(self.rung - 1)
        return None

    def _go(self, rung: int) -> int:
        self.rung = rung
        self._low_since_s = self._high_since_s = None
        return rung
