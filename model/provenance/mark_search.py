"""Finds the invisible mark in averaged frames: searches scale and offset by the reference, then reads the code bits.

The picture is whitened, so that edges count no more than smooth parts, and folded into one tile at each scale that is
tried. Only what comes after depends on the key.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from model.provenance.invisible import PUBLIC_KEY, TILE_PX, band, patterns, tile_radius
from model.provenance.payload import CODE_BITS, MarkPayload, decode_bits, encode_bits

__all__ = ["THRESHOLD", "Detection", "FoldedPicture", "Peaks", "detect", "mean_luma"]

THRESHOLD = 6.5  # of the reference's peak, in standard deviations of its correlation
SCALE_LOW, SCALE_HIGH = 0.5, 1.5
MAX_EDGE_PX = 768
CANDIDATES = 3
HALF = TILE_PX // 2 + 1  # columns of a real tile's spectrum that are stored
_DRIFT_PX = 2.0  # between neighbouring scales, over the longer edge
_STEP = 0.008  # the most between neighbouring scales, relative

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """What was found. `score` is the reference's peak in standard deviations; `payload` is None where nothing was.

    `scale` is the picture's size relative to the one that was marked, `mirrored` whether left and right were swapped.
    """

    payload: MarkPayload | None
    score: float
    scale: float
    bit_error_rate: float | None = None
    mirrored: bool = False


@dataclass(frozen=True, slots=True)
class Peaks:
    """The reference's highest correlation at each scale."""

    scores: Floats  # (scales,), in standard deviations of the scale's correlation
    places: NDArray[np.intp]  # (scales,), index into the tile

    @property
    def best(self) -> float:
        """The highest score of all scales: what is compared with the threshold."""
        return float(self.scores.max())


class FoldedPicture:
    """A picture's tiles at every scale that is tried; shared by searches for several keys."""

    def __init__(self, mean: NDArray[np.floating], *, factor: int = 1) -> None:
        """`mean` is averaged luma (height, width), reduced by a whole `factor` first."""
        self._factor = factor
        whitened = _whiten(_reduce(np.asarray(mean, np.float32), factor))
        height, width = whitened.shape
        self.scales = _scales(max(height, width))
        tiles = [_folding(height, scale) @ whitened @ _folding(width, scale).T for scale in self.scales]
        self._spectra = _flatten(np.asarray(tiles, np.float32))

    def peaks(self, key: bytes) -> Peaks:
        """Where the key's reference fits best at each scale."""
        from scipy import fft

        product = self._spectra * _reference_spectrum(key)
        correlation = fft.irfft2(product, (TILE_PX, TILE_PX)).reshape(len(self.scales), -1)
        deviation = np.maximum(correlation.std(axis=1), 1e-12)
        return Peaks(correlation.max(axis=1) / deviation, correlation.argmax(axis=1))

    def detection(self, key: bytes, *, threshold: float = THRESHOLD) -> Detection:
        """Read the bits at the best scales whose score reaches the threshold."""
        peaks = self.peaks(key)
        order = np.argsort(-peaks.scores)[:CANDIDATES]
        for index in order:
            if peaks.scores[index] < threshold:
                break
            soft = self._soft_bits(key, int(index), int(peaks.places[index]))
            payload = decode_bits(soft)
            if payload is not None:
                wrong = float(np.mean(np.sign(soft) != encode_bits(payload)))
                return Detection(
                    payload=payload,
                    score=float(peaks.scores[index]),
                    scale=float(self.scales[index]) * self._factor,
                    bit_error_rate=wrong,
                )
        return Detection(payload=None, score=peaks.best, scale=float(self.scales[order[0]]) * self._factor)

    def _soft_bits(self, key: bytes, index: int, place: int) -> NDArray[np.float64]:
        """(CODE_BITS,): the code patterns' correlations with the tile at one scale, moved to its origin."""
        tile = np.fft.irfft2(self._spectra[index], (TILE_PX, TILE_PX))
        row, column = divmod(place, TILE_PX)
        aligned = np.roll(tile, (-row, -column), (0, 1)).ravel()
        return np.asarray(patterns(key)[1].reshape(CODE_BITS, -1) @ aligned, np.float64)


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


def detect(mean: NDArray[np.floating], *, key: bytes = PUBLIC_KEY) -> Detection:
    """Look for a mark in averaged luma (height, width), at least 32 px, at any scale 0.5..1.5 and offset, or mirrored.

    Larger pictures are reduced by a whole factor first, to edges of up to 768 px and again of up to 384 px, so that
    enlargement is undone; the scale that is reported is that of the picture itself.
    """
    best: Detection | None = None
    for factor in _factors(max(mean.shape)):
        for mirrored in (False, True):
            picture = mean[:, ::-1] if mirrored else mean
            found = replace(FoldedPicture(picture, factor=factor).detection(key), mirrored=mirrored)
            if found.payload is not None:
                return found
            if best is None or found.score > best.score:
                best = found
    assert best is not None
    return best


def _factors(edge: int) -> list[int]:
    return sorted({-(-edge // limit) for limit in (MAX_EDGE_PX, MAX_EDGE_PX // 2)})


def _scales(edge: int) -> Floats:
    step = min(_STEP, _DRIFT_PX / edge)
    return np.exp(np.arange(np.log(SCALE_LOW), np.log(SCALE_HIGH) + step, step)).astype(np.float32)


def _reduce(picture: Floats, factor: int) -> Floats:
    """Means of blocks of factor x factor pixels."""
    if factor == 1:
        return picture
    rows, columns = (edge // factor for edge in picture.shape)
    blocks = picture[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor)
    return np.asarray(blocks.mean(axis=(1, 3)), np.float32)


def _whiten(picture: Floats) -> Floats:
    """Take off shading, and let edges and texture count no more than smooth parts."""
    from scipy.ndimage import uniform_filter

    detail = picture - uniform_filter(uniform_filter(picture, 7), 7)
    deviation = np.sqrt(np.maximum(uniform_filter(detail * detail, 9), 0.0))
    return np.asarray(np.clip(detail / (deviation + 0.5), -2.5, 2.5), np.float32)


def _folding(size: int, scale: float) -> Floats:
    """(64, size): adds every pixel to the tile that a mark at this scale would have there, split between two rows."""
    place = (np.arange(size) + 0.5) / scale - 0.5
    row = np.floor(place).astype(int)
    share = (place - row).astype(np.float32)
    folding = np.zeros((TILE_PX, size), np.float32)
    folding[row % TILE_PX, np.arange(size)] = 1 - share
    folding[(row + 1) % TILE_PX, np.arange(size)] += share
    return folding


def _flatten(tiles: Floats) -> NDArray[np.complex64]:
    """Half spectra (scales, 64, 33) of tiles (scales, 64, 64): the band, divided by the mean magnitude at each radius,
    as pictures are stronger at low frequencies.
    """
    from scipy import fft

    spectra = fft.rfft2(tiles)
    ring = np.rint(tile_radius()[:, :HALF]).astype(int).ravel()
    member = (ring == np.arange(ring.max() + 1)[:, None]).astype(np.float32)
    member /= member.sum(axis=1, keepdims=True)
    mean = (np.abs(spectra).reshape(len(tiles), -1) @ member.T)[:, ring].reshape(spectra.shape)
    return np.asarray(np.where(band()[:, :HALF], spectra / np.maximum(mean, 1e-9), 0), np.complex64)


@lru_cache(maxsize=8)
def _reference_spectrum(key: bytes) -> NDArray[np.complex64]:
    return np.conj(np.fft.rfft2(patterns(key)[0])).astype(np.complex64)
