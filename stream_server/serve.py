"""`nerf-lipsync serve`: starts engine, media workers and front, watches over them, ends them all.

This process computes nothing and imports no model. It binds the port before anything loads, so a port in use
is one line and exit code 2; children are started by exec, get their settings through their standard input, and
die with this process. A child that ends is started again, unless it keeps ending; an engine that has not answered
for five seconds is ended. Sessions live in the workers: they go on with the engine that comes next, which stands by
with everything imported and waits for its settings (`standby.py`): half of an engine's start is imports.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from stream_server.avatar_folders import Catalogue
from stream_server.config import ServerConfig
from stream_server.engine import protocol
from stream_server.errors import EngineLostError, ProtocolError, ServerConfigError
from stream_server.log_setup import set_up_logging
from stream_server.standby import Standby

__all__ = [
    "ALL_ROLES",
    "EXIT_CONFIG",
    "Role",
    "Supervisor",
    "bind",
    "ready_line",
    "run_server",
    "url_of",
    "with_record_folder",
]

log = logging.getLogger(__name__)

Role = Literal["engine", "worker", "front"]
ALL_ROLES: tuple[Role, ...] = ("engine", "worker", "front")
EXIT_CONFIG = 2
_EXIT_CANNOT_START = 3  # of an engine or a worker: it has said why, and to start it again would not help
_WATCH_S = 0.1
_ASK_EVERY = 10  # turns of the watch
_STUCK_S = 5.0
_SPARE_CORES = 4  # from as many on, another engine's start does not disturb calls
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Waiting threads of these pools spin: on two cores OpenBLAS's second thread took half a core from everyone."""
_END_S = 5.0
_MOST_RESTARTS = 5
_RESTART_WINDOW_S = 60.0


def run_server(config: ServerConfig) -> int:
    """Serve until Ctrl-C or SIGTERM; the exit code."""
    set_up_logging("serve", config.log_level, config.log_format)
    try:
        Catalogue.find(config.avatar, config.avatars, config.backgrounds)
        config = with_record_folder(config)
        listener = bind(config.host, config.port, "--port")
        metrics = bind("127.0.0.1", config.metrics_port, "--metrics-port") if config.metrics_port else None
    except ServerConfigError as error:
        sys.stderr.write(f"nerf-lipsync: {error}\n")
        return EXIT_CONFIG
    run_dir = Path(tempfile.mkdtemp(prefix="nerf-lipsync-"))
    try:
        with listener, metrics or contextlib.nullcontext():
            return Supervisor(config, listener, run_dir, metrics).run()
    finally:
        shutil.rmtree(run_dir, ignore_errors=True)


def with_record_folder(config: ServerConfig) -> ServerConfig:
    """The config with an absolute folder for recordings that exists and can be written, if any are made."""
    if config.record is None:
        return config
    folder = Path(config.record).absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ServerConfigError(
            f"cannot record into {folder}: {error.strerror}; choose another with --record"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ServerConfigError(f"cannot record into {folder}: it cannot be written; choose another with --record")
    return dataclasses.replace(config, record=str(folder))


def bind(host: str, port: int, option: str) -> socket.socket:
    """A listening socket that children inherit.

    Raises:
        ServerConfigError: It cannot be had; the message names `option`.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(64)
    except OSError as error:
        listener.close()
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise ServerConfigError(f"cannot listen on {host}:{port}: {reason}; choose another with {option}") from error
    listener.set_inheritable(True)
    return listener


@dataclass
class _Child:
    name: str
    module: str
    arguments: list[str]
    descriptors: tuple[int, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    restarts: deque[float] = field(default_factory=lambda: deque(maxlen=_MOST_RESTARTS))


def _spawn(child: _Child) -> subprocess.Popen[bytes]:
    """A process of that kind that waits for its settings on its standard input."""
    command = [sys.executable, "-m", f"stream_server.{child.module}", *child.arguments]
    environment = os.environ | _ONE_THREAD
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited: Ctrl-C is for this process alone, and
    try:  # until they ignore it themselves, children are deaf to it: interrupted imports print their traces
        return subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=child.descriptors, env=environment)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


class Supervisor:
    """Keeps engine, workers and front running, or those `roles` of them; without a `listener` there is no front."""

    def __init__(
        self,
        config: ServerConfig,
        listener: socket.socket | None,
        run_dir: Path,
        metrics: socket.socket | None = None,
        *,
        roles: Collection[Role] = ALL_ROLES,
    ) -> None:
        self._config = config
        self._asked_size = config.size
        self._address = None if listener is None else listener.getsockname()
        self._run_dir = run_dir
        self._stop = threading.Event()
        self._signalled = False
        pid = str(os.getpid())
        self._engine = _Child("engine", "engine", [str(run_dir / "engine.sock"), pid])
        self._standby = Standby(lambda: _spawn(self._engine))
        self._workers = config.workers if "worker" in roles else 0
        self._children = [self._engine] if "engine" in roles else []
        for n in range(self._workers):
            self._children.append(_Child(f"worker-{n}", "worker", [str(run_dir), pid, str(n)]))
        if "front" in roles and listener is not None:
            descriptors = tuple(sock.fileno() for sock in (listener, metrics) if sock is not None)
            self._children.append(_Child("front", "front", [str(run_dir), pid, *map(str, descriptors)], descriptors))

    def run(self) -> int:
        """Start, announce, watch until Ctrl-C or SIGTERM; returns the exit code."""
        previous = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            return self.watch(self._announce)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def stop(self) -> None:
        """Let `watch` end, from any thread."""
        self._stop.set()

    def watch(self, on_ready: Callable[[dict[str, Any]], None]) -> int:
        """Start, and keep running until `stop`; the exit code. `on_ready` gets the avatar that is served, once.

        The system ends the children with the thread that calls this.
        """
        announced = False
        turn = 0
        try:
            for child in self._children:
                self._start(child)
            while not (self._stop.wait(_WATCH_S) or self._signalled):
                code = self._watch()
                if code is not None:
                    return code
                turn += 1
                if not announced and (avatar := self._ready_avatar()) is not None:
                    announced = True
                    self._has_become_ready(avatar)
                    on_ready(avatar)
                elif announced and turn % _ASK_EVERY == 0:
                    self._end_stuck_engine()
                    if self._config.standby:
                        self._standby.look(self._may_stand_by)
            return 0
        finally:
            self._end_all()

    def _has_become_ready(self, avatar: dict[str, Any]) -> None:
        """Another engine need not measure again what this machine holds, and may begin to stand by."""
        if avatar:
            self._config = dataclasses.replace(
                self._config, size=int(avatar["size"]), exact_size=True, step_ms=float(avatar["step_ms"])
            )
            self._standby.begin()

    def _announce(self, avatar: dict[str, Any]) -> None:
        assert self._address is not None
        sys.stdout.write(ready_line(url_of(self._address), avatar, self._asked_size) + "\n")
        sys.stdout.flush()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signalled = True  # not `_stop`: the code that was interrupted may hold its lock

    def _start(self, child: _Child) -> None:
        child.process = self._standby.take() if child is self._engine else None
        if child.process is None:
            child.process = _spawn(child)
        assert child.process.stdin is not None
        try:
            with child.process.stdin as pipe:
                pipe.write(self._config.to_json().encode())
        except BrokenPipeError:
            log.warning("%s ended at once", child.name)

    def _may_stand_by(self) -> bool:
        """Imports take a core for some seconds: where calls have none to spare, only while there is no call."""
        return (os.cpu_count() or 1) >= _SPARE_CORES or not self._has_sessions()

    def _has_sessions(self) -> bool:
        answers = [self._ask_worker(number) for number in range(self._workers)]
        return any(answer is None or answer.get("sessions", 0) for answer in answers)

    def _watch(self) -> int | None:
        for child in self._children:
            assert child.process is not None
            code = child.process.poll()
            if code is None:
                continue
            if code == _EXIT_CANNOT_START and child.name != "front":
                return EXIT_CONFIG
            now = time.monotonic()
            if len(child.restarts) == _MOST_RESTARTS and now - child.restarts[0] < _RESTART_WINDOW_S:
                sys.stderr.write(f"the {child.name} process keeps ending (exit code {code}); giving up\n")
                return 1
            log.warning("the %s process ended with exit code %d; starting it again", child.name, code)
            child.restarts.append(now)
            self._start(child)
        return None

    def _end_stuck_engine(self) -> None:
        """An engine that hangs is as bad as one that ended, and is not started again until it has."""
        for number in range(self._workers):
            status = self._ask_worker(number)
            if status is not None and status.get("stuck_s", 0.0) > _STUCK_S and self._engine.process is not None:
                log.warning("the engine has not answered for %.0f s; ending it", status["stuck_s"])
                self._engine.process.kill()
                return

    def _ask_worker(self, number: int) -> dict[str, Any] | None:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
                control.settimeout(1.0)
                control.connect(str(self._run_dir / f"worker-{number}.sock"))
                control.sendall(protocol.pack({"type": "status"}))
                answer, _blob = protocol.receive_message(control)
                return answer
        except (OSError, EngineLostError, ProtocolError):
            return None

    def _ready_avatar(self) -> dict[str, Any] | None:
        """What the engine serves, once all workers have it and the front answers; {} where there are no workers."""
        answers = [self._ask_worker(number) for number in range(self._workers)]
        avatars = [None if answer is None else answer.get("avatar") for answer in answers]
        if any(avatar is None for avatar in avatars):
            return None
        if self._address is not None:
            try:
                with socket.create_connection(self._address[:2], timeout=1.0) as http:
                    http.sendall(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
                    if not http.recv(64):
                        return None
            except OSError:
                return None
        return avatars[0] if avatars else {}

    def _end_all(self) -> None:
        self._standby.end()
        deadline = time.monotonic() + _END_S
        for child in reversed(self._children):  # callers hear an end before what serves them is gone
            if child.process is None:
                continue
            child.process.terminate()
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("the %s process does not end; killing it", child.name)
                child.process.kill()
                child.process.wait()


def url_of(address: tuple[Any, ...]) -> str:
    """The URL of a listening socket's address."""
    host, port = address[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def ready_line(url: str, avatar: dict[str, Any], asked_size: int) -> str:
    """What `serve` prints once it takes sessions."""
    line = (
        f"ready {url} avatar={avatar['name']} size={avatar['size']} "
        f"isa={avatar['instruction_set']} fps={avatar['held_fps']:.0f}"
    )
    if avatar["size"] != asked_size:
        line += f" (this machine does not hold {avatar['fps']} fps at {asked_size})"
    return line
