"""The engine that stands by: imported, without settings, ready to take a dead one's place. Used by `serve`.

It is looked after like the others: one that ended by itself is started again, each time after a longer wait, and no
more once that has happened `MOST_DEATHS` times without one that lasted, until an engine has died. Without one an engine
takes some seconds longer to come back; that is not worth a core that starts for ever what cannot start.
"""

from __future__ import annotations

import logging
import math
import subprocess
import time
from collections.abc import Callable

__all__ = ["FIRST_WAIT_S", "LASTED_S", "MOST_DEATHS", "Standby"]

log = logging.getLogger(__name__)

FIRST_WAIT_S = 3.0
"""From an engine's start, or a death, to the next one that stands by; doubled with each further death."""
MOST_DEATHS = 5
LASTED_S = 60.0
"""One that stood by for so long was sound: the deaths before it do not count any more."""


class Standby:
    """At most one process that waits. `spawn` starts one; nothing here blocks."""

    def __init__(
        self, spawn: Callable[[], subprocess.Popen[bytes]], now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._spawn = spawn
        self._now_s = now_s
        self._process: subprocess.Popen[bytes] | None = None
        self._start_at_s = math.inf
        self._started_s = 0.0
        self._deaths = 0

    def begin(self) -> None:
        """An engine runs: another one may stand by after a while."""
        self._deaths = 0
        self._start_at_s = self._now_s() + FIRST_WAIT_S

    def take(self) -> subprocess.Popen[bytes] | None:
        """An engine is to start: the process that stands by, if there is one, is the caller's from now on."""
        ready, self._process = self._process, None
        self.begin()
        return ready if ready is not None and ready.poll() is None else None

    def look(self, may_start: Callable[[], bool]) -> None:
        """Look after it, about once a second: start one that is due, if `may_start` says so at that moment."""
        if self._process is not None and (code := self._process.poll()) is not None:
            _close(self._process)
            self._process = None
            self._has_died(f"ended with exit code {code}")
        if self._process is None and self._now_s() >= self._start_at_s and may_start():
            self._started_s = self._now_s()
            try:
                self._process = self._spawn()
            except OSError as error:
                self._has_died(f"cannot be started: {error}")

    def end(self) -> None:
        """Kill it and wait for its end."""
        self._start_at_s = math.inf
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            _close(self._process)
            self._process = None

    def _has_died(self, how: str) -> None:
        now_s = self._now_s()
        self._deaths = 1 if now_s - self._started_s >= LASTED_S else self._deaths + 1
        if self._deaths >= MOST_DEATHS:
            self._start_at_s = math.inf
            log.error("the engine that stood by %s, for the %dth time: none stands by any more", how, self._deaths)
            return
        wait_s = FIRST_WAIT_S * 2 ** (self._deaths - 1)
        self._start_at_s = now_s + wait_s
        log.warning("the engine that stood by %s; another stands by in %.0f s", how, wait_s)


def _close(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
