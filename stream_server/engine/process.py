"""The engine: owns torch and the avatar, steps the pipeline, writes frames to shared memory.

One thread accepts connections, one per connection reads, and the main thread computes; no event loop here.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stream_server.engine import protocol
from stream_server.engine.batcher import Close, HopTask, Inbox, Open, Task
from stream_server.engine.loading import HopOutputLike, Loaded, describe
from stream_server.engine.shared_frames import FrameRing
from stream_server.errors import EngineLostError, ProtocolError

__all__ = ["Engine"]

log = logging.getLogger(__name__)

_SLOTS = 8


class Connection:
    """One media worker, as the engine sees it: its socket and its ring."""

    def __init__(self, sock: socket.socket, ring: FrameRing) -> None:
        self.sock = sock
        self.ring = ring
        self._lock = threading.Lock()

    def send(self, body: dict[str, Any]) -> None:
        """Send a message; a worker that went away is found out by the reader."""
        try:
            with self._lock:
                self.sock.sendall(protocol.pack(body))
        except OSError:
            log.info("a worker went away")


class Engine:
    """Serves a loaded pipeline on a Unix socket until told to stop."""

    def __init__(self, loaded: Loaded, path: Path, *, most_hops: int = 8) -> None:
        self._loaded = loaded
        self._most_hops = most_hops
        self._inbox = Inbox()
        self._states: dict[tuple[int, str], tuple[int, Any]] = {}
        self._epoch = uuid.uuid4().hex
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path.unlink(missing_ok=True)
        self._listener.bind(os.fspath(path))
        os.chmod(path, 0o600)
        self._listener.listen(8)

    def run(self) -> None:
        """Compute until SIGTERM."""
        signal.signal(signal.SIGTERM, lambda *_: _exit_now())
        threading.Thread(target=self._accept, name="accept", daemon=True).start()
        while (tasks := self._inbox.take(self._most_hops)) is not None:
            self._do(tasks)

    def _accept(self) -> None:
        while True:
            sock, _address = self._listener.accept()
            spec = self._loaded.pipeline.spec
            ring = FrameRing.create(slots=_SLOTS, frames_per_slot=spec.hop_frames, size=spec.size)
            connection = Connection(sock, ring)
            threading.Thread(target=self._serve, args=(connection,), name="worker", daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        hello = {
            "type": "hello",
            "version": protocol.PROTOCOL_VERSION,
            "epoch": self._epoch,
            "slots": _SLOTS,
            "avatar": describe(self._loaded),
        }
        try:
            protocol.send_with_descriptor(connection.sock, protocol.pack(hello), connection.ring.descriptor)
            while True:
                self._inbox.put(self._parse(connection, *protocol.receive_message(connection.sock)))
        except (EngineLostError, OSError):
            log.info("worker disconnected")
        except (ProtocolError, KeyError, ValueError):
            log.exception("worker broke the protocol")
        finally:
            connection.sock.close()
            self._inbox.put(Close(connection, None))

    def _parse(self, connection: Connection, body: dict[str, Any], blob: bytes) -> Task:
        kind, session = body["type"], str(body["session"])
        if kind == "open":
            return Open(connection, session, int(body["generation"]), int(body["seed"]))
        if kind == "close":
            return Close(connection, session)
        if kind != "hop":
            raise ProtocolError(f"unknown message {kind!r}")
        samples = np.frombuffer(blob, np.float32)
        wanted = self._loaded.pipeline.spec.hop_samples
        slot = int(body["slot"])
        if len(samples) != wanted or not 0 <= slot < _SLOTS:
            raise ProtocolError(f"a hop needs {wanted} samples and a slot below {_SLOTS}, got {len(samples)}, {slot}")
        return HopTask(connection, session, int(body["generation"]), int(body["hop"]), slot, samples)

    def _do(self, tasks: Sequence[Task]) -> None:
        first = tasks[0]
        if isinstance(first, Open):
            key = (id(first.connection), first.session)
            self._states[key] = (first.generation, self._loaded.pipeline.new_state(first.seed))
        elif isinstance(first, Close):
            self._close(first)
        else:
            self._step([task for task in tasks if isinstance(task, HopTask)])

    def _close(self, task: Close) -> None:
        for key in [k for k in self._states if k[0] == id(task.connection) and task.session in (None, k[1])]:
            del self._states[key]
        if task.session is None:
            task.connection.ring.close()

    def _step(self, tasks: Sequence[HopTask]) -> None:
        live = []
        for task in tasks:
            generation, state = self._states.get((id(task.connection), task.session), (None, None))
            if generation == task.generation:
                live.append((task, state))
            else:
                self._fail(task, "this stream is not open")
        if not live:
            return
        started_ns = time.monotonic_ns()
        audio = np.stack([task.samples for task, _ in live])
        controls = [self._loaded.neutral_controls() for _ in live]
        try:
            outputs = self._loaded.pipeline.step(audio, controls, [state for _, state in live])
        except Exception as error:  # ends these sessions only
            log.exception("a step failed")
            for task, _ in live:
                self._states.pop((id(task.connection), task.session), None)
                self._fail(task, f"{type(error).__name__}: {error}")
            return
        for (task, _), output in zip(live, outputs, strict=True):
            self._answer(task, output, started_ns)

    def _answer(self, task: HopTask, output: HopOutputLike, started_ns: int) -> None:
        if len(output.frames):
            task.connection.ring.write(task.slot, output.frames)
        task.connection.send(
            {
                "type": "frames",
                "session": task.session,
                "generation": task.generation,
                "hop": task.hop,
                "slot": task.slot,
                "first_frame": int(output.first_frame),
                "count": len(output.frames),
                "started_ns": started_ns,
                "finished_ns": time.monotonic_ns(),
                "engine_ms": {name: round(float(ms), 3) for name, ms in output.stage_ms.items()},
            }
        )

    def _fail(self, task: HopTask, message: str) -> None:
        body = {"type": "failed", "session": task.session, "generation": task.generation, "hop": task.hop}
        task.connection.send(body | {"slot": task.slot, "message": message})


def _exit_now() -> None:
    """Nothing here needs saving, and a step in C++ would not notice an exception for a while."""
    logging.shutdown()
    os._exit(0)
