"""Frames of a stretch of a clip as a sequence, without holding a long clip in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from model.data.video import VideoClip

Picture = NDArray[np.uint8]


class FrameWindow(Sequence[Picture]):
    """Frames [first, last) of a clip. Rising indices are read in one pass; a falling one starts a new pass."""

    def __init__(self, clip: VideoClip, first: int, last: int) -> None:
        self._clip, self._first, self._last = clip, first, last
        self._frames: Iterator[Picture] = iter(())
        self._next = len(self)
        self._held: tuple[int, Picture] | None = None

    def __len__(self) -> int:
        return self._last - self._first

    def __iter__(self) -> Iterator[Picture]:
        return self._clip.frames(self._first, self._last)

    @overload
    def __getitem__(self, index: int) -> Picture: ...
    @overload
    def __getitem__(self, index: slice) -> list[Picture]: ...
    def __getitem__(self, index: int | slice) -> Picture | list[Picture]:
        """Frame `index`, or a list of frames for a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        if self._held is not None and self._held[0] == index:
            return self._held[1]
        if index < self._next:
            self._frames = self._clip.frames(self._first + index, self._last)
            self._next = index
        for frame in self._frames:
            self._held = (self._next, frame)
            self._next += 1
            if self._held[0] == index:
                return frame
        raise IndexError(f"frame {index} of {len(self)}: the clip ended early")
