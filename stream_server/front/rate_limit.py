"""How often one caller may ask for something dear."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["RateLimit"]

_MOST_CALLERS = 10_000


class RateLimit:
    """A bucket for each caller: `per_minute` in all, as many at once as fit into a quarter of a minute."""

    def __init__(self, per_minute: int, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._rate = per_minute / 60.0
        self._burst = max(1.0, per_minute / 4)
        self._now_s = now_s
        self._held: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> int | None:
        """None: go on. Otherwise the seconds after which to try again."""
        now_s = self._now_s()
        tokens, seen_s = self._held.pop(caller, (self._burst, now_s))
        tokens = min(self._burst, tokens + (now_s - seen_s) * self._rate)
        self._held[caller] = (tokens - 1 if tokens >= 1 else tokens, now_s)
        if len(self._held) > _MOST_CALLERS:
            self._held.popitem(last=False)
        return None if tokens >= 1 else max(1, round((1 - tokens) / self._rate))
