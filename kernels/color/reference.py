"""Composite and RGB to I420 in NumPy. float32, in the order of operations that all other implementations also use.

Every product and every sum is rounded to float32 by itself, and the half that rounds to nearest is added before the
fraction is cut off. No implementation may join a product and a sum to one rounding.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# ITU-R BT.601, limited range, for RGB in 0..255. Rows: Y, U, V.
BT601 = (np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]) / 255.0).astype(
    np.float32
)
OFFSETS = (16.0, 128.0, 128.0)


def i420_bytes(height: int, width: int) -> int:
    """Size of an I420 picture; the chroma planes of odd sides are rounded up."""
    return height * width + 2 * ((height + 1) // 2) * ((width + 1) // 2)


def composite_i420_reference(rgba: NDArray[np.float32], underlay: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Premultiplied ``rgba`` (H, W, 4) over ``underlay`` (H, W, 3): Y, U and V planes one after another, flat.

    At odd sides the last row or column counts twice in chroma. Input is checked.
    """
    height, width = underlay.shape[:2]
    behind = np.float32(1) - rgba[..., 3:]
    rgb = (rgba[..., :3] * np.float32(255) + behind * underlay.astype(np.float32)).clip(0, 255)
    even = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
    cells = even.reshape((height + 1) // 2, 2, (width + 1) // 2, 2, 3)
    top, bottom = (cells[:, row, :, 0] + cells[:, row, :, 1] for row in (0, 1))
    mean = (top + bottom) * np.float32(0.25)
    return np.concatenate([part.ravel() for part in (_channel(rgb, 0), _channel(mean, 1), _channel(mean, 2))])


def _channel(rgb: NDArray[np.float32], row: int) -> NDArray[np.uint8]:
    k = BT601[row]
    value = ((rgb[..., 0] * k[0] + rgb[..., 1] * k[1]) + rgb[..., 2] * k[2]) + np.float32(OFFSETS[row] + 0.5)
    rounded: NDArray[np.uint8] = value.astype(np.uint8)  # positive, so this rounds to nearest
    return rounded
