"""A caller made of aiortc: speaks a made-up voice, collects frames, sound and events."""

from __future__ import annotations

import asyncio
import contextlib
import fractions
import time
from collections.abc import Callable
from typing import Self

import aioice.ice
import httpx
import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import AudioFrame

from stream_server.events import Event, decode
from stream_server.media.timecode import decode_timecode


class Voice(MediaStreamTrack):
    """Syllables of 160 ms every 320 ms; `muted` sends nothing at all."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self.muted = asyncio.Event()
        self._packet = 0
        self._start_s = time.monotonic()

    async def recv(self) -> AudioFrame:
        if self.muted.is_set():
            await asyncio.Future()
        await asyncio.sleep(max(0.0, self._start_s + self._packet * 0.02 - time.monotonic()))
        t = (self._packet * 960 + np.arange(960)) / 48_000
        loud = float(self._packet // 8 % 2)
        samples = (np.sin(2 * np.pi * 220 * t) * 9000 * loud).astype(np.int16)
        frame = AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, self._packet * 960, fractions.Fraction(1, 48_000)
        self._packet += 1
        return frame


class RealPeer:
    """One call."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.voice = Voice()
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.codes: list[int | None] = []
        self.mouths: list[float] = []
        self.loudness: list[float] = []
        self.events: list[Event] = []
        self.changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        channel = self.connection.createDataChannel("events")
        channel.on("message", self._on_event)
        self.connection.addTrack(self.voice)
        self.connection.addTransceiver("video", "recvonly")
        self.connection.on("track", lambda track: self._tasks.append(asyncio.create_task(self._collect(track))))
        self.session: str | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def offer(self) -> httpx.Response:
        """Send the offer; the server's response."""
        await self.connection.setLocalDescription(await self.connection.createOffer())
        body = {"sdp": self.connection.localDescription.sdp, "type": "offer"}
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.post(f"{self.url}/v1/sessions", json=body, timeout=10)

    async def call(self) -> None:
        """Offer, take the answer."""
        response = await self.offer()
        response.raise_for_status()
        answer = response.json()
        self.session = answer["id"]
        await self.connection.setRemoteDescription(RTCSessionDescription(answer["sdp"], answer["type"]))

    async def until(self, condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
        """Wait for something to have been received."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def close(self) -> None:
        """Hang up."""
        await self.connection.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _on_event(self, message: str) -> None:
        self.events.append(decode(message))
        self.changed.set()

    async def _collect(self, track: MediaStreamTrack) -> None:
        with contextlib.suppress(MediaStreamError):
            while True:
                frame = await track.recv()
                if isinstance(frame, AudioFrame):
                    self.loudness.append(float(np.abs(frame.to_ndarray()).mean()))
                else:
                    picture = frame.to_ndarray()  # type: ignore[union-attr]
                    luma = picture[: frame.height]  # type: ignore[union-attr]
                    self.codes.append(decode_timecode(luma))
                    self.mouths.append(255.0 - float(luma[160:224, 90:166].mean()))
                self.changed.set()


def offer_loopback() -> None:
    """This process offers 127.0.0.1 as well, so that tests need no network interface."""
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
