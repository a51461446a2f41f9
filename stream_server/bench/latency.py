"""One call, measured from outside: microphone to mouth, sound against picture, freezes, bytes.

A frame is *shown* here when its last packet has come: no buffer of any player is in the figures (see
`stream_server.bench.taps`). The moment its sound was spoken follows from the server's own count of samples, found again
in what the caller sent (see `stream_server.bench.alignment`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_server.bench.alignment import (
    OPUS_DELAY_SAMPLES,
    Timeline,
    decode_sound,
    levels_db,
    position_offsets,
    sound_lags,
    unwrap,
)
from stream_server.bench.caller import Caller, SeenFrame
from stream_server.bench.errors import BenchError
from stream_server.bench.taps import SenderReport
from stream_server.events import PositionEvent, ReadyEvent, TimingEvent
from stream_server.media.opus import BLOCK_SAMPLES, RATE_HZ

__all__ = ["CallMeasures", "measure_call", "own_lag_ms", "talk_and_measure"]

Array = NDArray[np.float64]
_NS_PER_SAMPLE = 1e9 / RATE_HZ
_VIDEO_HZ = 90_000
_LEVELS_RATE_RATIO = 3  # positions in events count 16 kHz samples
_PLAYOUT_PACKETS = 50  # a player's sound follows the middle of a second's arrivals
_SETTLE_S = 3.0
_LEAST_FRAMES = 25


@dataclass(frozen=True)
class CallMeasures:
    """What a call's record says. Times in ms; per frame where arrays.

    `av_offset_ms` is positive when the picture comes after its sound. `traces` are the server's timing events, each
    with the stage `outside` (packets, network, encoding) so that its stages sum to the caller's own total.
    """

    latency_ms: Array
    first_ns: int  # monotonic, the first frame's
    shown_s: Array  # when, from the first frame on
    av_offset_ms: Array  # by moments of arrival
    av_offset_reports_ms: Array  # by the sender's reports, as browsers align; empty without reports
    new_frame_gaps_ms: Array
    came_s: Array  # when frames came, repeated and unreadable ones too
    fps: float
    size: int
    unread: int
    repeated: int
    skipped: int
    offer_to_frame_s: float
    offer_to_ready_s: float
    video_bytes_per_s: float
    sound_bytes_per_s: float
    algorithmic_ms: float
    microphone_late_p95_ms: float
    traces: list[dict[str, Any]]

    @property
    def longest_freeze_ms(self) -> float:
        """The longest time in which no new frame came."""
        return float(self.new_frame_gaps_ms.max())


async def talk_and_measure(caller: Caller, seconds: float) -> CallMeasures:
    """Call, let it settle, talk for `seconds`, judge.

    Raises:
        BenchError: No call, or one that cannot be measured.
    """
    await caller.call()
    await caller.first_frame()
    await caller.listen(_SETTLE_S)
    if caller.pictures is not None and all(frame.code is None for frame in caller.pictures.frames):
        raise BenchError("no frame bears a time code: start the server with --timecode")
    await caller.listen(seconds)
    return measure_call(caller, settle_s=_SETTLE_S)


def measure_call(caller: Caller, *, settle_s: float = 0.0) -> CallMeasures:
    """Judge what a caller has noted so far, without the first `settle_s` after the first frame.

    Raises:
        BenchError: There is no picture, no time code, or no sound of ours in it.
    """
    pictures, sound = caller.pictures, caller.sound
    if pictures is None or sound is None or caller.microphone.start_ns is None or not pictures.frames:
        raise BenchError("nothing came back: no picture and sound to measure")
    first_ns = pictures.frames[0].arrived_ns
    ready_ns = next((ns for ns, event in caller.events if isinstance(event, ReadyEvent)), first_ns)
    call_s = (pictures.frames[-1].arrived_ns - first_ns) / 1e9
    seen = _read_frames([frame for frame in pictures.frames if frame.arrived_ns >= first_ns + settle_s * 1e9])
    lags = _Lags(caller, seen)
    latency_ms = lags.latency_ms()
    shown_s = (seen.shown_ns - first_ns) / 1e9
    return CallMeasures(
        latency_ms=latency_ms,
        first_ns=first_ns,
        shown_s=shown_s,
        av_offset_ms=lags.av_offset_ms(),
        av_offset_reports_ms=lags.av_offset_reports_ms(),
        new_frame_gaps_ms=np.diff(seen.shown_ns) / 1e6,
        came_s=(seen.came_ns - first_ns) / 1e9,
        fps=float((len(shown_s) - 1) / (shown_s[-1] - shown_s[0])),
        size=seen.frames[-1].width,
        unread=seen.unread,
        repeated=seen.repeated,
        skipped=int((np.diff(seen.codes) - 1).sum()),
        offer_to_frame_s=(first_ns - caller.offered_ns) / 1e9,
        offer_to_ready_s=(ready_ns - caller.offered_ns) / 1e9,
        video_bytes_per_s=pictures.tap.bytes_received / call_s,
        sound_bytes_per_s=sum(len(packet.payload) for packet in sound.packets) / call_s,
        algorithmic_ms=_algorithmic_ms(caller),
        microphone_late_p95_ms=float(np.percentile(caller.microphone.late_ns, 95)) / 1e6,
        traces=_traces(caller, dict(zip(seen.codes.tolist(), latency_ms.tolist(), strict=True))),
    )


def own_lag_ms(measured: CallMeasures) -> Array:
    """Per frame, what is not the algorithm's."""
    return measured.latency_ms - measured.algorithmic_ms


@dataclass(frozen=True)
class _Seen:
    """New frames with a readable code, in order."""

    frames: list[SeenFrame]
    codes: NDArray[np.int64]
    shown_ns: NDArray[np.int64]
    came_ns: NDArray[np.int64]  # of all frames
    unread: int
    repeated: int


def _read_frames(frames: list[SeenFrame]) -> _Seen:
    read = [frame for frame in frames if frame.code is not None]
    if len(read) < _LEAST_FRAMES:
        raise BenchError(f"only {len(read)} of {len(frames)} frames bear a time code: start the server with --timecode")
    codes = np.array([frame.code for frame in read], np.int64)
    highest = np.maximum.accumulate(codes)
    new = np.concatenate([[True], np.diff(highest) > 0])
    kept = [frame for frame, is_new in zip(read, new, strict=True) if is_new]
    shown_ns = np.array([frame.arrived_ns for frame in kept], np.int64)
    came_ns = np.array([frame.arrived_ns for frame in frames], np.int64)
    return _Seen(kept, codes[new], shown_ns, came_ns, len(frames) - len(read), int((~new).sum()))


class _Lags:
    """What lies between a frame, its sound, and the moment it was spoken."""

    def __init__(self, caller: Caller, seen: _Seen) -> None:
        assert caller.microphone.start_ns is not None
        self._spoken_from_ns = caller.microphone.start_ns
        self._seen = seen
        self._reports = caller.reports
        self._offsets = _offsets(caller)
        self._sound = _ReturnedSound(caller)
        self._frame_samples = RATE_HZ // _fps(caller)
        self._begins = self._sent_samples(seen.codes.astype(np.float64) * self._frame_samples)

    def latency_ms(self) -> Array:
        """From a frame's middle being spoken to the frame being here."""
        middles = self._sent_samples((self._seen.codes.astype(np.float64) + 0.5) * self._frame_samples)
        return (self._seen.shown_ns - self._spoken_from_ns - middles * _NS_PER_SAMPLE) / 1e6

    def av_offset_ms(self) -> Array:
        """Frame after its first sample, by arrival."""
        return (self._seen.shown_ns - self._sound.played_ns(self._begins)) / 1e6

    def av_offset_reports_ms(self) -> Array:
        """The same by the sender's clock; empty without reports of both streams."""
        video, sound = self._reports.get("video", []), self._reports.get("audio", [])
        if not video or not sound:
            return np.zeros(0)
        origin = self._seen.frames[0].timestamp
        steps = unwrap([frame.timestamp for frame in self._seen.frames], origin).astype(np.float64)
        heard_s = _wall_s(self._sound.positions(self._begins), sound, self._sound.origin, RATE_HZ)
        return (_wall_s(steps, video, origin, _VIDEO_HZ) - heard_s) * 1e3

    def _sent_samples(self, positions: Array) -> Array:
        return positions - self._offsets(positions) - OPUS_DELAY_SAMPLES


class _ReturnedSound:
    """The sound that came back: when which of our samples could be heard. `origin`: its first RTP timestamp."""

    def __init__(self, caller: Caller) -> None:
        assert caller.sound is not None
        assert caller.microphone.start_ns is not None
        samples, self._begins, came_ns, self.origin = decode_sound(caller.sound.packets)
        guess = RATE_HZ // 2 - round((int(came_ns[0]) - caller.microphone.start_ns) / _NS_PER_SAMPLE)
        self._lags = sound_lags(samples, caller.microphone.sent(), guess)
        start_ns = _running_median(came_ns - self._begins * _NS_PER_SAMPLE, _PLAYOUT_PACKETS)
        self._start_ns = Timeline(self._begins.astype(np.float64), start_ns)

    def positions(self, sent_samples: Array) -> Array:
        """Where in the returned sound these samples of ours are."""
        rough = sent_samples + float(np.median(self._lags.value))
        return np.asarray(sent_samples + self._lags(rough))

    def played_ns(self, sent_samples: Array) -> Array:
        """When a player without any buffer plays these samples of ours."""
        where = self.positions(sent_samples)
        return self._start_ns(where) + where * _NS_PER_SAMPLE


def _offsets(caller: Caller) -> Timeline:
    """Stream position minus sent sample (48 kHz, without Opus's delay), over stream positions."""
    heard: dict[int, float] = {}
    guess = None
    for came_ns, event in caller.events:
        if isinstance(event, PositionEvent) and event.levels:
            first = event.levels_from * _LEVELS_RATE_RATIO // BLOCK_SAMPLES
            heard |= {first + i: level for i, level in enumerate(event.levels)}
            if guess is None:
                assert caller.microphone.start_ns is not None
                sent = round((came_ns - caller.microphone.start_ns) / _NS_PER_SAMPLE / BLOCK_SAMPLES)
                guess = first + len(event.levels) - sent
    if guess is None:
        raise BenchError("the server sends no loudness of what it hears: start it with --timecode")
    sent_db = levels_db(caller.microphone.sent(), delay=OPUS_DELAY_SAMPLES)
    blocks = position_offsets(heard, sent_db, guess)
    return Timeline(blocks.at * BLOCK_SAMPLES, blocks.value * BLOCK_SAMPLES)


def _wall_s(steps: Array, reports: list[SenderReport], origin: int, rate_hz: int) -> Array:
    at = unwrap([report.timestamp for report in reports], origin).astype(np.float64)
    start_s = np.array([report.wall_s for report in reports]) - at / rate_hz
    return Timeline(at, start_s)(steps) + steps / rate_hz


def _traces(caller: Caller, latency_ms: dict[int, float]) -> list[dict[str, Any]]:
    traces = []
    for _, event in caller.events:
        if isinstance(event, TimingEvent) and event.frame in latency_ms:
            total_ms = latency_ms[event.frame]
            stages = dict(event.stages_ms) | {"outside": total_ms - sum(event.stages_ms.values())}
            traces.append({"frame": event.frame, "total_ms": total_ms, "stages_ms": stages})
    return traces


def _algorithmic_ms(caller: Caller) -> float:
    for _, event in caller.events:
        if isinstance(event, ReadyEvent | TimingEvent):
            return event.algorithmic_ms
    return 0.0


def _fps(caller: Caller) -> int:
    return next((event.fps for _, event in caller.events if isinstance(event, ReadyEvent)), 25)


def _running_median(values: Array, count: int) -> Array:
    half = count // 2
    padded = np.pad(np.asarray(values, np.float64), half, mode="edge")
    return np.array([np.median(padded[i : i + count + 1]) for i in range(len(values))])
