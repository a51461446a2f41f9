"""An avatar session: sound in, timed picture and sound out. It is no peer; sinks attach to its egress."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_server.engine.streams import KEPT_HOPS
from stream_server.errors import ConflictError, EngineLostError
from stream_server.events import ErrorEvent, Event, NoticeEvent
from stream_server.log_setup import SessionLog
from stream_server.media.frame_queue import FrameQueue, SoundQueue, TimedFrame
from stream_server.media.hop_arrival import HopArrival
from stream_server.media.hop_schedule import HopSchedule
from stream_server.media.libopus import open_decoder
from stream_server.media.media_clock import NS_PER_MS, NS_PER_S, MediaClock, PlayoutDelay
from stream_server.media.microphone import Block, MicrophoneStream
from stream_server.media.opus import RATE_HZ, Downsampler
from stream_server.media.playback import Playback
from stream_server.media.speech_stream import SpeechStream
from stream_server.media.windower import HopWindower
from stream_server.metrics import SessionCounters
from stream_server.worker.engine_client import EngineClient, HopResult, StreamPort
from stream_server.worker.session_options import SessionOptions

__all__ = ["AvatarSession"]

_TICK_S = 0.02
_LONGEST_SLEEP_NS = 50 * NS_PER_MS
_SOUND_HELD_S = 2
_LEVEL_SAMPLES = 960  # 20 ms at 48 kHz
_MARGIN_START_MS = 25.0
_FADE_SAMPLES = 480  # 10 ms at 48 kHz
_ENGINE_PATIENCE_S = 20.0


class AvatarSession:
    """State of one session: sound's path, hops in flight, frames and sound that wait to leave.

    `emit` sends an event to whoever listens; `on_end` is called once when the session cannot go on.
    """

    def __init__(
        self,
        session_id: str,
        engine: EngineClient,
        options: SessionOptions,
        *,
        log: SessionLog,
        emit: Callable[[Event], None],
        on_end: Callable[[], None],
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        assert engine.avatar is not None
        self.id = session_id
        self.avatar: dict[str, Any] = engine.avatar
        self.shown_avatar = options.avatar
        self.controls = dict(options.controls)
        self.source = options.source
        self.counters = SessionCounters()
        self.clock = MediaClock(RATE_HZ)
        self.frames = FrameQueue()
        self.sound = SoundQueue(RATE_HZ * _SOUND_HELD_S)
        self.levels: list[float] = []
        self.now_ns = clock_ns
        self.emit = emit
        self.delay, self.algorithmic_ms = self._playout()
        self.speech = SpeechStream(self.clock) if options.source == "speech" else None
        self.playback = Playback(self.speech, emit) if self.speech is not None else None
        self.seed = options.seed if options.seed is not None else int(np.random.SeedSequence().generate_state(1)[0])
        self._engine = engine
        self._log = log
        self._on_end = on_end
        self._frame_samples = RATE_HZ // int(self.avatar["fps"])
        self._microphone = MicrophoneStream(self.clock, open_decoder(), self.counters)
        self._downsampler = Downsampler()
        self._windower = HopWindower(int(self.avatar["hop_samples"]))
        self._schedule = HopSchedule()
        self._arrival = HopArrival()
        self._stream_open = False
        self._stream_hops = range(0)
        """Hops that the model's stream has been given: it can go back to any of them, and not before."""
        self._lost_since_ns: int | None = None
        self._ticker: asyncio.Task[None] | None = None
        self._frame_arrived = asyncio.Event()
        self._started = asyncio.Event()
        self._changing = asyncio.Lock()
        self._changes: list[set[str]] = []
        """Names of the controls in the changes that wait, in order."""
        self._ended = False

    @property
    def running(self) -> bool:
        """Whether time runs in it."""
        return self._ticker is not None and not self._ended

    def start(self) -> None:
        """Someone is connected: open the model's stream and let time run. Idempotent."""
        if self._ticker is None and not self._ended:
            own = self._own_failure
            port = StreamPort(own(self._on_result), own(self._on_failed), own(self._on_lost), own(self._on_back))
            self._engine.attach(self.id, port)
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
        self.frames, self.sound = FrameQueue(), SoundQueue(1)  # megabytes: they do not wait for the collector

    def tally(self) -> SessionCounters:
        """What was counted so far."""
        self.counters.frames_dropped = self.frames.dropped
        self.counters.hops_dropped = self._schedule.dropped
        return self.counters

    def end(self, code: str, message: str) -> None:
        """Tell the caller why, and ask the registry to close this session; idempotent."""
        if not self._ended:
            self._ended = True
            self._log.warning("ending: %s: %s", code, message)
            self.emit(ErrorEvent(code=code, message=message))
            self._on_end()

    def fail(self) -> None:
        """End because of the exception being handled now, which goes to the log."""
        self._log.exception("session failed")
        self.end("internal", "the session failed; see the server's log")

    def on_packet(self, sequence: int, payload: bytes) -> None:
        """One Opus packet of the caller's microphone."""
        if self.running and self.speech is None:
            self._take_blocks(self._microphone.push(sequence, payload, self.now_ns()))

    async def change(self, controls: dict[str, Any] | None, avatar: str | None) -> None:
        """Other controls (those named; the rest stay) or another avatar, from the next hop on.

        Changes are made one after the other; one whose values are all overtaken by such that wait is passed over.

        Raises:
            RefusedError: A value cannot be used, or the avatar cannot be loaded.
            EngineLostError: There is no engine at the moment.
        """
        if avatar is not None:
            await self._engine.request("load", avatar=avatar)
        mine = set(controls or ())
        self._changes.append(mine)
        try:
            await self._changing.acquire()
        finally:
            self._changes = [others for others in self._changes if others is not mine]
        try:  # one after the other: who takes longer would bring back what another has changed meanwhile
            if avatar is not None or not mine or not mine <= set().union(*self._changes):  # else overtaken
                await self._change(controls, avatar)
        finally:
            self._changing.release()

    async def _change(self, controls: dict[str, Any] | None, avatar: str | None) -> None:
        merged = None if controls is None else self.controls | controls
        if merged is not None or avatar is not None:
            await self._engine.request("change", session=self.id, controls=merged, avatar=avatar)
        if merged is not None:
            self.controls = merged
        if avatar is not None:
            self.shown_avatar = avatar

    def interrupt(self) -> int:
        """Stop what is being said: sound fades within 10 ms, the mouth goes to rest from the last frame sent.

        Returns how many utterances were cut.

        Raises:
            ConflictError: The sound is a microphone's.
        """
        if self.speech is None or self.playback is None:
            raise ConflictError("this session speaks with a microphone's sound; mute the microphone instead")
        if not self._started.is_set():
            cut = self.speech.interrupt(0, 0)
            self.playback.interrupted(cut, 0)
            return len(cut)
        next_frame = self.frames.next_index
        hop_frames, lookahead = int(self.avatar["hop_frames"]), int(self.avatar["lookahead_frames"])
        hop = max(0, (next_frame + lookahead) // hop_frames)
        waiting = self._schedule.first_hop  # the model has heard all hops before it
        heard = self._windower.position_samples // int(self.avatar["hop_samples"])
        hop = min(hop, heard if waiting is None else waiting)
        hop = max(hop, self._stream_hops.start, self._stream_hops.stop - KEPT_HOPS)
        start = hop * hop_frames * self._frame_samples  # where the model hears silence from
        position = min(self._egress_position(), self.sound.end, start)
        cut = self.speech.interrupt(position, start)
        self.sound.rewind(position, start, fade=_FADE_SAMPLES)
        self.frames.drop_from(next_frame)
        self._windower.rewind(hop)
        self._downsampler = Downsampler()
        self._schedule.clear()
        if self._stream_open:
            self._engine.rewind(self.id, self._schedule.generation, hop)
            self._stream_hops = range(self._stream_hops.start, hop)
        self.playback.interrupted(cut, position)
        self._take_blocks(self.speech.fill(self.now_ns()))
        return len(cut)

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
        deadline_ns = self.now_ns() + int(timeout_s * NS_PER_S)
        while not self.frames.has(index) and (left_ns := deadline_ns - self.now_ns()) > 0:
            self._frame_arrived.clear()
            try:
                async with asyncio.timeout(left_ns / NS_PER_S):
                    await self._frame_arrived.wait()
            except TimeoutError:
                return

    def _own_failure(self, act: Callable[..., None]) -> Callable[..., None]:
        """What the engine's client calls: an error ends this session, and not the client, which is everybody's."""

        def guarded(*values: Any) -> None:
            try:
                act(*values)
            except Exception:
                self.fail()

        return guarded

    def _playout(self) -> tuple[PlayoutDelay, float]:
        frame_ms = 1000.0 / self.avatar["fps"]
        lookahead_ms = frame_ms * (self.avatar["lookahead_frames"] + self.avatar["hop_frames"])
        self._lookahead_ns = int(lookahead_ms * NS_PER_MS)
        return PlayoutDelay(lookahead_ms, self.avatar["step_ms"] + _MARGIN_START_MS), lookahead_ms - frame_ms / 2

    def _egress_position(self) -> int:
        """The sample (48 kHz) that leaves now."""
        elapsed_ns = self.now_ns() - self.due_ns(0)
        return max(0, elapsed_ns * RATE_HZ // NS_PER_S)

    def _open_stream(self) -> None:
        """Begin the model's stream, anew if it had one, with the hop that comes next."""
        hop = self._schedule.first_hop
        if hop is None:
            hop = self._windower.position_samples // int(self.avatar["hop_samples"])
        try:
            self._engine.open(
                self.id,
                generation=self._schedule.generation,
                seed=self.seed,
                hop=hop,
                avatar=self.shown_avatar,
                controls=self.controls,
                rewindable=self.speech is not None,
            )
        except EngineLostError:  # `_on_back` opens it
            self._lost_since_ns = self.now_ns() if self._lost_since_ns is None else self._lost_since_ns
            return
        self._stream_open = True
        self._stream_hops = range(hop, hop)

    async def _tick(self) -> None:
        source = self._microphone if self.speech is None else self.speech
        try:
            while True:
                self._take_blocks(source.fill(self.now_ns()))
                self._check_engine()
                await asyncio.sleep(_TICK_S)
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
                if self._schedule.push(hop, self.now_ns()) and self._stream_open:
                    self._open_stream()
        if blocks:
            self._submit()

    def _note_levels(self, samples: NDArray[np.int16]) -> None:
        for start in range(0, len(samples), _LEVEL_SAMPLES):
            part = samples[start : start + _LEVEL_SAMPLES].astype(np.float32) / 32768
            self.levels.append(round(10 * math.log10(float((part**2).mean()) + 1e-9), 1))
        del self.levels[:-250]

    def _submit(self) -> None:
        while self._stream_open and (flight := self._schedule.next(self.now_ns())) is not None:
            if not self._engine.submit(self.id, self._schedule.generation, flight.hop.index, flight.hop.samples):
                self._schedule.put_back(flight)
                return
            self._stream_hops = range(self._stream_hops.start, flight.hop.index + 1)
            self.counters.hops_sent += 1

    def _on_result(self, result: HopResult) -> None:
        flight = self._schedule.landed(result.generation, result.hop, last=result.last)
        if flight is None:
            return
        stamps = (flight.received_ns, flight.submitted_ns, result.started_ns, result.finished_ns, result.returned_ns)
        if len(result.frames):
            self._push_frames(result, stamps)
            self._frame_arrived.set()
            if result.last:
                self.delay.observe(self._arrival.worst_lateness_ns, self.now_ns())
        self._submit()

    def _push_frames(self, result: HopResult, stamps: tuple[int, ...]) -> None:
        first, count = result.first_frame, len(result.frames)
        due_ns = self.clock.time_ns(self.frame_position(first)) + self._lookahead_ns
        since_ns = self._arrival.note(result.hop, result.returned_ns, result.returned_ns - due_ns)
        for offset, (image, motion) in enumerate(zip(result.frames, result.motion, strict=True)):
            turn_ns = (first + offset) % int(self.avatar["hop_frames"]) * NS_PER_S // int(self.avatar["fps"])
            closes_hop = result.last and offset == count - 1
            frame = TimedFrame(
                first + offset, image, stamps, result.engine_ms, max(0, turn_ns - since_ns), motion, closes_hop
            )
            self.frames.push(frame)
        self.counters.frames_received += count

    def _on_failed(self, generation: int, message: str) -> None:
        if generation == self._schedule.generation:
            self.end("model-failed", message)

    def _on_lost(self) -> None:
        """The last picture stays, sound and time go on, until another engine is there."""
        self._stream_open = False
        self._lost_since_ns = self.now_ns()
        self.emit(NoticeEvent(code="engine-lost", message="the engine stopped; waiting for another"))

    def _on_back(self) -> None:
        self._lost_since_ns = None
        self._schedule.restart()
        with contextlib.suppress(EngineLostError):
            self._open_stream()
            self._submit()
        self.emit(NoticeEvent(code="engine-back", message="the engine was started again"))

    def _check_engine(self) -> None:
        lost_ns = 0 if self._lost_since_ns is None else self.now_ns() - self._lost_since_ns
        if lost_ns > _ENGINE_PATIENCE_S * NS_PER_S:
            self.end("engine-lost", f"the engine stopped and did not come back within {_ENGINE_PATIENCE_S:.0f} s")
