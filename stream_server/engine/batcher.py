"""Takes what waits for the model: as many hops as belong together in one step, never two of one session."""

from __future__ import annotations

import queue
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Change", "Close", "HopTask", "Inbox", "Load", "Open", "Ready", "Rewind", "Task"]


@dataclass(frozen=True, slots=True)
class Load:
    """Have an avatar ready; answered when it is."""

    connection: Any
    request: int
    avatar: str


@dataclass(frozen=True, slots=True)
class Open:
    """Begin a session's stream, or begin it anew under another generation, with hop `hop`."""

    connection: Any
    session: str
    generation: int
    seed: int
    hop: int
    avatar: str
    controls: dict[str, Any]
    rewindable: bool


@dataclass(frozen=True, slots=True)
class Ready:
    """From the thread that loads: what `stream` waited for is there, or in words why it cannot be had."""

    connection: Any
    session: str
    stream: Any
    shown: Any = None
    controls: Any = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """Other controls or another avatar for a session; either may be None. Answered."""

    connection: Any
    request: int
    session: str
    controls: dict[str, Any] | None
    avatar: str | None


@dataclass(frozen=True, slots=True)
class Rewind:
    """Go back to what a session's stream was before hop `hop`; what follows is of another generation."""

    connection: Any
    session: str
    generation: int
    hop: int


@dataclass(frozen=True, slots=True)
class Close:
    """Forget a session; `session` None means all of this connection."""

    connection: Any
    session: str | None


@dataclass(frozen=True, slots=True)
class HopTask:
    """One hop of one session's sound."""

    connection: Any
    session: str
    generation: int
    hop: int
    slot: int
    samples: NDArray[np.float32]


Task = Load | Open | Ready | Change | Rewind | Close | HopTask


class Inbox:
    """Tasks in order of arrival. Bounded: when full the socket's reader waits, and so does its sender."""

    def __init__(self, capacity: int = 64) -> None:
        self._queue: queue.Queue[Task | None] = queue.Queue(capacity)
        self._held: Task | None = None

    def put(self, task: Task | None) -> None:
        """Add a task; None asks the taker to stop."""
        self._queue.put(task)

    def take(self, most_hops: int, patience_s: float = 0.0) -> list[Task] | None:
        """Wait for work. A list is one task that is no hop, or up to `most_hops` hops of different sessions.

        A batch that is not full waits up to `patience_s` after its first hop for more.
        """
        first = self._held if self._held is not None else self._queue.get()
        self._held = None
        if first is None:
            return None
        if not isinstance(first, HopTask):
            return [first]
        batch: list[Task] = [first]
        sessions = {(id(first.connection), first.session)}
        until = time.monotonic() + patience_s
        while len(batch) < most_hops:
            task = self._next(until)
            if task is None:
                break
            if not isinstance(task, HopTask) or (id(task.connection), task.session) in sessions:
                self._held = task
                break
            batch.append(task)
            sessions.add((id(task.connection), task.session))
        return batch

    def _next(self, until: float) -> Task | None:
        """The next task, waiting for it if there is time; a wish to stop stays in the queue."""
        left = until - time.monotonic()
        try:
            task = self._queue.get(timeout=left) if left > 0 else self._queue.get_nowait()
        except queue.Empty:
            return None
        if task is None:
            self._queue.put(None)
        return task
