"""A call over a bad network, or with processes that stop: what freezes, and do sound and picture find together again?

Each fault has its own call through a `UdpRelay`: calm, bad, and calm again.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_server.bench.caller import Caller
from stream_server.bench.errors import BenchError
from stream_server.bench.latency import CallMeasures, measure_call
from stream_server.bench.process_usage import process_usages
from stream_server.bench.udp_relay import Counts, Impairment, UdpRelay
from stream_server.bench.voice import Microphone

__all__ = [
    "FAULTS",
    "MOST_SHIFT_MS",
    "PROCESS_FAULTS",
    "Fault",
    "FaultMeasures",
    "Phases",
    "ProcessFault",
    "judge",
    "judge_moments",
    "run_fault",
    "run_process_fault",
]

MOST_SHIFT_MS = 10.0
"""Sound against picture, after a fault and before it: promised to differ by no more (medians)."""

_SETTLE_S = 4.0
_TAIL_S = 1.0  # a fault's freeze may end this long after it


@dataclass(frozen=True, slots=True)
class Fault:
    """A bad network and the longest freeze promised in it."""

    title: str
    impairment: Impairment
    most_freeze_ms: float


FAULTS = {
    "loss_1": Fault("1 % of packets lost", Impairment(loss=0.01), 200.0),
    "loss_5": Fault("5 % of packets lost", Impairment(loss=0.05), 250.0),
    "loss_10": Fault("10 % of packets lost", Impairment(loss=0.10), 350.0),
    "reorder": Fault("5 % of packets 30 ms late, overtaken", Impairment(reorder=0.05, reorder_ms=30.0), 200.0),
    "gap": Fault("nothing passes for 300 ms", Impairment(gap_ms=300.0, gap_after_ms=1000.0), 450.0),
    "jitter": Fault("0 to 50 ms of jitter", Impairment(jitter_ms=50.0), 200.0),
    "duplicates": Fault("10 % of packets doubled", Impairment(duplicate=0.10), 200.0),
}
"""By name; each both ways."""


@dataclass(frozen=True, slots=True)
class ProcessFault:
    """A process that stops, and what is promised: the longest time without a frame, and without a new one."""

    title: str
    most_freeze_ms: float
    most_still_ms: float
    bad_s: float


_PAUSE_S = 2.0
PROCESS_FAULTS = {
    "engine_pause": ProcessFault("the engine stands still for 2 s", 200.0, 3000.0, 10.0),
    "engine_kill": ProcessFault("the engine is killed", 200.0, 15_000.0, 25.0),
    "caller_freeze": ProcessFault("the caller stands still for 2 s", 2450.0, 2700.0, 10.0),
}
"""By name, on one machine. An engine that is started again loads its model anew; the caller hears itself meanwhile."""


@dataclass(frozen=True, slots=True)
class Phases:
    """Seconds of a fault's call: calm, bad, time to recover (not judged), calm."""

    before_s: float = 6.0
    bad_s: float = 10.0
    recovery_s: float = 4.0
    after_s: float = 6.0


@dataclass(frozen=True, slots=True)
class FaultMeasures:
    """Freezes are the longest times without a frame, stills those without a *new* one: a late model repeats its last.
    A/V offsets are medians, by arrival or as played, `av_least_ms` and `av_most_ms` the extremes of running medians of
    three after the fault; latencies are None where nobody knows when a frame was spoken. All in ms.
    """

    freeze_before_ms: float
    freeze_ms: float
    still_before_ms: float
    still_ms: float
    fps: float
    av_before_ms: float
    av_after_ms: float
    av_least_ms: float
    av_most_ms: float
    latency_before_ms: float | None
    latency_after_ms: float | None
    to_server: Counts
    to_caller: Counts

    @property
    def shift_ms(self) -> float:
        """How far sound and picture have moved apart."""
        return abs(self.av_after_ms - self.av_before_ms)


async def run_fault(
    url: str,
    voice: NDArray[np.int16],
    impairment: Impairment,
    *,
    token: str | None = None,
    phases: Phases | None = None,
    seed: int = 0,
) -> FaultMeasures:
    """One call to a server on this machine, over a bad network.

    Raises:
        BenchError: The call ended or cannot be measured.
    """

    async def begin(relay: UdpRelay) -> None:
        relay.impair(impairment)

    return await _call(url, voice, begin, phases or Phases(), token, seed)


async def run_process_fault(
    url: str, voice: NDArray[np.int16], name: str, *, server_pid: int, token: str | None = None
) -> FaultMeasures:
    """One call to the server whose first process is `server_pid`, with one of `PROCESS_FAULTS`.

    Raises:
        BenchError: The call ended or cannot be measured, or the server has no engine.
    """

    async def begin(_relay: UdpRelay) -> None:
        if name == "caller_freeze":
            time.sleep(_PAUSE_S)  # noqa: ASYNC251 - the caller is this process: its loop stands still
            return
        engine = _engine_of(server_pid)
        if name == "engine_kill":
            os.kill(engine, signal.SIGKILL)
            return
        os.kill(engine, signal.SIGSTOP)
        try:
            await asyncio.sleep(_PAUSE_S)
        finally:
            os.kill(engine, signal.SIGCONT)

    return await _call(url, voice, begin, Phases(bad_s=PROCESS_FAULTS[name].bad_s), token, 0)


def _engine_of(server_pid: int) -> int:
    for one in process_usages(server_pid):
        if one.role == "engine":
            return one.pid
    raise BenchError(f"process {server_pid} has no engine: is it the server's first process?")


async def _call(
    url: str,
    voice: NDArray[np.int16],
    begin: Callable[[UdpRelay], Awaitable[None]],
    phases: Phases,
    token: str | None,
    seed: int,
) -> FaultMeasures:
    relay = UdpRelay(seed=seed)
    await relay.open()
    try:
        microphone = Microphone(voice)
        through = {"offer_through": relay.offer, "answer_through": relay.answer}
        async with Caller(url, microphone, token=token, **through) as caller:
            await caller.call()
            await caller.first_frame()
            await caller.listen(_SETTLE_S + phases.before_s)
            relay.impair(Impairment())  # counts begin
            began_ns = time.monotonic_ns()
            await begin(relay)
            await caller.listen(phases.bad_s - (time.monotonic_ns() - began_ns) / 1e9)
            counts = relay.impair(Impairment())
            await caller.listen(phases.recovery_s + phases.after_s)
            measured = measure_call(caller, settle_s=_SETTLE_S)
    finally:
        relay.close()
    return judge(measured, began_ns, phases, counts)


def judge(measured: CallMeasures, began_ns: int, phases: Phases, counts: tuple[Counts, Counts]) -> FaultMeasures:
    """Split a call at the moment its fault began.

    Raises:
        BenchError: No frame came in one of the calm phases.
    """
    began_s = (began_ns - measured.first_ns) / 1e9
    at_s = measured.shown_s - began_s
    found = judge_moments(
        measured.came_s - began_s, at_s, phases, counts, offset_at_s=at_s, offset_ms=measured.av_offset_ms
    )
    before, after = at_s < 0, at_s >= phases.bad_s + phases.recovery_s
    return dataclasses.replace(
        found,
        latency_before_ms=float(np.median(measured.latency_ms[before])),
        latency_after_ms=float(np.median(measured.latency_ms[after])),
    )


def judge_moments(
    came_s: NDArray[np.float64],
    new_s: NDArray[np.float64],
    phases: Phases,
    counts: tuple[Counts, Counts],
    *,
    offset_at_s: NDArray[np.float64],
    offset_ms: NDArray[np.float64],
) -> FaultMeasures:
    """The same from moments of frames, of new ones, and of A/V offsets; all count from the fault's beginning.

    Raises:
        BenchError: No frame, or no offset, came in one of the calm phases.
    """
    end_s = phases.bad_s + phases.recovery_s
    frames = int((new_s < 0).sum()), int((new_s >= end_s).sum())
    if frames[0] < 2 or not frames[1]:
        raise BenchError(f"{frames[0]} frames came before the fault and {frames[1]} after it: too few")
    before, after = offset_ms[offset_at_s < 0], offset_ms[offset_at_s >= end_s]
    if not len(before) or not len(after):
        raise BenchError("sound and picture cannot be compared before and after the fault")
    bad_until_s = phases.bad_s + _TAIL_S
    running = np.median(np.lib.stride_tricks.sliding_window_view(after, min(3, len(after))), axis=1)
    return FaultMeasures(
        freeze_before_ms=_longest_ms(came_s, float("-inf"), 0.0),
        freeze_ms=_longest_ms(came_s, 0.0, bad_until_s),
        still_before_ms=_longest_ms(new_s, float("-inf"), 0.0),
        still_ms=_longest_ms(new_s, 0.0, bad_until_s),
        fps=float(((new_s >= 0) & (new_s < phases.bad_s)).sum() / phases.bad_s),
        av_before_ms=float(np.median(before)),
        av_after_ms=float(np.median(after)),
        av_least_ms=float(running.min()),
        av_most_ms=float(running.max()),
        latency_before_ms=None,
        latency_after_ms=None,
        to_server=counts[0],
        to_caller=counts[1],
    )


def _longest_ms(moments_s: NDArray[np.float64], start_s: float, end_s: float) -> float:
    """The longest gap that ended within `start_s` .. `end_s`, or that all of it if nothing came."""
    ends = moments_s[1:]
    gaps_ms = np.diff(moments_s)[(ends >= start_s) & (ends < end_s)] * 1e3
    return float(gaps_ms.max()) if len(gaps_ms) else (end_s - start_s) * 1e3
