"""An asyncio event loop whose clock stands still while anything runs, and jumps when everything waits.

Hours of a session pass in seconds, every run the same. Only timers move it: no socket, no thread, no executor.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["VirtualLoop", "run_virtually"]

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time in seconds from 0 on; `now_ns` is the same for what takes a clock in nanoseconds."""

    def __init__(self) -> None:
        self._virtual_s = 0.0
        super().__init__(_NoWaiting(self))

    def time(self) -> float:
        return self._virtual_s

    def now_ns(self) -> int:
        """The same moment."""
        return round(self._virtual_s * 1e9)

    def pass_time(self, seconds: float) -> None:
        """Jump; only the selector calls this."""
        self._virtual_s += seconds


class _NoWaiting(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            raise RuntimeError("everything waits, and no timer would ever end it")
        self._loop.pass_time(timeout)
        return ready


def run_virtually(coroutine: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)
