"""Composite and RGB to I420 in the native library (kernels/ray_march/csrc/color.hpp)."""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from kernels.native import check_status, instruction_set_index, load_library


def composite_i420_cpu(
    rgba: NDArray[np.float32],
    underlay: NDArray[np.uint8],
    out: NDArray[np.uint8],
    *,
    instruction_set: str = "auto",
) -> None:
    """Native half of :func:`kernels.color.composite_i420`; arguments are already checked."""
    height, width = rgba.shape[:2]
    source, under, target = (ctypes.c_void_p(array.ctypes.data) for array in (rgba, underlay, out))
    isa = instruction_set_index(instruction_set)
    status = load_library().nls_composite_i420(source, under, height, width, target, isa)
    check_status(status, "nls_composite_i420")
