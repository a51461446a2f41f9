"""A frame's media position as black and white blocks along its top edge (`serve --timecode`).

40 bits, most significant first: 32 bits frame index, then CRC-8 (polynomial 0x07) of its four bytes. Blocks of
8 px (16 px from 512 px on) fill rows from the left; they lie on VP8's own 8 px blocks and survive its
quantiser. `client_web/src/timecode.js` reads the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["BITS", "block_px", "decode_timecode", "draw_timecode", "strip_height_px"]

BITS = 40
_BLACK, _WHITE, _GREY = 16, 235, 128


def block_px(size: int) -> int:
    """Edge of one bit's block for frames of this width."""
    return 16 if size >= 512 else 8


def strip_height_px(size: int) -> int:
    """Height of the strip the code takes."""
    edge = block_px(size)
    return -(-BITS // (size // edge)) * edge


def draw_timecode(frame: NDArray[np.uint8], index: int) -> None:
    """Write `index` (0 .. 2**32 - 1) into an I420 frame (size * 3 // 2, size) in place."""
    size = frame.shape[1]
    edge, height = block_px(size), strip_height_px(size)
    columns = size // edge
    code = (index & 0xFFFFFFFF) << 8 | _crc8(index & 0xFFFFFFFF)
    cells = np.full((height // edge) * columns, _BLACK, np.uint8)
    for bit in range(BITS):
        if code >> (BITS - 1 - bit) & 1:
            cells[bit] = _WHITE
    blocks = np.repeat(np.repeat(cells.reshape(-1, columns), edge, axis=0), edge, axis=1)
    frame[:height, : columns * edge] = blocks
    chroma = frame[size:].reshape(2, size // 2, size // 2)
    chroma[:, : height // 2, : columns * edge // 2] = _GREY


def decode_timecode(luma: NDArray[np.uint8]) -> int | None:
    """Read the index from a luma plane (size, size); None if its check fails."""
    size = luma.shape[1]
    edge = block_px(size)
    columns = size // edge
    code = 0
    for bit in range(BITS):
        y, x = bit // columns * edge, bit % columns * edge
        centre = luma[y + edge // 4 : y + edge - edge // 4, x + edge // 4 : x + edge - edge // 4]
        code = code << 1 | int(centre.mean() > _GREY)
    index, check = code >> 8, code & 0xFF
    return index if _crc8(index) == check else None


def _crc8(value: int) -> int:
    crc = 0
    for byte in value.to_bytes(4, "big"):
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07) & 0xFF if crc & 0x80 else crc << 1
    return crc ^ 0x55  # so that an all-black strip is no valid code
