"""The same work on Ray Data: clips analysed by a pool of actors, shards packed as Ray tasks.

Output, staging included, lies on a file system that every node sees under the same path; only positions and short
results travel through Ray. Each actor runs its clips in an isolated process, as the local engine does: a crash or a
hang costs one clip and not the actor. Should an actor be lost itself (its node, or Ray's memory monitor), Ray Data
runs its clips again elsewhere; a clip that loses its actor twice in one run becomes a reject.
"""

from __future__ import annotations

import importlib.util
import itertools
import logging
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from model.config import config_from_json, config_to_json
from model.data.clip_types import ClipSource, Problem
from model.data.preparing.clip_task import ClipJob, ClipTask, settle
from model.data.preparing.engines import ClipDone
from model.data.preparing.isolation import Failure, IsolatedPool
from model.data.preparing.recipe import versions_now
from model.data.preparing.records import ShardRecord
from model.data.preparing.shards import PackTask, pack_shard
from model.data.preparing.staging import read_outcome
from model.errors import DataError

__all__ = ["RayEngine"]

OBJECT_STORE_BYTES = 128 * 2**20  # positions and short results only
WAVE_CLIPS = 4096  # per data set: bounds what lies in the object store
BLOCK_CLIPS = 8
ATTEMPTS = 2


class RayEngine:
    """Ray Data, on this machine or on a cluster."""

    def __init__(self, job: ClipJob[Any], *, workers: int, timeout_s: float, address: str | None) -> None:
        """Joins `address`, or a Ray that the process has already joined, or starts one of `workers` processors.

        Raises:
            DataError: Ray Data is not installed, or there is no cluster at `address`.
        """
        if importlib.util.find_spec("ray") is None or importlib.util.find_spec("pyarrow") is None:
            raise DataError("the ray engine needs Ray Data: pip install -e .[cluster], or use the local engine")
        self.workers = workers
        self._job = job
        self._timeout_s = timeout_s
        self._address = address
        self._started = False

    def __enter__(self) -> Self:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # Ray Data's own actors make its core complain
        import ray
        import ray.data

        logging.getLogger("ray.data").setLevel(logging.ERROR)
        ray.data.DataContext.get_current().enable_progress_bars = False
        if not ray.is_initialized():
            try:
                ray.init(**self._init_options())
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise DataError(f"cannot join Ray at {self._address or 'this machine'}: {error}") from error
            self._started = True
        return self

    def __exit__(
        self, type_: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import ray

        if self._started:
            ray.shutdown()

    def _init_options(self) -> dict[str, Any]:
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self._address is not None:
            return {"address": self._address, **quiet}
        local = {"num_cpus": self.workers, "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
        return {"address": "local", **local, **quiet}

    def stage(self, tasks: Iterator[ClipTask]) -> Iterator[ClipDone]:
        """See `Engine`. Clips go in waves, so that millions of them never wait in Ray at once."""
        wave_clips = max(WAVE_CLIPS, 64 * self.workers)
        run_id = secrets.token_hex(4)
        while wave := list(itertools.islice(tasks, wave_clips)):
            yield from self._stage_wave(wave, run_id)

    def _stage_wave(self, wave: list[ClipTask], run_id: str) -> Iterator[ClipDone]:
        import ray

        rows = [
            {"index": task.index, "source": config_to_json(task.source), "staged": str(task.staged)} for task in wave
        ]
        blocks = min(len(rows), max(4 * self.workers, -(-len(rows) // BLOCK_CLIPS)))
        actor: Any = _ClipActor
        data = ray.data.from_items(rows, override_num_blocks=blocks).map(
            actor,
            fn_constructor_args=(self._job, self._timeout_s, run_id, versions_now()),
            compute=ray.data.ActorPoolStrategy(size=min(self.workers, blocks)),
            num_cpus=1,
        )
        try:
            for row in data.iter_rows():
                yield ClipDone(int(row["index"]), Problem(row["problem"]) if row["problem"] else None)
        except ray.exceptions.RayError as error:
            raise DataError(f"Ray gave up: {_last_line(error)}") from error

    def pack(self, task: PackTask) -> Callable[[], ShardRecord | None]:
        """See `Engine`."""
        import ray

        reference = ray.remote(num_cpus=0, max_retries=1)(pack_shard).remote(task)  # beside the actors, which hold all

        def answer() -> ShardRecord | None:
            if not ray.wait([reference], timeout=0)[0]:
                return None
            try:
                record: ShardRecord = ray.get(reference)
            except ray.exceptions.RayError as error:
                raise DataError(f"shard {task.shard} cannot be packed: {_last_line(error)}") from error
            return record

        return answer


class _ClipActor:
    """Lives in a Ray worker; hands clips to one isolated process."""

    def __init__(self, job: ClipJob[Any], timeout_s: float, run_id: str, versions: dict[str, str]) -> None:
        here = versions_now()
        if here != versions:
            raise DataError(f"a node of the cluster has other software: {here}, wanted {versions}")
        self._pool: IsolatedPool[ClipTask, Problem | None] = IsolatedPool(job, workers=1, timeout_s=timeout_s)
        self._run_id = run_id

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        source = config_from_json(ClipSource, row["source"])
        task = ClipTask(index=int(row["index"]), source=source, staged=Path(row["staged"]))
        result = self._run(task)
        return {"index": task.index, "problem": result.value if result else ""}

    def _run(self, task: ClipTask) -> Problem | None:
        if task.staged.is_file():  # Ray runs a block again from its start when the actor is lost
            return read_outcome(task.staged).problem
        if not self._begin(task):
            return settle(task, Failure(Problem.CRASHED, f"its Ray worker was lost, {ATTEMPTS} times in a row"))
        _, result = next(self._pool.map([task]))
        return settle(task, result)

    def _begin(self, task: ClipTask) -> bool:
        """Leave a mark for this attempt beside the staged outcome; False when there were enough attempts."""
        for attempt in range(ATTEMPTS):
            with suppress(FileExistsError):
                task.staged.with_suffix(f".{self._run_id}-{attempt}").touch(exist_ok=False)
                return True
        return False


def _last_line(error: Exception) -> str:
    """Ray's errors carry the traceback of the remote side; the last line says what it was."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
