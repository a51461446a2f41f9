"""Composite and RGB to I420 in NumPy. float32, in the order of operations that the native code also uses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# ITU-R BT.601, limited range, for RGB in 0..255. Rows: Y, U, V.
BT601 = (np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]) / 255.0).astype(
    np.float32
)
OFFSETS = (16.0, 128.0, 128.0)


def composite_i420_reference(rgba: NDArray[np.float32], underlay: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Premultiplied ``rgba`` (H, W, 4) over ``underlay`` (H, W, 3): I420 (H * 3 / 2, W). Input is checked."""
    height, width = underlay.shape[:2]
    behind = np.float32(1) - rgba[..., 3:]
    rgb = (rgba[..., :3] * np.float32(255) + behind * underlay.astype(np.float32)).clip(0, 255)
    cells = rgb.reshape(height // 2, 2, width // 2, 2, 3)
    top, bottom = (cells[:, row, :, 0] + cells[:, row, :, 1] for row in (0, 1))
    mean = (top + bottom) * np.float32(0.25)
    parts = [_channel(rgb, 0), _channel(mean, 1), _channel(mean, 2)]
    return np.concatenate([part.ravel() for part in parts]).reshape(height * 3 // 2, width)


def _channel(rgb: NDArray[np.float32], row: int) -> NDArray[np.uint8]:
    k = BT601[row]
    value = ((rgb[..., 0] * k[0] + rgb[..., 1] * k[1]) + rgb[..., 2] * k[2]) + np.float32(OFFSETS[row] + 0.5)
    rounded: NDArray[np.uint8] = value.astype(np.uint8)  # positive, so this rounds to nearest
    return rounded
