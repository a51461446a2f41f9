"""The invisible mark: a faint keyed pattern in the luma, repeated as tiles, that carries a `MarkPayload`.

Spread spectrum (Cox, Kilian, Leighton, Shamoon 1997) in a periodic tile found again by correlation, as in JAWS
(Kalker, Depovere, Haitsma, Maes 1999). A 64 px tile is a sum of orthogonal band-limited patterns drawn from the key:
one to find it by, and one for every code bit with the bit's sign. Embedding adds the tiled pattern to each frame; it
does not change in time, so it does not shimmer, codecs predict it from frame to frame, and averaging frames
strengthens it against what moves. Detection searches scale and offset, then reads the bits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from model.provenance.payload import CODE_BITS, MarkPayload, decode_bits, encode_bits

__all__ = ["PUBLIC_KEY", "Detection", "InvisibleMark", "detect", "mean_luma"]

PUBLIC_KEY = b"nerf-lipsync public mark 1"
TILE_PX = 64
BAND = (3.5, 13.5)  # cycles per tile
RMS = 1.4  # luma steps: PSNR 45 dB
REFERENCE_SHARE = 0.3  # of the energy
THRESHOLD = 7.0  # of the reference's peak, in standard deviations of its correlation
SCALES = tuple(float(s) for s in np.exp(np.arange(np.log(0.5), np.log(1.5) + 0.008, 0.008)))
CANDIDATES = 3
LUMA_LOW, LUMA_HIGH = 16, 235


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """What was found. `score` is the reference's peak in standard deviations; `payload` is None where nothing was."""

    payload: MarkPayload | None
    score: float
    scale: float
    bit_error_rate: float | None = None


class InvisibleMark:
    """Adds one payload's pattern to frames of one size."""

    def __init__(self, payload: MarkPayload, *, key: bytes = PUBLIC_KEY, height: int, width: int) -> None:
        reference, patterns = _patterns(key)
        bits = encode_bits(payload).astype(np.float64)
        tile = reference * np.sqrt(REFERENCE_SHARE)
        tile = tile + np.tensordot(bits, patterns, 1) * np.sqrt((1 - REFERENCE_SHARE) / CODE_BITS)
        tile = np.rint(tile * RMS * TILE_PX).astype(np.int8)
        repeats = (-(-height // TILE_PX), -(-width // TILE_PX))
        self._added = np.ascontiguousarray(np.tile(tile, repeats)[:height, :width]).view(np.uint8)

    def embed(self, luma: NDArray[np.uint8]) -> None:
        """Mark a luma plane (height, width) in place; what is outside of 16..235 is clipped to it first."""
        np.clip(luma, LUMA_LOW, LUMA_HIGH, out=luma)
        np.add(luma, self._added, out=luma)  # modulo 256 is a signed sum here: 16..235 leaves room for the pattern


def mean_luma(frames: Iterable[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Average of luma planes (height, width) of equal size."""
    total: NDArray[np.float64] | None = None
    count = 0
    for frame in frames:
        total = frame.astype(np.float64) if total is None else total + frame
        count += 1
    if total is None:
        raise ValueError("no frames to average")
    return total / count


def detect(mean: NDArray[np.float64], *, key: bytes = PUBLIC_KEY) -> Detection:
    """Look for a mark in averaged luma (height, width) at any scale 0.5..1.5 and offset."""
    whitened = _whiten(mean)
    found = sorted((_search(whitened, scale, key) for scale in SCALES), key=lambda hit: -hit[0])
    best = found[0]
    for score, scale, aligned in found[:CANDIDATES]:
        if score < THRESHOLD:
            break
        soft = _patterns(key)[1].reshape(CODE_BITS, -1) @ aligned.ravel()
        payload = decode_bits(soft)
        if payload is not None:
            wrong = float(np.mean(np.sign(soft) != encode_bits(payload)))
            return Detection(payload=payload, score=score, scale=scale, bit_error_rate=wrong)
    return Detection(payload=None, score=best[0], scale=best[1])


def _search(whitened: NDArray[np.float64], scale: float, key: bytes) -> tuple[float, float, NDArray[np.float64]]:
    """Peak of the reference at one scale: its score, the scale, and the tile (64, 64) moved to its origin."""
    tile = _fold(_resize(whitened, scale))
    spectrum = _flatten(np.fft.fft2(tile))
    correlation = np.fft.ifft2(spectrum * np.conj(np.fft.fft2(_patterns(key)[0]))).real
    deviation = float(correlation.std())
    row, column = np.unravel_index(int(correlation.argmax()), correlation.shape)
    score = float(correlation[row, column]) / deviation if deviation > 0 else 0.0
    aligned = np.roll(np.fft.ifft2(spectrum).real, (-int(row), -int(column)), (0, 1))
    return score, scale, aligned


@lru_cache(maxsize=8)
def _patterns(key: bytes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Reference (64, 64) and code patterns (CODE_BITS, 64, 64): orthonormal, inside the band, drawn from the key."""
    count = CODE_BITS + 1
    stream = hashlib.shake_256(key).digest(count * TILE_PX * TILE_PX // 8)
    signs = np.unpackbits(np.frombuffer(stream, np.uint8)).reshape(count, TILE_PX, TILE_PX) * 2.0 - 1.0
    limited = np.fft.ifft2(np.fft.fft2(signs) * _band()).real
    basis, triangle = np.linalg.qr(limited.reshape(count, -1).T)
    ordered = (basis * np.sign(np.diag(triangle))).T.reshape(count, TILE_PX, TILE_PX)
    return ordered[0], ordered[1:]


@lru_cache(maxsize=1)
def _radius() -> NDArray[np.float64]:
    cycles = np.fft.fftfreq(TILE_PX) * TILE_PX
    return np.asarray(np.hypot(cycles[:, None], cycles))


def _band() -> NDArray[np.bool_]:
    radius = _radius()
    return (radius >= BAND[0]) & (radius <= BAND[1])


def _flatten(spectrum: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Keep the band; divide by the mean magnitude at each radius, as pictures are stronger at low frequencies."""
    ring = np.rint(_radius()).astype(int)
    magnitude = np.bincount(ring.ravel(), np.abs(spectrum).ravel()) / np.bincount(ring.ravel())
    return np.where(_band(), spectrum / np.maximum(magnitude[ring], 1e-9), 0.0)


def _whiten(mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Take off shading, and let edges and texture count no more than smooth parts."""
    from scipy.ndimage import uniform_filter

    detail = mean - uniform_filter(uniform_filter(mean, 11), 11)
    deviation = np.sqrt(np.maximum(uniform_filter(detail * detail, 15), 0.0))
    return np.asarray(np.clip(detail / (deviation + 1.0), -2.5, 2.5))


def _resize(picture: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    """Undo a scaling by `scale`, bilinearly; smoothed first where that shrinks."""
    from scipy.ndimage import affine_transform

    shape = tuple(max(TILE_PX // 2, round(edge / scale)) for edge in picture.shape)
    offset = 0.5 * scale - 0.5  # pixel centres
    return np.asarray(affine_transform(picture, [scale, scale], offset, shape, order=1, mode="constant"))


def _fold(picture: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum all tiles of a picture into one (64, 64)."""
    rows, columns = (-(-edge // TILE_PX) for edge in picture.shape)
    padded = np.zeros((rows * TILE_PX, columns * TILE_PX))
    padded[: picture.shape[0], : picture.shape[1]] = picture
    return np.asarray(padded.reshape(rows, TILE_PX, columns, TILE_PX).sum(axis=(0, 2)))
