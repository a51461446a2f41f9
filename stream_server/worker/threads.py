"""The threads on which a media worker encodes, decodes and waits for files."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

__all__ = ["started_executor"]

_START_S = 10.0


def started_executor(threads: int | None = None) -> ThreadPoolExecutor:
    """An executor whose threads all run already, as many as asyncio's own would have (processors + 4, 32 at most).

    The executor's own way is to start one whenever none is idle: so a worker that was busy for a moment, after an hour,
    would grow by a stack and a heap.
    """
    count = min(32, (os.cpu_count() or 1) + 4) if threads is None else threads
    executor = ThreadPoolExecutor(count, thread_name_prefix="worker")
    together = threading.Barrier(count + 1, timeout=_START_S)
    for _ in range(count):
        executor.submit(together.wait)
    together.wait()
    return executor
