"""Both marks on every frame that leaves a pipeline."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.provenance.invisible import PUBLIC_KEY, InvisibleMark
from model.provenance.payload import MarkPayload
from model.provenance.visible import Corner, MarkStyle, VisibleMark

__all__ = ["FrameMarker", "MarkSettings", "read_key"]

MIN_KEY_BYTES = 16
_DAY_CHECK_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkSettings:
    """What an operator asked for. `key_file` holds the invisible mark's key (None: the public one).

    The invisible mark is embedded where an `instance` is named (`model.provenance.installation` keeps one).
    """

    visible: bool = True
    text: str = "AI"
    corner: Corner = "bottom-right"
    opacity: float = 0.8
    instance: int | None = None
    key_file: Path | None = None


class FrameMarker:
    """Marks I420 frames of one size. The day in the invisible mark follows the clock."""

    def __init__(self, settings: MarkSettings, *, size: int, mouth_box: tuple[float, float, float, float]) -> None:
        """Raises InputError where the key, the instance id or the label cannot be used."""
        self._size = size
        self._instance = settings.instance
        self._key = read_key(settings.key_file)
        style = MarkStyle(text=settings.text, corner=settings.corner, opacity=settings.opacity)
        self.visible = VisibleMark(style, size=size, mouth_box=mouth_box) if settings.visible else None
        self.payload: MarkPayload | None = None
        self._invisible: InvisibleMark | None = None
        self._renew()

    def mark(self, frames: NDArray[np.uint8], alpha: NDArray[np.uint8] | None = None) -> None:
        """Mark frames (n, size * 3 // 2, size) in place; the label is opaque in their alpha (n, size, size)."""
        if time.monotonic() > self._check_at:
            self._renew()
        for frame in frames:
            if self.visible is not None:
                self.visible.draw(frame)
            if self._invisible is not None:
                self._invisible.embed(frame[: self._size])

        if alpha is not None and self.visible is not None:
            left, top, right, bottom = self.visible.box
            alpha[:, top:bottom, left:right] = 255

    def _renew(self) -> None:
        self._check_at = time.monotonic() + _DAY_CHECK_S
        if self._instance is None:
            return
        payload = MarkPayload.today(self._instance)
        if self.payload != payload:
            self.payload = payload
            self._invisible = InvisibleMark(payload, key=self._key, height=self._size, width=self._size)


def read_key(path: Path | None) -> bytes:
    """The invisible mark's key: the file's bytes, ends stripped of white space; without a file the public key.

    Raises:
        InputError: The file cannot be read, or is shorter than 16 bytes.
    """
    if path is None:
        return PUBLIC_KEY
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise InputError(f"cannot read the mark's key from {path}: {error}") from error
    if len(key) < MIN_KEY_BYTES:
        raise InputError(f"{path}: a mark's key needs at least {MIN_KEY_BYTES} bytes, got {len(key)}")
    return key
