"""When a worker collects garbage.

A peer's objects refer to each other: what a call leaves (about 2500 objects; no encoder, no pictures: they are given
back when it closes) stays until it is collected. A collection holds up every call of the worker, for longer the more
there are. So it waits until no call is running, except when several have ended meanwhile: a worker that is never idle
must not grow either.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Callable

__all__ = ["MOST_LEFT", "TIDY_S", "Tidier"]

log = logging.getLogger(__name__)

TIDY_S = 1.0
"""After a session ended: its peer's last tasks are over by then."""
MOST_LEFT = 4
"""Ended sessions that may wait for a moment without calls; about a megabyte each."""


class Tidier:
    """`running` says how many sessions there are now. Call it on the event loop."""

    def __init__(self, running: Callable[[], int], collect: Callable[[], int] = gc.collect) -> None:
        self._running = running
        self._collect = collect
        self._left = 0

    def session_ended(self) -> None:
        """Collect what it leaves, soon if nobody is held up by that."""
        self._left += 1
        asyncio.get_running_loop().call_later(TIDY_S, self._tidy)

    def _tidy(self) -> None:
        running = self._running()
        if self._left == 0 or (running and self._left < MOST_LEFT):
            return
        left, self._left = self._left, 0
        started_ns = time.monotonic_ns()
        found = self._collect()
        took_ms = (time.monotonic_ns() - started_ns) / 1e6
        log.debug("collected %d objects of %d sessions in %.1f ms beside %d", found, left, took_ms, running)
