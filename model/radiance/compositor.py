"""What stands behind the head: the torso layer over a color, a gradient or a picture. NumPy only.

A still torso is composed once per size and background into the opaque underlay that the kernel draws the head over; one
that follows the head is laid over the background anew for every frame (`kernels.layer`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.errors import ConfigError

MOST_BLUR = 0.2


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


@dataclass(frozen=True, eq=False)
class PictureBackground:
    """A picture behind the avatar, cut to a square around its middle; told apart by identity.

    Args:
        rgb: (H, W, 3) uint8.
        blur_share: Standard deviation of a Gaussian blur, of the square's side; 0: sharp.

    Raises:
        ConfigError: Not such a picture, or the blur is not in 0..0.2.
    """

    rgb: NDArray[np.uint8]
    blur_share: float = 0.0

    def __post_init__(self) -> None:
        shape = self.rgb.shape
        if len(shape) != 3 or shape[2] != 3 or min(shape[:2]) < 2 or self.rgb.dtype != np.uint8:
            raise ConfigError(f"a background picture is (H, W, 3) uint8, got {shape} {self.rgb.dtype}")
        if not 0 <= self.blur_share <= MOST_BLUR:
            raise ConfigError(f"blur must be in 0..{MOST_BLUR} of the picture's side, got {self.blur_share}")

    def picture(self, size_px: int) -> NDArray[np.float32]:
        """(size, size, 3), 0..255."""
        height, width = self.rgb.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        small = resize_area(self.rgb[top : top + side, left : left + side].astype(np.float32), size_px)
        return small if self.blur_share == 0 else blurred(small, self.blur_share * size_px)


@dataclass(frozen=True, slots=True)
class Transparent:
    """Nothing behind the avatar: frames come with alpha (`AvatarRenderer.cut_out`)."""


Backdrop = Background | PictureBackground


def compose_underlay(
    torso: NDArray[np.uint8],  # (S, S, 4) premultiplied
    background: Backdrop,
    size_px: int,
) -> NDArray[np.uint8]:
    """Opaque (size, size, 3) uint8 picture of torso over background."""
    layer = resize_area(torso.astype(np.float32), size_px)
    picture = np.rint(layer[..., :3] + (1 - layer[..., 3:] / 255) * background.picture(size_px))
    return np.ascontiguousarray(np.clip(picture, 0, 255), np.uint8)


def blurred(picture: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
    """Gaussian blur of (S, S, C); edges repeat."""
    radius = max(1, round(3 * sigma_px))
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma_px) ** 2)
    taps /= taps.sum()
    for axis in (0, 1):
        padding = [(radius, radius) if i == axis else (0, 0) for i in range(3)]
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(picture, padding, "edge"), len(taps), axis=axis)
        picture = windows @ taps.astype(np.float32)
    return np.asarray(picture, np.float32)


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
