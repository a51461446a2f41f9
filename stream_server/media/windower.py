"""Cuts a stream of samples into hops of an exact length, whatever the packets' sizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Hop", "HopWindower"]


@dataclass(frozen=True, slots=True)
class Hop:
    """Samples `[index * hop_samples, (index + 1) * hop_samples)` of the stream, -1..1."""

    index: int
    samples: NDArray[np.float32]


class HopWindower:
    """Gathers samples until a hop is whole. Holds less than one hop."""

    def __init__(self, hop_samples: int) -> None:
        if hop_samples < 1:
            raise ValueError(f"hop_samples must be at least 1, got {hop_samples}")
        self._hop = np.zeros(hop_samples, np.float32)
        self._filled = 0
        self._index = 0

    @property
    def position_samples(self) -> int:
        """Samples taken in since the stream began."""
        return self._index * len(self._hop) + self._filled

    def rewind(self, index: int) -> None:
        """The next sample is the first of hop `index`."""
        self._index = index
        self._filled = 0

    def push(self, samples: NDArray[np.float32]) -> list[Hop]:
        """Take samples in (1-D, -1..1); return the hops they complete."""
        hops: list[Hop] = []
        taken = 0
        while taken < len(samples):
            count = min(len(samples) - taken, len(self._hop) - self._filled)
            self._hop[self._filled : self._filled + count] = samples[taken : taken + count]
            self._filled += count
            taken += count
            if self._filled == len(self._hop):
                hops.append(Hop(self._index, self._hop.copy()))
                self._index += 1
                self._filled = 0
        return hops
