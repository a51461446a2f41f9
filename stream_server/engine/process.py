"""The engine: owns torch and the avatars, steps the pipeline, writes frames to shared memory.

One thread accepts connections, one per connection reads, one loads avatars and background pictures, and the main thread
computes; no event loop here. A stream whose avatar is not in memory (after this engine took a dead one's place) begins
when it is: its hops are passed over until then, and other streams go on.
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from model.errors import ModelError
from stream_server.engine import protocol
from stream_server.engine.batcher import Change, Close, HopTask, Inbox, Load, Open, Ready, Rewind, Task
from stream_server.engine.loading import HopOutputLike, Loaded, describe, step_in_parts
from stream_server.engine.shared_frames import FrameRing
from stream_server.engine.streams import Stream, StreamTable
from stream_server.engine.tasks import parse
from stream_server.errors import EngineLostError, ProtocolError

__all__ = ["Engine"]

log = logging.getLogger(__name__)

SLOTS = 32


class Connection:
    """One media worker, as the engine sees it: its socket and its ring."""

    def __init__(self, sock: socket.socket, ring: FrameRing) -> None:
        self.sock = sock
        self.ring = ring
        self._lock = threading.Lock()

    def send(self, body: dict[str, Any], blob: bytes = b"") -> None:
        """Send a message; a worker that went away is found out by the reader."""
        try:
            with self._lock:
                self.sock.sendall(protocol.pack(body, blob))
        except OSError:
            log.info("a worker went away")

    def answer(self, request: int, problem: str | None = None, **values: Any) -> None:
        """Answer a request: `done`, or `refused` with what was wrong."""
        if problem is None:
            self.send({"type": "done", "request": request} | values)
        else:
            self.send({"type": "refused", "request": request, "message": problem})


class Engine:
    """Serves a loaded pipeline on a Unix socket until told to stop."""

    def __init__(self, loaded: Loaded, path: Path) -> None:
        self._loaded = loaded
        self._inbox = Inbox()
        self._streams = StreamTable()
        self._epoch = uuid.uuid4().hex
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="avatars")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path.unlink(missing_ok=True)
        self._listener.bind(os.fspath(path))
        os.chmod(path, 0o600)
        self._listener.listen(8)

    def run(self) -> None:
        """Serve until SIGTERM, which ends the process."""
        signal.signal(signal.SIGTERM, lambda *_: _exit_now())
        self.serve()

    def stop(self) -> None:
        """Let `serve` end, from any thread."""
        self._inbox.put(None)

    def serve(self) -> None:
        """Compute until `stop`."""
        threading.Thread(target=self._accept, name="accept", daemon=True).start()
        while True:
            patience_s = self._loaded.batch_wait_s if len(self._streams) > 1 else 0.0
            tasks = self._inbox.take(min(self._loaded.most_hops, max(1, len(self._streams))), patience_s)
            if tasks is None:
                return
            self._do(tasks)

    def _accept(self) -> None:
        while True:
            sock, _address = self._listener.accept()
            spec = self._loaded.pipeline.spec
            ring = FrameRing.create(slots=SLOTS, frames_per_slot=spec.hop_frames, size=spec.size)
            connection = Connection(sock, ring)
            threading.Thread(target=self._serve, args=(connection,), name="worker", daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        hello = {
            "type": "hello",
            "version": protocol.PROTOCOL_VERSION,
            "epoch": self._epoch,
            "slots": SLOTS,
            "avatar": describe(self._loaded),
        }
        hop_samples = int(self._loaded.pipeline.spec.hop_samples)
        try:
            protocol.send_with_descriptor(connection.sock, protocol.pack(hello), connection.ring.descriptor)
            while True:
                body, blob = protocol.receive_message(connection.sock)
                if body["type"] == "ping":
                    connection.answer(int(body["request"]))
                else:
                    self._inbox.put(parse(connection, body, blob, slots=SLOTS, hop_samples=hop_samples))
        except (EngineLostError, OSError):
            log.info("worker disconnected")
        except (ProtocolError, KeyError, ValueError, TypeError):
            log.exception("worker broke the protocol")
        finally:
            connection.sock.close()
            self._inbox.put(Close(connection, None))

    def _do(self, tasks: Sequence[Task]) -> None:
        match tasks[0]:
            case Load() as task:
                self._loader.submit(self._load, task)
            case Open() as task:
                self._open(task)
            case Ready() as task:
                self._begin_waiting(task)
            case Change() as task:
                self._change(task)
            case Rewind() as task:
                self._rewind(task)
            case Close() as task:
                self._streams.drop(task.connection, task.session)
                if task.session is None:
                    task.connection.ring.close()
            case _:
                self._step([task for task in tasks if isinstance(task, HopTask)])

    def _load(self, task: Load) -> None:
        try:
            avatar = self._loaded.shelf.require(task.avatar)
        except Exception as error:
            log.warning("avatar %r cannot be loaded: %s", task.avatar[:40], error)
            task.connection.answer(task.request, " ".join(str(error).split()))
        else:
            task.connection.answer(task.request, name=str(avatar.name))

    def _open(self, task: Open) -> None:
        stream = Stream(task.generation, task.seed, None, task.rewindable, task.hop)
        self._streams.put(task.connection, task.session, stream)
        shown = self._loaded.shelf.get(task.avatar)
        if shown is None or self._loaded.make_controls.reads_file(task.controls):
            self._loader.submit(self._load_for, task, stream)
            return
        try:
            stream.controls = self._loaded.make_controls(task.controls)
        except Exception as error:
            log.exception("a stream cannot be opened")
            self._give_up(task.connection, task.session, str(error))
        else:
            self._begin(stream, shown)

    def _load_for(self, task: Open, stream: Stream) -> None:
        """In the thread that loads: what a stream needs before it can begin."""
        try:
            shown = self._loaded.shelf.require(task.avatar)
            controls = self._loaded.make_controls(task.controls)
        except Exception as error:
            log.exception("a stream cannot be opened")
            self._inbox.put(Ready(task.connection, task.session, stream, problem=str(error)))
        else:
            self._inbox.put(Ready(task.connection, task.session, stream, shown, controls))

    def _begin_waiting(self, task: Ready) -> None:
        stream: Stream = task.stream
        if self._streams.get(task.connection, task.session) is not stream or stream.state is not None:
            return  # closed or opened anew meanwhile
        if task.problem is not None:
            self._give_up(task.connection, task.session, task.problem)
            return
        if stream.controls is None:
            stream.controls = task.controls
        self._begin(stream, task.shown if stream.wanted is None else stream.wanted)

    def _begin(self, stream: Stream, shown: Any) -> None:
        pipeline = self._loaded.pipeline
        first_frame = stream.next_hop * int(pipeline.spec.hop_frames)
        stream.begin(pipeline.new_state(stream.seed, shown=shown, first_frame=first_frame))

    def _give_up(self, connection: Connection, session: str, message: str) -> None:
        stream = self._streams.get(connection, session)
        if stream is not None:
            self._streams.drop(connection, session)
            self._tell_failed(connection, session, stream.generation, message)

    def _change(self, task: Change) -> None:
        if task.controls is not None and self._loaded.make_controls.reads_file(task.controls):
            self._loader.submit(self._read_for, task)
            return
        stream = self._streams.get(task.connection, task.session)
        try:
            controls = None if task.controls is None else self._loaded.make_controls(task.controls)
            shown = None if task.avatar is None else self._loaded.shelf.get(task.avatar)
            if task.avatar is not None and shown is None:
                raise ValueError(f"avatar {task.avatar!r} is not loaded")
        except Exception as error:  # what one caller asks for must not end the engine
            if not isinstance(error, ValueError | ModelError):
                log.exception("a change failed")
            task.connection.answer(task.request, " ".join(str(error).split()))
            return
        if stream is not None and controls is not None:
            stream.controls = controls
        if stream is not None and shown is not None:
            stream.show(shown)
        task.connection.answer(task.request)

    def _read_for(self, task: Change) -> None:
        """In the thread that loads: read the picture that a change asks for, then let it be made."""
        try:
            self._loaded.make_controls(task.controls or {})
        except Exception as error:
            task.connection.answer(task.request, " ".join(str(error).split()))
        else:
            self._inbox.put(task)

    def _rewind(self, task: Rewind) -> None:
        stream = self._streams.get(task.connection, task.session)
        if stream is not None and (stream.state is None or task.hop < stream.first_hop):
            stream.generation, stream.next_hop = task.generation, task.hop
            if stream.state is not None:  # to where its avatar was being loaded: it has no memory of that
                self._begin(stream, stream.state.shown)
        elif stream is None or not stream.rewind(task.generation, task.hop):
            message = f"the stream cannot go back to before hop {task.hop}"
            self._tell_failed(task.connection, task.session, task.generation, message)

    def _step(self, tasks: Sequence[HopTask]) -> None:
        live: list[tuple[HopTask, Stream]] = []
        for task in tasks:
            stream = self._streams.get(task.connection, task.session)
            if stream is None or stream.generation != task.generation:
                self._fail(task, "this stream is not open")
            elif stream.state is None:
                stream.pass_over(task.hop)
                self._pass_over(task)
            else:
                stream.keep(task.hop)
                live.append((task, stream))
        if not live:
            return
        self._make(live)

    def _make(self, live: Sequence[tuple[HopTask, Stream]]) -> None:
        """Step these streams and send every frame when it is made: a first frame does not wait for the second."""
        started_ns = time.monotonic_ns()
        audio = np.stack([task.samples for task, _ in live])
        controls, states = [s.controls for _, s in live], [s.state for _, s in live]
        sent = [0] * len(live)
        open_rows = set(range(len(live)))
        try:
            for row, output, last in step_in_parts(self._loaded.pipeline, audio, controls, states):
                self._answer(live[row][0], output, started_ns, offset=sent[row], last=last)
                sent[row] += len(output.frames)
                open_rows -= {row} if last else set()
        except Exception as error:  # ends these sessions only
            log.exception("a step failed")
            for task, _ in (live[row] for row in sorted(open_rows)):
                self._streams.drop(task.connection, task.session)
                self._fail(task, f"{type(error).__name__}: {error}")

    def _answer(self, task: HopTask, output: HopOutputLike, started_ns: int, *, offset: int, last: bool) -> None:
        if len(output.frames):
            task.connection.ring.write(task.slot, output.frames, offset)
        body = {
            "type": "frames",
            "session": task.session,
            "generation": task.generation,
            "hop": task.hop,
            "slot": task.slot,
            "first_frame": int(output.first_frame),
            "offset": offset,
            "count": len(output.frames),
            "last": last,
            "started_ns": started_ns,
            "finished_ns": time.monotonic_ns(),
            "engine_ms": {name: round(float(ms), 3) for name, ms in output.stage_ms.items()},
        }
        task.connection.send(body, self._loaded.describe_motion(output).astype(np.float32, copy=False).tobytes())

    def _pass_over(self, task: HopTask) -> None:
        now_ns = time.monotonic_ns()
        body = {
            "type": "frames",
            "session": task.session,
            "generation": task.generation,
            "hop": task.hop,
            "slot": task.slot,
            "first_frame": 0,
            "offset": 0,
            "count": 0,
            "last": True,
            "started_ns": now_ns,
            "finished_ns": now_ns,
            "engine_ms": {},
        }
        task.connection.send(body)

    def _fail(self, task: HopTask, message: str) -> None:
        self._tell_failed(task.connection, task.session, task.generation, message, slot=task.slot)

    def _tell_failed(
        self, connection: Connection, session: str, generation: int, message: str, slot: int | None = None
    ) -> None:
        body = {"type": "failed", "session": session, "generation": generation, "slot": slot, "message": message}
        connection.send(body)


def _exit_now() -> None:
    """Nothing here needs saving, and a step in C++ would not notice an exception for a while."""
    logging.shutdown()
    os._exit(0)
