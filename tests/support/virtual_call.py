"""A whole session in virtual time: scripted packets in, a scripted engine, and what leaves, with its moments.

Session, clock, queues and pacing are the real ones; packets hold numbers instead of Opus, and pictures are tiny.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stream_server.log_setup import SessionLog
from stream_server.media.opus import BLOCK_SAMPLES, FadingDecoder
from stream_server.metrics import WorkerTotals
from stream_server.worker import session as session_module
from stream_server.worker.egress import Egress, Listener, Picture, Sound
from stream_server.worker.engine_client import HopResult, StreamPort
from stream_server.worker.session import AvatarSession
from stream_server.worker.session_options import SessionOptions
from tests.support.virtual_time import VirtualLoop, run_virtually

AVATAR = {
    "fps": 25,
    "step_ms": 30.0,
    "size": 64,
    "name": "virtual",
}
_SLOTS = 32
_IMAGE = np.zeros((6, 4), np.uint8)


class ScriptedEngine:
    """Answers hops one after the other; each takes what `step_ms` says for the moment (s) it begins.

    Frames come together at its end, or one by one, the first after `first_frame_share` of the step.
    """

    def __init__(
        self,
        step_ms: Callable[[float], float],
        *,
        hop_frames: int = 2,
        lookahead_frames: int = 2,
        first_frame_share: float = 1.0,
    ) -> None:
        cut = {"hop_frames": hop_frames, "lookahead_frames": lookahead_frames, "hop_samples": 640 * hop_frames}
        self.avatar: dict[str, Any] | None = AVATAR | cut
        self._hop_frames, self._lookahead_frames = hop_frames, lookahead_frames
        self._step_ms, self._first_frame_share = step_ms, first_frame_share
        self._free_s = 0.0
        self._ports: dict[str, StreamPort] = {}
        self._begins: dict[str, tuple[int, int]] = {}
        self.free_slots = _SLOTS

    def attach(self, session: str, port: StreamPort) -> None:
        self._ports[session] = port

    def open(self, session: str, *, generation: int, hop: int, **_: object) -> None:
        self._begins[session] = (generation, hop)

    def rewind(self, session: str, generation: int, hop: int) -> None:
        self._begins[session] = (generation, min(hop, self._begins[session][1]))

    def close_stream(self, session: str) -> None:
        self._ports.pop(session, None)

    def submit(self, session: str, generation: int, hop: int, samples: NDArray[np.float32]) -> bool:
        assert samples.shape == (640 * self._hop_frames,)
        if not self.free_slots:
            return False
        self.free_slots -= 1
        loop = asyncio.get_running_loop()
        starts_s = max(loop.time(), self._free_s)
        stale = generation != self._begins[session][0]
        took_s = 0.0 if stale else self._step_ms(starts_s) / 1e3
        self._free_s = starts_s + took_s
        if self._first_frame_share < 1.0:
            first_s = starts_s + took_s * self._first_frame_share
            loop.call_at(first_s, self._answer, session, generation, hop, starts_s, slice(0, 1), False)
            loop.call_at(self._free_s, self._answer, session, generation, hop, starts_s, slice(1, None), True)
        else:
            loop.call_at(self._free_s, self._answer, session, generation, hop, starts_s, slice(None), True)
        return True

    def _answer(self, session: str, generation: int, hop: int, started_s: float, part: slice, last: bool) -> None:
        self.free_slots += last
        port = self._ports.get(session)
        if port is None:
            return
        now_ns = round(asyncio.get_running_loop().time() * 1e9)
        first_hop = self._begins[session][1]
        end = (hop + 1) * self._hop_frames - self._lookahead_frames
        first = max(end - self._hop_frames, first_hop * self._hop_frames)
        count = max(0, end - first)
        indices = np.arange(first, first + count, dtype=np.float32)[part]
        first, count = first + (part.start or 0), len(indices)
        port.on_result(
            HopResult(
                generation=generation,
                hop=hop,
                first_frame=first,
                frames=np.broadcast_to(_IMAGE, (count, *_IMAGE.shape)),
                motion=np.repeat(indices[:, None], 55, axis=1),  # the frames' own numbers
                started_ns=round(started_s * 1e9),
                finished_ns=now_ns,
                returned_ns=now_ns,
                engine_ms={},
                last=last,
            )
        )


@dataclass
class Record(Listener):
    """What left: moments (s) and positions of sound; moments of pictures, whose turn it was, and the index of the frame
    that was shown, None for the last one again."""

    loop: VirtualLoop
    shown: list[tuple[float, int, int | None]] = field(default_factory=list)
    sounds: list[tuple[float, int]] = field(default_factory=list)

    def on_picture(self, picture: Picture) -> None:
        frame = None if picture.motion is None else round(float(picture.motion[0]))
        self.shown.append((self.loop.time(), picture.index, frame))

    def on_sound(self, sound: Sound) -> None:
        self.sounds.append((self.loop.time(), sound.position))

    def new_s(self) -> NDArray[np.float64]:
        """Moments of new pictures."""
        return np.array([at for at, _, frame in self.shown if frame is not None])

    def longest_still_ms(self, start_s: float, end_s: float) -> float:
        """The longest time without a new picture within a span."""
        inside = self.new_s()
        inside = inside[(inside >= start_s) & (inside <= end_s)]
        return float(np.diff([start_s, *inside, end_s]).max() * 1e3)

    def latency_ms(self, start_s: float, end_s: float) -> float:
        """Median of how long after its first sample was spoken a block of sound left, within a span."""
        lags = [at - position / 48_000 for at, position in self.sounds if start_s <= at <= end_s]
        return float(np.median(lags)) * 1e3


def decode_number(payload: bytes) -> NDArray[np.int16]:
    return np.full(BLOCK_SAMPLES, int.from_bytes(payload, "big"), np.int16)


def run_call(
    packets: Iterable[tuple[float, int]],
    *,
    seconds: float,
    step_ms: Callable[[float], float] = lambda _: 30.0,
    low_latency: bool = False,
    first_frame_share: float = 1.0,
) -> tuple[Record, AvatarSession]:
    """A session that gets packet `number` at each moment (s); moments rise."""

    async def call() -> tuple[Record, AvatarSession]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        cut: dict[str, int] = {"hop_frames": 1, "lookahead_frames": 1} if low_latency else {}
        engine = ScriptedEngine(step_ms, **cut, first_frame_share=first_frame_share)
        session = AvatarSession(
            "virtual",
            engine,  # type: ignore[arg-type]
            SessionOptions(avatar="virtual", seed=1),
            log=SessionLog(logging.getLogger("virtual"), "virtual"),
            emit=lambda _: None,
            on_end=lambda: None,
            clock_ns=loop.now_ns,
        )
        egress = Egress(session, WorkerTotals(), timecode=False)
        record = Record(loop)
        egress.attach(record)
        session.start()
        egress.start()
        for at, number in packets:
            if at > seconds:
                break
            await asyncio.sleep(at - loop.time())
            session.on_packet(number % 65536, (number % 30000).to_bytes(2, "big"))
        await asyncio.sleep(max(0.0, seconds - loop.time()))
        await egress.close()
        await session.close()
        return record, session

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session_module, "open_decoder", lambda: FadingDecoder(decode_number))
        return run_virtually(call())
