"""Looks for the invisible mark in a video file or at an http(s) address."""

from __future__ import annotations

import tempfile
import time
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av
import numpy as np
from numpy.typing import NDArray

from model.data.video_file import CONTAINERS
from model.errors import InputError
from model.provenance.mark_search import Detection, detect, mean_luma

__all__ = ["detect_in_video", "read_windows"]

WINDOW_FRAMES = 25
MAX_WINDOWS = 20
MAX_EDGE_PX = 4096
URL_MAX_BYTES = 200_000_000
URL_TIMEOUT_S = 60.0
_CHUNK_BYTES = 1 << 16
_OPTIONS = {"format_whitelist": f"{CONTAINERS},h264,hevc,ivf", "protocol_whitelist": "file"}
"""A playlist, which names other files and addresses, is no video."""


def detect_in_video(source: str, *, key: bytes, max_windows: int = MAX_WINDOWS) -> Detection:
    """The first window of 25 frames with a mark; without any, the window that scored highest.

    Raises:
        InputError: The source cannot be had or is not video, or is larger than the limits.
    """
    if urlsplit(source).scheme in ("http", "https"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "video"
            _download(source, path)
            return _detect_in_file(path, key, max_windows)
    return _detect_in_file(Path(source), key, max_windows)


def read_windows(path: Path, max_windows: int = MAX_WINDOWS) -> Iterator[list[NDArray[np.uint8]]]:
    """Luma planes of up to `max_windows` windows of 25 frames; a shorter last one counts if it is the only one.

    Raises:
        InputError: Not a video that FFmpeg reads, or wider or higher than 4096 px.
    """
    window: list[NDArray[np.uint8]] = []
    made = 0
    try:
        whole = str(path.absolute())  # else what stands before a colon is a protocol
        with av.open(whole, options=_OPTIONS) as container:
            if not container.streams.video:
                raise InputError(f"{path.name} has no video")
            for frame in container.decode(video=0):
                luma = _luma(frame, path)
                if window and luma.shape != window[0].shape:
                    window = []  # only frames of one size are averaged
                window.append(luma)
                if len(window) == WINDOW_FRAMES:
                    yield window
                    made, window = made + 1, []
                    if made == max_windows:
                        return
    except (OSError, av.FFmpegError) as error:
        raise InputError(f"cannot read video from {path.name}: {error}") from error
    if not made:
        if not window:
            raise InputError(f"{path.name} has no frames")
        yield window


def _detect_in_file(path: Path, key: bytes, max_windows: int) -> Detection:
    best: Detection | None = None
    for window in read_windows(path, max_windows):
        found = detect(mean_luma(window), key=key)
        if found.payload is not None:
            return found
        if best is None or found.score > best.score:
            best = found
    if best is None:
        raise InputError(f"{path.name} has no frames")
    return best


def _luma(frame: Any, path: Path) -> NDArray[np.uint8]:
    if max(frame.width, frame.height) > MAX_EDGE_PX:
        raise InputError(f"{path.name} is {frame.width} x {frame.height}; the limit is {MAX_EDGE_PX} px")
    grey: NDArray[np.uint8] = frame.to_ndarray(format="gray")
    return grey


def _download(url: str, path: Path) -> None:
    until = time.monotonic() + URL_TIMEOUT_S
    size = 0
    try:
        with urllib.request.urlopen(url, timeout=URL_TIMEOUT_S) as answer, path.open("wb") as file:
            while chunk := answer.read(_CHUNK_BYTES):
                size += len(chunk)
                if size > URL_MAX_BYTES:
                    raise InputError(f"{url} is larger than the limit of {URL_MAX_BYTES} bytes")
                if time.monotonic() > until:
                    raise InputError(f"{url} took longer than the limit of {URL_TIMEOUT_S:.0f} s")
                file.write(chunk)
    except (OSError, ValueError, HTTPException) as error:  # HTTPException: a space in the address, an answer cut off
        raise InputError(f"cannot fetch {url}: {error}") from error
