"""Public call: composite the rendered head over its underlay and convert to I420."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernels.backend import Backend, choose_backend
from kernels.checks import KernelInputError, check_array
from kernels.color.cpu_impl import composite_i420_cpu
from kernels.color.reference import composite_i420_reference
from kernels.native import cpu_info


def composite_i420(
    rgba: NDArray[np.float32],  # (H, W, 4) premultiplied, 0..1
    underlay: NDArray[np.uint8],  # (H, W, 3) opaque RGB
    out: NDArray[np.uint8] | None = None,  # (H * 3 / 2, W)
    *,
    backend: Backend = "auto",
    instruction_set: str = "auto",
) -> NDArray[np.uint8]:
    """Composite and convert to I420: BT.601 limited range, rounded to nearest, chroma averaged over 2 x 2.

    Backends agree bit by bit. Values of ``rgba`` out of range saturate; it must not hold NaN (not checked:
    it comes from the ray marcher). For tensors, many pictures or odd sides see `kernels.color.slots`.

    Returns:
        uint8 (H * 3 / 2, W): Y, then U, then V at half size; ``out`` if it was given.

    Raises:
        KernelInputError: Shapes or dtypes disagree, or a side is odd.
    """
    check_array("rgba", rgba, (None, None, 4), np.float32, finite=False)
    height, width = rgba.shape[:2]
    if height % 2 or width % 2:
        raise KernelInputError(f"I420 needs even sides, got {height} x {width}")
    check_array("underlay", underlay, (height, width, 3), np.uint8)
    if out is None:
        out = np.empty((height * 3 // 2, width), np.uint8)
    check_array("out", out, (height * 3 // 2, width), np.uint8)
    if not out.flags.writeable:
        raise KernelInputError("out must be writable, got a read-only array")
    if choose_backend("color", backend, cpu_library=cpu_info().built) == "reference":
        out[...] = composite_i420_reference(rgba, underlay).reshape(out.shape)
    else:
        composite_i420_cpu(rgba, underlay, out, instruction_set=instruction_set)
    return out
