"""Records sessions to fragmented MP4 files, if the operator asked for it (`serve --record DIR`).

A file is made with the session's first picture, named by the server (time and a random part, never by a caller), and
readable by its owner only. Encoding and writing happen in a thread of its own: a slow or full disk costs pictures of
the recording, never of the call. What is recorded is what leaves: the avatar and its sound, marked as synthetic in the
picture and in the file's metadata.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import av

from stream_server.worker.egress import Listener, Picture, Sound
from stream_server.worker.sinks.socket_media import FragmentedMp4

__all__ = ["Recorder", "RecordingFolder"]

log = logging.getLogger(__name__)

_WAITING = 150  # pictures and blocks of sound: two seconds
_SCAN_EVERY_S = 5.0


class RecordingFolder:
    """Where recordings go, and how much they may hold together; other workers write there as well.

    `quota_bytes` 0: no limit. Files that the operator moves away make room again.
    """

    def __init__(self, path: Path, quota_bytes: int, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._quota_bytes = quota_bytes
        self._now_s = now_s
        self._lock = threading.Lock()
        self._used_bytes = 0
        self._scanned_s: float | None = None

    def take(self, count: int) -> bool:
        """Whether `count` more bytes may be written; if so they are counted."""
        if self._quota_bytes == 0:
            return True
        with self._lock:
            now_s = self._now_s()
            if self._scanned_s is None or now_s - self._scanned_s > _SCAN_EVERY_S:
                self._used_bytes, self._scanned_s = self._scan(), now_s
            if self._used_bytes + count > self._quota_bytes:
                return False
            self._used_bytes += count
            return True

    def new_file(self) -> BinaryIO:
        """A new file of mode 0600.

        Raises:
            OSError: It cannot be made.
        """
        name = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(4)}.mp4"
        descriptor = os.open(
            self._path / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        return os.fdopen(descriptor, "wb", buffering=0)

    def _scan(self) -> int:
        total = 0
        with os.scandir(self._path) as entries:
            for entry in entries:
                if entry.name.endswith(".mp4"):
                    with contextlib.suppress(FileNotFoundError):  # moved away in this moment
                        total += entry.stat().st_size
        return total


class Recorder(Listener):
    """Records one session. `on_stopped(code, message)` is called in the recorder's thread if it must stop early:
    `recording-full` (the quota) or `recording-failed` (the disk, or the encoder). The file is playable up to there."""

    def __init__(
        self, folder: RecordingFolder, *, size: int, fps: int, on_stopped: Callable[[str, str], None], session: str
    ) -> None:
        self._folder = folder
        self._size, self._fps = size, fps
        self._on_stopped = on_stopped
        self._session = session
        self._items: queue.Queue[Picture | Sound | None] = queue.Queue(_WAITING)
        self._thread: threading.Thread | None = None
        self._over = False
        self.skipped = 0
        """Pictures and blocks of sound that were not recorded because encoder or disk were behind."""

    def on_picture(self, picture: Picture) -> None:
        """Queue it; the first one begins the file."""
        if self._thread is None and not self._over:
            self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
            self._thread.start()
        self._queue(picture)

    def on_sound(self, sound: Sound) -> None:
        """Queue it, once there are pictures."""
        if self._thread is not None:
            self._queue(sound)

    def close(self) -> threading.Thread | None:
        """Finish the file after what waits; idempotent. The thread, to join for its end."""
        if not self._over:
            self._over = True
            if self._thread is not None:
                while self._items.full():  # room for the end: the oldest that waits goes
                    with contextlib.suppress(queue.Empty):
                        self._items.get_nowait()
                self._items.put_nowait(None)
        return self._thread

    def _queue(self, item: Picture | Sound) -> None:
        if self._over:
            return
        try:
            self._items.put_nowait(item)
        except queue.Full:
            self.skipped += 1

    def _run(self) -> None:
        try:
            with self._folder.new_file() as file:
                log.info("recording to a new file", extra={"session": self._session})
                if not self._record(file):
                    self._stop(
                        "recording-full", "the space for recordings is used up; this call is recorded no further"
                    )
        except (OSError, av.FFmpegError) as error:
            log.error("a recording failed: %s", error, extra={"session": self._session})
            self._stop("recording-failed", "the recording failed; this call is recorded no further")

    def _record(self, file: BinaryIO) -> bool:
        """Write until the end; False: the quota was reached."""
        encoder = FragmentedMp4(size=self._size, fps=self._fps)
        while (item := self._items.get()) is not None:
            data = encoder.encode_file(item)
            if not self._folder.take(len(data)):
                return False
            _write(file, data)
        _write(file, encoder.finish())  # a fragment of half a second at most
        return True

    def _stop(self, code: str, message: str) -> None:
        self._over = True
        self._on_stopped(code, message)


def _write(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
