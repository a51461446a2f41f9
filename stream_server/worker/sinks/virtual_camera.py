"""One session's picture as a camera of this machine (`serve --virtual-camera`), for programs that show a camera.

Needs pyvirtualcam and a device: v4l2loopback on Linux. The session that was opened first has the camera; when it ends
the next one has it, and while there is none the camera is black, so that nobody's face stands there. Pictures are
handed over in a thread of its own; when the device is slow, or hangs, pictures of the camera are dropped, never of the
call.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import queue
import threading
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stream_server.errors import StreamServerError
from stream_server.events import Event, NoticeEvent
from stream_server.worker.egress import Egress, Listener, Picture

__all__ = ["CameraError", "VirtualCamera", "check_camera", "load_backend"]

log = logging.getLogger(__name__)

_WAITING = 2
_BLACK_Y, _BLACK_UV = 16, 128
_BACKEND_ERRORS = (RuntimeError, OSError, ValueError, TypeError)
"""What pyvirtualcam and its native parts raise."""


class CameraError(StreamServerError):
    """There is no virtual camera; the message says what to do."""


class Filmed(Protocol):
    """A session, as far as the camera needs it."""

    egress: Egress

    def emit(self, event: Event) -> None: ...

    def begin_filming(self) -> None: ...


def load_backend() -> Any:
    """The module pyvirtualcam.

    Raises:
        CameraError: It is not installed, or broken.
    """
    try:
        return importlib.import_module("pyvirtualcam")
    except ImportError as error:
        raise CameraError(
            f"--virtual-camera needs pyvirtualcam ({error}): pip install 'nerf-lipsync[camera]'"
        ) from error


def check_camera(backend: Any, device: str | None, *, size: int, fps: int) -> str:
    """Open the camera once and close it; its name. Slow: not on an event loop.

    Raises:
        CameraError: It cannot be opened.
    """
    try:
        camera = _open(backend, device, size, fps)
    except _BACKEND_ERRORS as error:
        raise CameraError(_advice(device, error)) from error
    name = str(camera.device)
    camera.close()
    return name


class VirtualCamera(Listener):
    """The camera, and whose turn it is. All calls come on the event loop; `close` ends it."""

    def __init__(self, backend: Any, device: str | None, *, fps: int) -> None:
        self._backend = backend
        self._device = device
        self._fps = fps
        self._sessions: list[Filmed] = []
        self._items: queue.Queue[NDArray[np.uint8] | None] = queue.Queue(_WAITING)
        self._thread: threading.Thread | None = None
        self._size = 0
        self._failed = False
        self.skipped = 0
        """Pictures that the camera did not get because the device was behind."""
        self.sent = 0

    def join(self, session: Filmed) -> None:
        """A session was opened; it has the camera at once if nobody has."""
        self._sessions.append(session)
        if len(self._sessions) == 1:
            self._film(session)

    def leave(self, session: Filmed) -> None:
        """A session ended; idempotent."""
        if session not in self._sessions:
            return
        had_it = self._sessions[0] is session
        self._sessions.remove(session)
        if had_it:
            session.egress.detach(self)
            if self._sessions:
                self._film(self._sessions[0])
            elif self._size:
                self._queue(_black(self._size))

    def on_picture(self, picture: Picture) -> None:
        """Queue it; the first one opens the camera in its size. After a failure the next session tries again."""
        if self._failed:
            return
        if self._thread is None or not self._thread.is_alive():
            self._size = picture.image.shape[1]
            self._items = queue.Queue(_WAITING)
            self._thread = threading.Thread(
                target=self._run, args=(self._items, asyncio.get_running_loop()), name="virtual-camera", daemon=True
            )
            self._thread.start()
        self._queue(picture.image)

    def close(self) -> threading.Thread | None:
        """Close the camera; idempotent. The thread, to join for its end."""
        for session in self._sessions[:1]:
            session.egress.detach(self)
        self._sessions.clear()
        self._queue(None)
        return self._thread

    def _film(self, session: Filmed) -> None:
        self._failed = False
        session.egress.attach(self)
        session.begin_filming()

    def _queue(self, image: NDArray[np.uint8] | None) -> None:
        """What waits longest goes when the device is behind: a camera shows the present."""
        while self._items.full():
            with contextlib.suppress(queue.Empty):
                self._items.get_nowait()
                self.skipped += 1
        self._items.put_nowait(image)

    def _run(self, items: queue.Queue[NDArray[np.uint8] | None], loop: asyncio.AbstractEventLoop) -> None:
        """In the camera's thread."""
        try:
            camera = _open(self._backend, self._device, self._size, self._fps)
            log.info("the virtual camera is %s, %d px", camera.device, self._size)
            with contextlib.closing(camera):
                while (image := items.get()) is not None:
                    camera.send(np.ascontiguousarray(image))
                    self.sent += 1
        except _BACKEND_ERRORS as error:
            self._failed = True
            log.error("%s", _advice(self._device, error))
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._tell_failed)

    def _tell_failed(self) -> None:
        for session in self._sessions[:1]:
            message = "the virtual camera failed and gets no pictures; see the server's log"
            session.emit(NoticeEvent(code="camera-failed", message=message))


def _open(backend: Any, device: str | None, size: int, fps: int) -> Any:
    return backend.Camera(width=size, height=size, fps=fps, fmt=backend.PixelFormat.I420, device=device)


def _advice(device: str | None, error: Exception) -> str:
    said = " ".join(str(error).split())
    return (
        f"the virtual camera {device or '(any)'} cannot be used: {said}; on Linux: "
        "modprobe v4l2loopback exclusive_caps=1, and leave to write to /dev/video*"
    )


def _black(size: int) -> NDArray[np.uint8]:
    picture = np.full((size * 3 // 2, size), _BLACK_UV, np.uint8)
    picture[:size] = _BLACK_Y
    return picture
