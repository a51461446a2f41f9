"""How many callers a server carries: one after the other, each in a process of its own, until it is too much."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_server.bench.errors import BenchError
from stream_server.bench.process_usage import TreeUsage, tree_usage
from stream_server.bench.statistics import gaps_ms, jain_index

__all__ = ["MOST_INTERVAL_MS", "CallerProcess", "Level", "LoadRun", "measure_load"]

MOST_INTERVAL_MS = 50.0
"""By default a level holds while the 95th percentile of every caller's intervals between new frames is at most this."""

_SETTLE_S = 3.0
_ANSWER_S = 60.0
_FEWEST_FRAMES = 3


@dataclass(frozen=True, slots=True)
class Level:
    """What `sessions` callers got at the same time. Usage is the server's, None if it is not our own process."""

    sessions: int
    intervals_p50_ms: list[float]
    intervals_p95_ms: list[float]
    fps: list[float]
    skipped: int
    first_frame_s: float
    cpu_cores: float | None
    memory_bytes: int | None
    limit_ms: float = MOST_INTERVAL_MS

    @property
    def worst_p95_ms(self) -> float:
        """Of the caller who fares worst."""
        return max(self.intervals_p95_ms)

    @property
    def fairness(self) -> float:
        """Jain's index of the frame rates."""
        return jain_index(self.fps)

    @property
    def holds(self) -> bool:
        """Whether every caller is served in time."""
        return self.worst_p95_ms <= self.limit_ms


@dataclass(frozen=True, slots=True)
class LoadRun:
    """Levels in order. `refused` is the status that ended the run, if one did; `retry_after_s` what came with it."""

    levels: list[Level]
    refused: int | None = None
    retry_after_s: float | None = None

    @property
    def capacity(self) -> int:
        """The greatest number of callers that were all served in time."""
        return max((level.sessions for level in self.levels if level.holds), default=0)


async def measure_load(
    url: str,
    voice: Path,
    *,
    most: int,
    hold_s: float,
    limit_ms: float = MOST_INTERVAL_MS,
    token: str | None = None,
    server_pid: int | None = None,
) -> LoadRun:
    """Add callers until one is refused, one is served late, or there are `most`.

    Raises:
        BenchError: A caller failed in another way.
    """
    levels: list[Level] = []
    async with contextlib.AsyncExitStack() as stack:
        callers: list[CallerProcess] = []
        while len(callers) < most:
            caller = await stack.enter_async_context(CallerProcess(url, voice, token))
            greeting = await caller.answer()
            if "refused" in greeting:
                return LoadRun(levels, int(greeting["refused"]), greeting["retry_after_s"])
            callers.append(caller)
            level = await _hold(callers, hold_s, float(greeting["first_frame_s"]), server_pid)
            levels.append(dataclasses.replace(level, limit_ms=limit_ms))
            if not levels[-1].holds:
                break
    return LoadRun(levels)


async def _hold(callers: list[CallerProcess], hold_s: float, first_frame_s: float, server_pid: int | None) -> Level:
    await asyncio.sleep(_SETTLE_S)
    await asyncio.gather(*(caller.measure() for caller in callers))
    before = None if server_pid is None else tree_usage(server_pid)
    loop = asyncio.get_running_loop()
    started = loop.time()
    await asyncio.sleep(hold_s)
    elapsed_s = loop.time() - started
    after = None if server_pid is None else tree_usage(server_pid)
    answers = await asyncio.gather(*(caller.measure() for caller in callers))
    intervals = [_intervals_ms(answer["frames_ns"], elapsed_s) for answer in answers]
    return Level(
        sessions=len(callers),
        intervals_p50_ms=[float(np.percentile(gaps, 50)) for gaps in intervals],
        intervals_p95_ms=[float(np.percentile(gaps, 95)) for gaps in intervals],
        fps=[len(answer["frames_ns"]) / elapsed_s for answer in answers],
        skipped=sum(answer["skipped"] for answer in answers),
        first_frame_s=first_frame_s,
        cpu_cores=None if before is None or after is None else _cores(before, after, elapsed_s),
        memory_bytes=None if after is None else after.memory_bytes,
    )


def _intervals_ms(frames_ns: list[int], elapsed_s: float) -> NDArray[np.float64]:
    """Gaps between new frames; a caller who got hardly any waited the whole time."""
    return gaps_ms(frames_ns) if len(frames_ns) >= _FEWEST_FRAMES else np.array([elapsed_s * 1e3])


def _cores(before: TreeUsage, after: TreeUsage, elapsed_s: float) -> float:
    return max(0.0, after.cpu_s - before.cpu_s) / elapsed_s


class CallerProcess:
    """A caller's process."""

    def __init__(self, url: str, voice: Path, token: str | None) -> None:
        self._settings = {"url": url, "voice": str(voice.resolve()), "token": token}
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> CallerProcess:
        command = (sys.executable, "-m", "stream_server.bench.load_session")
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=1 << 22)
        self._tell(json.dumps(self._settings))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(_ANSWER_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    @property
    def pid(self) -> int:
        """Of the caller's process."""
        assert self._process is not None
        return self._process.pid

    async def measure(self) -> dict[str, Any]:
        """What came since the last question."""
        self._tell("measure")
        answer = await self.answer()
        if answer["ended"] is not None:
            raise BenchError(f"a call ended during the measurement: {answer['ended']}")
        return answer

    async def answer(self) -> dict[str, Any]:
        """The process's next line.

        Raises:
            BenchError: It failed, said nothing, or ended.
        """
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(_ANSWER_S):
                line = await self._process.stdout.readline()
        except TimeoutError as error:
            raise BenchError(f"a caller's process said nothing within {_ANSWER_S:g} s") from error
        if not line:
            raise BenchError("a caller's process ended; its error is above")
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise BenchError(f"a caller failed: {answer['failed']}")
        return answer

    def _tell(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
