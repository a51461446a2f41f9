"""What an engine does for a run, and the engine of one machine: worker processes, shards packed on a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from model.data.clip_types import Problem
from model.data.preparing.clip_task import ClipJob, ClipTask, settle
from model.data.preparing.isolation import IsolatedPool
from model.data.preparing.records import ShardRecord
from model.data.preparing.shards import PackTask, pack_shard

__all__ = ["ClipDone", "Engine", "LocalEngine"]


@dataclass(frozen=True, slots=True)
class ClipDone:
    """A clip whose outcome is staged."""

    index: int
    problem: Problem | None


class Engine(Protocol):
    """Runs clip tasks and packs shards. Used in a `with` block; leaving it early kills what runs."""

    workers: int

    def __enter__(self) -> Self: ...

    def __exit__(
        self, type_: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def stage(self, tasks: Iterator[ClipTask]) -> Iterator[ClipDone]:
        """Run the tasks, drawn as needed; report each once its outcome is staged, in any order."""
        ...

    def pack(self, task: PackTask) -> Callable[[], ShardRecord | None]:
        """Start to pack a shard; the call answers None until it is done, and raises what went wrong."""
        ...


class LocalEngine:
    """Spawned processes on this machine."""

    def __init__(self, job: ClipJob[Any], *, workers: int, timeout_s: float) -> None:
        self.workers = workers
        self._pool: IsolatedPool[ClipTask, Problem | None] = IsolatedPool(job, workers=workers, timeout_s=timeout_s)
        self._packer = ThreadPoolExecutor(1, thread_name_prefix="prepare-pack")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, type_: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.close()
        self._packer.shutdown(cancel_futures=True)  # the shard being written is finished: seconds

    def stage(self, tasks: Iterator[ClipTask]) -> Iterator[ClipDone]:
        """See `Engine`."""
        for task, result in self._pool.map(tasks):
            yield ClipDone(task.index, settle(task, result))

    def pack(self, task: PackTask) -> Callable[[], ShardRecord | None]:
        """See `Engine`."""
        future: Future[ShardRecord] = self._packer.submit(pack_shard, task)
        return lambda: future.result() if future.done() else None
