"""Public call: lay a displaced picture over a background."""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from kernels.backend import Backend, choose_backend
from kernels.checks import KernelInputError, check_array
from kernels.layer.reference import warp_layer_reference
from kernels.native import check_status, cpu_info, load_library

MOST_NODES = 64


def warp_layer(
    layer: NDArray[np.uint8],  # (S, S, 4) premultiplied
    grid: NDArray[np.float32],  # (G, G, 2) displacement x, y
    background: NDArray[np.uint8],  # (H, W, 3) opaque
    *,
    backend: Backend = "auto",
) -> NDArray[np.uint8]:
    """``layer`` read at each pixel's place plus a displacement, over ``background``.

    Places run from -1 to 1 over the picture, displacements have the same unit (half pictures); the coarse grid is
    bilinear with its corners on the picture's; the layer is bilinear, clamped to its edges. Backends agree within one
    level (the native one works in float32).

    Returns:
        uint8 (H, W, 3).

    Raises:
        KernelInputError: Shapes or dtypes disagree, the layer is not square, or the grid is not finite.
    """
    check_array("layer", layer, (None, None, 4), np.uint8)
    check_array("grid", grid, (None, None, 2), np.float32)
    check_array("background", background, (None, None, 3), np.uint8)
    side, nodes = len(layer), len(grid)
    if layer.shape[1] != side or grid.shape[1] != nodes:
        raise KernelInputError(f"layer and grid must be square, got {layer.shape} and {grid.shape}")
    if not 2 <= nodes <= MOST_NODES:
        raise KernelInputError(f"grid must have 2 to {MOST_NODES} nodes along a side, got {nodes}")
    if choose_backend("layer", backend, cpu_library=cpu_info().built) == "reference":
        return warp_layer_reference(layer, grid, background)
    out = np.empty_like(background)
    height, width = background.shape[:2]
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (layer, grid, background, out)]
    status = load_library().nls_warp_layer(
        pointers[0], side, pointers[1], nodes, pointers[2], height, width, pointers[3]
    )
    check_status(status, "nls_warp_layer")
    return out
