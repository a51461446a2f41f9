"""The worker's end of the engine's socket: reconnects for ever, lends slots with hops, hands frames on."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_server.engine import protocol
from stream_server.engine.shared_frames import FrameRing
from stream_server.errors import EngineLostError, ProtocolError

__all__ = ["EngineClient", "HopResult", "StreamPort"]

log = logging.getLogger(__name__)

_RETRY_S = 0.1
_HELLO_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class HopResult:
    """The engine's answer to one hop; `frames` is a copy."""

    generation: int
    hop: int
    first_frame: int
    frames: NDArray[np.uint8]
    started_ns: int
    finished_ns: int
    returned_ns: int
    engine_ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class StreamPort:
    """Where a session's answers go. `on_failed` ends the session."""

    on_result: Callable[[HopResult], None]
    on_failed: Callable[[str], None]


class EngineClient:
    """One connection to one engine. `avatar` is None while there is none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: asyncio.StreamWriter | None = None
        self._ring: FrameRing | None = None
        self._free_slots: list[int] = []
        self._ports: dict[str, StreamPort] = {}
        self._task: asyncio.Task[None] | None = None
        self.avatar: dict[str, Any] | None = None
        self.epoch = ""

    def start(self) -> None:
        """Begin to connect."""
        self._task = asyncio.create_task(self._run(), name="engine-client")

    async def close(self) -> None:
        """Stop; idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def open(self, session: str, generation: int, seed: int, port: StreamPort) -> None:
        """Begin a session's stream, or begin it anew under a higher generation."""
        self._ports[session] = port
        self._send({"type": "open", "session": session, "generation": generation, "seed": seed})

    def close_stream(self, session: str) -> None:
        """Forget a session; no callback comes after this."""
        if self._ports.pop(session, None) is not None and self._writer is not None:
            self._send({"type": "close", "session": session})

    def submit(self, session: str, generation: int, hop: int, samples: NDArray[np.float32]) -> bool:
        """Send a hop to the model; False if no slot is free."""
        if not self._free_slots or self._writer is None:
            return False
        body = {"type": "hop", "session": session, "generation": generation, "hop": hop}
        self._send(body | {"slot": self._free_slots.pop()}, samples.astype(np.float32, copy=False).tobytes())
        return True

    def _send(self, body: dict[str, Any], blob: bytes = b"") -> None:
        if self._writer is None:
            raise EngineLostError("no engine is connected")
        self._writer.write(protocol.pack(body, blob))

    async def _run(self) -> None:
        while True:
            try:
                reader = await self._connect()
            except (OSError, EngineLostError):
                await asyncio.sleep(_RETRY_S)
                continue
            try:
                while True:
                    self._dispatch(*await protocol.read_message(reader))
            except (EngineLostError, ProtocolError, KeyError) as error:
                log.warning("engine lost: %s", error)
            finally:
                self._disconnect()

    async def _connect(self) -> asyncio.StreamReader:
        sock, hello, descriptor = await asyncio.to_thread(self._shake_hands)
        avatar = hello["avatar"]
        self._ring = FrameRing(
            descriptor, slots=hello["slots"], frames_per_slot=avatar["hop_frames"], size=avatar["size"]
        )
        self._free_slots = list(range(hello["slots"]))
        reader, self._writer = await asyncio.open_unix_connection(sock=sock)
        self.epoch = hello["epoch"]
        self.avatar = avatar
        log.info("engine connected: %s", avatar)
        return reader

    def _shake_hands(self) -> tuple[socket.socket, dict[str, Any], int]:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(_HELLO_TIMEOUT_S)
            sock.connect(str(self._path))
            hello, descriptor = protocol.receive_hello(sock)
        except BaseException:
            sock.close()
            raise
        sock.setblocking(False)
        return sock, hello, descriptor

    def _disconnect(self) -> None:
        self.avatar = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._ring is not None:
            self._ring.close()
            self._ring = None
        self._free_slots = []
        ports, self._ports = self._ports, {}
        for port in ports.values():
            port.on_failed("the engine stopped")

    def _dispatch(self, body: dict[str, Any], _blob: bytes) -> None:
        assert self._ring is not None
        slot = int(body["slot"])
        port = self._ports.get(body["session"])
        if body["type"] == "frames":
            frames = self._ring.read(slot, int(body["count"]))
            self._free_slots.append(slot)
            if port is not None:
                port.on_result(_result(body, frames))
        elif body["type"] == "failed":
            self._free_slots.append(slot)
            if port is not None:
                port.on_failed(str(body["message"]))
        else:
            raise ProtocolError(f"unknown message {body['type']!r}")


def _result(body: dict[str, Any], frames: NDArray[np.uint8]) -> HopResult:
    return HopResult(
        generation=body["generation"],
        hop=body["hop"],
        first_frame=body["first_frame"],
        frames=frames,
        started_ns=body["started_ns"],
        finished_ns=body["finished_ns"],
        returned_ns=time.monotonic_ns(),
        engine_ms=body["engine_ms"],
    )
