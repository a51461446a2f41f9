"""A caller made of aiortc: speaks on the real clock and notes when what came back arrived."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpReceiver, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import VideoFrame

from stream_server.bench.errors import BenchError
from stream_server.bench.signalling import delete, post
from stream_server.bench.taps import SoundTap, VideoTap, tap_reports
from stream_server.bench.voice import Microphone
from stream_server.errors import ProtocolError
from stream_server.events import ErrorEvent, Event, decode
from stream_server.media.timecode import decode_timecode
from stream_server.worker import aiortc_bridge

__all__ = ["Caller", "PictureStream", "SeenFrame", "is_local", "receiver_of"]


@dataclass(frozen=True, slots=True)
class SeenFrame:
    """A decoded frame. `arrived_ns`: its last packet was there, and those of all frames before it."""

    timestamp: int
    arrived_ns: int
    code: int | None
    width: int
    height: int


@dataclass
class PictureStream:
    """Frames of one video track, in order, with the moments of their packets."""

    tap: VideoTap
    frames: list[SeenFrame] = field(default_factory=list)

    def take(self, frame: VideoFrame) -> SeenFrame:
        """Note one frame that aiortc decoded."""
        timestamp = self.tap.timestamp(int(frame.pts or 0))
        came_ns = self.tap.arrived_ns.pop(timestamp, 0)
        before_ns = self.frames[-1].arrived_ns if self.frames else 0
        luma = frame.to_ndarray()[: frame.height].astype(np.uint8, copy=False)
        code = decode_timecode(luma) if luma.shape[1] == frame.width and frame.width >= 64 else None
        seen = SeenFrame(timestamp, max(came_ns, before_ns), code, frame.width, frame.height)
        self.frames.append(seen)
        return seen

    def watch(self, track: MediaStreamTrack, on_frame: Callable[[], None]) -> list[asyncio.Task[None]]:
        """Take all frames of the track, and ask again for packets that are missing, until the tasks are cancelled."""

        async def take_all() -> None:
            with contextlib.suppress(MediaStreamError):
                while True:
                    frame = await track.recv()
                    assert isinstance(frame, VideoFrame)
                    self.take(frame)
                    on_frame()

        return [asyncio.create_task(take_all()), asyncio.create_task(self.tap.keep_asking())]


def receiver_of(connection: RTCPeerConnection, track: MediaStreamTrack) -> RTCRtpReceiver:
    """The receiver that a track's packets come in by."""
    receivers = [transceiver.receiver for transceiver in connection.getTransceivers()]
    return next(receiver for receiver in receivers if receiver.track is track)


def is_local(url: str) -> bool:
    """Whether a URL's host is this machine, by name or address."""
    host = urllib.parse.urlsplit(url).hostname or ""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


class Caller:
    """One call. `offer_through` and `answer_through` may rewrite the SDP on its way (a relay's addresses)."""

    def __init__(
        self,
        url: str,
        microphone: Microphone,
        *,
        token: str | None = None,
        offer_through: Callable[[str], str] = str,
        answer_through: Callable[[str], str] = str,
    ) -> None:
        self.url = url.rstrip("/")
        self.microphone = microphone
        self.events: list[tuple[int, Event]] = []
        self.unknown_messages = 0
        self.pictures: PictureStream | None = None
        self.sound: SoundTap | None = None
        self.reports: dict[str, list[Any]] = {}
        self.offered_ns = 0
        self.ended: str | None = None
        self.answer: dict[str, Any] = {}
        self._token = token
        self._through = (offer_through, answer_through)
        self._session: str | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        aiortc_bridge.offer_host_addresses(loopback=is_local(url))
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._connection.createDataChannel("events").on("message", self._on_message)
        self._connection.addTrack(microphone)
        self._connection.addTransceiver("video", "recvonly")
        self._connection.on("track", self._on_track)
        self._connection.on("connectionstatechange", self._on_state)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def call(self, path: str = "/v1/sessions", *, timeout_s: float = 20.0, **more: Any) -> None:
        """Offer, and take the answer. `more` are further members of the offer; `path` may be a session's `resume`.

        Raises:
            RefusedError: The server answered with an error.
            BenchError: It did not answer.
        """
        await self._connection.setLocalDescription(await self._connection.createOffer())
        offer = self._through[0](self._connection.localDescription.sdp)
        self.offered_ns = time.monotonic_ns()
        body = json.dumps({"sdp": offer, "type": "offer"} | more)
        url = self.url + path
        reply = await post(url, body, content_type="application/json", token=self._token, timeout_s=timeout_s)
        self.answer = json.loads(reply.body)
        self._session = str(self.answer["id"])
        description = RTCSessionDescription(self._through[1](str(self.answer["sdp"])), "answer")
        await self._connection.setRemoteDescription(description)

    async def until(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Wait for something to have arrived.

        Raises:
            BenchError: It did not in time, or the call ended before.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while not condition():
                    if self.ended is not None:
                        raise BenchError(f"the call ended before {what}: {self.ended}")
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError as error:
            raise BenchError(f"no {what} within {timeout_s:g} s from {self.url}") from error

    async def first_frame(self, timeout_s: float = 20.0) -> None:
        """Wait for the first decoded frame."""
        await self.until(lambda: self.pictures is not None and bool(self.pictures.frames), timeout_s, "first frame")

    async def listen(self, seconds: float) -> None:
        """Let the call go on.

        Raises:
            BenchError: It ended.
        """
        end_ns = time.monotonic_ns() + int(seconds * 1e9)
        await self.until(lambda: time.monotonic_ns() >= end_ns, seconds + 5.0, "end of the measurement")

    async def close(self) -> None:
        """Hang up; idempotent."""
        if self._session is not None:
            session, self._session = self._session, None
            await delete(f"{self.url}/v1/sessions/{session}", self._token)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._connection.close()

    async def drop(self) -> None:
        """End the connection but not the session, which another connection may have now; idempotent."""
        self._session = None
        await self.close()

    def _on_message(self, message: str | bytes) -> None:
        try:
            event = decode(message if isinstance(message, str) else message.decode())
        except (ProtocolError, UnicodeDecodeError):
            self.unknown_messages += 1
            return
        self.events.append((time.monotonic_ns(), event))
        if isinstance(event, ErrorEvent) and event.fatal:
            self.ended = f"{event.code}: {event.message}"
        self._changed.set()

    def _on_state(self) -> None:
        if self._connection.connectionState in ("failed", "closed") and self._session is not None:
            self.ended = self.ended or f"the connection {self._connection.connectionState}"
            self._changed.set()

    def _on_track(self, track: MediaStreamTrack) -> None:
        receiver = receiver_of(self._connection, track)
        self.reports[track.kind] = tap_reports(receiver)
        if track.kind == "audio":
            self.sound = SoundTap(receiver)
        else:
            self.pictures = PictureStream(VideoTap(receiver))
            self._tasks += self.pictures.watch(track, self._changed.set)
