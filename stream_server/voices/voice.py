"""What a voice is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["SpokenSound", "Voice"]


@dataclass(frozen=True, slots=True)
class SpokenSound:
    """Some of what is said: mono samples at `rate_hz`."""

    samples: NDArray[np.int16]
    rate_hz: int


class Voice(Protocol):
    """Speaks a text in pieces, the first one soon."""

    def speak(self, text: str) -> AsyncIterator[SpokenSound]:
        """The text's sound.

        Raises:
            VoiceError: The program or service failed; the message says how.
        """
        ...
