"""Small helpers for tests that talk to a real server process."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
from websockets.asyncio.client import ClientConnection, connect

from tests.stream_server.patience import PATIENCE

JPEG, PCM, MP4 = 1, 2, 3


def client(server: Any, **more: Any) -> httpx.AsyncClient:
    """An HTTP client for the server."""
    return httpx.AsyncClient(trust_env=False, base_url=server.url, timeout=15 * PATIENCE, **more)


def tone(seconds: float, rate_hz: int = 24_000) -> bytes:
    """A steady hum as PCM16."""
    t = np.arange(int(seconds * rate_hz)) / rate_hz
    return bytes((np.sin(2 * np.pi * 200 * t) * 8000).astype("<i2").tobytes())


class Assistant:
    """One `WS /v1/speak`: what came, in order. `loud` holds (position, loudness) of each 20 ms of sound."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.events: list[dict[str, Any]] = []
        self.pictures: list[int] = []
        self.loud: list[tuple[int, float]] = []
        self.pieces: list[bytes] = []
        self.jpegs: list[bytes] = []

    @classmethod
    async def open(cls, server: Any, headers: dict[str, str] | None = None, **start: Any) -> Assistant:
        """Connect and send the start message."""
        url = server.url.replace("http", "ws") + "/v1/speak"
        socket = await connect(url, additional_headers=headers, max_size=1 << 22, proxy=None)
        await socket.send(json.dumps({"type": "start"} | start))
        return cls(socket)

    async def send(self, **message: Any) -> None:
        """Send a message."""
        await self.socket.send(json.dumps(message))

    async def until(self, condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
        """Read until something has been received."""
        async with asyncio.timeout(timeout_s * PATIENCE):
            while not condition():
                self._take(await self.socket.recv())

    def kinds(self) -> list[str]:
        """Types of the events so far, without those that come all the time."""
        often = ("timing", "playback.position", "playback.spoken", "speech.room")
        return [str(event["type"]) for event in self.events if event["type"] not in often]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Events of one type."""
        return [event for event in self.events if event["type"] == kind]

    def _take(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self.events.append(json.loads(message))
            return
        kind, index = struct.unpack(">BxxxI", message[:8])
        if kind == JPEG:
            self.pictures.append(index)
            self.jpegs.append(message[8:])
        elif kind == PCM:
            samples = np.frombuffer(message[8:], "<i2").astype(np.float32)
            self.loud.append((index, float(np.abs(samples).mean())))
        else:
            self.pieces.append(message[8:])
