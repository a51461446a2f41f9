"""How far a long run is: a bar on terminals, a plain line every half minute in logs. Both go to stderr."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.console import Console

LINE_EVERY_S = 30.0


class ClipProgress:
    """Progress of clips: done, clips per minute, time left, rejects. Call it, in a `with` block, as `OnProgress`."""

    def __init__(self, title: str, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._title = title
        self._console = console or Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task(title, total=None, status="")
        self._next_line_s = time.monotonic() + LINE_EVERY_S

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def __call__(self, done: int, total: int, rejects: int, clips_per_minute: float, eta_s: float | None, /) -> None:
        """Show this state."""
        status = f"{clips_per_minute:.1f} clips/min, {duration(eta_s)} left, {rejects} rejected"
        if self._console.is_terminal:
            self._bar.update(self._task, completed=done, total=total, status=status)
        elif time.monotonic() >= self._next_line_s:
            self._next_line_s = time.monotonic() + LINE_EVERY_S
            self._console.print(f"{self._title}: {done} of {total} clips, {status}", highlight=False, markup=False)


def duration(seconds: float | None) -> str:
    """A length of time to read at a glance: 42 s, 7 min, 3 h 05 min, 2 d 4 h."""
    if seconds is None:
        return "unknown time"
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 60:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if hours < 48:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{hours // 24} d {hours % 24} h"
