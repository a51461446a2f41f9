"""The worker's end of the engine's socket: reconnects for ever, lends slots with hops, hands frames on."""

from __future__ import annotations

import asyncio
import itertools
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
from stream_server.errors import EngineLostError, ProtocolError, RefusedError

__all__ = ["MOTION_COLUMNS", "EngineClient", "HopResult", "StreamPort"]

log = logging.getLogger(__name__)

MOTION_COLUMNS = 55
"""52 ARKit coefficients, then the head's yaw, pitch and roll in degrees."""
_RETRY_S = 0.1
_HELLO_TIMEOUT_S = 10.0
_REQUEST_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class HopResult:
    """The engine's answer to a hop, or part of it; `frames` is a copy, `motion` (n, 55).

    A hop's frames may come one by one, with `last` the last of them; `engine_ms` is what the hop has cost so far.
    """

    generation: int
    hop: int
    first_frame: int
    frames: NDArray[np.uint8]
    motion: NDArray[np.float32]
    started_ns: int
    finished_ns: int
    returned_ns: int
    engine_ms: dict[str, float]
    last: bool = True


@dataclass(frozen=True, slots=True)
class StreamPort:
    """Where a session's answers go. `on_failed(generation, message)`: its stream ended in an error; `on_lost` and
    `on_back`: the engine went away, and another one is there."""

    on_result: Callable[[HopResult], None]
    on_failed: Callable[[int, str], None]
    on_lost: Callable[[], None]
    on_back: Callable[[], None]


class EngineClient:
    """One connection to one engine. `avatar` is None while there is none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: asyncio.StreamWriter | None = None
        self._ring: FrameRing | None = None
        self._free_slots: list[int] = []
        self._lent_s: dict[int, float] = {}
        self._ports: dict[str, StreamPort] = {}
        self._requests: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._numbers = itertools.count(1)
        self._task: asyncio.Task[None] | None = None
        self.avatar: dict[str, Any] | None = None
        self.epoch = ""
        self.busy_ms_per_hop = 0.0
        """Smoothed time the engine spends on one session's hop, its part of shared steps; 0 before the first."""

    @property
    def stuck_s(self) -> float:
        """For how long the oldest hop that was submitted has not been answered."""
        return time.monotonic() - min(self._lent_s.values()) if self._lent_s else 0.0

    def start(self) -> None:
        """Begin to connect."""
        self._task = asyncio.create_task(self._run(), name="engine-client")

    async def close(self) -> None:
        """Stop; idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def request(self, kind: str, **values: Any) -> dict[str, Any]:
        """Ask the engine something and wait for its answer.

        Raises:
            EngineLostError: There is no engine, or it went away or did not answer in time.
            RefusedError: It says that this cannot be done.
        """
        number = next(self._numbers)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._requests[number] = future
        try:
            self._send({"type": kind, "request": number} | values)
            async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                answer = await future
        except TimeoutError:
            raise EngineLostError(f"the engine did not answer within {_REQUEST_TIMEOUT_S:.0f} s") from None
        finally:
            self._requests.pop(number, None)
        if answer["type"] == "refused":
            raise RefusedError(str(answer["message"]))
        return answer

    def attach(self, session: str, port: StreamPort) -> None:
        """From now on a session's answers go to `port`."""
        self._ports[session] = port

    def open(self, session: str, **values: Any) -> None:
        """Begin a session's stream, or begin it anew under a higher generation; fields of `open` in the protocol."""
        self._send({"type": "open", "session": session} | values)

    def rewind(self, session: str, generation: int, hop: int) -> None:
        """Take a session's stream back to before `hop`."""
        self._send({"type": "rewind", "session": session, "generation": generation, "hop": hop})

    def close_stream(self, session: str) -> None:
        """Forget a session; no callback comes after this."""
        if self._ports.pop(session, None) is not None and self._writer is not None:
            self._send({"type": "close", "session": session})

    def submit(self, session: str, generation: int, hop: int, samples: NDArray[np.float32]) -> bool:
        """Send a hop to the model; False if no slot is free."""
        if not self._free_slots or self._writer is None:
            return False
        slot = self._free_slots.pop()
        self._lent_s[slot] = time.monotonic()
        body = {"type": "hop", "session": session, "generation": generation, "hop": hop, "slot": slot}
        self._send(body, samples.astype(np.float32, copy=False).tobytes())
        return True

    def _have_back(self, slot: int) -> None:
        self._free_slots.append(slot)
        self._lent_s.pop(slot, None)

    def _send(self, body: dict[str, Any], blob: bytes = b"") -> None:
        if self._writer is None:
            raise EngineLostError("no engine is connected")
        self._writer.write(protocol.pack(body, blob))

    async def _run(self) -> None:
        while True:
            try:
                reader = await self._connect()
            except (OSError, EngineLostError, ProtocolError):
                await asyncio.sleep(_RETRY_S)
                continue
            try:
                while True:
                    self._dispatch(*await protocol.read_message(reader))
            except (EngineLostError, ProtocolError, KeyError, ValueError, TypeError) as error:
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
        log.info("engine connected: %s at %s px", avatar["name"], avatar["size"])
        for port in list(self._ports.values()):
            port.on_back()
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
        self._lent_s.clear()
        for future in self._requests.values():
            if not future.done():
                future.set_exception(EngineLostError("the engine stopped"))
        for port in list(self._ports.values()):
            port.on_lost()

    def _dispatch(self, body: dict[str, Any], blob: bytes) -> None:
        if body["type"] in ("done", "refused"):
            future = self._requests.get(int(body["request"]))
            if future is not None and not future.done():
                future.set_result(body)
            return
        port = self._ports.get(body["session"])
        if body["type"] == "frames":
            result = self._take(body, blob)
            if port is not None:
                port.on_result(result)
        elif body["type"] == "failed":
            if body["slot"] is not None:
                self._have_back(int(body["slot"]))
            if port is not None:
                port.on_failed(int(body["generation"]), str(body["message"]))
        else:
            raise ProtocolError(f"unknown message {body['type']!r}")

    def _take(self, body: dict[str, Any], blob: bytes) -> HopResult:
        assert self._ring is not None
        slot, count, last = int(body["slot"]), int(body["count"]), bool(body["last"])
        frames = self._ring.read(slot, count, int(body["offset"]))
        if last:
            self._have_back(slot)
        if last and body["engine_ms"]:  # none: the hop was passed over
            busy_ms = sum(body["engine_ms"].values())  # a step's wall time would count its other sessions as well
            self.busy_ms_per_hop += 0.05 * (busy_ms - self.busy_ms_per_hop) if self.busy_ms_per_hop else busy_ms
        return HopResult(
            generation=body["generation"],
            hop=body["hop"],
            first_frame=body["first_frame"],
            frames=frames,
            motion=np.frombuffer(blob, np.float32).reshape(count, MOTION_COLUMNS),
            started_ns=body["started_ns"],
            finished_ns=body["finished_ns"],
            returned_ns=time.monotonic_ns(),
            engine_ms=body["engine_ms"],
            last=last,
        )
