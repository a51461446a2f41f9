"""What leaves a session, at its time: pictures 25 times a second, sound every 20 ms, to whatever listens."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_server.events import PositionEvent
from stream_server.media.frame_queue import TimedFrame
from stream_server.media.media_clock import NS_PER_MS, NS_PER_S
from stream_server.media.opus import BLOCK_SAMPLES
from stream_server.media.timecode import draw_timecode
from stream_server.media.trace import TraceMeter
from stream_server.metrics import WorkerTotals
from stream_server.worker.session import AvatarSession

__all__ = ["Egress", "Listener", "Picture", "Sound"]

_WAIT_FOR_LATE_FRAME_S = 0.015
_SOUND_CATCH_UP_NS = 200 * NS_PER_MS
_MISSED_TURNS = 2


@dataclass(frozen=True, slots=True)
class Picture:
    """Frame `index` of the session; `image` is I420 (size * 3 // 2, size), the last one again if none came in time.
    `turn_ns` is the session's time (ns) at which its turn to leave came."""

    index: int
    image: NDArray[np.uint8]
    motion: NDArray[np.float32] | None
    turn_ns: int


@dataclass(frozen=True, slots=True)
class Sound:
    """20 ms of mono sound at 48 kHz from `position` on."""

    position: int
    samples: NDArray[np.int16]


class Listener:
    """What is told of a session's pictures and sound. Calls come on the event loop and must not block."""

    def on_picture(self, picture: Picture) -> None:
        """A picture leaves now."""

    def on_sound(self, sound: Sound) -> None:
        """20 ms of sound leave now."""


class Egress:
    """Paces one session. Without a frame in time the last picture leaves again; after two turns of that a late frame
    leaves in its place, so that a model that has fallen behind shows a late mouth rather than none until the playout
    delay has made up for it."""

    def __init__(self, session: AvatarSession, totals: WorkerTotals, *, timecode: bool) -> None:
        self._session = session
        self._timecode = timecode
        self._listeners: list[Listener] = []
        self._meter = TraceMeter(session.algorithmic_ms, totals)
        self._index: int | None = None
        self._last: NDArray[np.uint8] | None = None
        self._missed = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._frame_ns = NS_PER_S // int(session.avatar["fps"])

    def start(self) -> None:
        """Begin to pace; idempotent."""
        if not self._tasks:
            loops = (self._run_pictures(), self._run_sound())
            self._tasks = [asyncio.create_task(loop, name=f"egress-{self._session.id}") for loop in loops]

    async def close(self) -> None:
        """Stop; idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._listeners.clear()
        self._last = None

    def attach(self, listener: Listener) -> None:
        """From now on the listener hears of everything that leaves."""
        self._listeners.append(listener)

    def detach(self, listener: Listener) -> None:
        """The listener hears no more; idempotent."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    async def _run_pictures(self) -> None:
        try:
            while True:
                index = await self._wait_for_turn()
                self._send_picture(index)
        except asyncio.CancelledError:
            raise
        except Exception:  # a session's loop: ends only this session
            self._session.fail()

    async def _wait_for_turn(self) -> int:
        session = self._session
        await session.wait_for_turn(0)
        index = 0 if self._index is None else self._index + 1
        behind = (session.now_ns() - session.due_ns(session.frame_position(index))) // self._frame_ns
        index += max(0, behind)
        await session.wait_for_turn(session.frame_position(index))
        await session.wait_for_frame(index, _WAIT_FOR_LATE_FRAME_S)
        self._index = index
        return index

    def _send_picture(self, index: int) -> None:
        session = self._session
        now_ns = session.now_ns()
        timed = self._take(index)
        if timed is not None:
            if self._timecode:
                draw_timecode(timed.image, timed.index)
            self._last = timed.image
            middle = session.frame_position(timed.index) + session.frame_position(1) // 2
            self._meter.sent(timed, session.clock.time_ns(middle), now_ns)
            session.counters.frames_sent += 1
        elif self._last is None:
            return
        else:
            session.counters.frames_repeated += 1
        self._report(index, now_ns)
        turn_ns = session.due_ns(session.frame_position(index))
        picture = Picture(index, self._last, None if timed is None else timed.motion, turn_ns)
        for listener in list(self._listeners):
            listener.on_picture(picture)

    def _take(self, index: int) -> TimedFrame | None:
        """The frame whose turn it is, or a late one if none has been in time for a while."""
        session = self._session
        timed = session.frames.take(index)
        if timed is not None:
            self._missed = 0
            return timed
        self._missed += 1
        if self._missed <= _MISSED_TURNS:
            return None
        late = session.frames.take_late()
        session.counters.frames_late += late is not None
        return late

    def _report(self, index: int, now_ns: int) -> None:
        session = self._session
        timing = self._meter.report(now_ns, session.counters, session.frames.dropped)
        if timing is None:
            return
        session.emit(timing)
        position = session.frame_position(index)
        levels = list(session.levels) if self._timecode else []
        levels_from = (session.sound.end - len(levels) * BLOCK_SAMPLES) // 3 if levels else 0
        session.emit(PositionEvent(frame=index, sample=position // 3, levels_from=levels_from, levels=levels))

    async def _run_sound(self) -> None:
        session = self._session
        position = 0
        try:
            await session.wait_for_turn(0)
            while True:
                behind_ns = session.now_ns() - session.due_ns(position)
                if behind_ns > _SOUND_CATCH_UP_NS:
                    position += behind_ns // (20 * NS_PER_MS) * BLOCK_SAMPLES
                await session.wait_for_turn(position)
                samples, missing = session.sound.read(position, BLOCK_SAMPLES)
                session.counters.audio_missing += missing
                sound = Sound(position, samples)
                for listener in list(self._listeners):
                    listener.on_sound(sound)
                position += BLOCK_SAMPLES
                if session.playback is not None:
                    session.playback.passed(position, session.now_ns())
        except asyncio.CancelledError:
            raise
        except Exception:  # a session's loop: ends only this session
            session.fail()
