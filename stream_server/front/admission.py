"""How many sessions this machine holds, found from the time a hop really takes, and who waits for a place."""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Admission", "Full", "capacity"]

ENGINE_SHARE = 0.8
"""Of real time that the engine may be busy: beyond it hops queue behind each other."""
_RETRY_S = 5
_TICKET_LASTS_S = 3 * _RETRY_S
_MOST_WAITING = 1000


@dataclass(frozen=True, slots=True)
class Full:
    """No place now. `position` counts from 1; who sends `ticket` with the next try keeps it."""

    limit: int
    position: int
    ticket: str
    retry_after_s: int = _RETRY_S


@dataclass(slots=True)
class _Waiting:
    seen_s: float
    came_back: bool = False


def capacity(avatar: dict[str, Any], busy_ms_per_hop: float) -> int:
    """Sessions that fit: a hop's time over the time the engine needs for it, at least one.

    `busy_ms_per_hop` is what it needs in service, 0 if nothing was served yet: then the start's measurement counts.
    """
    hop_ms = 1000.0 * float(avatar["hop_frames"]) / float(avatar["fps"])
    step_ms = max(float(avatar["step_ms"]) if busy_ms_per_hop == 0 else busy_ms_per_hop, 0.01)
    return max(1, math.floor(ENGINE_SHARE * hop_ms / step_ms))


class Admission:
    """One for the server. `most` bounds the sessions; 0 leaves it to what is measured."""

    def __init__(self, most: int, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._now_s = now_s
        self._waiting: OrderedDict[str, _Waiting] = OrderedDict()
        self.lock = asyncio.Lock()
        """Held from the decision until the session is counted."""

    def limit(self, avatar: dict[str, Any], busy_ms_per_hop: float) -> int:
        """Sessions at most."""
        return self._most or capacity(avatar, busy_ms_per_hop)

    def decide(self, sessions: int, limit: int, ticket: str | None) -> Full | None:
        """None: come in. First come, first served among those who come back in time with their ticket.

        Who was refused once and is not back yet holds up nobody.
        """
        now_s = self._now_s()
        for old in [t for t, waiting in self._waiting.items() if now_s - waiting.seen_s > _TICKET_LASTS_S]:
            del self._waiting[old]
        known = self._waiting.get(ticket or "")
        ahead = 0
        for waiting in self._waiting.values():
            if waiting is known:
                break
            ahead += waiting.came_back
        if sessions + ahead < limit:
            self._waiting.pop(ticket or "", None)
            return None
        if known is not None:
            known.seen_s, known.came_back = now_s, True
            return Full(limit, ahead + 1, ticket or "")
        given = secrets.token_urlsafe(12)
        self._waiting[given] = _Waiting(now_s)
        if len(self._waiting) > _MOST_WAITING:
            self._waiting.popitem(last=False)
        return Full(limit, ahead + 1, given)
