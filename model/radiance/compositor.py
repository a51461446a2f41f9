"""What stands behind the head: the torso layer over a background color or gradient. NumPy only.

Composed once per size and background into the opaque underlay that the kernel draws the head over.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """Vertical gradient in display RGB, 0..255; equal ends give a plain color."""

    top: tuple[int, int, int] = (176, 186, 197)
    bottom: tuple[int, int, int] = (133, 145, 158)

    def __post_init__(self) -> None:
        if not all(0 <= value <= 255 for value in (*self.top, *self.bottom)):
            raise ConfigError(f"background colors are 0..255, got {self.top} .. {self.bottom}")

    def picture(self, size_px: int) -> NDArray[np.float32]:
        """(size, size, 3), 0..255."""
        ramp = ((np.arange(size_px, dtype=np.float32) + 0.5) / size_px)[:, None]
        rows = np.asarray(self.top, np.float32) * (1 - ramp) + np.asarray(self.bottom, np.float32) * ramp
        return np.repeat(rows[:, None], size_px, 1)


def compose_underlay(
    torso: NDArray[np.uint8],  # (S, S, 4) premultiplied
    background: Background,
    size_px: int,
) -> NDArray[np.uint8]:
    """Opaque (size, size, 3) uint8 picture of torso over background."""
    layer = resize_area(torso.astype(np.float32), size_px)
    return np.clip(np.rint(layer[..., :3] + (1 - layer[..., 3:] / 255) * background.picture(size_px)), 0, 255).astype(
        np.uint8
    )


def resize_area(picture: NDArray[np.float32], size_px: int) -> NDArray[np.float32]:
    """Square picture (S, S, C) to (size, size, C): exact area average when shrinking, bilinear when growing."""
    weights = _resize_weights(picture.shape[0], size_px)
    rows = np.tensordot(weights, picture, 1)
    return np.asarray(np.einsum("xw,hwc->hxc", weights, rows, optimize=True), np.float32)


def _resize_weights(source: int, target: int) -> NDArray[np.float32]:
    """(target, source) rows that sum to 1."""
    ratio = source / target
    if ratio >= 1:
        edges = np.arange(target + 1) * ratio
        cells = np.arange(source)
        overlap = np.minimum(edges[1:, None], cells + 1) - np.maximum(edges[:-1, None], cells)
        weights = np.clip(overlap, 0, None)
    else:
        centre = (np.arange(target) + 0.5) * ratio - 0.5
        weights = np.clip(1 - np.abs(np.clip(centre, 0, source - 1)[:, None] - np.arange(source)), 0, None)
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)
