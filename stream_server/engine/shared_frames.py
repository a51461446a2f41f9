"""A ring of frame slots in shared memory, made by the engine and mapped by the worker.

A slot holds the frames of one hop. Who may touch a slot follows from the messages: the worker owns all slots,
lends one with each hop and has it back with the answer. `epoch` names the engine that made the ring.
"""

from __future__ import annotations

import mmap
import os

import numpy as np
from numpy.typing import NDArray

__all__ = ["FrameRing"]


class FrameRing:
    """Slots of `frames_per_slot` I420 frames of `size` pixels."""

    def __init__(self, descriptor: int, *, slots: int, frames_per_slot: int, size: int) -> None:
        self.descriptor = descriptor
        self.slots = slots
        shape = (slots, frames_per_slot, size * 3 // 2, size)
        length = int(np.prod(shape))
        if os.fstat(descriptor).st_size != length:
            raise ValueError(f"ring has {os.fstat(descriptor).st_size} bytes, expected {length}")
        self._map = mmap.mmap(descriptor, length)
        self._frames = np.frombuffer(self._map, np.uint8).reshape(shape)

    @classmethod
    def create(cls, *, slots: int, frames_per_slot: int, size: int) -> FrameRing:
        """Make a new ring in anonymous memory."""
        descriptor = os.memfd_create("nerf-lipsync-frames", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, slots * frames_per_slot * size * size * 3 // 2)
        return cls(descriptor, slots=slots, frames_per_slot=frames_per_slot, size=size)

    def write(self, slot: int, frames: NDArray[np.uint8], offset: int = 0) -> None:
        """Put `frames` (n, size * 3 // 2, size) into a slot, the first of them at place `offset`."""
        self._frames[slot, offset : offset + len(frames)] = frames

    def read(self, slot: int, count: int, offset: int = 0) -> NDArray[np.uint8]:
        """A copy of `count` frames of a slot from place `offset` on."""
        return np.array(self._frames[slot, offset : offset + count])

    def close(self) -> None:
        """Give the memory back."""
        del self._frames
        self._map.close()
        os.close(self.descriptor)
