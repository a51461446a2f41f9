"""A node's folders and processes: what `stream_server.serve` does in its main thread, in a thread of a Ray actor.

Each replica has a folder with its sockets below the node's. It holds a lock on it, which the system lets go of when the
replica's process ends, however it ends: a folder without a holder is a replica that is gone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import socket
import tempfile
import threading
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from stream_server.cluster.names import NODE_DIGITS, REPLICA_DIGITS
from stream_server.config import ServerConfig
from stream_server.errors import ServerConfigError
from stream_server.serve import Role, Supervisor

__all__ = ["Processes", "ask_to_stop", "living_replicas", "node_folder"]

_LOCK = "lock"
_STOP = "stop"
_REPLICA = re.compile(rf"[0-9a-z]{{{REPLICA_DIGITS}}}", re.ASCII)


def node_folder(node_id: str) -> Path:
    """This user's folder for a node's sockets, made if it is not there.

    Raises:
        ServerConfigError: Another user made it.
    """
    folder = Path(tempfile.gettempdir()) / f"nls-{os.getuid()}-{node_id[:NODE_DIGITS]}"
    folder.mkdir(mode=0o700, exist_ok=True)
    about = folder.lstat()
    if about.st_uid != os.getuid() or about.st_mode & 0o077 or folder.is_symlink():
        raise ServerConfigError(f"{folder} is not this user's own private folder; remove it")
    return folder


def living_replicas(folder: Path) -> list[Path]:
    """Folders of the replicas on this node; those of replicas that are gone are removed."""
    alive = []
    for replica in sorted(folder.iterdir()) if folder.is_dir() else []:
        if _REPLICA.fullmatch(replica.name) is None or not (replica / _LOCK).exists():
            continue
        if _is_held(replica / _LOCK):
            alive.append(replica)
        else:
            shutil.rmtree(replica, ignore_errors=True)
    return alive


def ask_to_stop(folder: Path) -> None:
    """Let all replicas of this node end their calls and processes (a whole cluster that stops; not a scale-in)."""
    for replica in living_replicas(folder):
        (replica / _STOP).touch()


def _is_held(lock: Path) -> bool:
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _hold(lock: Path) -> TextIO:
    """The lock, held before it has its name: nobody finds one without a holder, and takes the folder for left behind.

    Raises:
        BlockingIOError: Another process holds it.
    """
    unnamed = lock.with_name(f".{lock.name}.{os.getpid()}")
    file = unnamed.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_held(lock):
            raise BlockingIOError(errno.EWOULDBLOCK, "another process holds it", os.fspath(lock))
        unnamed.rename(lock)
    except BaseException:
        file.close()
        unnamed.unlink(missing_ok=True)
        raise
    return file


class Processes:
    """Children in a thread that lives as long as they: the system ends them with it, and it ends with the actor."""

    def __init__(
        self, config: ServerConfig, folder: Path, roles: Collection[Role], listener: socket.socket | None = None
    ) -> None:
        self.folder = folder
        self._ready = threading.Event()
        self.exit_code: int | None = None
        folder.mkdir(mode=0o700, exist_ok=True)
        self._lock = _hold(folder / _LOCK)
        self._supervisor = Supervisor(config, listener, folder, roles=roles)
        self._thread = threading.Thread(target=self._watch, name="processes", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def wait_ready(self, timeout_s: float) -> bool:
        """Whether they serve within that time, or have served."""
        return self._ready.wait(timeout_s)

    @property
    def asked_to_stop(self) -> bool:
        """Whether the cluster stops."""
        return (self.folder / _STOP).exists()

    def stop(self) -> None:
        """End them without waiting; callers hear why."""
        self._supervisor.stop()

    def close(self) -> None:
        """End them and remove the folder; idempotent."""
        self.stop()
        self._thread.join()
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._lock.close()

    def _watch(self) -> None:
        try:
            self.exit_code = self._supervisor.watch(self._on_ready)
        finally:
            if self.exit_code is None:
                self.exit_code = 1

    def _on_ready(self, _avatar: dict[str, Any]) -> None:
        self._ready.set()
