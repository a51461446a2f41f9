"""An avatar session: sound in, timed picture and sound out. It is no peer; sinks attach to it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_server.events import ErrorEvent, Event
from stream_server.log_setup import SessionLog
from stream_server.media.frame_queue import FrameQueue, SoundQueue, TimedFrame
from stream_server.media.hop_schedule import HopSchedule
from stream_server.media.media_clock import NS_PER_MS, NS_PER_S, MediaClock, PlayoutDelay
from stream_server.media.microphone import Block, MicrophoneStream
from stream_server.media.opus import RATE_HZ, Downsampler, OpusDecoder
from stream_server.media.windower import HopWindower
from stream_server.metrics import SessionCounters
from stream_server.worker.engine_client import EngineClient, HopResult, StreamPort

__all__ = ["AvatarSession"]

_TICK_S = 0.02
_LONGEST_SLEEP_NS = 50 * NS_PER_MS
_SOUND_HELD_S = 2
_LEVEL_SAMPLES = 960  # 20 ms at 48 kHz
_MARGIN_START_MS = 25.0


class AvatarSession:
    """State of one caller: microphone path, hops in flight, frames and sound that wait to leave.

    `emit` sends an event to the caller; `on_end` is called once when the session cannot go on.
    """

    def __init__(
        self,
        session_id: str,
        engine: EngineClient,
        *,
        log: SessionLog,
        emit: Callable[[Event], None],
        on_end: Callable[[], None],
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        assert engine.avatar is not None
        self.id = session_id
        self.avatar: dict[str, Any] = engine.avatar
        self.counters = SessionCounters()
        self.clock = MediaClock(RATE_HZ)
        self.frames = FrameQueue()
        self.sound = SoundQueue(RATE_HZ * _SOUND_HELD_S)
        self.levels: list[float] = []
        self.now_ns = clock_ns
        self._engine = engine
        self._log = log
        self._emit = emit
        self._on_end = on_end
        self._frame_samples = RATE_HZ // int(self.avatar["fps"])
        lookahead_ms = 1000.0 / self.avatar["fps"] * (self.avatar["lookahead_frames"] + self.avatar["hop_frames"])
        self.delay = PlayoutDelay(lookahead_ms, self.avatar["step_ms"] + _MARGIN_START_MS)
        self._lookahead_ns = int(lookahead_ms * NS_PER_MS)
        self.algorithmic_ms = lookahead_ms - 500.0 / self.avatar["fps"]
        self._microphone = MicrophoneStream(self.clock, OpusDecoder().decode, self.counters)
        self._downsampler = Downsampler()
        self._windower = HopWindower(int(self.avatar["hop_samples"]))
        self._schedule = HopSchedule()
        self._ticker: asyncio.Task[None] | None = None
        self._frame_arrived = asyncio.Event()
        self._started = asyncio.Event()
        self._ended = False
        self._seed = int(np.random.SeedSequence().generate_state(1)[0])

    def start(self) -> None:
        """The caller is connected: open the model's stream and let time run."""
        if self._ticker is None and not self._ended:
            self._open_stream()
            self._ticker = asyncio.create_task(self._tick(), name=f"tick-{self.id}")

    async def close(self) -> None:
        """Stop everything; idempotent."""
        self._ended = True
        self._engine.close_stream(self.id)
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)
            self._ticker = None
        self.counters.frames_dropped = self.frames.dropped
        self.counters.hops_dropped = self._schedule.dropped

    def end(self, code: str, message: str) -> None:
        """Tell the caller why, and ask the registry to close this session; idempotent."""
        if not self._ended:
            self._ended = True
            self._log.warning("ending: %s: %s", code, message)
            self._emit(ErrorEvent(code=code, message=message))
            self._on_end()

    def fail(self) -> None:
        """End because of the exception being handled now, which goes to the log."""
        self._log.exception("session failed")
        self.end("internal", "the session failed; see the server's log")

    def on_packet(self, sequence: int, payload: bytes) -> None:
        """One Opus packet of the caller's microphone."""
        if self._ticker is not None and not self._ended:
            self._take_blocks(self._microphone.push(sequence, payload, self.now_ns()))

    def due_ns(self, position: int) -> int:
        """When the sample at `position` (48 kHz) leaves."""
        return self.clock.time_ns(position) + self.delay.total_ns

    def frame_position(self, index: int) -> int:
        """Position (48 kHz) of a frame's first sample."""
        return index * self._frame_samples

    async def wait_for_turn(self, position: int) -> None:
        """Return when the sample at `position` is due; looks again on the way because the clock may move."""
        await self._started.wait()
        while (left_ns := self.due_ns(position) - self.now_ns()) > 0:  # noqa: ASYNC110 - waits for time, not for a state
            await asyncio.sleep(min(left_ns, _LONGEST_SLEEP_NS) / NS_PER_S)

    async def wait_for_frame(self, index: int, timeout_s: float) -> None:
        """Return when frame `index` waits in `frames`, or after the timeout."""
        deadline = time.monotonic() + timeout_s
        while not self.frames.has(index) and (left := deadline - time.monotonic()) > 0:
            self._frame_arrived.clear()
            try:
                await asyncio.wait_for(self._frame_arrived.wait(), left)
            except TimeoutError:
                return

    def _open_stream(self) -> None:
        port = StreamPort(self._on_result, lambda message: self.end("engine-lost", message))
        self._engine.open(self.id, self._schedule.generation, self._seed, port)

    async def _tick(self) -> None:
        try:
            while True:
                await asyncio.sleep(_TICK_S)
                self._take_blocks(self._microphone.fill(self.now_ns()))
        except asyncio.CancelledError:
            raise
        except Exception:  # a session's loop: ends only this session
            self.fail()

    def _take_blocks(self, blocks: list[Block]) -> None:
        if self.clock.started:
            self._started.set()
        for block in blocks:
            self.sound.push(block.samples)
            self._note_levels(block.samples)
            for hop in self._windower.push(self._downsampler.push(block.samples)):
                if self._schedule.push(hop, self.now_ns()):
                    self._open_stream()
        if blocks:
            self._submit()

    def _note_levels(self, samples: NDArray[np.int16]) -> None:
        for start in range(0, len(samples), _LEVEL_SAMPLES):
            part = samples[start : start + _LEVEL_SAMPLES].astype(np.float32) / 32768
            self.levels.append(round(10 * math.log10(float((part**2).mean()) + 1e-9), 1))
        del self.levels[:-250]

    def _submit(self) -> None:
        while (flight := self._schedule.next(self.now_ns())) is not None:
            if not self._engine.submit(self.id, self._schedule.generation, flight.stream_hop, flight.hop.samples):
                self._schedule.put_back(flight)
                return
            self.counters.hops_sent += 1

    def _on_result(self, result: HopResult) -> None:
        flight = self._schedule.landed(result.generation, result.hop)
        if flight is None:
            return
        stamps = (flight.received_ns, flight.submitted_ns, result.started_ns, result.finished_ns, result.returned_ns)
        hop_frames = int(self.avatar["hop_frames"])
        first = self._schedule.absolute_frame(result.first_frame, hop_frames)
        for offset, image in enumerate(result.frames):
            pace_ns = (first + offset) % hop_frames * NS_PER_S // int(self.avatar["fps"])
            self.frames.push(TimedFrame(first + offset, image, stamps, result.engine_ms, pace_ns))
        self.counters.frames_received += len(result.frames)
        if len(result.frames):
            ideal_ns = self.clock.time_ns(self.frame_position(first)) + self._lookahead_ns
            self.delay.observe(result.returned_ns - ideal_ns, self.now_ns())
            self._frame_arrived.set()
        self._submit()
