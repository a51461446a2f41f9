"""Calls that go on for half an hour over a network that loses packets: what grows in the server, and what drifts.

Each caller has its own `UdpRelay`. Every ten seconds the server's processes are looked at; when the time is over, or
after an interrupt, the calls are judged minute by minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_server.bench.caller import Caller
from stream_server.bench.errors import BenchError
from stream_server.bench.latency import CallMeasures, measure_call
from stream_server.bench.process_usage import ProcessUsage, process_usages
from stream_server.bench.udp_relay import Impairment, UdpRelay
from stream_server.bench.voice import Microphone

__all__ = ["LEAST_MINUTES", "Minute", "Sample", "SoakRun", "by_minute", "run_soak"]

LEAST_MINUTES = 2.0
_EVERY_S = 10.0
_SETTLE_S = 5.0


@dataclass(frozen=True, slots=True)
class Sample:
    """The server's processes at a moment of the soak."""

    at_s: float
    processes: list[ProcessUsage]


@dataclass(frozen=True, slots=True)
class Minute:
    """One minute of one call; latency and A/V offset are medians over its frames, the still its longest."""

    fps: float
    latency_ms: float
    av_offset_ms: float
    longest_still_ms: float


@dataclass(frozen=True, slots=True)
class SoakRun:
    """`calls` holds the minutes of each call."""

    samples: list[Sample]
    calls: list[list[Minute]]
    lost_packets: int
    interrupted: bool


async def run_soak(
    url: str,
    pid: int,
    voice: NDArray[np.int16],
    *,
    minutes: float,
    sessions: int = 2,
    loss: float = 0.01,
    token: str | None = None,
    tell: Callable[[str], None] = print,
) -> SoakRun:
    """Call and hold. `pid` is the server's first process. SIGINT ends it early: what there is is judged.

    Raises:
        BenchError: A call ended, or it was interrupted within the first two minutes.
    """
    async with contextlib.AsyncExitStack() as stack:
        callers, relays = [], []
        for number in range(sessions):
            relay = UdpRelay(seed=number)
            await relay.open()
            stack.callback(relay.close)
            through = {"offer_through": relay.offer, "answer_through": relay.answer}
            caller = await stack.enter_async_context(Caller(url, Microphone(voice), token=token, **through))
            await caller.call()
            await caller.first_frame()
            relay.impair(Impairment(loss=loss))
            callers.append(caller)
            relays.append(relay)
        samples, interrupted = await _hold(callers, pid, minutes, tell)
        lost = sum(counts.lost for relay in relays for counts in relay.impair(Impairment()))
    tell("judging the calls")
    calls = [by_minute(measure_call(caller, settle_s=_SETTLE_S)) for caller in callers]
    return SoakRun(samples, calls, lost, interrupted)


async def _hold(
    callers: list[Caller], pid: int, minutes: float, tell: Callable[[str], None]
) -> tuple[list[Sample], bool]:
    began_s = time.monotonic()
    samples: list[Sample] = []
    with _interrupts() as interrupted:
        while (at_s := time.monotonic() - began_s) < minutes * 60.0 and not interrupted.is_set():
            samples.append(Sample(at_s, await asyncio.to_thread(process_usages, pid)))
            if len(samples) % 6 == 1:
                tell(_status(samples[-1]))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_EVERY_S):
                    await interrupted.wait()
            ended = [caller.ended for caller in callers if caller.ended is not None]
            if ended:
                raise BenchError(f"a call ended after {at_s / 60.0:.1f} minutes: {ended[0]}")
        if at_s < LEAST_MINUTES * 60.0:
            raise BenchError(f"interrupted after {at_s:.0f} s: nothing can be said before {LEAST_MINUTES:g} minutes")
        return samples, interrupted.is_set()


@contextlib.contextmanager
def _interrupts() -> Iterator[asyncio.Event]:
    """An event that SIGINT sets, in the place of KeyboardInterrupt."""
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, interrupted.set)
    try:
        yield interrupted
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def _status(sample: Sample) -> str:
    parts = (f"{one.role} {one.memory_bytes / 1e6:.1f} MB {one.descriptors} fd" for one in sample.processes)
    return f"{sample.at_s / 60.0:5.1f} min  " + "  ".join(parts)


def by_minute(measured: CallMeasures) -> list[Minute]:
    """A call minute by minute; what is left after the last whole minute does not count.

    Raises:
        BenchError: A minute has hardly any frame.
    """
    minutes = []
    begin_s = float(measured.shown_s[0])
    for number in range(int((measured.shown_s[-1] - begin_s) // 60.0)):
        inside = (measured.shown_s >= begin_s + 60.0 * number) & (measured.shown_s < begin_s + 60.0 * (number + 1))
        shown_s = measured.shown_s[inside]
        if len(shown_s) < 2:
            raise BenchError(f"{len(shown_s)} new frames in minute {number}: the picture stood still")
        minutes.append(
            Minute(
                fps=float((len(shown_s) - 1) / (shown_s[-1] - shown_s[0])),
                latency_ms=float(np.median(measured.latency_ms[inside])),
                av_offset_ms=float(np.median(measured.av_offset_ms[inside])),
                longest_still_ms=float(np.diff(shown_s).max() * 1e3),
            )
        )
    return minutes
