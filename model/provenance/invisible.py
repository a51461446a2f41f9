"""The invisible mark: a faint keyed pattern in the luma, repeated as tiles, that carries a `MarkPayload`.

Spread spectrum (Cox, Kilian, Leighton, Shamoon 1997) in a periodic tile found again by correlation, as in JAWS
(Kalker, Depovere, Haitsma, Maes 1999). A 64 px tile is a sum of orthogonal band-limited patterns drawn from the key:
one to find it by, and one for every code bit with the bit's sign. Embedding adds the tiled pattern to each frame,
faintly on smooth parts and more where the picture itself is busy. The pattern does not change in time, so it does not
shimmer, codecs predict it from frame to frame, and averaging frames strengthens it against what moves.
`model.provenance.mark_search` finds it.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from model.provenance.payload import CODE_BITS, MarkPayload, encode_bits

__all__ = ["PUBLIC_KEY", "TILE_PX", "InvisibleMark", "band", "patterns", "tile_radius"]

PUBLIC_KEY = b"nerf-lipsync public mark 2"
TILE_PX = 64
BAND = (5.5, 17.0)  # cycles per tile: periods of 3.8 to 11.6 px
REFERENCE_SHARE = 0.3  # of the energy
SMOOTH_RMS, BUSY_RMS = 0.6, 1.4  # luma steps
BUSY_FROM, RMS_PER_ACTIVITY = (
    3.0,
    0.06,
)  # activity: absolute steps to pixels two apart, down plus right, mean over 8 x 8 px
LUMA_LOW, LUMA_HIGH = 16, 235
_PEAK = 10.0  # of the tile: with BUSY_RMS less than the room below LUMA_LOW and above LUMA_HIGH
_BLOCK_PX = 8

Floats = NDArray[np.float32]


class InvisibleMark:
    """Adds one payload's pattern to frames of one size."""

    def __init__(self, payload: MarkPayload, *, key: bytes = PUBLIC_KEY, height: int, width: int) -> None:
        """`height` and `width` in pixels, at least 8."""
        tile = _tile(payload, key)
        repeats = (-(-height // TILE_PX), -(-width // TILE_PX))
        self._pattern = np.ascontiguousarray(np.tile(tile, repeats)[:height, :width])
        self._pool_rows, self._pool_columns = _pooling(height), _pooling(width)
        self._spread_rows, self._spread_columns = _spreading(height), _spreading(width)

    def embed(self, luma: NDArray[np.uint8]) -> None:
        """Mark a luma plane (height, width) in place; what is outside of 16..235 is clipped to it first."""
        np.clip(luma, LUMA_LOW, LUMA_HIGH, out=luma)
        added = self._gain(luma)
        added *= self._pattern
        np.rint(added, out=added)
        np.add(luma, added.astype(np.int8).view(np.uint8), out=luma)  # modulo 256: the clipped range leaves room

    def _gain(self, luma: NDArray[np.uint8]) -> Floats:
        """(height, width): the pattern's strength, from the picture's activity in blocks, interpolated between them."""
        coarse = luma[::2, ::2].astype(np.int16)
        steps = np.zeros(coarse.shape, np.float32)
        steps[:, 1:] += np.abs(np.diff(coarse, axis=1))
        steps[1:] += np.abs(np.diff(coarse, axis=0))
        activity = self._pool_rows @ steps @ self._pool_columns.T
        rms = np.clip(SMOOTH_RMS + RMS_PER_ACTIVITY * (activity - BUSY_FROM), SMOOTH_RMS, BUSY_RMS)
        return np.asarray(self._spread_rows @ rms @ self._spread_columns.T, np.float32)


@lru_cache(maxsize=8)
def patterns(key: bytes) -> tuple[Floats, Floats]:
    """Reference (64, 64) and code patterns (CODE_BITS, 64, 64): orthonormal, inside the band, drawn from the key."""
    count = CODE_BITS + 1
    stream = hashlib.shake_256(key).digest(count * TILE_PX * TILE_PX // 8)
    signs = np.unpackbits(np.frombuffer(stream, np.uint8)).reshape(count, TILE_PX, TILE_PX) * 2.0 - 1.0
    limited = np.fft.ifft2(np.fft.fft2(signs) * band()).real
    basis, triangle = np.linalg.qr(limited.reshape(count, -1).T)
    ordered = (basis * np.sign(np.diag(triangle))).T.reshape(count, TILE_PX, TILE_PX).astype(np.float32)
    return ordered[0], ordered[1:]


@lru_cache(maxsize=1)
def tile_radius() -> NDArray[np.float64]:
    """(64, 64): cycles per tile of each bin of a tile's spectrum."""
    cycles = np.fft.fftfreq(TILE_PX) * TILE_PX
    return np.asarray(np.hypot(cycles[:, None], cycles))


def band() -> NDArray[np.bool_]:
    """(64, 64): the bins of a tile's spectrum that the mark uses."""
    radius = tile_radius()
    return (radius >= BAND[0]) & (radius <= BAND[1])


def _tile(payload: MarkPayload, key: bytes) -> Floats:
    """One period of a payload's pattern, RMS 1."""
    reference, code = patterns(key)
    bits = encode_bits(payload).astype(np.float64)
    tile = reference * np.sqrt(REFERENCE_SHARE)
    tile = tile + np.tensordot(bits, code, 1) * np.sqrt((1 - REFERENCE_SHARE) / CODE_BITS)
    return np.asarray(np.clip(tile * TILE_PX, -_PEAK, _PEAK), np.float32)


def _blocks(size: int) -> int:
    return max(1, size // _BLOCK_PX)


def _pooling(size: int) -> Floats:
    """(blocks, half the size): takes the mean over each block's every second pixel; the last block is the longest."""
    coarse = -(-size // 2)
    block = np.minimum(np.arange(coarse) * 2 // _BLOCK_PX, _blocks(size) - 1)
    member = (block == np.arange(_blocks(size))[:, None]).astype(np.float32)
    return np.asarray(member / member.sum(axis=1, keepdims=True))


def _spreading(size: int) -> Floats:
    """(size, blocks): linear interpolation between the blocks' centres, constant beyond the outer ones."""
    place = np.clip((np.arange(size) + 0.5) / _BLOCK_PX - 0.5, 0, _blocks(size) - 1)
    distance = np.abs(place[:, None] - np.arange(_blocks(size)))
    return np.asarray(np.maximum(1 - distance, 0), np.float32)
