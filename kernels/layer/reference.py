"""The displaced layer in NumPy, float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def warp_layer_reference(
    layer: NDArray[np.uint8], grid: NDArray[np.float32], background: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """As :func:`kernels.layer.warp_layer`; input is checked."""
    height, width = background.shape[:2]
    side = len(layer)
    v, u = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    moved = bilinear(grid.astype(np.float64), v[:, None] * (len(grid) - 1), u[None] * (len(grid) - 1))
    x = (2 * u[None] + moved[..., 0]) * side / 2 - 0.5
    y = (2 * v[:, None] + moved[..., 1]) * side / 2 - 0.5
    seen = bilinear(layer.astype(np.float64), y, x)
    over = seen[..., :3] + (1 - seen[..., 3:] / 255) * background
    return np.asarray(np.clip(np.floor(over + 0.5), 0, 255), np.uint8)


def bilinear(picture: NDArray[np.float64], y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """``picture`` (H, W, C) at pixel indices (rows ``y``, columns ``x``, broadcast together), clamped to its edges."""
    y, x = np.broadcast_arrays(np.clip(y, 0, picture.shape[0] - 1), np.clip(x, 0, picture.shape[1] - 1))
    y0, x0 = np.floor(y).astype(int), np.floor(x).astype(int)
    y1, x1 = np.minimum(y0 + 1, picture.shape[0] - 1), np.minimum(x0 + 1, picture.shape[1] - 1)
    sy, sx = (y - y0)[..., None], (x - x0)[..., None]
    upper = picture[y0, x0] * (1 - sx) + picture[y0, x1] * sx
    lower = picture[y1, x0] * (1 - sx) + picture[y1, x1] * sx
    return np.asarray(upper * (1 - sy) + lower * sy)
