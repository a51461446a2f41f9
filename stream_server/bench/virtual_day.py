"""A day of packets in virtual time through all that a session keeps between packets: nothing grows, nothing drifts.

The sender's crystal is off by up to 100 ppm; every ten minutes bring a burst of loss, a gap, a backlog, a pause of the
microphone, jitter, packets twice and out of order, and a model that stalls. Real are microphone stream, clock, queues,
windower, schedule and playout delay; packets hold their number instead of Opus, and pictures are tiny.
"""

from __future__ import annotations

import gc
import heapq
import pickle
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stream_server.bench.alignment import unwrap
from stream_server.media.frame_queue import FrameQueue, SoundQueue, TimedFrame
from stream_server.media.hop_schedule import HopSchedule
from stream_server.media.media_clock import NS_PER_MS, NS_PER_S, MediaClock, PlayoutDelay
from stream_server.media.microphone import Block, MicrophoneStream
from stream_server.media.opus import BLOCK_SAMPLES, RATE_HZ, FadingDecoder
from stream_server.media.windower import HopWindower
from stream_server.metrics import SessionCounters

__all__ = ["DayMeasures", "Hour", "run_day"]

_FPS, _HOP_FRAMES, _LOOKAHEAD_FRAMES, _HOP_SAMPLES = 25, 2, 2, 1280
_FRAME_SAMPLES = RATE_HZ // _FPS
_LOOKAHEAD_NS = (_HOP_FRAMES + _LOOKAHEAD_FRAMES) * NS_PER_S // _FPS
_STEP_NS, _STALL_NS = 40 * NS_PER_MS, 400 * NS_PER_MS
_TICK_NS = 20 * NS_PER_MS
_CYCLE_S = 600.0
_VIDEO_HZ = 90_000
_FIRST_TIMESTAMP = 0xFFFF0000  # wraps soon, and again after 13 or 25 hours
_FIRST_SEQUENCE = 65_000
_EMPTY = np.zeros((6, 4), np.uint8)


@dataclass(frozen=True, slots=True)
class Hour:
    """At the end of an hour: where calm packets stand against the sender's clock, the playout delay, bytes of the
    session's state, objects of the whole process."""

    drift_ms: float
    worst_calm_ms: float
    delay_ms: float
    state_bytes: int
    objects: int


@dataclass(slots=True)
class DayMeasures:
    """What the day showed. Most of a queue is over the whole day; drift is against the first calm minutes."""

    skew_ppm: float
    hours: list[Hour] = field(default_factory=list)
    packets: int = 0
    sequence_wraps: int = 0
    sound_timestamp_wraps: int = 0
    video_timestamp_wraps: int = 0
    timestamps_wrong: int = 0
    most_waiting_packets: int = 0
    most_waiting_frames: int = 0
    most_hops_behind: int = 0
    longest_still_ms: float = 0.0
    counters: SessionCounters = field(default_factory=SessionCounters)

    @property
    def worst_drift_ms(self) -> float:
        """Largest drift at the end of an hour."""
        return max(abs(hour.drift_ms) for hour in self.hours)

    @property
    def grown_bytes(self) -> int:
        """State at the end against the first hour's; a hop more or less in hand is 5 kB."""
        return self.hours[-1].state_bytes - self.hours[0].state_bytes

    @property
    def grown_objects(self) -> int:
        """Objects at the end against the second hour's end (the first allocates)."""
        return self.hours[-1].objects - self.hours[min(1, len(self.hours) - 1)].objects


def run_day(hours: float, *, skew_ppm: float, seed: int = 0) -> DayMeasures:
    """Virtual hours of one session; at least one cycle of ten minutes. An hour takes some ten seconds."""
    day = _Day(skew_ppm)
    events = _arrivals(hours * 3600.0, skew_ppm, random.Random(seed))
    per_hour = min(3600.0, hours * 3600.0)
    next_hour_ns = round(per_hour * 1e9)
    for arrival in events:
        while arrival.now_ns >= next_hour_ns:
            day.note_hour()
            next_hour_ns += round(per_hour * 1e9)
        day.take(arrival)
    day.note_hour()
    return day.finish()


@dataclass(frozen=True, slots=True, order=True)
class _Arrival:
    """Packet `number` comes at `now_ns`, sent at `sent_ns`; `calm` if nothing was wrong for a while."""

    now_ns: int
    number: int
    sent_ns: int
    calm: bool


def _arrivals(seconds: float, skew_ppm: float, chance: random.Random) -> Iterator[_Arrival]:
    """Packets in order of arrival."""
    packet_s = BLOCK_SAMPLES / RATE_HZ / (1.0 + skew_ppm * 1e-6)
    waiting: list[_Arrival] = []
    at_s, number, in_order_s = 0.0, 0, 0.0
    while at_s < seconds:
        at_s += packet_s
        phase_s = at_s % _CYCLE_S
        if 300.0 <= phase_s < 300.0 + packet_s:  # the microphone is off for a while
            at_s += chance.uniform(1.0, 60.0)
        held_s, copies, passes = _network(phase_s, chance)
        if passes:
            leave_s = at_s + held_s
            if held_s < 0.05:  # jitter keeps the order; what is overtaken or held back does not
                leave_s = in_order_s = max(in_order_s, leave_s)
            calm = phase_s > 550.0 or 150.0 < phase_s < 180.0
            for _ in range(copies):
                heapq.heappush(waiting, _Arrival(round(leave_s * 1e9), number, round(at_s * 1e9), calm))
        number += 1
        while waiting and waiting[0].now_ns <= at_s * 1e9:
            yield heapq.heappop(waiting)
    yield from sorted(waiting)


def _network(phase_s: float, chance: random.Random) -> tuple[float, int, bool]:
    """For how long (s) a packet is held back at this point of a cycle, how often it comes, and whether at all."""
    held_s, copies, passes = chance.expovariate(1 / 0.0015), 1, True
    if 60.0 <= phase_s < 70.0:
        passes = chance.random() > 0.3
    elif 120.0 <= phase_s < 121.5:
        passes = False
    elif 200.0 <= phase_s < 201.0:
        held_s = 201.0 - phase_s  # a backlog
    elif 400.0 <= phase_s < 430.0:
        held_s = chance.uniform(0.0, 0.05)
    elif 450.0 <= phase_s < 480.0:
        copies = 1 + (chance.random() < 0.1)
        held_s += 0.06 * (chance.random() < 0.05)
    return held_s, copies, passes


def _decode(payload: bytes) -> NDArray[np.int16]:
    return np.full(BLOCK_SAMPLES, int.from_bytes(payload, "big"), np.int16)


class _Day:
    """One session's parts, driven from event to event."""

    def __init__(self, skew_ppm: float) -> None:
        self._found = DayMeasures(skew_ppm)
        self._clock = MediaClock(RATE_HZ)
        self._microphone = MicrophoneStream(self._clock, FadingDecoder(_decode), self._found.counters)
        self._delay = PlayoutDelay(_LOOKAHEAD_NS / NS_PER_MS, 65.0)
        self._sound = SoundQueue(2 * RATE_HZ)
        self._windower = HopWindower(_HOP_SAMPLES)
        self._schedule = HopSchedule()
        self._frames = FrameQueue()
        self._landing: deque[tuple[int, int, int]] = deque()  # when, generation, hop
        self._model_free_ns = 0
        self._now_ns = 0
        self._next_tick_ns = _TICK_NS
        self._next_frame = 0
        self._begins = 0
        self._last_new_ns: int | None = None
        self._first_calm_ms: float | None = None
        self._calm_ms: list[float] = []
        self._stamps = _Stamps()

    def take(self, arrival: _Arrival) -> None:
        """Everything up to an arrival, and the arrival."""
        while self._next_tick_ns <= arrival.now_ns:
            self._at(self._next_tick_ns)
            self._blocks(self._microphone.fill(self._now_ns))
            self._next_tick_ns += _TICK_NS
        self._at(arrival.now_ns)
        sequence = (_FIRST_SEQUENCE + arrival.number) % 65536
        payload = (arrival.number % 30_000).to_bytes(2, "big")
        blocks = self._microphone.push(sequence, payload, self._now_ns)
        self._blocks(blocks)
        self._found.packets += 1
        self._found.sequence_wraps = (_FIRST_SEQUENCE + arrival.number) >> 16
        if arrival.calm and blocks:
            behind = self._clock.time_ns(blocks[-1].position + BLOCK_SAMPLES) - arrival.sent_ns
            self._calm_ms.append(behind / NS_PER_MS)

    def note_hour(self) -> None:
        """Judge what came since the last time, if anything did."""
        if not self._calm_ms:
            return
        calm = np.array(self._calm_ms)
        self._calm_ms = []
        median = float(np.median(calm))
        self._first_calm_ms = median if self._first_calm_ms is None else self._first_calm_ms
        worst = float(np.abs(calm - self._first_calm_ms).max())
        parts = (self._microphone, self._delay, self._sound, self._windower, self._schedule, self._frames)
        size = len(pickle.dumps(parts))
        gc.collect()
        hour = Hour(
            drift_ms=median - self._first_calm_ms,
            worst_calm_ms=worst,
            delay_ms=self._delay.total_ns / NS_PER_MS,
            state_bytes=size,
            objects=len(gc.get_objects()),
        )
        self._found.hours.append(hour)

    def finish(self) -> DayMeasures:
        """The day is over."""
        self._found.counters.frames_dropped = self._frames.dropped
        self._found.counters.hops_dropped = self._schedule.dropped
        self._stamps.report(self._found)
        return self._found

    def _at(self, now_ns: int) -> None:
        """Let the model answer and pictures leave up to a moment."""
        self._now_ns = now_ns
        while self._landing and self._landing[0][0] <= now_ns:
            self._land(*self._landing.popleft())
        while self._clock.started and self._due_ns(self._next_frame) <= now_ns:
            self._show(self._next_frame)
            self._next_frame += 1

    def _due_ns(self, frame: int) -> int:
        return self._clock.time_ns(frame * _FRAME_SAMPLES) + self._delay.total_ns

    def _blocks(self, blocks: list[Block]) -> None:
        for block in blocks:
            self._sound.push(block.samples)
            thinned = block.samples[::3].astype(np.float32) * np.float32(1 / 32768)
            for hop in self._windower.push(thinned):
                if self._schedule.push(hop, self._now_ns):
                    self._begins = self._schedule.first_hop or 0
        if blocks:
            self._submit()
        self._found.most_waiting_packets = max(self._found.most_waiting_packets, self._microphone.waiting)

    def _submit(self) -> None:
        while (flight := self._schedule.next(self._now_ns)) is not None:
            starts_ns = max(self._now_ns, self._model_free_ns)
            stalls = flight.hop.index % 7500 == 6250  # once in ten minutes
            self._model_free_ns = starts_ns + (_STALL_NS if stalls else _STEP_NS)
            self._landing.append((self._model_free_ns, self._schedule.generation, flight.hop.index))
        waiting = self._schedule.first_hop
        if waiting is not None:
            behind = self._windower.position_samples // _HOP_SAMPLES - waiting
            self._found.most_hops_behind = max(self._found.most_hops_behind, behind)

    def _land(self, at_ns: int, generation: int, hop: int) -> None:
        if self._schedule.landed(generation, hop) is None:
            return
        first = hop * _HOP_FRAMES - _LOOKAHEAD_FRAMES
        for index in range(max(first, self._begins * _HOP_FRAMES, 0), first + _HOP_FRAMES):
            self._frames.push(TimedFrame(index, _EMPTY))
        ideal_ns = self._clock.time_ns(max(first, 0) * _FRAME_SAMPLES) + _LOOKAHEAD_NS
        self._delay.observe(at_ns - ideal_ns, at_ns)
        self._found.most_waiting_frames = max(self._found.most_waiting_frames, len(self._frames))
        self._submit()

    def _show(self, index: int) -> None:
        if index % 5 == 0:
            _, missing = self._sound.read(index * _FRAME_SAMPLES, _FRAME_SAMPLES)
            self._found.counters.audio_missing += missing
        self._stamps.frame(index)
        shown = self._frames.take(index) or self._frames.take_late()
        if shown is None:
            self._found.counters.frames_repeated += 1
            return
        if self._last_new_ns is not None:
            still_ms = (self._now_ns - self._last_new_ns) / NS_PER_MS
            self._found.longest_still_ms = max(self._found.longest_still_ms, still_ms)
        self._last_new_ns = self._now_ns
        self._found.counters.frames_sent += 1


class _Stamps:
    """RTP timestamps of a frame and its sound as they go out, found again by a receiver over their wraps."""

    def __init__(self) -> None:
        self._video: list[int] = []
        self._sound: list[int] = []
        self._last = (0, 0, 0)  # frame, unwrapped video, unwrapped sound
        self._wrong = 0

    def frame(self, index: int) -> None:
        """One leaves."""
        self._video.append((_FIRST_TIMESTAMP + index * _VIDEO_HZ // _FPS) & 0xFFFFFFFF)
        self._sound.append((_FIRST_TIMESTAMP + index * _FRAME_SAMPLES) & 0xFFFFFFFF)
        if len(self._video) == 1000:
            self._unwrap(index)

    def report(self, found: DayMeasures) -> None:
        """Wraps so far, and stamps that were not found again."""
        if self._video:
            self._unwrap(self._last[0] + len(self._video))
        _, video, sound = self._last
        found.video_timestamp_wraps = (_FIRST_TIMESTAMP + video) >> 32
        found.sound_timestamp_wraps = (_FIRST_TIMESTAMP + sound) >> 32
        found.timestamps_wrong = self._wrong

    def _unwrap(self, index: int) -> None:
        frames = np.arange(index - len(self._video) + 1, index + 1)
        _, video, sound = self._last
        videos = video + unwrap(self._video, (_FIRST_TIMESTAMP + video) & 0xFFFFFFFF)
        sounds = sound + unwrap(self._sound, (_FIRST_TIMESTAMP + sound) & 0xFFFFFFFF)
        self._wrong += int((videos != frames * _VIDEO_HZ // _FPS).sum() + (sounds != frames * _FRAME_SAMPLES).sum())
        self._last = (index, int(videos[-1]), int(sounds[-1]))
        self._video.clear()
        self._sound.clear()
