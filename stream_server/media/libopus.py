"""libopus itself, for what PyAV does not offer: concealment from the decoder's own state, and redundancy (FEC).

The library is the one that PyAV's wheel brings, or the system's. Without it `open_decoder` falls back to PyAV and to
fading the last block.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import logging
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from stream_server.media.opus import BLOCK_SAMPLES, RATE_HZ, FadingDecoder, OpusDecoder, SoundDecoder

__all__ = ["LibOpusDecoder", "find_libopus", "open_decoder"]

log = logging.getLogger(__name__)

_MOST_PACKET_SAMPLES = RATE_HZ * 120 // 1000
_MOST_CONCEALED_BLOCKS = 6
"""libopus has faded to nearly nothing by then; what follows is silence."""


@cache
def find_libopus() -> Any:
    """The library as ctypes has it, or None."""
    beside = sorted((Path(av.__file__).parent.parent / "av.libs").glob("libopus*"))
    names = [str(path) for path in beside] + ([found] if (found := ctypes.util.find_library("opus")) else [])
    for name in names:
        try:
            library = ctypes.CDLL(name)
            library.opus_decoder_create.restype = ctypes.c_void_p
        except (OSError, AttributeError):
            continue
        return library
    return None


def open_decoder() -> SoundDecoder:
    """The best decoder that there is here, for one stream."""
    library = find_libopus()
    if library is None:
        log.warning("libopus was not found: lost packets are covered by fading what came before")
        return FadingDecoder(OpusDecoder().decode)
    return LibOpusDecoder(library)


class LibOpusDecoder:
    """One mono stream at 48 kHz. Not for several threads."""

    def __init__(self, library: Any) -> None:
        """Raises OSError if libopus gives no decoder."""
        self._library = library
        error = ctypes.c_int()
        self._state = ctypes.c_void_p(library.opus_decoder_create(RATE_HZ, 1, ctypes.byref(error)))
        if error.value != 0 or not self._state.value:
            raise OSError(f"opus_decoder_create failed with {error.value}")
        self._samples = np.zeros(_MOST_PACKET_SAMPLES, np.int16)
        self._concealed = 0

    def __del__(self) -> None:
        if getattr(self, "_state", None):
            self._library.opus_decoder_destroy(self._state)

    def decode(self, payload: bytes) -> NDArray[np.int16] | None:
        """Samples of one packet; None if it is broken (libopus keeps its state then)."""
        if not payload:
            return None
        count = self._run(payload, _MOST_PACKET_SAMPLES, fec=False)
        if count <= 0:
            return None
        self._concealed = 0
        return self._samples[:count].copy()

    def conceal(self, following: bytes | None) -> NDArray[np.int16]:
        """20 ms in the place of a packet that was lost: from the one after it if that holds its outline (FEC)."""
        self._concealed += 1
        if self._concealed > _MOST_CONCEALED_BLOCKS:
            return np.zeros(BLOCK_SAMPLES, np.int16)
        count = self._run(following or None, BLOCK_SAMPLES, fec=bool(following))
        if count != BLOCK_SAMPLES:
            return np.zeros(BLOCK_SAMPLES, np.int16)
        return self._samples[:BLOCK_SAMPLES].copy()

    def _run(self, payload: bytes | None, room: int, *, fec: bool) -> int:
        pointer = self._samples.ctypes.data_as(ctypes.POINTER(ctypes.c_int16))
        length = len(payload) if payload else 0
        return int(self._library.opus_decode(self._state, payload, length, pointer, room, int(fec)))
