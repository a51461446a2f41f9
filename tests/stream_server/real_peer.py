"""A caller made of aiortc: speaks a made-up voice, collects frames, sound and events."""

from __future__ import annotations

import asyncio
import contextlib
import fractions
import json
import time
from collections.abc import Callable
from typing import Any, Self

import aioice.ice
import httpx
import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import AudioFrame
from numpy.typing import NDArray

from stream_server.events import Event, decode
from stream_server.media.timecode import decode_timecode
from tests.stream_server.patience import PATIENCE


class Voice(MediaStreamTrack):
    """Syllables of 160 ms every 320 ms; `muted` sends nothing at all."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self.hertz = 220.0
        self.muted = asyncio.Event()
        self._packet = 0
        self._start_s = time.monotonic()

    async def recv(self) -> AudioFrame:
        if self.muted.is_set():
            await asyncio.Future()
        await asyncio.sleep(max(0.0, self._start_s + self._packet * 0.02 - time.monotonic()))
        t = (self._packet * 960 + np.arange(960)) / 48_000
        loud = float(self._packet // 8 % 2)
        samples = (np.sin(2 * np.pi * self.hertz * t) * 9000 * loud).astype(np.int16)
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
        self.skins: list[float] = []
        self.keep_lumas = False
        self.lumas: list[NDArray[np.uint8]] = []
        self.spectra: list[NDArray[np.complex64]] = []
        self.loudness: list[float] = []
        self.events: list[Event] = []
        self.changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        channel = self.connection.createDataChannel("events")
        channel.on("message", self._on_event)
        self.connection.addTrack(self.voice)
        self.connection.addTransceiver("video", "recvonly")
        self.channel = channel
        self.collect_tracks()
        self.session: str | None = None
        self.resume_token = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def collect_tracks(self) -> None:
        """Take in what the present connection receives."""
        self.connection.on("track", lambda track: self._tasks.append(asyncio.create_task(self._collect(track))))

    def say(self, **message: Any) -> None:
        """Send a message on the events channel."""
        self.channel.send(json.dumps(message))

    def heard_hertz(self) -> float:
        """The loudest pitch of the last two seconds."""
        power = np.sum([np.abs(spectrum) for spectrum in self.spectra[-100:]], axis=0)
        return float(np.argmax(power) * 25.0)

    async def offer(self, path: str = "/v1/sessions", **more: Any) -> httpx.Response:
        """Send the offer; the server's response."""
        await self.connection.setLocalDescription(await self.connection.createOffer())
        body = {"sdp": self.connection.localDescription.sdp, "type": "offer"} | more
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.post(self.url + path, json=body, timeout=20 * PATIENCE)

    async def call(self, **more: Any) -> None:
        """Offer, take the answer."""
        response = await self.offer(**more)
        response.raise_for_status()
        answer = response.json()
        self.session, self.resume_token = answer["id"], answer["resume_token"]
        await self.connection.setRemoteDescription(RTCSessionDescription(answer["sdp"], answer["type"]))

    async def hang_up(self) -> None:
        """End the session; its place is free when this returns."""
        async with httpx.AsyncClient(trust_env=False) as client:
            await client.delete(f"{self.url}/v1/sessions/{self.session}", timeout=20 * PATIENCE)

    async def until(self, condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
        """Wait for something to have been received."""
        async with asyncio.timeout(timeout_s * PATIENCE):
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
                    samples = frame.to_ndarray().reshape(-1, len(frame.layout.channels))[:, 0]
                    self.loudness.append(float(np.abs(samples.astype(np.int32)).mean()))
                    self.spectra.append(np.fft.rfft(samples[:960], 1920).astype(np.complex64))
                else:
                    picture = frame.to_ndarray()  # type: ignore[union-attr]
                    luma = picture[: frame.height]  # type: ignore[union-attr]
                    self.codes.append(decode_timecode(luma))
                    if self.keep_lumas:
                        self.lumas.append(luma.copy())
                    height, width = luma.shape
                    rows, columns = slice(height * 5 // 8, height * 7 // 8), slice(width * 7 // 20, width * 13 // 20)
                    self.mouths.append(255.0 - float(luma[rows, columns].mean()))
                    self.skins.append(float(np.median(luma[height // 3 : height // 2, width // 3 : width * 2 // 3])))
                self.changed.set()


def offer_loopback() -> None:
    """This process offers 127.0.0.1 as well, so that tests need no network interface."""
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
